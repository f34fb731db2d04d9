/* Building blocks of schedules: what every strategy needs and none should write again. */
#include "partition/schedule.h"

#include "partition/grown.h"

#include <stdlib.h>

static const int64_t MOST_TRIPLES = (int64_t)1 << 62;

schedule *schedule_create(int rank, int64_t steps)
{
    schedule *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->rank = rank;
    s->step_count = steps;
    s->steps = calloc(steps > 0 ? (size_t)steps : 1, sizeof *s->steps);
    if (!s->steps) {
        free(s);
        return NULL;
    }
    return s;
}

static void step_free(schedule_step *step)
{
    free(step->transfers);
    free(step->clears);
    free(step->folds);
    free(step->merges);
}

void schedule_destroy(schedule *s)
{
    if (!s) return;
    for (int64_t i = 0; i < s->step_count; i++) step_free(&s->steps[i]);
    free(s->steps);
    free(s->slots);
    free(s->listed);
    free(s);
}

int schedule_add_slot(schedule *s, rows_kind kind, head_range heads, int64_t rows, int *slot_p)
{
    schedule_slot *slots = grown(s->slots, s->slot_count, sizeof *slots);
    if (!slots) return -1;
    s->slots = slots;
    s->slots[s->slot_count] = (schedule_slot){.kind = kind, .rows = rows, .heads = heads};
    *slot_p = s->slot_count++;
    return 0;
}

int schedule_add_transfer(schedule *s, int64_t step, schedule_transfer transfer)
{
    schedule_step *at = &s->steps[step];
    schedule_transfer *transfers = grown(at->transfers, at->transfer_count, sizeof *transfers);
    if (!transfers) return -1;
    at->transfers = transfers;
    at->transfers[at->transfer_count++] = transfer;
    return 0;
}

int schedule_add_fold(schedule *s, int64_t step, schedule_fold fold)
{
    schedule_step *at = &s->steps[step];
    schedule_fold *folds = grown(at->folds, at->fold_count, sizeof *folds);
    if (!folds) return -1;
    at->folds = folds;
    at->folds[at->fold_count++] = fold;
    return 0;
}

int schedule_add_clear(schedule *s, int64_t step, schedule_clear clear)
{
    schedule_step *at = &s->steps[step];
    schedule_clear *clears = grown(at->clears, at->clear_count, sizeof *clears);
    if (!clears) return -1;
    at->clears = clears;
    at->clears[at->clear_count++] = clear;
    return 0;
}

int schedule_add_merge(schedule *s, int64_t step, schedule_merge merge)
{
    schedule_step *at = &s->steps[step];
    schedule_merge *merges = grown(at->merges, at->merge_count, sizeof *merges);
    if (!merges) return -1;
    at->merges = merges;
    at->merges[at->merge_count++] = merge;
    return 0;
}

static int compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_folds(const void *a, const void *b)
{
    const schedule_fold *x = a, *y = b;
    int order = compare(x->heads.begin, y->heads.begin);
    if (order == 0) order = compare(x->query_origin, y->query_origin);
    if (order == 0) order = compare(x->query_rows.begin, y->query_rows.begin);
    if (order == 0) order = compare(x->key_origin, y->key_origin);
    if (order == 0) order = compare(x->key_rows.begin, y->key_rows.begin);
    return order;
}

void schedule_sort_folds(schedule *s)
{
    for (int64_t i = 0; i < s->step_count; i++) {
        schedule_step *step = &s->steps[i];
        if (step->fold_count > 1) qsort(step->folds, (size_t)step->fold_count, sizeof *step->folds, compare_folds);
    }
}

static bool step_is_idle(const schedule_step *step)
{
    return step->transfer_count == 0 && step->clear_count == 0 && step->fold_count == 0 && step->merge_count == 0;
}

void schedule_drop_idle_tail(schedule *s)
{
    while (s->step_count > 0 && step_is_idle(&s->steps[s->step_count - 1])) s->step_count--;
}

