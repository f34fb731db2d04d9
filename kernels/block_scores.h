/* What a selection of keys by content compares: scores of query rows with pooled keys,
 *
 *     scores[r][c] = sum_d q[r][d] k[d][c]                   d ascending, in float64
 *
 * The product of two float32 is exact in float64, so fused or not, and in whatever lane, a score has the same bits: a
 * choice between scores depends on neither the ISA nor on what else is computed. Included with LANES defined. Held by
 * tests/kernels/test_block_scores.c. */
#ifndef KERNELS_BLOCK_SCORES_H
#define KERNELS_BLOCK_SCORES_H

#include "kernels/attention.h"
#include "kernels/attention_vector.h"

typedef float half_vector __attribute__((vector_size(LANES * 2), may_alias, aligned(4)));
typedef double wide_vector __attribute__((vector_size(LANES * 4), may_alias, aligned(8)));

enum { WIDE_LANES = LANES / 2, SCORE_ROWS = 4, SCORE_VECTORS = BLOCK_SCORES_TILE / WIDE_LANES };

/* A tile of BLOCK_SCORES_TILE pooled keys, some vectors at a time. */
INLINE void block_scores_tile(int rows, const float *restrict q, const float *restrict k, int64_t stride, int dim,
                              double *restrict scores, int64_t score_stride)
{
    enum { AT_A_TIME = SCORE_VECTORS < 4 ? SCORE_VECTORS : 4 };
    for (int first = 0; first < SCORE_VECTORS; first += AT_A_TIME) {
        wide_vector sum[SCORE_ROWS][AT_A_TIME];
        for (int r = 0; r < rows; r++)
            for (int x = 0; x < AT_A_TIME; x++) sum[r][x] = (wide_vector){0};
        for (int d = 0; d < dim; d++) {
            wide_vector keys[AT_A_TIME];
            for (int x = 0; x < AT_A_TIME; x++)
                keys[x] = __builtin_convertvector(*(const half_vector *)(k + d * stride + (first + x) * WIDE_LANES),
                                                  wide_vector);
            for (int r = 0; r < rows; r++)
                for (int x = 0; x < AT_A_TIME; x++) sum[r][x] += keys[x] * (double)q[(int64_t)r * dim + d];
        }
        for (int r = 0; r < rows; r++)
            for (int x = 0; x < AT_A_TIME; x++)
                *(wide_vector *)(scores + r * score_stride + (first + x) * WIDE_LANES) = sum[r][x];
    }
}

static void block_scores(const float *q, int rows, const float *k, int64_t stride, int dim, int64_t count,
                         double *scores, int64_t score_stride)
{
    for (int64_t c = 0; c < count; c += BLOCK_SCORES_TILE) {
        int r = 0;
        for (; r + SCORE_ROWS <= rows; r += SCORE_ROWS)
            block_scores_tile(SCORE_ROWS, q + (int64_t)r * dim, k + c, stride, dim, scores + r * score_stride + c,
                              score_stride);
        for (; r < rows; r++)
            block_scores_tile(1, q + (int64_t)r * dim, k + c, stride, dim, scores + r * score_stride + c, score_stride);
    }
}

#endif
