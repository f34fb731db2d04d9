/* Rows become columns. Included with LANES defined. */
#ifndef KERNELS_TRANSPOSE_H
#define KERNELS_TRANSPOSE_H

#include "kernels/attention_vector.h"

/* target[c][r] = source[r][c] for 4 rows and 4 columns. */
INLINE void transpose_4x4(const float *restrict source, int64_t source_stride, float *restrict target,
                          int64_t target_stride)
{
    const loose_four a = *(const loose_four *)source, b = *(const loose_four *)(source + source_stride);
    const loose_four c = *(const loose_four *)(source + 2 * source_stride);
    const loose_four d = *(const loose_four *)(source + 3 * source_stride);
    const loose_four ac_low = __builtin_shufflevector(a, c, 0, 4, 1, 5),
                     ac_high = __builtin_shufflevector(a, c, 2, 6, 3, 7);
    const loose_four bd_low = __builtin_shufflevector(b, d, 0, 4, 1, 5),
                     bd_high = __builtin_shufflevector(b, d, 2, 6, 3, 7);
    *(loose_four *)target = __builtin_shufflevector(ac_low, bd_low, 0, 4, 1, 5);
    *(loose_four *)(target + target_stride) = __builtin_shufflevector(ac_low, bd_low, 2, 6, 3, 7);
    *(loose_four *)(target + 2 * target_stride) = __builtin_shufflevector(ac_high, bd_high, 0, 4, 1, 5);
    *(loose_four *)(target + 3 * target_stride) = __builtin_shufflevector(ac_high, bd_high, 2, 6, 3, 7);
}

/* target[c][r] = source[r][c] for `rows` rows and `columns` columns. */
static inline void transpose(const float *restrict source, int64_t source_stride, int rows, int columns,
                             float *restrict target, int64_t target_stride)
{
    const int whole_rows = rows - rows % 4, whole_columns = columns - columns % 4;
    for (int r = 0; r < whole_rows; r += 4)
        for (int c = 0; c < whole_columns; c += 4)
            transpose_4x4(source + r * source_stride + c, source_stride, target + c * target_stride + r, target_stride);
    for (int r = 0; r < rows; r++)
        for (int c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            target[c * target_stride + r] = source[r * source_stride + c];
}

typedef double pairs __attribute__((vector_size(LANES * 4), may_alias)); /* of lanes */

/* Of vectors a and b, fours of lanes as one: the first two of each four, interleaved, or the last two; the same of
 * pairs; and fours of a, then of b: 0 and 2, or 1 and 3. */
#if LANES == 16
#define LANES_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define LANES_HIGH(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define PAIRS_LOW(a, b) (vector)__builtin_shufflevector((pairs)a, (pairs)b, 0, 8, 2, 10, 4, 12, 6, 14)
#define PAIRS_HIGH(a, b) (vector)__builtin_shufflevector((pairs)a, (pairs)b, 1, 9, 3, 11, 5, 13, 7, 15)
#define FOURS_EVEN(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
#define FOURS_ODD(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31)
#elif LANES == 8
#define LANES_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define LANES_HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define PAIRS_LOW(a, b) (vector)__builtin_shufflevector((pairs)a, (pairs)b, 0, 4, 2, 6)
#define PAIRS_HIGH(a, b) (vector)__builtin_shufflevector((pairs)a, (pairs)b, 1, 5, 3, 7)
#define FOURS_EVEN(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define FOURS_ODD(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#else
#define LANES_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define LANES_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define PAIRS_LOW(a, b) (vector)__builtin_shufflevector((pairs)a, (pairs)b, 0, 2)
#define PAIRS_HIGH(a, b) (vector)__builtin_shufflevector((pairs)a, (pairs)b, 1, 3)
#endif

/* A square of LANES rows in place: squares of 4 by 4 first, then the fours. */
INLINE void square_transpose(vector rows[restrict LANES])
{
    vector turned[LANES];
    for (int r = 0; r < LANES; r += 4) {
        const vector ab_low = LANES_LOW(rows[r], rows[r + 1]), ab_high = LANES_HIGH(rows[r], rows[r + 1]);
        const vector cd_low = LANES_LOW(rows[r + 2], rows[r + 3]), cd_high = LANES_HIGH(rows[r + 2], rows[r + 3]);
        turned[r] = PAIRS_LOW(ab_low, cd_low);
        turned[r + 1] = PAIRS_HIGH(ab_low, cd_low);
        turned[r + 2] = PAIRS_LOW(ab_high, cd_high);
        turned[r + 3] = PAIRS_HIGH(ab_high, cd_high);
    }
#if LANES == 16
    for (int k = 0; k < 4; k++) {
        const vector low_even = FOURS_EVEN(turned[k], turned[k + 4]), low_odd = FOURS_ODD(turned[k], turned[k + 4]);
        const vector high_even = FOURS_EVEN(turned[k + 8], turned[k + 12]);
        const vector high_odd = FOURS_ODD(turned[k + 8], turned[k + 12]);
        rows[k] = FOURS_EVEN(low_even, high_even);
        rows[k + 4] = FOURS_EVEN(low_odd, high_odd);
        rows[k + 8] = FOURS_ODD(low_even, high_even);
        rows[k + 12] = FOURS_ODD(low_odd, high_odd);
    }
#elif LANES == 8
    for (int k = 0; k < 4; k++) {
        rows[k] = FOURS_EVEN(turned[k], turned[k + 4]);
        rows[k + 4] = FOURS_ODD(turned[k], turned[k + 4]);
    }
#else
    for (int r = 0; r < LANES; r++) rows[r] = turned[r];
#endif
}

/* target[c][r] = factor * rows[r][c] for LANES rows, wherever they are, and `columns` columns. */
static inline void rows_transpose(const float *const rows[LANES], int columns, float factor, float *restrict target,
                                  int64_t target_stride)
{
    int c = 0;
    for (; c + LANES <= columns; c += LANES) {
        vector square[LANES];
        for (int r = 0; r < LANES; r++) square[r] = *(const loose_vector *)(rows[r] + c) * factor;
        square_transpose(square);
        for (int r = 0; r < LANES; r++) *(vector *)(target + (c + r) * target_stride) = square[r];
    }
    for (; c < columns; c++)
        for (int r = 0; r < LANES; r++) target[c * target_stride + r] = rows[r][c] * factor;
}

#endif
