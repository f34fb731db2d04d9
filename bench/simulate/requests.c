/* runtime/requests.h for the simulator, which progresses every transfer by itself: to wait is one call, where polling
 * would simulate millions of them. */
#include "runtime/requests.h"

#include <limits.h>
#include <stdlib.h>

bool request_set_create(request_set *set_p, MPI_Comm comm, int64_t most)
{
    *set_p = (request_set){.comm = comm, .last_peer = REQUEST_OF_NODE};
    if (most > INT_MAX) return false;
    set_p->capacity = (int)most;
    set_p->requests = calloc((size_t)most + 1, sizeof *set_p->requests);
    set_p->peers = calloc((size_t)most + 1, sizeof *set_p->peers);
    return set_p->requests && set_p->peers;
}

void request_set_destroy(request_set *set)
{
    free(set->requests);
    free(set->peers);
}

void request_set_begin(request_set *set)
{
    set->posted = set->pending = 0;
}

MPI_Request *request_set_add(request_set *set, int peer)
{
    set->peers[set->posted] = peer;
    set->pending++;
    return &set->requests[set->posted++];
}

bool request_set_poll(request_set *set)
{
    return set->pending == 0;
}

void request_set_wait(request_set *set)
{
    MPI_Waitall(set->posted, set->requests, MPI_STATUSES_IGNORE);
    set->pending = 0;
    set->last_completion = MPI_Wtime();
    if (set->posted > 0) set->last_peer = set->peers[set->posted - 1];
}
