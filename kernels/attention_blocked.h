/* The blocked fold, once for every ISA. Included by one file an ISA, which defines before:
 *   LANES         floats of a native vector
 *   VECTORS       vectors of lanes in a register tile
 *   TILE          keys (and value columns) of a register tile; divides VALUE_TILE and ATTENTION_KEY_BLOCK
 *   SUB_BLOCKS    sub-blocks of a task; SUB_BLOCKS * VECTORS * LANES <= WORKSPACE_LANES
 * and uses blocked_fold and blocked_peak.
 *
 * Everything is transposed: a lane is one query row (a token and one query head of the group that shares a key head),
 * so that keys and values are broadcast from where they are, max, sum and rescale need no horizontal step, and the
 * arithmetic of a row cannot depend on its neighbours. For a key block C on the global grid and a row in lane x,
 *
 *     S[j][x] = sum_d k[j][d] q[d][x]                 TILE keys by VECTORS of lanes, in registers
 *     m' = max_j S[j][x] if that exceeds m by more than RESCALE_GAP, else m;    a = 2^(m - m'), 1 if m stays
 *     P[j][x] = 2^(S[j][x] - m'),   l = a l + sum_j P[j][x]
 *     o[e][x] = a o[e][x] + sum_j v[j][e] P[j][x]      TILE columns by VECTORS of lanes, in registers
 *
 * Sums run over the keys of a block in order, from zero, and then into the state: two levels, so that the rounding
 * error grows with the square root of the number of blocks, not of keys.
 *
 * A key that a lane does not see has S = -inf, hence P = 0 exactly, and adds nothing: the bits are those of the same
 * row where all its neighbours see the block, or none does. A zero may lose its sign that way; o is stored with +0.
 *
 * Sources: online softmax, Milakov & Gimelshein, arXiv 1805.02867; the deferred rescale, FlashAttention-4 (2025).
 * Held by tests/kernels/test_fold.c and tests/kernels/test_fold_bits.c. */
#ifndef KERNELS_ATTENTION_BLOCKED_H
#define KERNELS_ATTENTION_BLOCKED_H

#include "kernels/attention.h"
#include "kernels/number_convert.h"
#include "kernels/workspace.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <time.h>
#if defined(__SSE__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_FMA) && defined(__ARM_NEON)
#include <arm_neon.h>
#endif

enum {
    SUB_LANES = VECTORS * LANES,
    TASK_LANES = SUB_BLOCKS * SUB_LANES,
    RESCALE_GAP = 8,
    POLL_INTERVAL = LANES << 18, /* flop: about 50 us on cores of today */
};

_Static_assert(TASK_LANES <= (int)WORKSPACE_LANES && SUB_LANES <= (int)WORKSPACE_SUB_LANES,
               "a task fits its workspace");
_Static_assert((int)VALUE_TILE % TILE == 0 && (int)ATTENTION_KEY_BLOCK % TILE == 0, "tiles divide what they tile");

