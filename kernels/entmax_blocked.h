/* Alpha-entmax in blocks, once for every ISA: kernels/entmax.h says what. Included after attention_blocked.h, whose
 * scores, tasks and lanes these are: a lane is one query row, S[j][x] the score of key j in lane x, here z.
 *
 * A bound a lane is compared with every score; what is above it goes to the row's list, one key after the other, which
 * is rare once the first block has raised the bound. */
#ifndef KERNELS_ENTMAX_BLOCKED_H
#define KERNELS_ENTMAX_BLOCKED_H

#include "kernels/entmax.h"

typedef struct {
    fold_task fold;
    const entmax_call *call;
    int64_t row[WORKSPACE_LANES_MAX]; /* in call->rows, of each lane */
} entmax_task;

_Static_assert((int)ENTMAX_LIST_UNIT % LANES == 0, "lists are whole vectors");

enum { VALUE_DIM_MAX = 512 };

static const float bound_margin = 1e-5f; /* below the threshold of a list, for the rounding of its sums */

static entmax_stage stage_of(const entmax_task *task, int lane)
{
    return lane < task->fold.rows ? (entmax_stage)task->call->rows->stages[task->row[lane]] : ENTMAX_LISTED;
}

/* Sets of stages. */
enum { OPEN_ROWS = 1 << ENTMAX_OPEN, FULL_ROWS = 1 << ENTMAX_FULL, DENSE_ROWS = 1 << ENTMAX_DENSE };

static bool stage_is_of(const entmax_task *task, int lane, unsigned stages)
{
    return stages >> stage_of(task, lane) & 1;
}

/* Is any row of the lanes of a sub-block in one of the stages? */
static bool sub_block_has(const entmax_task *task, int sub, unsigned stages)
{
    for (int x = 0; x < SUB_LANES; x++)
        if (stage_is_of(task, sub * SUB_LANES + x, stages)) return true;
    return false;
}

static bool task_has(const entmax_task *task, unsigned stages)
{
    for (int sub = 0; sub < task->fold.sub_blocks; sub++)
        if (sub_block_has(task, sub, stages)) return true;
    return false;
}

enum { MOST_WHOLE_POWER = 12 };

static bool is_whole_power(float exponent)
{
    return exponent <= MOST_WHOLE_POWER && exponent == (float)(int)exponent;
}

INLINE vector whole_power(vector y, int exponent)
{
    vector power = splat(1);
    for (;; y *= y) {
        if (exponent & 1) power *= y;
        exponent >>= 1;
        if (exponent == 0) return power;
    }
}

/* (y + rest)^exponent of y >= 0, y being rounded: a high power would multiply the error. */
static __attribute__((noinline)) vector power_of_rounded(vector y, vector rest, float exponent)
{
    const vector share = blend(y > 0, rest / larger(y, splat(0x1p-126f)), (vector){0});
    union {
        vector all;
        float lane[LANES];
    } values = {y};
    if (is_whole_power(exponent)) values.all = whole_power(y, (int)exponent);
    else
        for (int x = 0; x < LANES; x++) values.lane[x] = values.lane[x] > 0 ? powf(values.lane[x], exponent) : 0;
    return values.all + values.all * (exponent * share);
}

INLINE vector power_of(vector y, vector rest, float exponent)
{
    if (exponent == 0) return (vector)((integers)splat(1) & (y > 0));
    if (exponent == 1) return y;
    if (exponent == 2) return y * y;
    return power_of_rounded(y, rest, exponent);
}

/* log2 of y > 0, absolute error below 3e-7: of m in [3/4, 3/2) the series of atanh((m - 1) / (m + 1)). -127 of 0. */
INLINE vector log2_roughly(vector y)
{
    const integers exponent = (integers)((bits)y - 0x3f400000u) >> 23;
    const vector m = (vector)((bits)y - ((bits)exponent << 23));
    const vector s = (m - 1) / (m + 1), u = s * s;
    vector p = multiply_add(splat(2.88539008f / 7), u, splat(2.88539008f / 5));
    p = multiply_add(p, u, splat(2.88539008f / 3));
    p = multiply_add(p, u, splat(2.88539008f));
    return multiply_add(p, s, __builtin_convertvector(exponent, vector));
}

