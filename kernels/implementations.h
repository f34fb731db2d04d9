/* The implementations of the fold, one a file, listed in kernels.c. */
#ifndef KERNELS_IMPLEMENTATIONS_H
#define KERNELS_IMPLEMENTATIONS_H

#include "kernels/attention.h"

extern const attention_kernel attention_portable;
#if defined(__x86_64__)
extern const attention_kernel attention_avx2;
extern const attention_kernel attention_avx512;
extern const attention_kernel attention_amx;
#endif

#endif
