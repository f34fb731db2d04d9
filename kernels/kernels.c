/* The table of implementations and the choice among them. */
#include "kernels/attention.h"
#include "kernels/attention_bf16_workspace.h"
#include "kernels/cpu.h"
#include "kernels/implementations.h"
#include "kernels/workspace.h"

#include <string.h>

const attention_kernel *const attention_kernels[] = {
    &attention_portable,
#if defined(__x86_64__)
    &attention_avx2,
    &attention_avx512,
    &attention_avx512_bf16,
    &attention_amx,
#endif
};
const int attention_kernel_count = sizeof attention_kernels / sizeof attention_kernels[0];

const attention_kernel *attention_kernel_find(const char *name)
{
    const bool automatic = strcmp(name, "auto") == 0;
    for (int i = attention_kernel_count - 1; i >= 0; i--) {
        const attention_kernel *kernel = attention_kernels[i];
        if (automatic ? !cpu_features_missing(kernel->features | kernel->pays_with) : strcmp(kernel->name, name) == 0) return kernel;
    }
    return NULL;
}

static const char *const compute_names[COMPUTE_COUNT] = {
    [COMPUTE_FP32] = "fp32", [COMPUTE_BF16X6] = "bf16x6", [COMPUTE_BF16X3] = "bf16x3", [COMPUTE_BF16] = "bf16"};

const char *attention_compute_name(attention_compute compute)
{
    return compute_names[compute];
}

bool attention_compute_from_name(const char *name, attention_compute *compute_p)
{
    for (int i = 0; i < COMPUTE_COUNT; i++)
        if (strcmp(name, compute_names[i]) == 0) {
            *compute_p = (attention_compute)i;
            return true;
        }
    return false;
}

attention_compute attention_compute_best(const attention_kernel *kernel, kernel_type type, int64_t rows)
{
    static const attention_compute best[] = {
        [KERNEL_FLOAT32] = COMPUTE_BF16X6, [KERNEL_FLOAT16] = COMPUTE_BF16X3, [KERNEL_BFLOAT16] = COMPUTE_BF16};
    /* One part rounds the weights too: that is worth it where it gains much. */
    const double worth = best[type] == COMPUTE_BF16 ? 2 : 1;
    return rows > ATTENTION_FEW_ROWS && kernel->gain[best[type]] >= worth ? best[type] : COMPUTE_FP32;
}

size_t attention_workspace_size(int threads, int dim, int value_dim)
{
    const size_t blocked = workspace_floats(dim, value_dim) * sizeof(float);
    return (size_t)threads * (blocked + bf16_workspace_bytes(dim, value_dim));
}
