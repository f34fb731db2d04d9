/* The linear family on AVX-512: F, BW, DQ, VL. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"

#define LANES 16
#include "kernels/linear_chunked.h"

const linear_kernel linear_avx512 = {
    .name = "avx512",
    .features = CPU_AVX2 | CPU_AVX512,
    .references = chunked_references,
    .fold = chunked_fold,
    .apply = chunked_apply,
    .finish = chunked_finish,
    .sum = chunked_sum,
    .read = chunked_read,
};