/* y^exponent of 0 <= y <= 1, relative error some 1e-6 and what the exponent makes of that of log2: for a bound. */
INLINE vector power_roughly(vector y, float exponent)
{
    if (exponent == 0) return (vector)((integers)splat(1) & (y > 0));
    if (is_whole_power(exponent)) return whole_power(y, (int)exponent);
    return exp2_vector(log2_roughly(y) * exponent);
}

/* Bit x: not z[x] <= bound[x], so that NaN is above every bound. */
INLINE unsigned lanes_above(vector z, vector bound)
{
#if LANES == 16 && defined(__AVX512F__)
    return _mm512_cmp_ps_mask(z, bound, _CMP_NLE_UQ);
#elif LANES == 8 && defined(__AVX__)
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(z, bound, _CMP_NLE_UQ));
#elif LANES == 4 && defined(__SSE__)
    return (unsigned)_mm_movemask_ps(_mm_cmpnle_ps(z, bound));
#else
    unsigned above = 0;
    for (int x = 0; x < LANES; x++) above |= (unsigned)!(z[x] <= bound[x]) << x;
    return above;
#endif
}

static float sum_of(vector v)
{
    float sum = 0;
    for (int x = 0; x < LANES; x++) sum += v[x];
    return sum;
}

/* A bound that the threshold of a list does not fall below: Newton steps as in entmax_threshold.c, a few. The list is
 * filled up to whole vectors with -inf; `from` is such a bound. */
static float list_bound(const float *z, int length, float from, float exponent)
{
    vector largest = splat(-INFINITY);
    for (int i = 0; i < length; i += LANES) largest = larger(*(const vector *)(z + i), largest);
    float top = largest[0];
    for (int x = 1; x < LANES; x++) top = largest[x] > top ? largest[x] : top;
    float t = from - top > -1 ? from - top : -1;
    for (int step = 0; step < 16; step++) {
        vector sum = {0}, slope = {0};
        for (int i = 0; i < length; i += LANES) {
            const vector y = larger((*(const vector *)(z + i) - top) - t, (vector){0});
            const vector below = power_roughly(y, exponent - 1);
            sum += below * y;
            slope += below;
        }
        const float f = sum_of(sum), g = sum_of(slope);
        const float moved = exponent == 1 ? (f - 1) / g : (f - powf(f, 1 - 1 / exponent)) / g;
        if (!(moved > 0)) break;
        t += moved;
        if (moved < 1e-3f / exponent) break;
    }
    const float bound = nextafterf(top + (t - bound_margin), -INFINITY);
    return bound > from ? bound : from;
}

/* Drops what the row's bound has passed. */
static void list_prune(entmax_rows *rows, int64_t row, float exponent)
{
    float *z = rows->weights + row * rows->room;
    uint32_t *keys = rows->keys + row * rows->room;
    int length = rows->lengths[row], kept = 0;
    for (int i = length; i % LANES != 0; i++) z[i] = -INFINITY;
    const float bound = list_bound(z, length, rows->bounds[row], exponent);
    for (int i = 0; i < length; i++) {
        if (z[i] <= bound) continue;
        z[kept] = z[i];
        keys[kept++] = keys[i];
    }
    rows->lengths[row] = kept;
    rows->bounds[row] = bound;
}

/* A key above the bound of a lane, which may rise with it. */
static __attribute__((noinline)) void list_take(const entmax_task *task, int lane, float z, int64_t key)
{
    entmax_rows *rows = task->call->rows;
    const int64_t row = task->row[lane];
    float *bound = &task->fold.space.m[lane], *closed = &task->fold.space.l[lane];
    if (!stage_is_of(task, lane, OPEN_ROWS | FULL_ROWS)) return;
    if (isnan(z)) {
        rows->stages[row] = ENTMAX_NAN;
        *closed = INFINITY;
        return;
    }
    if (rows->lengths[row] == rows->room) {
        rows->bounds[row] = *bound;
        list_prune(rows, row, (float)task->call->exponent);
        *bound = rows->bounds[row];
        if (z <= *bound) return;
        if (rows->lengths[row] == rows->room) {
            rows->stages[row] = ENTMAX_FULL;
            *closed = INFINITY;
            return;
        }
    }
    const int64_t place = row * rows->room + rows->lengths[row]++;
    rows->weights[place] = z;
    rows->keys[place] = (uint32_t)key;
}

