/* Vectors of LANES floats, and what every form of the fold does with one. Included by attention_blocked.h. Each of
 * these is exact arithmetic on every lane alone, so that a row has the same bits in any lane of any form. */
#ifndef KERNELS_ATTENTION_VECTOR_H
#define KERNELS_ATTENTION_VECTOR_H

#include "kernels/number_convert.h"

#include <math.h>
#include <stdint.h>
#if defined(__SSE__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_FMA) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif

typedef float vector __attribute__((vector_size(LANES * 4), may_alias));
typedef float loose_vector __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));
typedef float loose_four __attribute__((vector_size(16), may_alias, aligned(4)));
typedef int32_t integers __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t bits __attribute__((vector_size(LANES * 4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vector blend(integers choose, vector yes, vector no)
{
    return (vector)(((integers)yes & choose) | ((integers)no & ~choose));
}

/* a * b + c. One rounding where the ISA has that, said outright: left to the compiler's contraction (which is off), it
 * would be one rounding here and two there, and the bits of a row would depend on the way it was folded. */
INLINE vector multiply_add(vector a, vector b, vector c)
{
#if LANES == 16 && defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif LANES == 8 && defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#elif LANES == 4 && defined(__FMA__)
    return _mm_fmadd_ps(a, b, c);
#elif LANES == 4 && defined(__ARM_FEATURE_FMA) && defined(__ARM_NEON)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
enum { FUSED = 1 };
#else
enum { FUSED = 0 };
#endif

/* a where a > b, else b: b where either is NaN. */
INLINE vector larger(vector a, vector b)
{
#if LANES == 16 && defined(__AVX512F__)
    return _mm512_max_ps(a, b);
#elif LANES == 8 && defined(__AVX__)
    return _mm256_max_ps(a, b);
#elif LANES == 4 && defined(__SSE__)
    return _mm_max_ps(a, b);
#else
    return blend(a > b, a, b);
#endif
}

INLINE vector splat(float value)
{
    return value - (vector){0};
}

#if (LANES == 16 && defined(__AVX512F__)) || (LANES == 8 && defined(__AVX2__))
/* 2^(i/8) for the integer i that the three low bits of each lane hold. */
INLINE vector eighth_power(vector index)
{
    static const float powers[16] __attribute__((aligned(64))) = {
        1, 1.09050775f, 1.18920708f, 1.29683959f, 1.41421354f, 1.54221082f, 1.68179286f, 1.8340081f,
        1, 1.09050775f, 1.18920708f, 1.29683959f, 1.41421354f, 1.54221082f, 1.68179286f, 1.8340081f};
    const vector table = *(const vector *)powers;
#if LANES == 16
    return _mm512_permutexvar_ps((__m512i)index, table);
#else
    return _mm256_permutevar8x32_ps(table, (__m256i)index);
#endif
}
#endif

/* 2^x for x <= RESCALE_GAP, relative error below 2e-7; exactly 1 at 0, exactly 0 below -127 and, where denormals are
 * flushed, below -126; NaN stays NaN. x = n + i / STEPS + r, rounded by adding 1.5 * 2^23 / STEPS, which leaves
 * n STEPS + i in the low bits; 2^n is multiplied, not added to the exponent of the result, because that would wreck
 * a NaN. Where vectors can look up 8 floats, 2^(i/8) comes from a table and r is short enough for degree 3. */
INLINE vector exp2_vector(vector x)
{
    x = larger(splat(-127), x); /* in this order NaN passes */
#if (LANES == 16 && defined(__AVX512F__)) || (LANES == 8 && defined(__AVX2__))
    const float shift = 0x1.8p20f;
    const vector shifted = x + shift;
    const vector r = x - (shifted - shift); /* in [-1/16, 1/16] */
    vector p = multiply_add(splat(5.54962233e-2f), r, splat(2.40257636e-1f));
    p = multiply_add(p, r, splat(6.93147242e-1f));
    p = multiply_add(p, r, splat(1));
    const bits factor = (bits)eighth_power(shifted) + (((bits)shifted & ~7u) << 20);
#else
    const float shift = 0x1.8p23f;
    const vector shifted = x + shift;
    const vector r = x - (shifted - shift); /* in [-1/2, 1/2] */
    vector p = multiply_add(splat(1.535336188319500e-4f), r, splat(1.339887440266574e-3f));
    p = multiply_add(p, r, splat(9.618437357674640e-3f));
    p = multiply_add(p, r, splat(5.550332471162809e-2f));
    p = multiply_add(p, r, splat(2.402264791363012e-1f));
    p = multiply_add(p, r, splat(6.931472028550421e-1f));
    p = multiply_add(p, r, splat(1));
    const bits factor = ((bits)shifted << 23) + 0x3f800000u;
#endif
    return p * (vector)factor;
}

/* The first numbers of a row of float16 that the ISA's own conversion takes, LANES at a time; returns how many. */
INLINE int floats16_widen(const uint16_t *restrict numbers, int count, float *restrict row)
{
    int i = 0;
#if LANES == 16 && defined(__AVX512F__)
    for (; i + LANES <= count; i += LANES)
        *(loose_vector *)(row + i) = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(numbers + i)));
#elif LANES == 8 && defined(__F16C__)
    for (; i + LANES <= count; i += LANES)
        *(loose_vector *)(row + i) = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(numbers + i)));
#else
    (void)numbers, (void)count, (void)row;
#endif
    return i;
}

/* `count` numbers at element `offset` of `source`, as float32. */
INLINE void row_widen(kernel_type type, const void *source, int64_t offset, int count, float *restrict row)
{
    const float *floats = (const float *)source + offset;
    const uint16_t *numbers = (const uint16_t *)source + offset;
    int i = 0;
    switch (type) {
    case KERNEL_FLOAT32: /* by vectors: a call of memcpy takes longer than what it copies */
        for (; i + LANES <= count; i += LANES) *(loose_vector *)(row + i) = *(const loose_vector *)(floats + i);
        for (; i < count; i++) row[i] = floats[i];
        break;
    case KERNEL_FLOAT16:
        for (i = floats16_widen(numbers, count, row); i < count; i++) row[i] = widen_float16(numbers[i]);
        break;
    case KERNEL_BFLOAT16:
        for (; i < count; i++) row[i] = widen_bfloat16(numbers[i]);
        break;
    }
}

#endif
