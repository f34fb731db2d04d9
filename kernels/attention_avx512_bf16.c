/* The fold on AVX512_BF16, and on AVX-512 in float32. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"

#define LANES 16
#define BF16_BLOCKED attention_avx512
#include "kernels/attention_bf16_dots.h"

#include "kernels/attention_bf16.h"
#include "kernels/block_scores.h"

const attention_kernel attention_avx512_bf16 = {
    .name = "avx512_bf16",
    .features = CPU_AVX2 | CPU_AVX512 | CPU_AVX512_BF16,
    .pays_with = CPU_DOUBLE_RATE_BF16,
    .gain = {[COMPUTE_FP32] = 1, [COMPUTE_BF16] = 1.8},
    .fold = bf16_fold,
    .block_scores = block_scores,
    .peak = blocked_peak,
    .bf16_peak = products_peak,
};
