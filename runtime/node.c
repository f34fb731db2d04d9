#include "runtime/node.h"

#include "runtime/patience.h"

void node_describe(MPI_Comm comm, MPI_Comm part, node *node_p)
{
    node *n = node_p;
    int rank, ranks, first;
    n->comm = part;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    MPI_Comm_rank(n->comm, &n->comm_rank);
    MPI_Comm_size(n->comm, &n->comm_ranks);
    first = rank;
    wait_bcast(&first, 1, MPI_INT, 0, n->comm);

    /* Regular: every node as large as this one, beginning at a multiple of that, its ranks in a row. */
    const int regular = first % n->comm_ranks == 0 && rank == first + n->comm_rank && ranks % n->comm_ranks == 0;
    int extremes[] = {n->comm_ranks, -n->comm_ranks, !regular};
    wait_allreduce(MPI_IN_PLACE, extremes, 3, MPI_INT, MPI_MAX, comm);
    n->ranks = extremes[0] == -extremes[1] && !extremes[2] ? n->comm_ranks : 1;
}

MPI_Comm node_split(MPI_Comm comm)
{
    MPI_Comm part;
    MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &part);
    patience_set(part, patience_of(comm));
    return part;
}

void node_find(MPI_Comm comm, node *node_p)
{
    node_describe(comm, node_split(comm), node_p);
}

void node_pretend(MPI_Comm comm, int ranks, node *node_p)
{
    int rank;
    MPI_Comm part;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_split(comm, rank / ranks, rank, &part);
    patience_set(part, patience_of(comm));
    node_describe(comm, part, node_p);
}

void node_free(node *n)
{
    MPI_Comm_free(&n->comm);
}
