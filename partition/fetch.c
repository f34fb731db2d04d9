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
 * Where patterns differ between heads, key heads whose query heads have the same terms are a class, and are planned
 * together; those of a class that follow each other are a lane. A lane has a slot and, from each peer, a message of its
 * own, so that of a key head travels what its own query heads need.
 *
 * The runs lie in a lane's slot, by ascending tokens, without gaps. A fold is one slice of the pattern (of a block list the
 * blocks of a row, one after the other) against one run; slices that have queries in common take turns, and so do terms,
 * and of what came the keys before the rank's own and those after them. Keys of a strided slice stand in the slot at a
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

/* What the heads of a class have received: rows of each of their slots. */
typedef struct {
    held_run *runs;
    int64_t count, rows;
} held_keys;

/* Key heads in a row that are of one class. */
typedef struct {
    head_range heads;
    int class, slot;
} key_lane;

typedef struct {
    const schedule_problem *problem;
    schedule *s;
    bool *peers; /* [P]: has this rank something for them, or they for it? */
    row_set needed;
    int *class_of; /* [G] */
    int class_count;
    key_lane *lanes; /* by ascending heads */
    int lane_count;
    held_keys *held; /* of each class */
    /* Of the folds that are being made. */
    int64_t step;
    int first_turn;
    head_range heads;     /* of queries */
    const key_lane *lane; /* whose received keys they are of; NULL: of keys at home */
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

/* Heads of the queries that key heads are for. */
static head_range readers_of(const fetch *x, head_range keys)
{
    const int group = x->problem->heads / x->problem->kv_heads;
    return (head_range){keys.begin * group, keys.end * group};
}

/* The key heads of the first lane of a class, which stand for the class. */
static head_range heads_of_class(const fetch *x, int class)
{
    int lane = 0;
    while (x->lanes[lane].class != class) lane++;
    return x->lanes[lane].heads;
}

/* Visits the terms that heads of queries have. */
static int visit_terms(fetch *x, head_range heads, range queries, range keys, pattern_fn fn)
{
    const pattern_sum *sum = x->problem->pattern;
    int result = 0;
    for (int i = 0; i < sum->count && result == 0; i++)
        if (pattern_term_meets(&sum->terms[i], heads))
            result = pattern_visit(sum->terms[i].pattern, &x->problem->mask, queries, keys, fn, x);
    return result;
}

/* The tokens of `origin` that queries of `reader` see with a key head of a class, in x->needed. */
static int find_needed(fetch *x, int reader, int origin, int class)
{
    const range keys = keys_of(x, origin);
    if (row_set_reset(&x->needed, keys) != 0) return -1;
    return visit_terms(x, readers_of(x, heads_of_class(x, class)), queries_of(x, reader), keys, add_needed);
}

/* Asks `mark` for the peers of a range of queries and of keys. */
static int find_peers(fetch *x, range queries, range keys, pattern_fn mark)
{
    for (int rank = 0; rank < x->problem->key_layout.ranks; rank++) x->peers[rank] = false;
    return visit_terms(x, heads_all(x->problem->heads), queries, keys, mark);
}

static schedule_transfer transfer_of(const fetch *x, transfer_direction direction, int peer, int origin,
                                     const key_lane *lane, range tokens)
{
    const int64_t before = keys_of(x, origin).begin;
    const range rows = {tokens.begin - before, tokens.end - before};
    return (schedule_transfer){.direction = direction,
                               .peer = peer,
                               .kind = ROWS_KEYS,
                               .origin = origin,
                               .rows = rows,
                               .heads = lane->heads,
                               .slot = SLOT_HOME,
                               .slot_row = rows.begin};
}

/* Sends the needed tokens of this rank, for the heads of a lane. */
static int send_needed(fetch *x, int peer, const key_lane *lane)
{
    int64_t at = keys_of(x, x->s->rank).begin;
    range run;
    for (bool joined = false; row_set_next(&x->needed, &at, &run); joined = true) {
        schedule_transfer t = transfer_of(x, TRANSFER_SEND, peer, x->s->rank, lane, run);
        t.joined = joined;
        if (schedule_add_transfer(x->s, 0, t) != 0) return -1;
    }
    return 0;
}

static int plan_sends(fetch *x)
{
    const int ranks = x->problem->key_layout.ranks;
    if (find_peers(x, (range){0, x->problem->mask.queries}, keys_of(x, x->s->rank), mark_readers) != 0) return -1;
    for (int distance = 1; distance < ranks; distance++) {
        const int peer = (int)(((int64_t)x->s->rank + distance) % ranks);
        for (int class = 0; class < x->class_count && x->peers[peer]; class++) {
            if (find_needed(x, peer, x->s->rank, class) != 0) return -1;
            for (int i = 0; i < x->lane_count; i++)
                if (x->lanes[i].class == class && send_needed(x, peer, &x->lanes[i]) != 0) return -1;
        }
    }
    return 0;
}

static int hold(held_keys *held, int origin, range tokens)
{
    held_run *runs = grown(held->runs, held->count, sizeof *runs);
    if (!runs) return -1;
    held->runs = runs;
    runs[held->count++] = (held_run){origin, tokens, held->rows};
    held->rows += range_length(tokens);
    return 0;
}

/* Receives what a class holds of an origin from run `first` on, for the heads of a lane. */
static int receive_held(fetch *x, const key_lane *lane, int64_t first)
{
    const held_keys *held = &x->held[lane->class];
    for (int64_t i = first; i < held->count; i++) {
        const held_run *run = &held->runs[i];
        schedule_transfer t = transfer_of(x, TRANSFER_RECEIVE, run->origin, run->origin, lane, run->tokens);
        t.joined = i > first;
        t.slot = lane->slot;
        t.slot_row = run->slot_row;
        if (schedule_add_transfer(x->s, 0, t) != 0) return -1;
    }
    return 0;
}

static int receive_class(fetch *x, int origin, int class)
{
    const int64_t first = x->held[class].count;
    int64_t at = keys_of(x, origin).begin;
    range run;
    if (find_needed(x, x->s->rank, origin, class) != 0) return -1;
    while (row_set_next(&x->needed, &at, &run))
        if (hold(&x->held[class], origin, run) != 0) return -1;
    for (int i = 0; i < x->lane_count; i++)
        if (x->lanes[i].class == class && receive_held(x, &x->lanes[i], first) != 0) return -1;
    return 0;
}

static int plan_receives(fetch *x)
{
    const int rank = x->s->rank;
    if (find_peers(x, queries_of(x, rank), (range){0, x->problem->mask.keys}, mark_origins) != 0) return -1;
    for (int origin = 0; origin < x->problem->key_layout.ranks; origin++)
        for (int class = 0; class < x->class_count && x->peers[origin] && origin != rank; class++)
            if (receive_class(x, origin, class) != 0) return -1;
    for (int i = 0; i < x->lane_count; i++) slot_hold(x->s, x->lanes[i].slot, x->held[x->lanes[i].class].rows);
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
    const schedule_fold fold = {.heads = x->heads,
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

static int add_even_fold(fetch *x, const slice *s, int turn, const even_keys *e)
{
    slice part = *s;
    if (e->count == 0) return 0;
    part.keys = (range){e->key, e->key + (e->count - 1) * s->key_stride + 1};
    return add_fold(x, &part, turn, e->origin, x->lane->slot, e->row, e->distance);
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
    const held_keys *held = &x->held[x->lane->class];
    even_keys e = {0};
    for (int64_t i = find_held(held, s->keys.begin); i < held->count; i++) {
        const held_run *run = &held->runs[i];
        if (run->tokens.begin >= s->keys.end) break;
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
            x->lane ? fold_held(x, &s, turn) : add_fold(x, &s, turn, rank, SLOT_HOME, row, s.key_stride);
        if (result != 0) return -1;
    }
    return 0;
}

/* The folds of a term for some of its heads. */
static int fold_heads(fetch *x, const pattern_term *term, head_range heads, range keys)
{
    if (heads_count(heads) <= 0) return 0;
    x->heads = heads;
    return pattern_visit(term->pattern, &x->problem->mask, queries_of(x, x->s->rank), keys, fold_part, x);
}

/* The folds of a term with keys at home, all heads of a run at once; or with those that came, lane by lane. */
static int fold_term(fetch *x, const pattern_term *term, range keys, bool at_home)
{
    int result = 0;
    x->lane = NULL;
    for (int r = 0; r < term->run_count && result == 0; r++) {
        if (at_home) result = fold_heads(x, term, term->runs[r], keys);
        for (int i = 0; i < x->lane_count && !at_home && result == 0; i++) {
            x->lane = &x->lanes[i];
            result = fold_heads(x, term, heads_intersect(term->runs[r], readers_of(x, x->lane->heads)), keys);
        }
    }
    return result;
}

/* Returns the turn after the last one, -1 without memory. */
static int plan_folds(fetch *x, int64_t step, range keys, bool at_home, int first_turn)
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

static void add_lane(fetch *x, int head)
{
    key_lane *lane = x->lane_count > 0 ? &x->lanes[x->lane_count - 1] : NULL;
    if (lane && lane->class == x->class_of[head]) lane->heads.end++;
    else x->lanes[x->lane_count++] = (key_lane){{head, head + 1}, x->class_of[head], 0};
}

static int plan_lanes(fetch *x)
{
    const int kv_heads = x->problem->kv_heads;
    x->class_count = pattern_sum_classes(x->problem->pattern, kv_heads, x->class_of);
    if (x->class_count < 0) return -1;
    for (int head = 0; head < kv_heads; head++) add_lane(x, head);
    for (int i = 0; i < x->lane_count; i++)
        if (schedule_add_slot(x->s, ROWS_KEYS, x->lanes[i].heads, 0, &x->lanes[i].slot) != 0) return -1;
    x->held = calloc((size_t)x->class_count, sizeof *x->held);
    return x->held ? 0 : -1;
}

static int plan_all(fetch *x)
{
    const range own = keys_of(x, x->s->rank);
    if (!x->peers || !x->class_of || !x->lanes || plan_lanes(x) != 0) return -1;
    if (plan_receives(x) != 0 || plan_sends(x) != 0) return -1;
    if (plan_folds(x, 0, own, true, 0) < 0) return -1;
    const int turns = plan_folds(x, 1, (range){0, own.begin}, false, 0);
    if (turns < 0) return -1;
    return plan_folds(x, 1, (range){own.end, x->problem->mask.keys}, false, turns) < 0 ? -1 : 0;
}

static int fetch_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    const size_t kv_heads = (size_t)problem->kv_heads;
    fetch x = {.problem = problem, .s = schedule_create(rank, 2)};
    if (!x.s) return -1;
    x.peers = calloc((size_t)problem->key_layout.ranks, sizeof *x.peers);
    x.class_of = calloc(kv_heads, sizeof *x.class_of);
    x.lanes = calloc(kv_heads, sizeof *x.lanes);
    const int result = plan_all(&x);
    for (int class = 0; class < x.class_count && x.held; class++) free(x.held[class].runs);
    free(x.held);
    free(x.lanes);
    free(x.class_of);
    free(x.peers);
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
