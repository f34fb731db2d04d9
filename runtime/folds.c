#include "runtime/folds.h"

#include "runtime/problem.h"

#include <math.h>
#include <stdlib.h>

/* Rows below this are not worth a second thread. */
enum { THREADED_ROWS = 8192 };

static bool is_striped(const fold_plan *folds)
{
    return folds->scheduled->key_layout.kind == LAYOUT_STRIPED;
}

static int group_size(const fold_plan *folds)
{
    return folds->problem->heads / folds->problem->kv_heads;
}

/* Part `part` of a range of query heads: those of the first key head where they are not all of it, then whole groups,
 * then the rest. False if there are fewer parts. */
static bool heads_part(head_range heads, int group, int part, head_range *part_p)
{
    for (int begin = heads.begin; begin < heads.end; part--) {
        int end = begin % group ? begin - begin % group + group : begin + (heads.end - begin) / group * group;
        if (end > heads.end || end == begin) end = heads.end;
        if (part == 0) {
            *part_p = (head_range){begin, end};
            return true;
        }
        begin = end;
    }
    return false;
}

/* The end of the folds, of those before `last`, that have the same queries as the first. */
static int64_t same_queries(const schedule_step *step, int64_t first, int64_t last)
{
    const schedule_fold *a = &step->folds[first];
    for (int64_t i = first + 1; i < last; i++) {
        const schedule_fold *b = &step->folds[i];
        if (a->query_origin != b->query_origin || a->query_rows.begin != b->query_rows.begin ||
            a->query_rows.end != b->query_rows.end || a->query_slot != b->query_slot ||
            a->query_stride != b->query_stride || a->query_slot_row != b->query_slot_row ||
            a->state_slot != b->state_slot || a->state_slot_row != b->state_slot_row || a->listed != b->listed ||
            (a->listed && a->heads.begin != b->heads.begin))
            return i;
    }
    return last;
}

/* Of folds [*first_p, *last_p) of the same queries, those of a wave: all in wave 0, or under a striped layout the ones
 * of one rank's keys. */
static bool take_wave(const fold_plan *folds, const schedule_step *step, int wave, int64_t *first_p, int64_t *last_p)
{
    if (!is_striped(folds)) return wave == 0;
    for (int64_t first = *first_p; first < *last_p; wave--) {
        int64_t last = first + 1;
        while (last < *last_p && step->folds[last].key_origin == step->folds[first].key_origin) last++;
        if (wave == 0) {
            *first_p = first;
            *last_p = last;
            return true;
        }
        first = last;
    }
    return false;
}

/* The next folds of a call that are of the same queries, from *next on. False if there are no more. */
static bool next_group(const fold_plan *folds, const schedule_step *step, const fold_call *call, int64_t *next,
                       int64_t *first_p, int64_t *last_p)
{
    while (*next < call->last) {
        *first_p = *next;
        *last_p = *next = same_queries(step, *next, call->last);
        if (take_wave(folds, step, call->wave, first_p, last_p)) return true;
    }
    return false;
}

static bool has_wave(const fold_plan *folds, const schedule_step *step, const fold_call *call)
{
    int64_t next = call->first, first, last;
    return next_group(folds, step, call, &next, &first, &last);
}

/* A list is of one key head, so spans of lists say which they are of, and calls are of all heads. */
static head_range heads_of_calls(const fold_plan *folds, const schedule_fold *fold)
{
    return fold->listed ? heads_all(folds->problem->heads) : fold->heads;
}

static bool may_share_call(const schedule_fold *a, const schedule_fold *b)
{
    if (a->listed || b->listed) return a->listed && b->listed;
    return a->turn == b->turn && a->heads.begin == b->heads.begin && a->heads.end == b->heads.end;
}

bool fold_call_next(const fold_plan *folds, const schedule_step *step, fold_call *call)
{
    if (call->last > 0) {
        call->wave++;
        if (has_wave(folds, step, call)) return true;
        call->wave = 0;
        const head_range heads = heads_of_calls(folds, &step->folds[call->first]);
        if (heads_part(heads, group_size(folds), ++call->part, &call->heads)) return true;
    }
    *call = (fold_call){.first = call->last, .last = call->last};
    do {
        if (call->last == step->fold_count) return false;
        call->first = call->last++;
        const schedule_fold *first = &step->folds[call->first];
        while (call->last < step->fold_count && may_share_call(first, &step->folds[call->last])) call->last++;
    } while (!heads_part(heads_of_calls(folds, &step->folds[call->first]), group_size(folds), 0, &call->heads));
    return true;
}

