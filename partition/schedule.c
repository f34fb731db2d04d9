/* Building blocks of schedules: what every strategy needs and none should write again. */
#include "partition/schedule.h"

#include <stdlib.h>

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

void schedule_destroy(schedule *s)
{
    if (!s) return;
    for (int64_t i = 0; i < s->step_count; i++) {
        free(s->steps[i].transfers);
        free(s->steps[i].folds);
    }
    free(s->steps);
    free(s);
}

/* Room for one more item in an array that is always grown by this function: its capacity is the power of two at or
 * above its count, so that it need not be stored. Returns the array, perhaps moved, or NULL with the old one intact. */
static void *grown(void *items, int64_t count, size_t size)
{
    const bool full = (count & (count - 1)) == 0;
    if (!full) return items;
    const size_t capacity = count == 0 ? 1 : 2 * (size_t)count;
    return realloc(items, capacity * size);
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

static int add_fold(schedule *s, int64_t step, schedule_fold fold)
{
    schedule_step *at = &s->steps[step];
    schedule_fold *folds = grown(at->folds, at->fold_count, sizeof *folds);
    if (!folds) return -1;
    at->folds = folds;
    at->folds[at->fold_count++] = fold;
    return 0;
}

int schedule_add_folds(schedule *s, int64_t step, const schedule_problem *problem, range keys, int slot, int64_t row)
{
    const layout *l = &problem->query_layout;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, s->rank); i++) {
        const range queries = layout_chunk(l, layout_rank_chunk(l, s->rank, i));
        const mask_answer answer = mask_ask(&problem->mask, queries, keys);
        if (answer == MASK_NOTHING) continue;
        const schedule_fold fold = {
            .queries = queries, .keys = keys, .slot = slot, .row = row, .look_inside = answer == MASK_LOOK_INSIDE};
        if (add_fold(s, step, fold) != 0) return -1;
    }
    return 0;
}

static int compare_folds(const void *a, const void *b)
{
    const schedule_fold *x = a, *y = b;
    if (x->queries.begin != y->queries.begin) return x->queries.begin < y->queries.begin ? -1 : 1;
    if (x->keys.begin != y->keys.begin) return x->keys.begin < y->keys.begin ? -1 : 1;
    return 0;
}

void schedule_sort_folds(schedule *s)
{
    for (int64_t i = 0; i < s->step_count; i++) {
        schedule_step *step = &s->steps[i];
        if (step->fold_count > 1) qsort(step->folds, (size_t)step->fold_count, sizeof *step->folds, compare_folds);
    }
}

void schedule_drop_idle_tail(schedule *s)
{
    while (s->step_count > 0) {
        const schedule_step *last = &s->steps[s->step_count - 1];
        if (last->transfer_count > 0 || last->fold_count > 0) return;
        s->step_count--;
    }
}

const char *schedule_problem_fault(const schedule_problem *problem)
{
    const mask *m = &problem->mask;
    if (problem->query_layout.ranks != problem->key_layout.ranks) return "queries and keys lie on different ranks";
    if (problem->query_layout.tokens != m->queries || problem->key_layout.tokens != m->keys)
        return "the lengths of the mask and of the layouts differ";
    if (!m->documents) return NULL;
    if (m->queries != m->keys) return "packed documents need as many keys as queries";
    if (m->document_count < 0 || m->documents[0] != 0 || m->documents[m->document_count] != m->queries)
        return "document offsets do not go from 0 to the number of tokens";
    for (int64_t i = 0; i < m->document_count; i++)
        if (m->documents[i] > m->documents[i + 1]) return "document offsets do not ascend";
    return NULL;
}

bool schedule_rank_needs(const schedule_problem *problem, int rank, range keys)
{
    const layout *l = &problem->query_layout;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, rank); i++)
        if (mask_ask(&problem->mask, layout_chunk(l, layout_rank_chunk(l, rank, i)), keys) != MASK_NOTHING) return true;
    return false;
}
