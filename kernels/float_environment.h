/* The floating-point environment of a kernel, a thread's own: arithmetic on denormals would make its rate depend on the
 * data. */
#ifndef KERNELS_FLOAT_ENVIRONMENT_H
#define KERNELS_FLOAT_ENVIRONMENT_H

#if defined(__SSE__)
#include <xmmintrin.h>

typedef unsigned float_environment;

/* Flush-to-zero, denormals-are-zero, to nearest, every exception masked, whatever the caller has set. */
static inline float_environment environment_enter(void)
{
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(0x1f80 | 0x8040);
    return saved;
}

static inline void environment_leave(float_environment saved)
{
    _mm_setcsr(saved);
}
#else
typedef int float_environment;

static inline float_environment environment_enter(void)
{
    return 0;
}

static inline void environment_leave(float_environment saved)
{
    (void)saved;
}
#endif

#endif
