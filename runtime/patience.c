#include "runtime/patience.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* While waiting with nothing to compute, spin this often before giving the core to another rank for a while. */
enum { SPINS_BEFORE_SLEEP = 200, SLEEP_NANOSECONDS = 20000 };

/* The attribute is not a pointer but milliseconds: nothing to allocate, and a duplicate takes it as it is. One key for
 * as long as MPI lives. */
static int limit_key = MPI_KEYVAL_INVALID;

void patience_set(MPI_Comm comm, double seconds)
{
    const double milliseconds = ceil(seconds * 1e3);
    if (limit_key == MPI_KEYVAL_INVALID)
        MPI_Comm_create_keyval(MPI_COMM_DUP_FN, MPI_COMM_NULL_DELETE_FN, &limit_key, NULL);
    const intptr_t limit = milliseconds > 0 && milliseconds < (double)INTPTR_MAX ? (intptr_t)milliseconds : 0;
    MPI_Comm_set_attr(comm, limit_key, (void *)limit);
}

double patience_of(MPI_Comm comm)
{
    void *limit = NULL;
    int found = 0;
    if (limit_key != MPI_KEYVAL_INVALID) MPI_Comm_get_attr(comm, limit_key, &limit, &found);
    return found && limit ? (double)(intptr_t)limit * 1e-3 : INFINITY;
}

void patience_rest(int times)
{
    if (times >= SPINS_BEFORE_SLEEP) nanosleep(&(struct timespec){.tv_nsec = SLEEP_NANOSECONDS}, NULL);
}

static int world_rank(MPI_Comm comm, int rank)
{
    MPI_Group here, world;
    int translated;
    MPI_Comm_group(comm, &here);
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_translate_ranks(here, 1, &rank, world, &translated);
    MPI_Group_free(&here);
    MPI_Group_free(&world);
    return translated;
}

void patience_end(MPI_Comm comm, double waited, int peer, const char *others, const char *where)
{
    int rank;
    char whom[48];
    MPI_Comm_rank(comm, &rank);
    if (peer >= 0) snprintf(whom, sizeof whom, "rank %d", world_rank(comm, peer));
    else snprintf(whom, sizeof whom, "%s", others);
    fprintf(stderr,
            "longspan: rank %d has waited %.0f s for %s in %s: nothing completed; giving up (a lost link or a stopped "
            "process?)\n",
            world_rank(comm, rank), waited, whom, where);
    MPI_Abort(comm, 1);
}

static void wait_for(MPI_Request *request, MPI_Status *status, MPI_Comm comm, int peer, const char *where)
{
    const double limit = patience_of(comm), begin = MPI_Wtime();
    int done = 0;
    for (int times = 0; MPI_Test(request, &done, status), !done; times++) {
        const double waited = MPI_Wtime() - begin;
        if (waited > limit) patience_end(comm, waited, peer, "the other ranks", where);
        patience_rest(times);
    }
}

static void wait_for_all(MPI_Request *request, MPI_Comm comm, const char *where)
{
    wait_for(request, MPI_STATUS_IGNORE, comm, -1, where);
}

void wait_barrier(MPI_Comm comm)
{
    MPI_Request request;
    MPI_Ibarrier(comm, &request);
    wait_for_all(&request, comm, "a barrier");
}

void wait_bcast(void *data, int count, MPI_Datatype type, int root, MPI_Comm comm)
{
    MPI_Request request;
    MPI_Ibcast(data, count, type, root, comm, &request);
    wait_for_all(&request, comm, "a broadcast");
}

void wait_reduce(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm)
{
    MPI_Request request;
    MPI_Ireduce(in, out, count, type, op, root, comm, &request);
    wait_for_all(&request, comm, "a reduction");
}

void wait_allreduce(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    MPI_Request request;
    MPI_Iallreduce(in, out, count, type, op, comm, &request);
    wait_for_all(&request, comm, "an agreement or a reduction");
}

void wait_exscan(const void *in, void *out, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    MPI_Request request;
    MPI_Iexscan(in, out, count, type, op, comm, &request);
    wait_for_all(&request, comm, "a prefix sum");
}

void wait_allgather(const void *in, int in_count, MPI_Datatype in_type, void *out, int out_count, MPI_Datatype out_type,
                    MPI_Comm comm)
{
    MPI_Request request;
    MPI_Iallgather(in, in_count, in_type, out, out_count, out_type, comm, &request);
    wait_for_all(&request, comm, "a gathering");
}

void wait_allgatherv_in_place(void *data, const int *counts, const int *places, MPI_Datatype type, MPI_Comm comm)
{
    MPI_Request request;
    MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, counts, places, type, comm, &request);
    wait_for_all(&request, comm, "a gathering");
}

void wait_alltoall(const void *in, int in_count, MPI_Datatype in_type, void *out, int out_count, MPI_Datatype out_type,
                   MPI_Comm comm)
{
    MPI_Request request;
    MPI_Ialltoall(in, in_count, in_type, out, out_count, out_type, comm, &request);
    wait_for_all(&request, comm, "an exchange of all with all");
}

void wait_alltoallv(const void *in, const int *in_counts, const int *in_places, MPI_Datatype in_type, void *out,
                    const int *out_counts, const int *out_places, MPI_Datatype out_type, MPI_Comm comm)
{
    MPI_Request request;
    MPI_Ialltoallv(in, in_counts, in_places, in_type, out, out_counts, out_places, out_type, comm, &request);
    wait_for_all(&request, comm, "an exchange of all with all");
}

void wait_send(const void *data, int count, MPI_Datatype type, int to, MPI_Comm comm)
{
    MPI_Request request;
    MPI_Isend(data, count, type, to, 0, comm, &request);
    wait_for(&request, MPI_STATUS_IGNORE, comm, to, "a message");
}

void wait_receive(void *data, int count, MPI_Datatype type, int from, MPI_Comm comm, MPI_Status *status_p)
{
    MPI_Request request;
    MPI_Irecv(data, count, type, from, 0, comm, &request);
    wait_for(&request, status_p, comm, from, "a message");
}
