/* The context behind longspan_context: communicators of our own, the kernel, the last error. */
#ifndef RUNTIME_CONTEXT_H
#define RUNTIME_CONTEXT_H

#include "kernels/attention.h"
#include "runtime/machine.h"
#include "runtime/node.h"
#include "runtime/trace.h"

/* The fastest arithmetic that loses nothing of the type's precision: chosen by the plan, which knows the type. */
enum { COMPUTE_AUTO = -1 };

struct longspan_context {
    MPI_Comm comm;
    int rank, ranks;
    node node;
    bool share_memory;
    int threads;
    const attention_kernel *kernel;
    int compute;              /* attention_compute, or COMPUTE_AUTO */
    longspan_machine machine; /* no number of it 0; equal on all ranks, as the seat is */
    machine_seat seat;
    double stall_seconds; /* of the options; what holds now is the communicator's (patience.h) */
    void (*progress)(void *progress_data, double fraction);
    void *progress_data;
    trace *trace; /* where executes of this context note what they do; the caller's, NULL for nowhere */
    failure last; /* agreed: the same on every rank */
    int error_rank;
};

/* Collective. Agrees on *f and, on failure, makes it the context's last error. */
longspan_status context_agree(longspan_context *context, failure *f);
/* The same of values that must be equal on all ranks. */
longspan_status context_agree_equal(longspan_context *context, const agreement_value *values, int count, failure *f);

/* Not collective. A plan was made whose execute should take so long: ranks wait for each other some times longer than
 * that on top of the options' limit, since some may compute through all of it while others have nothing to do. */
void context_expect(longspan_context *context, double execute_seconds);

#endif
