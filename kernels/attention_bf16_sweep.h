/* One sub-block of 32 query rows against packed key blocks, in order. Included by attention_bf16.h, which says how.
 *
 * Three blocks are under way at a time. While the exponentials of block b are computed, the products take the scores of
 * block b + 1 and then the values of block b - 1: a step of vector work after a few of them, because out of order
 * the core does not look far enough ahead to overlap the two by itself.
 *
 *     products  S(b+1) = K(b+1) Q              | O = a(b-1) O + V(b-1) P(b-1)
 *     vectors   P(b) = 2^(S(b) - m(b)), first  | rest of P(b); max of S(b+1)        then m(b+1), a(b+1)
 *
 * None of it depends on what is under way: results are those of one block after the other. */
#ifndef KERNELS_ATTENTION_BF16_SWEEP_H
#define KERNELS_ATTENTION_BF16_SWEEP_H

#include "kernels/attention_bf16_work.h"

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
            int32_t first[BF16_SUB_LANES], last[BF16_SUB_LANES];
        } lane;
    } seen;
    for (int x = 0; x < BF16_SUB_LANES; x++) {
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
        const integers grows = largest > lanes->m[half] + (float)BF16_RESCALE_GAP;
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
    const int score_products = products_steps(d, parts);
    const int value_products = products_steps(e, parts);
    lane_sums lanes;
    vector rescale[2]; /* of the block before */
    bool rescales = false;
    vector_work w = {.factor = splat(scores_have_terms(s) ? 1 : s->factor)};

    for (int half = 0; half < 2; half++) {
        lanes.m[half] = ((const vector *)s->m)[half];
        lanes.l[half] = ((const vector *)s->l)[half];
        rescale[half] = splat(1);
    }
    scores_by_products(s, &s->blocks[0], d, parts, s->scores, &w);
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
            scores_by_products(s, &s->blocks[b + 1], d, parts, next_scores, &w);
            scores_complete(s, &s->blocks[b + 1], next_scores);
            work_next_begin(&w, next_scores, value_products);
        }
        if (b > 0) {
            values_by_products(s, &s->blocks[b - 1], s->p + (b - 1) % 2 * PART_PAIRS * parts, rescale, rescales, e,
                               parts, &w);
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
    values_by_products(s, &s->blocks[s->count - 1], s->p + (s->count - 1) % 2 * PART_PAIRS * parts, rescale, rescales, e,
                       parts, &w);
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
