/* Messages that travel together: posted, progressed while something else is computed, waited for with a limit.
 *
 * Open MPI moves a large message only while somebody is inside MPI, so the thread that owns MPI polls. */
#ifndef RUNTIME_REQUESTS_H
#define RUNTIME_REQUESTS_H

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

enum { REQUEST_OF_NODE = -1 }; /* instead of a peer: all ranks of the node */

typedef struct {
    MPI_Comm comm;
    char where[64]; /* for the message when it gives up: "step 3" */

    MPI_Request *requests; /* completed ones become MPI_REQUEST_NULL */
    int *finished;         /* MPI_Testsome's indices */
    int *peers;            /* of each request */
    int capacity, posted, pending;
    int last_peer; /* of the request that completed last; REQUEST_OF_NODE if none did */
    double last_poll, last_completion;
} request_set;

/* Not collective. Room for `most` requests at a time. False if memory ran out or that is more than MPI can count. */
bool request_set_create(request_set *set_p, MPI_Comm comm, int64_t most);
void request_set_destroy(request_set *set); /* nothing may be under way */

/* Forgets completed requests; nothing may be under way. */
void request_set_begin(request_set *set);
/* Room for one more request, to or from `peer`; give it to MPI. */
MPI_Request *request_set_add(request_set *set, int peer);
/* Gives MPI a chance to progress; cheap when called more often than every 20 us. True when all is complete. */
bool request_set_poll(request_set *set);
/* Returns when all is complete. When nothing has completed for as long as comm has patience (patience.h) it aborts the
 * job, saying where and which peer it waits for. */
void request_set_wait(request_set *set);

#endif
