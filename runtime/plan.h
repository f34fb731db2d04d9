/* The plan behind longspan_plan: the problem, this rank's schedule, and every buffer that execute needs. */
#ifndef RUNTIME_PLAN_H
#define RUNTIME_PLAN_H

#include "partition/schedule.h"
#include "runtime/context.h"
#include "runtime/exchange.h"

struct longspan_plan {
    longspan_context *context;
    longspan_problem problem; /* every default filled in; documents point to a copy of the plan's own */
    int64_t *documents;
    const strategy *strategy;
    schedule_problem scheduled;
    schedule *schedule;

    int64_t query_tokens, key_tokens; /* T of queries and of keys */
    attention_state state;            /* [B, T, H, E], [B, T, H], [B, T, H] */
    key_slot slots[SCHEDULE_MAX_SLOTS];
    int64_t *visible_begin, *visible_end; /* [T]; NULL when no fold looks inside */
    exchange *exchange;
    attention_span *spans; /* of one step, enough for the largest */
    attention_segment *segments;
    void *workspace;

    int64_t pairs; /* (query, key) pairs that this rank folds, one batch item */
    longspan_timing timing;
};

/* Not collective. Fills the defaults of *problem in, checks it, and chooses strategy and layouts for `ranks`.
 * scheduled_p borrows problem->documents. Pure: the same on every rank. */
longspan_status plan_choose(longspan_problem *problem, int ranks, schedule_problem *scheduled_p,
                            const strategy **strategy_p, failure *f);

/* Not collective. What was chosen. */
const char *plan_strategy_name(const longspan_plan *plan);
const char *plan_layout_name(const longspan_plan *plan);

/* 2 H (D + E) B: flops for one (query, key) pair. */
double plan_flops_per_pair(const longspan_problem *problem);

#endif
