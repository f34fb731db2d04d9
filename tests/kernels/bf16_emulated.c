/* The fold by products of bfloat16 with the products in plain code: the same source, on any CPU. Compiled with EMULATED_DOTS
 * for those of AVX512_BF16, otherwise for AMX tiles in memory; each twice on x86-64: for AVX2, where it takes half the time
 * of plain code, and, with EMULATED_AVX512, with the flags that the real one has besides those of its products, so that
 * its vector code runs where these are missing. For tests alone. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"
#include "tests/kernels/problem.h"

#define LANES 16
#if defined(EMULATED_AVX512)
#define BF16_BLOCKED attention_avx512
#define VARIANT(name) name##_emulated_avx512
#define VARIANT_NAME "-emulated-avx512"
#define VARIANT_FEATURES (CPU_AVX2 | CPU_AVX512)
#else
#define BF16_BLOCKED attention_portable
#define VARIANT(name) name##_emulated
#define VARIANT_NAME "-emulated-plain"
#if defined(__AVX2__)
#define VARIANT_FEATURES CPU_AVX2
#else
#define VARIANT_FEATURES 0
#endif
#endif

#if defined(EMULATED_DOTS)
#define DOTS_EMULATED
#include "kernels/attention_bf16_dots.h"
#define EMULATED VARIANT(attention_dots)
#define EMULATED_NAME "avx512_bf16" VARIANT_NAME
#else
#define TILES_EMULATED
#include "kernels/attention_bf16_tiles.h"
#define EMULATED VARIANT(attention_amx)
#define EMULATED_NAME "amx" VARIANT_NAME
#endif

#include "kernels/attention_bf16.h"

const attention_kernel EMULATED = {
    .name = EMULATED_NAME,
    .features = VARIANT_FEATURES,
    .gain = {[COMPUTE_FP32] = 1,
             [COMPUTE_BF16X6] = PRODUCT_PARTS > 2,
             [COMPUTE_BF16X3] = PRODUCT_PARTS > 1,
             [COMPUTE_BF16] = 1},
    .fold = bf16_fold,
    .peak = blocked_peak,
    .bf16_peak = products_peak,
};
