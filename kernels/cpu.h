/* CPU feature bits for run-time dispatch: from CPUID and XGETBV, never from the model name. */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

enum {
    CPU_AVX2 = 1u << 0,   /* AVX2, FMA and F16C, and the system saves the registers */
    CPU_AVX512 = 1u << 1, /* F, BW, DQ, VL */
    CPU_AVX512_BF16 = 1u << 2,
    CPU_AMX_BF16 = 1u << 3, /* AMX-TILE and AMX-BF16; the system gives the tiles on request */
    /* AVX512_BF16 at twice the flop/s of float32 multiply-adds, as AMD's have it (Zen 4 and later). Intel's, which takes
     * two operations an instruction, has no more than float32 does: by vendor, since no feature bit says it. */
    CPU_DOUBLE_RATE_BF16 = 1u << 4,
};

/* Features of the CPU this runs on, and of the system; 0 on architectures other than x86-64. Requests nothing. */
unsigned cpu_features(void);

/* Those of `needed` that this process has not. Requests of the system what it gives on request (AMX) if it is among
 * them, so a kernel runs only after nothing of its features was found missing here. */
unsigned cpu_features_missing(unsigned needed);

/* "avx2 avx512 ..." into text, at most `size` bytes with the final zero; "none" without features. */
void cpu_features_describe(unsigned features, char *text, int size);

#endif
