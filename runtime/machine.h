/* The numbers of longspan_machine made into those of the cost model, for one problem on one rank. */
#ifndef RUNTIME_MACHINE_H
#define RUNTIME_MACHINE_H

#include "kernels/attention.h"
#include "partition/prediction.h"
#include "runtime/agreement.h"

/* How ranks sit on their nodes. */
typedef struct {
    int threads;          /* of a rank */
    double cpu_share;     /* of a CPU that each thread has; less than 1 where threads outnumber CPUs */
    int64_t memory_bytes; /* that a rank may use; 0: as many as it likes */
} machine_seat;

/* Not collective. Numbers of 0 become built-in ones, for a thread of `peak` float32 multiply-add flop/s that runs the
 * kernel; 0: of a common one; NULL: every arithmetic at the speed of float32. */
void machine_fill(longspan_machine *machine, const attention_kernel *kernel, double peak);

/* Not collective. False, with the reason in *f (ARGUMENT), if a number is negative, not finite or out of range. */
bool machine_check(const longspan_machine *machine, failure *f);

/* Not collective. Bytes that a rank may use: its share of nine tenths of the node's memory, which has `node_bytes`; 0: of
 * this machine's. 0 where that is not known. */
int64_t machine_rank_memory(double node_bytes, int node_ranks);

/* Collective. Fills the seat of a rank of `threads` threads, with machine_rank_memory unless the machine says how much,
 * and makes rank 0's machine and threads, the least share of a CPU and the least memory
 * those of every rank: what is chosen by them must be equal. */
void machine_agree(MPI_Comm comm, int threads, int sharing, int node_ranks, longspan_machine *machine,
                   machine_seat *seat_p);

/* Not collective. `machine` has no zeros. */
prediction_machine machine_of_rank(const longspan_machine *machine, const machine_seat *seat, longspan_type type,
                                   attention_compute compute);

#endif
