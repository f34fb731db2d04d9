/* The oracle: attention in float64, two plain loops a row, straight from the definition in kernels/attention.h.
 * Slow on purpose, and shares no code with what it checks. */
#ifndef KERNELS_REFERENCE_H
#define KERNELS_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

/* What a score is besides scale * q.k, for one row; the fields mean what those of attention_scores do. All zero:
 * nothing. */
typedef struct {
    double softcap; /* 0: none */
    double slope;   /* of this row's head */
    int64_t query_position;
    const int64_t *key_positions; /* [keys]; NULL: key j is at position j */
    int rope_dim;                 /* even, at most D; 0: none */
    bool rope_interleaved;
    const double *rope_frequencies; /* [rope_dim / 2] */
    /* Of this row's head: r [left + right + 1, D], offset `left` first, and u and w [D]; r NULL: none. Not with RoPE. */
    const double *relative, *relative_u, *relative_w;
    int64_t relative_left, relative_right;
} reference_scores;

/* One query row q [D] against `keys` rows k, v (doubles, row j at k + j * k_stride, v + j * v_stride), key j seen iff
 * begin <= j < end; scores NULL: scale * q.k. Writes out [E] and, unless NULL, *lse (natural logarithm). `weights` is
 * scratch of `keys` doubles and holds the probabilities afterwards (0 for keys not seen). A row that sees nothing, or
 * only scores of -inf: out 0, lse -inf. With RoPE each key seen is rotated anew: a caller with many rows rotates its
 * keys and queries once, by reference_rotate, and passes rope_dim 0. */
void attention_reference(const double *q, const double *k, int64_t k_stride, const double *v, int64_t v_stride,
                         int64_t keys, int64_t begin, int64_t end, int dim, int value_dim, double scale,
                         const reference_scores *scores, double *out, double *lse, double *weights);

/* row [D] turned as one at `position` is, in place: pair c by the angle position * rope_frequencies[c]. */
void reference_rotate(const reference_scores *scores, int64_t position, double *row);

#endif