const char *schedule_sparse_problem_fault(const schedule_problem *problem)
{
    const layout *q = &problem->query_layout, *k = &problem->key_layout;
    if (q->ranks < 1 || k->ranks < 1) return "there is no rank";
    if (q->ranks != k->ranks) return "queries and keys lie on different ranks";
    if (q->grain < 1 || k->grain < 1) return "the grain of a layout is less than one token";
    if (q->tokens != problem->mask.queries || k->tokens != problem->mask.keys)
        return "the lengths of the mask and of the layouts differ";
    if (problem->heads < 1 || problem->kv_heads < 1) return "there is no head";
    if (problem->heads % problem->kv_heads != 0) return "the heads are no multiple of the key/value heads";
    if (problem->node_ranks < 1 || q->ranks % problem->node_ranks != 0)
        return "the ranks are no multiple of the ranks of a node";
    const char *fault = mask_fault(&problem->mask);
    if (fault) return fault;
    /* What the ranks fold is counted by head, and by term of a pattern: that sum must fit too. */
    const int64_t times = problem->pattern ? pattern_sum_head_terms(problem->pattern) : problem->heads;
    if (q->tokens > 0 && times > 0 && k->tokens > MOST_TRIPLES / times / q->tokens)
        return "there are more than 2^62 triples of query, key and head";
    return NULL;
}

const char *schedule_problem_fault(const schedule_problem *problem)
{
    const char *fault = schedule_sparse_problem_fault(problem);
    if (fault) return fault;
    if (problem->pattern || problem->selection) return "it knows masks alone, not sparse patterns (--pattern); say fetch";
    return NULL;
}

const char *schedule_moving_problem_fault(const schedule_problem *problem)
{
    const char *fault = schedule_problem_fault(problem);
    if (fault) return fault;
    if (problem->states_stay && problem->key_layout.ranks > 1)
        return "it moves queries or partial results, but entmax attention moves keys and values alone; say ring";
    return NULL;
}

mask_answer schedule_ask(const schedule_problem *problem, int query_origin, range query_rows, int key_origin,
                         range key_rows)
{
    return mask_ask(&problem->mask, layout_hull(&problem->query_layout, query_origin, query_rows),
                    layout_hull(&problem->key_layout, key_origin, key_rows));
}

/* Tokens from the first to the last of the chunks of a striped layout that lie on ranks of a run. */
static range tokens_of_striped_run(const layout *l, int first, int last)
{
    const int64_t chunks = layout_chunk_count(l);
    if (chunks <= first) return (range){0, 0}; /* the higher ranks hold even fewer */
    const int of_last_chunk = layout_chunk_owner(l, chunks - 1);
    int back = 0; /* from the last chunk to the last one on the run */
    if (of_last_chunk > last) back = of_last_chunk - last;
    if (of_last_chunk < first) back = of_last_chunk + l->ranks - last;
    return (range){layout_chunk(l, first).begin, layout_chunk(l, chunks - 1 - back).end};
}

range schedule_needed_rows(const schedule_problem *problem, int first_reader, int last_reader, int key_origin,
                           int piece)
{
    const layout *q = &problem->query_layout, *k = &problem->key_layout;
    if (first_reader > last_reader) return (range){0, 0};
    const range rows = layout_piece(k, key_origin, piece);
    if (q->kind == LAYOUT_STRIPED) {
        const range tokens = tokens_of_striped_run(q, first_reader, last_reader);
        return layout_rows_within(k, key_origin, rows, mask_keys(&problem->mask, tokens));
    }
    /* The queries of a run of ranks are one run of tokens, or two: of early chunks, and of late ones, from the last
     * rank on down to the first. */
    range needed = {0, 0};
    for (int i = 0; i < layout_piece_count(q); i++) {
        const int64_t a = layout_rank_chunk(q, first_reader, i), b = layout_rank_chunk(q, last_reader, i);
        const range tokens = {layout_chunk(q, a < b ? a : b).begin, layout_chunk(q, a < b ? b : a).end};
        needed = range_hull(needed, layout_rows_within(k, key_origin, rows, mask_keys(&problem->mask, tokens)));
    }
    return needed;
}

/* Are the tokens of these rows one run? */
static bool rows_are_one_run(const layout *l, range rows)
{
    return range_is_empty(rows) || l->kind != LAYOUT_STRIPED || rows.begin / l->grain == (rows.end - 1) / l->grain;
}

/* Pairs of a run of query tokens with rows of keys. Keys that all of these queries see are counted at once, those that
 * some see are left to the mask where they are one run of tokens too; else the queries are halved. */
