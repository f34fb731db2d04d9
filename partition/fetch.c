/* Fetch: of a sparse pattern every rank gets exactly the keys that its queries see, straight from their owners, and
 * folds its own meanwhile; then it folds what came.
 *
 * Queries and states stay. Which keys a rank needs follows from the pattern, the mask and the layout alone: the owner
 * works out what each of its readers will ask for, so that nothing is exchanged while planning, and reader and owner
 * come to the same runs of rows by the same function. What is a halo, a broadcast or a gather elsewhere is here what
 * falls out: of a window the ends of the neighbours' shards, of sinks and of global tokens a few rows of one rank for
 * all others, of a query that sees everything all keys for its rank.
 *
 *     step 0   sends and receives, all runs of needed tokens of a shard in one message; folds of keys at home;
 *     step 1   folds of keys that came.
 *
 * The runs lie in one slot, by ascending tokens, without gaps. A fold is one slice of the pattern (of a block list the
 * blocks of a row, one after the other) against one run; slices that have queries in common take turns, and so do, of
 * what came, the keys before the rank's own and those after them. Keys of a strided slice stand in the slot at a
 * distance that depends on what else was needed: a fold goes as far as that is the same.
 *
 * Rows that a rank receives, n = N / P tokens a rank:
 *     sinks:COUNT,LEFT            min(LEFT, r n) and, where that does not reach them, COUNT
 *     global:LEFT,RIGHT,AT        LEFT and RIGHT, and the tokens AT; the rank of a global token N - n
 *     dilated:STEP,LEFT,RIGHT     min(STEP LEFT, r n) and as many to the right
 *     blocks                      the blocks that any of its rows of blocks names
 * The work is one visit of the pattern for each peer that there is something to send to or to receive from, and one of
 * all that see the rank's keys. Contiguous layouts: in others a window's neighbours are everywhere. */
#include "partition/grown.h"
#include "partition/parcel.h"
#include "partition/row_set.h"

#include <stdlib.h>

/* Received tokens and where they lie. */
typedef struct {
    int origin;
    range tokens;
    int64_t slot_row;
} held_run;

typedef struct {
    const schedule_problem *problem;
    schedule *s;
    bool *peers; /* [P]: has this rank something for them, or they for it? */
    row_set needed;
    held_run *held;
    int64_t held_count;
    int slot;
    /* Of the folds that are being made. */
    int64_t step;
    int first_turn;
    bool at_home;
} fetch;

static range queries_of(const fetch *x, int rank)
{
    return layout_chunk(&x->problem->query_layout, rank);
}

static range keys_of(const fetch *x, int rank)
{
    return layout_chunk(&x->problem->key_layout, rank);
}

/* Ranks from the first to the last that hold a token of a range that is not empty. */
static void mark_owners(const fetch *x, const layout *l, range tokens)
{
    const int64_t last = layout_chunk_of_token(l, tokens.end - 1);
    for (int64_t rank = layout_chunk_of_token(l, tokens.begin); rank <= last; rank++) x->peers[rank] = true;
}

static int mark_origins(void *data, const pattern_part *part)
{
    const fetch *x = data;
    for (int64_t i = 0; i < part->count; i++) mark_owners(x, &x->problem->key_layout, part->runs[i].keys);
    return 0;
}

static int mark_readers(void *data, const pattern_part *part)
{
    const fetch *x = data;
    for (int64_t i = 0; i < part->count; i++) mark_owners(x, &x->problem->query_layout, part->runs[i].queries);
    return 0;
}

static int add_needed(void *data, const pattern_part *part)
{
    fetch *x = data;
    for (int64_t i = 0; i < part->count; i++) row_set_add(&x->needed, part->runs[i].keys, part->runs[i].key_stride);
    return 0;
}

/* The tokens of `origin` that queries of `reader` see, in x->needed. */
static int find_needed(fetch *x, int reader, int origin)
{
    const range keys = keys_of(x, origin);
    if (row_set_reset(&x->needed, keys) != 0) return -1;
    return pattern_visit(x->problem->pattern, &x->problem->mask, queries_of(x, reader), keys, add_needed, x);
}

