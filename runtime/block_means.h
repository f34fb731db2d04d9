/* Means of blocks of rows, the same on every rank and at any rank count: what selections by content pool. */
#ifndef RUNTIME_BLOCK_MEANS_H
#define RUNTIME_BLOCK_MEANS_H

#include "partition/layout.h"
#include "runtime/context.h"

typedef struct {
    longspan_context *context;
    layout rows;   /* contiguous, of all M */
    int64_t size;  /* rows of a block; the last may be shorter */
    int64_t width; /* numbers of a row, G D */
    double *sum;   /* [width] */
    float *row;    /* [width] */
    int *counts;   /* [2 P] */
} block_means;

/* Not collective. Room for it; false if memory ran out. To be freed either way. */
bool block_means_create(block_means *x, longspan_context *context, int64_t rows, int64_t size, int64_t width);
void block_means_free(block_means *x);
int64_t block_means_count(const block_means *x);

/* Collective. means [blocks, width] of this rank's rows [T, width] and of all others': a block's sum is taken in
 * float64 row by row, where it straddles shards it goes on from rank to rank, and each mean is rounded to float32 once.
 * Sends 4 width bytes a block to every rank. */
void block_means_gather(const block_means *x, kernel_type type, const void *rows, float *means);

/* Not collective. Pooled rows [count, heads, dim] as kernels score them: lanes [heads, dim, stride]. */
int64_t block_means_stride(int64_t count);
void block_means_lay_out(const float *pooled, int64_t count, int heads, int dim, float *lanes);

#endif
