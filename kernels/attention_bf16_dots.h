/* The products of the fold by AVX512_BF16: VDPBF16PS adds the products of 16 pairs to 16 float32. One part alone: where
 * an instruction has twice the multiply-adds of a float32 one, three products would be slower than float32.
 *
 * DOT_ROWS keys, or value columns, by 32 lanes are in registers; a pair of a left tile's row is broadcast from where it
 * is and serves two vectors of a right tile. Of 1,024 scores, D = E = 64, 2 x 2,048 VDPBF16PS stand beside the 640 float
 * vector operations that kernels/attention_bf16_tiles.h counts, of which 260 are multiply-adds and take the same units.
 * A Zen 4 issues one 512-bit product a cycle: at best 94 % of the peak at D = 64.
 *
 * With DOTS_EMULATED for any CPU: the product is what Intel's manual says of VDPBF16PS (Software Developer's Manual,
 * volume 2): the second numbers of the pairs are multiplied and added, then the first, to nearest even, denormals taken
 * as zero and flushed. Products of two bfloat16 are exact in float32; denormals are the state of the thread. A Zen 4
 * does the same, bit for bit: tests/kernels/test_compute.c. */
#ifndef KERNELS_ATTENTION_BF16_DOTS_H
#define KERNELS_ATTENTION_BF16_DOTS_H

#include "kernels/attention_bf16_work.h"
#include "kernels/attention_peak.h"

enum { PRODUCT_PARTS = 1, DOT_ROWS = 8 };

typedef uint32_t number_pair __attribute__((may_alias));

/* sum + left[1] right[1] + left[0] right[0] of the pairs of each lane. */
INLINE vector dot_add(vector sum, bits left, bits right)
{
#if defined(DOTS_EMULATED)
    sum += (vector)(left & 0xffff0000u) * (vector)(right & 0xffff0000u);
    return sum + (vector)(left << 16) * (vector)(right << 16);
#else
    return _mm512_dpbf16_ps(sum, (__m512bh)left, (__m512bh)right);
#endif
}

/* Steps of vector work in the products of 64 keys and `width` elements or columns by 32 lanes. */
INLINE int products_steps(int width, int parts)
{
    (void)parts;
    return ATTENTION_KEY_BLOCK / DOT_ROWS * (width / TILE_DEPTH);
}

INLINE void products_begin(void)
{
}

INLINE void products_end(void)
{
}

/* sums += rows of a left tile, from `left` on, times two right tiles, of `pairs` pairs. */
INLINE void dots_add(const uint16_t *restrict left, const uint16_t *restrict right, int pairs,
                     vector sums[restrict DOT_ROWS][2])
{
    for (int n = 0; n < pairs; n++) {
        const bits first = *(const bits *)(right + n * 2 * LANES);
        const bits second = *(const bits *)(right + TILE_NUMBERS + n * 2 * LANES);
        for (int r = 0; r < DOT_ROWS; r++) {
            const bits pair = *(const number_pair *)(left + r * TILE_DEPTH + 2 * n) + (bits){0};
            sums[r][0] = dot_add(sums[r][0], pair, first);
            sums[r][1] = dot_add(sums[r][1], pair, second);
        }
    }
}

/* Rows [row, row + DOT_ROWS) of the left tiles of 64 keys' scores, or of 32 columns. */
INLINE const uint16_t *dots_rows(const uint16_t *tiles, int row)
{
    return tiles + row / TILE_ROWS * TILE_NUMBERS + row % TILE_ROWS * TILE_DEPTH;
}

/* S of a block of 64 keys, to be multiplied by the factor. */
INLINE void scores_by_products(const sweep *s, const sweep_block *block, int width, int parts, float *scores,
                               vector_work *w)
{
    const int steps = s->call->dim / TILE_DEPTH, rest = (s->call->dim % TILE_DEPTH + 1) / 2;
    (void)width;
    for (int key = 0; key < ATTENTION_KEY_BLOCK; key += DOT_ROWS) {
        const uint16_t *left = dots_rows(block->k, key), *right = s->q;
        vector sums[DOT_ROWS][2] = {{{0}}};
        for (int step = 0; step < steps; step++, left += 4 * TILE_NUMBERS, right += 2 * TILE_NUMBERS) {
            dots_add(left, right, TILE_DEPTH / 2, sums);
            work_step(w, parts);
        }
        if (rest) {
            dots_add(left, right, rest, sums);
            work_step(w, parts);
        }
        for (int r = 0; r < DOT_ROWS; r++)
            for (int half = 0; half < 2; half++)
                *(vector *)(scores + half * SCORES_HALF + (key + r) * LANES) = sums[r][half];
    }
}

/* O = a O + V P of a block. */
INLINE void values_by_products(const sweep *s, const sweep_block *block, const uint32_t *p, const vector *rescale,
                               bool rescales, int width, int parts, vector_work *w)
{
    const int64_t o_half = (int64_t)width * LANES;
    (void)rescales;
    for (int e = 0; e < s->call->value_dim; e += DOT_ROWS) {
        const uint16_t *left = dots_rows(block->v + (int64_t)e / 32 * 4 * TILE_NUMBERS, e % 32);
        vector sums[DOT_ROWS][2] = {{{0}}};
        for (int step = 0; step < 2; step++) {
            dots_add(left + step * 2 * TILE_NUMBERS, (const uint16_t *)p + step * 2 * TILE_NUMBERS, TILE_DEPTH / 2,
                     sums);
            work_step(w, parts);
        }
        for (int r = 0; r < DOT_ROWS; r++)
            for (int half = 0; half < 2; half++) {
                vector *out = (vector *)(s->o + half * o_half + (e + r) * LANES);
                *out = multiply_add(*out, rescale[half], sums[r][half]);
            }
    }
}

static __attribute__((noinline)) void dots_burst(void *data)
{
    vector *restrict chains = data;
    const bits pairs = {0};
    vector c[CHAINS];
    for (int i = 0; i < CHAINS; i++) c[i] = chains[i];
    for (int step = 0; step < PEAK_STEPS; step++)
        for (int i = 0; i < CHAINS; i++) c[i] = dot_add(c[i], pairs, pairs);
    for (int i = 0; i < CHAINS; i++) chains[i] = c[i];
}

static double products_peak(double seconds)
{
    vector chains[CHAINS] = {{0}};
    return best_rate(dots_burst, chains, (double)PEAK_STEPS * CHAINS * LANES * 4, seconds);
}

#endif
