/* The implementations of the fold, one a file, listed in kernels.c; of alpha-entmax, in entmax_threshold.c; of the
 * linear family, in linear_kernels.c. */
#ifndef KERNELS_IMPLEMENTATIONS_H
#define KERNELS_IMPLEMENTATIONS_H

#include "kernels/attention.h"
#include "kernels/entmax.h"
#include "kernels/linear.h"

#include <string.h>

extern const attention_kernel attention_portable;
extern const entmax_kernel entmax_portable;
extern const linear_kernel linear_portable;
#if defined(__x86_64__)
extern const attention_kernel attention_avx2;
extern const attention_kernel attention_avx512;
extern const attention_kernel attention_avx512_bf16;
extern const attention_kernel attention_amx;
extern const entmax_kernel entmax_avx2;
extern const entmax_kernel entmax_avx512;
extern const linear_kernel linear_avx2;
extern const linear_kernel linear_avx512;
#endif

/* The ISA called `name` without its products of bfloat16, for what computes in float32 or float64 alone. */
static inline const char *vector_isa(const char *name)
{
    return strcmp(name, "amx") == 0 || strcmp(name, "avx512_bf16") == 0 ? "avx512" : name;
}

#endif
