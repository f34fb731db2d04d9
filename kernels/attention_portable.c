/* The fold, and alpha-entmax, on whatever the compiler's baseline offers: SSE2 on x86-64, NEON on AArch64, plain code elsewhere. */
#include "kernels/implementations.h"

#define LANES 4
#define VECTORS 4
#define VALUE_ROWS 2
#define VALUE_VECTORS 4
#define SCORE_TILE 2
#include "kernels/attention_blocked.h"
#include "kernels/block_scores.h"
#include "kernels/entmax_blocked.h"

const attention_kernel attention_portable = {
    .name = "portable",
    .features = 0,
    .gain = {[COMPUTE_FP32] = 1},
    .fold = blocked_fold,
    .block_scores = block_scores,
    .peak = blocked_peak,
};

const entmax_kernel entmax_portable = {
    .name = "portable",
    .features = 0,
    .collect = entmax_collect,
    .gather = entmax_gather,
    .fold = entmax_fold,
};
