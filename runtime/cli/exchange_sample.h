/* Messages between ranks, timed: every rank sends to one and receives from another, as the strategies do. */
#ifndef CLI_EXCHANGE_SAMPLE_H
#define CLI_EXCHANGE_SAMPLE_H

#include "runtime/agreement.h"

#include <stdbool.h>

/* Who sends to whom over comm: both -1 on a rank that has no partner. */
typedef struct {
    MPI_Comm comm;
    int to, from;
} exchange_partners;

/* Memory that messages are cut from, one after the other, so that they do not come from a cache. */
typedef struct {
    char *sent, *received;
    int64_t bytes, next;
} exchange_memory;

/* Messages under way. */
typedef struct {
    MPI_Request requests[2];
    bool pending;
} exchange_in_flight;

/* Collective over a node's communicator: each rank to the next, the last to the first; a rank alone has no partner. */
exchange_partners exchange_within_node(MPI_Comm node);
/* Collective: each rank to the one `node_ranks` further on; without partners on one node. */
exchange_partners exchange_across_nodes(MPI_Comm comm, int node_ranks);

/* The failure is kept in *f. To be destroyed in either case. */
void exchange_memory_create(int64_t bytes, exchange_memory *memory_p, failure *f);
void exchange_memory_destroy(exchange_memory *memory);

/* Not collective, but the partners must do the same. One message each way of at most memory->bytes bytes. */
void exchange_begin(const exchange_partners *p, exchange_memory *memory, int64_t bytes, exchange_in_flight *flight_p);
void exchange_progress(exchange_in_flight *flight);
void exchange_end(exchange_in_flight *flight);

/* Collective over the partners. Seconds of one exchange: the median of `samples` of `times` exchanges each. */
double exchange_seconds(const exchange_partners *p, exchange_memory *memory, int64_t bytes, int times, int samples);

/* Collective. Seconds of a barrier of comm, the median alike. */
double barrier_seconds(MPI_Comm comm, int times, int samples);

enum { EXCHANGE_MOST_SAMPLES = 64 };
/* The middle of `count` values, which are sorted; the mean of the two in the middle. */
double median_of(double *values, int count);

#endif
