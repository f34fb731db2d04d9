/* The blocked fold, once for every ISA. Included by one file an ISA, which defines before:
 *   LANES          floats of a native vector; divides VALUE_TILE
 *   VECTORS        vectors of lanes in a register tile of scores
 *   SCORE_TILE     keys of it, of which there are two at a time; divides ATTENTION_KEY_BLOCK
 *   VALUE_ROWS     rows of a register tile of o; divides LANES * VECTORS
 *   VALUE_VECTORS  vectors of value columns of it
 * and uses blocked_fold and blocked_peak.
 *
 * Scores are transposed: a lane is one query row (a token and one query head of the group that shares a key head), so
 * that keys are broadcast from where they are, max, sum and rescale need no horizontal step, and the arithmetic of a
 * row cannot depend on its neighbours. The sums of values are not: there a lane is a value column and P is broadcast, so
 * that o is read and written row by row, wherever its rows are. For a key block C on the global grid and a row x,
 *
 *     S[j][x] = sum_d k[j][d] q[d][x]                 SCORE_TILE keys by VECTORS of rows, in registers
 *     S[j][x] = what attention_scores makes of it     where it asks: a pass of its own, and q and k rotated when copied,
 *                                                     or u added to q: attention_relative.h
 *     m' = max_j S[j][x] if that exceeds m by more than RESCALE_GAP, else m;    a = 2^(m - m'), 1 if m stays
 *     P[j][x] = 2^(S[j][x] - m'),   l = a l + sum_j P[j][x]
 *     o[x][e] = a o[x][e] + sum_j P[j][x] v[j][e]      VALUE_ROWS rows by VALUE_VECTORS of columns, in registers
 *
 * Sums run over the keys of a block in order, from zero, and then into the state: two levels, so that the rounding
 * error grows with the square root of the number of blocks, not of keys.
 *
 * A key that a row does not see has S = -inf, hence P = 0 exactly, and adds nothing: the bits are those of the same
 * row where all its neighbours see the block, or none does. A zero may lose its sign that way; o is stored with +0.
 *
 * Sources: online softmax, Milakov & Gimelshein, arXiv 1805.02867; the deferred rescale, FlashAttention-4 (2025).
 * Held by tests/kernels/test_fold.c and tests/kernels/test_fold_bits.c. */
#ifndef KERNELS_ATTENTION_BLOCKED_H
#define KERNELS_ATTENTION_BLOCKED_H

#include "kernels/attention_ahead.h"
#include "kernels/attention_key_block.h"
#include "kernels/attention_peak.h"
#include "kernels/attention_relative.h"
#include "kernels/attention_task.h"

#include <omp.h>

/* Keys of the block that each lane sees: seen[lane] = [first, last). */
typedef struct {
    integers first[VECTORS], last[VECTORS];
} lane_ranges;

/* scores += total, or = total the first time. */
INLINE void scores_add(vector *restrict scores, vector total[restrict SCORE_TILE][VECTORS], int width, bool first_time)
{
    for (int j = 0; j < SCORE_TILE; j++)
        for (int x = 0; x < width; x++) {
            if (!first_time) total[j][x] += scores[j * VECTORS + x];
            scores[j * VECTORS + x] = total[j][x];
        }
}

/* S of SCORE_TILE keys. For the rounding error the sums over D have three levels: DOT_CHUNK products, their sums within
 * DOT_GROUP, and the groups. `ahead`: what is fetched meanwhile; NULL for nothing. */
