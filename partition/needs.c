#include "partition/needs.h"

#include "partition/grown.h"
#include "partition/parcel.h"
#include "partition/visits.h"

#include <stdlib.h>

/* Ranks from the first to the last that hold a token of a range that is not empty. */
static void mark_owners(const needs *x, const layout *l, range tokens)
{
    const int64_t last = layout_chunk_of_token(l, tokens.end - 1);
    for (int64_t rank = layout_chunk_of_token(l, tokens.begin); rank <= last; rank++) x->peers[rank] = true;
}

static int mark_origins(void *data, const pattern_part *part)
{
    const needs *x = data;
    for (int64_t i = 0; i < part->count; i++) mark_owners(x, &x->problem->key_layout, part->runs[i].keys);
    return 0;
}

static int mark_readers(void *data, const pattern_part *part)
{
    const needs *x = data;
    for (int64_t i = 0; i < part->count; i++) mark_owners(x, &x->problem->query_layout, part->runs[i].queries);
    return 0;
}

static int add_needed(void *data, const pattern_part *part)
{
    needs *x = data;
    if (x->skips_visits && visits_may(x, x->term, part)) return 0;
    for (int64_t i = 0; i < part->count; i++) row_set_add(&x->needed, part->runs[i].keys, part->runs[i].key_stride);
    return 0;
}

/* The key heads of the first lane of a class, which stand for the class. */
static head_range heads_of_class(const needs *x, int class)
{
    int lane = 0;
    while (x->lanes[lane].class != class) lane++;
    return x->lanes[lane].heads;
}

int needs_visit(needs *x, head_range heads, range queries, range keys, pattern_fn fn)
{
    const pattern_sum *sum = x->problem->pattern;
    int result = 0;
    for (int i = 0; i < sum->count && result == 0; i++) {
        x->term = &sum->terms[i];
        if (pattern_term_meets(x->term, heads))
            result = pattern_visit(x->term->pattern, &x->problem->mask, queries, keys, fn, x);
    }
    return result;
}

int needs_find(needs *x, int reader, int origin, int class, bool they_visit)
{
    x->skips_visits = they_visit;
    const range keys = needs_keys_of(x, origin);
    if (row_set_reset(&x->needed, keys) != 0) return -1;
    return needs_visit(x, needs_readers_of(x, heads_of_class(x, class)), needs_queries_of(x, reader), keys, add_needed);
}

/* Asks `mark` for the peers of a range of queries and of keys. */
static int find_peers(needs *x, range queries, range keys, pattern_fn mark)
{
    for (int rank = 0; rank < x->problem->key_layout.ranks; rank++) x->peers[rank] = false;
    return needs_visit(x, heads_all(x->problem->heads), queries, keys, mark);
}

