/* What a sweep of key blocks is given, and the vector work that it does between products of bfloat16. Included by the
 * products (kernels/attention_bf16_tiles.h, kernels/attention_bf16_dots.h) and by attention_bf16_sweep.h. */
#ifndef KERNELS_ATTENTION_BF16_WORK_H
#define KERNELS_ATTENTION_BF16_WORK_H

#include "kernels/attention_bf16_parts.h"
#include "kernels/attention_queue.h"
#include "kernels/attention_score_terms.h"

enum {
    BLOCK_PAIRS = ATTENTION_KEY_BLOCK / 2,               /* steps of vector work of a block: two keys by 32 lanes */
    SCORES_HALF = ATTENTION_KEY_BLOCK * LANES,           /* floats */
    SCORES_BLOCK = ATTENTION_KEY_BLOCK * BF16_SUB_LANES, /* floats, and pairs of two parts of P */
    PART_PAIRS = SCORES_BLOCK / 2,                       /* 32-bit pairs of a part of P */
    BF16_RESCALE_GAP = 8,
    BF16_POLL_INTERVAL = 1 << 24, /* flop of one part: 15 to 40 us */
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
    float factor;                               /* of scores as products give them, > 0: |scale| log2(e) */
    score_cap cap;                              /* 0: none */
    const float *slope;                         /* NULL: none */
    const int32_t *position;
    sweep_block blocks[BF16_CHUNK_BLOCKS_MAX];
    int count;
    task_queue *queue;
    int64_t *poll_work; /* flop since the last poll; NULL on threads that do not poll */
} sweep;

static void sweep_poll_after(const sweep *s, int64_t flop)
{
    if (!s->poll_work) return;
    *s->poll_work += flop;
    if (*s->poll_work < BF16_POLL_INTERVAL) return;
    *s->poll_work = 0;
    task_queue_poll(s->queue);
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

/* What is due after one step of products. */
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

#endif
