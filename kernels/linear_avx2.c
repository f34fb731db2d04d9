/* The linear family on AVX2, FMA and F16C. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"

#define LANES 8
#include "kernels/linear_chunked.h"

const linear_kernel linear_avx2 = {
    .name = "avx2",
    .features = CPU_AVX2,
    .references = chunked_references,
    .fold = chunked_fold,
    .apply = chunked_apply,
    .finish = chunked_finish,
    .sum = chunked_sum,
    .read = chunked_read,
};
