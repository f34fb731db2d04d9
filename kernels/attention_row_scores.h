/* Products of rows with columns that lie side by side, a lane a column: for r < rows and x < vectors
 *
 *     out[r][x][lane] = sum_d q[r][d] columns[x][d][lane]
 *
 * by the sums of the blocked fold's tile_scores, which has its lanes the other way round, in the same order. Included
 * after attention_task.h. */
#ifndef KERNELS_ATTENTION_ROW_SCORES_H
#define KERNELS_ATTENTION_ROW_SCORES_H

#include "kernels/attention_task.h"

enum {
    ROW_TILE = 4,    /* rows of a register tile, at most */
    ROW_VECTORS = 4, /* vectors of columns of it, at most */
};

/* Distances in floats: of rows in q; of vectors and of d in columns; of rows in out. */
typedef struct {
    int64_t q, vector, d, out;
} row_strides;

INLINE void row_scores(int rows, int vectors, const float *restrict q, const float *restrict columns, int dim,
                       row_strides stride, float *restrict out)
{
    vector group[ROW_TILE][ROW_VECTORS], all[ROW_TILE][ROW_VECTORS]; /* no sum of groups before there are two */
    for (int r = 0; r < rows; r++)
        for (int x = 0; x < vectors; x++) group[r][x] = all[r][x] = (vector){0};
    for (int chunk = 0; chunk < dim; chunk += DOT_CHUNK) {
        const int end = dim - chunk < DOT_CHUNK ? dim : chunk + DOT_CHUNK;
        vector s[ROW_TILE][ROW_VECTORS];
        for (int r = 0; r < rows && chunk > 0 && chunk % DOT_GROUP == 0; r++)
            for (int x = 0; x < vectors; x++) {
                if (chunk > DOT_GROUP) group[r][x] += all[r][x];
                all[r][x] = group[r][x];
                group[r][x] = (vector){0};
            }
        for (int r = 0; r < rows; r++)
            for (int x = 0; x < vectors; x++) s[r][x] = (vector){0};
        for (int d = chunk; d < end; d++)
            for (int r = 0; r < rows; r++)
                for (int x = 0; x < vectors; x++)
                    s[r][x] = multiply_add(*(const loose_vector *)(columns + x * stride.vector + d * stride.d),
                                           splat(q[r * stride.q + d]), s[r][x]);
        for (int r = 0; r < rows; r++)
            for (int x = 0; x < vectors; x++) group[r][x] += s[r][x];
    }
    for (int r = 0; r < rows; r++)
        for (int x = 0; x < vectors; x++) {
            if (dim > DOT_GROUP) group[r][x] += all[r][x];
            *(loose_vector *)(out + r * stride.out + x * LANES) = group[r][x];
        }
}

#endif