/* Asks `mark` for the peers of a range of queries and of keys. */
static int find_peers(fetch *x, range queries, range keys, pattern_fn mark)
{
    for (int rank = 0; rank < x->problem->key_layout.ranks; rank++) x->peers[rank] = false;
    return pattern_visit(x->problem->pattern, &x->problem->mask, queries, keys, mark, x);
}

static schedule_transfer transfer_of(const fetch *x, transfer_direction direction, int peer, int origin, range tokens)
{
    const int64_t before = keys_of(x, origin).begin;
    const range rows = {tokens.begin - before, tokens.end - before};
    return (schedule_transfer){.direction = direction,
                               .peer = peer,
                               .kind = ROWS_KEYS,
                               .origin = origin,
                               .rows = rows,
                               .heads = heads_all(x->problem->kv_heads),
                               .slot = SLOT_HOME,
                               .slot_row = rows.begin};
}

static int plan_sends(fetch *x)
{
    const int ranks = x->problem->key_layout.ranks;
    if (find_peers(x, (range){0, x->problem->mask.queries}, keys_of(x, x->s->rank), mark_readers) != 0) return -1;
    for (int distance = 1; distance < ranks; distance++) {
        const int peer = (int)(((int64_t)x->s->rank + distance) % ranks);
        int64_t at = keys_of(x, x->s->rank).begin;
        range run;
        if (!x->peers[peer]) continue;
        if (find_needed(x, peer, x->s->rank) != 0) return -1;
        for (bool joined = false; row_set_next(&x->needed, &at, &run); joined = true) {
            schedule_transfer t = transfer_of(x, TRANSFER_SEND, peer, x->s->rank, run);
            t.joined = joined;
            if (schedule_add_transfer(x->s, 0, t) != 0) return -1;
        }
    }
    return 0;
}

static int hold(fetch *x, int origin, range tokens, int64_t slot_row)
{
    held_run *held = grown(x->held, x->held_count, sizeof *held);
    if (!held) return -1;
    x->held = held;
    x->held[x->held_count++] = (held_run){origin, tokens, slot_row};
    return 0;
}

static int plan_receives(fetch *x)
{
    const int rank = x->s->rank;
    int64_t end = 0;
    if (find_peers(x, queries_of(x, rank), (range){0, x->problem->mask.keys}, mark_origins) != 0) return -1;
    for (int origin = 0; origin < x->problem->key_layout.ranks; origin++) {
        int64_t at = keys_of(x, origin).begin;
        range run;
        if (!x->peers[origin] || origin == rank) continue;
        if (find_needed(x, rank, origin) != 0) return -1;
        for (bool joined = false; row_set_next(&x->needed, &at, &run); joined = true) {
            schedule_transfer t = transfer_of(x, TRANSFER_RECEIVE, origin, origin, run);
            t.joined = joined;
            t.slot = x->slot;
            t.slot_row = end;
            if (schedule_add_transfer(x->s, 0, t) != 0 || hold(x, origin, run, end) != 0) return -1;
            end += range_length(run);
        }
    }
    slot_hold(x->s, x->slot, end);
    return 0;
}

/* Folds. */

/* The queries of a part that see any of its keys: from the first to the last. */
static slice common_queries(const pattern_part *part)
{
    slice all = part->runs[0];
    for (int64_t i = 1; i < part->count; i++) all.queries = range_hull(all.queries, part->runs[i].queries);
    return all;
}

/* A fold of the queries of a slice with its keys, which lie in one shard, `slot_stride` rows of a slot apart. */
static int add_fold(fetch *x, const slice *s, int turn, int origin, int slot, int64_t slot_row, int64_t slot_stride)
{
    const int64_t queries_before = queries_of(x, x->s->rank).begin, keys_before = keys_of(x, origin).begin;
    const range query_rows = {s->queries.begin - queries_before, s->queries.end - queries_before};
    const schedule_fold fold = {.heads = heads_all(x->problem->heads),
                                .query_origin = x->s->rank,
                                .query_rows = query_rows,
                                .query_slot = SLOT_HOME,
                                .query_slot_row = query_rows.begin,
                                .state_slot = SLOT_HOME,
                                .state_slot_row = query_rows.begin,
                                .key_origin = origin,
                                .key_rows = {s->keys.begin - keys_before, s->keys.end - keys_before},
                                .holder = x->s->rank,
                                .key_slot = slot,
                                .key_slot_row = slot_row,
                                .look_inside = !slice_sees_all(s),
                                .sliced = true,
                                /* of one row it would mean nothing, but strides become products */
                                .query_stride = slice_query_count(s) > 1 ? s->query_stride : 1,
                                .key_stride = s->key_stride,
                                .key_slot_stride = slot_stride,
                                .low = s->low,
                                .high = s->high,
                                .turn = turn};
    return schedule_add_fold(x->s, x->step, fold);
}

