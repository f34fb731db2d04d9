/* Inputs of linear attention that are made up: by generate and bench. They depend on the seed and their position only,
 * as those of random.h, on which they stand. */
#ifndef CLI_LINEAR_VALUES_H
#define CLI_LINEAR_VALUES_H

#include "kernels/linear.h"
#include "runtime/cli/random.h"

/* Vectors [first, first + count) of `dim` elements each, in `type`, on `threads` threads. RANDOM_QUERY, RANDOM_VALUE:
 * standard normal. RANDOM_KEY: the same, under the delta rule of length 1, without which it need not be stable.
 * RANDOM_LOG_DECAY: even between -0.1 and 0, but one of 64 is -6. RANDOM_BETA: even between 0 and 1. */
void linear_values(const linear_variant *variant, uint64_t seed, random_tensor tensor, int dim, int64_t first,
                   int64_t count, longspan_type type, void *target, int threads);

/* [H]: -2^(-8 (h + 1) / H), the slopes of Lightning Attention-2. */
void linear_values_head_log_decay(int heads, float *values);
/* [heads, dim]: standard normal. */
void linear_values_bonus(uint64_t seed, int heads, int dim, float *values);
/* [count, dim]: normal rows, each `dim` of them made orthogonal and of the lengths that they had (Choromanski et al.,
 * arXiv 2009.14794, section 2.4). */
void linear_values_features(uint64_t seed, int count, int dim, float *values);

#endif
