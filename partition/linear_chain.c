/* The chain: a state travels from rank to rank and takes in the tokens of each, in the order of one process.
 *
 * Source: the pipelined hand-over of states of LASP, Sun et al., "Linear Attention Sequence Parallelism", arXiv
 * 2404.02882, here a stage of units at a time, as a pipeline of micro-batches: Huang et al., "GPipe",
 * arXiv 1811.06965.
 *
 * A chain alone would let one rank work at a time. Units do not depend on each other, so rank r takes them in stages: it
 * receives stage s + 1 while it folds stage s and sends stage s - 1. At position p, counted from the first rank that
 * has tokens, it
 *
 *     step s + 2p - 1   receives stage s,
 *     step s + 2p       folds its tokens onto it,
 *     step s + 2p + 1   sends it to the next rank,
 *
 * so that a send and its receive, of positions p and p + 1, are in the same step. With K stages, each F seconds of a
 * fold, the last rank is done after (K + 2 (P - 1)) F where transfers are shorter than folds: the longer the run of
 * tokens, the more it pays to have many stages, of which there can be as many as units for each thread.
 *
 * A rank whose first token begins a document receives nothing, and what its predecessor ends with it needs not: it
 * starts at once, since steps in which a rank has nothing to do cost nothing. All outputs are finished by the fold that
 * makes them, with the state that one process would have had: the bits do not depend on P, and any variant can do this.
 *
 * One buffer; no transition travels. States that a rank sends, and receives: 1, or 0 where a document ends with its
 * last token (begins with its first); the last rank sends none. Held by tests/partition/test_linear_schedule.c. */
#include "partition/linear_schedule.h"

static int plan_stage(linear_schedule *s, const linear_schedule_problem *problem, int64_t stage)
{
    const bool receives = linear_first_contributor(problem, s->rank) < s->rank;
    const bool sends = linear_last_reader(problem, s->rank) > s->rank;
    const int64_t fold_step = stage + 2 * (int64_t)(s->rank - linear_first_rank(problem));
    const range units = linear_stage(problem, stage);
    const linear_transfer in = {TRANSFER_RECEIVE, s->rank - 1, units, 0};
    const linear_transfer out = {TRANSFER_SEND, s->rank + 1, units, 0};
    const linear_action fold = {LINEAR_FOLD, units, 0, -1};
    if (receives && linear_add_transfer(s, fold_step - 1, in) != 0) return -1;
    if (receives && linear_add_action(s, fold_step, fold) != 0) return -1;
    if (!receives && linear_begin_and_fold(s, fold_step, units, 0) != 0) return -1;
    return sends ? linear_add_transfer(s, fold_step + 1, out) : 0;
}

static int plan_stages(linear_schedule *s, const linear_schedule_problem *problem)
{
    const int first = linear_first_rank(problem);
    if (s->rank < first) return 0;
    if (s->rank == first) s->initial_buffer = 0;
    if (s->rank == problem->layout.ranks - 1) s->final_buffer = 0;
    for (int64_t stage = 0; stage < linear_stage_count(problem); stage++)
        if (plan_stage(s, problem, stage) != 0) return -1;
    return 0;
}

static int chain_plan(const linear_schedule_problem *problem, int rank, linear_schedule **schedule_p)
{
    linear_schedule *s = linear_schedule_create(rank, linear_stage_count(problem) + 2 * (int64_t)rank + 1);
    if (!s) return -1;
    return linear_schedule_finish(s, plan_stages(s, problem), schedule_p);
}

static const char *chain_refuse(const linear_schedule_problem *problem)
{
    if (!problem->causal) return "chain takes tokens in their order: it needs a causal mask";
    return linear_problem_fault(problem);
}

extern const linear_strategy linear_strategy_chain;
const linear_strategy linear_strategy_chain = {
    .name = "chain",
    .summary = "the state travels from rank to rank, a stage of heads at a time; the bits of one process",
    .refuse = chain_refuse,
    .plan = chain_plan,
};
