/* The products of the fold by tiles: AMX, or tiles in memory with TILES_EMULATED (kernels/tiles.h).
 *
 * Counts of 1,024 scores, D = E = 64 (measured rates of the parts on one Sapphire-Rapids-class core: 5.2 ns a product,
 * 2.5 ns a tile load, 4.7 ns a store; one 512-bit float operation a cycle beside running products):
 *
 *                      products    loads       stores     float vector operations
 *     scores               8      8               4
 *     values               8      8 + 4 (o)       4
 *     max                                                   64
 *     exponential, sum                                      64 x 9 (x - m, clamp, 3 to round, 3 of the polynomial, sum)
 *     bf16                16     20               8        640: tiles 160 ns, vectors 190 ns where they overlap: 43 %
 *                                                          of the tile peak at best
 *     bf16x3              48     32 + 4           8      1,070: tiles 3 x, vectors hidden: 2.9 x the float32 peak
 *     bf16x6              96     56 + 4           8      1,330: tiles 6 x: 2.0 x the float32 peak with its loads
 *
 * so bf16 is bound by the vectors and the others by the tiles. AVX512_BF16 has no part in it: conversions to bfloat16
 * are integer work that it does not save. */
#ifndef KERNELS_ATTENTION_BF16_TILES_H
#define KERNELS_ATTENTION_BF16_TILES_H

#include "kernels/attention_bf16_work.h"
#include "kernels/attention_peak.h"
#include "kernels/tiles.h"

enum { PRODUCT_PARTS = BF16_PARTS_MAX };

/* Which parts' products are kept. Of three parts the product of the first ones comes last, after all terms below 2^-8
 * of it, so that sums round at its size once a tile product and not six times; from one of the others to the next a
 * single tile pair changes. */
typedef struct {
    int left, right;
} part_product;

static const part_product part_products[BF16_PARTS_MAX][6] = {
    {{0, 0}},
    {{1, 0}, {0, 0}, {0, 1}},
    {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}},
};

INLINE int part_product_count(int parts)
{
    return parts * (parts + 1) / 2;
}

/* Products that all steps of a sum take first; the rest follow in a second round. */
INLINE int part_product_first_count(int parts)
{
    return parts == 3 ? 5 : part_product_count(parts);
}

/* Steps of vector work in the products of 64 keys and `width` elements or columns by 32 lanes. */
INLINE int products_steps(int width, int parts)
{
    return 4 * (2 * width / TILE_DEPTH) * part_product_count(parts);
}

INLINE void products_begin(void)
{
    tiles_configure();
}

INLINE void products_end(void)
{
    tiles_release();
}

/* One of the kept products of parts, in all steps of a sum. */
typedef struct {
    const uint16_t *left, *right;
    int64_t left_step, right_step, left_part, right_part; /* numbers from one step, or part, to the next */
    int steps;
} tile_sum;

/* sums += products [first, last) of the parts in one step. */
INLINE void tiles_multiply_parts(const tile_sum *sum, int step, int first, int last, int parts, vector_work *w)
{
    const part_product *products = part_products[parts - 1];
    for (int n = first; n < last; n++) {
        if (n == first || products[n].left != products[n - 1].left)
            tiles_left_load(sum->left + step * sum->left_step + products[n].left * sum->left_part);
        if (n == first || products[n].right != products[n - 1].right)
            tiles_right_load(sum->right + step * sum->right_step + products[n].right * sum->right_part);
        tiles_multiply(0, 0);
        work_step(w, parts);
        tiles_multiply(0, 1);
        work_step(w, parts);
        tiles_multiply(1, 0);
        work_step(w, parts);
        tiles_multiply(1, 1);
        work_step(w, parts);
    }
}

INLINE void tiles_sum(const tile_sum *sum, int parts, vector_work *w)
{
    const int first = part_product_first_count(parts), all = part_product_count(parts);
    for (int step = 0; step < sum->steps; step++) tiles_multiply_parts(sum, step, 0, first, parts, w);
    if (first == all) return;
    for (int step = 0; step < sum->steps; step++) tiles_multiply_parts(sum, step, first, all, parts, w);
}

