#include "runtime/requests.h"

#include "runtime/patience.h"

#include <limits.h>
#include <stdlib.h>

/* Polling more often than this costs time and moves nothing more (measured overlap is complete at 100 us). */
static const double poll_interval = 20e-6;

bool request_set_create(request_set *set_p, MPI_Comm comm, int64_t most)
{
    *set_p = (request_set){.comm = comm, .last_peer = REQUEST_OF_NODE};
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

static void give_up(const request_set *set, double idle)
{
    int peer = REQUEST_OF_NODE;
    for (int i = 0; i < set->posted && peer == REQUEST_OF_NODE; i++)
        if (set->requests[i] != MPI_REQUEST_NULL) peer = set->peers[i];
    patience_end(set->comm, idle, peer, "the other ranks of its node", set->where);
}

void request_set_wait(request_set *set)
{
    const double begin = MPI_Wtime(), limit = patience_of(set->comm);
    for (int times = 0; set->pending > 0; times++) {
        double now = MPI_Wtime();
        test(set, now);
        double since = set->last_completion > begin ? set->last_completion : begin;
        if (now - since > limit) give_up(set, now - since);
        if (set->pending > 0) patience_rest(times);
    }
}