/* The first held run that ends after a token. */
static int64_t find_held(const fetch *x, int64_t token)
{
    int64_t low = 0, high = x->held_count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (x->held[middle].tokens.end <= token) low = middle + 1;
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

static int add_even_fold(fetch *x, const slice *s, int turn, const even_keys *e)
{
    slice part = *s;
    if (e->count == 0) return 0;
    part.keys = (range){e->key, e->key + (e->count - 1) * s->key_stride + 1};
    return add_fold(x, &part, turn, e->origin, x->slot, e->row, e->distance);
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

/* Folds of a slice with its keys as they came. */
static int fold_held(fetch *x, const slice *s, int turn)
{
    even_keys e = {0};
    for (int64_t i = find_held(x, s->keys.begin); i < x->held_count && x->held[i].tokens.begin < s->keys.end; i++) {
        const held_run *run = &x->held[i];
        const slice in = slice_within(s, s->queries, run->tokens);
        if (slice_is_empty(&in)) continue;
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
    fetch *x = data;
    const int turn = x->first_turn + part->layer, rank = x->s->rank;
    for (int64_t i = 0; i < part->count; i++) {
        slice s = common_queries(part);
        s.keys = part->runs[i].keys;
        const int64_t row = s.keys.begin - keys_of(x, rank).begin;
        const int result =
            x->at_home ? add_fold(x, &s, turn, rank, SLOT_HOME, row, s.key_stride) : fold_held(x, &s, turn);
        if (result != 0) return -1;
    }
    return 0;
}

static int plan_folds(fetch *x, int64_t step, range keys, bool at_home, int first_turn)
{
    x->step = step;
    x->first_turn = first_turn;
    x->at_home = at_home;
    return pattern_visit(x->problem->pattern, &x->problem->mask, queries_of(x, x->s->rank), keys, fold_part, x);
}

static int plan_all(fetch *x)
{
    const range own = keys_of(x, x->s->rank);
    const int turns = x->problem->pattern ? x->problem->pattern->layer_count + 1 : 1;
    if (!x->peers) return -1;
    if (schedule_add_slot(x->s, ROWS_KEYS, heads_all(x->problem->kv_heads), 0, &x->slot) != 0) return -1;
    if (plan_receives(x) != 0 || plan_sends(x) != 0) return -1;
    if (plan_folds(x, 0, own, true, 0) != 0) return -1;
    if (plan_folds(x, 1, (range){0, own.begin}, false, 0) != 0) return -1;
    return plan_folds(x, 1, (range){own.end, x->problem->mask.keys}, false, turns);
}

static int fetch_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    fetch x = {.problem = problem, .s = schedule_create(rank, 2)};
    if (!x.s) return -1;
    x.peers = calloc((size_t)problem->key_layout.ranks, sizeof *x.peers);
    const int result = plan_all(&x);
    free(x.peers);
    free(x.held);
    row_set_free(&x.needed);
    if (result != 0) {
        schedule_destroy(x.s);
        return -1;
    }
    schedule_drop_idle_tail(x.s);
    *schedule_p = x.s;
    return 0;
}

static const char *fetch_refuse(const schedule_problem *problem)
{
    const char *fault = schedule_sparse_problem_fault(problem);
    if (fault) return fault;
    if (!problem->pattern) return "it is for sparse patterns (--pattern); of a mask alone gather fetches the same";
    if (problem->query_layout.kind != LAYOUT_CONTIGUOUS || problem->key_layout.kind != LAYOUT_CONTIGUOUS)
        return "sparse patterns (--pattern) need layout contiguous";
    return NULL;
}

extern const strategy strategy_fetch;
const strategy strategy_fetch = {
    .name = "fetch",
    .summary = "every rank gets exactly the keys that its queries see of a sparse pattern; memory for these",
    .refuse = fetch_refuse,
    .plan = fetch_plan,
    .sparse = true,
};
