/* One sub-block of 32 query rows against packed key blocks, in order. Included by attention_amx.h, which says how.
 *
 * Three blocks are under way at a time. While the exponentials of block b are computed, the tiles take the scores of
 * block b + 1 and then the values of block b - 1: a step of vector work after each tile product, because out of order
 * the core does not look far enough ahead to overlap the two by itself.
 *
 *     tiles     S(b+1) = K(b+1) Q              | O = a(b-1) O + V(b-1) P(b-1)
 *     vectors   P(b) = 2^(S(b) - m(b)), first  | rest of P(b); max of S(b+1)        then m(b+1), a(b+1)
 *
 * None of it depends on what is under way: results are those of one block after the other. */
#ifndef KERNELS_ATTENTION_AMX_SWEEP_H
#define KERNELS_ATTENTION_AMX_SWEEP_H

#include "kernels/attention_amx_parts.h"
#include "kernels/attention_amx_tasks.h"
#include "kernels/attention_score_terms.h"

enum {
    BLOCK_PAIRS = ATTENTION_KEY_BLOCK / 2,              /* steps of vector work of a block: two keys by 32 lanes */
    SCORES_HALF = ATTENTION_KEY_BLOCK * LANES,          /* floats */
    SCORES_BLOCK = ATTENTION_KEY_BLOCK * AMX_SUB_LANES, /* floats, and pairs of two parts of P */
    PART_PAIRS = SCORES_BLOCK / 2,                      /* 32-bit pairs of a part of P */
    AMX_RESCALE_GAP = 8,
    AMX_POLL_INTERVAL = 1 << 24, /* flop of one part: 15 to 40 us */
};

/* Keys of a block that each lane sees: [first, last). */
typedef struct {
    integers first[2], last[2];
} tile_ranges;

/* One block of a sweep. */
typedef struct {
    const uint16_t *k, *v;
    const int32_t *positions; /* of the keys, read only with slopes */
    int64_t begin;
    int keys;
    bool hides;       /* some lane does not see each of the 64 keys */
    uint32_t without; /* lanes that take no part */
} sweep_block;

typedef struct {
    const attention_call *call;
    const uint16_t *q;
    float *o, *m, *l, *scores, *sums;
    uint32_t *p;
    const int64_t *visible_begin, *visible_end; /* NULL: every lane sees every key */
    float factor;                               /* of scores in tiles, > 0: |scale| log2(e) */
    score_cap cap;                              /* 0: none */
    const float *slope;                         /* NULL: none */
    const int32_t *position;
    sweep_block blocks[AMX_CHUNK_BLOCKS_MAX];
    int count;
    task_queue *queue;
    int64_t *poll_work; /* flop since the last poll; NULL on threads that do not poll */
} sweep;

static void sweep_poll_after(const sweep *s, int64_t flop)
{
    if (!s->poll_work) return;
    *s->poll_work += flop;
    if (*s->poll_work < AMX_POLL_INTERVAL) return;
    *s->poll_work = 0;
    task_queue_poll(s->queue);
}

/* Which parts' products are kept. Of three parts the product of the first ones comes last, after all terms below 2^-8
 * of it, so that sums round at its size once a tile product and not six times; from one of the others to the next a
 * single tile pair changes. */
typedef struct {
    int left, right;
} part_product;

