/* The fold by products of bfloat16, in up to three arithmetics that differ in the number of parts a float32 is split
 * into. Included by one file an ISA, which before
 *   defines LANES              16
 *   defines BF16_BLOCKED       the attention_kernel whose float32 fold takes what bfloat16 cannot
 *   includes the products      kernels/attention_bf16_tiles.h or kernels/attention_bf16_dots.h
 * and uses bf16_fold and products_peak.
 *
 * Everything is transposed, as in the blocked fold: a lane is one query row. 32 lanes are a sub-block, 64 keys a block.
 *
 *     S[j][x] = sum_d k[j][d] q[d][x]        left tiles: keys as rows; right tiles: pairs of d, 16 lanes
 *     o[e][x] = a o[e][x] + sum_j v[j][e] P[j][x]     left tiles: v transposed; right tiles: pairs of keys, 16 lanes
 *
 * with m, a, l and P as in kernels/attention_blocked.h. Pairs of P are two adjacent rows of keys, shifted and or-ed: no
 * shuffle. Three levels keep everything where it is used:
 *
 *     task       up to 2,048 lanes of one key head: q in right tiles, o in float32, about 1 MiB; a sub-block's are read
 *                once a chunk, which is seldom
 *     chunk      keys packed once a task, up to 2,048 and about 512 KiB of tiles: swept by the task's sub-blocks in turn,
 *                from a second-level cache
 *     sub-block  q and o of 32 lanes, scores and P of two blocks, one block of k and v: a first-level cache
 *
 * Bits. A query row or a key that does not split cleanly (kernels/attention_bf16_parts.h) goes through the blocked fold,
 * on the same state: the row for all its keys; the key for the rows that see it, with the rest of its block that they
 * see. So a row's bits depend on the row and the keys it sees alone. For the same reason calls of few rows, which are
 * bound by memory, take the tiles too: who wants the blocked fold for them asks for COMPUTE_FP32, as
 * attention_compute_best does.
 *
 * Sources: Henry, Tang, Heinecke, arXiv 1904.06376 (parts); Milakov & Gimelshein, arXiv 1805.02867 (online softmax);
 * FlashAttention-4 (2025) (deferred rescale; exponentials by polynomial). Held by tests/kernels/test_compute.c and,
 * with every arithmetic, test_fold.c, test_fold_bits.c and test_fold_special.c. */
#ifndef KERNELS_ATTENTION_BF16_H
#define KERNELS_ATTENTION_BF16_H

#include "kernels/attention_bf16_sweep.h"
#include "kernels/attention_peak.h"
#include "kernels/attention_rotary.h"
#include "kernels/memory_rows.h"
#include "kernels/transpose.h"

#include <omp.h>

/* Tile flop in the time that a sub-block of the blocked fold takes for one element of a key: about. */
enum { BF16_BLOCKED_FLOP = 1500 };

typedef struct {
    int64_t begin_min, begin_max, end_min, end_max; /* of the visible ranges of a sub-block's rows */
    uint32_t blocked;                               /* lanes whose query does not split */
} bf16_sub_block;

typedef struct {
    const attention_call *call;
    task_place place;
    task_queue *queue;
    bf16_workspace space;
    bf16_sub_block subs[BF16_SUB_BLOCKS_MAX];
    int parts;
    score_cap cap;         /* 0: none */
    rotary_angles *rotary; /* NULL: none */
    float factor, sign;    /* scale = sign * factor / log2(e) */
    int group, sub_blocks; /* query heads kv_head * group + [0, group) */
    int64_t *poll_work;    /* flop since the last poll; NULL on threads that do not poll */
    /* the chunk */
    int blocks;
    int64_t begin[BF16_CHUNK_BLOCKS_MAX];
    int keys[BF16_CHUNK_BLOCKS_MAX];
    uint64_t unclean[BF16_CHUNK_BLOCKS_MAX]; /* keys that do not split */
    sweep sweep;
} bf16_task;

