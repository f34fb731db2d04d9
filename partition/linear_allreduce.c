/* The allreduce: without a causal mask every token reads the sum over all tokens, which ranks add up by recursive
 * doubling.
 *
 * Source: Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH", 2005: recursive doubling, and what it does with a number of ranks that is no power of two.
 *
 * Of n ranks that have tokens let m be the largest power of two, m <= n. Numbered from the first that has tokens, the
 * first 2 (n - m) work in pairs: the even one hands its sum to the odd one and takes no part until the end. The m others
 * exchange in round k their sum with the one whose number among the m differs in bit k, and both add what they receive.
 * At last the odd one of a pair hands the result to the even one. Of two summands the order does not matter to the bits,
 * so all ranks have the same.
 *
 *     step s             sums the tokens for stage s
 *     step s + 1         pairs: even to odd          (left out, with the next, where n = m)
 *     step s + 2         odd ones add
 *     step s + b + 2k    round k travels, b = 3, or 1 where n = m
 *     step s + b + 2k+1  and is added
 *     step s + b + 2K    pairs: odd to even, K = log2 m; the others read, the even ones a step later
 *
 * Two buffers. States that a rank sends, and receives: log2 m, and one more if it is the odd one of a pair; the even one
 * sends 1 and receives 1. Held by tests/partition/test_linear_schedule.c. */
#include "partition/linear_schedule.h"

#include <stddef.h>

enum { SUM = 0, RECEIVED = 1 };

typedef struct {
    int first, doubling; /* rank; m */
    int paired;          /* 2 (n - m) */
} reduction;

static reduction reduction_of(const linear_schedule_problem *problem)
{
    const int first = linear_first_rank(problem), ranks = problem->layout.ranks - first;
    int doubling = 1;
    while (doubling <= ranks / 2) doubling *= 2;
    return (reduction){first, doubling, 2 * (ranks - doubling)};
}

/* The rank that has a number among the m. */
static int rank_of_number(const reduction *r, int number)
{
    return r->first + (2 * number < r->paired ? 2 * number + 1 : number + r->paired / 2);
}

static int hand_over(linear_schedule *s, int64_t step, range units, transfer_direction direction, int peer, int buffer)
{
    return linear_add_transfer(s, step, (linear_transfer){direction, peer, units, buffer});
}

static int add_received(linear_schedule *s, int64_t step, range units)
{
    return linear_add_action(s, step, (linear_action){LINEAR_ADD, units, SUM, RECEIVED});
}

static int add_read(linear_schedule *s, int64_t step, range units)
{
    return linear_add_action(s, step, (linear_action){LINEAR_READ, units, SUM, SUM});
}

/* The even one of a pair, from the step after its sum; `last` is that in which the result is handed back. */
static int plan_idle(linear_schedule *s, int64_t step, int64_t last, range units)
{
    if (hand_over(s, step, units, TRANSFER_SEND, s->rank + 1, SUM) != 0) return -1;
    if (hand_over(s, last, units, TRANSFER_RECEIVE, s->rank + 1, SUM) != 0) return -1;
    return add_read(s, last + 1, units);
}

static int plan_doubling(linear_schedule *s, int64_t step, range units, const reduction *r, int number)
{
    for (int bit = 1; bit < r->doubling; bit *= 2, step += 2) {
        const int peer = rank_of_number(r, number ^ bit);
        if (hand_over(s, step, units, TRANSFER_SEND, peer, SUM) != 0) return -1;
        if (hand_over(s, step, units, TRANSFER_RECEIVE, peer, RECEIVED) != 0) return -1;
        if (add_received(s, step + 1, units) != 0) return -1;
    }
    return 0;
}

static int plan_stage(linear_schedule *s, const linear_schedule_problem *problem, const reduction *r, int64_t stage)
{
    const range units = linear_stage(problem, stage);
    const int at = s->rank - r->first;
    const bool in_pair = at < r->paired;
    const int64_t begin = stage + (r->paired > 0 ? 3 : 1);
    int64_t last = begin;
    for (int bit = 1; bit < r->doubling; bit *= 2) last += 2;
    if (linear_add_action(s, stage, (linear_action){LINEAR_SUM, units, SUM, RECEIVED}) != 0) return -1;
    if (in_pair && at % 2 == 0) return plan_idle(s, stage + 1, last, units);
    if (in_pair && hand_over(s, stage + 1, units, TRANSFER_RECEIVE, s->rank - 1, RECEIVED) != 0) return -1;
    if (in_pair && add_received(s, stage + 2, units) != 0) return -1;
    if (plan_doubling(s, begin, units, r, in_pair ? at / 2 : at - r->paired / 2) != 0) return -1;
    if (in_pair && hand_over(s, last, units, TRANSFER_SEND, s->rank - 1, SUM) != 0) return -1;
    return add_read(s, last, units);
}

static int plan_stages(linear_schedule *s, const linear_schedule_problem *problem)
{
    const reduction r = reduction_of(problem);
    if (s->rank < r.first) return 0;
    for (int64_t stage = 0; stage < linear_stage_count(problem); stage++)
        if (plan_stage(s, problem, &r, stage) != 0) return -1;
    return 0;
}

static int allreduce_plan(const linear_schedule_problem *problem, int rank, linear_schedule **schedule_p)
{
    int64_t steps = linear_stage_count(problem) + 4;
    for (int ranks = problem->layout.ranks; ranks > 1; ranks /= 2) steps += 2;
    linear_schedule *s = linear_schedule_create(rank, steps);
    if (!s) return -1;
    return linear_schedule_finish(s, plan_stages(s, problem), schedule_p);
}

static const char *allreduce_refuse(const linear_schedule_problem *problem)
{
    if (problem->causal) return "allreduce gives every token the sum over all: it cannot keep a causal mask";
    const char *fault = linear_problem_fault(problem);
    if (fault || problem->layout.tokens == 0) return fault;
    if (linear_document_length(problem, 0) < problem->layout.tokens)
        return "allreduce gives every token the sum over all: it cannot keep packed documents apart; gather can";
    return NULL;
}

extern const linear_strategy linear_strategy_allreduce;
const linear_strategy linear_strategy_allreduce = {
    .name = "allreduce",
    .summary = "without a causal mask: the sum over all tokens, by recursive doubling",
    .refuse = allreduce_refuse,
    .plan = allreduce_plan,
};
