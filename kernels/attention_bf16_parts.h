/* Numbers as sums of bfloat16, and where they go in tiles (kernels/tile_layout.h). Included by attention_bf16.h.
 *
 * A float32 x splits into parts x1 + x2 + x3, each the bfloat16 nearest to what is left: |x - x1| <= 2^-9 |x|, and so
 * on by 2^-9; three hold all 24 bits, two hold a float16 exactly (Henry, Tang, Heinecke, arXiv 1904.06376, section 2).
 * That needs numbers whose parts neither overflow nor are flushed as denormals, and products that do not. So the fold
 * takes by products of bfloat16 only
 *
 *     scale log2(e) <= 2^38, and |q|, |q scale log2(e)|, |k| < 2^55
 *         A score then is finite. Parts of small ones that are flushed change it by less than D 2^-126 2^55 2^38 <= 2^-24,
 *         which is nothing beside its exponential's own error.
 *     |v| < 2^100, and v = 0 or |v| >= 2^-80 (three parts), 2^-88 (two)
 *         p v is flushed where it is below 2^-126: of 2^20 keys together no more than 2^-26, or 2^-18, of one whose p is
 *         its row's largest. One part has no lower limit: of |v| >= 2^-117 what is flushed of the largest p v is within
 *         its rounding. Denormal v is 0 here as in every fold.
 *
 * and leaves other query rows and keys to the blocked fold. The limits are as wide as that allows: where they are passed
 * a rate depends on the data. */
#ifndef KERNELS_ATTENTION_BF16_PARTS_H
#define KERNELS_ATTENTION_BF16_PARTS_H

#include "kernels/attention_bf16_workspace.h"
#include "kernels/attention_vector.h"
#include "kernels/tile_layout.h"

#include <stdbool.h>
#include <string.h>

typedef uint16_t halves __attribute__((vector_size(LANES * 2), may_alias, aligned(2)));

static const float key_limit = 0x1p55f;
static const double factor_limit = 0x1p38;
static const float value_limit = 0x1p100f;
static const float value_least[BF16_PARTS_MAX] = {0x1p-126f, 0x1p-88f, 0x1p-80f};

/* The bfloat16 nearest to x, ties to even, in the upper half of each lane. */
INLINE bits part_nearest(vector x)
{
    return ((bits)x + 0x7fffu + (((bits)x >> 16) & 1u)) & 0xffff0000u;
}

/* Pairs of the upper halves of two rows. */
INLINE bits pair_of_parts(bits even, bits odd)
{
    return even >> 16 | (odd & 0xffff0000u);
}

/* 16 numbers of a row, part n at target + n * stride. */
INLINE void parts_store(vector x, int parts, uint16_t *target, int64_t stride)
{
    for (int n = 0; n < parts; n++) {
        const bits part = part_nearest(x);
        *(halves *)(target + n * stride) = __builtin_convertvector(part >> 16, halves);
        x -= (vector)part;
    }
}

/* 16 pairs, likewise. */
INLINE void part_pairs_store(vector even, vector odd, int parts, uint16_t *target, int64_t stride)
{
    for (int n = 0; n < parts; n++) {
        const bits a = part_nearest(even), b = part_nearest(odd);
        *(bits *)(target + n * stride) = pair_of_parts(a, b);
        even -= (vector)a;
        odd -= (vector)b;
    }
}

/* The same of probabilities, which are not negative: cut off, not rounded, so that what is left is exact and not
 * negative either; the last part is rounded. */
INLINE void probability_pairs_store(vector even, vector odd, int parts, uint32_t *target, int64_t stride)
{
    for (int n = 0; n < parts - 1; n++) {
        const bits a = (bits)even & 0xffff0000u, b = (bits)odd & 0xffff0000u;
        *(bits *)(target + n * stride) = pair_of_parts(a, b);
        even -= (vector)a;
        odd -= (vector)b;
    }
    *(bits *)(target + (parts - 1) * stride) = pair_of_parts((bits)even + 0x8000u, (bits)odd + 0x8000u);
}

INLINE bool any_lane(integers choose)
{
#if defined(__AVX512DQ__)
    return _mm512_movepi32_mask((__m512i)choose) != 0;
#else
    int32_t any = 0;
    for (int x = 0; x < LANES; x++) any |= choose[x];
    return any != 0;
#endif
}

/* Whether a row of `width` numbers, a multiple of 16, may go to tiles as a query or key: all |x| and |x factor| <
 * limit. */
static bool key_splits(const float *row, int width, float factor)
{
    integers beyond = {0};
    for (int i = 0; i < width; i += LANES) {
        const vector x = *(const vector *)(row + i), product = x * factor;
        /* The bits of magnitudes order as integers, NaN above all. */
        beyond |= ((integers)x & 0x7fffffff) >= (int32_t)float_bits(key_limit);
        beyond |= ((integers)product & 0x7fffffff) >= (int32_t)float_bits(key_limit);
    }
    return !any_lane(beyond);
}

