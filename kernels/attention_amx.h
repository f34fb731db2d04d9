/* The fold on bfloat16 matrix units, in three arithmetics that differ in the number of parts a float32 is split into.
 * Included by one file, which defines before:
 *   LANES              16
 *   TILES_EMULATED     for tiles in memory (kernels/tiles.h)
 *   AMX_BLOCKED        the attention_kernel whose float32 fold takes what tiles cannot
 * and uses amx_fold and amx_tile_peak.
 *
 * Everything is transposed, as in the blocked fold: a lane is one query row. 32 lanes are a sub-block, 64 keys a block.
 *
 *     S[j][x] = sum_d k[j][d] q[d][x]        left tiles: keys as rows; right tiles: pairs of d, 16 lanes
 *     o[e][x] = a o[e][x] + sum_j v[j][e] P[j][x]     left tiles: v transposed; right tiles: pairs of keys, 16 lanes
 *
 * with m, a, l and P as in kernels/attention_blocked.h. Pairs of P are two adjacent rows of keys, shifted and or-ed: no
 * shuffle. Three levels keep everything where it is used:
 *
 *     task       up to 1,024 lanes of one key head: q in right tiles, o in float32, about 512 KiB
 *     chunk      keys packed once a task, up to 2,048 and about 1 MiB of tiles: swept by the task's sub-blocks in turn
 *     sub-block  q and o of 32 lanes, scores and P of two blocks, one block of k and v: a first-level cache
 *
 * Counts of 1,024 scores, D = E = 64 (measured rates of the parts on one Sapphire-Rapids-class core: 5.2 ns a product,
 * 2.5 ns a tile load, 4.7 ns a store; one 512-bit float operation a cycle beside running products):
 *
 *                      products    loads       stores     float vector operations
 *     scores               8      8               4
 *     values               8      8 + 4 (o)       4
 *     max                                                   64
 *     exponential, sum                                      64 x 9 (x - m, clamp, 3 to round, 3 of the polynomial, sum)
 *     bf16                16     20               8        640: tiles 160 ns, vectors 190 ns where they overlap: 43 %
 *                                                          of the tile peak at best
 *     bf16x3              48     32 + 4           8      1,070: tiles 3 x, vectors hidden: 2.9 x the float32 peak
 *     bf16x6              96     56 + 4           8      1,330: tiles 6 x: 2.0 x the float32 peak with its loads
 *
 * so bf16 is bound by the vectors and the others by the tiles. AVX512_BF16 has no part in it: VDPBF16PS runs at half
 * the rate of float32 multiply-adds, and conversions to bfloat16 are integer work that it does not save.
 *
 * Bits. A query row or a key that does not split cleanly (kernels/attention_amx_parts.h) goes through the blocked fold,
 * on the same state: the row for all its keys; the key for the rows that see it, with the rest of its block that they
 * see. So a row's bits depend on the row and the keys it sees alone. For the same reason calls of few rows, which are
 * bound by memory, take the tiles too: who wants the blocked fold for them asks for COMPUTE_FP32, as
 * attention_compute_best does.
 *
 * Sources: Henry, Tang, Heinecke, arXiv 1904.06376 (parts); Milakov & Gimelshein, arXiv 1805.02867 (online softmax);
 * FlashAttention-4 (2025) (deferred rescale; exponentials by polynomial). Held by tests/kernels/test_compute.c and,
 * with every arithmetic, test_fold.c, test_fold_bits.c and test_fold_special.c. */
#ifndef KERNELS_ATTENTION_AMX_H
#define KERNELS_ATTENTION_AMX_H

#include "kernels/attention_amx_sweep.h"
#include "kernels/attention_peak.h"
#include "kernels/attention_rotary.h"

#include <omp.h>

/* Tile flop in the time that a sub-block of the blocked fold takes for one element of a key: about. */
enum { AMX_BLOCKED_FLOP = 1500 };

typedef struct {
    int64_t begin_min, begin_max, end_min, end_max; /* of the visible ranges of a sub-block's rows */
    uint32_t blocked;                               /* lanes whose query does not split */
} amx_sub_block;

