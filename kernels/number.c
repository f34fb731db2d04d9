#include "kernels/number.h"

#include "kernels/number_convert.h"

size_t number_size(kernel_type type)
{
    return type == KERNEL_FLOAT32 ? 4 : 2;
}

void number_widen(kernel_type type, const void *source, float *target, int64_t count)
{
    const uint16_t *numbers = source;
    switch (type) {
    case KERNEL_FLOAT32:
        if (count > 0) memcpy(target, source, (size_t)count * sizeof *target);
        break;
    case KERNEL_FLOAT16:
        for (int64_t i = 0; i < count; i++) target[i] = widen_float16(numbers[i]);
        break;
    case KERNEL_BFLOAT16:
        for (int64_t i = 0; i < count; i++) target[i] = widen_bfloat16(numbers[i]);
        break;
    }
}

void number_narrow(kernel_type type, const float *source, void *target, int64_t count)
{
    uint16_t *numbers = target;
    switch (type) {
    case KERNEL_FLOAT32:
        if (count > 0) memcpy(target, source, (size_t)count * sizeof *source);
        break;
    case KERNEL_FLOAT16:
        for (int64_t i = 0; i < count; i++) numbers[i] = narrow_float16(source[i]);
        break;
    case KERNEL_BFLOAT16:
        for (int64_t i = 0; i < count; i++) numbers[i] = narrow_bfloat16(source[i]);
        break;
    }
}
