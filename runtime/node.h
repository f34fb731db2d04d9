/* Which ranks run on one node. */
#ifndef RUNTIME_NODE_H
#define RUNTIME_NODE_H

#include <mpi.h>

typedef struct {
    MPI_Comm comm;
    int comm_rank, comm_ranks;
    /* Ranks of every node, where all have as many and hold consecutive ranks, so that rank = node * ranks + index;
     * else 1: nothing can be built on it. */
    int ranks;
} node;

/* Collective over comm. This rank and those that can share memory with it, as MPI knows them, in comm's order and with
 * its patience; to be freed. */
MPI_Comm node_split(MPI_Comm comm);
/* Collective over comm. Such ranks as nodes. */
void node_find(MPI_Comm comm, node *node_p);
/* Collective over comm. As if each run of `ranks` ranks were a node: tests play several nodes on one machine. */
void node_pretend(MPI_Comm comm, int ranks, node *node_p);
/* Collective over comm. The parts of comm are its nodes; *node_p owns this rank's. */
void node_describe(MPI_Comm comm, MPI_Comm part, node *node_p);
void node_free(node *n);

#endif
