/* The linear family token by token in float32: what the chunked kernels are measured against. The plain recurrence of
 * kernels/linear.h, as fast as the compiler makes it with the flags of a kernel; for benchmarks only, since its sums of
 * float32 lose what the kernels' keep. */
#ifndef BENCH_LINEAR_TOKEN_LOOP_H
#define BENCH_LINEAR_TOKEN_LOOP_H

#include "kernels/linear.h"

/* The first `tokens` tokens of a head of batch item 0; float32 throughout. scratch: linear_token_scratch() floats. out
 * [tokens, E]. One function a set of flags. */
typedef void linear_token_loop(const linear_call *call, int head, int64_t tokens, float *scratch, float *out);

linear_token_loop linear_token_loop_portable;
#if defined(__x86_64__)
linear_token_loop linear_token_loop_avx2, linear_token_loop_avx512;
#endif

static inline size_t linear_token_scratch(const linear_shape *shape)
{
    const size_t features = (size_t)linear_feature_dim(shape), width = (size_t)linear_width(shape);
    return features * width + 3 * features + 2 * width;
}

#endif