static const part_product part_products[AMX_PARTS_MAX][6] = {
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

/* The vector work of an iteration, and how far it is. */
typedef struct {
    const float *scores; /* of block b; NULL when done */
    uint32_t *p;
    vector offset[2], factor, sum[2]; /* offset: -m */
    const float *next;                /* of block b + 1; NULL until they are there */
    vector largest[2];
    int pair, next_pair;     /* steps done */
    int credit, next_credit; /* of products done, in steps times products */
    int products, next_products;
} vector_work;

/* 2^x for x <= 8, relative error below 1.1e-4, which is little beside the last place of a bfloat16. Exactly 0 below
 * -127, denormal or 0 below -126. The integer n is added to the exponent: x is not NaN here. */
INLINE vector exp2_coarse(vector x)
{
    const float shift = 0x1.8p23f;
    x = larger(x, splat(-127));
    const vector shifted = x + shift;
    const vector r = x - (shifted - shift); /* in [-1/2, 1/2] */
    vector p = multiply_add(splat(5.50089308e-2f), r, splat(2.42210959e-1f));
    p = multiply_add(p, r, splat(6.93282927e-1f));
    p = multiply_add(p, r, splat(1));
    return (vector)((bits)p + ((bits)shifted << 23));
}

INLINE vector exp2_of_parts(vector x, int parts)
{
    return parts == 1 ? exp2_coarse(x) : exp2_vector(x);
}

INLINE void work_pair(vector_work *w, int parts)
{
    for (int half = 0; half < 2; half++) {
        const vector *row = (const vector *)(w->scores + half * SCORES_HALF + w->pair * 2 * LANES);
        const vector even = exp2_of_parts(multiply_add(row[0], w->factor, w->offset[half]), parts);
        const vector odd = exp2_of_parts(multiply_add(row[1], w->factor, w->offset[half]), parts);
        const int tile = w->pair / TILE_ROWS * 2 + half;
        w->sum[half] += even;
        w->sum[half] += odd;
        probability_pairs_store(even, odd, parts, w->p + tile * TILE_SUMS + w->pair % TILE_ROWS * LANES, PART_PAIRS);
    }
    w->pair++;
}

INLINE void work_next_pair(vector_work *w)
{
    for (int half = 0; half < 2; half++) {
        const vector *row = (const vector *)(w->next + half * SCORES_HALF + w->next_pair * 2 * LANES);
        w->largest[half] = larger(row[0], w->largest[half]);
        w->largest[half] = larger(row[1], w->largest[half]);
    }
    w->next_pair++;
}

/* What is due after one tile product. */
INLINE void work_step(vector_work *w, int parts)
{
    if (w->scores)
        for (w->credit += BLOCK_PAIRS; w->credit >= w->products; w->credit -= w->products) work_pair(w, parts);
    if (w->next)
        for (w->next_credit += BLOCK_PAIRS; w->next_credit >= w->next_products; w->next_credit -= w->next_products)
            work_next_pair(w);
}

INLINE void work_rest(vector_work *w, int parts)
{
    while (w->scores && w->pair < BLOCK_PAIRS) work_pair(w, parts);
    while (w->next && w->next_pair < BLOCK_PAIRS) work_next_pair(w);
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
INLINE void scores_by_tiles(const sweep *s, const sweep_block *block, int width, int parts, float *scores,
                            vector_work *w)
{
    for (int keys = 0; keys < 2; keys++) {
        const tile_sum sum = {.left = block->k + (int64_t)keys * 2 * TILE_NUMBERS,
                              .left_step = 4 * TILE_NUMBERS,
                              .left_part = (int64_t)ATTENTION_KEY_BLOCK * width,
                              .right = s->q,
                              .right_step = 2 * TILE_NUMBERS,
                              .right_part = (int64_t)AMX_SUB_LANES * width,
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
INLINE void values_by_tiles(const sweep *s, const sweep_block *block, const uint32_t *p, const vector *rescale,
                            int width, int parts, vector_work *w)
{
    const int64_t o_half = (int64_t)width * LANES;
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

static int within_keys(int64_t position, const sweep_block *block)
{
    if (position <= block->begin) return 0;
    return position < block->begin + block->keys ? (int)(position - block->begin) : block->keys;
}

/* Scores of keys that a lane does not see, and of those that only fill the block, become -inf. */
static __attribute__((noinline)) void scores_hide(const sweep *s, const sweep_block *block, float *scores)
{
    union {
        tile_ranges vectors;
        struct {
            int32_t first[AMX_SUB_LANES], last[AMX_SUB_LANES];
        } lane;
    } seen;
    for (int x = 0; x < AMX_SUB_LANES; x++) {
        const bool takes_part = !(block->without >> x & 1);
        seen.lane.first[x] = s->visible_begin ? within_keys(s->visible_begin[x], block) : 0;
        seen.lane.last[x] = !takes_part ? 0 : s->visible_end ? within_keys(s->visible_end[x], block) : block->keys;
    }
    for (int half = 0; half < 2; half++)
        for (int j = 0; j < ATTENTION_KEY_BLOCK; j++) {
            vector *row = (vector *)(scores + half * SCORES_HALF + j * LANES);
            *row = blend((seen.vectors.first[half] <= j) & (seen.vectors.last[half] > j), *row, splat(-INFINITY));
        }
}

static bool scores_have_terms(const sweep *s)
{
    return s->cap.cap != 0 || s->slope;
}

/* Scores of a block times the factor, capped and sloped: afterwards their factor is 1. */
static __attribute__((noinline)) void scores_apply_terms(const sweep *s, const sweep_block *block, float *scores)
{
    for (int half = 0; half < 2; half++)
        for (int j = 0; j < ATTENTION_KEY_BLOCK; j++) {
            vector *row = (vector *)(scores + half * SCORES_HALF + j * LANES);
            vector score = *row * s->factor;
            if (s->cap.cap != 0) score = score_capped(score, s->cap);
            if (s->slope) {
                const integers key = block->positions[j] - (integers){0};
                score =
                    score_sloped(score, ((const vector *)s->slope)[half], ((const integers *)s->position)[half], key);
            }
            *row = score;
        }
}

/* What is left to do of a block's scores before their largest is looked for. */
INLINE void scores_complete(const sweep *s, const sweep_block *block, float *scores)
{
    if (scores_have_terms(s)) scores_apply_terms(s, block, scores);
    if (block->hides) scores_hide(s, block, scores);
}

/* What a lane's sums refer to. */
typedef struct {
    vector m[2], l[2];
    vector rescale[2]; /* a of the block whose reference was set last */
    bool rescales;
} lane_sums;

/* m and a for the next block, from its largest scores; l is brought to the new m. */
INLINE void reference_set(lane_sums *lanes, const vector_work *w)
{
    integers any = {0};
    for (int half = 0; half < 2; half++) {
        const vector largest = multiply_add(w->largest[half], w->factor, splat(0)); /* a zero is +0 */
        const integers grows = largest > lanes->m[half] + (float)AMX_RESCALE_GAP;
        const vector grown = blend(grows, largest, lanes->m[half]);
        lanes->rescale[half] = blend(grows, exp2_vector(lanes->m[half] - grown), splat(1));
        lanes->m[half] = grown;
        lanes->l[half] *= lanes->rescale[half];
        any |= grows;
    }
    lanes->rescales = any_lane(any);
}

INLINE void work_begin(vector_work *w, const sweep *s, int index, int parts, const lane_sums *lanes, int products)
{
    w->scores = s->scores + index % 2 * SCORES_BLOCK;
    w->p = s->p + index % 2 * PART_PAIRS * parts;
    w->pair = w->credit = 0;
    w->products = products;
    for (int half = 0; half < 2; half++) {
        /* A lane that has seen nothing has no reference: against 0 its scores of -inf weigh 0, not NaN. */
        w->offset[half] = (vector)((integers)-lanes->m[half] & (integers)(lanes->m[half] != -INFINITY));
        w->sum[half] = (vector){0};
    }
}

INLINE void work_next_begin(vector_work *w, const float *scores, int products)
{
    w->next = scores;
    w->next_pair = w->next_credit = 0;
    w->next_products = products;
    w->largest[0] = w->largest[1] = splat(-INFINITY);
}

INLINE void sweep_run(const sweep *s, int parts)
{
    const int d = tiles_padded(s->call->dim), e = tiles_padded(s->call->value_dim);
    const int score_products = 4 * (2 * d / TILE_DEPTH) * part_product_count(parts);
    const int value_products = 4 * (2 * e / TILE_DEPTH) * part_product_count(parts);
    lane_sums lanes;
    vector rescale[2]; /* of the block before */
    bool rescales = false;
    vector_work w = {.factor = splat(scores_have_terms(s) ? 1 : s->factor)};

    for (int half = 0; half < 2; half++) {
        lanes.m[half] = ((const vector *)s->m)[half];
        lanes.l[half] = ((const vector *)s->l)[half];
        rescale[half] = splat(1);
    }
    scores_by_tiles(s, &s->blocks[0], d, parts, s->scores, &w);
    scores_complete(s, &s->blocks[0], s->scores);
    work_next_begin(&w, s->scores, value_products);
    work_rest(&w, parts);
    reference_set(&lanes, &w);

    for (int b = 0; b < s->count; b++) {
        const bool has_next = b + 1 < s->count;
        float *next_scores = s->scores + (b + 1) % 2 * SCORES_BLOCK;
        work_begin(&w, s, b, parts, &lanes, score_products + value_products);
        w.next = NULL;
        if (has_next) {
            scores_by_tiles(s, &s->blocks[b + 1], d, parts, next_scores, &w);
            scores_complete(s, &s->blocks[b + 1], next_scores);
            work_next_begin(&w, next_scores, value_products);
        }
        if (b > 0) {
            if (parts == 1 && rescales) o_rescale(s->o, e, rescale);
            values_by_tiles(s, &s->blocks[b - 1], s->p + (b - 1) % 2 * PART_PAIRS * parts, rescale, e, parts, &w);
        }
        work_rest(&w, parts);
        for (int half = 0; half < 2; half++) {
            lanes.l[half] += w.sum[half];
            rescale[half] = lanes.rescale[half];
        }
        rescales = lanes.rescales;
        if (has_next) reference_set(&lanes, &w);
        sweep_poll_after(s, (int64_t)(score_products + value_products) * TILE_FLOPS);
    }

    w.scores = w.next = NULL;
    if (parts == 1 && rescales) o_rescale(s->o, e, rescale);
    values_by_tiles(s, &s->blocks[s->count - 1], s->p + (s->count - 1) % 2 * PART_PAIRS * parts, rescale, e, parts, &w);
    for (int half = 0; half < 2; half++) {
        ((vector *)s->m)[half] = lanes.m[half];
        ((vector *)s->l)[half] = lanes.l[half];
    }
}

/* Each compiled on its own. */
static __attribute__((noinline)) void sweep_of_one_part(const sweep *s)
{
    sweep_run(s, 1);
}

static __attribute__((noinline)) void sweep_of_two_parts(const sweep *s)
{
    sweep_run(s, 2);
}

static __attribute__((noinline)) void sweep_of_three_parts(const sweep *s)
{
    sweep_run(s, 3);
}

#endif
