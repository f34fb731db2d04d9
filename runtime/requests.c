#include "runtime/requests.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Polling more often than this costs time and moves nothing more (measured overlap is complete at 100 us). */
static const double poll_interval = 20e-6;
/* While waiting with nothing to compute, spin this often before giving the core to another rank for a while. */
enum { SPINS_BEFORE_SLEEP = 200, SLEEP_NANOSECONDS = 20000 };

bool request_set_create(request_set *set_p, MPI_Comm comm, int64_t most, double stall_seconds)
{
    *set_p = (request_set){.comm = comm, .stall_seconds = stall_seconds, .last_peer = REQUEST_OF_NODE};
    if (most < 1) most = 1;
    if (most > INT_MAX) return false;
    set_p->capacity = (int)most;
    set_p->requests = malloc((size_t)most * sizeof *set_p->requests);
    set_p->finished = malloc((size_t)most * sizeof *set_p->finished);
    set_p->peers = malloc((size_t)most * sizeof *set_p->peers);
    if (set_p->requests && set_p->finished && set_p->peers) return true;
    request_set_destroy(set_p);
    return false;
}

void request_set_destroy(request_set *set)
{
    free(set->requests);
    free(set->finished);
    free(set->peers);
    *set = (request_set){.last_peer = REQUEST_OF_NODE};
}

void request_set_begin(request_set *set)
{
    set->posted = set->pending = 0;
    set->last_peer = REQUEST_OF_NODE;
    set->last_poll = set->last_completion = MPI_Wtime();
}

MPI_Request *request_set_add(request_set *set, int peer)
{
    set->peers[set->posted] = peer;
    set->pending++;
    return &set->requests[set->posted++];
}

/* Notes what has completed. */
static void test(request_set *set, double now)
{
    int count;
    MPI_Testsome(set->posted, set->requests, &count, set->finished, MPI_STATUSES_IGNORE);
    set->last_poll = now;
    if (count <= 0) return;
    set->pending -= count;
    set->last_completion = now;
    set->last_peer = set->peers[set->finished[count - 1]];
}

bool request_set_poll(request_set *set)
{
    if (set->pending == 0) return true;
    double now = MPI_Wtime();
    if (now - set->last_poll >= poll_interval) test(set, now);
    return set->pending == 0;
}

static void abort_stalled(const request_set *set, double idle)
{
    int rank, peer = REQUEST_OF_NODE;
    char whom[48] = "the other ranks of its node";
    MPI_Comm_rank(set->comm, &rank);
    for (int i = 0; i < set->posted && peer == REQUEST_OF_NODE; i++)
        if (set->requests[i] != MPI_REQUEST_NULL) peer = set->peers[i];
    if (peer != REQUEST_OF_NODE) snprintf(whom, sizeof whom, "rank %d", peer);
    fprintf(stderr,
            "longspan: rank %d has waited %.0f s for %s in %s: nothing completed; giving up (a lost link or a stopped "
            "process?)\n",
            rank, idle, whom, set->where);
    MPI_Abort(set->comm, 1);
}

void request_set_wait(request_set *set)
{
    double begin = MPI_Wtime();
    for (int spins = 0; set->pending > 0; spins++) {
        double now = MPI_Wtime();
        test(set, now);
        double since = set->last_completion > begin ? set->last_completion : begin;
        if (set->stall_seconds > 0 && now - since > set->stall_seconds) abort_stalled(set, now - since);
        if (set->pending > 0 && spins >= SPINS_BEFORE_SLEEP)
            nanosleep(&(struct timespec){.tv_nsec = SLEEP_NANOSECONDS}, NULL);
    }
}