/* Which row of the span's tokens a lane is. */
static int64_t bf16_span_row(const bf16_task *task, int lane)
{
    return attention_span_row(task->place.span, task->place.first_row + lane);
}

static int64_t bf16_query_offset(const bf16_task *task, int lane)
{
    const int64_t index = bf16_span_row(task, lane), head = task->place.kv_head * task->group + index % task->group;
    return index / task->group * task->place.span->q_token_stride + head * task->place.span->q_head_stride;
}

static int64_t bf16_query_position(const bf16_task *task, int lane)
{
    return task->place.span->positions[bf16_span_row(task, lane) / task->group];
}

/* Row of a [T, R] array of the state. */
static int64_t bf16_state_row(const bf16_task *task, int lane)
{
    const int64_t index = bf16_span_row(task, lane);
    const int rows = task->place.span->state.token_rows ? task->place.span->state.token_rows : task->call->heads;
    return index / task->group * rows + task->place.kv_head * task->group + index % task->group;
}

/* The poll of a blocked fold inside a task. Its last one, at 1, is for the end of a call, which this is not. */
static void poll_of_blocked(void *queue, double fraction)
{
    if (fraction < 1) task_queue_poll(queue);
}

/* Folds keys [begin, end) of the segment into the rows of lanes [first, first + count), at most 32, by the blocked
 * fold; `state` holds these rows alone, one after the other. Runs of whole tokens go as they are, others as fewer
 * heads, listed rows one by one. */
static void lanes_fold_blocked(bf16_task *task, const attention_segment *segment, int64_t begin, int64_t end, int first,
                               int count, attention_state state)
{
    const attention_call *call = task->call;
    const int64_t size = (int64_t)number_size(call->type);
    attention_segment keys = *segment;
    keys.begin = begin;
    keys.end = end;
    keys.k = (const char *)segment->k +
             ((begin - segment->begin) * segment->k_token_stride + task->place.kv_head * segment->k_head_stride) * size;
    keys.v = (const char *)segment->v +
             ((begin - segment->begin) * segment->v_token_stride + task->place.kv_head * segment->v_head_stride) * size;
    if (segment->positions) keys.positions = segment->positions + (begin - segment->begin);

    for (int done = 0, rows; done < count; done += rows) {
        const int64_t index = bf16_span_row(task, first + done), token = index / task->group;
        const int member = (int)(index % task->group), left = count - done;
        const bool listed = task->place.span->listed != NULL, whole = !listed && member == 0 && left >= task->group;
        const int most = listed ? 1 : left < task->group - member ? left : task->group - member;
        const int heads = whole ? task->group : most;
        const int tokens = whole ? left / task->group : 1;
        const int head = task->place.kv_head * task->group + member;
        rows = tokens * heads;

        attention_call part = *call;
        part.heads = heads;
        part.kv_heads = 1;
        part.compute = COMPUTE_FP32;
        part.threads = 1;
        part.workspace = task->space.blocked;
        part.poll = task->sweep.poll_work ? poll_of_blocked : NULL;
        part.poll_data = task->queue;
        part.mark = NULL; /* within this thread's share */
        if (call->scores.slopes) part.scores.slopes = call->scores.slopes + head;
        attention_span span = *task->place.span;
        span.listed = NULL;
        span.follows = false;
        span.q = (const char *)span.q + bf16_query_offset(task, first + done) * size;
        span.tokens = tokens;
        span.state = (attention_state){state.o + (int64_t)done * call->value_dim, state.m + done, state.l + done, 0};
        if (span.visible_begin) span.visible_begin += token;
        if (span.visible_end) span.visible_end += token;
        if (span.positions) span.positions += token;
        span.segments = &keys;
        span.segment_count = 1;
        BF16_BLOCKED.fold(&part, &span, 1);
        sweep_poll_after(&task->sweep, (end - begin) * (call->dim + call->value_dim) * BF16_BLOCKED_FLOP);
    }
}

