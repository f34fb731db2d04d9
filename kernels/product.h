/* Products of small matrices whose rows are whole vectors, for the chunks of the linear family, and for the fold of few
 * rows: shapes for which a BLAS spends as long on packing as on multiplying, and whose kernels some of its versions
 * choose by CPU models they know. A lane is a column of B and C. Every element is summed in the order of the terms,
 * whatever the shape: with
 *
 *     sum = a[i][0] b[0][c], then sum = a[i][t] b[t][c] + sum (fused where the ISA has that)
 *
 * so that a term whose a is 0 changes nothing, and may be left out. Included with LANES defined. */
#ifndef KERNELS_PRODUCT_H
#define KERNELS_PRODUCT_H

#include "kernels/attention_vector.h"

enum {
    PRODUCT_ROWS = LANES == 16 ? 8 : 4, /* of a register tile */
    PRODUCT_VECTORS = 4, /* of columns, at most */
};

/* A matrix by its first element and the floats from one row to the next. */
typedef struct {
    const float *at;
    int64_t row;
} product_factor;

INLINE void product_tile(int rows, int vectors, const float *restrict a, int64_t a_row, const float *restrict b,
                         int64_t b_row, int terms, bool add, float *restrict c, int64_t c_row)
{
    vector sum[PRODUCT_ROWS][PRODUCT_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int x = 0; x < vectors; x++) sum[i][x] = (vector){0};
    for (int t = 0; t < terms; t++) {
        const loose_vector *row = (const loose_vector *)(b + t * b_row);
        for (int i = 0; i < rows; i++)
            for (int x = 0; x < vectors; x++) sum[i][x] = multiply_add(row[x], splat(a[i * a_row + t]), sum[i][x]);
    }
    for (int i = 0; i < rows; i++) {
        loose_vector *out = (loose_vector *)(c + i * c_row);
        for (int x = 0; x < vectors; x++) {
            if (add) sum[i][x] += out[x];
            out[x] = sum[i][x];
        }
    }
}

/* The same of `vectors` vectors of columns and all rows. Of a lower triangular A, terms above the diagonal are not read. */
INLINE void product_columns(int rows, int vectors, int terms, product_factor a, product_factor b, bool lower, bool add,
                            float *c, int64_t c_row)
{
    int i = 0;
    for (; i + PRODUCT_ROWS <= rows; i += PRODUCT_ROWS) {
        const int some = lower && i + PRODUCT_ROWS < terms ? i + PRODUCT_ROWS : terms;
        product_tile(PRODUCT_ROWS, vectors, a.at + i * a.row, a.row, b.at, b.row, some, add, c + i * c_row, c_row);
    }
    for (; i < rows; i++) {
        const int some = lower && i + 1 < terms ? i + 1 : terms;
        product_tile(1, vectors, a.at + i * a.row, a.row, b.at, b.row, some, add, c + i * c_row, c_row);
    }
}

/* C = A B, or C += A B: A [rows][terms], B [terms][columns], C [rows][columns]. Rows of B and C have room for whole
 * vectors of columns, which are read and written. `lower`: A is square, and zero above the diagonal. */
static inline void product(int rows, int columns, int terms, product_factor a, product_factor b, bool lower, bool add,
                           float *c, int64_t c_row)
{
    for (int column = 0, vectors; column < columns; column += vectors * LANES) {
        const product_factor some = {b.at + column, b.row};
        const int left = (columns - column + LANES - 1) / LANES;
        vectors = left > 4 || left == 3 ? 3 : left > 1 ? 2 : 1;
        if (vectors == 3) product_columns(rows, 3, terms, a, some, lower, add, c + column, c_row);
        if (vectors == 2) product_columns(rows, 2, terms, a, some, lower, add, c + column, c_row);
        if (vectors == 1) product_columns(rows, 1, terms, a, some, lower, add, c + column, c_row);
    }
}

#endif
