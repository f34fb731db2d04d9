/* What a fold does around its arithmetic, the same in every form of it: a task is some rows of one span that share a
 * key head; its queries, keys, values and states pass between memory and the thread's workspace here. Included with
 * LANES, VECTORS, SCORE_TILE and VALUE_ROWS defined, see attention_blocked.h. */
#ifndef KERNELS_ATTENTION_TASK_H
#define KERNELS_ATTENTION_TASK_H

#include "kernels/attention.h"
#include "kernels/attention_queue.h"
#include "kernels/attention_rotary.h"
#include "kernels/attention_score_terms.h"
#include "kernels/attention_vector.h"
#include "kernels/memory_rows.h"
#include "kernels/relative_workspace.h"
#include "kernels/transpose.h"

enum {
    SUB_LANES = VECTORS * LANES,
    SUB_BLOCKS = WORKSPACE_LANES_MAX / SUB_LANES,
    RESCALE_GAP = 8,
    DOT_CHUNK = 16,              /* terms of a first sum over D */
    DOT_GROUP = 64,              /* terms of a second one */
    POLL_INTERVAL = LANES << 18, /* flop: about 50 us on cores of today */
};

_Static_assert((int)WORKSPACE_SUB_LANES % SUB_LANES == 0, "sub-blocks fill a task");
_Static_assert(SUB_LANES % VALUE_ROWS == 0 && (int)ATTENTION_KEY_BLOCK % SCORE_TILE == 0, "tiles divide what they tile");
_Static_assert((int)VALUE_TILE % LANES == 0, "padded value columns are whole vectors");

/* The smallest and largest bounds of the visible ranges of a sub-block's lanes. */
typedef struct {
    int64_t begin_min, begin_max, end_min, end_max;
} sub_block_bounds;

/* Rows of a span: row_place of each. */
typedef struct {
    const attention_span *span;
    const int64_t *query, *state;
    int rows;
} row_list;

typedef struct {
    const attention_call *call;
    const attention_span *span;
    task_queue *queue;
    task_workspace space;
    sub_block_bounds bounds[SUB_BLOCKS];
    int thread;
    int kv_head, group; /* query heads kv_head * group + [0, group) */
    int64_t first_row;  /* of the span's rows of this key head, attention_span_rows */
    int rows, sub_blocks;
    float *o_rows[WORKSPACE_LANES_MAX]; /* o of the row in each lane; of lanes without one, some place */
    bool alone; /* one block is all that the rows see: each sub-block is loaded, folded and stored before the next */
    bool has_next;
    task_place next; /* the task that this thread will fold then; not where it folds blocks several times, in parts */
    int next_found;  /* its first rows that are being fetched, which are noted all; 0: none is noted */
    int fetched;     /* the first rows of this one, which were */
    row_list ahead;  /* what is fetched while a sub-block is folded: SUB_LANES rows from ahead_lane on, if it has them */
    int ahead_lane;
    score_cap cap;         /* 0: none */
    rotary_angles *rotary; /* NULL: none */
    relative_workspace relative; /* read only with attention_relative */
    bool inside;                 /* what is folded lies among its offsets */
    int64_t *poll_work;    /* flop since the last poll; NULL on threads that do not poll */
} fold_task;

/* Lanes: rows. Takes the largest score of a block into the reference m; what o and l are to be multiplied by, and what
 * the block's scores are to be compared with. */
INLINE vector reference_move(vector largest, vector *m, vector *rescale)
{
    const integers grows = largest > *m + (float)RESCALE_GAP;
    const vector grown = blend(grows, largest, *m);
    *rescale = blend(grows, exp2_vector(*m - grown), splat(1));
    *m = grown;
    /* A lane that has seen nothing has no reference: against 0 its scores of -inf weigh 0, not NaN. */
    return (vector)((integers)grown & (integers)(grown != -INFINITY));
}