INLINE void tile_scores(const float *restrict q, const float *restrict k, int64_t k_stride, int dim, int width,
                        vector *restrict scores, rows_ahead *ahead)
{
    vector total[SCORE_TILE][VECTORS] = {{{0}}};
    for (int chunk = 0; chunk < dim; chunk += DOT_CHUNK) {
        const int end = dim - chunk < DOT_CHUNK ? dim : chunk + DOT_CHUNK;
        vector s[SCORE_TILE][VECTORS];
        if (ahead) rows_ahead_next(ahead);
        if (chunk > 0 && chunk % DOT_GROUP == 0) scores_add(scores, total, width, chunk == DOT_GROUP);
        for (int j = 0; j < SCORE_TILE; j++)
            for (int x = 0; x < width; x++) s[j][x] = (vector){0};
#pragma GCC unroll 2
        for (int d = chunk; d < end; d++) {
            const vector *row = (const vector *)(q + d * SUB_LANES);
            if (ahead) rows_ahead_fetch(ahead, d - chunk);
            for (int j = 0; j < SCORE_TILE; j++)
                for (int x = 0; x < width; x++) s[j][x] = multiply_add(splat(k[j * k_stride + d]), row[x], s[j][x]);
        }
        if (chunk % DOT_GROUP == 0) {
            for (int j = 0; j < SCORE_TILE; j++)
                for (int x = 0; x < width; x++) total[j][x] = s[j][x];
        } else {
            for (int j = 0; j < SCORE_TILE; j++)
                for (int x = 0; x < width; x++) total[j][x] += s[j][x];
        }
    }
    scores_add(scores, total, width, dim <= DOT_GROUP);
}

/* The largest score of each lane; keys that it does not see get -inf. NaN compares false: it does not become the
 * reference, but reaches the row through P. A zero is +0, whichever came first. */
INLINE void largest_scores(float *restrict scores, int first, int last, int width, const lane_ranges *seen,
                           vector *restrict largest)
{
    for (int x = 0; x < width; x++) largest[x] = splat(-INFINITY);
    for (int j = first; j < last; j++) {
        vector *row = (vector *)(scores + j * SUB_LANES);
        for (int x = 0; x < width; x++) {
            if (seen) row[x] = blend((seen->first[x] <= j) & (seen->last[x] > j), row[x], splat(-INFINITY));
            largest[x] = larger(row[x], largest[x]);
        }
    }
    for (int x = 0; x < width; x++) largest[x] += 0.0f;
}

/* o of `vectors` vectors of value columns from column `e` on, of VALUE_ROWS rows. Here a lane is a column: sums and
 * states of rows, wherever they are, need no transposing; every element still goes through the same operations. */
INLINE void tile_values(const float *restrict p, const float *restrict v, int64_t v_stride, int first, int last,
                        const float *restrict rescale, float *const *restrict o_rows, int e, int vectors)
{
    vector sum[VALUE_ROWS][VALUE_VECTORS];
    for (int r = 0; r < VALUE_ROWS; r++)
        for (int x = 0; x < vectors; x++) {
            __builtin_prefetch(o_rows[r] + e + x * LANES, 1);
            sum[r][x] = (vector){0};
        }
    for (int j = first; j < last; j++) {
        const vector *values = (const vector *)(v + j * v_stride + e);
        for (int r = 0; r < VALUE_ROWS; r++)
            for (int x = 0; x < vectors; x++)
                sum[r][x] = multiply_add(splat(p[j * SUB_LANES + r]), values[x], sum[r][x]);
    }
    for (int r = 0; r < VALUE_ROWS; r++) {
        loose_vector *o = (loose_vector *)(o_rows[r] + e);
        for (int x = 0; x < vectors; x++) o[x] = multiply_add(o[x], splat(rescale[r]), sum[r][x]) + 0.0f;
    }
}