/* Local queries of a layout whose keys are numbered by token see what the mask says: [T] numbers for all batch items.
 */
static bool numbers_are_home(const fold_plan *folds, const schedule_fold *fold)
{
    return fold->query_origin == folds->rank && !fold->sliced && !is_striped(folds) && !folds->problem->key_lengths;
}

/* Are positions of its queries, or of its keys, to be listed, where positions matter? */
static bool queries_need_list(const fold_plan *folds, const schedule_fold *fold)
{
    return fold->query_origin != folds->rank || (fold->sliced && fold->query_stride > 1);
}

static bool keys_need_list(const fold_plan *folds, const schedule_fold *fold)
{
    return is_striped(folds) || (fold->sliced && fold->key_stride > 1);
}

/* What the largest call needs. */
typedef struct {
    int64_t spans, segments, visible, query_positions, key_positions;
} needs;

static void raise(int64_t *most, int64_t value)
{
    if (value > *most) *most = value;
}

static void measure_call(const fold_plan *folds, const schedule_step *step, const fold_call *call, needs *most)
{
    const int64_t batch = folds->problem->batch;
    needs n = {0};
    int64_t next = call->first, first, last;
    while (next_group(folds, step, call, &next, &first, &last)) {
        const schedule_fold *fold = &step->folds[first];
        const int64_t rows = schedule_fold_queries(fold);
        n.spans += batch;
        n.segments += batch * (last - first);
        if (!numbers_are_home(folds, fold)) n.visible += rows * (folds->problem->key_lengths ? batch : 1);
        if (queries_need_list(folds, fold)) n.query_positions += rows;
        for (int64_t i = first; i < last; i++)
            if (keys_need_list(folds, fold)) n.key_positions += schedule_fold_keys(&step->folds[i]);
    }
    raise(&most->spans, n.spans);
    raise(&most->segments, n.segments);
    raise(&most->visible, n.visible);
    if (folds->positions_matter) raise(&most->query_positions, n.query_positions);
    if (folds->positions_matter) raise(&most->key_positions, n.key_positions);
}

static bool step_looks_inside(const schedule_step *step)
{
    for (int64_t i = 0; i < step->fold_count; i++)
        if (step->folds[i].look_inside) return true;
    return false;
}

static needs measure(const fold_plan *folds, const schedule *s)
{
    needs most = {0};
    bool looks_inside = folds->problem->key_lengths != NULL;
    for (int64_t i = 0; i < s->step_count; i++) {
        looks_inside = looks_inside || step_looks_inside(&s->steps[i]);
        fold_call call = {0};
        while (fold_call_next(folds, &s->steps[i], &call)) measure_call(folds, &s->steps[i], &call, &most);
    }
    if (!looks_inside) most.visible = 0;
    return most;
}

/* Flops of a fold: of each pair seen, of each head and batch item. */
static double fold_flops(const fold_plan *folds, const schedule_fold *fold)
{
    const longspan_problem *p = folds->problem;
    double pairs = 0;
    if (fold->listed) return 2.0 * (p->dim + p->value_dim) * (double)schedule_fold_all_pairs(folds->scheduled, fold);
    if (p->key_lengths) {
        for (int64_t b = 0; b < p->batch; b++) {
            schedule_fold exists = *fold;
            const int64_t rows = layout_rows_before(&folds->scheduled->key_layout, fold->key_origin, p->key_lengths[b]);
            if (rows < exists.key_rows.end) exists.key_rows.end = rows;
            if (!range_is_empty(exists.key_rows)) pairs += (double)schedule_fold_pairs(folds->scheduled, &exists);
        }
    } else {
        pairs = (double)p->batch * (double)schedule_fold_pairs(folds->scheduled, fold);
    }
    return 2.0 * problem_pair_elements(p) * heads_count(fold->heads) * pairs;
}

/* An array of no elements is not NULL. */
static void *allocate(int64_t count, size_t size)
{
    return calloc(count > 0 ? (size_t)count : 1, size);
}

static void fill_home(fold_plan *folds, int64_t tokens)
{
    const schedule_problem *s = folds->scheduled;
    for (int64_t row = 0; row < tokens; row++) {
        const int64_t token = layout_token(&s->query_layout, folds->rank, row);
        const range seen = mask_row(&s->mask, token);
        folds->home_begin[row] = seen.begin;
        folds->home_end[row] = seen.end;
        folds->home_positions[row] = token + s->mask.keys - s->mask.queries;
    }
}

