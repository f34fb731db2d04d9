/* CPU feature bits for run-time dispatch: from CPUID and XGETBV, never from the model name. */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

enum {
    CPU_AVX2 = 1u << 0,   /* AVX2, FMA and F16C, and the system saves the registers */
    CPU_AVX512 = 1u << 1, /* F, BW, DQ, VL */
    CPU_AVX512_BF16 = 1u << 2,
    CPU_AMX_BF16 = 1u << 3, /* AMX-TILE and AMX-BF16, and the system lets this process use the tiles */
};

/* Features of the CPU this runs on; 0 on architectures other than x86-64. Asks the system for what it gives on request
 * (AMX), so a kernel runs only after its features were found here. */
unsigned cpu_features(void);

/* "avx2 avx512 ..." into text, at most `size` bytes with the final zero; "none" without features. */
void cpu_features_describe(unsigned features, char *text, int size);

#endif
