/* The time that a strategy takes on a machine, predicted.
 *
 * A rank's step is work (clears, folds, merges) and transfers that travel meanwhile, a part of which the folding thread
 * does itself (copying through shared memory, or a kernel's socket buffers):
 *
 *     begin    = the latest start of this step among the rank and its peers
 *     end      = max(start + work + busy * transfer, begin + transfer)
 *     transfer = latency * messages + bytes / bandwidth, of a node's own links and of the network the larger;
 *                messages and bytes each the larger of what is sent and what is received
 *
 * and the rank's next step starts at `end`; where the schedule shares memory, at the latest end on its node. So a rank
 * waits for those that it depends on, and for no others. After the last step the states become out.
 *
 * A fold of many rows a key costs its scores: each (D + E) products and one exponential; the rows of a mask's border
 * are folded `lanes` at a time against the keys that any of them sees. One of few rows a key (tokens times the query
 * heads that share a key head) costs its keys, which are read once: a measured time an element, between the row counts
 * of `few_rows` interpolated. Everything else costs its bytes over the memory's bandwidth; of rows that are listed only
 * as far as that takes longer than their scores, since they are fetched meanwhile.
 *
 * Not all of P ranks are walked through: a sample of them, the same on every rank, with the heaviest. What they wait
 * for from a rank outside the sample is taken to come as late as the latest of the sample. */
#ifndef PARTITION_PREDICTION_H
#define PARTITION_PREDICTION_H

#include "partition/cost.h"

/* From rank to rank. */
typedef struct {
    double latency;   /* s a message */
    double bandwidth; /* byte/s that a rank receives while it sends as many */
    double busy;      /* of the transfer's time, 0 to 1 */
} prediction_link;

enum { PREDICTION_FEW = 3 };
/* Rows that share a key; beyond the last one a fold costs its scores, and no less than it costs there. */
extern const int64_t prediction_few_rows[PREDICTION_FEW];

/* What a rank can do with all its threads while the others of its node do the same. All times above 0. */
typedef struct {
    double score_seconds;               /* a score, beside its products */
    double product_seconds;             /* one of the D + E multiply-adds of a score */
    double few_seconds[PREDICTION_FEW]; /* one of the D + E elements of a key and its value, folded into so many rows */
    double memory_bandwidth;            /* byte/s read and written, of arrays larger than the caches */
    double step_seconds;                /* a step that does anything, beside all that is counted */
    double barrier_seconds;             /* the ranks of a node wait for each other */
    prediction_link node, network;
    int lanes; /* rows that are folded together */
} prediction_machine;

typedef enum { BOUND_COMPUTE, BOUND_MEMORY, BOUND_TRANSFER } prediction_bound;

typedef struct {
    double seconds;         /* of the rank that ends last */
    int busiest;            /* the rank that works longest */
    double compute, memory; /* its seconds in folds of many rows; in folds of few, clears, merges and the finish */
    double waiting;         /* the rest of `seconds`: for transfers and other ranks, or copying */
    prediction_bound bound; /* the largest of the three */
    /* The largest of each count among the ranks looked at. */
    int64_t steps, messages, bytes_sent, memory_bytes;
    int ranks_seen;
} prediction;

/* Of a problem that the strategy does not refuse. 0, or -1 if memory ran out. */
int prediction_make(const strategy *way, const schedule_problem *problem, const cost_sizes *sizes,
                    const prediction_machine *machine, prediction *prediction_p);

/* Of one rank's schedule, as if the other ranks were never waited for: where no rank can plan another's. */
prediction prediction_of_rank(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes,
                              const prediction_machine *machine);

enum { PREDICTION_ALL_RANKS = 16, PREDICTION_MANY_RANKS = 1024 };
/* Ranks that stand for all P, ascending: all of them up to PREDICTION_ALL_RANKS, else those with the most pairs by
 * queries and by keys, the last and, up to PREDICTION_MANY_RANKS, the middle and the first; where heads are dealt, the
 * one with the most heads in the group of each of these. Returns how many. */
int prediction_sample(const strategy *way, const schedule_problem *problem, int ranks[PREDICTION_ALL_RANKS]);
/* The pairs of the rank with the most by its queries, which goes to *rank_p; of a striped layout the mean. O(P). */
double prediction_most_pairs(const schedule_problem *problem, bool by_queries, int *rank_p);

/* Seconds of one fold's arithmetic or, where *reading_p becomes true, of its reading of keys. */
double prediction_fold_seconds(const schedule_problem *problem, const cost_sizes *sizes,
                               const prediction_machine *machine, const schedule_fold *fold, bool *reading_p);

/* What a rank sends and receives over a link in a step, and the seconds that it travels. */
typedef struct {
    double messages[2], bytes[2]; /* sent, received */
} prediction_traffic;
double prediction_link_seconds(const prediction_traffic *t, const prediction_link *link);

const char *prediction_bound_name(prediction_bound bound);

#endif
