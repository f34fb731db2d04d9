#include "runtime/block_means.h"

#include "runtime/patience.h"
#include "runtime/selection.h"

#include <stdlib.h>
#include <string.h>

bool block_means_create(block_means *x, longspan_context *context, int64_t rows, int64_t size, int64_t width)
{
    *x = (block_means){.context = context, .rows = selection_layout(context, rows), .size = size, .width = width};
    x->sum = malloc((size_t)width * sizeof *x->sum);
    x->row = malloc((size_t)width * sizeof *x->row);
    x->counts = calloc(2 * (size_t)context->ranks, sizeof *x->counts);
    return x->sum && x->row && x->counts;
}

void block_means_free(block_means *x)
{
    free(x->sum);
    free(x->row);
    free(x->counts);
    *x = (block_means){0};
}

int64_t block_means_count(const block_means *x)
{
    return (x->rows.tokens - 1) / x->size + 1;
}

static int owner(const block_means *x, int64_t row)
{
    return (int)layout_chunk_of_token(&x->rows, row);
}

/* Blocks whose last row a rank holds. */
static range blocks_ending_on(const block_means *x, int rank)
{
    const range rows = layout_chunk(&x->rows, rank);
    const int64_t end = rows.end == x->rows.tokens ? block_means_count(x) : rows.end / x->size;
    return range_is_empty(rows) ? (range){0, 0} : (range){rows.begin / x->size, end};
}

/* Collective. Sums of this rank's blocks, and what goes on to the next rank. */
static void sum_blocks(const block_means *x, kernel_type type, const void *rows, float *means)
{
    const range own = layout_chunk(&x->rows, x->context->rank);
    const size_t n = (size_t)x->width, row_bytes = n * number_size(type);
    const MPI_Comm comm = x->context->comm;
    MPI_Status status;
    if (range_is_empty(own)) return;
    memset(x->sum, 0, n * sizeof *x->sum);
    if (own.begin % x->size != 0) wait_receive(x->sum, (int)n, MPI_DOUBLE, owner(x, own.begin - 1), comm, &status);
    for (int64_t at = own.begin; at < own.end; at++) {
        const int64_t next = at + 1, block = at / x->size;
        number_widen(type, (const char *)rows + (size_t)(at - own.begin) * row_bytes, x->row, x->width);
        for (size_t i = 0; i < n; i++) x->sum[i] += (double)x->row[i];
        if (next % x->size != 0 && next != x->rows.tokens) continue;
        for (size_t i = 0; i < n; i++)
            means[(size_t)block * n + i] = (float)(x->sum[i] / (double)(next - block * x->size));
        memset(x->sum, 0, n * sizeof *x->sum);
    }
    if (own.end % x->size != 0 && own.end != x->rows.tokens)
        wait_send(x->sum, (int)n, MPI_DOUBLE, owner(x, own.end), comm);
}

void block_means_gather(const block_means *x, kernel_type type, const void *rows, float *means)
{
    MPI_Datatype mean;
    int *places = x->counts + x->context->ranks;
    sum_blocks(x, type, rows, means);
    for (int rank = 0; rank < x->context->ranks; rank++) {
        const range blocks = blocks_ending_on(x, rank);
        x->counts[rank] = (int)range_length(blocks);
        places[rank] = (int)blocks.begin;
    }
    MPI_Type_contiguous((int)x->width, MPI_FLOAT, &mean);
    MPI_Type_commit(&mean);
    wait_allgatherv_in_place(means, x->counts, places, mean, x->context->comm);
    MPI_Type_free(&mean);
}

int64_t block_means_stride(int64_t count)
{
    return (count + BLOCK_SCORES_TILE - 1) / BLOCK_SCORES_TILE * BLOCK_SCORES_TILE;
}

void block_means_lay_out(const float *pooled, int64_t count, int heads, int dim, float *lanes)
{
    const int64_t stride = block_means_stride(count);
    for (int g = 0; g < heads; g++)
        for (int64_t c = 0; c < count; c++)
            for (int d = 0; d < dim; d++) lanes[(g * dim + d) * stride + c] = pooled[(c * heads + g) * dim + d];
}