/* Copies rows between the span's state and an array of their own. */
static void lanes_state_copy(const bf16_task *task, int first, int count, attention_state rows, bool to_span)
{
    const attention_state *state = &task->place.span->state;
    const size_t width = (size_t)task->call->value_dim;
    for (int x = 0; x < count; x++) {
        const int64_t row = bf16_state_row(task, first + x);
        float *o = state->o + row * task->call->value_dim, *own = rows.o + (size_t)x * width;
        memcpy(to_span ? o : own, to_span ? own : o, width * sizeof *o);
        *(to_span ? &state->m[row] : &rows.m[x]) = to_span ? rows.m[x] : state->m[row];
        *(to_span ? &state->l[row] : &rows.l[x]) = to_span ? rows.l[x] : state->l[row];
    }
}

static attention_state rows_of_blocked(const bf16_task *task)
{
    return (attention_state){task->space.rows, task->space.row_m, task->space.row_l, 0};
}

/* The next run of set bits of *lanes, which are taken out of it: its length, and its first in *first_p; 0 when there is
 * none. */
static int run_take(uint32_t *lanes, int *first_p)
{
    int first = 0, count = 0;
    if (!*lanes) return 0;
    while (!(*lanes >> first & 1)) first++;
    while (first + count < BF16_SUB_LANES && *lanes >> (first + count) & 1) *lanes &= ~(1u << (first + count++));
    *first_p = first;
    return count;
}

/* Rows whose query does not split: all their keys, by the blocked fold. */
static void blocked_queries_fold(bf16_task *task)
{
    const attention_state rows = rows_of_blocked(task);
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        uint32_t lanes = task->subs[sub].blocked;
        for (int first, count; (count = run_take(&lanes, &first)) > 0;) {
            const int lane = sub * BF16_SUB_LANES + first;
            lanes_state_copy(task, lane, count, rows, false);
            for (int i = 0; i < task->place.span->segment_count; i++) {
                const attention_segment *segment = &task->place.span->segments[i];
                if (segment->begin < segment->end)
                    lanes_fold_blocked(task, segment, segment->begin, segment->end, lane, count, rows);
            }
            lanes_state_copy(task, lane, count, rows, true);
        }
    }
}

/* One element of o in lanes. */
static float *lane_value(const bf16_task *task, int lane, int e)
{
    const int width = tiles_padded(task->call->value_dim), x = lane % BF16_SUB_LANES;
    return task->space.o + (int64_t)lane / BF16_SUB_LANES * BF16_SUB_LANES * width + (x / LANES * width + e) * LANES +
           x % LANES;
}

/* Lanes that see a key which does not split: that block, by the blocked fold. */
static void blocked_keys_fold(bf16_task *task, const attention_segment *segment, int block, int sub, uint32_t lanes)
{
    const attention_state rows = rows_of_blocked(task);
    const int value_dim = task->call->value_dim;
    for (int first, count; (count = run_take(&lanes, &first)) > 0;) {
        const int lane = sub * BF16_SUB_LANES + first;
        for (int x = 0; x < count; x++) {
            for (int e = 0; e < value_dim; e++) rows.o[x * value_dim + e] = *lane_value(task, lane + x, e);
            rows.m[x] = task->space.m[lane + x];
            rows.l[x] = task->space.l[lane + x];
        }
        lanes_fold_blocked(task, segment, task->begin[block], task->begin[block] + task->keys[block], lane, count,
                           rows);
        for (int x = 0; x < count; x++) {
            for (int e = 0; e < value_dim; e++) *lane_value(task, lane + x, e) = rows.o[x * value_dim + e];
            task->space.m[lane + x] = rows.m[x];
            task->space.l[lane + x] = rows.l[x];
        }
    }
}

/* A row of q, k or v, float32, padded with zeros to `width`. */
static void row_load(const attention_call *call, const void *source, int64_t offset, int count, int width, float *row)
{
    row_widen(call->type, source, offset, count, row);
    for (int i = count; i < width; i++) row[i] = 0;
}

