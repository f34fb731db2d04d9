/* Rows where they lie in memory: what a schedule calls home and slots (partition/schedule.h). */
#ifndef RUNTIME_ROWS_H
#define RUNTIME_ROWS_H

#include "partition/schedule.h"

#include <stddef.h>

enum { ROW_TENSORS = 3 };

/* What a row of a kind consists of: bytes of one of its heads in each tensor. Keys are k, v; queries q; states o, m, l.
 */
typedef struct {
    int tensors;
    size_t head_bytes[ROW_TENSORS];
} row_format;

/* Tensor t: [B, rows, heads, head_bytes[t]], contiguous. */
typedef struct {
    int64_t rows;
    head_range heads;
    char *data[ROW_TENSORS];
} row_store;

/* All that a rank holds. */
typedef struct {
    row_store home[ROWS_KINDS];
    row_store *slots;
} row_stores;

static inline const row_store *row_stores_find(const row_stores *s, rows_kind kind, int slot)
{
    return slot == SLOT_HOME ? &s->home[kind] : &s->slots[slot];
}

/* The first byte of a head of a row. */
static inline char *row_at(const row_store *s, const row_format *format, int tensor, int64_t b, int64_t row, int head)
{
    const size_t index = (size_t)(b * s->rows + row) * (size_t)heads_count(s->heads) + (size_t)(head - s->heads.begin);
    return s->data[tensor] + index * format->head_bytes[tensor];
}

#endif
