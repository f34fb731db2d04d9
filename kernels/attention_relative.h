/* The bias of relative positions in a fold: attention_relative of kernels/attention.h.
 *
 * A row at position p, in lane x, adds for the key at position j
 *
 *     b[x][c] = sum_d (q[x][d] + w[d]) r[c][d],   c = left - p + j
 *
 * which for keys that follow each other is a run of columns, another in each lane. So b has its columns side by side,
 * row by row (kernels/attention_row_scores.h), and goes to the scores, where keys lie below each other, in squares of 4
 * by 4. Of a sub-block the products with RELATIVE_COLUMNS columns are kept: as the keys go on, so do they, and each is
 * made once. Where positions leave gaps (a striped layout) the squares have no runs to go by: key by key then, and a
 * sub-block whose rows and keys are further apart than columns are kept makes some again.
 *
 * The cost is that of one more product of q and k for C keys a row. Held by tests/kernels/test_relative.c. */
#ifndef KERNELS_ATTENTION_RELATIVE_H
#define KERNELS_ATTENTION_RELATIVE_H

#include "kernels/attention_key_block.h"
#include "kernels/attention_row_scores.h"

#include <string.h>

_Static_assert((int)RELATIVE_SUB_BLOCKS >= SUB_BLOCKS, "a run for each sub-block");
_Static_assert((int)RELATIVE_PAD >= LANES && (int)RELATIVE_MARGIN >= LANES, "whole vectors of columns");

/* The keys of a row: before the offsets of the table, among them, after them. */
typedef enum { RELATIVE_BEFORE, RELATIVE_INSIDE, RELATIVE_AFTER, RELATIVE_PARTS } relative_part;

/* The first key of the segment at the position or after it, in the numbering of keys. */
static int64_t key_at_position(const attention_segment *segment, int64_t position)
{
    int64_t low = 0, high = segment->end - segment->begin;
    if (!segment->positions) return position;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (segment->positions[middle] < position) low = middle + 1;
        else high = middle;
    }
    return segment->begin + low;
}

/* What each row sees of the segment in a part; false if no row sees anything. */
static bool relative_visible_load(fold_task *task, const attention_segment *segment, relative_part part)
{
    const attention_relative *relative = task->call->scores.relative;
    bool any = false;
    visible_clear(task);
    for (int lane = 0; lane < task->rows; lane++) {
        const int64_t token = span_token(task, lane), position = query_position(task, lane);
        const int64_t inside = key_at_position(segment, position - relative->left);
        const int64_t after = key_at_position(segment, position + relative->right + 1);
        int64_t begin = segment->begin, end = segment->end;
        if (segment->look_inside && task->span->visible_begin[token] > begin) begin = task->span->visible_begin[token];
        if (segment->look_inside && task->span->visible_end[token] < end) end = task->span->visible_end[token];
        if (part == RELATIVE_BEFORE && inside < end) end = inside;
        if (part == RELATIVE_INSIDE && inside > begin) begin = inside;
        if (part == RELATIVE_INSIDE && after < end) end = after;
        if (part == RELATIVE_AFTER && after > begin) begin = after;
        visible_set(task, lane, begin, end);
        any = any || begin < end;
    }
    return any;
}

/* For the blocked form: where the rows of each sub-block are, and no products yet. */
static void relative_runs_clear(const fold_task *task)
{
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        relative_run *run = &task->relative.runs[sub];
        *run = (relative_run){.first_position = INT64_MAX, .last_position = INT64_MIN};
        for (int lane = sub * SUB_LANES; lane < (sub + 1) * SUB_LANES && lane < task->rows; lane++) {
            const int64_t position = query_position(task, lane);
            if (position < run->first_position) run->first_position = position;
            if (position > run->last_position) run->last_position = position;
        }
    }
}

/* Lanes of a sub-block that hold rows, in fours. */
static int lanes_with_rows(const fold_task *task, int sub)
{
    const int rows = task->rows - sub * SUB_LANES;
    return rows < SUB_LANES ? (rows + 3) / 4 * 4 : SUB_LANES;
}

/* Column 0 of the table of a row's head. */
static const float *table_of_row(const fold_task *task, int row)
{
    const attention_relative *relative = task->call->scores.relative;
    const size_t floats = (size_t)task->call->dim * relative_table_pitch(relative_offsets(relative));
    return relative->table + (size_t)query_head(task, row) * floats + RELATIVE_MARGIN;
}

