/* --trace: what every rank did and when, as one file of rank 0 in the Chrome trace format. */
#ifndef CLI_TRACE_FILE_H
#define CLI_TRACE_FILE_H

#include "runtime/cli/session.h"
#include "runtime/trace.h"

/* Not collective. One of the command's own phases on this rank, from MPI_Wtime `begin` to now. NULL for t: nothing. */
void trace_file_phase(trace *t, const char *name, double begin);

/* Collective. Writes the trace of all ranks. Fails as session_agree does. */
bool trace_file_write(const session *s, const char *path, bool force, const trace *t, failure *f);

#endif