/* o of all rows of a sub-block, and all value columns. Tiles may end with lanes that have no row: nobody reads theirs. */
INLINE void rows_add_values(const fold_task *task, int sub, const key_block *block, int first, int last,
                            const float *rescale)
{
    const int width = (task->call->value_dim + LANES - 1) / LANES * LANES;
    const int64_t v_stride = (int64_t)value_row_floats(task->call->value_dim);
    const int left = task->rows - sub * SUB_LANES, rows = left < SUB_LANES ? left : SUB_LANES;
    int e = 0;
    for (; e + VALUE_VECTORS * LANES <= width; e += VALUE_VECTORS * LANES)
        for (int r = 0; r < rows; r += VALUE_ROWS)
            tile_values(task->space.scores + r, block->v, v_stride, first, last, rescale + r,
                        task->o_rows + sub * SUB_LANES + r, e, VALUE_VECTORS);
    for (; e < width; e += LANES)
        for (int r = 0; r < rows; r += VALUE_ROWS)
            tile_values(task->space.scores + r, block->v, v_stride, first, last, rescale + r,
                        task->o_rows + sub * SUB_LANES + r, e, 1);
}

/* The same where values are not finite and not all rows see them: each row by itself, with the keys that it sees, so
 * that NaN and Inf in others go no further. */
static void rows_choose_values(const fold_task *task, int sub, const key_block *block, const lane_ranges *seen,
                               const float *rescale)
{
    const int value_dim = task->call->value_dim;
    const int64_t v_stride = (int64_t)value_row_floats(value_dim);
    for (int r = 0; r < SUB_LANES && sub * SUB_LANES + r < task->rows; r++) {
        float *o = task->o_rows[sub * SUB_LANES + r];
        for (int e = 0; e < value_dim; e += LANES) {
            vector sum = {0};
            for (int j = seen->first[r / LANES][r % LANES]; j < seen->last[r / LANES][r % LANES]; j++)
                sum = multiply_add(splat(task->space.scores[j * SUB_LANES + r]),
                                   *(const vector *)(block->v + j * v_stride + e), sum);
            *(loose_vector *)(o + e) = multiply_add(*(loose_vector *)(o + e), splat(rescale[r]), sum) + 0.0f;
        }
    }
}

/* Scores in `scores` become probabilities; m and l take them up. */
INLINE void probabilities(float *restrict scores, int first, int last, int width, const vector *restrict largest,
                          vector *restrict m, vector *restrict l, vector *restrict rescale)
{
    vector reference[VECTORS], sum[VECTORS];
    for (int x = 0; x < width; x++) {
        reference[x] = reference_move(largest[x], &m[x], &rescale[x]);
        sum[x] = (vector){0};
    }
    for (int j = first; j < last; j++) {
        vector *row = (vector *)(scores + j * SUB_LANES);
        for (int x = 0; x < width; x++) {
            row[x] = exp2_vector(row[x] - reference[x]);
            sum[x] += row[x];
        }
    }
    for (int x = 0; x < width; x++) l[x] = multiply_add(l[x], rescale[x], sum[x]);
}

/* The share of the block's next rows that belongs to key `key` of a sub-block, one of SCORE_TILE. */
INLINE void next_rows_fetch(const fold_task *task, int sub, const key_block *block, int key)
{
    const int steps = task->sub_blocks * ATTENTION_KEY_BLOCK, step = sub * ATTENTION_KEY_BLOCK + key;
    const int end = (step + SCORE_TILE) * block->next.keys / steps;
    for (int row = step * block->next.keys / steps; row < end; row++) {
        row_fetch(&block->next.k, row);
        row_fetch(&block->next.v, row);
    }
}

static bool scores_have_terms(const fold_task *task)
{
    return task->cap.cap != 0 || task->call->scores.slopes;
}

/* Cap and slope of the scores of keys [first, last) of the block. */
static __attribute__((noinline)) void scores_apply_terms(const fold_task *task, int sub, int first, int last)
{
    vector *scores = (vector *)(task->space.scores + first * SUB_LANES);
    const int count = (last - first) * VECTORS;
    if (task->cap.cap != 0)
        for (int i = 0; i < count; i++) scores[i] = score_capped(scores[i], task->cap);
    if (!task->call->scores.slopes) return;
    const vector *slope = (const vector *)(task->space.slope + sub * SUB_LANES);
    const integers *position = (const integers *)(task->space.position + sub * SUB_LANES);
    for (int j = first; j < last; j++, scores += VECTORS) {
        const integers key = task->space.key_positions[j] - (integers){0};
        for (int x = 0; x < VECTORS; x++) scores[x] = score_sloped(scores[x], slope[x], position[x], key);
    }
}