/* The kept products of a sub-block, of the column `first` of its run; rows are relative_pitch apart. */
static float *products_of(const fold_task *task, int sub)
{
    const size_t pitch = relative_pitch(relative_offsets(task->call->scores.relative));
    return task->relative.products + (size_t)sub * SUB_LANES * pitch + RELATIVE_PAD;
}

/* Products of rows of one head, `step` apart, of `lanes` lanes with some vectors of columns. */
INLINE void products_make(int vectors, const float *rows, int lanes, const float *table, int dim, int step,
                          row_strides stride, float *products)
{
    const row_strides of_tile = {.q = stride.q * step, .vector = LANES, .d = stride.d, .out = stride.out * step};
    int x = 0;
    for (; x + (ROW_TILE - 1) * step < lanes; x += ROW_TILE * step)
        row_scores(ROW_TILE, vectors, rows + x * stride.q, table, dim, of_tile, products + x * stride.out);
    for (; x < lanes; x += step)
        row_scores(1, vectors, rows + x * stride.q, table, dim, of_tile, products + x * stride.out);
}

/* q + w of a sub-block, row by row. */
static void biased_rows_load(const fold_task *task, int sub)
{
    const int dim = task->call->dim;
    for (int x = 0; x < lanes_with_rows(task, sub); x++) {
        float *row = task->relative.rows + x * dim;
        const int lane = sub * SUB_LANES + x;
        if (lane < task->rows) query_load(task, lane, task->call->scores.relative->w, row);
        else
            for (int d = 0; d < dim; d++) row[d] = 0;
    }
}

/* Columns [first, last) into the kept products of a sub-block. */
static __attribute__((noinline)) void columns_make(const fold_task *task, int sub, int first, int last)
{
    const attention_relative *relative = task->call->scores.relative;
    const int dim = task->call->dim, step = task->group, lanes = lanes_with_rows(task, sub);
    const row_strides stride = {.q = dim,
                                .d = (int64_t)relative_table_pitch(relative_offsets(relative)),
                                .out = (int64_t)relative_pitch(relative_offsets(relative))};
    biased_rows_load(task, sub);
    for (int x = 0; x < step && x < lanes; x++) {
        const float *rows = task->relative.rows + x * dim, *table = table_of_row(task, sub * SUB_LANES + x);
        float *products = products_of(task, sub) + x * stride.out + (first - task->relative.runs[sub].first);
        for (int c = first, vectors; c < last; c += vectors * LANES, products += vectors * LANES) {
            vectors = last - c > 2 * LANES ? 3 : last - c > LANES ? 2 : 1;
            if (vectors == 3) products_make(3, rows, lanes - x, table + c, dim, step, stride, products);
            if (vectors == 2) products_make(2, rows, lanes - x, table + c, dim, step, stride, products);
            if (vectors == 1) products_make(1, rows, lanes - x, table + c, dim, step, stride, products);
            poll_after(task, (int64_t)2 * dim * vectors * LANES * (lanes / step + 1));
        }
    }
}

/* Makes sure of the products with columns [first, last), no more than are kept. */
static void columns_keep(const fold_task *task, int sub, int first, int last)
{
    const int offsets = relative_offsets(task->call->scores.relative), most = relative_columns(offsets);
    relative_run *run = &task->relative.runs[sub];
    int kept = 0;
    if (run->first <= first && last <= run->last) return;
    if (most == offsets) first = 0;
    if (run->first < first && first < run->last) {
        float *row = products_of(task, sub);
        kept = run->last - first;
        for (int x = 0; x < lanes_with_rows(task, sub); x++, row += relative_pitch(offsets))
            memmove(row, row + first - run->first, (size_t)kept * sizeof *row);
    }
    run->first = first;
    run->last = offsets - first < most ? offsets : first + most;
    columns_make(task, sub, first + kept, run->last);
}

/* The column of the row in a lane and the key at a position. */
static int64_t column_of(const fold_task *task, int lane, int64_t position)
{
    const int32_t distance = (int32_t)((uint32_t)task->space.position[lane] - (uint32_t)position);
    return (int64_t)task->call->scores.relative->left - distance;
}

/* Adds the products with columns [low, high) to the scores of keys [first, last) of the block. */
static void relative_add_keys(const fold_task *task, int sub, const key_block *block, int first, int last, int low,
                              int high)
{
    const int64_t pitch = (int64_t)relative_pitch(relative_offsets(task->call->scores.relative));
    const float *products = products_of(task, sub);
    const int kept = task->relative.runs[sub].first;
    for (int j = first; j < last; j++) {
        const int64_t position = key_position(block->segment, block->begin + j);
        for (int x = 0; x < lanes_with_rows(task, sub); x++) {
            const int64_t column = column_of(task, sub * SUB_LANES + x, position);
            if (column >= low && column < high)
                task->space.scores[j * SUB_LANES + x] += products[x * pitch + column - kept];
        }
    }
}

