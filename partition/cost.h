/* What a schedule costs: exact counts, and a time under a simple model of the machine. */
#ifndef PARTITION_COST_H
#define PARTITION_COST_H

#include "partition/schedule.h"

/* Sizes of one token, for all heads and batch items. */
typedef struct {
    double flops_per_pair;                          /* 2 H (D + E) B: one (query, key) pair seen */
    int64_t key_value_bytes;                        /* (G D + G E) B times the element size: one token of k and v */
    int64_t query_bytes, output_bytes, state_bytes; /* one token of q; of out and lse; of (o, m, l) */
} cost_sizes;

/* The machine model: a rank computes at `flops`, a link carries `bandwidth` after `latency`. Predictions only. */
typedef struct {
    double flops;     /* flop/s a rank */
    double bandwidth; /* byte/s a rank */
    double latency;   /* s a message */
} cost_machine;

/* One rank's schedule. */
typedef struct {
    int64_t steps, folds, messages; /* messages: sends of this rank */
    int64_t pairs;                  /* (query, key) pairs folded */
    double flops;
    int64_t bytes_sent, bytes_received;
    int64_t memory_bytes; /* q, k, v, out, state and slots */
    /* Predicted: the sum over steps of max(compute, transfer), where transfer is latency * messages + tokens * bytes /
     * bandwidth, each the larger of what is sent and what is received. */
    double seconds;
} cost;

void cost_of_schedule(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes,
                      const cost_machine *machine, cost *cost_p);

#endif