/* Of the span's tokens: the row, and the token, of a row of the task. */
static int64_t span_row(const fold_task *task, int row)
{
    return attention_span_row(task->span, task->first_row + row);
}

/* row / group, mostly without the division: lists are long, and groups powers of two. */
static int64_t token_of_row(int64_t row, int group)
{
    return (group & (group - 1)) == 0 ? row >> __builtin_ctz((unsigned)group) : row / group;
}

static int64_t span_token(const fold_task *task, int row)
{
    return token_of_row(span_row(task, row), task->group);
}

static int query_head(const fold_task *task, int row)
{
    return task->kv_head * task->group + (int)(span_row(task, row) % task->group);
}

/* Where the query of a row is in the span's q, in elements, and which row of the span's state is its. */
typedef struct {
    int64_t query, state;
} row_place;

static row_place row_find_in(const fold_task *task, const attention_span *span, int kv_head, int64_t row)
{
    const int64_t token_rows = span->state.token_rows ? span->state.token_rows : task->call->heads;
    const int64_t place = attention_span_row(span, row), token = token_of_row(place, task->group);
    const int64_t head = kv_head * task->group + (place - token * task->group);
    return (row_place){token * span->q_token_stride + head * span->q_head_stride, token * token_rows + head};
}

static row_place row_find(const fold_task *task, int row)
{
    return row_find_in(task, task->span, task->kv_head, task->first_row + row);
}

static bool span_looks_inside(const attention_span *span)
{
    for (int i = 0; i < span->segment_count; i++)
        if (span->segments[i].look_inside) return true;
    return false;
}

static int64_t key_position(const attention_segment *segment, int64_t key)
{
    return segment->positions ? segment->positions[key - segment->begin] : key;
}

static int64_t query_position(const fold_task *task, int row)
{
    return task->span->positions[span_token(task, row)];
}

/* Notes where the row of each lane is. */
static void rows_find(fold_task *task)
{
    task->fetched = task->next_found;
    task->next_found = 0;
    if (task->fetched > 0) {
        task_workspace *space = &task->space;
        int64_t *const q_offset = space->q_offset, *const state_row = space->state_row;
        space->q_offset = space->next_q_offset;
        space->state_row = space->next_state_row;
        space->next_q_offset = q_offset;
        space->next_state_row = state_row;
        return;
    }
    for (int lane = 0; lane < task->rows; lane++) {
        const row_place place = row_find(task, lane);
        task->space.q_offset[lane] = place.query;
        task->space.state_row[lane] = place.state;
    }
}

/* What queries are multiplied with, for scores to base 2. */
static float query_factor(const fold_task *task)
{
    return (float)((double)task->call->scale * 1.4426950408889634);
}

/* A query of the task, rotated, plus the row of its head in `bias` [H, D] unless NULL. */
static void query_widen(const fold_task *task, int lane, const float *bias, float *row)
{
    const attention_call *call = task->call;
    row_widen(call->type, task->span->q, row_find(task, lane).query, call->dim, row);
    if (task->rotary) rotary_turn(task->rotary, query_position(task, lane), row);
    if (bias) bias += (int64_t)query_head(task, lane) * call->dim;
    for (int d = 0; bias && d < call->dim; d++) row[d] += bias[d];
}

/* The same times query_factor. */
static void query_load(const fold_task *task, int lane, const float *bias, float *row)
{
    const float factor = query_factor(task);
    query_widen(task, lane, bias, row);
    for (int d = 0; d < task->call->dim; d++) row[d] *= factor;
}

/* What is added to the queries that keys are multiplied with. */
static const float *key_bias(const fold_task *task)
{
    return task->inside ? task->call->scores.relative->u : NULL;
}