static void queries_load(bf16_task *task, int sub)
{
    const attention_call *call = task->call;
    const int width = tiles_padded(call->dim);
    task->subs[sub].blocked = 0;
    for (int x = 0; x < BF16_SUB_LANES; x++) {
        const int lane = sub * BF16_SUB_LANES + x;
        float *row = task->space.rows + (int64_t)x * width;
        bool splits = false;
        if (lane + ROWS_AHEAD < task->place.rows)
            number_row_fetch(task->place.span->q, bf16_query_offset(task, lane + ROWS_AHEAD), call->dim, call->type);
        if (lane < task->place.rows) {
            row_load(call, task->place.span->q, bf16_query_offset(task, lane), call->dim, width, row);
            if (task->rotary) rotary_turn(task->rotary, bf16_query_position(task, lane), row);
            splits = key_splits(row, width, task->factor);
            if (!splits) task->subs[sub].blocked |= 1u << x;
        }
        for (int d = 0; d < width; d++) row[d] = splits ? row[d] * task->sign : 0;
    }
    transpose(task->space.rows, width, BF16_SUB_LANES, width, task->space.columns, BF16_SUB_LANES);
    queries_to_tiles(task->space.columns, width, task->parts,
                     task->space.q + (int64_t)sub * BF16_SUB_LANES * width * task->parts);
}

static void bf16_slopes_load(const bf16_task *task, int sub)
{
    for (int lane = sub * BF16_SUB_LANES; lane < (sub + 1) * BF16_SUB_LANES; lane++) {
        const bool real = lane < task->place.rows;
        const int head = task->place.kv_head * task->group + (int)(bf16_span_row(task, lane) % task->group);
        task->space.slope[lane] = real ? score_slope(task->call->scores.slopes[head]) : 0;
        task->space.position[lane] = real ? (int32_t)(uint32_t)bf16_query_position(task, lane) : 0;
    }
}

static void bf16_state_load(const bf16_task *task, int sub)
{
    const attention_state *state = &task->place.span->state;
    const int value_dim = task->call->value_dim, width = tiles_padded(value_dim);
    float *o = task->space.o + (int64_t)sub * BF16_SUB_LANES * width;
    for (int x = 0; x < BF16_SUB_LANES; x++) {
        const int lane = sub * BF16_SUB_LANES + x;
        const bool real = lane < task->place.rows && !(task->subs[sub].blocked >> x & 1);
        const int64_t row = real ? bf16_state_row(task, lane) : 0;
        float *values = task->space.rows + (int64_t)x * width;
        task->space.m[lane] = real ? state->m[row] : -INFINITY;
        task->space.l[lane] = real ? state->l[row] : 0;
        const int count = real ? value_dim : 0;
        if (lane + ROWS_AHEAD < task->place.rows)
            state_fetch(state, bf16_state_row(task, lane + ROWS_AHEAD), value_dim);
        row_widen(KERNEL_FLOAT32, state->o, row * value_dim, count, values);
        for (int e = count; e < width; e++) values[e] = 0;
    }
    for (int half = 0; half < 2; half++)
        transpose(task->space.rows + (int64_t)half * LANES * width, width, LANES, width,
                  o + (int64_t)half * LANES * width, LANES);
}

static void bf16_state_store(const bf16_task *task, int sub)
{
    const attention_state *state = &task->place.span->state;
    const int value_dim = task->call->value_dim, width = tiles_padded(value_dim);
    const float *o = task->space.o + (int64_t)sub * BF16_SUB_LANES * width;
    for (int half = 0; half < 2; half++)
        transpose(o + (int64_t)half * LANES * width, LANES, width, LANES,
                  task->space.rows + (int64_t)half * LANES * width, width);
    for (int x = 0; x < BF16_SUB_LANES && sub * BF16_SUB_LANES + x < task->place.rows; x++) {
        const int lane = sub * BF16_SUB_LANES + x;
        const int64_t row = bf16_state_row(task, lane);
        if (task->subs[sub].blocked >> x & 1) continue;
        state->m[row] = task->space.m[lane];
        state->l[row] = task->space.l[lane];
        for (int e = 0; e < value_dim; e++)
            state->o[row * value_dim + e] = task->space.rows[(int64_t)x * width + e] + 0.0f;
    }
}

