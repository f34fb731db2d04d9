#include "bench/kernel_shapes.h"

#define F32 KERNEL_FLOAT32
#define F16 KERNEL_FLOAT16
#define B16 KERNEL_BFLOAT16

const kernel_shape kernel_shapes[] = {
    /* type, H, G, D, E, T, M, causal, scores times, window */

    /* what a kernel is judged by: its rate at the common head sizes, and what a causal mask saves */
    {F32, 4, 4, 64, 64, 8192, 8192, false, 1, 0},
    {F32, 4, 4, 64, 64, 8192, 8192, true, 1, 0},
    {F32, 4, 4, 128, 128, 8192, 8192, false, 1, 0},
    {F32, 4, 4, 128, 128, 8192, 8192, true, 1, 0},
    {F16, 4, 4, 64, 64, 8192, 8192, false, 1, 0},
    {F16, 4, 4, 64, 64, 8192, 8192, true, 1, 0},
    {F16, 4, 4, 128, 128, 8192, 8192, false, 1, 0},
    {F16, 4, 4, 128, 128, 8192, 8192, true, 1, 0},
    {B16, 4, 4, 64, 64, 8192, 8192, false, 1, 0},
    {B16, 4, 4, 64, 64, 8192, 8192, true, 1, 0},
    {B16, 4, 4, 128, 128, 8192, 8192, false, 1, 0},
    {B16, 4, 4, 128, 128, 8192, 8192, true, 1, 0},

    /* most probabilities are far below their row's largest, many of them denormal: the rate must not depend on it */
    {F32, 4, 4, 64, 64, 8192, 8192, false, 40, 0},
    {F32, 4, 4, 128, 128, 8192, 8192, false, 40, 0},
    {F16, 4, 4, 64, 64, 8192, 8192, false, 40, 0},
    {F16, 4, 4, 128, 128, 8192, 8192, false, 40, 0},
    {B16, 4, 4, 64, 64, 8192, 8192, false, 40, 0},
    {B16, 4, 4, 128, 128, 8192, 8192, false, 40, 0},

    /* other head sizes: no cliff beside the multiples of a vector */
    {F32, 4, 4, 64, 64, 2048, 2048, false, 1, 0},
    {F32, 4, 4, 72, 72, 2048, 2048, false, 1, 0},
    {F32, 4, 4, 80, 80, 2048, 2048, false, 1, 0},
    {F32, 4, 4, 96, 96, 2048, 2048, false, 1, 0},
    {F32, 4, 4, 128, 128, 2048, 2048, false, 1, 0},
    {F32, 4, 4, 192, 192, 2048, 2048, false, 1, 0},
    {F32, 4, 4, 192, 128, 2048, 2048, false, 1, 0},
    {F32, 4, 4, 256, 256, 2048, 2048, false, 1, 0},
    {B16, 4, 4, 64, 64, 2048, 2048, false, 1, 0},
    {B16, 4, 4, 72, 72, 2048, 2048, false, 1, 0},
    {B16, 4, 4, 80, 80, 2048, 2048, false, 1, 0},
    {B16, 4, 4, 96, 96, 2048, 2048, false, 1, 0},
    {B16, 4, 4, 128, 128, 2048, 2048, false, 1, 0},
    {B16, 4, 4, 192, 192, 2048, 2048, false, 1, 0},
    {B16, 4, 4, 192, 128, 2048, 2048, false, 1, 0},
    {B16, 4, 4, 256, 256, 2048, 2048, false, 1, 0},

    /* keys and values of a head that do not fit a core's cache */
    {F32, 1, 1, 64, 64, 16384, 16384, false, 1, 0},
    {F32, 1, 1, 128, 128, 16384, 16384, false, 1, 0},
    {B16, 1, 1, 64, 64, 16384, 16384, false, 1, 0},
    {B16, 1, 1, 128, 128, 16384, 16384, false, 1, 0},

    /* a window: most blocks are unseen, and of the others many are at its border */
    {F32, 4, 4, 64, 64, 32768, 32768, true, 1, 1024},
    {F32, 4, 4, 128, 128, 32768, 32768, true, 1, 4096},
    {B16, 4, 4, 128, 128, 32768, 32768, true, 1, 4096},

    /* grouped query heads */
    {F32, 8, 2, 128, 128, 4096, 4096, true, 1, 0},
    {B16, 8, 2, 128, 128, 4096, 4096, true, 1, 0},

    /* decode: few queries against many keys, bound by memory */
    {F32, 2, 2, 128, 128, 1, 131072, true, 1, 0},
    {F32, 8, 2, 128, 128, 1, 131072, true, 1, 0},
    {F32, 8, 2, 128, 128, 4, 131072, true, 1, 0},
    {F32, 8, 2, 128, 128, 16, 131072, true, 1, 0},
    {B16, 2, 2, 128, 128, 1, 131072, true, 1, 0},
    {B16, 8, 2, 128, 128, 1, 131072, true, 1, 0},
    {B16, 8, 2, 128, 128, 4, 131072, true, 1, 0},
    {B16, 8, 2, 128, 128, 16, 131072, true, 1, 0},
};

const int kernel_shape_count = sizeof kernel_shapes / sizeof kernel_shapes[0];
