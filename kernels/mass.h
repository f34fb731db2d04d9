/* Where attention goes: probability mass of sampled query rows, summed over runs of keys. For drawing, not for
 * results: float32 scores through the BLAS. */
#ifndef KERNELS_MASS_H
#define KERNELS_MASS_H

#include <stdint.h>

/* What a score is besides scale * q.k, for the rows of one head; the fields mean what those of attention_scores do. */
typedef struct {
    float softcap, slope;
    const int64_t *positions; /* [rows]; key j is at position j; read only for a slope */
} mass_scores;

/* mass[b] += sum over rows r and over seen keys j of block b of exp(s_rj - lse_r), s_rj = scale * q_r . k_j and what
 * `modified` (NULL: nothing) makes of it, blocks being
 * [b * block, (b+1) * block) in key positions. Keys handed over: [key_begin, key_begin + keys), k [keys, D]
 * float32 with `k_stride` elements between rows. q [rows, D] contiguous, lse [rows] natural logarithm (rows with
 * lse = -inf add nothing), row r sees key j iff visible_begin[r] <= j < visible_end[r].
 * `scores` is scratch of rows * keys floats. One thread; calls the BLAS (sgemm). */
void attention_mass(const float *q, const float *lse, const int64_t *visible_begin, const int64_t *visible_end,
                    int rows, const float *k, int64_t k_stride, int64_t key_begin, int keys, int dim, float scale,
                    const mass_scores *modified, int64_t block, double *mass, float *scores);

#endif
