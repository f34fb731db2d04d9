/* A block of keys on the grid, as a task folds it: which one is next, its rows where they are, and their copy in the
 * workspace. Included with what attention_task.h needs. */
#ifndef KERNELS_ATTENTION_KEY_BLOCK_H
#define KERNELS_ATTENTION_KEY_BLOCK_H

#include "kernels/attention_task.h"

/* Rows of a block of keys where they are; none: nothing. */
typedef struct {
    memory_rows k, v;
    int keys;
} block_rows;

/* One block of keys in the workspace: k [keys][D], v [keys][value_row_floats], float32, padded with rows of zeros up to
 * a multiple of SCORE_TILE. Copied because rows that lie far apart share too few sets of the cache; keys that few rows
 * read stay where they are. */
typedef struct {
    const attention_segment *segment;
    const float *k, *v;
    int64_t k_stride;
    int64_t begin;
    int keys;
    block_rows next; /* fetched bit by bit while it is folded, or the copy would wait */
} key_block;

static int within_block(int64_t position, const key_block *block)
{
    if (position <= block->begin) return 0;
    return position < block->begin + block->keys ? (int)(position - block->begin) : block->keys;
}

/* Rows [0, keys) of `source` into `copy` [keys rounded up to SCORE_TILE][stride], zeros where there is nothing up to
 * `width`. */
static void rows_copy(kernel_type type, const void *source, int64_t offset, int64_t stride, int keys, int count,
                      int width, int64_t stride_of_copy, float *restrict copy)
{
    const int padded = (keys + SCORE_TILE - 1) / SCORE_TILE * SCORE_TILE;
    for (int j = 0; j < padded; j++) {
        float *row = copy + j * stride_of_copy;
        if (j + ROWS_AHEAD < keys) number_row_fetch(source, offset + (j + ROWS_AHEAD) * stride, count, type);
        if (j < keys) row_widen(type, source, offset + j * stride, count, row);
        for (int i = j < keys ? count : 0; i < width; i++) row[i] = 0;
    }
}

/* What scores need to know of the positions of the block's keys: rotated in their copy, and kept for the slopes. */
static void keys_place(const fold_task *task, const attention_segment *segment, int64_t begin, int keys)
{
    for (int j = 0; j < keys; j++) {
        const int64_t position = key_position(segment, begin + j);
        task->space.key_positions[j] = (int32_t)(uint32_t)position;
        if (task->rotary) rotary_turn(task->rotary, position, task->space.k + j * task->call->dim);
    }
    for (int j = keys; j < ATTENTION_KEY_BLOCK; j++) task->space.key_positions[j] = 0;
}

/* Keys [begin, end) of a segment: what of it lies in one block of the grid. */
typedef struct {
    int segment;
    int64_t begin, end;
} block_place;

/* The next block with a key that some row of the task sees, from key `key` of a segment on. False if there is none. */
static bool block_find(const fold_task *task, int segment, int64_t key, block_place *place_p)
{
    for (; segment < task->span->segment_count; segment++, key = 0) {
        const attention_segment *keys = &task->span->segments[segment];
        int64_t begin, end;
        keys_of_task(task, keys, &begin, &end);
        if (key > begin) begin = key;
        if (begin >= end) continue;
        const int64_t from = begin - begin % ATTENTION_KEY_BLOCK, to = from + ATTENTION_KEY_BLOCK;
        *place_p = (block_place){segment, from > keys->begin ? from : keys->begin, to < keys->end ? to : keys->end};
        return true;
    }
    return false;
}

/* Rows of keys [begin, end) of a segment. */
static block_rows rows_of_block(const attention_call *call, const attention_segment *segment, int kv_head,
                                int64_t begin, int64_t end)
{
    const int64_t before = begin - segment->begin;
    const int64_t k = before * segment->k_token_stride + kv_head * segment->k_head_stride;
    const int64_t v = before * segment->v_token_stride + kv_head * segment->v_head_stride;
    return (block_rows){.k = rows_in_memory(segment->k, k, segment->k_token_stride, call->dim, call->type),
                        .v = rows_in_memory(segment->v, v, segment->v_token_stride, call->value_dim, call->type),
                        .keys = (int)(end - begin)};
}

/* What is copied after a block: `place` of the same task, or the first block of the next one; NULL: there is none. */
static block_rows rows_after_block(const fold_task *task, const block_place *place)
{
    const attention_segment *segment = task->span->segments;
    if (place) return rows_of_block(task->call, &segment[place->segment], task->kv_head, place->begin, place->end);
    if (!task->has_next || task->next.span->segment_count == 0) return (block_rows){0};
    segment = task->next.span->segments;
    const int64_t end = segment->begin - segment->begin % ATTENTION_KEY_BLOCK + ATTENTION_KEY_BLOCK;
    return rows_of_block(task->call, segment, task->next.kv_head, segment->begin,
                         end < segment->end ? end : segment->end);
}

/* A copy pays where many sub-blocks read it. */
static bool keys_fit_in_place(const fold_task *task, int keys)
{
    return task->sub_blocks <= 2 && task->call->type == KERNEL_FLOAT32 && !task->rotary && keys % SCORE_TILE == 0;
}

/* `next`: the task's block that comes after this one; NULL if none does. */
static key_block block_prepare(const fold_task *task, const block_place *place, const block_place *next)
{
    const attention_call *call = task->call;
    const attention_segment *segment = &task->span->segments[place->segment];
    const int keys = (int)(place->end - place->begin);
    const int64_t before = place->begin - segment->begin;

    const int64_t k_offset = before * segment->k_token_stride + task->kv_head * segment->k_head_stride;
    key_block block = {.segment = segment,
                       .begin = place->begin,
                       .keys = keys,
                       .k = task->space.k,
                       .k_stride = call->dim,
                       .v = task->space.v,
                       .next = rows_after_block(task, next)};

    if (keys_fit_in_place(task, keys)) {
        block.k = (const float *)segment->k + k_offset;
        block.k_stride = segment->k_token_stride;
    } else {
        rows_copy(call->type, segment->k, k_offset, segment->k_token_stride, keys, call->dim, call->dim, call->dim,
                  task->space.k);
    }
    rows_copy(call->type, segment->v, before * segment->v_token_stride + task->kv_head * segment->v_head_stride,
              segment->v_token_stride, keys, call->value_dim, value_dim_padded(call->value_dim),
              (int64_t)value_row_floats(call->value_dim), task->space.v);
    if (task->rotary || call->scores.slopes) keys_place(task, segment, place->begin, keys);
    return block;
}

#endif
