/* The transfers of a schedule as MPI messages: posted at the start of a step, progressed while tiles compute, waited
 * for at its end.
 *
 * A transfer becomes one message for each batch item, tensor and piece of as many whole rows as MESSAGE_MAX_BYTES hold
 * (at least one); both sides cut in the same way and post in the same order, so that order alone matches messages. Some
 * of the heads of a store's rows travel as a derived type, straight from and to where they lie. */
#ifndef RUNTIME_EXCHANGE_H
#define RUNTIME_EXCHANGE_H

#include "runtime/longspan.h"
#include "runtime/requests.h"
#include "runtime/rows.h"

#include <mpi.h>

typedef struct exchange exchange;

/* What a rank did in one step. Times as MPI_Wtime tells them; compute is the executor's to fill in. */
typedef struct {
    double begin;       /* transfers were started */
    double computed;    /* folds and merges were done */
    double transferred; /* transfers were complete; `begin` if there were none */
    double end;         /* waited for transfers, and for the node where memory is shared */
    double node_wait;   /* seconds of the wait that were for the node */
    int waited_for;     /* the rank whose transfer was waited for last; -1 if none was */
    int64_t bytes_sent, bytes_received, messages_sent;
} step_record;

/* Not collective. Adds what the steps did to a timing. */
void step_records_add(const step_record *records, int64_t steps, longspan_timing *timing);

/* The record of a step whose transfers are a set of requests: begun before they are posted; progressed; waited for. */
void step_begin(request_set *transfers, int64_t step, step_record *record);
void step_poll(request_set *transfers, step_record *record);
void step_wait(request_set *transfers, step_record *record);
/* Posts `bytes` bytes, at most MESSAGE_MAX_BYTES, to or from a peer, and notes them. */
void step_post(request_set *transfers, transfer_direction direction, int peer, void *data, size_t bytes,
               step_record *record);

/* Not collective. Room for the largest step of the schedule. NULL if memory ran out. Schedule and stores stay the
 * caller's and must outlive the exchange; home pointers of `stores` may change between steps, its rows and heads not.
 * `node`: the ranks that share memory, used if the schedule says so. */
exchange *exchange_create(MPI_Comm comm, MPI_Comm node, const schedule *s, int64_t batch,
                          const row_format formats[ROWS_KINDS], const row_stores *stores);
void exchange_destroy(exchange *e); /* NULL allowed; no transfer may be under way */

/* Returns when all ranks of the node have come here and see what each other have written; at once unless the schedule
 * shares memory. */
void exchange_synchronise(exchange *e);
/* Posts the transfers of a step, and begins its record. */
void exchange_start(exchange *e, int64_t step, step_record *record);
/* Gives MPI a chance to progress; cheap when called more often than every 20 us. */
void exchange_poll(exchange *e);
/* Returns when the step's transfers are complete, and then when the node is synchronised, and ends the record. Aborts
 * the job when it stalls, as request_set_wait. */
void exchange_finish(exchange *e);

#endif
