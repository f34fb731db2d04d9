/* Compiled twice: with TILES_EMULATED for any CPU, and for AMX. */
#include "tests/kernels/tile_product.h"

#define LANES 16
#include "kernels/attention.h"
#include "kernels/attention_peak.h"
#include "kernels/attention_vector.h"
#include "kernels/tiles.h"

#if defined(TILES_EMULATED)
#define TILE_PRODUCT tile_product_emulated
#else
#define TILE_PRODUCT tile_product_amx
#endif

void TILE_PRODUCT(const uint16_t *left, const uint16_t *right, float *sums)
{
    const float_environment environment = environment_enter();
    tiles_configure();
    tiles_sums_load(sums, 2 * TILE_SUMS);
    tiles_left_load(left);
    tiles_right_load(right);
    tiles_multiply(0, 0);
    tiles_multiply(0, 1);
    tiles_multiply(1, 0);
    tiles_multiply(1, 1);
    tiles_sums_store(sums, 2 * TILE_SUMS);
    tiles_release();
    environment_leave(environment);
}