typedef struct {
    const attention_call *call;
    task_place place;
    task_queue *queue;
    amx_workspace space;
    amx_sub_block subs[AMX_SUB_BLOCKS_MAX];
    int parts;
    score_cap cap;         /* 0: none */
    rotary_angles *rotary; /* NULL: none */
    float factor, sign;    /* scale = sign * factor / log2(e) */
    int group, sub_blocks; /* query heads kv_head * group + [0, group) */
    int64_t *poll_work;    /* flop since the last poll; NULL on threads that do not poll */
    /* the chunk */
    int blocks;
    int64_t begin[AMX_CHUNK_BLOCKS_MAX];
    int keys[AMX_CHUNK_BLOCKS_MAX];
    uint64_t unclean[AMX_CHUNK_BLOCKS_MAX]; /* keys that do not split */
    sweep sweep;
} amx_task;

/* Which row of the span's tokens a lane is. */
static int64_t amx_span_row(const amx_task *task, int lane)
{
    return attention_span_row(task->place.span, task->place.first_row + lane);
}

static int64_t amx_query_offset(const amx_task *task, int lane)
{
    const int64_t index = amx_span_row(task, lane), head = task->place.kv_head * task->group + index % task->group;
    return index / task->group * task->place.span->q_token_stride + head * task->place.span->q_head_stride;
}

static int64_t amx_query_position(const amx_task *task, int lane)
{
    return task->place.span->positions[amx_span_row(task, lane) / task->group];
}

/* Row of a [T, R] array of the state. */
static int64_t amx_state_row(const amx_task *task, int lane)
{
    const int64_t index = amx_span_row(task, lane);
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
static void lanes_fold_blocked(amx_task *task, const attention_segment *segment, int64_t begin, int64_t end, int first,
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
        const int64_t index = amx_span_row(task, first + done), token = index / task->group;
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
        span.q = (const char *)span.q + amx_query_offset(task, first + done) * size;
        span.tokens = tokens;
        span.state = (attention_state){state.o + (int64_t)done * call->value_dim, state.m + done, state.l + done, 0};
        if (span.visible_begin) span.visible_begin += token;
        if (span.visible_end) span.visible_end += token;
        if (span.positions) span.positions += token;
        span.segments = &keys;
        span.segment_count = 1;
        AMX_BLOCKED.fold(&part, &span, 1);
        sweep_poll_after(&task->sweep, (end - begin) * (call->dim + call->value_dim) * AMX_BLOCKED_FLOP);
    }
}

/* Copies rows between the span's state and an array of their own. */
static void lanes_state_copy(const amx_task *task, int first, int count, attention_state rows, bool to_span)
{
    const attention_state *state = &task->place.span->state;
    const size_t width = (size_t)task->call->value_dim;
    for (int x = 0; x < count; x++) {
        const int64_t row = amx_state_row(task, first + x);
        float *o = state->o + row * task->call->value_dim, *own = rows.o + (size_t)x * width;
        memcpy(to_span ? o : own, to_span ? own : o, width * sizeof *o);
        *(to_span ? &state->m[row] : &rows.m[x]) = to_span ? rows.m[x] : state->m[row];
        *(to_span ? &state->l[row] : &rows.l[x]) = to_span ? rows.l[x] : state->l[row];
    }
}

static attention_state rows_of_blocked(const amx_task *task)
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
    while (first + count < AMX_SUB_LANES && *lanes >> (first + count) & 1) *lanes &= ~(1u << (first + count++));
    *first_p = first;
    return count;
}