/* S of a block of 64 keys, to be multiplied by the factor. */
INLINE void scores_by_products(const sweep *s, const sweep_block *block, int width, int parts, float *scores,
                            vector_work *w)
{
    for (int keys = 0; keys < 2; keys++) {
        const tile_sum sum = {.left = block->k + (int64_t)keys * 2 * TILE_NUMBERS,
                              .left_step = 4 * TILE_NUMBERS,
                              .left_part = (int64_t)ATTENTION_KEY_BLOCK * width,
                              .right = s->q,
                              .right_step = 2 * TILE_NUMBERS,
                              .right_part = (int64_t)BF16_SUB_LANES * width,
                              .steps = width / TILE_DEPTH};
        tiles_zero();
        tiles_sum(&sum, parts, w);
        tiles_sums_store(scores + keys * 2 * TILE_SUMS, SCORES_HALF);
    }
}

/* O = a O + sums, of 32 columns. */
INLINE void sums_add(const float *sums, const vector *rescale, float *o, int64_t o_half)
{
    for (int half = 0; half < 2; half++)
        for (int e = 0; e < 32; e++) {
            vector *out = (vector *)(o + half * o_half + e * LANES);
            *out = multiply_add(*out, rescale[half], *(const vector *)(sums + half * 2 * TILE_SUMS + e * LANES));
        }
}

static __attribute__((noinline)) void o_rescale(float *o, int width, const vector *rescale)
{
    vector *out = (vector *)o;
    for (int half = 0; half < 2; half++)
        for (int e = 0; e < width; e++) out[half * width + e] *= rescale[half];
}

/* O = a O + V P of a block. With one part the tiles add to O itself, whose rounding is nothing beside that of bfloat16;
 * else the sums of a block are formed from zero and then added, so that the error does not grow with the products. */
INLINE void values_by_products(const sweep *s, const sweep_block *block, const uint32_t *p, const vector *rescale,
                               bool rescales, int width, int parts, vector_work *w)
{
    const int64_t o_half = (int64_t)width * LANES;
    if (parts == 1 && rescales) o_rescale(s->o, width, rescale);
    for (int e = 0; e < width / 32; e++) {
        float *o = s->o + (int64_t)e * 32 * LANES;
        if (parts == 1) tiles_sums_load(o, o_half);
        else tiles_zero();
        const tile_sum sum = {.left = block->v + (int64_t)e * 4 * TILE_NUMBERS,
                              .left_step = 2 * TILE_NUMBERS,
                              .left_part = (int64_t)ATTENTION_KEY_BLOCK * width,
                              .right = (const uint16_t *)p,
                              .right_step = 2 * TILE_NUMBERS,
                              .right_part = 2 * PART_PAIRS,
                              .steps = 2};
        tiles_sum(&sum, parts, w);
        if (parts == 1) tiles_sums_store(o, o_half);
        else {
            tiles_sums_store(s->sums, 2 * TILE_SUMS);
            sums_add(s->sums, rescale, o, o_half);
        }
    }
}

/* Products whose sums are four registers, as many as can be under way. */
enum { TILE_PEAK_STEPS = 4000 };

static void tiles_burst(void *zeros)
{
    tiles_zero();
    tiles_left_load(zeros);
    tiles_right_load(zeros);
    for (int step = 0; step < TILE_PEAK_STEPS; step++) {
        tiles_multiply(0, 0);
        tiles_multiply(0, 1);
        tiles_multiply(1, 0);
        tiles_multiply(1, 1);
    }
}

static double products_peak(double seconds)
{
    static uint16_t zeros[2 * TILE_NUMBERS] __attribute__((aligned(64)));
    products_begin();
    const double best = best_rate(tiles_burst, zeros, (double)TILE_PEAK_STEPS * 4 * TILE_FLOPS, seconds);
    products_end();
    return best;
}

#endif