int fold_plan_create(fold_plan *folds_p, const longspan_problem *problem, const schedule_problem *scheduled,
                     const schedule *s, int rank, int threads)
{
    fold_plan *f = folds_p;
    *f = (fold_plan){.problem = problem, .scheduled = scheduled, .rank = rank, .threads = threads};
    /* Entmax attention knows a key by its token, whoever holds it. */
    f->positions_matter = problem->alibi_slopes || problem->rope_dim > 0 || problem->relative_keys || problem->alpha != 0;
    const needs most = measure(f, s);
    const int64_t tokens = layout_rank_tokens(&scheduled->query_layout, rank);
    f->home_begin = allocate(tokens, sizeof *f->home_begin);
    f->home_end = allocate(tokens, sizeof *f->home_end);
    f->home_positions = allocate(tokens, sizeof *f->home_positions);
    f->spans = allocate(most.spans, sizeof *f->spans);
    f->segments = allocate(most.segments, sizeof *f->segments);
    f->visible_begin = allocate(most.visible, sizeof *f->visible_begin);
    f->visible_end = allocate(most.visible, sizeof *f->visible_end);
    f->query_positions = allocate(most.query_positions, sizeof *f->query_positions);
    f->key_positions = allocate(most.key_positions, sizeof *f->key_positions);
    f->rope_frequencies = allocate(problem->rope_dim / 2, sizeof *f->rope_frequencies);
    f->step_flops = allocate(s->step_count, sizeof *f->step_flops);
    if (!f->home_begin || !f->home_end || !f->home_positions || !f->spans || !f->segments || !f->visible_begin ||
        !f->visible_end || !f->query_positions || !f->key_positions || !f->rope_frequencies || !f->step_flops)
        return -1;
    fill_home(f, tokens);
    for (int c = 0; c < problem->rope_dim / 2; c++)
        f->rope_frequencies[c] = pow(problem->rope_base, -2.0 * c / problem->rope_dim);
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t j = 0; j < s->steps[i].fold_count; j++) f->step_flops[i] += fold_flops(f, &s->steps[i].folds[j]);
    return 0;
}

void fold_plan_free(fold_plan *folds)
{
    free(folds->home_begin);
    free(folds->home_end);
    free(folds->home_positions);
    free(folds->spans);
    free(folds->segments);
    free(folds->visible_begin);
    free(folds->visible_end);
    free(folds->query_positions);
    free(folds->key_positions);
    free(folds->rope_frequencies);
    free(folds->step_flops);
    *folds = (fold_plan){0};
}

/* What is used of the arrays of a call. */
typedef struct {
    fold_plan *folds;
    const fold_memory *memory;
    const fold_call *call;
    needs used;
} builder;

/* The keys that a query of a fold sees, in the numbering of its keys. */
static range row_numbers(const fold_plan *folds, const schedule_fold *fold, int64_t b, int64_t row)
{
    const schedule_problem *s = folds->scheduled;
    const int64_t *lengths = folds->problem->key_lengths;
    range seen;
    if (fold->query_origin == folds->rank) seen = (range){folds->home_begin[row], folds->home_end[row]};
    else seen = mask_row(&s->mask, layout_token(&s->query_layout, fold->query_origin, row));
    if (lengths && lengths[b] < seen.end) seen.end = lengths[b];
    if (range_is_empty(seen)) return (range){0, 0};
    if (!is_striped(folds)) return seen;
    return (range){layout_rows_before(&s->key_layout, fold->key_origin, seen.begin),
                   layout_rows_before(&s->key_layout, fold->key_origin, seen.end)};
}

/* ceil(token / stride), of tokens from -SLICE_FAR on. */
static int64_t number_from(int64_t token, int64_t stride)
{
    return token <= 0 ? 0 : (token - 1) / stride + 1;
}

/* The keys that a query of a sliced fold sees, numbered by their place among the strided ones; those of the other folds
 * of the span too, which bound them as they bound this one. */
static range slice_numbers(const fold_plan *folds, const schedule_fold *fold, int64_t b, int64_t row)
{
    const schedule_problem *s = folds->scheduled;
    const int64_t *lengths = folds->problem->key_lengths;
    const int64_t token = layout_token(&s->query_layout, fold->query_origin, row);
    const int64_t end = lengths && lengths[b] < s->mask.keys ? lengths[b] : s->mask.keys;
    const int64_t residue = layout_token(&s->key_layout, fold->key_origin, fold->key_rows.begin) % fold->key_stride;
    const range seen = range_intersect((range){token + fold->low, token + fold->high}, (range){0, end});
    return (range){number_from(seen.begin - residue, fold->key_stride),
                   number_from(seen.end - residue, fold->key_stride)};
}

