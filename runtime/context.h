/* The context behind longspan_context: a communicator of our own, the kernel, the last error. */
#ifndef RUNTIME_CONTEXT_H
#define RUNTIME_CONTEXT_H

#include "kernels/attention.h"
#include "runtime/agreement.h"

struct longspan_context {
    MPI_Comm comm;
    int rank, ranks;
    int threads;
    const attention_kernel *kernel;
    double stall_seconds;
    void (*progress)(void *progress_data, double fraction);
    void *progress_data;
    failure last; /* agreed: the same on every rank */
    int error_rank;
};

/* Collective. Agrees on *f and, on failure, makes it the context's last error. */
longspan_status context_agree(longspan_context *context, failure *f);

#endif
