/* What a schedule of linear attention costs: exact counts of a rank, and the time predicted.
 *
 * A rank's step is its actions and transfers that travel meanwhile. As in partition/prediction.h, it ends at
 *
 *     max(start + work + busy * transfer, begin + transfer),    begin = the latest start among the rank and its peers
 *
 * with transfer = latency * messages + bytes / bandwidth of the larger of what is sent and received. A step with nothing
 * to do takes no time. All ranks are walked through up to LINEAR_ALL_RANKS; of more, as many and half as many with the
 * same tokens a rank and one document, from which the time goes on as it grew: linearly (chain, gather) or with the
 * logarithm (scan, allreduce). Held by tests/partition/test_linear_cost.c. */
#ifndef PARTITION_LINEAR_COST_H
#define PARTITION_LINEAR_COST_H

#include "partition/linear_schedule.h"
#include "partition/prediction.h"

enum { LINEAR_ALL_RANKS = 64 };

/* Of one unit. */
typedef struct {
    int64_t state_bytes, summary_bytes; /* that are held and travel; with a transition where the schedule summarises */
    /* Seconds with all threads of a rank, those of tokens for one token; compose is also a copy or an addition. */
    double fold_seconds, lead_seconds, summarise_seconds, apply_seconds, compose_seconds;
} linear_sizes;

typedef struct {
    int64_t steps, actions;
    int64_t messages_sent, messages_received; /* as transfers are cut (partition/message.h) */
    int64_t bytes_sent, bytes_received;
    int64_t buffer_bytes;
} linear_cost;

void linear_cost_of(const linear_schedule *s, const linear_schedule_problem *problem, const linear_sizes *sizes,
                    linear_cost *cost_p);

/* Seconds until the last rank is done, of a problem that the strategy does not refuse; node_ranks consecutive ranks share
 * a node. 0, or -1 if memory ran out. */
int linear_predict(const linear_strategy *how, const linear_schedule_problem *problem, const linear_sizes *sizes,
                   const prediction_machine *machine, int node_ranks, double *seconds_p);

#endif
