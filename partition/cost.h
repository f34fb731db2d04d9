/* What a schedule costs: exact counts, of each step and of all. The time that it takes: partition/prediction.h. */
#ifndef PARTITION_COST_H
#define PARTITION_COST_H

#include "partition/schedule.h"

enum { COST_TENSORS = 3 };

/* Sizes of one row of one head, for all batch items. */
typedef struct {
    int64_t row_bytes[ROWS_KINDS]; /* as it is held and travels: keys (D + E) B and queries D B times the element size,
                                      states (E + 2) B floats */
    int64_t output_bytes;          /* of out and lse */
    double flops_per_pair;         /* a query against a key that it sees: 2 (D + E) B, or more */
    int64_t batch;                 /* B */
    int64_t tensor_bytes[ROWS_KINDS][COST_TENSORS]; /* of one batch item, in each tensor, that travel apart: of keys in k
                                                       and v, of queries in q, of states in o, m and l; 0: none */
} cost_sizes;

/* What a rank does in one step. Pairs, rows cleared and rows merged count each head, of one batch item. */
typedef struct {
    int64_t folds, pairs;
    int64_t sends, receives, messages_sent;
    int64_t bytes_sent[ROWS_KINDS], bytes_received[ROWS_KINDS];
    int64_t rows_cleared, rows_merged;
} cost_step;

/* What a rank does in all steps, and what it holds. */
typedef struct {
    int64_t steps;
    cost_step sum;
    double flops;
    int64_t memory_bytes; /* q, k, v, out, the state of the queries, and all slots; keys that a rank reads in another's
                             memory count where they lie */
} cost;

/* Messages that carry transfer `first` of a step and those joined to it, 0 for one that is joined to others
 * (partition/message.h). */
int64_t cost_messages(const cost_sizes *sizes, const schedule_step *step, int64_t first);

/* 0 <= step < s->step_count. */
void cost_of_step(const schedule *s, int64_t step, const schedule_problem *problem, const cost_sizes *sizes,
                  cost_step *cost_p);
void cost_of_schedule(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes, cost *cost_p);

/* cost.memory_bytes alone. */
int64_t cost_memory(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes);

/* Of all kinds together. */
static inline int64_t cost_bytes(const int64_t bytes[ROWS_KINDS])
{
    return bytes[ROWS_KEYS] + bytes[ROWS_QUERIES] + bytes[ROWS_STATES];
}

#endif
