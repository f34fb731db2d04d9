/* Tiles of a matrix unit: 2 x 2 sums of 16 x 16 float32, and the two left and two right tiles of bfloat16
 * (kernels/tile_layout.h) that they take products of. With i, j in {0, 1},
 *
 *     sum[i][j] += left[i] right[j]
 *
 * and two left or right tiles follow each other in memory. Included after attention_vector.h with LANES 16.
 *
 * In hardware (AMX-TILE, AMX-BF16) a tile is a register. With TILES_EMULATED it is memory, and the product is what
 * Intel's manual says of TDPBF16PS (Software Developer's Manual, volume 2, operation of TDPBF16PS): for each element
 * two chains of fused multiply-adds from zero, of even k and of odd k; their sum, rounded; that added to the element;
 * to nearest even, denormals taken as zero and flushed. Products of two bfloat16 are exact in float32, so that fused or
 * not is the same; denormal results are flushed by the state of the thread, which the fold sets. Held by
 * tests/kernels/test_tiles.c. */
#ifndef KERNELS_TILES_H
#define KERNELS_TILES_H

#include "kernels/tile_layout.h"

#include <stdint.h>
#include <string.h>

#if defined(TILES_EMULATED)

typedef struct {
    float sum[2][2][TILE_ROWS][LANES];
    uint32_t left[2][TILE_ROWS][LANES], right[2][TILE_ROWS][LANES]; /* pairs; the first of a pair in the low half */
} tile_registers;

static _Thread_local tile_registers tiles __attribute__((aligned(64)));

INLINE void tiles_configure(void)
{
    memset(&tiles, 0, sizeof tiles);
}

INLINE void tiles_release(void)
{
}

INLINE void tiles_zero(void)
{
    memset(tiles.sum, 0, sizeof tiles.sum);
}

/* sum[i][j] from, or to, sums + j * half + i * TILE_SUMS. */
INLINE void tiles_sums_load(const float *sums, int64_t half)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) memcpy(tiles.sum[i][j], sums + j * half + i * TILE_SUMS, sizeof tiles.sum[i][j]);
}

INLINE void tiles_sums_store(float *sums, int64_t half)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) memcpy(sums + j * half + i * TILE_SUMS, tiles.sum[i][j], sizeof tiles.sum[i][j]);
}

/* A number whose exponent is 0 is a zero or a denormal, and is taken as zero. */
INLINE void tiles_pair_load(uint32_t (*restrict tile)[TILE_ROWS][LANES], const uint16_t *restrict numbers)
{
    for (int i = 0; i < 2 * TILE_ROWS; i++) {
        const bits pairs = *(const bits *)(numbers + (int64_t)i * TILE_DEPTH);
        const bits low = (bits)((pairs & 0x7f80u) != 0) & 0xffffu, high = (bits)((pairs & 0x7f800000u) != 0) << 16;
        *(bits *)tile[i / TILE_ROWS][i % TILE_ROWS] = pairs & (low | high);
    }
}

INLINE void tiles_left_load(const uint16_t *tile)
{
    tiles_pair_load(tiles.left, tile);
}

INLINE void tiles_right_load(const uint16_t *tile)
{
    tiles_pair_load(tiles.right, tile);
}

/* sum[i][j] += left[i] right[j]; i and j are constants. */
INLINE void tiles_multiply(int i, int j)
{
    for (int r = 0; r < TILE_ROWS; r++) {
        vector even = {0}, odd = {0};
        for (int n = 0; n < TILE_ROWS; n++) {
            const uint32_t left = tiles.left[i][r][n];
            const bits right = *(const bits *)tiles.right[j][n];
            even += splat(float_from_bits(left << 16)) * (vector)(right << 16);
            odd += splat(float_from_bits(left & 0xffff0000u)) * (vector)(right & 0xffff0000u);
        }
        *(vector *)tiles.sum[i][j][r] += even + odd;
    }
}

#else

/* gcc's tile loads are asm that does not say that it reads memory: nothing orders them after the stores before. */
INLINE void tiles_stores_before(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Eight tiles of 16 rows of 64 bytes, palette 1 (Intel SDM, volume 1, section 18.2). The system must have allowed the
 * process to use tiles: cpu_features_missing() asks. */
INLINE void tiles_configure(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration __attribute__((aligned(64))) = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        configuration.row_bytes[i] = 64;
        configuration.rows[i] = TILE_ROWS;
    }
    tiles_stores_before();
    _tile_loadconfig(&configuration);
}

INLINE void tiles_release(void)
{
    _tile_release();
}

/* Tiles 0-3 are the sums [i][j], 4 and 5 the left, 6 and 7 the right ones. */
INLINE void tiles_zero(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* sum[i][j] from, or to, sums + j * half + i * TILE_SUMS. */
INLINE void tiles_sums_load(const float *sums, int64_t half)
{
    tiles_stores_before();
    _tile_loadd(0, sums, 64);
    _tile_loadd(1, sums + half, 64);
    _tile_loadd(2, sums + TILE_SUMS, 64);
    _tile_loadd(3, sums + half + TILE_SUMS, 64);
}

INLINE void tiles_sums_store(float *sums, int64_t half)
{
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + half, 64);
    _tile_stored(2, sums + TILE_SUMS, 64);
    _tile_stored(3, sums + half + TILE_SUMS, 64);
}

INLINE void tiles_left_load(const uint16_t *tile)
{
    tiles_stores_before();
    _tile_loadd(4, tile, 64);
    _tile_loadd(5, tile + TILE_NUMBERS, 64);
}

INLINE void tiles_right_load(const uint16_t *tile)
{
    tiles_stores_before();
    _tile_loadd(6, tile, 64);
    _tile_loadd(7, tile + TILE_NUMBERS, 64);
}

/* sum[i][j] += left[i] right[j]; i and j are constants. */
INLINE void tiles_multiply(int i, int j)
{
    if (i == 0 && j == 0) _tile_dpbf16ps(0, 4, 6);
    if (i == 0 && j == 1) _tile_dpbf16ps(1, 4, 7);
    if (i == 1 && j == 0) _tile_dpbf16ps(2, 5, 6);
    if (i == 1 && j == 1) _tile_dpbf16ps(3, 5, 7);
}

#endif

#endif