/* The same of a value. */
static bool value_splits(const float *row, int width, int parts)
{
    const int32_t normal = (int32_t)float_bits(0x1p-126f), low = (int32_t)float_bits(value_least[parts - 1]);
    const int32_t high = (int32_t)float_bits(value_limit);
    integers beyond = {0};
    for (int i = 0; i < width; i += LANES) {
        const integers magnitude = *(const integers *)(row + i) & 0x7fffffff;
        beyond |= ((magnitude >= normal) & (magnitude < low)) | (magnitude >= high);
    }
    return !any_lane(beyond);
}

/* The same of bfloat16 that go to tiles as they are, in one part: all |x| < limit. */
static bool numbers_below(const uint16_t *row, int count, float limit)
{
    uint16_t largest = 0;
    for (int i = 0; i < count; i++) {
        const uint16_t magnitude = row[i] & 0x7fffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest < float_bits(limit) >> 16;
}

/* A row of `width` numbers, a multiple of 32, as row `key` of the left tiles of a block of 64 keys. */
INLINE void key_to_tiles(const float *row, int width, int key, int parts, uint16_t *block)
{
    const int64_t stride = (int64_t)ATTENTION_KEY_BLOCK * width;
    for (int d = 0; d < width; d += LANES) {
        uint16_t *target = block + (int64_t)(d / TILE_DEPTH * 4 + key / TILE_ROWS) * TILE_NUMBERS +
                           key % TILE_ROWS * TILE_DEPTH + d % TILE_DEPTH;
        parts_store(*(const vector *)(row + d), parts, target, stride);
    }
}

/* Column `e` of the values of 64 keys as a row of the left tiles of a block, of `width` columns. */
INLINE void value_column_to_tiles(const float *column, int width, int e, int parts, uint16_t *block)
{
    const int64_t stride = (int64_t)ATTENTION_KEY_BLOCK * width;
    for (int key = 0; key < ATTENTION_KEY_BLOCK; key += LANES) {
        const int tile = (e / 32 * 2 + key / TILE_DEPTH) * 2 + e % 32 / TILE_ROWS;
        uint16_t *target = block + (int64_t)tile * TILE_NUMBERS + e % TILE_ROWS * TILE_DEPTH + key % TILE_DEPTH;
        parts_store(*(const vector *)(column + key), parts, target, stride);
    }
}

/* `count` bfloat16, as they are, as row `key` of the left tiles of a block of 64 keys. */
INLINE void key_numbers_to_tiles(const uint16_t *row, int count, int key, uint16_t *block)
{
    uint16_t *target = block + (int64_t)(key / TILE_ROWS) * TILE_NUMBERS + key % TILE_ROWS * TILE_DEPTH;
    for (; count >= TILE_DEPTH; count -= TILE_DEPTH, row += TILE_DEPTH, target += 4 * TILE_NUMBERS)
        memcpy(target, row, TILE_DEPTH * sizeof *row);
    for (int i = 0; i < TILE_DEPTH && count > 0; i++) target[i] = i < count ? row[i] : 0;
}

/* The same of columns e, which is even, and e + 1 of the values of 64 keys, a pair each. */
INLINE void value_pairs_to_tiles(const uint32_t *pairs, int e, uint16_t *block)
{
    for (int key = 0; key < ATTENTION_KEY_BLOCK; key += LANES) {
        const int tile = (e / 32 * 2 + key / TILE_DEPTH) * 2 + e % 32 / TILE_ROWS;
        uint16_t *target = block + (int64_t)tile * TILE_NUMBERS + e % TILE_ROWS * TILE_DEPTH + key % TILE_DEPTH;
        const bits pair = *(const bits *)(pairs + key);
        *(halves *)target = __builtin_convertvector(pair & 0xffffu, halves);
        *(halves *)(target + TILE_DEPTH) = __builtin_convertvector(pair >> 16, halves);
    }
}

/* Columns [width][32 lanes] of queries as right tiles. */
INLINE void queries_to_tiles(const float *columns, int width, int parts, uint16_t *target)
{
    const int64_t stride = (int64_t)BF16_SUB_LANES * width;
    for (int d = 0; d < width; d += 2)
        for (int half = 0; half < 2; half++) {
            const float *even = columns + d * BF16_SUB_LANES + half * LANES;
            uint16_t *pairs =
                target + (int64_t)(d / TILE_DEPTH * 2 + half) * TILE_NUMBERS + d % TILE_DEPTH / 2 * (2 * LANES);
            part_pairs_store(*(const vector *)even, *(const vector *)(even + BF16_SUB_LANES), parts, pairs, stride);
        }
}

#endif