/* A row that sees nothing has the range [0, 0), which keeps its sub-block off the unmasked way. */
static void bf16_visible_load(bf16_task *task, bool look_inside)
{
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        bf16_sub_block *bounds = &task->subs[sub];
        bounds->begin_min = bounds->end_min = INT64_MAX;
        bounds->begin_max = bounds->end_max = INT64_MIN;
        for (int lane = sub * BF16_SUB_LANES; lane < (sub + 1) * BF16_SUB_LANES; lane++) {
            int64_t begin = 0, end = 0;
            if (look_inside && lane < task->place.rows) {
                const int64_t token = bf16_span_row(task, lane) / task->group;
                begin = task->place.span->visible_begin[token];
                end = task->place.span->visible_end[token];
                if (begin >= end) begin = end = bounds->end_min = 0;
            }
            task->space.visible_begin[lane] = begin;
            task->space.visible_end[lane] = end;
            if (begin == end) continue;
            if (begin < bounds->begin_min) bounds->begin_min = begin;
            if (begin > bounds->begin_max) bounds->begin_max = begin;
            if (end < bounds->end_min) bounds->end_min = end;
            if (end > bounds->end_max) bounds->end_max = end;
        }
    }
}

/* Where in memory the rows of k, or v, of a segment lie from key `begin` on. */
static memory_rows keys_in_memory(const bf16_task *task, const attention_segment *segment, int64_t begin)
{
    const int64_t offset =
        (begin - segment->begin) * segment->k_token_stride + task->place.kv_head * segment->k_head_stride;
    return rows_in_memory(segment->k, offset, segment->k_token_stride, task->call->dim, task->call->type);
}

static memory_rows values_in_memory(const bf16_task *task, const attention_segment *segment, int64_t begin)
{
    const int64_t offset =
        (begin - segment->begin) * segment->v_token_stride + task->place.kv_head * segment->v_head_stride;
    return rows_in_memory(segment->v, offset, segment->v_token_stride, task->call->value_dim, task->call->type);
}

/* A value row in task->space.rows, padded with zeros to `width` columns: as bfloat16 where they are stored as such and
 * taken in one part, else widened. False if it does not split. */
static bool value_load(const bf16_task *task, const char *source, bool as_stored, int width, int j)
{
    const attention_call *call = task->call;
    float *row = task->space.rows + (int64_t)j * width;
    uint16_t *numbers = (uint16_t *)task->space.rows + (int64_t)j * width;
    if (!as_stored) {
        row_load(call, source, 0, call->value_dim, width, row);
        return value_splits(row, width, task->parts);
    }
    memcpy(numbers, source, (size_t)call->value_dim * sizeof *numbers);
    memset(numbers + call->value_dim, 0, (size_t)(width - call->value_dim) * sizeof *numbers);
    return numbers_below(numbers, call->value_dim, value_limit);
}

/* Key j of a block into its tiles. False, and nothing is done, if it does not split. */
static bool key_pack(const bf16_task *task, const char *source, bool as_stored, int64_t position, int width, int j,
                     uint16_t *block)
{
    const attention_call *call = task->call;
    float *row = task->space.columns; /* free until the values are transposed */
    if (as_stored && !task->rotary) {
        const uint16_t *numbers = (const uint16_t *)source;
        if (!numbers_below(numbers, call->dim, key_limit)) return false;
        key_numbers_to_tiles(numbers, call->dim, j, block);
        return true;
    }
    row_load(call, source, 0, call->dim, width, row);
    if (task->rotary) rotary_turn(task->rotary, position, row);
    if (!key_splits(row, width, 1)) return false;
    key_to_tiles(row, width, j, task->parts, block);
    return true;
}

