/* How a thread of the blocked kernels lays out its share of attention_call.workspace. Every array starts on 64 bytes.
 * A lane is one query row of the task; rows of lanes are sub-blocks, [sub-block][axis][lane of the sub-block]. */
#ifndef KERNELS_WORKSPACE_H
#define KERNELS_WORKSPACE_H

#include "kernels/attention.h"
#include "kernels/attention_rotary.h"

enum {
    WORKSPACE_LANES_MAX = 768,     /* lanes of a task, at most: those that have m, l and the like */
    WORKSPACE_LANE_FLOATS = 98304, /* q and o of all sub-blocks, about: they stay in a second-level cache */
    WORKSPACE_SUB_LANES = 48,      /* lanes of a sub-block, at most; lanes of a task are a multiple */
    WORKSPACE_ROWS = 16,           /* lanes of a native vector, at most */
    VALUE_TILE = 16,               /* value columns are padded to a multiple of this */
};

typedef struct {
    float *q;      /* [sub][D][lane], times scale * log2(e) */
    float *o;      /* [lane][E padded] */
    float *m, *l;  /* [sub][lane] */
    float *scores; /* [key of the block][lane], of one sub-block */
    float *k, *v;  /* [key of the block][D], [key of the block][value_row_floats]: the block, copied */
    float *rows;   /* [WORKSPACE_ROWS][D]: queries on their way to lanes */
    int64_t *visible_begin, *visible_end;    /* [sub][lane] */
    int64_t *q_offset, *state_row;           /* [sub][lane]: of the row in the span's q, in elements, and in its state */
    int64_t *next_q_offset, *next_state_row; /* the same of the task to come */
    float *slope;                            /* [sub][lane]: ALiBi's, see score_slope */
    int32_t *position;                       /* [sub][lane]: of the query, modulo 2^32 */
    int32_t *key_positions;                  /* [key of the block], modulo 2^32 */
    float *rotary;                           /* rotary_create's */
} task_workspace;

static inline int value_dim_padded(int value_dim)
{
    return (value_dim + VALUE_TILE - 1) / VALUE_TILE * VALUE_TILE;
}

/* Lanes of a task of this shape that q and o have room for. */
static inline int workspace_lanes(int dim, int value_dim)
{
    const int lanes = WORKSPACE_LANE_FLOATS / (dim + value_dim_padded(value_dim));
    if (lanes >= WORKSPACE_LANES_MAX) return WORKSPACE_LANES_MAX;
    return lanes / WORKSPACE_SUB_LANES * WORKSPACE_SUB_LANES;
}

static inline size_t rounded_up(size_t count, size_t unit)
{
    return (count + unit - 1) / unit * unit;
}

/* Floats from one row to the next where columns are read down the rows: whole vectors of any ISA, and an odd number of
 * cache lines, because rows 2^n lines apart would share a few sets of the cache. */
static inline size_t odd_lines(size_t floats)
{
    const size_t row = rounded_up(floats, 16);
    return row % 32 == 0 ? row + 16 : row;
}

/* Of copied rows of values. */
static inline size_t value_row_floats(int value_dim)
{
    return odd_lines((size_t)value_dim);
}

/* Floats of one thread's share, a multiple of 16. */
static inline size_t workspace_floats(int dim, int value_dim)
{
    const size_t columns = (size_t)dim + (size_t)value_dim_padded(value_dim);
    const size_t places = 6 * sizeof(int64_t) / sizeof(float);
    return (size_t)workspace_lanes(dim, value_dim) * columns + WORKSPACE_LANES_MAX * (4 + places) +
           WORKSPACE_ROWS * (size_t)dim +
           ATTENTION_KEY_BLOCK * (WORKSPACE_SUB_LANES + (size_t)dim + value_row_floats(value_dim) + 1) +
           rounded_up(rotary_floats(dim), 16);
}

static inline task_workspace workspace_of_thread(const attention_call *call, int thread)
{
    const size_t dim = (size_t)call->dim, padded = (size_t)value_dim_padded(call->value_dim);
    const size_t lanes = (size_t)workspace_lanes(call->dim, call->value_dim);
    task_workspace space;
    float *next = (float *)call->workspace + (size_t)thread * workspace_floats(call->dim, call->value_dim);
    space.visible_begin = (int64_t *)(void *)next;
    space.visible_end = space.visible_begin + WORKSPACE_LANES_MAX;
    space.q_offset = space.visible_end + WORKSPACE_LANES_MAX;
    space.state_row = space.q_offset + WORKSPACE_LANES_MAX;
    space.next_q_offset = space.state_row + WORKSPACE_LANES_MAX;
    space.next_state_row = space.next_q_offset + WORKSPACE_LANES_MAX;
    next = (float *)(void *)(space.next_state_row + WORKSPACE_LANES_MAX);
    space.q = next;
    space.o = space.q + lanes * dim;
    space.m = space.o + lanes * padded;
    space.l = space.m + WORKSPACE_LANES_MAX;
    space.scores = space.l + WORKSPACE_LANES_MAX;
    space.rows = space.scores + ATTENTION_KEY_BLOCK * WORKSPACE_SUB_LANES;
    space.k = space.rows + WORKSPACE_ROWS * dim;
    space.v = space.k + ATTENTION_KEY_BLOCK * dim;
    space.slope = space.v + ATTENTION_KEY_BLOCK * value_row_floats(call->value_dim);
    space.position = (int32_t *)(void *)(space.slope + WORKSPACE_LANES_MAX);
    space.key_positions = space.position + WORKSPACE_LANES_MAX;
    space.rotary = (float *)(void *)(space.key_positions + ATTENTION_KEY_BLOCK);
    return space;
}

#endif
