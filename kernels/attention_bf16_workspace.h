/* How a thread of the fold by products of bfloat16 lays out its share of attention_call.workspace: behind the shares of
 * all threads for the blocked fold, which it calls too. Every array starts on 64 bytes. A lane is one query row of the
 * task; 32 lanes are a sub-block, in two halves of 16. D and E are padded to 32. "Parts" are the bfloat16 that a number
 * is split into, "pairs" as in a right tile of kernels/tile_layout.h. */
#ifndef KERNELS_ATTENTION_BF16_WORKSPACE_H
#define KERNELS_ATTENTION_BF16_WORKSPACE_H

#include "kernels/workspace.h"

enum {
    BF16_SUB_LANES = 32,
    BF16_SUB_BLOCKS_MAX = 64,
    BF16_LANE_BYTES = 1024 << 10, /* q and o of a task, about: the more, the less often keys are packed */
    BF16_CHUNK_BYTES = 512 << 10, /* tiles of k and v that the sub-blocks of a task sweep in turn, about: they stay in a
                                   * second-level cache */
    BF16_CHUNK_BLOCKS_MAX = 32,
    BF16_PARTS_MAX = 3,
};

typedef struct {
    uint16_t *q;                          /* [sub][part][D / 32][half][16 pairs][16 lanes][2] */
    float *o;                             /* [sub][half][E][16 lanes] */
    float *m, *l;                         /* [sub][32 lanes] */
    int64_t *visible_begin, *visible_end; /* [sub][32 lanes] */
    uint16_t *k;                          /* [block][part][D / 32][4][16 keys][32] */
    uint16_t *v;                          /* [block][part][E / 32][2][2][16 columns][32 keys]: transposed */
    float *scores;                        /* [2][half][64 keys][16 lanes]: one block ahead */
    uint32_t *p;                          /* [2][part][2][half][16 pairs][16 lanes]: one block behind */
    float *sums;                          /* [half][32 columns][16 lanes] */
    float *rows, *columns;                /* [64][the larger of D and E], and transposed */
    float *slope;                         /* [sub][32 lanes]: ALiBi's, see score_slope */
    int32_t *position;                    /* [sub][32 lanes]: of the query, modulo 2^32 */
    int32_t *key_positions;               /* [block][64], likewise */
    float *rotary;                        /* rotary_create's */
    float *row_m, *row_l;                 /* [32]: of lanes that the blocked fold takes, with o in rows */
    void *blocked;                        /* its workspace */
} bf16_workspace;

static inline int tiles_padded(int dim)
{
    return (dim + 31) / 32 * 32;
}

static inline size_t bf16_block_bytes(int dim, int value_dim, int parts)
{
    return (size_t)ATTENTION_KEY_BLOCK * (size_t)(tiles_padded(dim) + tiles_padded(value_dim)) * (size_t)parts *
           sizeof(uint16_t);
}

/* Key blocks of a chunk. */
static inline int bf16_chunk_blocks(int dim, int value_dim, int parts)
{
    const size_t blocks = BF16_CHUNK_BYTES / bf16_block_bytes(dim, value_dim, parts);
    if (blocks >= BF16_CHUNK_BLOCKS_MAX) return BF16_CHUNK_BLOCKS_MAX;
    return blocks > 1 ? (int)blocks : 1;
}

/* Sub-blocks that a task has room for. */
static inline int bf16_sub_blocks(int dim, int value_dim, int parts)
{
    const int bytes = tiles_padded(dim) * parts * (int)sizeof(uint16_t) + tiles_padded(value_dim) * (int)sizeof(float);
    const int blocks = BF16_LANE_BYTES / (bytes * BF16_SUB_LANES);
    return blocks < BF16_SUB_BLOCKS_MAX ? blocks : BF16_SUB_BLOCKS_MAX;
}

_Static_assert(BF16_LANE_BYTES / ((512 * BF16_PARTS_MAX * 2 + 512 * 4) * BF16_SUB_LANES) >= 1, "any shape has room");

/* `bytes` at *used of base, which may be NULL: then only *used grows. */
static inline void *bf16_take(char *base, size_t *used, size_t bytes)
{
    char *start = base ? base + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return start;
}

/* The layout at `base`, unless NULL; the bytes that it takes. */
static inline size_t bf16_workspace_lay_out(char *base, int dim, int value_dim, int parts, bf16_workspace *space_p)
{
    const size_t d = (size_t)tiles_padded(dim), e = (size_t)tiles_padded(value_dim), n = (size_t)parts;
    const size_t lanes = (size_t)bf16_sub_blocks(dim, value_dim, parts) * BF16_SUB_LANES;
    const size_t keys = (size_t)bf16_chunk_blocks(dim, value_dim, parts) * ATTENTION_KEY_BLOCK;
    const size_t block = ATTENTION_KEY_BLOCK, scores = block * BF16_SUB_LANES, row = block * (d > e ? d : e);
    size_t used = 0;
    space_p->q = bf16_take(base, &used, lanes * d * n * sizeof(uint16_t));
    space_p->o = bf16_take(base, &used, lanes * e * sizeof(float));
    space_p->m = bf16_take(base, &used, lanes * sizeof(float));
    space_p->l = bf16_take(base, &used, lanes * sizeof(float));
    space_p->visible_begin = bf16_take(base, &used, lanes * sizeof(int64_t));
    space_p->visible_end = bf16_take(base, &used, lanes * sizeof(int64_t));
    space_p->k = bf16_take(base, &used, keys * d * n * sizeof(uint16_t));
    space_p->v = bf16_take(base, &used, keys * e * n * sizeof(uint16_t));
    space_p->scores = bf16_take(base, &used, 2 * scores * sizeof(float));
    space_p->p = bf16_take(base, &used, 2 * scores * n * sizeof(uint16_t));
    space_p->sums = bf16_take(base, &used, (size_t)BF16_SUB_LANES * 32 * sizeof(float));
    space_p->rows = bf16_take(base, &used, row * sizeof(float));
    space_p->columns = bf16_take(base, &used, row * sizeof(float));
    space_p->slope = bf16_take(base, &used, lanes * sizeof(float));
    space_p->position = bf16_take(base, &used, lanes * sizeof(int32_t));
    space_p->key_positions = bf16_take(base, &used, keys * sizeof(int32_t));
    space_p->rotary = bf16_take(base, &used, rotary_floats(dim) * sizeof(float));
    space_p->row_m = bf16_take(base, &used, BF16_SUB_LANES * sizeof(float));
    space_p->row_l = bf16_take(base, &used, BF16_SUB_LANES * sizeof(float));
    return used;
}

/* Bytes of one thread's share, a multiple of 64, for any number of parts. */
static inline size_t bf16_workspace_bytes(int dim, int value_dim)
{
    size_t most = 0;
    for (int parts = 1; parts <= BF16_PARTS_MAX; parts++) {
        bf16_workspace space;
        const size_t bytes = bf16_workspace_lay_out(NULL, dim, value_dim, parts, &space);
        if (bytes > most) most = bytes;
    }
    return most;
}

static inline bf16_workspace bf16_workspace_of_thread(const attention_call *call, int parts, int thread)
{
    const size_t blocked = workspace_floats(call->dim, call->value_dim) * sizeof(float);
    const size_t share = bf16_workspace_bytes(call->dim, call->value_dim);
    char *start = call->workspace;
    bf16_workspace space;
    bf16_workspace_lay_out(start + (size_t)call->threads * blocked + (size_t)thread * share, call->dim, call->value_dim,
                          parts, &space);
    space.blocked = start + (size_t)thread * blocked;
    return space;
}

#endif
