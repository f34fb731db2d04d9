/* What is done to a vector of scores besides scale * q.k, in base 2: every score times log2(e). Included after LANES is
 * defined. Lanes may be queries or keys; a score has the same bits either way. */
#ifndef KERNELS_ATTENTION_SCORE_TERMS_H
#define KERNELS_ATTENTION_SCORE_TERMS_H

#include "kernels/attention.h"
#include "kernels/attention_vector.h"

/* The cap in base 2 and its inverse; 0 without a cap. */
typedef struct {
    float cap, inverse;
} score_cap;

/* Bounded so that neither is a denormal: below, every score is 0 beside 1, and above none is capped. */
static inline score_cap score_cap_of(float softcap)
{
    double cap = (double)softcap * 1.4426950408889634;
    if (softcap == 0) return (score_cap){0, 0};
    if (cap < 0x1p-125) cap = 0x1p-125;
    if (cap > 0x1p125) cap = 0x1p125;
    return (score_cap){(float)cap, (float)(1 / cap)};
}

/* ALiBi's slope in base 2, negated. */
static inline float score_slope(float slope)
{
    return (float)((double)slope * -1.4426950408889634);
}

/* cap tanh(s / cap), relative error below 5e-7; NaN stays NaN. tanh is x P(x^2) / Q(x^2) with minimax P and Q of degree
 * 4, relative error 2.2e-8 up to 9.02, where it is 1 in float32; all coefficients are positive, so nothing cancels.
 * Below 2^-12 s itself is nearer than any rounded quotient. */
INLINE vector score_capped(vector s, score_cap cap)
{
    const vector quotient = s * splat(cap.inverse), bound = splat(9.02f);
    const vector below = larger(-bound, quotient); /* in this order NaN passes */
    const vector x = blend(below > bound, bound, below), u = x * x;
    vector p = multiply_add(splat(1.33856796e-8f), u, splat(2.06368625e-5f));
    vector q = multiply_add(splat(7.79082993e-7f), u, splat(3.28862178e-4f));
    p = multiply_add(p, u, splat(3.49752191e-3f));
    q = multiply_add(q, u, splat(2.5884606e-2f));
    p = multiply_add(p, u, splat(1.33827416e-1f));
    q = multiply_add(q, u, splat(4.67160628e-1f));
    p = multiply_add(p, u, splat(1));
    q = multiply_add(q, u, splat(1));
    const integers tiny = (x < splat(0x1p-12f)) & (x > splat(-0x1p-12f));
    return blend(tiny, s, x * p / q * splat(cap.cap));
}

/* s + slope |p - j| for a slope in base 2, negated. Positions are taken modulo 2^32: their difference is exact where it
 * is at most 2^31, and rounded once. */
INLINE vector score_sloped(vector s, vector slope, integers query_position, integers key_position)
{
    const integers difference = (integers)((bits)query_position - (bits)key_position);
    const vector distance = __builtin_convertvector(difference, vector);
    return multiply_add(slope, (vector)((bits)distance & 0x7fffffffu), s);
}

#endif