/* Thresholds of the lanes of a sub-block; +inf, above which nothing is, of rows in none of the stages. */
typedef struct {
    vector high[VECTORS], low[VECTORS];
} lane_thresholds;

static lane_thresholds thresholds_of_lanes(const entmax_task *task, int sub, unsigned stages)
{
    union {
        lane_thresholds vectors;
        struct {
            float high[SUB_LANES], low[SUB_LANES];
        } lane;
    } t;
    for (int x = 0; x < SUB_LANES; x++) {
        const int lane = sub * SUB_LANES + x;
        const bool counts = stage_is_of(task, lane, stages);
        t.lane.high[x] = counts ? task->call->rows->high[task->row[lane]] : INFINITY;
        t.lane.low[x] = counts ? task->call->rows->low[task->row[lane]] : 0;
    }
    return t.vectors;
}

/* What is lost in a - b = difference (Knuth, TAOCP 2, section 4.2.2, theorem B). */
INLINE vector difference_rest(vector a, vector b, vector difference)
{
    const vector back = difference - a;
    return (a - (difference - back)) - (b + back);
}

/* z - t where that is above 0, else 0, and what is lost to rounding. */
INLINE vector above_threshold(vector z, vector high, vector low, vector *rest)
{
    const vector first = z - high, y = first - low;
    *rest = difference_rest(z, high, first) + difference_rest(first, low, y);
    return larger(y, (vector){0});
}

/* The block's part of the sums of rows that are not listed yet. */
static void sums_add(const entmax_task *task, int sub, int first, int last, int width)
{
    const float exponent = (float)task->call->exponent;
    const lane_thresholds t = thresholds_of_lanes(task, sub, OPEN_ROWS | FULL_ROWS);
    vector sum[VECTORS], slope[VECTORS];
    for (int x = 0; x < VECTORS; x++) sum[x] = slope[x] = (vector){0};
    for (int j = first; j < last; j++) {
        const vector *row = (const vector *)(task->fold.space.scores + j * SUB_LANES);
        for (int x = 0; x < width; x++) {
            vector rest;
            const vector y = above_threshold(row[x], t.high[x], t.low[x], &rest);
            const vector below = power_of(y, rest, exponent - 1);
            sum[x] += below * y;
            slope[x] += below;
        }
    }
    for (int x = 0; x < SUB_LANES; x++) {
        if (!stage_is_of(task, sub * SUB_LANES + x, OPEN_ROWS | FULL_ROWS)) continue;
        double *sums = task->call->rows->sums + 2 * task->row[sub * SUB_LANES + x];
        sums[0] += (double)sum[x / LANES][x % LANES];
        sums[1] += (double)slope[x / LANES][x % LANES];
    }
}

/* Scores of the block to the lists, and to the sums where they are asked for. In space.m the bounds of the lanes; in
 * space.l -inf, or +inf where a lane takes no keys: the bound of a full row still rises with the largest score. */
INLINE void survivors_take(const entmax_task *task, int sub, const key_block *block, const attention_segment *segment,
                           int first, int last, int width, const lane_ranges *seen)
{
    vector *bound = (vector *)(task->fold.space.m + sub * SUB_LANES), largest[VECTORS];
    const vector *closed = (const vector *)(task->fold.space.l + sub * SUB_LANES);
    scores_make(&task->fold, sub, block, first, last, width, NULL);
    largest_scores(task->fold.space.scores, first, last, width, seen, largest);
    for (int x = 0; x < width; x++) bound[x] = larger(largest[x] - 1, bound[x]);
    if (task->call->sums) sums_add(task, sub, first, last, width);
    for (int j = first; j < last; j++) {
        const float *row = task->fold.space.scores + j * SUB_LANES;
        uint64_t above = 0;
        for (int x = 0; x < width; x++)
            above |= (uint64_t)lanes_above(((const vector *)row)[x], larger(bound[x], closed[x])) << (x * LANES);
        for (; above != 0; above &= above - 1) {
            const int x = __builtin_ctzll(above);
            list_take(task, sub * SUB_LANES + x, row[x], key_position(segment, block->begin + j));
        }
    }
}