/* scores[j][i] += rows[i][j] for 4 keys j and 4 rows i. */
INLINE void square_add(const float *const rows[4], float *restrict scores)
{
    float square[4][4] __attribute__((aligned(16)));
    for (int i = 0; i < 4; i++) *(loose_four *)square[i] = *(const loose_four *)rows[i];
    float turned[4][4] __attribute__((aligned(16)));
    transpose_4x4(square[0], 4, turned[0], 4);
    for (int j = 0; j < 4; j++) *(loose_four *)(scores + j * SUB_LANES) += *(const loose_four *)turned[j];
}

/* The same of keys that follow each other, whose columns are kept. What is read past them is of keys that the row does
 * not see. */
static void relative_add_squares(const fold_task *task, int sub, const key_block *block, int first, int last)
{
    const int64_t pitch = (int64_t)relative_pitch(relative_offsets(task->call->scores.relative));
    const relative_run *run = &task->relative.runs[sub];
    const int64_t position = key_position(block->segment, block->begin + first), count = run->last - run->first;
    for (int x = 0; x < lanes_with_rows(task, sub); x += 4) {
        const float *products = products_of(task, sub) + x * pitch;
        int64_t column[4]; /* of key 0 of the block, if the keys before `first` followed each other too */
        for (int i = 0; i < 4; i++) column[i] = column_of(task, sub * SUB_LANES + x + i, position) - first - run->first;
        for (int j = first - first % 4; j < last; j += 4) {
            const float *rows[4];
            for (int i = 0; i < 4; i++) {
                const int64_t above = column[i] + j > -4 ? column[i] + j : -4;
                rows[i] = products + i * pitch + (above < count ? above : count);
            }
            square_add(rows, task->space.scores + j * SUB_LANES + x);
        }
    }
}

/* b of keys [first, last) of the block to the scores of a sub-block. */
static __attribute__((noinline)) void relative_add(const fold_task *task, int sub, const key_block *block, int first,
                                                   int last)
{
    const int left = task->call->scores.relative->left, offsets = relative_offsets(task->call->scores.relative);
    const relative_run *run = &task->relative.runs[sub];
    if (last > block->keys) last = block->keys;
    if (first >= last) return;
    const int64_t from = key_position(block->segment, block->begin + first);
    const int64_t to = key_position(block->segment, block->begin + last - 1);
    int64_t low = left - (run->last_position - from), high = left - (run->first_position - to) + 1;
    if (low < 0) low = 0;
    if (high > offsets) high = offsets;
    if (low >= high) return;
    if (to - from == last - 1 - first && high - low <= relative_columns(offsets)) {
        columns_keep(task, sub, (int)low, (int)high);
        relative_add_squares(task, sub, block, first, last);
        return;
    }
    for (int64_t c = low, next; c < high; c = next) {
        next = high - c < relative_columns(offsets) ? high : c + relative_columns(offsets);
        columns_keep(task, sub, (int)c, (int)next);
        relative_add_keys(task, sub, block, first, last, (int)c, (int)next);
    }
}

/* b of the block's keys to the scores of a row, for the fold of few rows: key by key in lanes, as columns are. */
static void relative_add_row(const fold_task *task, const key_block *block, int row, float *scores)
{
    const attention_relative *relative = task->call->scores.relative;
    const int offsets = relative_offsets(relative), dim = task->call->dim;
    const row_strides strides = {.vector = LANES, .d = (int64_t)relative_table_pitch(offsets)};
    float q[512], products[ATTENTION_KEY_BLOCK];
    query_load(task, row, relative->w, q);
    for (int first = 0, next; first < block->keys; first = next) {
        const int64_t position = key_position(block->segment, block->begin + first);
        const int64_t column = relative->left - (query_position(task, row) - position);
        for (next = first + 1; next < block->keys; next++)
            if (key_position(block->segment, block->begin + next) != position + next - first) break;
        if (column + next - first <= 0 || column >= offsets) continue; /* so it is above -RELATIVE_MARGIN */
        for (int x = 0; x < ATTENTION_KEY_BLOCK; x += 4 * LANES)
            row_scores(1, 4, q, table_of_row(task, row) + column + x, dim, strides, products + x);
        for (int j = first; j < next; j++) scores[j] += products[j - first];
    }
}

#endif
