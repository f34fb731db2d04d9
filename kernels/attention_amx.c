/* The fold on AMX tiles and AVX-512. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"

#define LANES 16
#define BF16_BLOCKED attention_avx512
#include "kernels/attention_bf16_tiles.h"

#include "kernels/attention_bf16.h"
#include "kernels/block_scores.h"

const attention_kernel attention_amx = {
    .name = "amx",
    .features = CPU_AVX2 | CPU_AVX512 | CPU_AMX_BF16,
    .gain = {[COMPUTE_FP32] = 1, [COMPUTE_BF16X6] = 1.2, [COMPUTE_BF16X3] = 1.95, [COMPUTE_BF16] = 8},
    .fold = bf16_fold,
    .block_scores = block_scores,
    .peak = blocked_peak,
    .bf16_peak = products_peak,
};