/* The query of a lane: where it is, or as float32 in `copy`. */
static const float *query_row(const fold_task *task, int lane, float *copy)
{
    const attention_call *call = task->call;
    if (lane < task->rows && call->type == KERNEL_FLOAT32 && !task->rotary && !key_bias(task))
        return (const float *)task->span->q + task->space.q_offset[lane];
    if (lane < task->rows) query_widen(task, lane, key_bias(task), copy);
    else
        for (int d = 0; d < call->dim; d++) copy[d] = 0;
    return copy;
}

static row_list rows_of_task(const fold_task *task)
{
    return (row_list){task->span, task->space.q_offset, task->space.state_row, task->rows};
}

/* The first rows of the next task, at most `most`, that are going to be fetched; none if there is none, or if it is of so
 * few rows that it does not come here. */
static row_list rows_of_next(fold_task *task, int most)
{
    if (!task->has_next || task->next.rows <= ATTENTION_FEW_ROWS) return (row_list){0};
    for (int row = 0; row < task->next.rows; row++) {
        const row_place place = row_find_in(task, task->next.span, task->next.kv_head, task->next.first_row + row);
        task->space.next_q_offset[row] = place.query;
        task->space.next_state_row[row] = place.state;
    }
    task->next_found = task->next.rows < most ? task->next.rows : most;
    return (row_list){task->next.span, task->space.next_q_offset, task->space.next_state_row, task->next_found};
}

/* Fetches SUB_LANES rows of a list from `first` on into the cache: queries and states that are listed lie anywhere. */
static void rows_fetch(const attention_call *call, const row_list *list, int first)
{
    for (int row = first; row < first + SUB_LANES && row < list->rows; row++) {
        number_row_fetch(list->span->q, list->query[row], call->dim, call->type);
        state_fetch(&list->span->state, list->state[row], call->value_dim);
    }
}

/* The same of the task's own, unless they have been fetched while the one before was folded. */
static void lanes_fetch(const fold_task *task, int first)
{
    const row_list list = rows_of_task(task);
    if (first + SUB_LANES > task->fetched) rows_fetch(task->call, &list, first);
}

/* Which of the places for q and o in the workspace a lane has. Those of one sub-block do for all that do not meet. */
static int64_t place_of(const fold_task *task, int lane)
{
    return task->alone ? lane % SUB_LANES : lane;
}

/* q of a sub-block [D][lane]. */
static float *queries_of(const fold_task *task, int sub)
{
    return task->space.q + place_of(task, sub * SUB_LANES) * task->call->dim;
}

static void queries_load(const fold_task *task, int sub)
{
    const int dim = task->call->dim;
    float *q = queries_of(task, sub);
    for (int x = 0; x < SUB_LANES; x += LANES) {
        const float *rows[LANES];
        for (int i = 0; i < LANES; i++) {
            const int lane = sub * SUB_LANES + x + i;
            rows[i] = query_row(task, lane, task->space.rows + i * dim);
        }
        rows_transpose(rows, dim, query_factor(task), q + x, SUB_LANES);
    }
}

/* What scores need to know of the rows: slopes, and where they are. */
static void terms_load(const fold_task *task, int sub)
{
    const float *slopes = task->call->scores.slopes;
    for (int lane = sub * SUB_LANES; lane < (sub + 1) * SUB_LANES; lane++) {
        const bool real = lane < task->rows;
        task->space.slope[lane] = real && slopes ? score_slope(slopes[query_head(task, lane)]) : 0;
        task->space.position[lane] = real ? (int32_t)(uint32_t)query_position(task, lane) : 0;
    }
}

/* o stays where it is if it is of whole vectors and the rows see one block alone, or are listed, which is of the keys of
 * a few. Other rows may lie 2^n lines apart, and would share too few sets of the cache while many blocks pass. */
static bool state_stays(const fold_task *task)
{
    return (task->alone || task->span->listed) && task->call->value_dim % LANES == 0;
}

