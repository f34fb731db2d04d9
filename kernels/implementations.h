/* The implementations of the fold, one a file, listed in kernels.c; of the linear family, in linear_kernels.c. */
#ifndef KERNELS_IMPLEMENTATIONS_H
#define KERNELS_IMPLEMENTATIONS_H

#include "kernels/attention.h"
#include "kernels/linear.h"

extern const attention_kernel attention_portable;
extern const linear_kernel linear_portable;
#if defined(__x86_64__)
extern const attention_kernel attention_avx2;
extern const attention_kernel attention_avx512;
extern const attention_kernel attention_amx;
extern const linear_kernel linear_avx2;
extern const linear_kernel linear_avx512;
#endif

#endif