/* Scores of keys [first, last) of the block, a multiple of SCORE_TILE, for the first `width` vectors of a sub-block.
 * `ahead`: as of tile_scores. */
INLINE void scores_make(const fold_task *task, int sub, const key_block *block, int first, int last, int width,
                        rows_ahead *ahead)
{
    const int dim = task->call->dim;
    const float *q = queries_of(task, sub);
    for (int j = first; j < last; j += SCORE_TILE) {
        next_rows_fetch(task, sub, block, j);
        tile_scores(q, block->k + j * block->k_stride, block->k_stride, dim, width,
                    (vector *)(task->space.scores + j * SUB_LANES), ahead);
    }
    if (task->inside) relative_add(task, sub, block, first, last);
    if (scores_have_terms(task)) scores_apply_terms(task, sub, first, last);
}

/* Folds keys [first, last) of the block, a multiple of SCORE_TILE, into the first `width` vectors of a sub-block. */
INLINE void sub_block_update(const fold_task *task, int sub, const key_block *block, int first, int last, int width,
                             const lane_ranges *seen, const lane_ranges *choose, rows_ahead *ahead)
{
    vector largest[VECTORS];
    union {
        vector vectors[VECTORS];
        float row[SUB_LANES];
    } rescale = {{{0}}};

    scores_make(task, sub, block, first, last, width, ahead);
    largest_scores(task->space.scores, first, last, width, seen, largest);
    probabilities(task->space.scores, first, last, width, largest, (vector *)(task->space.m + sub * SUB_LANES),
                  (vector *)(task->space.l + sub * SUB_LANES), rescale.vectors);
    if (choose) rows_choose_values(task, sub, block, choose, rescale.row);
    else rows_add_values(task, sub, block, first, last, rescale.row);
}

/* The three ways of a sub-block, each compiled on its own: no mask code at all; lanes that do not see every key; and
 * such lanes beside values that are not finite. The first two once more for the end of the rows, where a sub-block has
 * one vector of them, or two: those of a sparse pattern have many such ends. The first also where rows to come are
 * fetched. */
static __attribute__((noinline)) void update_unmasked(const fold_task *task, int sub, const key_block *block)
{
    sub_block_update(task, sub, block, 0, block->keys, VECTORS, NULL, NULL, NULL);
}

static __attribute__((noinline)) void update_unmasked_ahead(const fold_task *task, int sub, const key_block *block)
{
    rows_ahead ahead = rows_ahead_begin(task);
    sub_block_update(task, sub, block, 0, block->keys, VECTORS, NULL, NULL, &ahead);
}

static __attribute__((noinline)) void update_unmasked_narrow(const fold_task *task, int sub, const key_block *block,
                                                             int width)
{
    if (width == 1) sub_block_update(task, sub, block, 0, block->keys, 1, NULL, NULL, NULL);
    else sub_block_update(task, sub, block, 0, block->keys, 2, NULL, NULL, NULL);
}

static __attribute__((noinline)) void update_boundary(const fold_task *task, int sub, const key_block *block, int first,
                                                      int last, const lane_ranges *seen)
{
    sub_block_update(task, sub, block, first, last, VECTORS, seen, NULL, NULL);
}

static __attribute__((noinline)) void update_boundary_narrow(const fold_task *task, int sub, const key_block *block,
                                                             int first, int last, int width, const lane_ranges *seen)
{
    if (width == 1) sub_block_update(task, sub, block, first, last, 1, seen, NULL, NULL);
    else sub_block_update(task, sub, block, first, last, 2, seen, NULL, NULL);
}

static __attribute__((noinline)) void update_choosing(const fold_task *task, int sub, const key_block *block, int first,
                                                      int last, const lane_ranges *seen)
{
    sub_block_update(task, sub, block, first, last, VECTORS, seen, seen, NULL);
}