static __attribute__((noinline)) void survivors_unmasked(const entmax_task *task, int sub, const key_block *block,
                                                         const attention_segment *segment)
{
    survivors_take(task, sub, block, segment, 0, block->keys, VECTORS, NULL);
}

/* Lanes that do not see every key, and the end of the rows. */
static __attribute__((noinline)) void survivors_boundary(const entmax_task *task, int sub, const key_block *block,
                                                         const attention_segment *segment, sub_block_view view)
{
    const lane_ranges seen = ranges_of_lanes(&task->fold, sub, block, segment->look_inside);
    const int width = width_of(&task->fold, sub);
    if (width == 1) survivors_take(task, sub, block, segment, view.first, view.last, 1, &seen);
    else if (width == 2) survivors_take(task, sub, block, segment, view.first, view.last, 2, &seen);
    else survivors_take(task, sub, block, segment, view.first, view.last, VECTORS, &seen);
}

static void collect_block(const entmax_task *task, int sub, const key_block *block, const attention_segment *segment)
{
    const sub_block_view view = view_of_block(&task->fold, sub, block, segment->look_inside);
    if (view.first >= view.last) return;
    if (view.whole && width_of(&task->fold, sub) > 2) survivors_unmasked(task, sub, block, segment);
    else survivors_boundary(task, sub, block, segment, view);
}

/* Weights of the dense rows in place of the scores: by the operations of sums_add, so that they sum to 1 as those did.
 */
static void weights_make(const entmax_task *task, int sub, int first, int last)
{
    const float exponent = (float)task->call->exponent;
    const lane_thresholds t = thresholds_of_lanes(task, sub, DENSE_ROWS);
    for (int j = first; j < last; j++) {
        vector *row = (vector *)(task->fold.space.scores + j * SUB_LANES);
        for (int x = 0; x < VECTORS; x++) {
            vector rest;
            const vector y = above_threshold(row[x], t.high[x], t.low[x], &rest);
            row[x] = power_of(y, rest, exponent - 1) * y;
        }
    }
}

/* o of one key's values where its weight is not zero: beside values that are not finite, of which 0 v is not 0. */
static void values_choose(const fold_task *task, int sub, const key_block *block, int first, int last)
{
    const int value_dim = task->call->value_dim;
    for (int j = first; j < last; j++) {
        const float *p = task->space.scores + j * SUB_LANES;
        const float *v = block->v + (size_t)j * value_row_floats(value_dim);
        for (int x = 0; x < SUB_LANES; x++)
            for (int e = 0; p[x] != 0 && e < value_dim; e++) task->o_rows[sub * SUB_LANES + x][e] += p[x] * v[e];
    }
}

static __attribute__((noinline)) void fold_block(const entmax_task *task, int sub, const key_block *block,
                                                 const attention_segment *segment)
{
    const fold_task *fold = &task->fold;
    const sub_block_view view = view_of_block(fold, sub, block, segment->look_inside);
    vector largest[VECTORS];
    float once[SUB_LANES];
    if (view.first >= view.last) return;
    scores_make(fold, sub, block, view.first, view.last, VECTORS, NULL);
    if (!view.whole) {
        const lane_ranges seen = ranges_of_lanes(fold, sub, block, segment->look_inside);
        largest_scores(fold->space.scores, view.first, view.last, VECTORS, &seen, largest);
    }
    weights_make(task, sub, view.first, view.last);
    for (int x = 0; x < SUB_LANES; x++) once[x] = 1;
    if (!values_finite(block, fold->call->value_dim)) values_choose(fold, sub, block, view.first, view.last);
    else rows_add_values(fold, sub, block, view.first, view.last, once);
}

