#include "runtime/context.h"

#include "kernels/cpu.h"
#include "runtime/launch.h"
#include "runtime/patience.h"

#include <stdlib.h>
#include <string.h>

const char *longspan_version(void)
{
    return LONGSPAN_VERSION;
}

const char *longspan_status_string(longspan_status status)
{
    switch (status) {
    case LONGSPAN_OK:
        return "success";
    case LONGSPAN_ERROR_ARGUMENT:
        return "invalid argument";
    case LONGSPAN_ERROR_MISMATCH:
        return "argument differs between ranks";
    case LONGSPAN_ERROR_UNSUPPORTED:
        return "unsupported combination";
    case LONGSPAN_ERROR_MEMORY:
        return "out of memory";
    case LONGSPAN_ERROR_IO:
        return "input or output error";
    case LONGSPAN_ERROR_VERIFICATION:
        return "verification failed";
    case LONGSPAN_ERROR_INTERNAL:
        return "internal error";
    }
    return "unknown status";
}

void longspan_options_default(longspan_options *options_p)
{
    *options_p = (longspan_options){.isa = "auto", .compute = "auto", .share_memory = 1, .stall_seconds = PATIENCE_SECONDS};
}

/* The kernel of the options, or a failure. */
static const attention_kernel *choose_kernel(const longspan_options *options, failure *f)
{
    const attention_kernel *kernel = attention_kernel_find(options->isa ? options->isa : "auto");
    if (!kernel) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "isa '%s' is not one of this build", options->isa);
    else if (cpu_features_missing(kernel->features))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "isa '%s' needs CPU features that this CPU lacks", options->isa);
    return kernel;
}

/* COMPUTE_AUTO, or the arithmetic of the options; a failure if there is none of the name. */
static int choose_compute(const longspan_options *options, failure *f)
{
    attention_compute compute = COMPUTE_FP32;
    if (!options->compute || strcmp(options->compute, "auto") == 0) return COMPUTE_AUTO;
    if (!attention_compute_from_name(options->compute, &compute))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "compute '%s' is not known", options->compute);
    return (int)compute;
}

/* A context with what the options say, which fails where they are wrong; NULL if memory ran out. */
static longspan_context *make(const longspan_options *options, failure *f)
{
    int thread_level;
    longspan_context *context = calloc(1, sizeof *context);
    if (!context) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for a context");
        return NULL;
    }
    MPI_Query_thread(&thread_level);
    if (thread_level < MPI_THREAD_FUNNELED)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "MPI must be initialised with MPI_THREAD_FUNNELED or more");
    if (options->threads < 0) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "options.threads is negative");
    if (!(options->stall_seconds >= 0)) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "options.stall_seconds is negative");
    context->kernel = choose_kernel(options, f);
    context->compute = choose_compute(options, f);
    if (options->machine) context->machine = *options->machine;
    machine_check(&context->machine, f);
    machine_fill(&context->machine, context->kernel, 0);
    context->share_memory = options->share_memory != 0;
    context->stall_seconds = options->stall_seconds;
    context->progress = options->progress;
    context->progress_data = options->progress_data;
    context->error_rank = -1;
    return context;
}

longspan_status longspan_context_create(MPI_Comm comm, const longspan_options *options, longspan_context **context_p)
{
    *context_p = NULL;
    failure f = {0};
    longspan_options defaults;
    longspan_options_default(&defaults);
    if (!options) options = &defaults;
    const agreement_value equal[] = {
        {"options.isa", agreement_hash_text(options->isa ? options->isa : "auto")},
        {"options.compute", agreement_hash_text(options->compute ? options->compute : "auto")},
        {"options.share_memory", options->share_memory != 0},
        {"options.stall_seconds", agreement_bits(options->stall_seconds)},
    };
    /* Duplicated first: the caller's own communicator is to know nothing of our patience. */
    MPI_Comm own;
    int rank;
    longspan_context *context = NULL;
    MPI_Comm_dup(comm, &own);
    patience_set(own, options->stall_seconds);
    if (agreement_check_equal(own, equal, sizeof equal / sizeof *equal, &f, &rank) != LONGSPAN_OK) goto free_own;
    context = make(options, &f);
    if (agreement_reach(own, &f, &rank) != LONGSPAN_OK) goto free_own;

    context->comm = own;
    MPI_Comm_set_errhandler(context->comm, MPI_ERRORS_ARE_FATAL);
    MPI_Comm_rank(context->comm, &context->rank);
    MPI_Comm_size(context->comm, &context->ranks);
    node_find(context->comm, &context->node);
    int sharing = launch_sharing_ranks(context->comm);
    context->threads = options->threads ? options->threads : launch_default_threads(sharing);
    machine_agree(context->comm, context->threads, sharing, context->node.comm_ranks, &context->machine,
                  &context->seat);
    *context_p = context;
    return LONGSPAN_OK;

free_own:
    free(context);
    MPI_Comm_free(&own);
    return f.status;
}

void longspan_context_destroy(longspan_context **context_p)
{
    if (!context_p || !*context_p) return;
    node_free(&(*context_p)->node);
    MPI_Comm_free(&(*context_p)->comm);
    free(*context_p);
    *context_p = NULL;
}

const char *longspan_context_error(const longspan_context *context)
{
    return context->last.text;
}

int longspan_context_error_rank(const longspan_context *context)
{
    return context->error_rank;
}

/* Keeps a failure that all ranks have agreed on. */
static longspan_status keep(longspan_context *context, longspan_status status, const failure *f, int rank)
{
    if (status != LONGSPAN_OK) {
        context->last = *f;
        context->error_rank = rank;
    }
    return status;
}

longspan_status context_agree(longspan_context *context, failure *f)
{
    int rank = -1;
    const longspan_status status = agreement_reach(context->comm, f, &rank);
    return keep(context, status, f, rank);
}

longspan_status context_agree_equal(longspan_context *context, const agreement_value *values, int count, failure *f)
{
    int rank = -1;
    const longspan_status status = agreement_check_equal(context->comm, values, count, f, &rank);
    return keep(context, status, f, rank);
}

void context_expect(longspan_context *context, double execute_seconds)
{
    /* A model may be off by as much where nothing was measured, or where others use the machine. */
    static const double slack = 4;
    const double limit = context->stall_seconds + slack * execute_seconds;
    if (context->stall_seconds > 0 && limit > patience_of(context->comm)) patience_set(context->comm, limit);
}
