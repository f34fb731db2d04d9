/* A timeline of what every rank does, in the Chrome trace format: open it in Perfetto (https://ui.perfetto.dev) or
 * chrome://tracing. A process a rank; in it a track for the phases, steps and waits of the rank, one for its transfers,
 * and one a thread for what it folds.
 * Source: "Trace Event Format", Google, events of phase X (complete) and M (metadata). */
#ifndef RUNTIME_TRACE_H
#define RUNTIME_TRACE_H

#include "runtime/agreement.h"

#include <stdio.h>

typedef struct trace trace;

/* Of the thread that owns MPI. Threads have the numbers from TRACE_TRACKS on. */
typedef enum { TRACE_WORK, TRACE_TRANSFERS, TRACE_TRACKS } trace_track;

enum { TRACE_ARGUMENTS = 3 };

/* Names are string literals or outlive the trace; an argument without a name is left out. */
typedef struct {
    const char *name, *category;
    trace_track track;
    double begin, end; /* MPI_Wtime */
    struct {
        const char *name;
        int64_t value;
    } arguments[TRACE_ARGUMENTS];
} trace_event;

/* Collective over comm: time 0 is where all ranks have come here, since their clocks may differ. Room for `capacity`
 * events a rank. NULL if memory ran out on this rank; not agreed. */
trace *trace_create(MPI_Comm comm, int64_t capacity);
void trace_destroy(trace *t); /* NULL allowed */

/* Not collective. Room for so many more events. False, and all as before, if memory ran out. */
bool trace_reserve(trace *t, int64_t more);
/* Not collective; allocates nothing: an event that finds no room is counted and dropped. NULL for t: does nothing. */
void trace_add(trace *t, const trace_event *event);

/* Not collective. Tracks for `threads` threads, and room for so many more folds on each. False, and all as before, if memory
 * ran out. */
bool trace_reserve_threads(trace *t, int threads, int64_t more);
/* Called by a thread of this rank when it begins and when it ends a fold of a step: each thread writes to its own room, so
 * no lock is needed; what finds no room is counted and dropped. */
void trace_mark_fold(trace *t, int thread, bool begin, int64_t step);

/* Collective over comm. All ranks' events to `file` of rank 0 (ignored on the others), rank after rank in pieces, so
 * that rank 0 never holds all of it. A failed write is put into *f on rank 0; not agreed. */
void trace_write(const trace *t, MPI_Comm comm, FILE *file, failure *f);

#endif
