/* The fold on AMX tiles with tiles in memory: the same source, on any CPU. Compiled twice on x86-64: for AVX2, where it
 * takes half the time of plain code, and, with EMULATED_AVX512, with the flags that kernels/attention_amx.c has besides
 * those of the tiles, so that its vector code runs where there are no tiles. For tests alone. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"
#include "tests/kernels/problem.h"

#define LANES 16
#define TILES_EMULATED
#if defined(EMULATED_AVX512)
#define AMX_BLOCKED attention_avx512
#define EMULATED attention_amx_emulated_avx512
#define EMULATED_NAME "amx-emulated-avx512"
#define EMULATED_FEATURES (CPU_AVX2 | CPU_AVX512)
#else
#define AMX_BLOCKED attention_portable
#define EMULATED attention_amx_emulated
#define EMULATED_NAME "amx-emulated-plain"
#if defined(__AVX2__)
#define EMULATED_FEATURES CPU_AVX2
#else
#define EMULATED_FEATURES 0
#endif
#endif
#include "kernels/attention_amx.h"

const attention_kernel EMULATED = {
    .name = EMULATED_NAME,
    .features = EMULATED_FEATURES,
    .computes = 1u << COMPUTE_FP32 | 1u << COMPUTE_BF16X6 | 1u << COMPUTE_BF16X3 | 1u << COMPUTE_BF16,
    .fold = amx_fold,
    .peak = blocked_peak,
    .tile_peak = amx_tile_peak,
};