/* Vectors of a sub-block that hold rows. */
static int width_of(const fold_task *task, int sub)
{
    const int vectors = (task->rows - sub * SUB_LANES + LANES - 1) / LANES;
    return vectors < VECTORS ? vectors : VECTORS;
}

static bool values_finite(const key_block *block, int value_dim)
{
    uint32_t special = 0;
    for (int j = 0; j < block->keys; j++) {
        const float *row = block->v + (size_t)j * value_row_floats(value_dim);
        for (int e = 0; e < value_dim; e++) special |= (float_bits(row[e]) & 0x7f800000u) == 0x7f800000u;
    }
    return special == 0;
}

/* Keys of the block that the lanes of a sub-block see; without look_inside all of them, but still no padding. */
static lane_ranges ranges_of_lanes(const fold_task *task, int sub, const key_block *block, bool look_inside)
{
    union {
        lane_ranges vectors;
        struct {
            int32_t first[SUB_LANES], last[SUB_LANES];
        } lane;
    } seen;
    for (int x = 0; x < SUB_LANES; x++) {
        const int lane = sub * SUB_LANES + x;
        seen.lane.first[x] = look_inside ? within_block(task->space.visible_begin[lane], block) : 0;
        seen.lane.last[x] = look_inside ? within_block(task->space.visible_end[lane], block) : block->keys;
    }
    return seen.vectors;
}

/* What lanes of a sub-block see of a block: keys [first, last), whole tiles; `whole` if every lane sees all of it. */
typedef struct {
    int first, last;
    bool whole;
} sub_block_view;

static sub_block_view view_of_block(const fold_task *task, int sub, const key_block *block, bool look_inside)
{
    const sub_block_bounds *bounds = &task->bounds[sub];
    const int64_t end = block->begin + block->keys;
    sub_block_view view = {.last = block->keys, .whole = block->keys % SCORE_TILE == 0};
    if (look_inside) {
        if (end <= bounds->begin_min || block->begin >= bounds->end_max) return (sub_block_view){0};
        view.whole = view.whole && bounds->begin_max <= block->begin && bounds->end_min >= end;
        view.first = within_block(bounds->begin_min, block);
        view.last = within_block(bounds->end_max, block);
    }
    view.first -= view.first % SCORE_TILE;
    view.last += (SCORE_TILE - view.last % SCORE_TILE) % SCORE_TILE;
    return view;
}

static void sub_block_fold(const fold_task *task, int sub, const key_block *block, bool look_inside)
{
    const sub_block_view view = view_of_block(task, sub, block, look_inside);
    const int width = width_of(task, sub);
    if (view.first >= view.last) return;
    const bool fetches = task->ahead_lane < task->ahead.rows;
    if (view.whole && width > 2 && fetches) {
        update_unmasked_ahead(task, sub, block);
        return;
    }
    if (fetches) rows_fetch(task->call, &task->ahead, task->ahead_lane);
    if (view.whole) {
        if (width > 2) update_unmasked(task, sub, block);
        else update_unmasked_narrow(task, sub, block, width);
        return;
    }
    const lane_ranges seen = ranges_of_lanes(task, sub, block, look_inside);
    if (!values_finite(block, task->call->value_dim)) update_choosing(task, sub, block, view.first, view.last, &seen);
    else if (width > 2) update_boundary(task, sub, block, view.first, view.last, &seen);
    else update_boundary_narrow(task, sub, block, view.first, view.last, width, &seen);
}