/* Rows whose query does not split: all their keys, by the blocked fold. */
static void blocked_queries_fold(amx_task *task)
{
    const attention_state rows = rows_of_blocked(task);
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        uint32_t lanes = task->subs[sub].blocked;
        for (int first, count; (count = run_take(&lanes, &first)) > 0;) {
            const int lane = sub * AMX_SUB_LANES + first;
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
static float *lane_value(const amx_task *task, int lane, int e)
{
    const int width = tiles_padded(task->call->value_dim), x = lane % AMX_SUB_LANES;
    return task->space.o + (int64_t)lane / AMX_SUB_LANES * AMX_SUB_LANES * width + (x / LANES * width + e) * LANES +
           x % LANES;
}

/* Lanes that see a key which does not split: that block, by the blocked fold. */
static void blocked_keys_fold(amx_task *task, const attention_segment *segment, int block, int sub, uint32_t lanes)
{
    const attention_state rows = rows_of_blocked(task);
    const int value_dim = task->call->value_dim;
    for (int first, count; (count = run_take(&lanes, &first)) > 0;) {
        const int lane = sub * AMX_SUB_LANES + first;
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

static void queries_load(amx_task *task, int sub)
{
    const attention_call *call = task->call;
    const int width = tiles_padded(call->dim);
    task->subs[sub].blocked = 0;
    for (int x = 0; x < AMX_SUB_LANES; x++) {
        const int lane = sub * AMX_SUB_LANES + x;
        float *row = task->space.rows + (int64_t)x * width;
        bool splits = false;
        if (lane < task->place.rows) {
            row_load(call, task->place.span->q, amx_query_offset(task, lane), call->dim, width, row);
            if (task->rotary) rotary_turn(task->rotary, amx_query_position(task, lane), row);
            splits = key_splits(row, width, task->factor);
            if (!splits) task->subs[sub].blocked |= 1u << x;
        }
        for (int d = 0; d < width; d++) row[d] = splits ? row[d] * task->sign : 0;
    }
    transpose(task->space.rows, width, AMX_SUB_LANES, width, task->space.columns, AMX_SUB_LANES);
    queries_to_tiles(task->space.columns, width, task->parts,
                     task->space.q + (int64_t)sub * AMX_SUB_LANES * width * task->parts);
}

static void amx_slopes_load(const amx_task *task, int sub)
{
    for (int lane = sub * AMX_SUB_LANES; lane < (sub + 1) * AMX_SUB_LANES; lane++) {
        const bool real = lane < task->place.rows;
        const int head = task->place.kv_head * task->group + (int)(amx_span_row(task, lane) % task->group);
        task->space.slope[lane] = real ? score_slope(task->call->scores.slopes[head]) : 0;
        task->space.position[lane] = real ? (int32_t)(uint32_t)amx_query_position(task, lane) : 0;
    }
}

static void amx_state_load(const amx_task *task, int sub)
{
    const attention_state *state = &task->place.span->state;
    const int value_dim = task->call->value_dim, width = tiles_padded(value_dim);
    float *o = task->space.o + (int64_t)sub * AMX_SUB_LANES * width;
    for (int x = 0; x < AMX_SUB_LANES; x++) {
        const int lane = sub * AMX_SUB_LANES + x;
        const bool real = lane < task->place.rows && !(task->subs[sub].blocked >> x & 1);
        const int64_t row = real ? amx_state_row(task, lane) : 0;
        float *values = task->space.rows + (int64_t)x * width;
        task->space.m[lane] = real ? state->m[row] : -INFINITY;
        task->space.l[lane] = real ? state->l[row] : 0;
        for (int e = 0; e < width; e++) values[e] = real && e < value_dim ? state->o[row * value_dim + e] : 0;
    }
    for (int half = 0; half < 2; half++)
        transpose(task->space.rows + (int64_t)half * LANES * width, width, LANES, width,
                  o + (int64_t)half * LANES * width, LANES);
}

static void amx_state_store(const amx_task *task, int sub)
{
    const attention_state *state = &task->place.span->state;
    const int value_dim = task->call->value_dim, width = tiles_padded(value_dim);
    const float *o = task->space.o + (int64_t)sub * AMX_SUB_LANES * width;
    for (int half = 0; half < 2; half++)
        transpose(o + (int64_t)half * LANES * width, LANES, width, LANES,
                  task->space.rows + (int64_t)half * LANES * width, width);
    for (int x = 0; x < AMX_SUB_LANES && sub * AMX_SUB_LANES + x < task->place.rows; x++) {
        const int lane = sub * AMX_SUB_LANES + x;
        const int64_t row = amx_state_row(task, lane);
        if (task->subs[sub].blocked >> x & 1) continue;
        state->m[row] = task->space.m[lane];
        state->l[row] = task->space.l[lane];
        for (int e = 0; e < value_dim; e++)
            state->o[row * value_dim + e] = task->space.rows[(int64_t)x * width + e] + 0.0f;
    }
}

/* A row that sees nothing has the range [0, 0), which keeps its sub-block off the unmasked way. */
static void amx_visible_load(amx_task *task, bool look_inside)
{
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        amx_sub_block *bounds = &task->subs[sub];
        bounds->begin_min = bounds->end_min = INT64_MAX;
        bounds->begin_max = bounds->end_max = INT64_MIN;
        for (int lane = sub * AMX_SUB_LANES; lane < (sub + 1) * AMX_SUB_LANES; lane++) {
            int64_t begin = 0, end = 0;
            if (look_inside && lane < task->place.rows) {
                const int64_t token = amx_span_row(task, lane) / task->group;
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

/* Keys [begin, end) of the segment, within a block of the grid, as block `index` of the chunk. Keys that do not split
 * leave zeros in the tiles, and so do those that are not there. */
static void block_pack(amx_task *task, const attention_segment *segment, int64_t begin, int64_t end, int index)
{
    const attention_call *call = task->call;
    const int keys = (int)(end - begin), d = tiles_padded(call->dim), e = tiles_padded(call->value_dim);
    uint16_t *k = task->space.k + (int64_t)index * task->parts * ATTENTION_KEY_BLOCK * d;
    uint16_t *v = task->space.v + (int64_t)index * task->parts * ATTENTION_KEY_BLOCK * e;
    float *rows = task->space.rows, *columns = task->space.columns;
    uint64_t unclean = 0;

    for (int j = 0; j < keys; j++) {
        const int64_t offset =
            (begin - segment->begin + j) * segment->v_token_stride + task->place.kv_head * segment->v_head_stride;
        row_load(call, segment->v, offset, call->value_dim, e, rows + (int64_t)j * e);
        if (!value_splits(rows + (int64_t)j * e, e, task->parts)) unclean |= 1ull << j;
    }
    for (int j = 0; j < ATTENTION_KEY_BLOCK; j++) {
        float *row = columns; /* free until the values are transposed */
        bool there = j < keys && !(unclean >> j & 1);
        int64_t position = begin + j;
        if (segment->positions) position = j < keys ? segment->positions[begin - segment->begin + j] : 0;
        task->space.key_positions[index * ATTENTION_KEY_BLOCK + j] = (int32_t)(uint32_t)position;
        if (there) {
            const int64_t offset =
                (begin - segment->begin + j) * segment->k_token_stride + task->place.kv_head * segment->k_head_stride;
            row_load(call, segment->k, offset, call->dim, d, row);
            if (task->rotary) rotary_turn(task->rotary, position, row);
            there = key_splits(row, d, 1);
        }
        if (!there) {
            memset(row, 0, (size_t)d * sizeof *row);
            memset(rows + (int64_t)j * e, 0, (size_t)e * sizeof *rows);
            if (j < keys) unclean |= 1ull << j;
        }
        key_to_tiles(row, d, j, task->parts, k);
    }
    transpose(rows, e, ATTENTION_KEY_BLOCK, e, columns, ATTENTION_KEY_BLOCK);
    for (int i = 0; i < e; i++) value_column_to_tiles(columns + (int64_t)i * ATTENTION_KEY_BLOCK, e, i, task->parts, v);

    task->begin[index] = begin;
    task->keys[index] = keys;
    task->unclean[index] = unclean;
    sweep_poll_after(&task->sweep, AMX_POLL_INTERVAL / 4);
}

static void sweep_flush(amx_task *task)
{
    sweep *s = &task->sweep;
    if (s->count == 0) return;
    if (task->parts == 1) sweep_of_one_part(s);
    else if (task->parts == 2) sweep_of_two_parts(s);
    else sweep_of_three_parts(s);
    s->count = 0;
}

/* Lanes of the sub-block, of those that are rows and split, that see a key of the block which does not. */
static uint32_t lanes_that_see_unclean(const amx_task *task, int sub, int block, const sweep_block *keys)
{
    uint32_t lanes = 0;
    if (!task->unclean[block]) return 0;
    for (int x = 0; x < AMX_SUB_LANES && sub * AMX_SUB_LANES + x < task->place.rows; x++) {
        const int first = task->sweep.visible_begin ? within_keys(task->sweep.visible_begin[x], keys) : 0;
        const int last = task->sweep.visible_end ? within_keys(task->sweep.visible_end[x], keys) : keys->keys;
        if (task->subs[sub].blocked >> x & 1 || first >= last) continue;
        const uint64_t seen = (last < 64 ? (1ull << last) - 1 : ~0ull) & ~((1ull << first) - 1);
        if (task->unclean[block] & seen) lanes |= 1u << x;
    }
    return lanes;
}

static void chunk_fold_sub_block(amx_task *task, const attention_segment *segment, int sub)
{
    const attention_call *call = task->call;
    const amx_sub_block *bounds = &task->subs[sub];
    const int d = tiles_padded(call->dim), e = tiles_padded(call->value_dim), first = sub * AMX_SUB_LANES;
    const int rows = task->place.rows - first < AMX_SUB_LANES ? task->place.rows - first : AMX_SUB_LANES;
    const uint32_t all = rows == AMX_SUB_LANES ? ~0u : (1u << rows) - 1;
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

static void amx_segment_fold(amx_task *task, const attention_segment *segment)
{
    const int most = amx_chunk_blocks(task->call->dim, task->call->value_dim, task->parts);
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

static __attribute__((noinline)) void amx_task_run(amx_task *task)
{
    bool look_inside = false;
    task->sub_blocks = (task->place.rows + AMX_SUB_LANES - 1) / AMX_SUB_LANES;
    for (int i = 0; i < task->place.span->segment_count; i++)
        look_inside = look_inside || task->place.span->segments[i].look_inside;
    amx_visible_load(task, look_inside);
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        queries_load(task, sub);
        amx_state_load(task, sub);
        if (task->call->scores.slopes) amx_slopes_load(task, sub);
        sweep_poll_after(&task->sweep, AMX_POLL_INTERVAL / 8);
    }
    blocked_queries_fold(task);
    for (int i = 0; i < task->place.span->segment_count; i++) amx_segment_fold(task, &task->place.span->segments[i]);
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        amx_state_store(task, sub);
        sweep_poll_after(&task->sweep, AMX_POLL_INTERVAL / 8);
    }
}

static int parts_of_compute(attention_compute compute)
{
    return compute == COMPUTE_BF16 ? 1 : compute == COMPUTE_BF16X3 ? 2 : 3;
}

/* The calling thread polls while others still compute. */
static void amx_fold(const attention_call *call, const attention_span *spans, int64_t span_count)
{
    const double factor = (double)call->scale * 1.4426950408889634;

    /* A scale of 0, NaN or a denormal would make NaN of a score of -inf. */
    if (call->compute == COMPUTE_FP32 || !(fabs(factor) >= 0x1p-126 && fabs(factor) <= factor_limit)) {
        AMX_BLOCKED.fold(call, spans, span_count);
        return;
    }
    const int parts = parts_of_compute(call->compute);
    const int most = amx_sub_blocks(call->dim, call->value_dim, parts) * AMX_SUB_LANES;
    task_queue queue = task_queue_of(call, spans, span_count, most, AMX_SUB_LANES);
    if (queue.tasks == 0) return;

#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        const int thread = omp_get_thread_num();
        const bool polls = thread == 0 && call->poll;
        int64_t work = 0;
        task_cursor cursor = task_cursor_first(&queue);
        const amx_workspace space = amx_workspace_of_thread(call, parts, thread);
        rotary_angles rotary;
        if (call->scores.rope_dim) rotary = rotary_create(&call->scores, space.rotary);
        amx_task task = {.call = call,
                         .queue = &queue,
                         .space = space,
                         .cap = score_cap_of(call->scores.softcap),
                         .rotary = call->scores.rope_dim ? &rotary : NULL,
                         .parts = parts,
                         .factor = (float)fabs(factor),
                         .sign = factor < 0 ? -1 : 1,
                         .group = call->heads / call->kv_heads,
                         .sweep = {.call = call, .queue = &queue, .poll_work = polls ? &work : NULL}};
        tiles_configure();
        if (call->mark) call->mark(call->mark_data, thread, true);
        while (task_draw(&queue, &cursor, &task.place)) {
            amx_task_run(&task);
            atomic_fetch_add(&queue.finished, 1);
        }
        if (call->mark) call->mark(call->mark_data, thread, false);
        while (polls && atomic_load(&queue.finished) < queue.tasks) task_queue_poll(&queue);
        if (polls) task_queue_poll(&queue);
        tiles_release();
        environment_leave(environment);
    }
}

/* Products whose sums are four registers, as many as can be under way. */
static double amx_tile_peak(double seconds)
{
    enum { STEPS = 4000 };
    const double flop = (double)STEPS * 4 * TILE_FLOPS;
    const float_environment environment = environment_enter();
    static const uint16_t zeros[2 * TILE_NUMBERS] __attribute__((aligned(64)));
    const double start = seconds_now();
    double best = 0, now = start;
    tiles_configure();
    tiles_zero();
    tiles_left_load(zeros);
    tiles_right_load(zeros);
    do {
        const double before = now;
        for (int step = 0; step < STEPS; step++) {
            tiles_multiply(0, 0);
            tiles_multiply(0, 1);
            tiles_multiply(1, 0);
            tiles_multiply(1, 1);
        }
        now = seconds_now();
        if (flop > best * (now - before)) best = flop / (now - before);
    } while (now - start < seconds);
    tiles_release();
    environment_leave(environment);
    return best;
}

#endif