static schedule_transfer transfer_of(const needs *x, transfer_direction direction, int peer, int origin,
                                     const key_lane *lane, range tokens)
{
    const int64_t before = needs_keys_of(x, origin).begin;
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
static int send_needed(needs *x, int64_t step, int peer, const key_lane *lane)
{
    int64_t at = needs_keys_of(x, x->s->rank).begin;
    range run;
    for (bool joined = false; row_set_next(&x->needed, &at, &run); joined = true) {
        schedule_transfer t = transfer_of(x, TRANSFER_SEND, peer, x->s->rank, lane, run);
        t.joined = joined;
        if (schedule_add_transfer(x->s, step, t) != 0) return -1;
    }
    return 0;
}

int needs_find_readers(needs *x)
{
    return find_peers(x, (range){0, x->problem->mask.queries}, needs_keys_of(x, x->s->rank), mark_readers);
}

int needs_find_origins(needs *x)
{
    return find_peers(x, needs_queries_of(x, x->s->rank), (range){0, x->problem->mask.keys}, mark_origins);
}

int needs_send(needs *x, int64_t step, int peer)
{
    const bool visit = x->visits_from && x->visits_from[peer];
    for (int class = 0; class < x->class_count; class ++) {
        if (needs_find(x, peer, x->s->rank, class, visit) != 0) return -1;
        for (int i = 0; i < x->lane_count; i++)
            if (x->lanes[i].class == class && send_needed(x, step, peer, &x->lanes[i]) != 0) return -1;
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
static int receive_held(needs *x, int64_t step, const key_lane *lane, int64_t first)
{
    const held_keys *held = &x->held[lane->class];
    slot_hold(x->s, lane->slots[x->slot], held->rows);
    for (int64_t i = first; i < held->count; i++) {
        const held_run *run = &held->runs[i];
        schedule_transfer t = transfer_of(x, TRANSFER_RECEIVE, run->origin, run->origin, lane, run->tokens);
        t.joined = i > first;
        t.slot = lane->slots[x->slot];
        t.slot_row = run->slot_row;
        if (schedule_add_transfer(x->s, step, t) != 0) return -1;
    }
    return 0;
}

static int receive_class(needs *x, int64_t step, int origin, int class)
{
    const int64_t first = x->held[class].count;
    int64_t at = needs_keys_of(x, origin).begin;
    range run;
    if (needs_find(x, x->s->rank, origin, class, x->visits_to && x->visits_to[origin]) != 0) return -1;
    while (row_set_next(&x->needed, &at, &run))
        if (hold(&x->held[class], origin, run) != 0) return -1;
    for (int i = 0; i < x->lane_count; i++)
        if (x->lanes[i].class == class && receive_held(x, step, &x->lanes[i], first) != 0) return -1;
    return 0;
}

int needs_receive(needs *x, int64_t step, int origin)
{
    for (int class = 0; class < x->class_count; class ++)
        if (receive_class(x, step, origin, class) != 0) return -1;
    return 0;
}

void needs_turn_to(needs *x, int slot)
{
    x->slot = slot;
    for (int class = 0; class < x->class_count; class ++) x->held[class].count = x->held[class].rows = 0;
}

/* Lanes. */

static void add_lane(needs *x, int head)
{
    key_lane *lane = x->lane_count > 0 ? &x->lanes[x->lane_count - 1] : NULL;
    if (lane && lane->class == x->class_of[head]) lane->heads.end++;
    else x->lanes[x->lane_count++] = (key_lane){.heads = {head, head + 1}, .class = x->class_of[head]};
}

static int plan_lanes(needs *x, int slots)
{
    const int kv_heads = x->problem->kv_heads;
    x->class_count = pattern_sum_classes(x->problem->pattern, kv_heads, x->class_of);
    if (x->class_count < 0) return -1;
    for (int head = 0; head < kv_heads; head++) add_lane(x, head);
    for (int i = 0; i < x->lane_count; i++)
        for (int slot = 0; slot < slots; slot++)
            if (schedule_add_slot(x->s, ROWS_KEYS, x->lanes[i].heads, 0, &x->lanes[i].slots[slot]) != 0) return -1;
    x->held = calloc((size_t)x->class_count, sizeof *x->held);
    return x->held ? 0 : -1;
}

int needs_begin(needs *x, const schedule_problem *problem, schedule *s, int slots)
{
    const size_t kv_heads = (size_t)problem->kv_heads;
    *x = (needs){.problem = problem, .s = s};
    x->peers = calloc((size_t)problem->key_layout.ranks, sizeof *x->peers);
    x->class_of = calloc(kv_heads, sizeof *x->class_of);
    x->lanes = calloc(kv_heads, sizeof *x->lanes);
    return x->peers && x->class_of && x->lanes ? plan_lanes(x, slots) : -1;
}

void needs_end(needs *x)
{
    for (int class = 0; class < x->class_count && x->held; class ++) free(x->held[class].runs);
    free(x->held);
    free(x->lanes);
    free(x->class_of);
    free(x->peers);
    free(x->visits_to);
    free(x->visits_from);
    row_set_free(&x->needed);
}

const char *needs_refuse(const schedule_problem *problem)
{
    const char *fault = schedule_sparse_problem_fault(problem);
    if (fault) return fault;
    if (!problem->pattern) return "it is for sparse patterns (--pattern); of a mask alone gather fetches the same";
    if (problem->query_layout.kind != LAYOUT_CONTIGUOUS || problem->key_layout.kind != LAYOUT_CONTIGUOUS)
        return "sparse patterns (--pattern) need layout contiguous";
    return NULL;
}
