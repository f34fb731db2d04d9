/* The fold, and alpha-entmax, on AVX2 and FMA. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"

#define LANES 8
#define VECTORS 3
#define VALUE_ROWS 6
#define VALUE_VECTORS 2
#define SCORE_TILE 4
#include "kernels/attention_blocked.h"
#include "kernels/block_scores.h"
#include "kernels/entmax_blocked.h"

const attention_kernel attention_avx2 = {
    .name = "avx2",
    .features = CPU_AVX2,
    .gain = {[COMPUTE_FP32] = 1},
    .fold = blocked_fold,
    .block_scores = block_scores,
    .peak = blocked_peak,
};

const entmax_kernel entmax_avx2 = {
    .name = "avx2",
    .features = CPU_AVX2,
    .collect = entmax_collect,
    .gather = entmax_gather,
    .fold = entmax_fold,
};
