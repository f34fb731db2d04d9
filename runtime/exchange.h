/* The transfers of a schedule as MPI messages: posted at the start of a step, progressed while tiles compute, waited
 * for at its end. Every point-to-point message of the library is sent here.
 *
 * Open MPI moves a large message only while somebody is inside MPI, so the thread that owns MPI polls between tiles.
 * A transfer becomes one message for each batch item, tensor and piece of at most EXCHANGE_MAX_MESSAGE bytes; both
 * sides cut in the same way and post in the same order, so that order alone matches messages. */
#ifndef RUNTIME_EXCHANGE_H
#define RUNTIME_EXCHANGE_H

#include "partition/schedule.h"

#include <mpi.h>
#include <stddef.h>

enum { EXCHANGE_MAX_MESSAGE = 64 << 20 };

/* Rows of keys and values: k [B, rows, k_bytes], v [B, rows, v_bytes] with the bytes of one token, all heads. */
typedef struct {
    char *k, *v;
    int64_t rows;
} key_slot;

typedef struct exchange exchange;

/* Not collective. Room for the largest step of the schedule. NULL if memory ran out. The schedule stays the caller's
 * and must outlive the exchange. `stall_seconds`: see longspan_options. */
exchange *exchange_create(MPI_Comm comm, const schedule *s, int64_t batch, size_t k_bytes, size_t v_bytes,
                          double stall_seconds);
void exchange_destroy(exchange *e); /* NULL allowed; no transfer may be under way */

/* Posts the transfers of a step. home is only read; slots are written by receives. */
void exchange_start(exchange *e, int64_t step, const key_slot *home, const key_slot *slots);
/* Gives MPI a chance to progress; cheap when called more often than every 20 us. */
void exchange_poll(exchange *e);
/* Returns when the step's transfers are complete. Aborts the job, naming step and peer, when nothing has completed for
 * stall_seconds: a lost peer cannot be told from a slow one, and a hang helps nobody. */
void exchange_finish(exchange *e);

/* Totals since the last exchange_reset. `transfer`: time from the start of a step's transfers to their completion. */
typedef struct {
    double transfer, wait;
    int64_t bytes_sent, bytes_received, messages_sent;
} exchange_totals;
void exchange_reset(exchange *e);
exchange_totals exchange_read_totals(const exchange *e);

#endif
