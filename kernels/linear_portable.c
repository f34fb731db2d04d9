/* The linear family on the compiler's baseline. */
#include "kernels/implementations.h"

#define LANES 4
#include "kernels/linear_chunked.h"

const linear_kernel linear_portable = {
    .name = "portable",
    .features = 0,
    .references = chunked_references,
    .fold = chunked_fold,
    .apply = chunked_apply,
    .finish = chunked_finish,
    .sum = chunked_sum,
    .read = chunked_read,
};
