/* The table of implementations of the linear family and the choice among them. */
#include "kernels/cpu.h"
#include "kernels/implementations.h"
#include "kernels/linear_workspace.h"

#include <string.h>

const linear_kernel *const linear_kernels[] = {
    &linear_portable,
#if defined(__x86_64__)
    &linear_avx2,
    &linear_avx512,
#endif
};
const int linear_kernel_count = sizeof linear_kernels / sizeof linear_kernels[0];

const linear_kernel *linear_kernel_find(const char *name)
{
    const bool automatic = strcmp(name, "auto") == 0;
    const unsigned features = automatic ? cpu_features() : 0;
    name = vector_isa(name); /* products are of float32: bfloat16 is too coarse */
    for (int i = linear_kernel_count - 1; i >= 0; i--) {
        const linear_kernel *kernel = linear_kernels[i];
        if (automatic ? (kernel->features & ~features) == 0 : strcmp(kernel->name, name) == 0) return kernel;
    }
    return NULL;
}

size_t linear_workspace_size(const linear_shape *shape, int threads)
{
    linear_space space;
    return (size_t)threads * linear_space_place(shape, NULL, &space);
}
