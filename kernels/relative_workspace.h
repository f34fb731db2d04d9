/* Where attention_relative has its table and what a thread makes of it. */
#ifndef KERNELS_RELATIVE_WORKSPACE_H
#define KERNELS_RELATIVE_WORKSPACE_H

#include "kernels/workspace.h"

enum {
    RELATIVE_MARGIN = ATTENTION_KEY_BLOCK, /* columns of zeros before and after those of a table: read, never used */
    RELATIVE_COLUMNS = 320,                /* products of a row with columns of the table that are kept, at most */
    RELATIVE_PAD = 16,                     /* before and after those: read or written, never used */
    RELATIVE_SUB_BLOCKS = 64,              /* of a task, at most, on any ISA */
};

/* Of the rows of a sub-block: where they are, and the columns [first, last) whose products are kept. */
typedef struct {
    int64_t first_position, last_position;
    int first, last;
} relative_run;

typedef struct {
    float *products;    /* [sub][lane][relative_pitch]: (q + w) . r, times scale * log2(e), from RELATIVE_PAD on */
    float *rows;        /* [WORKSPACE_SUB_LANES][D]: q + w of a sub-block, likewise */
    relative_run *runs; /* [sub] */
} relative_workspace;

static inline int relative_offsets(const attention_relative *relative)
{
    return relative->left + relative->right + 1;
}

/* Floats from a row d of a head's table [D][columns] to the next. */
static inline size_t relative_table_pitch(int offsets)
{
    return odd_lines((size_t)offsets + 2 * RELATIVE_MARGIN);
}

/* Columns whose products are kept. */
static inline int relative_columns(int offsets)
{
    return offsets < RELATIVE_COLUMNS ? offsets : RELATIVE_COLUMNS;
}

static inline size_t relative_pitch(int offsets)
{
    return odd_lines((size_t)relative_columns(offsets) + 2 * RELATIVE_PAD);
}

/* Floats of one thread's share, a multiple of 16. */
static inline size_t relative_workspace_floats(int dim, int value_dim, int offsets)
{
    return (size_t)workspace_lanes(dim, value_dim) * relative_pitch(offsets) +
           (size_t)WORKSPACE_SUB_LANES * (size_t)dim + RELATIVE_SUB_BLOCKS * sizeof(relative_run) / sizeof(float);
}

static inline relative_workspace relative_workspace_of_thread(const attention_call *call, int thread)
{
    const attention_relative *relative = call->scores.relative;
    const int offsets = relative_offsets(relative);
    relative_workspace space;
    space.products =
        (float *)relative->workspace + (size_t)thread * relative_workspace_floats(call->dim, call->value_dim, offsets);
    space.rows = space.products + (size_t)workspace_lanes(call->dim, call->value_dim) * relative_pitch(offsets);
    space.runs = (relative_run *)(void *)(space.rows + (size_t)WORKSPACE_SUB_LANES * (size_t)call->dim);
    return space;
}

#endif
