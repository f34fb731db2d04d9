/* Element types of q, k, v and out, and their conversion. Arithmetic is always float32. */
#ifndef KERNELS_NUMBER_H
#define KERNELS_NUMBER_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    KERNEL_FLOAT32 = 0,
    KERNEL_FLOAT16 = 1,  /* IEEE 754 binary16 */
    KERNEL_BFLOAT16 = 2, /* upper half of a float32 */
} kernel_type;

/* Bytes of one element. */
size_t number_size(kernel_type type);

/* Widen `count` elements of `type` at `source` to float32 at `target`. Exact, subnormals, NaN and Inf included. */
void number_widen(kernel_type type, const void *source, float *target, int64_t count);

/* Narrow `count` float32 to `type`, to nearest, ties to even; NaN stays NaN (quiet), overflow becomes Inf. */
void number_narrow(kernel_type type, const float *source, void *target, int64_t count);

#endif
