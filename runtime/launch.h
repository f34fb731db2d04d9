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

/* Not collective, for before MPI_Init. One line (text, at most `size` bytes; "" if all is well) where srun started
 * several tasks and gave them no process manager (--mpi=none): then MPI cannot start, unless it was built for Slurm's
 * PMI-1, and what it says is of no help. */
void launch_hint(char *text, size_t size);

/* Not collective. This process's number as the launcher counts, 0 where there is no launcher: who speaks where MPI's
 * own ranks cannot be trusted. */
int launch_rank(void);

/* Collective. A rank count that differs from what the launcher meant: several processes, each in a world of its own,
 * which comes of a wrong --mpi= of srun, or of an mpirun of another MPI. LONGSPAN_ERROR_ARGUMENT. */
longspan_status launch_check(MPI_Comm comm, failure *f);

/* Collective. At most one line on rank 0 (text, at most `size` bytes; "" if all is well), for a node where threads
 * exceed the allowed CPUs, or where CPUs stay idle because of binding; names the mpirun flag that helps. `threads` of
 * this rank. */
void launch_advice(MPI_Comm comm, int threads, char *text, size_t size);

#endif
