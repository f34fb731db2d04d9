/* The shapes that the attention kernels are measured with and tested with: one list for `longspan bench kernels` and
 * for tests/kernels/test_shapes.c, so that no path is timed that is not also checked. */
#ifndef BENCH_KERNEL_SHAPES_H
#define BENCH_KERNEL_SHAPES_H

#include "kernels/number.h"

#include <stdbool.h>
#include <stdint.h>

/* Letters as in kernels/attention.h. */
typedef struct {
    kernel_type type;
    int heads, kv_heads, dim, value_dim;
    int64_t tokens, keys;
    bool causal;     /* token t sees the keys up to t + keys - tokens */
    int score_scale; /* scores are this many times q.k / sqrt(D) */
    int64_t window;  /* > 0: causal, and no key further back than so many tokens */
} kernel_shape;

/* Grouped by what they show: see the list. */
extern const kernel_shape kernel_shapes[];
extern const int kernel_shape_count;

#endif