/* Fetches the rows of the next task while it folds the last block. */
static void blocks_fold(fold_task *task)
{
    const int64_t flop_of_key = (int64_t)SUB_LANES * 2 * (task->call->dim + task->call->value_dim);
    block_place place, next;
    bool more = block_find(task, 0, 0, &place);
    for (; more; place = next) {
        more = block_find(task, place.segment, place.end, &next);
        const key_block block = block_prepare(task, &place, more ? &next : NULL);
        if (!more) task->ahead = rows_of_next(task, task->sub_blocks * SUB_LANES);
        for (int sub = 0; sub < task->sub_blocks; sub++) {
            task->ahead_lane = sub * SUB_LANES;
            sub_block_fold(task, sub, &block, task->span->segments[place.segment].look_inside);
            poll_after(task, flop_of_key * block.keys);
        }
    }
    task->ahead = (row_list){0};
}

static void task_queries_load(const fold_task *task)
{
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        queries_load(task, sub);
        poll_after(task, POLL_INTERVAL / 8);
    }
}

/* The keys of the span, segment by segment, and part by part of each. The queries that are loaded are those of the part
 * before. */
static void parts_fold(fold_task *task)
{
    const attention_span *whole = task->span;
    for (int i = 0; i < whole->segment_count; i++)
        for (relative_part part = 0; part < RELATIVE_PARTS; part++) {
            if (!relative_visible_load(task, &whole->segments[i], part)) continue;
            const bool before = task->inside;
            task->inside = part == RELATIVE_INSIDE;
            if (task->inside != before) task_queries_load(task);
            attention_segment seen = whole->segments[i];
            attention_span alone = *whole;
            seen.look_inside = true;
            alone.segments = &seen;
            alone.segment_count = 1;
            task->span = &alone;
            blocks_fold(task);
            task->span = whole;
        }
}

/* A block that is all the task's rows see, sub-block by sub-block. */
static void block_fold_alone(fold_task *task, const block_place *place)
{
    lanes_fetch(task, 0);
    task->ahead = rows_of_task(task);
    const key_block block = block_prepare(task, place, NULL);
    const bool look_inside = task->span->segments[place->segment].look_inside;
    task->alone = true;
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        queries_load(task, sub);
        state_load(task, sub);
        if (task->call->scores.slopes) terms_load(task, sub);
        const bool last = sub + 1 == task->sub_blocks;
        if (last) task->ahead = rows_of_next(task, SUB_LANES);
        task->ahead_lane = last ? 0 : (sub + 1) * SUB_LANES;
        sub_block_fold(task, sub, &block, look_inside);
        state_store(task, sub);
        poll_after(task, (int64_t)SUB_LANES * 2 * (task->call->dim + task->call->value_dim) * block.keys);
    }
    task->alone = false;
    task->ahead = (row_list){0};
}

static __attribute__((noinline)) void task_run(fold_task *task)
{
    const attention_relative *relative = task->call->scores.relative;
    block_place place, next;
    rows_find(task);
    task->inside = relative != NULL; /* most of its keys are */
    if (relative) relative_runs_clear(task);
    else if (span_looks_inside(task->span)) visible_load(task);
    if (!relative) {
        if (!block_find(task, 0, 0, &place)) return;
        if (!block_find(task, place.segment, place.end, &next)) {
            block_fold_alone(task, &place);
            return;
        }
    }
    lanes_fetch(task, 0);
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        lanes_fetch(task, (sub + 1) * SUB_LANES);
        queries_load(task, sub);
        if (relative || task->call->scores.slopes) terms_load(task, sub);
        state_load(task, sub);
        poll_after(task, POLL_INTERVAL / 4);
    }
    if (relative) parts_fold(task);
    else blocks_fold(task);
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        state_store(task, sub);
        poll_after(task, POLL_INTERVAL / 8);
    }
}

#include "kernels/attention_few.h"

/* Whether every span's keys lie in one block, so that each task goes through block_fold_alone. */
static bool spans_are_alone(const attention_call *call, const attention_span *spans, int64_t span_count)
{
    if (call->scores.relative) return false;
    for (int64_t s = 0; s < span_count; s++) {
        const attention_segment *keys = spans[s].segments;
        if (spans[s].segment_count > 1) return false;
        if (spans[s].segment_count == 1 &&
            keys->begin / ATTENTION_KEY_BLOCK != (keys->end - 1) / ATTENTION_KEY_BLOCK)
            return false;
    }
    return true;
}