/* The value rows of a block, transposed, into its tiles. */
static void values_pack(const bf16_task *task, bool as_stored, int width, uint16_t *block)
{
    const float *rows = task->space.rows;
    float *columns = task->space.columns;
    if (as_stored) { /* pairs of columns */
        transpose(rows, width / 2, ATTENTION_KEY_BLOCK, width / 2, columns, ATTENTION_KEY_BLOCK);
        for (int i = 0; i < width; i += 2)
            value_pairs_to_tiles((const uint32_t *)columns + (int64_t)i / 2 * ATTENTION_KEY_BLOCK, i, block);
        return;
    }
    transpose(rows, width, ATTENTION_KEY_BLOCK, width, columns, ATTENTION_KEY_BLOCK);
    for (int i = 0; i < width; i++)
        value_column_to_tiles(columns + (int64_t)i * ATTENTION_KEY_BLOCK, width, i, task->parts, block);
}

/* Keys [begin, end) of the segment, within a block of the grid, as block `index` of the chunk. Keys that do not split
 * leave zeros in the tiles, and so do those that are not there. */
static void block_pack(bf16_task *task, const attention_segment *segment, int64_t begin, int64_t end, int index)
{
    const attention_call *call = task->call;
    const int keys = (int)(end - begin), d = tiles_padded(call->dim), e = tiles_padded(call->value_dim);
    const bool as_stored = task->parts == 1 && call->type == KERNEL_BFLOAT16;
    const size_t value_bytes = (size_t)e * (as_stored ? sizeof(uint16_t) : sizeof(float));
    uint16_t *k = task->space.k + (int64_t)index * task->parts * ATTENTION_KEY_BLOCK * d;
    uint16_t *v = task->space.v + (int64_t)index * task->parts * ATTENTION_KEY_BLOCK * e;
    const memory_rows k_rows = keys_in_memory(task, segment, begin), v_rows = values_in_memory(task, segment, begin);
    /* The rows after these are fetched meanwhile, or their copy would wait for each. */
    const int64_t fetched = end + keys < segment->end ? end + keys : segment->end;
    uint64_t unclean = 0;

    for (int j = 0; j < keys; j++) {
        if (end + j < fetched) row_fetch(&v_rows, keys + j);
        if (!value_load(task, v_rows.row + j * v_rows.stride, as_stored, e, j)) unclean |= 1ull << j;
    }
    for (int j = 0; j < ATTENTION_KEY_BLOCK; j++) {
        const bool there = j < keys;
        int64_t position = begin + j;
        if (segment->positions) position = there ? segment->positions[begin - segment->begin + j] : 0;
        task->space.key_positions[index * ATTENTION_KEY_BLOCK + j] = (int32_t)(uint32_t)position;
        if (there && end + j < fetched) row_fetch(&k_rows, keys + j);
        if (there && !(unclean >> j & 1) &&
            key_pack(task, k_rows.row + j * k_rows.stride, as_stored, position, d, j, k))
            continue;
        if (there) unclean |= 1ull << j;
        memset((char *)task->space.rows + (size_t)j * value_bytes, 0, value_bytes);
        memset(task->space.columns, 0, (size_t)d * sizeof(float));
        key_to_tiles(task->space.columns, d, j, task->parts, k);
    }
    values_pack(task, as_stored, e, v);

    task->begin[index] = begin;
    task->keys[index] = keys;
    task->unclean[index] = unclean;
    sweep_poll_after(&task->sweep, BF16_POLL_INTERVAL / 4);
}

static void sweep_flush(bf16_task *task)
{
    sweep *s = &task->sweep;
    if (s->count == 0) return;
    if (task->parts == 1) sweep_of_one_part(s);
    else if (PRODUCT_PARTS > 1 && task->parts == 2) sweep_of_two_parts(s);
    else if (PRODUCT_PARTS > 2) sweep_of_three_parts(s);
    s->count = 0;
}

