/* Rows of arrays in memory, to be fetched into the cache before they are read. */
#ifndef KERNELS_MEMORY_ROWS_H
#define KERNELS_MEMORY_ROWS_H

#include "kernels/attention.h"

enum {
    ROWS_AHEAD = 8, /* rows that are fetched before they are loaded */
    LINE = 64,      /* bytes of the cache, about */
};

typedef struct {
    const char *row;
    int64_t stride; /* bytes, like size */
    int size;
} memory_rows;

/* Rows of `count` numbers from element `offset` on. */
static inline memory_rows rows_in_memory(const void *array, int64_t offset, int64_t stride, int count, kernel_type type)
{
    const int64_t size = (int64_t)number_size(type);
    return (memory_rows){(const char *)array + offset * size, stride * size, (int)size * count};
}

static inline __attribute__((always_inline)) void row_fetch(const memory_rows *rows, int row)
{
    const char *bytes = rows->row + row * rows->stride;
    for (int at = 0; at < rows->size; at += LINE) __builtin_prefetch(bytes + at);
}

static inline void number_row_fetch(const void *array, int64_t offset, int count, kernel_type type)
{
    const memory_rows rows = rows_in_memory(array, offset, 0, count, type);
    row_fetch(&rows, 0);
}

/* One row of a state. */
static inline void state_fetch(const attention_state *state, int64_t row, int value_dim)
{
    number_row_fetch(state->o, row * value_dim, value_dim, KERNEL_FLOAT32);
    __builtin_prefetch(&state->m[row]);
    __builtin_prefetch(&state->l[row]);
}

#endif
