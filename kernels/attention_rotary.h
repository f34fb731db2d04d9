/* RoPE of rows on their way into a fold: pair c of a row at position p turns by the angle p * f_c (arXiv 2104.09864,
 * section 3.2). A position is split into p = base + r, 0 <= r < ROTARY_LOW, base a multiple of ROTARY_LOW, and
 *
 *     exp(i p f_c) = exp(i base f_c) exp(i r f_c)
 *
 * with the second factor from a table and the first kept for the rows that follow. Both are rounded from float64 once,
 * the angle base f_c in twice that precision, so that a position of 2^31 turns as exactly as one of 1. What a row
 * becomes depends on the row and its position alone. Held by tests/kernels/test_scores.c. */
#ifndef KERNELS_ATTENTION_ROTARY_H
#define KERNELS_ATTENTION_ROTARY_H

#include "kernels/attention.h"

#include <math.h>

enum { ROTARY_LOW = 64 };

typedef struct {
    const attention_scores *scores;
    int pairs;
    float *low;  /* [ROTARY_LOW][cosine, sine][pairs] of r f_c */
    float *high; /* [cosine, sine][pairs] of base f_c */
    int64_t base;
} rotary_angles;

/* Floats that the two tables take, for rows of `dim` elements. */
static inline size_t rotary_floats(int dim)
{
    return (size_t)(ROTARY_LOW + 1) * 2 * (size_t)(dim / 2);
}

/* space [rotary_floats], kept by the caller as long as the result. */
static inline rotary_angles rotary_create(const attention_scores *scores, float *space)
{
    const int pairs = scores->rope_dim / 2;
    rotary_angles angles = {.scores = scores,
                            .pairs = pairs,
                            .low = space,
                            .high = space + (size_t)ROTARY_LOW * 2 * (size_t)pairs,
                            .base = 1 /* no multiple of ROTARY_LOW */};
    for (int c = 0; c < pairs; c++) {
        double cosine[ROTARY_LOW] = {1, cos(scores->rope_frequencies[c])};
        double sine[ROTARY_LOW] = {0, sin(scores->rope_frequencies[c])};
        for (int r = 0; r < ROTARY_LOW; r++) {
            if (r > 1) {
                const int a = r / 2, b = r - a;
                cosine[r] = cosine[a] * cosine[b] - sine[a] * sine[b];
                sine[r] = sine[a] * cosine[b] + cosine[a] * sine[b];
            }
            angles.low[(2 * r) * pairs + c] = (float)cosine[r];
            angles.low[(2 * r + 1) * pairs + c] = (float)sine[r];
        }
    }
    return angles;
}

static inline void rotary_move(rotary_angles *angles, int64_t base)
{
    const int pairs = angles->pairs;
    angles->base = base;
    for (int c = 0; c < pairs; c++) {
        const double frequency = angles->scores->rope_frequencies[c], angle = (double)base * frequency;
        const double rest = fma((double)base, frequency, -angle);
        const double cosine = cos(angle), sine = sin(angle);
        angles->high[c] = (float)(cosine - rest * sine);
        angles->high[pairs + c] = (float)(sine + rest * cosine);
    }
}

/* Pairs (x[c], y[c]), `step` elements from one to the next. */
static inline void rotary_turn_pairs(const rotary_angles *angles, const float *restrict low, float *restrict x,
                                     float *restrict y, int step)
{
    const float *restrict high_cosine = angles->high, *restrict high_sine = angles->high + angles->pairs;
    const float *restrict low_cosine = low, *restrict low_sine = low + angles->pairs;
    for (int c = 0; c < angles->pairs; c++) {
        const float cosine = high_cosine[c] * low_cosine[c] - high_sine[c] * low_sine[c];
        const float sine = high_sine[c] * low_cosine[c] + high_cosine[c] * low_sine[c];
        const float turned = x[c * step] * cosine - y[c * step] * sine;
        y[c * step] = x[c * step] * sine + y[c * step] * cosine;
        x[c * step] = turned;
    }
}

/* row [D] as it is at `position`. */
static inline void rotary_turn(rotary_angles *angles, int64_t position, float *row)
{
    const int64_t r = position & (ROTARY_LOW - 1), base = position - r;
    if (base != angles->base) rotary_move(angles, base);
    const float *low = angles->low + r * 2 * angles->pairs;
    if (angles->scores->rope_interleaved) rotary_turn_pairs(angles, low, row, row + 1, 2);
    else rotary_turn_pairs(angles, low, row, row + angles->pairs, 1);
}

#endif
