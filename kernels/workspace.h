/* How a thread of the blocked kernels lays out its share of attention_call.workspace. Every array starts on 64 bytes.
 * A lane is one query row of the task; rows of lanes are sub-blocks, [sub-block][axis][lane of the sub-block]. */
#ifndef KERNELS_WORKSPACE_H
#define KERNELS_WORKSPACE_H

#include "kernels/attention.h"

enum {
    WORKSPACE_LANES = 192,    /* lanes of a task, at most */
    WORKSPACE_SUB_LANES = 48, /* lanes of a sub-block, at most */
    VALUE_TILE = 8,           /* value columns are padded to a multiple of this */
};

typedef struct {
    float *q;      /* [sub][D][lane], times scale * log2(e) */
    float *o;      /* [sub][E padded][lane] */
    float *m, *l;  /* [sub][lane] */
    float *scores; /* [key of the block][lane], of one sub-block */
    float *k, *v;  /* [key of the block][D], [key of the block][E padded]: the block where it cannot be used in place */
    int64_t *visible_begin, *visible_end; /* [sub][lane] */
} task_workspace;

static inline int value_dim_padded(int value_dim)
{
    return (value_dim + VALUE_TILE - 1) / VALUE_TILE * VALUE_TILE;
}

/* Floats of one thread's share, a multiple of 16. */
static inline size_t workspace_floats(int dim, int value_dim)
{
    const size_t columns = (size_t)dim + (size_t)value_dim_padded(value_dim);
    const size_t visible = 2 * sizeof(int64_t) / sizeof(float);
    return WORKSPACE_LANES * (columns + 2 + visible) + ATTENTION_KEY_BLOCK * (WORKSPACE_SUB_LANES + columns);
}

static inline task_workspace workspace_of_thread(const attention_call *call, int thread)
{
    const size_t dim = (size_t)call->dim, padded = (size_t)value_dim_padded(call->value_dim);
    task_workspace space;
    float *next = (float *)call->workspace + (size_t)thread * workspace_floats(call->dim, call->value_dim);
    space.visible_begin = (int64_t *)(void *)next;
    space.visible_end = space.visible_begin + WORKSPACE_LANES;
    next = (float *)(void *)(space.visible_end + WORKSPACE_LANES);
    space.q = next;
    space.o = space.q + WORKSPACE_LANES * dim;
    space.m = space.o + WORKSPACE_LANES * padded;
    space.l = space.m + WORKSPACE_LANES;
    space.scores = space.l + WORKSPACE_LANES;
    space.k = space.scores + ATTENTION_KEY_BLOCK * WORKSPACE_SUB_LANES;
    space.v = space.k + ATTENTION_KEY_BLOCK * dim;
    return space;
}

#endif
