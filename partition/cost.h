/* What a schedule costs a rank: exact counts. The time that it takes: partition/prediction.h. */
#ifndef PARTITION_COST_H
#define PARTITION_COST_H

#include "partition/schedule.h"

/* Sizes that a schedule does not know. */
typedef struct {
    int64_t batch;         /* B: every row and every head stands for all its items */
    int dim, value_dim;    /* D, E */
    int element_bytes;     /* of q, k and v */
    int out_element_bytes; /* of out; lse and states are float32 */
    int64_t message_bytes; /* a message carries no more; 0: no limit */
} cost_sizes;

/* One rank's schedule. */
typedef struct {
    int64_t steps, folds;
    int64_t messages; /* sends: of keys one of k and one of v for each batch item, cut at message_bytes */
    int64_t bytes_sent, bytes_received;
    double scores;        /* (query, key) pairs seen, of all heads and batch items */
    double flops;         /* 2 (D + E) a score */
    int64_t memory_bytes; /* q, k, v, out, lse, the state and all slots */
} cost;

void cost_of_schedule(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes, cost *cost_p);

/* Bytes of one row: D + E elements a key head, D a query head, E + 2 floats a head of a state; all batch items. */
int64_t cost_row_bytes(const cost_sizes *sizes, rows_kind kind, head_range heads);

/* Scores of a fold, of all its heads and batch items. */
double cost_fold_scores(const schedule_problem *problem, const cost_sizes *sizes, const schedule_fold *fold);

/* Bytes and messages of a transfer. */
int64_t cost_transfer_bytes(const cost_sizes *sizes, const schedule_transfer *transfer);
int64_t cost_transfer_messages(const cost_sizes *sizes, const schedule_transfer *transfer);

#endif