/* Sets what the rows of a span see. */
static void set_visible(builder *x, const schedule_fold *fold, int64_t b, attention_span *span)
{
    fold_plan *folds = x->folds;
    const range rows = fold->query_rows;
    if (numbers_are_home(folds, fold)) {
        span->visible_begin = folds->home_begin + rows.begin;
        span->visible_end = folds->home_end + rows.begin;
        return;
    }
    int64_t *begin = folds->visible_begin + x->used.visible, *end = folds->visible_end + x->used.visible;
    const int64_t count = schedule_fold_queries(fold), stride = fold->sliced ? fold->query_stride : 1;
    x->used.visible += count;
#pragma omp parallel for num_threads(folds->threads) if (count > THREADED_ROWS)
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = rows.begin + i * stride;
        const range numbers = fold->sliced ? slice_numbers(folds, fold, b, row) : row_numbers(folds, fold, b, row);
        begin[i] = numbers.begin;
        end[i] = numbers.end;
    }
    span->visible_begin = begin;
    span->visible_end = end;
}

/* Positions of a fold's queries, or NULL where nobody asks. */
static const int64_t *positions_of_queries(builder *x, const schedule_fold *fold)
{
    fold_plan *folds = x->folds;
    const schedule_problem *s = folds->scheduled;
    const range rows = fold->query_rows;
    if (!folds->positions_matter) return NULL;
    if (!queries_need_list(folds, fold)) return folds->home_positions + rows.begin;
    const int64_t count = schedule_fold_queries(fold), stride = fold->sliced ? fold->query_stride : 1;
    int64_t *positions = folds->query_positions + x->used.query_positions;
    x->used.query_positions += count;
    for (int64_t i = 0; i < count; i++)
        positions[i] = layout_token(&s->query_layout, fold->query_origin, rows.begin + i * stride) + s->mask.keys -
                       s->mask.queries;
    return positions;
}

/* Positions of a fold's keys, or NULL where their numbers are positions or nobody asks. */
static const int64_t *positions_of_keys(builder *x, const schedule_fold *fold)
{
    fold_plan *folds = x->folds;
    const range rows = fold->key_rows;
    if (!folds->positions_matter || !keys_need_list(folds, fold)) return NULL;
    const int64_t count = schedule_fold_keys(fold), stride = fold->sliced ? fold->key_stride : 1;
    int64_t *positions = folds->key_positions + x->used.key_positions;
    x->used.key_positions += count;
    for (int64_t i = 0; i < count; i++)
        positions[i] = layout_token(&folds->scheduled->key_layout, fold->key_origin, rows.begin + i * stride);
    return positions;
}

static attention_span make_span(const builder *x, const schedule_fold *fold, int64_t b)
{
    const row_store *q = row_stores_find(x->memory->own, ROWS_QUERIES, fold->query_slot);
    const row_store *state = row_stores_find(x->memory->own, ROWS_STATES, fold->state_slot);
    const row_format *states = &x->memory->formats[ROWS_STATES];
    const int head = x->call->heads.begin, dim = x->folds->problem->dim;
    const int stride = fold->sliced ? (int)fold->query_stride : 1;
    float *part[ROW_TENSORS];
    for (int t = 0; t < states->tensors; t++)
        part[t] = (float *)(void *)row_at(state, states, t, b, fold->state_slot_row, head);
    return (attention_span){
        .q = row_at(q, &x->memory->formats[ROWS_QUERIES], 0, b, fold->query_slot_row, head),
        .q_token_stride = (int64_t)stride * heads_count(q->heads) * dim,
        .q_head_stride = dim,
        .tokens = schedule_fold_queries(fold),
        .state = {part[0], part[1], part[2], stride * heads_count(state->heads)},
        .segments = x->folds->segments + x->used.segments,
    };
}

