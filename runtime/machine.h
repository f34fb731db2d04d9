/* The numbers of longspan_machine made into those of the cost model, for one problem on one rank. */
#ifndef RUNTIME_MACHINE_H
#define RUNTIME_MACHINE_H

#include "kernels/attention.h"
#include "partition/prediction.h"
#include "runtime/agreement.h"

/* How ranks sit on their node. */
typedef struct {
    int threads;      /* of a rank */
    double cpu_share; /* of a CPU that each thread has; less than 1 where threads outnumber CPUs */
} machine_seat;

/* Not collective. Numbers of 0 become built-in ones, for a thread of `peak` float32 multiply-add flop/s; 0: of a common
 * one. */
void machine_fill(longspan_machine *machine, double peak);

/* Not collective. False, with the reason in *f (ARGUMENT), if a number is negative, not finite or out of range. */
bool machine_check(const longspan_machine *machine, failure *f);

/* Collective. Rank 0's machine, seat and all, on every rank: what is chosen by them must be equal. */
void machine_agree(MPI_Comm comm, longspan_machine *machine, machine_seat *seat);

/* Not collective. `machine` has no zeros. */
prediction_machine machine_of_rank(const longspan_machine *machine, const machine_seat *seat, longspan_type type,
                                   attention_compute compute);

#endif
