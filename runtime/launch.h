/* What goes wrong between the launcher and the program, found before the work starts. */
#ifndef RUNTIME_LAUNCH_H
#define RUNTIME_LAUNCH_H

#include "runtime/agreement.h"

/* Not collective. CPUs this process may run on (its affinity mask), at least 1. */
int launch_allowed_cpus(void);

/* Not collective. The number of threads for options.threads = 0: OMP_NUM_THREADS if set to a positive number, else
 * the allowed CPUs, shared evenly among the ranks of this node that may use the same CPUs (`sharing`, >= 1). */
int launch_default_threads(int sharing);

/* Collective. How many ranks of this node have the same affinity mask as this one (itself included). */
int launch_sharing_ranks(MPI_Comm comm);

/* Collective. A rank count that differs from what the launcher meant: SLURM_NTASKS > 1 with a world of 1 (a wrong
 * --mpi=) is an error, LONGSPAN_ERROR_ARGUMENT. */
longspan_status launch_check(MPI_Comm comm, failure *f);

/* Collective. At most one line on rank 0 (text, at most `size` bytes; "" if all is well), for a node where threads
 * exceed the allowed CPUs, or where CPUs stay idle because of binding; names the mpirun flag that helps. `threads` of
 * this rank. */
void launch_advice(MPI_Comm comm, int threads, char *text, size_t size);

#endif