/* Calls `block_fn` for each block of keys and each sub-block with a row in one of the stages. */
static void blocks_visit(const entmax_task *task, unsigned stages,
                         void (*block_fn)(const entmax_task *task, int sub, const key_block *block,
                                          const attention_segment *segment))
{
    const fold_task *fold = &task->fold;
    const int64_t flop_of_key = (int64_t)SUB_LANES * 2 * (fold->call->dim + fold->call->value_dim);
    block_place place, next;
    bool more = block_find(fold, 0, 0, &place);
    for (; more; place = next) {
        more = block_find(fold, place.segment, place.end, &next);
        const key_block block = block_prepare(fold, &place, more ? &next : NULL);
        for (int sub = 0; sub < fold->sub_blocks; sub++) {
            if (sub_block_has(task, sub, stages)) block_fn(task, sub, &block, &fold->span->segments[place.segment]);
            poll_after(fold, flop_of_key * block.keys);
        }
    }
}

static void queries_load_all(entmax_task *task)
{
    fold_task *fold = &task->fold;
    rows_find(fold);
    if (span_looks_inside(fold->span)) visible_load(fold);
    for (int sub = 0; sub < fold->sub_blocks; sub++) {
        queries_load(fold, sub);
        if (fold->call->scores.slopes) terms_load(fold, sub);
        poll_after(fold, POLL_INTERVAL / 8);
    }
}

static void collect_task(entmax_task *task)
{
    entmax_rows *rows = task->call->rows;
    const unsigned stages = OPEN_ROWS | FULL_ROWS;
    const int lanes = task->fold.sub_blocks * SUB_LANES;
    float *bounds = task->fold.space.m;
    if (!task_has(task, stages)) return;
    queries_load_all(task);
    for (int lane = 0; lane < lanes; lane++) {
        bounds[lane] = stage_is_of(task, lane, stages) ? rows->bounds[task->row[lane]] : INFINITY;
        task->fold.space.l[lane] = stage_is_of(task, lane, OPEN_ROWS) ? -INFINITY : INFINITY;
    }
    blocks_visit(task, stages, collect_block);
    for (int lane = 0; lane < lanes; lane++)
        if (stage_is_of(task, lane, stages)) rows->bounds[task->row[lane]] = bounds[lane];
}

static void fold_dense_task(entmax_task *task)
{
    if (!task_has(task, DENSE_ROWS)) return;
    queries_load_all(task);
    for (int sub = 0; sub < task->fold.sub_blocks; sub++) state_load(&task->fold, sub);
    blocks_visit(task, DENSE_ROWS, fold_block);
    for (int sub = 0; sub < task->fold.sub_blocks; sub++) state_store(&task->fold, sub);
}

/* The number in the segment of the key that is a token; -1 if it is not there. */
static int64_t number_of_token(const attention_segment *segment, int64_t token)
{
    int64_t low = segment->begin, high = segment->end;
    if (!segment->positions) return token >= low && token < high ? token : -1;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (key_position(segment, middle) < token) low = middle + 1;
        else high = middle;
    }
    return low < segment->end && key_position(segment, low) == token ? low : -1;
}

/* sum += p v of a row of values. */
static void value_add(const attention_call *call, const attention_segment *segment, int64_t offset, float p,
                      float *restrict sum)
{
    float widened[VALUE_DIM_MAX] __attribute__((aligned(64)));
    const float *v = (const float *)segment->v + offset;
    int e = 0;
    if (call->type != KERNEL_FLOAT32) {
        row_widen(call->type, segment->v, offset, call->value_dim, widened);
        v = widened;
    }
    for (; e + LANES <= call->value_dim; e += LANES)
        *(vector *)(sum + e) = multiply_add(splat(p), *(const loose_vector *)(v + e), *(const vector *)(sum + e));
    for (; e < call->value_dim; e++) sum[e] += p * v[e];
}

