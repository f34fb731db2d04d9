/* The fold on AMX tiles with tiles in memory: the same source, on any CPU; compiled for AVX2 on x86-64,
 * where it takes half the time. For tests alone. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"
#include "tests/kernels/problem.h"

#define LANES 16
#define TILES_EMULATED
#define AMX_BLOCKED attention_portable
#include "kernels/attention_amx.h"

const attention_kernel attention_amx_emulated = {
    .name = "amx-emulated",
#if defined(__AVX2__)
    .features = CPU_AVX2,
#endif
    .computes = 1u << COMPUTE_FP32 | 1u << COMPUTE_BF16X6 | 1u << COMPUTE_BF16X3 | 1u << COMPUTE_BF16,
    .fold = amx_fold,
    .peak = blocked_peak,
    .tile_peak = amx_tile_peak,
};