static void state_load(fold_task *task, int sub)
{
    const attention_state *state = &task->span->state;
    const int value_dim = task->call->value_dim, padded = value_dim_padded(value_dim);
    for (int lane = sub * SUB_LANES; lane < (sub + 1) * SUB_LANES; lane++) {
        const bool real = lane < task->rows;
        const int64_t row = real ? task->space.state_row[lane] : 0;
        const int count = real ? value_dim : 0;
        float *o = task->space.o + place_of(task, lane) * padded;
        task->space.m[lane] = real ? state->m[row] : -INFINITY;
        task->space.l[lane] = real ? state->l[row] : 0;
        task->o_rows[lane] = o;
        if (real && state_stays(task)) {
            task->o_rows[lane] = state->o + row * value_dim;
            continue;
        }
        row_widen(KERNEL_FLOAT32, state->o, row * value_dim, count, o);
        for (int e = count; e < padded; e++) o[e] = 0;
    }
}

static void state_store(const fold_task *task, int sub)
{
    const attention_state *state = &task->span->state;
    const int value_dim = task->call->value_dim;
    for (int lane = sub * SUB_LANES; lane < (sub + 1) * SUB_LANES && lane < task->rows; lane++) {
        const int64_t row = task->space.state_row[lane];
        state->m[row] = task->space.m[lane];
        state->l[row] = task->space.l[lane];
        if (!state_stays(task))
            row_widen(KERNEL_FLOAT32, task->o_rows[lane], 0, value_dim, state->o + row * value_dim);
    }
}

/* All rows see nothing. */
static void visible_clear(fold_task *task)
{
    for (int sub = 0; sub < task->sub_blocks; sub++)
        task->bounds[sub] = (sub_block_bounds){INT64_MAX, INT64_MIN, INT64_MAX, INT64_MIN};
    for (int lane = 0; lane < task->sub_blocks * SUB_LANES; lane++)
        task->space.visible_begin[lane] = task->space.visible_end[lane] = 0;
}

/* A row that sees nothing has the range [0, 0), which keeps its sub-block off the unmasked way. */
static void visible_set(fold_task *task, int lane, int64_t begin, int64_t end)
{
    sub_block_bounds *bounds = &task->bounds[lane / SUB_LANES];
    if (begin >= end) begin = end = bounds->end_min = 0;
    task->space.visible_begin[lane] = begin;
    task->space.visible_end[lane] = end;
    if (begin == end) return;
    if (begin < bounds->begin_min) bounds->begin_min = begin;
    if (begin > bounds->begin_max) bounds->begin_max = begin;
    if (end < bounds->end_min) bounds->end_min = end;
    if (end > bounds->end_max) bounds->end_max = end;
}

static void visible_load(fold_task *task)
{
    visible_clear(task);
    for (int lane = 0; lane < task->rows; lane++) {
        const int64_t token = span_token(task, lane);
        visible_set(task, lane, task->span->visible_begin[token], task->span->visible_end[token]);
    }
}

/* Keys of the segment that some row of the task sees: [*begin, *end), or begin >= end. */
static void keys_of_task(const fold_task *task, const attention_segment *segment, int64_t *begin, int64_t *end)
{
    int64_t begin_min = INT64_MAX, end_max = INT64_MIN;
    *begin = segment->begin;
    *end = segment->end;
    if (!segment->look_inside) return;
    for (int sub = 0; sub < task->sub_blocks; sub++) {
        if (task->bounds[sub].begin_min < begin_min) begin_min = task->bounds[sub].begin_min;
        if (task->bounds[sub].end_max > end_max) end_max = task->bounds[sub].end_max;
    }
    if (begin_min > *begin) *begin = begin_min;
    if (end_max < *end) *end = end_max;
}

static void poll_after(const fold_task *task, int64_t flop)
{
    if (!task->poll_work) return;
    *task->poll_work += flop;
    if (*task->poll_work < POLL_INTERVAL) return;
    *task->poll_work = 0;
    task_queue_poll(task->queue);
}

#endif