/* o of one row: the listed keys that the segment holds and the row sees there. */
static void gather_row(const entmax_task *task, int lane, const attention_segment *segment)
{
    const fold_task *fold = &task->fold;
    const entmax_rows *rows = task->call->rows;
    const attention_span *span = fold->span;
    const int value_dim = fold->call->value_dim;
    const int64_t row = task->row[lane], token = (fold->first_row + lane) / fold->group;
    float sum[VALUE_DIM_MAX] __attribute__((aligned(64)));
    bool any = false;
    for (int i = 0; i < rows->lengths[row]; i++) {
        const int64_t key = number_of_token(segment, rows->keys[row * rows->room + i]);
        if (key < 0) continue;
        if (segment->look_inside && (key < span->visible_begin[token] || key >= span->visible_end[token])) continue;
        for (int e = 0; !any && e < value_dim; e++) sum[e] = 0;
        any = true;
        value_add(fold->call, segment,
                  (key - segment->begin) * segment->v_token_stride + fold->kv_head * segment->v_head_stride,
                  rows->weights[row * rows->room + i], sum);
    }
    float *o = span->state.o + row_find(fold, lane).state * value_dim;
    for (int e = 0; any && e < value_dim; e++) o[e] += sum[e];
}

static void gather_task(entmax_task *task)
{
    const int64_t flop_of_row = (int64_t)task->call->rows->room * 2 * task->fold.call->value_dim;
    for (int i = 0; i < task->fold.span->segment_count; i++)
        for (int lane = 0; lane < task->fold.rows; lane++) {
            if (stage_is_of(task, lane, 1 << ENTMAX_LISTED)) gather_row(task, lane, &task->fold.span->segments[i]);
            poll_after(&task->fold, flop_of_row);
        }
}

static void entmax_task_choose(entmax_task *task, const task_place *place)
{
    fold_task *fold = &task->fold;
    task_choose(fold, place);
    for (int lane = 0; lane < fold->rows; lane++)
        task->row[lane] = place->span->state.m - task->call->rows->high + row_find(fold, lane).state;
}

/* The calling thread polls while others still compute. */
static void entmax_run(const entmax_call *entmax, const attention_span *spans, int64_t span_count,
                       void (*run)(entmax_task *task))
{
    const attention_call *call = entmax->attention;
    task_queue queue = task_queue_of(call, spans, span_count, workspace_lanes(call->dim, call->value_dim),
                                     WORKSPACE_SUB_LANES, 0);
    if (queue.draws == 0) return;
#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        const int thread = omp_get_thread_num();
        int64_t work = 0;
        rotary_angles rotary;
        entmax_task task = {.call = entmax};
        task.fold = (fold_task){.call = call,
                                .queue = &queue,
                                .space = workspace_of_thread(call, thread),
                                .thread = thread,
                                .group = call->heads / call->kv_heads,
                                .cap = score_cap_of(call->scores.softcap),
                                .poll_work = thread == 0 && call->poll ? &work : NULL};
        if (call->scores.rope_dim) {
            rotary = rotary_create(&call->scores, task.fold.space.rotary);
            task.fold.rotary = &rotary;
        }
        if (call->mark) call->mark(call->mark_data, thread, true);
        task_cursor cursor = task_cursor_first(&queue);
        for (task_place place; task_draw(&queue, &cursor, &place); run(&task)) entmax_task_choose(&task, &place);
        if (call->mark) call->mark(call->mark_data, thread, false);
        if (task.fold.poll_work) task_queue_wait(&queue);
        environment_leave(environment);
    }
}

static void entmax_collect(const entmax_call *call, const attention_span *spans, int64_t span_count)
{
    entmax_run(call, spans, span_count, collect_task);
}

static void entmax_gather(const entmax_call *call, const attention_span *spans, int64_t span_count)
{
    entmax_run(call, spans, span_count, gather_task);
}

static void entmax_fold(const entmax_call *call, const attention_span *spans, int64_t span_count)
{
    entmax_run(call, spans, span_count, fold_dense_task);
}

#endif