static void task_choose(fold_task *task, const task_place *place)
{
    task->span = place->span;
    task->kv_head = place->kv_head;
    task->first_row = place->first_row;
    task->rows = place->rows;
    task->sub_blocks = (task->rows + SUB_LANES - 1) / SUB_LANES;
}

/* Whether all threads are to work on one span after the other: every span is of few rows, and there are not enough
 * tasks to keep all threads busy to the end. Of more than FEW_ROWS rows the blocked form is faster while it has a task
 * for each thread. */
static bool threads_share_tasks(const task_queue *queue)
{
    const attention_call *call = queue->call;
    int64_t most = 0;
    for (int64_t s = 0; s < queue->span_count; s++)
        if (span_rows(call, &queue->spans[s]) > most) most = span_rows(call, &queue->spans[s]);
    return call->threads > 1 && most <= FEW_ROWS_MOST &&
           queue->draws < (most > FEW_ROWS ? 1 : 4) * (int64_t)call->threads;
}

/* All threads work on one span after the other. */
static void tasks_run_together(fold_task *task, few_team *team)
{
    const task_queue *queue = task->queue;
    int64_t ticket = 0;
    for (int64_t s = 0; s < queue->span_count; s++) {
        const task_place all = span_whole(task->call, &queue->spans[s]);
        task_choose(task, &all);
        if (all.rows > 0) ticket = few_run(task, all.kv_head, all.heads, team, ticket, 0, task->call->threads);
        if (task->thread == 0) atomic_fetch_add(&task->queue->finished, 1);
    }
}

static void tasks_run_apart(fold_task *task)
{
    task_cursor cursor = task_cursor_first(task->queue);
    for (task_place place; task_draw(task->queue, &cursor, &place);) {
        task_choose(task, &place);
        task->has_next = !task->call->scores.relative && task_after(task->queue, &cursor, &task->next);
        if (place.rows > FEW_ROWS) task_run(task);
        else few_run(task, place.kv_head, place.heads, &(few_team){0}, 0, task->thread, 1);
    }
}

/* The calling thread polls while others still compute. */
static void blocked_fold(const attention_call *call, const attention_span *spans, int64_t span_count)
{
    const int lanes = spans_are_alone(call, spans, span_count) ? WORKSPACE_LANES_MAX
                                                               : workspace_lanes(call->dim, call->value_dim);
    task_queue queue = task_queue_of(call, spans, span_count, lanes, WORKSPACE_SUB_LANES, FEW_ROWS);
    if (queue.draws == 0) return;
    const bool together = threads_share_tasks(&queue);
    if (together) queue.pieces = span_count;
    few_team team = {0};

#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        const int thread = omp_get_thread_num();
        int64_t work = 0;
        const task_workspace space = workspace_of_thread(call, thread);
        rotary_angles rotary;
        if (call->scores.rope_dim) rotary = rotary_create(&call->scores, space.rotary);
        relative_workspace relative = {0};
        if (call->scores.relative) relative = relative_workspace_of_thread(call, thread);
        fold_task task = {.call = call,
                          .queue = &queue,
                          .space = space,
                          .thread = thread,
                          .group = call->heads / call->kv_heads,
                          .cap = score_cap_of(call->scores.softcap),
                          .rotary = call->scores.rope_dim ? &rotary : NULL,
                          .relative = relative,
                          .poll_work = thread == 0 && call->poll ? &work : NULL};
        if (call->mark) call->mark(call->mark_data, thread, true);
        if (together) tasks_run_together(&task, &team);
        else tasks_run_apart(&task);
        if (call->mark) call->mark(call->mark_data, thread, false);
        if (task.poll_work) task_queue_wait(&queue);
        environment_leave(environment);
    }
}

#endif
