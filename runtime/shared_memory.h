/* Memory of every rank of a node that all of them read: a segment a rank, which that rank alone writes.
 *
 * POSIX shared memory, not MPI_Win_allocate_shared: when the node's first rank cannot make its file, Open MPI 4.1
 * leaves the others in a broadcast for ever, and where the file system is too small a page that is first touched
 * later kills the process. Here every rank reserves all blocks of a segment of its own (on its own NUMA node), a
 * failure is an error that all ranks agree on, and the names are gone before anyone works with the memory, so that a
 * killed job leaves nothing behind. */
#ifndef RUNTIME_SHARED_MEMORY_H
#define RUNTIME_SHARED_MEMORY_H

#include "runtime/context.h"

typedef struct shared_memory shared_memory;

/* Collective over the context. A segment of `bytes` bytes, zeroed, on each rank. On failure, the same on every rank,
 * *f says what to do and NULL is returned. */
shared_memory *shared_memory_create(longspan_context *context, size_t bytes, failure *f);
void shared_memory_destroy(shared_memory *s); /* NULL allowed; nobody may read it any more */

/* The segment of a rank of the node, by its rank there; only one's own may be written. Aligned to a page. */
char *shared_memory_of(const shared_memory *s, int node_rank);

/* Not collective. Bytes that segments may take on this node now; 0 if it cannot be told. */
double shared_memory_free(void);

#endif
