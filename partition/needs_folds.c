/* The folds of what ranks need of each other: partition/needs.h. */
#include "partition/needs.h"
#include "partition/visits.h"

#include <stddef.h>

/* The queries of a part that see any of its keys: from the first to the last. */
static slice common_queries(const pattern_part *part)
{
    slice all = part->runs[0];
    for (int64_t i = 1; i < part->count; i++) all.queries = range_hull(all.queries, part->runs[i].queries);
    return all;
}

schedule_fold needs_fold(const needs *x, const slice *s, int turn, int reader, int origin)
{
    const int64_t queries_before = needs_queries_of(x, reader).begin, keys_before = needs_keys_of(x, origin).begin;
    const range query_rows = {s->queries.begin - queries_before, s->queries.end - queries_before};
    const range key_rows = {s->keys.begin - keys_before, s->keys.end - keys_before};
    return (schedule_fold){.heads = x->heads,
                           .query_origin = reader,
                           .query_rows = query_rows,
                           .query_slot = SLOT_HOME,
                           .query_slot_row = query_rows.begin,
                           .state_slot = SLOT_HOME,
                           .state_slot_row = query_rows.begin,
                           .key_origin = origin,
                           .key_rows = key_rows,
                           .holder = x->s->rank,
                           .key_slot = SLOT_HOME,
                           .key_slot_row = key_rows.begin,
                           .look_inside = !slice_sees_all(s),
                           .sliced = true,
                           /* of one row it would mean nothing, but strides become products */
                           .query_stride = slice_query_count(s) > 1 ? s->query_stride : 1,
                           .key_stride = s->key_stride,
                           .key_slot_stride = s->key_stride,
                           .low = s->low,
                           .high = s->high,
                           .turn = turn};
}

/* A fold of queries of this rank with keys of another, which lie in rows of a slot that are evenly apart. */
static int add_held_fold(needs *x, const slice *s, int turn, int origin, int64_t slot_row, int64_t slot_stride)
{
    schedule_fold fold = needs_fold(x, s, turn, x->s->rank, origin);
    fold.key_slot = x->lane->slots[x->slot];
    fold.key_slot_row = slot_row;
    fold.key_slot_stride = slot_stride;
    return schedule_add_fold(x->s, x->step, fold);
}

/* The first held run that ends after a token. */
static int64_t find_held(const held_keys *held, int64_t token)
{
    int64_t low = 0, high = held->count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (held->runs[middle].tokens.end <= token) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Keys of a slice, one after the other, that lie in a shard and evenly apart in the slot. */
typedef struct {
    int origin;
    int64_t key, count; /* the first, and how many */
    int64_t row, distance;
} even_keys;

static int add_even_fold(needs *x, const slice *s, int turn, const even_keys *e)
{
    slice part = *s;
    if (e->count == 0) return 0;
    part.keys = (range){e->key, e->key + (e->count - 1) * s->key_stride + 1};
    return add_held_fold(x, &part, turn, e->origin, e->row, e->distance);
}

/* Puts the keys `b`, which are the next ones, behind `a` if they stay evenly apart. */
static bool join_keys(even_keys *a, const even_keys *b)
{
    const int64_t gap = b->row - (a->row + (a->count - 1) * a->distance);
    if (a->count == 0 || a->origin != b->origin) return false;
    if ((a->count > 1 && gap != a->distance) || (b->count > 1 && gap != b->distance)) return false;
    a->distance = gap;
    a->count += b->count;
    return true;
}

/* Folds of a slice with its keys as they came; where its queries visit, others fold it. */
static int fold_held(needs *x, const slice *s, int turn, bool may_visit)
{
    const held_keys *held = &x->held[x->lane->class];
    even_keys e = {0};
    for (int64_t i = find_held(held, s->keys.begin); i < held->count; i++) {
        const held_run *run = &held->runs[i];
        if (run->tokens.begin >= s->keys.end) break;
        const slice in = slice_within(s, s->queries, run->tokens);
        if (slice_is_empty(&in) || (may_visit && x->visits_to[run->origin])) continue;
        const even_keys next = {.origin = run->origin,
                                .key = in.keys.begin,
                                .count = slice_key_count(&in),
                                .row = run->slot_row + in.keys.begin - run->tokens.begin,
                                .distance = s->key_stride};
        if (join_keys(&e, &next)) continue;
        if (add_even_fold(x, s, turn, &e) != 0) return -1;
        e = next;
    }
    return add_even_fold(x, s, turn, &e);
}

static int fold_part(void *data, const pattern_part *part)
{
    needs *x = data;
    const int turn = x->first_turn + part->layer, rank = x->s->rank;
    const bool may_visit = x->lane && visits_may(x, x->term, part);
    for (int64_t i = 0; i < part->count; i++) {
        slice s = common_queries(part);
        s.keys = part->runs[i].keys;
        if (x->lane && fold_held(x, &s, turn, may_visit) != 0) return -1;
        if (!x->lane && schedule_add_fold(x->s, x->step, needs_fold(x, &s, turn, rank, rank)) != 0) return -1;
    }
    return 0;
}

/* The folds of a term for some of its heads. */
static int fold_heads(needs *x, const pattern_term *term, head_range heads, range keys)
{
    if (heads_count(heads) <= 0) return 0;
    x->heads = heads;
    x->term = term;
    return pattern_visit(term->pattern, &x->problem->mask, needs_queries_of(x, x->s->rank), keys, fold_part, x);
}

/* The folds of a term with keys at home, all heads of a run at once; or with those that came, lane by lane. */
static int fold_term(needs *x, const pattern_term *term, range keys, bool at_home)
{
    int result = 0;
    x->lane = NULL;
    for (int r = 0; r < term->run_count && result == 0; r++) {
        if (at_home) result = fold_heads(x, term, term->runs[r], keys);
        for (int i = 0; i < x->lane_count && !at_home && result == 0; i++) {
            x->lane = &x->lanes[i];
            result = fold_heads(x, term, heads_intersect(term->runs[r], needs_readers_of(x, x->lane->heads)), keys);
        }
    }
    return result;
}

/* Returns the turn after the last one, -1 without memory. */
static int fold_terms(needs *x, int64_t step, range keys, bool at_home, int first_turn)
{
    const pattern_sum *sum = x->problem->pattern;
    x->step = step;
    x->first_turn = first_turn;
    for (int i = 0; i < sum->count; i++) {
        if (fold_term(x, &sum->terms[i], keys, at_home) != 0) return -1;
        x->first_turn += sum->terms[i].pattern->layer_count + 1; /* a list of blocks is a layer too */
    }
    return x->first_turn;
}

int needs_fold_home(needs *x, int64_t step)
{
    return fold_terms(x, step, needs_keys_of(x, x->s->rank), true, 0) < 0 ? -1 : 0;
}

int needs_fold_held(needs *x, int64_t step, range keys, int first_turn)
{
    return fold_terms(x, step, keys, false, first_turn);
}