/* Lanes of the sub-block, of those that are rows and split, that see a key of the block which does not. */
static uint32_t lanes_that_see_unclean(const bf16_task *task, int sub, int block, const sweep_block *keys)
{
    uint32_t lanes = 0;
    if (!task->unclean[block]) return 0;
    for (int x = 0; x < BF16_SUB_LANES && sub * BF16_SUB_LANES + x < task->place.rows; x++) {
        const int first = task->sweep.visible_begin ? within_keys(task->sweep.visible_begin[x], keys) : 0;
        const int last = task->sweep.visible_end ? within_keys(task->sweep.visible_end[x], keys) : keys->keys;
        if (task->subs[sub].blocked >> x & 1 || first >= last) continue;
        const uint64_t seen = (last < 64 ? (1ull << last) - 1 : ~0ull) & ~((1ull << first) - 1);
        if (task->unclean[block] & seen) lanes |= 1u << x;
    }
    return lanes;
}

static void chunk_fold_sub_block(bf16_task *task, const attention_segment *segment, int sub)
{
    const attention_call *call = task->call;
    const bf16_sub_block *bounds = &task->subs[sub];
    const int d = tiles_padded(call->dim), e = tiles_padded(call->value_dim), first = sub * BF16_SUB_LANES;
    const int rows = task->place.rows - first < BF16_SUB_LANES ? task->place.rows - first : BF16_SUB_LANES;
    const uint32_t all = rows == BF16_SUB_LANES ? ~0u : (1u << rows) - 1;
    sweep *s = &task->sweep;
    if (bounds->blocked == all) return;

    s->q = task->space.q + (int64_t)first * d * task->parts;
    s->o = task->space.o + (int64_t)first * e;
    s->m = task->space.m + first;
    s->l = task->space.l + first;
    s->scores = task->space.scores;
    s->sums = task->space.sums;
    s->p = task->space.p;
    s->visible_begin = segment->look_inside ? task->space.visible_begin + first : NULL;
    s->visible_end = segment->look_inside ? task->space.visible_end + first : NULL;
    s->factor = task->factor;
    s->cap = task->cap;
    s->slope = call->scores.slopes ? task->space.slope + first : NULL;
    s->position = task->space.position + first;
    s->count = 0;
    for (int i = 0; i < task->blocks; i++) {
        const int64_t begin = task->begin[i], end = begin + task->keys[i];
        sweep_block block = {.k = task->space.k + (int64_t)i * task->parts * ATTENTION_KEY_BLOCK * d,
                             .v = task->space.v + (int64_t)i * task->parts * ATTENTION_KEY_BLOCK * e,
                             .positions = task->space.key_positions + (int64_t)i * ATTENTION_KEY_BLOCK,
                             .begin = begin,
                             .keys = task->keys[i]};
        if (segment->look_inside && (end <= bounds->begin_min || begin >= bounds->end_max)) continue;
        const uint32_t unclean = lanes_that_see_unclean(task, sub, i, &block);
        if (unclean) {
            sweep_flush(task);
            blocked_keys_fold(task, segment, i, sub, unclean);
        }
        block.without = bounds->blocked | unclean;
        block.hides = block.without || block.keys < ATTENTION_KEY_BLOCK ||
                      (segment->look_inside && (bounds->begin_max > begin || bounds->end_min < end));
        if (block.without != all) s->blocks[s->count++] = block;
    }
    sweep_flush(task);
}

