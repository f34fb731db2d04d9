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
 * To wait less, the first L = min(P - 1, K) stages travel ahead: of their tokens a rank first makes the state alone,
 * which takes c < 1 of a fold (0.4 without erasing), and folds them for their outputs later, from a copy of the state
 * that they began with. All stages from L on come a step later, so that each rank can send its last lead without waiting
 * for stage L. Ranks are done after about (K + c (P - 1)) F: the first because of what it does twice, the last because
 * of when its first state comes. The one at position p would wait (1 - c) p F for stage L; it folds p / 2 of the led
 * stages meanwhile, the others when it has sent all. A rank that sends nothing has no leads; P - 1 is the number of
 * hand-overs in the longest run of ranks that have them.
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
    int64_t position, leads; /* leads: L, of all ranks */
} link;

static bool hands_over(const linear_schedule_problem *problem, int rank)
{
    return linear_last_reader(problem, rank) > rank;
}

/* Hand-overs in the longest run of ranks, but no more than `most`. */
static int64_t longest_run(const linear_schedule_problem *problem, int64_t most)
{
    int64_t longest = 0, run = 0;
    for (int rank = linear_first_rank(problem); rank < problem->layout.ranks && longest < most; rank++) {
        run = hands_over(problem, rank) ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    return longest;
}

static bool is_led(const link *l, int64_t stage)
{
    return l->sends && stage < l->leads;
}

/* The step in which a stage is first worked on. A rank that waits for nobody need not wait for its last lead either. */
static int64_t step_of(const link *l, int64_t stage)
{
    const bool later = stage > l->leads || (stage == l->leads && l->receives);
    return stage + 2 * l->position + (l->leads > 0 && later);
}

static int plan_transfers(linear_schedule *s, const link *l, int64_t stage)
{
    const int64_t later = l->leads > 0 && stage >= l->leads, shared = stage + 2 * l->position + later;
    const range units = linear_stage(l->problem, stage);
    const linear_transfer in = {TRANSFER_RECEIVE, s->rank - 1, units, BUFFER};
    const linear_transfer out = {TRANSFER_SEND, s->rank + 1, units, BUFFER};
    if (l->receives && linear_add_transfer(s, shared - 1, in) != 0) return -1;
    return l->sends ? linear_add_transfer(s, shared + 1, out) : 0;
}

/* The state alone, and a copy of what it began with. */
static int plan_lead(linear_schedule *s, const link *l, int64_t stage)
{
    const range units = linear_stage(l->problem, stage);
    const linear_action copy = {LINEAR_COPY, units, BEGINNINGS, BUFFER}, lead = {LINEAR_LEAD, units, BUFFER, -1};
    if (!l->receives && linear_begin(s, step_of(l, stage), units, BUFFER) != 0) return -1;
    if (linear_add_action(s, step_of(l, stage), copy) != 0) return -1;
    return linear_add_action(s, step_of(l, stage), lead);
}

static int plan_fold(linear_schedule *s, const link *l, int64_t stage)
{
    const range units = linear_stage(l->problem, stage);
    if (!l->receives) return linear_begin_and_fold(s, step_of(l, stage), units, BUFFER);
    return linear_add_action(s, step_of(l, stage), (linear_action){LINEAR_FOLD, units, BUFFER, -1});
}

/* Outputs of led stages [begin, end). */
static int plan_outputs(linear_schedule *s, const link *l, int64_t step, int64_t begin, int64_t end)
{
    for (int64_t stage = begin; stage < end; stage++) {
        const linear_action fold = {LINEAR_FOLD, linear_stage(l->problem, stage), BEGINNINGS, -1};
        if (linear_add_action(s, step, fold) != 0) return -1;
    }
    return 0;
}

static int plan_stages(linear_schedule *s, const link *l)
{
    const int64_t stages = linear_stage_count(l->problem), led = l->sends ? l->leads : 0;
    const int64_t meanwhile = l->receives && l->position / 2 < led ? l->position / 2 : 0;
    for (int64_t stage = 0; stage < stages; stage++) {
        if (plan_transfers(s, l, stage) != 0) return -1;
        if ((is_led(l, stage) ? plan_lead(s, l, stage) : plan_fold(s, l, stage)) != 0) return -1;
    }
    /* While the last lead is sent and stage L travels; the rest while the last stage is sent. */
    if (plan_outputs(s, l, l->leads + 2 * l->position, 0, meanwhile) != 0) return -1;
    return plan_outputs(s, l, stages + 2 * l->position + (stages > led), meanwhile, led);
}

static int chain_plan(const linear_schedule_problem *problem, int rank, linear_schedule **schedule_p)
{
    const int64_t stages = linear_stage_count(problem);
    const int first = linear_first_rank(problem);
    const link l = {.problem = problem,
                    .receives = linear_first_contributor(problem, rank) < rank,
                    .sends = hands_over(problem, rank),
                    .position = rank - first,
                    .leads = longest_run(problem, stages)};
    linear_schedule *s = linear_schedule_create(rank, stages + 2 * (int64_t)rank + 2);
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
