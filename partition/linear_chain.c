/* The chain: a state travels from rank to rank and takes in the tokens of each, in the order of one process.
 *
 * Source: the pipelined hand-over of states of LASP, Sun et al., "Linear Attention Sequence Parallelism", arXiv
 * 2404.02882, here a stage of units at a time, as a pipeline of micro-batches: Huang et al., "GPipe",
 * arXiv 1811.06965.
 *
 * A chain alone would let one rank work at a time. Units do not depend on each other, so a rank takes them in stages: it
 * receives stage s + 1 while it folds stage s and sends stage s - 1. At position p, counted from the first rank that
 * has tokens, it
 *
 *     step s + 2p - 1   receives stage s,
 *     step s + 2p       folds its tokens onto it,
 *     step s + 2p + 1   sends it to the next rank,
 *
 * so that a send and its receive, of positions p and p + 1, are in the same step. With K stages of F seconds each, the
 * last rank would be done after (K + P - 1) F, the P - 1 being what it waits for its first state.
 *
 * To wait less, a rank from which states are still to be handed over n times leads its first n stages: of their tokens it
 * first makes the state alone, which takes c < 1 of a fold (0.4 where nothing is erased), sends it, and folds them for
 * their outputs when all stages are sent, from a copy of the state that they began with. In a chain of P ranks n is
 * P - 1 - p: each rank begins its leads c p F late, and at c (P - 1) F, with its last lead done, it has the state for its
 * first fold, the next each F later. All ranks are done after (K + c (P - 1)) F. Where ranks share cores there are no
 * leads: others work while one waits.
 *
 * A rank whose first token begins a document receives nothing, and what its predecessor ends with it needs not: it
 * starts at once, since steps in which a rank has nothing to do cost nothing. All outputs are finished by the fold that
 * makes them, with the state that one process would have had: the bits do not depend on P, and any variant can do this.
 *
 * One buffer, and with leads a second for where they began; no transition travels. States that a rank sends, and
 * receives: 1, or 0 where a document ends with its last token (begins with its first); the last rank sends none. Held by
 * tests/partition/test_linear_schedule.c. */
#include "partition/linear_schedule.h"

enum { BUFFER, BEGINNINGS };

/* What a rank is in the chain. */
typedef struct {
    const linear_schedule_problem *problem;
    bool receives, sends;
    int64_t position, leads;
} chain_link;

static bool hands_over(const linear_schedule_problem *problem, int rank)
{
    return linear_last_reader(problem, rank) > rank;
}

/* As many as there are hand-overs from this rank on, one rank to the next, but no more than there are stages. */
static int64_t count_leads(const linear_schedule_problem *problem, int rank)
{
    const int64_t stages = problem->leads ? linear_stage_count(problem) : 0;
    int64_t count = 0;
    while (count < stages && hands_over(problem, rank + (int)count)) count++;
    return count;
}

static int plan_transfers(linear_schedule *s, const chain_link *l, int64_t stage)
{
    const int64_t step = stage + 2 * l->position;
    const range units = linear_stage(l->problem, stage);
    const linear_transfer in = {TRANSFER_RECEIVE, s->rank - 1, units, BUFFER};
    const linear_transfer out = {TRANSFER_SEND, s->rank + 1, units, BUFFER};
    if (l->receives && linear_add_transfer(s, step - 1, in) != 0) return -1;
    return l->sends ? linear_add_transfer(s, step + 1, out) : 0;
}

/* The tokens onto the state of a stage; of a lead the state alone, and a copy of what it began with. */
static int plan_work(linear_schedule *s, const chain_link *l, int64_t stage)
{
    const int64_t step = stage + 2 * l->position;
    const range units = linear_stage(l->problem, stage);
    const bool leads = stage < l->leads;
    const linear_action copy = {LINEAR_COPY, units, BEGINNINGS, BUFFER};
    const linear_action work = {leads ? LINEAR_LEAD : LINEAR_FOLD, units, BUFFER, -1};
    if (!l->receives && linear_begin(s, step, units, BUFFER) != 0) return -1;
    if (leads && linear_add_action(s, step, copy) != 0) return -1;
    return linear_add_action(s, step, work);
}

static int plan_outputs(linear_schedule *s, const chain_link *l, int64_t stage)
{
    const linear_action fold = {LINEAR_FOLD, linear_stage(l->problem, stage), BEGINNINGS, -1};
    return linear_add_action(s, linear_stage_count(l->problem) + 2 * l->position, fold);
}

static int plan_stages(linear_schedule *s, const chain_link *l)
{
    for (int64_t stage = 0; stage < linear_stage_count(l->problem); stage++)
        if (plan_transfers(s, l, stage) != 0 || plan_work(s, l, stage) != 0) return -1;
    for (int64_t stage = 0; stage < l->leads; stage++)
        if (plan_outputs(s, l, stage) != 0) return -1;
    return 0;
}

static int chain_plan(const linear_schedule_problem *problem, int rank, linear_schedule **schedule_p)
{
    const int first = linear_first_rank(problem);
    const chain_link l = {.problem = problem,
                    .receives = linear_first_contributor(problem, rank) < rank,
                    .sends = hands_over(problem, rank),
                    .position = rank - first,
                    .leads = count_leads(problem, rank)};
    linear_schedule *s = linear_schedule_create(rank, linear_stage_count(problem) + 2 * (int64_t)rank + 1);
    if (!s) return -1;
    if (rank == first) s->initial_buffer = BUFFER;
    if (rank >= first && rank == problem->layout.ranks - 1) s->final_buffer = BUFFER;
    return linear_schedule_finish(s, rank < first ? 0 : plan_stages(s, &l), schedule_p);
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