static void bf16_segment_fold(bf16_task *task, const attention_segment *segment)
{
    const int most = bf16_chunk_blocks(task->call->dim, task->call->value_dim, task->parts);
    int64_t begin = segment->begin, end = segment->end;

    if (segment->look_inside) {
        int64_t begin_min = INT64_MAX, end_max = INT64_MIN;
        for (int sub = 0; sub < task->sub_blocks; sub++) {
            if (task->subs[sub].begin_min < begin_min) begin_min = task->subs[sub].begin_min;
            if (task->subs[sub].end_max > end_max) end_max = task->subs[sub].end_max;
        }
        if (begin_min > begin) begin = begin_min;
        if (end_max < end) end = end_max;
    }
    if (begin >= end) return;
    for (int64_t grid = begin / ATTENTION_KEY_BLOCK; grid * ATTENTION_KEY_BLOCK < end;) {
        task->blocks = 0;
        for (; task->blocks < most && grid * ATTENTION_KEY_BLOCK < end; grid++, task->blocks++) {
            const int64_t from = grid * ATTENTION_KEY_BLOCK, to = from + ATTENTION_KEY_BLOCK;
            block_pack(task, segment, from > segment->begin ? from : segment->begin,
                       to < segment->end ? to : segment->end, task->blocks);
        }
        for (int sub = 0; sub < task->sub_blocks; sub++) chunk_fold_sub_block(task, segment, sub);
    }
}

static __attribute__((noinline)) void bf16_task_run(bf16_task *task)
{
    bool look_inside = false;
    task->sub_blocks = (task->place.rows + BF16_SUB_LANES - 1) / BF16_SUB_LANES;
    for (int i = 0; i < task->place.span->segment_count; i++)
        look_inside = look_inside || task->place.span->segments[i].look_inside;
    bf16_visible_load(task, look_inside);
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        queries_load(task, sub);
        bf16_state_load(task, sub);
        if (task->call->scores.slopes) bf16_slopes_load(task, sub);
        sweep_poll_after(&task->sweep, BF16_POLL_INTERVAL / 8);
    }
    blocked_queries_fold(task);
    for (int i = 0; i < task->place.span->segment_count; i++) bf16_segment_fold(task, &task->place.span->segments[i]);
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        bf16_state_store(task, sub);
        sweep_poll_after(&task->sweep, BF16_POLL_INTERVAL / 8);
    }
}

static int parts_of_compute(attention_compute compute)
{
    return compute == COMPUTE_BF16 ? 1 : compute == COMPUTE_BF16X3 ? 2 : 3;
}

/* The calling thread polls while others still compute. */
static void bf16_fold(const attention_call *call, const attention_span *spans, int64_t span_count)
{
    const double factor = (double)call->scale * 1.4426950408889634;

    /* A scale of 0, NaN or a denormal would make NaN of a score of -inf. */
    if (call->compute == COMPUTE_FP32 || !(fabs(factor) >= 0x1p-126 && fabs(factor) <= factor_limit)) {
        BF16_BLOCKED.fold(call, spans, span_count);
        return;
    }
    const int parts = parts_of_compute(call->compute);
    const int most = bf16_sub_blocks(call->dim, call->value_dim, parts) * BF16_SUB_LANES;
    task_queue queue = task_queue_of(call, spans, span_count, most, BF16_SUB_LANES, 0);
    if (queue.draws == 0) return;

#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        const int thread = omp_get_thread_num();
        const bool polls = thread == 0 && call->poll;
        int64_t work = 0;
        task_cursor cursor = task_cursor_first(&queue);
        const bf16_workspace space = bf16_workspace_of_thread(call, parts, thread);
        rotary_angles rotary;
        if (call->scores.rope_dim) rotary = rotary_create(&call->scores, space.rotary);
        bf16_task task = {.call = call,
                         .queue = &queue,
                         .space = space,
                         .cap = score_cap_of(call->scores.softcap),
                         .rotary = call->scores.rope_dim ? &rotary : NULL,
                         .parts = parts,
                         .factor = (float)fabs(factor),
                         .sign = factor < 0 ? -1 : 1,
                         .group = call->heads / call->kv_heads,
                         .sweep = {.call = call, .queue = &queue, .poll_work = polls ? &work : NULL}};
        products_begin();
        if (call->mark) call->mark(call->mark_data, thread, true);
        while (task_draw(&queue, &cursor, &task.place)) bf16_task_run(&task);
        if (call->mark) call->mark(call->mark_data, thread, false);
        if (polls) task_queue_wait(&queue);
        products_end();
        environment_leave(environment);
    }
}

#endif
