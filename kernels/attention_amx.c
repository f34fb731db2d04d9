/* The fold on AMX tiles and AVX-512. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"

#define LANES 16
#define AMX_BLOCKED attention_avx512
#include "kernels/attention_amx.h"
#include "kernels/block_scores.h"

const attention_kernel attention_amx = {
    .name = "amx",
    .features = CPU_AVX2 | CPU_AVX512 | CPU_AMX_BF16,
    .computes = 1u << COMPUTE_FP32 | 1u << COMPUTE_BF16X6 | 1u << COMPUTE_BF16X3 | 1u << COMPUTE_BF16,
    .fold = amx_fold,
    .block_scores = block_scores,
    .peak = blocked_peak,
    .tile_peak = amx_tile_peak,
};