/* Of a list it is that of its key head, which is all that some slots hold, whatever head of it is asked for. */
static attention_segment make_segment(const builder *x, const schedule_fold *fold, int64_t b)
{
    const fold_memory *memory = x->memory;
    const longspan_problem *p = x->folds->problem;
    const row_stores *holder = memory->node ? &memory->node[fold->holder - memory->node_first] : memory->own;
    const row_store *keys = row_stores_find(holder, ROWS_KEYS, fold->key_slot);
    const row_format *format = &memory->formats[ROWS_KEYS];
    const int held = heads_count(keys->heads);
    const int head = (fold->listed ? fold->heads.begin : x->call->heads.begin) / group_size(x->folds);
    const range rows = fold->key_rows;
    const int64_t distance = fold->sliced ? fold->key_slot_stride : 1;
    int64_t first = rows.begin;
    if (!is_striped(x->folds)) first = layout_token(&x->folds->scheduled->key_layout, fold->key_origin, rows.begin);
    if (fold->sliced) first /= fold->key_stride;
    return (attention_segment){
        .k = row_at(keys, format, 0, b, fold->key_slot_row, head),
        .v = row_at(keys, format, 1, b, fold->key_slot_row, head),
        .k_token_stride = distance * held * p->dim,
        .k_head_stride = fold->listed ? 0 : p->dim,
        .v_token_stride = distance * held * p->value_dim,
        .v_head_stride = fold->listed ? 0 : p->value_dim,
        .begin = first,
        .end = first + schedule_fold_keys(fold),
        .look_inside = fold->look_inside,
    };
}

/* The span of folds of the same queries for a batch item; `key_positions` are those of all the folds' keys in a row. */
static void add_span(builder *x, const schedule_fold *folds, int64_t count, int64_t b, const int64_t *query_positions,
                     const int64_t *key_positions)
{
    fold_plan *plan = x->folds;
    const int64_t *lengths = plan->problem->key_lengths;
    attention_span span = make_span(x, folds, b);
    span.positions = query_positions;
    bool looks_inside = false;
    for (int64_t i = 0; i < count; i++) {
        const range rows = folds[i].key_rows;
        const range tokens = layout_hull(&plan->scheduled->key_layout, folds[i].key_origin, rows);
        const bool exists = !range_is_empty(rows) && (!lengths || tokens.begin < lengths[b]);
        if (exists) {
            attention_segment *segment = &plan->segments[x->used.segments++];
            *segment = make_segment(x, &folds[i], b);
            segment->positions = key_positions;
            segment->look_inside = segment->look_inside || (lengths && tokens.end > lengths[b]);
            looks_inside = looks_inside || segment->look_inside;
            span.segment_count++;
        }
        if (key_positions) key_positions += schedule_fold_keys(&folds[i]);
    }
    if (span.segment_count == 0 || span.tokens == 0) return;
    if (looks_inside) {
        const attention_span *before = x->used.spans > 0 && b > 0 && !lengths ? &plan->spans[x->used.spans - 1] : NULL;
        if (before && before->visible_begin) {
            span.visible_begin = before->visible_begin;
            span.visible_end = before->visible_end;
        } else {
            set_visible(x, folds, b, &span);
        }
    }
    plan->spans[x->used.spans++] = span;
}

/* The span of folds of the same list. */
static void add_listed_span(builder *x, const schedule_fold *folds, int64_t count)
{
    const attention_span *before = x->used.spans > 0 ? &x->folds->spans[x->used.spans - 1] : NULL;
    attention_span span = make_span(x, folds, 0);
    span.positions = positions_of_queries(x, folds);
    span.listed = folds->listed;
    span.listed_rows = folds->listed_rows;
    span.kv_head = folds->heads.begin / group_size(x->folds);
    span.follows = before && before->kv_head == span.kv_head;
    span.segment_count = (int)count;
    for (int64_t i = 0; i < count; i++) x->folds->segments[x->used.segments++] = make_segment(x, &folds[i], 0);
    set_visible(x, folds, 0, &span);
    x->folds->spans[x->used.spans++] = span;
}

int64_t fold_call_spans(fold_plan *folds, const fold_memory *memory, const schedule_step *step, const fold_call *call)
{
    builder x = {.folds = folds, .memory = memory, .call = call};
    int64_t next = call->first, first, last;
    while (next_group(folds, step, call, &next, &first, &last)) {
        const schedule_fold *same = &step->folds[first];
        if (same->listed) {
            add_listed_span(&x, same, last - first);
            continue;
        }
        const int64_t *query_positions = positions_of_queries(&x, same), *key_positions = NULL;
        for (int64_t i = first; i < last; i++) {
            const int64_t *positions = positions_of_keys(&x, &step->folds[i]);
            if (i == first) key_positions = positions;
        }
        for (int64_t b = 0; b < folds->problem->batch; b++)
            add_span(&x, same, last - first, b, query_positions, key_positions);
    }
    return x.used.spans;
}
