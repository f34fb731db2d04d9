/* Where attention goes: probability mass of sampled query rows, summed over runs of keys. For drawing, not for
 * results: float32 scores through the BLAS. */
#ifndef KERNELS_MASS_H
#define KERNELS_MASS_H

#include <stdint.h>

/* mass[b] += sum over rows r and over seen keys j of block b of exp(scale * q_r . k_j - lse_r), blocks being
 * [b * block, (b+1) * block) in key positions. Keys handed over: [key_begin, key_begin + keys), k [keys, D]
 * float32 with `k_stride` elements between rows. q [rows, D] contiguous, lse [rows] natural logarithm (rows with
 * lse = -inf add nothing), row r sees key j iff visible_begin[r] <= j < visible_end[r].
 * `scores` is scratch of rows * keys floats. One thread; calls the BLAS (sgemm). */
void attention_mass(const float *q, const float *lse, const int64_t *visible_begin, const int64_t *visible_end,
                    int rows, const float *k, int64_t k_stride, int64_t key_begin, int keys, int dim, float scale,
                    int64_t block, double *mass, float *scores);

#endif
