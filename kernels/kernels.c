/* The table of implementations and the choice among them. */
#include "kernels/attention.h"
#include "kernels/cpu.h"
#include "kernels/implementations.h"
#include "kernels/workspace.h"

#include <string.h>

const attention_kernel *const attention_kernels[] = {
    &attention_portable,
#if defined(__x86_64__)
    &attention_avx2,
    &attention_avx512,
#endif
};
const int attention_kernel_count = sizeof attention_kernels / sizeof attention_kernels[0];

const attention_kernel *attention_kernel_find(const char *name)
{
    const bool automatic = strcmp(name, "auto") == 0;
    const unsigned features = automatic ? cpu_features() : 0;
    for (int i = attention_kernel_count - 1; i >= 0; i--) {
        const attention_kernel *kernel = attention_kernels[i];
        if (automatic ? (kernel->features & ~features) == 0 : strcmp(kernel->name, name) == 0) return kernel;
    }
    return NULL;
}

size_t attention_workspace_size(int threads, int dim, int value_dim)
{
    return (size_t)threads * workspace_floats(dim, value_dim) * sizeof(float);
}