typedef float vector __attribute__((vector_size(LANES * 4), may_alias));
typedef int32_t integers __attribute__((vector_size(LANES * 4), may_alias));
typedef uint32_t bits __attribute__((vector_size(LANES * 4), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* Keys of the block that each lane sees: seen[lane] = [first, last). */
typedef struct {
    integers first[VECTORS], last[VECTORS];
} lane_ranges;

/* The smallest and largest bounds of the visible ranges of a sub-block's lanes. */
typedef struct {
    int64_t begin_min, begin_max, end_min, end_max;
} sub_block_bounds;

/* One block of keys, float32: in place, or a copy whose rows are padded with zeros up to a multiple of TILE. */
typedef struct {
    const float *k, *v;
    int64_t k_stride, v_stride;
    int64_t begin;
    int keys;
} key_block;

/* What the threads of a call share. */
typedef struct {
    int64_t tasks;
    atomic_int_least64_t drawn, finished;
} task_queue;

typedef struct {
    const attention_call *call;
    const attention_span *span;
    task_queue *queue;
    task_workspace space;
    sub_block_bounds bounds[SUB_BLOCKS];
    int kv_head, group; /* query heads kv_head * group + [0, group) */
    int64_t first_row;  /* of the tokens * group rows of this key head */
    int rows, sub_blocks;
    int64_t *poll_work; /* flop since the last poll; NULL on threads that do not poll */
} fold_task;

INLINE vector blend(integers choose, vector yes, vector no)
{
    return (vector)(((integers)yes & choose) | ((integers)no & ~choose));
}

/* a * b + c. One rounding where the ISA has that, said outright: left to the compiler's contraction (which is off), it
 * would be one rounding here and two there, and the bits of a row would depend on the way it was folded. */
INLINE vector multiply_add(vector a, vector b, vector c)
{
#if LANES == 16 && defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif LANES == 8 && defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#elif LANES == 4 && defined(__FMA__)
    return _mm_fmadd_ps(a, b, c);
#elif LANES == 4 && defined(__ARM_FEATURE_FMA) && defined(__ARM_NEON)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
enum { FUSED = 1 };
#else
enum { FUSED = 0 };
#endif

INLINE vector splat(float value)
{
    return value - (vector){0};
}

/* 2^x for x <= RESCALE_GAP, relative error below 2e-7; exactly 0 below -126, exactly 1 at 0; NaN stays NaN. Rounding by
 * adding 1.5 * 2^23 leaves the integer in the low bits, which become the exponent of a factor: multiplied, not added to
 * the exponent field, because that would wreck a NaN. */
INLINE vector exp2_vector(vector x)
{
    const float shift = 0x1.8p23f;
    const vector shifted = x + shift;
    const vector r = x - (shifted - shift); /* in [-1/2, 1/2] */
    vector p = multiply_add(splat(1.535336188319500e-4f), r, splat(1.339887440266574e-3f));
    p = multiply_add(p, r, splat(9.618437357674640e-3f));
    p = multiply_add(p, r, splat(5.550332471162809e-2f));
    p = multiply_add(p, r, splat(2.402264791363012e-1f));
    p = multiply_add(p, r, splat(6.931472028550421e-1f));
    p = multiply_add(p, r, splat(1.0f));
    const bits factor = ((bits)shifted << 23) + 0x3f800000u;
    p *= (vector)factor;
    return (vector)((integers)p & ~(integers)(x < -126.0f));
}

/* S of TILE keys, and the running maximum of the lanes. */
INLINE void tile_scores(const float *restrict q, const float *restrict k, int64_t k_stride, int dim, int key,
                        const lane_ranges *seen, float *restrict scores, vector *restrict largest)
{
    vector s[TILE][VECTORS];
    for (int j = 0; j < TILE; j++)
        for (int x = 0; x < VECTORS; x++) s[j][x] = (vector){0};
    for (int d = 0; d < dim; d++) {
        const vector *row = (const vector *)(q + d * SUB_LANES);
        for (int j = 0; j < TILE; j++)
            for (int x = 0; x < VECTORS; x++) s[j][x] = multiply_add(splat(k[j * k_stride + d]), row[x], s[j][x]);
    }
    vector *out = (vector *)(scores + key * SUB_LANES);
    for (int j = 0; j < TILE; j++)
        for (int x = 0; x < VECTORS; x++) {
            vector t = s[j][x];
            if (seen) {
                const vector nothing = splat(-INFINITY);
                t = blend((seen->first[x] <= key + j) & (seen->last[x] > key + j), t, nothing);
            }
            /* NaN compares false: it does not become the reference, but reaches the row through P. */
            largest[x] = blend(t > largest[x], t, largest[x]);
            out[j * VECTORS + x] = t;
        }
}

/* o of TILE value columns. With `seen`, lanes that do not see a key leave its values alone, so that NaN and Inf in them
 * go no further; otherwise 0 * v = 0 does the same without a choice. */
INLINE void tile_values(const float *restrict p, const float *restrict v, int64_t v_stride, int first, int last,
                        const lane_ranges *seen, const vector *restrict rescale, float *restrict o)
{
    vector sum[TILE][VECTORS];
    for (int e = 0; e < TILE; e++)
        for (int x = 0; x < VECTORS; x++) sum[e][x] = (vector){0};
    for (int j = first; j < last; j++) {
        const vector *row = (const vector *)(p + j * SUB_LANES);
        const float *values = v + j * v_stride;
        for (int e = 0; e < TILE; e++)
            for (int x = 0; x < VECTORS; x++) {
                const vector added = multiply_add(splat(values[e]), row[x], sum[e][x]);
                sum[e][x] = seen ? blend((seen->first[x] <= j) & (seen->last[x] > j), added, sum[e][x]) : added;
            }
    }
    vector *out = (vector *)o;
    for (int e = 0; e < TILE; e++)
        for (int x = 0; x < VECTORS; x++)
            out[e * VECTORS + x] = multiply_add(out[e * VECTORS + x], rescale[x], sum[e][x]);
}

/* Scores in `scores` become probabilities; m and l take them up. */
INLINE void probabilities(float *restrict scores, int first, int last, const vector *restrict largest,
                          vector *restrict m, vector *restrict l, vector *restrict rescale)
{
    vector reference[VECTORS], sum[VECTORS];
    for (int x = 0; x < VECTORS; x++) {
        const integers grows = largest[x] > m[x] + (float)RESCALE_GAP;
        const vector grown = blend(grows, largest[x], m[x]);
        rescale[x] = blend(grows, exp2_vector(m[x] - grown), splat(1));
        /* A lane that has seen nothing has no reference: against 0 its scores of -inf weigh 0, not NaN. */
        reference[x] = (vector)((integers)grown & (integers)(grown != -INFINITY));
        m[x] = grown;
        sum[x] = (vector){0};
    }
    for (int j = first; j < last; j++) {
        vector *row = (vector *)(scores + j * SUB_LANES);
        for (int x = 0; x < VECTORS; x++) {
            row[x] = exp2_vector(row[x] - reference[x]);
            sum[x] += row[x];
        }
    }
    for (int x = 0; x < VECTORS; x++) l[x] = multiply_add(l[x], rescale[x], sum[x]);
}

/* Folds keys [first, last) of the block, a multiple of TILE, into one sub-block. */
INLINE void sub_block_update(const fold_task *task, int sub, const key_block *block, int first, int last,
                             const lane_ranges *seen, const lane_ranges *choose)
{
    const int dim = task->call->dim, padded = value_dim_padded(task->call->value_dim);
    const float *q = task->space.q + (size_t)sub * SUB_LANES * (size_t)dim;
    float *o = task->space.o + (size_t)sub * SUB_LANES * (size_t)padded;
    vector largest[VECTORS], rescale[VECTORS];

    for (int x = 0; x < VECTORS; x++) largest[x] = splat(-INFINITY);
    for (int j = first; j < last; j += TILE)
        tile_scores(q, block->k + j * block->k_stride, block->k_stride, dim, j, seen, task->space.scores, largest);
    probabilities(task->space.scores, first, last, largest, (vector *)(task->space.m + sub * SUB_LANES),
                  (vector *)(task->space.l + sub * SUB_LANES), rescale);
    for (int e = 0; e < padded; e += TILE)
        tile_values(task->space.scores, block->v + e, block->v_stride, first, last, choose, rescale,
                    o + (size_t)e * SUB_LANES);
}

/* The three ways of a sub-block, each compiled on its own: no mask code at all; lanes that do not see every key; and
 * such lanes beside values that are not finite. */
static __attribute__((noinline)) void update_unmasked(const fold_task *task, int sub, const key_block *block)
{
    sub_block_update(task, sub, block, 0, block->keys, NULL, NULL);
}

static __attribute__((noinline)) void update_boundary(const fold_task *task, int sub, const key_block *block, int first,
                                                      int last, const lane_ranges *seen)
{
    sub_block_update(task, sub, block, first, last, seen, NULL);
}

static __attribute__((noinline)) void update_choosing(const fold_task *task, int sub, const key_block *block, int first,
                                                      int last, const lane_ranges *seen)
{
    sub_block_update(task, sub, block, first, last, seen, seen);
}

static bool values_finite(const key_block *block, int value_dim)
{
    uint32_t special = 0;
    for (int j = 0; j < block->keys; j++) {
        const float *row = block->v + j * block->v_stride;
        for (int e = 0; e < value_dim; e++) special |= (float_bits(row[e]) & 0x7f800000u) == 0x7f800000u;
    }
    return special == 0;
}

static int within_block(int64_t position, const key_block *block)
{
    if (position <= block->begin) return 0;
    return position < block->begin + block->keys ? (int)(position - block->begin) : block->keys;
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

static void sub_block_fold(const fold_task *task, int sub, const key_block *block, bool look_inside)
{
    const sub_block_bounds *bounds = &task->bounds[sub];
    const int64_t end = block->begin + block->keys;
    int first = 0, last = block->keys;
    bool whole = block->keys % TILE == 0;

    if (look_inside) {
        if (end <= bounds->begin_min || block->begin >= bounds->end_max) return;
        whole = whole && bounds->begin_max <= block->begin && bounds->end_min >= end;
        first = within_block(bounds->begin_min, block);
        last = within_block(bounds->end_max, block);
    }
    if (whole) {
        update_unmasked(task, sub, block);
        return;
    }
    const lane_ranges seen = ranges_of_lanes(task, sub, block, look_inside);
    first -= first % TILE;
    last += (TILE - last % TILE) % TILE;
    if (values_finite(block, task->call->value_dim)) update_boundary(task, sub, block, first, last, &seen);
    else update_choosing(task, sub, block, first, last, &seen);
}

/* One row at element `offset` of `source`, as float32. */
static void row_widen(kernel_type type, const void *source, int64_t offset, int count, float *restrict row)
{
    const float *floats = source;
    const uint16_t *numbers = source;
    switch (type) {
    case KERNEL_FLOAT32:
        for (int i = 0; i < count; i++) row[i] = floats[offset + i];
        break;
    case KERNEL_FLOAT16:
        for (int i = 0; i < count; i++) row[i] = widen_float16(numbers[offset + i]);
        break;
    case KERNEL_BFLOAT16:
        for (int i = 0; i < count; i++) row[i] = widen_bfloat16(numbers[offset + i]);
        break;
    }
}

/* Rows [0, keys) of `source` into `copy` [keys rounded up to TILE][width], zeros where there is nothing. */
static void rows_copy(kernel_type type, const void *source, int64_t offset, int64_t stride, int keys, int count,
                      int width, float *restrict copy)
{
    const int padded = (keys + TILE - 1) / TILE * TILE;
    for (int j = 0; j < padded; j++) {
        float *row = copy + j * width;
        if (j < keys) row_widen(type, source, offset + j * stride, count, row);
        for (int i = j < keys ? count : 0; i < width; i++) row[i] = 0;
    }
}

static key_block block_prepare(const fold_task *task, const attention_segment *segment, int64_t begin, int64_t end)
{
    const attention_call *call = task->call;
    const int64_t index = begin - segment->begin;
    const int64_t k_offset = index * segment->k_token_stride + task->kv_head * segment->k_head_stride;
    const int64_t v_offset = index * segment->v_token_stride + task->kv_head * segment->v_head_stride;
    const int padded = value_dim_padded(call->value_dim);
    key_block block = {.begin = begin, .keys = (int)(end - begin)};
    const bool in_place = call->type == KERNEL_FLOAT32 && block.keys % TILE == 0;

    if (in_place) {
        block.k = (const float *)segment->k + k_offset;
        block.k_stride = segment->k_token_stride;
    } else {
        rows_copy(call->type, segment->k, k_offset, segment->k_token_stride, block.keys, call->dim, call->dim,
                  task->space.k);
        block.k = task->space.k;
        block.k_stride = call->dim;
    }
    if (in_place && call->value_dim % TILE == 0) {
        block.v = (const float *)segment->v + v_offset;
        block.v_stride = segment->v_token_stride;
    } else {
        rows_copy(call->type, segment->v, v_offset, segment->v_token_stride, block.keys, call->value_dim, padded,
                  task->space.v);
        block.v = task->space.v;
        block.v_stride = padded;
    }
    return block;
}

/* Element of a [T, H] array of the span, for a row of the task. */
static int64_t state_row(const fold_task *task, int row)
{
    const int64_t index = task->first_row + row;
    return index / task->group * task->call->heads + task->kv_head * task->group + index % task->group;
}

static void queries_load(const fold_task *task)
{
    const attention_call *call = task->call;
    const float factor = (float)((double)call->scale * 1.4426950408889634);
    float row[512];
    for (int lane = 0; lane < task->sub_blocks * SUB_LANES; lane++) {
        float *q = task->space.q + (size_t)(lane / SUB_LANES) * SUB_LANES * (size_t)call->dim + lane % SUB_LANES;
        const int64_t index = task->first_row + lane;
        const int64_t head = task->kv_head * task->group + index % task->group;
        const int64_t offset = index / task->group * task->span->q_token_stride + head * task->span->q_head_stride;
        if (lane < task->rows) row_widen(call->type, task->span->q, offset, call->dim, row);
        for (int d = 0; d < call->dim; d++) q[d * SUB_LANES] = lane < task->rows ? row[d] * factor : 0;
    }
}

static void state_load(const fold_task *task)
{
    const attention_state *state = &task->span->state;
    const int value_dim = task->call->value_dim, padded = value_dim_padded(value_dim);
    for (int lane = 0; lane < task->sub_blocks * SUB_LANES; lane++) {
        float *o = task->space.o + (size_t)(lane / SUB_LANES) * SUB_LANES * (size_t)padded + lane % SUB_LANES;
        const bool real = lane < task->rows;
        const int64_t row = real ? state_row(task, lane) : 0;
        task->space.m[lane] = real ? state->m[row] : -INFINITY;
        task->space.l[lane] = real ? state->l[row] : 0;
        for (int e = 0; e < padded; e++) o[e * SUB_LANES] = real && e < value_dim ? state->o[row * value_dim + e] : 0;
    }
}

static void state_store(const fold_task *task)
{
    const attention_state *state = &task->span->state;
    const int value_dim = task->call->value_dim, padded = value_dim_padded(value_dim);
    for (int lane = 0; lane < task->rows; lane++) {
        const float *o = task->space.o + (size_t)(lane / SUB_LANES) * SUB_LANES * (size_t)padded + lane % SUB_LANES;
        const int64_t row = state_row(task, lane);
        state->m[row] = task->space.m[lane];
        state->l[row] = task->space.l[lane];
        for (int e = 0; e < value_dim; e++) state->o[row * value_dim + e] = o[e * SUB_LANES] + 0.0f;
    }
}

/* A row that sees nothing has the range [0, 0), which keeps its sub-block off the unmasked way. */
static void visible_load(fold_task *task)
{
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        sub_block_bounds *bounds = &task->bounds[sub];
        *bounds = (sub_block_bounds){INT64_MAX, INT64_MIN, INT64_MAX, INT64_MIN};
        for (int lane = sub * SUB_LANES; lane < (sub + 1) * SUB_LANES; lane++) {
            int64_t begin = 0, end = 0;
            if (lane < task->rows) {
                const int64_t token = (task->first_row + lane) / task->group;
                begin = task->span->visible_begin[token];
                end = task->span->visible_end[token];
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

static void poll_now(const attention_call *call, task_queue *queue)
{
    call->poll(call->poll_data, (double)atomic_load(&queue->finished) / (double)queue->tasks);
}

static void poll_after(const fold_task *task, int64_t flop)
{
    if (!task->poll_work) return;
    *task->poll_work += flop;
    if (*task->poll_work < POLL_INTERVAL) return;
    *task->poll_work = 0;
    poll_now(task->call, task->queue);
}

static void segment_fold(const fold_task *task, const attention_segment *segment)
{
    const int64_t flop_of_key = (int64_t)SUB_LANES * 2 * (task->call->dim + task->call->value_dim);
    int64_t begin = segment->begin, end = segment->end;

    if (segment->look_inside) {
        int64_t begin_min = INT64_MAX, end_max = INT64_MIN;
        for (int sub = 0; sub < task->sub_blocks; sub++) {
            if (task->bounds[sub].begin_min < begin_min) begin_min = task->bounds[sub].begin_min;
            if (task->bounds[sub].end_max > end_max) end_max = task->bounds[sub].end_max;
        }
        if (begin_min > begin) begin = begin_min;
        if (end_max < end) end = end_max;
    }
    if (begin >= end) return;
    for (int64_t grid = begin / ATTENTION_KEY_BLOCK; grid * ATTENTION_KEY_BLOCK < end; grid++) {
        const int64_t from = grid * ATTENTION_KEY_BLOCK, to = from + ATTENTION_KEY_BLOCK;
        const key_block block = block_prepare(task, segment, from > segment->begin ? from : segment->begin,
                                              to < segment->end ? to : segment->end);
        for (int sub = 0; sub < task->sub_blocks; sub++) {
            sub_block_fold(task, sub, &block, segment->look_inside);
            poll_after(task, flop_of_key * block.keys);
        }
    }
}

static __attribute__((noinline)) void task_run(fold_task *task)
{
    bool look_inside = false;
    for (int i = 0; i < task->span->segment_count; i++)
        look_inside = look_inside || task->span->segments[i].look_inside;
    if (look_inside) visible_load(task);
    queries_load(task);
    poll_after(task, POLL_INTERVAL);
    state_load(task);
    poll_after(task, POLL_INTERVAL);
    for (int i = 0; i < task->span->segment_count; i++) segment_fold(task, &task->span->segments[i]);
    state_store(task);
}

static int64_t span_blocks(const attention_call *call, const attention_span *span)
{
    return (span->tokens * (call->heads / call->kv_heads) + TASK_LANES - 1) / TASK_LANES;
}

/* Task `block` of the span for a key head: rows [block * TASK_LANES, ...) of its tokens * group rows. */
static void span_task_run(fold_task *task, const attention_span *span, int kv_head, int64_t block)
{
    const int64_t rows = span->tokens * task->group - block * TASK_LANES;
    task->span = span;
    task->kv_head = kv_head;
    task->first_row = block * TASK_LANES;
    task->rows = rows < TASK_LANES ? (int)rows : TASK_LANES;
    task->sub_blocks = (task->rows + SUB_LANES - 1) / SUB_LANES;
    task_run(task);
}

#if defined(__SSE__)
typedef unsigned float_environment;

/* Flush-to-zero, denormals-are-zero, to nearest, every exception masked, whatever the caller has set. */
static float_environment environment_enter(void)
{
    const unsigned saved = _mm_getcsr();
    _mm_setcsr(0x1f80 | 0x8040);
    return saved;
}

static void environment_leave(float_environment saved)
{
    _mm_setcsr(saved);
}
#else
typedef int float_environment;

static float_environment environment_enter(void)
{
    return 0;
}

static void environment_leave(float_environment saved)
{
    (void)saved;
}
#endif

/* Threads draw tasks from one counter: last span first, then key heads, and of a span the last rows first, which are
 * the heaviest under a causal mask. The calling thread polls while others still compute. */
static void blocked_fold(const attention_call *call, const attention_span *spans, int64_t span_count)
{
    task_queue queue = {0};
    for (int64_t s = 0; s < span_count; s++) queue.tasks += span_blocks(call, &spans[s]) * call->kv_heads;
    if (queue.tasks == 0) return;

#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        const int thread = omp_get_thread_num();
        const bool polls = thread == 0 && call->poll;
        int64_t work = 0, passed = 0, s = span_count - 1; /* passed: tasks of the spans after s */
        fold_task task = {.call = call,
                          .queue = &queue,
                          .space = workspace_of_thread(call, thread),
                          .group = call->heads / call->kv_heads,
                          .poll_work = polls ? &work : NULL};

        for (;;) {
            const int64_t t = atomic_fetch_add(&queue.drawn, 1);
            if (t >= queue.tasks) break;
            int64_t blocks = span_blocks(call, &spans[s]);
            while (t - passed >= blocks * call->kv_heads) {
                passed += blocks * call->kv_heads;
                blocks = span_blocks(call, &spans[--s]);
            }
            span_task_run(&task, &spans[s], (int)((t - passed) / blocks), blocks - 1 - (t - passed) % blocks);
            atomic_fetch_add(&queue.finished, 1);
        }
        while (polls && atomic_load(&queue.finished) < queue.tasks) poll_now(call, &queue);
        environment_leave(environment);
    }
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Chains that wait for nothing but themselves, enough of them to fill the units. Where multiply and add are one
 * instruction every chain does both; elsewhere half of them multiply and half add, which some cores do side by side. */
enum { CHAINS = 14, PEAK_STEPS = 20000 };

static __attribute__((noinline)) void peak_burst(vector *restrict chains, vector factor, vector term)
{
    vector c[CHAINS];
    for (int i = 0; i < CHAINS; i++) c[i] = chains[i];
    for (int step = 0; step < PEAK_STEPS; step++)
        for (int i = 0; i < CHAINS; i++) {
            if (FUSED) c[i] = multiply_add(c[i], factor, term);
            else if (i % 2) c[i] *= factor;
            else c[i] += term;
        }
    for (int i = 0; i < CHAINS; i++) chains[i] = c[i];
}

static double blocked_peak(double seconds)
{
    const double flop = (double)PEAK_STEPS * CHAINS * LANES * (FUSED ? 2 : 1);
    const float_environment environment = environment_enter();
    const double start = seconds_now();
    vector chains[CHAINS] = {{0}};
    double best = 0, now = start;
    do {
        const double before = now;
        peak_burst(chains, splat(0.5f), splat(1));
        now = seconds_now();
        if (flop > best * (now - before)) best = flop / (now - before);
    } while (now - start < seconds);
    environment_leave(environment);
    return best;
}

#endif
