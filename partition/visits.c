/* A query row that visits a rank costs a row of queries one way and one of states the other, for each of H heads: about
 * as much as H rows of keys and values of one head. It saves the rows of the G key heads that nobody else on its rank
 * needs. Which of both is less, and by enough, is worked out for each pair of ranks by both of them.
 *
 * Only slices of all heads, whose queries follow each other and are few against the keys of a shard, may visit: rows of
 * global tokens, and the few queries of a decoding step. Partial results merge exactly (Rabe and Staats, arXiv
 * 2112.05682); moving queries instead of keys: Yang et al., arXiv 2411.01783, "pass-Q", and partition/queries.c. */
#include "partition/visits.h"

#include "partition/grown.h"
#include "partition/parcel.h"

#include <stdlib.h>

enum { GAIN = 2 }; /* rows saved for each row that travels */

static bool slice_may_visit(const needs *x, const slice *whole)
{
    const schedule_problem *p = x->problem;
    const int64_t keys = slice_key_count(whole) / p->key_layout.ranks;
    return whole->query_stride == 1 && slice_query_count(whole) <= p->kv_heads * keys / ((int64_t)GAIN * p->heads);
}

static bool has_all_heads(const needs *x, const pattern_term *term)
{
    return term->run_count == 1 && heads_count(term->runs[0]) == x->problem->heads;
}

bool visits_may(const needs *x, const pattern_term *term, const pattern_part *part)
{
    return x->visits_to && part->whole && has_all_heads(x, term) && slice_may_visit(x, part->whole);
}

static int add_queries(void *data, const pattern_part *part)
{
    needs *x = data;
    if (!visits_may(x, x->term, part)) return 0;
    for (int64_t i = 0; i < part->count; i++) row_set_add(&x->needed, part->runs[i].queries, 1);
    return 0;
}

/* The queries of a rank that may visit another, in x->needed. */
static int find_visitors(needs *x, int reader, int origin)
{
    const range queries = needs_queries_of(x, reader);
    if (row_set_reset(&x->needed, queries) != 0) return -1;
    return needs_visit(x, heads_all(x->problem->heads), queries, needs_keys_of(x, origin), add_queries);
}

/* Rows of keys, of all key heads, that a rank needs of another; -1 if memory ran out. */
static int64_t count_needed(needs *x, int reader, int origin, bool they_visit)
{
    int64_t rows = 0;
    for (int class = 0; class < x->class_count; class ++) {
        if (needs_find(x, reader, origin, class, they_visit) != 0) return -1;
        for (int i = 0; i < x->lane_count; i++)
            if (x->lanes[i].class == class) rows += heads_count(x->lanes[i].heads) * row_set_count(&x->needed);
    }
    return rows;
}

static int decide(needs *x, int reader, int origin, bool *visits_p)
{
    if (find_visitors(x, reader, origin) != 0) return -1;
    const int64_t moved = row_set_count(&x->needed) * x->problem->heads;
    *visits_p = false;
    if (moved == 0) return 0;
    const int64_t all = count_needed(x, reader, origin, false), others = count_needed(x, reader, origin, true);
    if (all < 0 || others < 0) return -1;
    *visits_p = all - others >= GAIN * moved;
    return 0;
}

/* Has the pattern a slice that may visit? */
static bool any_may_visit(const needs *x)
{
    const pattern_sum *sum = x->problem->pattern;
    for (int i = 0; i < sum->count; i++) {
        const pattern *p = sum->terms[i].pattern;
        if (!has_all_heads(x, &sum->terms[i])) continue;
        for (int l = 0; l < p->layer_count; l++)
            for (int64_t j = 0; j < p->layers[l].count; j++)
                if (slice_may_visit(x, &p->layers[l].slices[j])) return true;
    }
    return false;
}

int visits_find(needs *x)
{
    const int ranks = x->problem->key_layout.ranks, rank = x->s->rank;
    if (ranks == 1 || x->problem->states_stay || !any_may_visit(x)) return 0;
    x->visits_to = calloc((size_t)ranks, sizeof *x->visits_to);
    x->visits_from = calloc((size_t)ranks, sizeof *x->visits_from);
    if (!x->visits_to || !x->visits_from || needs_find_origins(x) != 0) return -1;
    for (int peer = 0; peer < ranks; peer++)
        if (peer != rank && x->peers[peer] && decide(x, rank, peer, &x->visits_to[peer]) != 0) return -1;
    if (needs_find_readers(x) != 0) return -1;
    for (int peer = 0; peer < ranks; peer++)
        if (peer != rank && x->peers[peer] && decide(x, peer, rank, &x->visits_from[peer]) != 0) return -1;
    return 0;
}

/* Plans. */

enum { QUERIES_GO, FOLDED, STATES_GO, MERGED };

/* Queries and their place in a slot. */
typedef struct {
    range tokens;
    int64_t slot_row;
} visit_run;

typedef struct {
    needs *x;
    int query_slot, state_slot, returned_slot;
    int64_t rows, returned_rows; /* so far, of the first two and of the third */
    int reader;                  /* whose queries are folded */
    visit_run *runs;             /* of it */
    int64_t run_count;
    int first_turn;
} plan;

static schedule_transfer transfer_of(const plan *v, transfer_direction direction, int peer, rows_kind kind, int origin,
                                     range tokens)
{
    const int64_t before = needs_queries_of(v->x, origin).begin;
    return (schedule_transfer){.direction = direction,
                               .peer = peer,
                               .kind = kind,
                               .origin = origin,
                               .rows = {tokens.begin - before, tokens.end - before},
                               .heads = heads_all(v->x->problem->heads),
                               .slot = SLOT_HOME,
                               .slot_row = tokens.begin - before};
}