static int64_t pairs_of_run(const schedule_problem *problem, range queries, int key_origin, range key_rows)
{
    const layout *k = &problem->key_layout;
    const range first = mask_row(&problem->mask, queries.begin), last = mask_row(&problem->mask, queries.end - 1);
    const bool some_seen_by_all = last.begin < first.end;
    const range all = {last.begin, some_seen_by_all ? first.end : last.begin};
    const range parts[] = {{first.begin, some_seen_by_all ? last.begin : last.end},
                           {some_seen_by_all ? first.end : last.end, last.end}};
    int64_t pairs = range_length(queries) * range_length(layout_rows_within(k, key_origin, key_rows, all));
    for (int i = 0; i < 2; i++) {
        const range rows = layout_rows_within(k, key_origin, key_rows, parts[i]);
        if (!rows_are_one_run(k, rows)) {
            const int64_t middle = queries.begin + range_length(queries) / 2;
            return pairs_of_run(problem, (range){queries.begin, middle}, key_origin, key_rows) +
                   pairs_of_run(problem, (range){middle, queries.end}, key_origin, key_rows);
        }
        pairs += mask_pairs(&problem->mask, queries, layout_hull(k, key_origin, rows));
    }
    return pairs;
}

int64_t schedule_joined_end(const schedule_step *step, int64_t first)
{
    int64_t end = first + 1;
    while (end < step->transfer_count && step->transfers[end].joined) end++;
    return end;
}

static int64_t count_strided(range rows, int64_t stride)
{
    return range_is_empty(rows) ? 0 : (rows.end - 1 - rows.begin) / stride + 1;
}

int64_t schedule_fold_queries(const schedule_fold *fold)
{
    return count_strided(fold->query_rows, fold->sliced ? fold->query_stride : 1);
}

int64_t schedule_fold_keys(const schedule_fold *fold)
{
    return count_strided(fold->key_rows, fold->sliced ? fold->key_stride : 1);
}

slice schedule_fold_slice(const schedule_problem *problem, const schedule_fold *fold)
{
    return (slice){
        .queries = layout_hull(&problem->query_layout, fold->query_origin, fold->query_rows),
        .query_stride = fold->query_stride,
        .keys = layout_hull(&problem->key_layout, fold->key_origin, fold->key_rows),
        .key_stride = fold->key_stride,
        .low = fold->low,
        .high = fold->high,
    };
}

int64_t schedule_fold_pairs(const schedule_problem *problem, const schedule_fold *fold)
{
    const layout *q = &problem->query_layout, *k = &problem->key_layout;
    if (fold->sliced) {
        const slice s = schedule_fold_slice(problem, fold);
        return slice_pairs(&s);
    }
    if (!fold->look_inside) return range_length(fold->query_rows) * range_length(fold->key_rows);
    const range readers = mask_queries(&problem->mask, layout_hull(k, fold->key_origin, fold->key_rows));
    range rows = layout_rows_within(q, fold->query_origin, fold->query_rows, readers);
    int64_t pairs = 0;
    while (!range_is_empty(rows)) {
        const int64_t run_end = q->kind == LAYOUT_STRIPED ? (rows.begin / q->grain + 1) * q->grain : rows.end;
        const range run = {rows.begin, run_end < rows.end ? run_end : rows.end};
        pairs += pairs_of_run(problem, layout_hull(q, fold->query_origin, run), fold->key_origin, fold->key_rows);
        rows.begin = run.end;
    }
    return pairs;
}

/* Pairs of one key head of a fold whose rows are listed. */
static int64_t listed_pairs(const schedule_problem *problem, const schedule_fold *fold)
{
    const range keys = layout_hull(&problem->key_layout, fold->key_origin, fold->key_rows);
    const int64_t group = problem->heads / problem->kv_heads;
    if (!fold->look_inside) return fold->listed_rows * range_length(keys);
    int64_t pairs = 0;
    for (int64_t i = 0; i < fold->listed_rows; i++) {
        const int64_t row = fold->query_rows.begin + fold->listed[i] / group;
        const int64_t token = layout_token(&problem->query_layout, fold->query_origin, row);
        pairs += range_length(range_intersect(mask_row(&problem->mask, token), keys));
    }
    return pairs;
}

int64_t schedule_fold_all_pairs(const schedule_problem *problem, const schedule_fold *fold)
{
    if (fold->listed) return listed_pairs(problem, fold) * heads_count(heads_of_keys(problem, fold->heads));
    return schedule_fold_pairs(problem, fold) * heads_count(fold->heads);
}
