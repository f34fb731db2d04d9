/* The plan behind longspan_linear_plan: the problem, this rank's schedule, and every buffer that execute needs. */
#ifndef RUNTIME_LINEAR_PLAN_H
#define RUNTIME_LINEAR_PLAN_H

#include "partition/linear_cost.h"
#include "runtime/linear_problem.h"
#include "runtime/plan.h"

struct longspan_linear_plan {
    longspan_context *context;
    longspan_linear_problem problem; /* every default filled in; arrays are the plan's own */
    int64_t *documents;
    float *head_log_decay, *bonus, *features;
    const linear_kernel *kernel;
    const linear_strategy *strategy;
    linear_schedule_problem scheduled;
    linear_schedule *schedule;

    linear_call call; /* but for the arrays that execute is given */
    range rows;       /* this rank's tokens */
    int64_t *pieces;
    double *buffers;   /* of the schedule, one after the other */
    double *reference; /* [B, H, R]; NULL where R is 0 */
    float *partial;    /* NULL where all outputs are finished at once */
    void *workspace;
    request_set transfers;

    int64_t work; /* units that all steps fold, sum, read or apply: of which progress is a fraction */
    double flops;
    double predicted;     /* seconds of an execute, by the cost model */
    int64_t memory_bytes; /* as linear_offer has it */
    step_record *records; /* of each step, what the last execute did */
    longspan_timing timing;
};

/* What a strategy would take. */
typedef struct {
    const linear_strategy *strategy;
    const char *refusal; /* NULL, or why it cannot be used: a static string */
    bool summarises;
    double seconds;
    int64_t memory_bytes; /* of all that comes with tokens, of out, of states and unfinished outputs, on the last two
                             ranks, which have as many tokens as any: the more */
} linear_offer;

/* Not collective. The problem as strategies see it: stages are as small as all threads have work in, where there is more
 * than one rank, so that a chain starts early, but no more than a few hundred. Borrows problem->documents. */
linear_schedule_problem linear_plan_scheduled(const longspan_linear_problem *problem, const placement *place, int threads,
                                              bool summarises);
/* Not collective. What partition/linear_cost.h wants to know of a unit. */
linear_sizes linear_plan_sizes(const longspan_linear_problem *problem, const linear_schedule_problem *scheduled,
                               const placement *place);
/* Not collective. What a strategy would take; fails with MEMORY. Pure: the same on every rank. */
longspan_status linear_plan_predict(const longspan_linear_problem *problem, const linear_strategy *strategy,
                                    const placement *place, int threads, linear_offer *offer_p, failure *f);
/* Not collective. The strategy that is named, or of those that do not refuse and fit into memory the one predicted to
 * be fastest; of equals the first of the table. Fails with ARGUMENT, UNSUPPORTED, MEMORY. Pure: the same on every rank. */
longspan_status linear_plan_choose(const longspan_linear_problem *problem, const placement *place, int threads,
                                   linear_offer *offer_p, failure *f);

/* Not collective. Flops of the chunked form over tokens [begin, end) of one document, all heads and batch items: with n
 * the tokens of each chunk, n (n + 1) (F + W) for the scores and what they read, 4 n F W for the state; under the delta
 * rule n (n - 1) (F + W) + 2 n F W more; without a causal mask only the 4 n F W. Scores of the Taylor expansion of
 * "based" are powers of products of D. */
double linear_plan_flops(const linear_shape *shape, bool causal, range tokens);

/* Calls of the kernel that an action is: none unless it goes over the tokens. */
static inline int linear_plan_calls(linear_action_kind kind)
{
    if (kind == LINEAR_APPLY) return 2;
    return kind == LINEAR_FOLD || kind == LINEAR_LEAD || kind == LINEAR_SUMMARISE || kind == LINEAR_SUM ||
           kind == LINEAR_READ;
}

/* Not collective. The state of the first unit in a buffer. */
static inline double *linear_plan_buffer(const longspan_linear_plan *plan, int buffer)
{
    const linear_shape *shape = &plan->call.shape;
    return plan->buffers + (size_t)buffer * (size_t)linear_units(shape) * linear_state_size(shape);
}

/* Collective. The keys' largest exponents over all ranks and, on the rank that has the first token, over the stream
 * before it, to plan->reference; `call` has the arrays. Does nothing where the variant has none. */
void linear_stream_find_reference(longspan_linear_plan *plan, const linear_call *call,
                                  const longspan_linear_state *initial);
/* Not collective. The state that the stream begins with, nothing seen if initial is NULL, into the buffer where the
 * schedule finds it; its exponents are counted from the new reference. Where the rank has none, nothing. */
void linear_stream_begin(const longspan_linear_plan *plan, const longspan_linear_state *initial);
/* Not collective. The state that the stream ends with to the user. Where the rank has none, nothing. */
void linear_stream_end(const longspan_linear_plan *plan, longspan_linear_state *final);

/* Not collective. What was chosen: "chain", ... */
const char *linear_plan_strategy_name(const longspan_linear_plan *plan);
/* Not collective. As plan_steps. */
const step_record *linear_plan_steps(const longspan_linear_plan *plan, int64_t *count_p);

#endif