/* This rank's queries go to a rank, their states come back and are merged. */
static int plan_visit(plan *v, int host)
{
    needs *x = v->x;
    const int rank = x->s->rank;
    int64_t at = needs_queries_of(x, rank).begin;
    range run;
    if (find_visitors(x, rank, host) != 0) return -1;
    for (bool joined = false; row_set_next(&x->needed, &at, &run); joined = true) {
        schedule_transfer there = transfer_of(v, TRANSFER_SEND, host, ROWS_QUERIES, rank, run);
        schedule_transfer back = transfer_of(v, TRANSFER_RECEIVE, host, ROWS_STATES, rank, run);
        const schedule_merge merge = {.count = range_length(run),
                                      .heads = there.heads,
                                      .from_slot = v->returned_slot,
                                      .to_slot = SLOT_HOME,
                                      .from_row = v->returned_rows,
                                      .to_row = back.rows.begin};
        there.joined = back.joined = joined;
        back.slot = v->returned_slot;
        back.slot_row = v->returned_rows;
        v->returned_rows += range_length(run);
        if (schedule_add_transfer(x->s, QUERIES_GO, there) != 0 || schedule_add_transfer(x->s, STATES_GO, back) != 0 ||
            schedule_add_merge(x->s, MERGED, merge) != 0)
            return -1;
    }
    return 0;
}

static int fold_visitors(void *data, const pattern_part *part)
{
    plan *v = data;
    needs *x = v->x;
    if (!visits_may(x, x->term, part)) return 0;
    for (int64_t i = 0; i < part->count; i++) {
        const slice *s = &part->runs[i];
        const visit_run *run = v->runs;
        schedule_fold fold = needs_fold(x, s, v->first_turn + part->layer, v->reader, x->s->rank);
        while (run->tokens.end <= s->queries.begin) run++;
        fold.query_slot = v->query_slot;
        fold.state_slot = v->state_slot;
        fold.query_slot_row = fold.state_slot_row = run->slot_row + s->queries.begin - run->tokens.begin;
        if (schedule_add_fold(x->s, FOLDED, fold) != 0) return -1;
    }
    return 0;
}

/* The folds of a rank's queries, which lie in the slot, with keys at home. */
static int fold_terms(plan *v)
{
    needs *x = v->x;
    const pattern_sum *sum = x->problem->pattern;
    x->heads = heads_all(x->problem->heads);
    for (int i = 0; i < sum->count; i++) {
        x->term = &sum->terms[i];
        if (pattern_visit(x->term->pattern, &x->problem->mask, needs_queries_of(x, v->reader),
                          needs_keys_of(x, x->s->rank), fold_visitors, v) != 0)
            return -1;
        v->first_turn += x->term->pattern->layer_count + 1;
    }
    return 0;
}

/* Queries of a rank come, are folded, and their states go back. */
static int plan_visitors(plan *v, int reader)
{
    needs *x = v->x;
    int64_t at = needs_queries_of(x, reader).begin;
    range tokens;
    if (find_visitors(x, reader, x->s->rank) != 0) return -1;
    v->reader = reader;
    v->run_count = 0;
    for (bool joined = false; row_set_next(&x->needed, &at, &tokens); joined = true) {
        schedule_transfer come = transfer_of(v, TRANSFER_RECEIVE, reader, ROWS_QUERIES, reader, tokens);
        schedule_transfer back = transfer_of(v, TRANSFER_SEND, reader, ROWS_STATES, reader, tokens);
        visit_run *runs = grown(v->runs, v->run_count, sizeof *runs);
        if (!runs) return -1;
        v->runs = runs;
        runs[v->run_count++] = (visit_run){tokens, v->rows};
        come.joined = back.joined = joined;
        come.slot = v->query_slot;
        back.slot = v->state_slot;
        come.slot_row = back.slot_row = v->rows;
        v->rows += range_length(tokens);
        if (schedule_add_transfer(x->s, QUERIES_GO, come) != 0 || schedule_add_transfer(x->s, STATES_GO, back) != 0)
            return -1;
    }
    return fold_terms(v);
}

static int plan_all(plan *v)
{
    needs *x = v->x;
    const int ranks = x->problem->key_layout.ranks;
    const head_range heads = heads_all(x->problem->heads);
    if (schedule_add_slot(x->s, ROWS_QUERIES, heads, 0, &v->query_slot) != 0 ||
        schedule_add_slot(x->s, ROWS_STATES, heads, 0, &v->state_slot) != 0 ||
        schedule_add_slot(x->s, ROWS_STATES, heads, 0, &v->returned_slot) != 0)
        return -1;
    for (int peer = 0; peer < ranks; peer++) {
        if (x->visits_to[peer] && plan_visit(v, peer) != 0) return -1;
        if (x->visits_from[peer] && plan_visitors(v, peer) != 0) return -1;
    }
    slot_hold(x->s, v->query_slot, v->rows);
    slot_hold(x->s, v->state_slot, v->rows);
    slot_hold(x->s, v->returned_slot, v->returned_rows);
    if (v->rows == 0) return 0;
    return schedule_add_clear(x->s, FOLDED, (schedule_clear){v->state_slot, {0, v->rows}});
}

int visits_plan(needs *x, int first_turn)
{
    plan v = {.x = x, .first_turn = first_turn};
    const int result = x->visits_to ? plan_all(&v) : 0;
    free(v.runs);
    return result;
}
