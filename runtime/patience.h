/* How long a rank waits for others, everywhere: the limit is kept with the communicator, and the calls here are those
 * of MPI that would wait for ever.
 *
 * A lost rank cannot be told from one that still computes, and a hang helps nobody: when the limit has passed the rank
 * says how long it has waited, for whom and in what, and aborts the job. Held by runtime.stall_* and cluster.faults. */
#ifndef RUNTIME_PATIENCE_H
#define RUNTIME_PATIENCE_H

#include <mpi.h>

enum { PATIENCE_SECONDS = 600 }; /* unless the user says otherwise */

/* Not collective, but every rank should say the same. Duplicates of comm that are made later inherit it; what is split
 * off does not. 0 or INFINITY: for ever, as where nothing was set. */
void patience_set(MPI_Comm comm, double seconds);
/* Not collective. INFINITY: for ever. */
double patience_of(MPI_Comm comm);

/* For loops that wait: leaves the core to another rank for a while, once it was called some hundred times. */
void patience_rest(int times);
/* Says that this rank has waited so long in `where`, for a rank of comm or, where peer < 0, for `others`, and aborts.
 * Ranks are named as in MPI_COMM_WORLD. */
void patience_end(MPI_Comm comm, double waited, int peer, const char *others, const char *where);

/* As those of MPI, but with the limit of comm. */
void wait_barrier(MPI_Comm comm);
void wait_bcast(void *data, int count, MPI_Datatype type, int root, MPI_Comm comm);
void wait_reduce(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm);
void wait_allreduce(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm);
void wait_exscan(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm);
void wait_allgather(const void *in, int in_count, MPI_Datatype in_type, void *out, int out_count, MPI_Datatype out_type,
                    MPI_Comm comm);
/* Part `rank` of `data` is this rank's already. */
void wait_allgatherv_in_place(void *data, const int *counts, const int *places, MPI_Datatype type, MPI_Comm comm);
void wait_alltoall(const void *in, int in_count, MPI_Datatype in_type, void *out, int out_count, MPI_Datatype out_type,
                   MPI_Comm comm);
void wait_alltoallv(const void *in, const int *in_counts, const int *in_places, MPI_Datatype in_type, void *out,
                    const int *out_counts, const int *out_places, MPI_Datatype out_type, MPI_Comm comm);
void wait_send(const void *data, int count, MPI_Datatype type, int to, MPI_Comm comm);
void wait_receive(void *data, int count, MPI_Datatype type, int from, MPI_Comm comm, MPI_Status *status_p);

#endif
