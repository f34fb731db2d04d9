/* Runs a schedule of the linear family: for each step, start its transfers, work on the tokens and the states while they
 * travel, wait for them.
 *
 * The walk of one unit: its state is cleared, or given, or comes from the rank before; the fold takes it through the
 * rank's tokens, which are read where the caller has them, and leaves it for the rank after. Where the state that the
 * tokens begin with is not known yet, they are summarised, their outputs wait unfinished, and the state is applied when
 * it is there. */
#include "partition/message.h"
#include "runtime/linear_plan.h"

#include <cblas.h>
#include <string.h>

typedef struct {
    longspan_linear_plan *plan;
    linear_call call;
    void *out;
    step_record *record;
    int64_t step;
    double done, now; /* units that the finished calls worked on, and those of the running one */
} execution;

/* Between chunks, on the thread that owns MPI. */
static void poll(void *data, double fraction)
{
    execution *x = data;
    const longspan_context *context = x->plan->context;
    step_poll(&x->plan->transfers, x->record);
    if (context->progress && context->rank == 0 && x->plan->work > 0)
        context->progress(context->progress_data, (x->done + fraction * x->now) / (double)x->plan->work);
}

/* On every thread of a call of the kernel. */
static void mark(void *data, int thread, bool begin)
{
    const execution *x = data;
    trace_mark_fold(x->plan->context->trace, thread, begin, x->step);
}

/* Joins states of two buffers, a thread a unit. */
static void join(const execution *x, const linear_action *a, double *into, const double *other)
{
    const linear_shape *shape = &x->call.shape;
#pragma omp parallel for num_threads(x->call.threads) if (x->call.threads > 1)
    for (int64_t u = a->units.begin; u < a->units.end; u++) {
        if (a->kind == LINEAR_COMPOSE) linear_state_compose(shape, u, u + 1, into, other);
        else linear_state_add(shape, u, u + 1, into, other);
    }
}

static void copy_states(const execution *x, range units, double *into, const double *from)
{
    const size_t size = linear_state_size(&x->call.shape), first = (size_t)units.begin * size;
    memcpy(into + first, from + first, (size_t)range_length(units) * size * sizeof *into);
}

static void summarise(const execution *x, range units, double *states)
{
    linear_state_clear(&x->call.shape, units.begin, units.end, states);
    x->plan->kernel->fold(&x->call, units.begin, units.end, states, NULL, x->plan->partial);
}

static void run_action(execution *x, const linear_action *a)
{
    const linear_kernel *kernel = x->plan->kernel;
    const int64_t begin = a->units.begin, end = a->units.end;
    double *buffer = linear_plan_buffer(x->plan, a->buffer);
    double *other = a->other >= 0 ? linear_plan_buffer(x->plan, a->other) : NULL;
    x->now = linear_plan_calls(a->kind) > 0 ? (double)range_length(a->units) : 0;
    switch (a->kind) {
    case LINEAR_CLEAR:
        linear_state_clear(&x->call.shape, begin, end, buffer);
        break;
    case LINEAR_FOLD:
        kernel->fold(&x->call, begin, end, buffer, x->out, NULL);
        break;
    case LINEAR_LEAD:
        kernel->fold(&x->call, begin, end, buffer, NULL, NULL);
        break;
    case LINEAR_SUMMARISE:
        summarise(x, a->units, buffer);
        break;
    case LINEAR_COMPOSE:
    case LINEAR_ADD:
        join(x, a, buffer, other);
        break;
    case LINEAR_COPY:
        copy_states(x, a->units, buffer, other);
        break;
    case LINEAR_APPLY:
        kernel->apply(&x->call, begin, end, buffer, x->plan->partial);
        kernel->finish(&x->call, begin, end, x->plan->partial, x->out);
        break;
    case LINEAR_SUM:
        kernel->sum(&x->call, begin, end, buffer, other);
        break;
    case LINEAR_READ:
        kernel->read(&x->call, begin, end, buffer, other, x->out);
        break;
    }
    x->done += x->now;
    step_poll(&x->plan->transfers, x->record);
}

static void post(execution *x, const linear_transfer *t)
{
    const size_t size = linear_state_size(&x->call.shape) * sizeof(double);
    const size_t bytes = (size_t)range_length(t->units) * size;
    char *data = (char *)linear_plan_buffer(x->plan, t->buffer) + (size_t)t->units.begin * size;
    for (size_t done = 0; done < bytes; done += MESSAGE_MAX_BYTES)
        step_post(&x->plan->transfers, t->direction, t->peer, data + done,
                  bytes - done < MESSAGE_MAX_BYTES ? bytes - done : MESSAGE_MAX_BYTES, x->record);
}

static void run_steps(execution *x)
{
    longspan_linear_plan *plan = x->plan;
    for (int64_t i = 0; i < plan->schedule->step_count; i++) {
        const linear_step *step = &plan->schedule->steps[i];
        x->record = &plan->records[i];
        x->step = i;
        step_begin(&plan->transfers, i, x->record);
        /* Receives first: a message that finds its receive posted is not copied on the way. */
        for (int pass = 0; pass < 2; pass++)
            for (int64_t t = 0; t < step->transfer_count; t++)
                if ((step->transfers[t].direction == TRANSFER_SEND) == (pass == 1)) post(x, &step->transfers[t]);
        for (int64_t a = 0; a < step->action_count; a++) run_action(x, &step->actions[a]);
        /* A step with nothing to do takes no time, not even in a trace. */
        x->record->computed = step->action_count > 0 ? MPI_Wtime() : x->record->begin;
        step_wait(&plan->transfers, x->record);
        x->record->end = step->transfer_count > 0 ? MPI_Wtime() : x->record->computed;
    }
}

static void check_array(const char *name, const void *array, bool needed, bool allowed, failure *f)
{
    if (needed && !array) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s is NULL on a rank that has tokens", name);
    if (!allowed && array)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s is given, but the attention has none: pass NULL", name);
}

/* `here`: the rank reads or writes it. */
static void check_state(const longspan_linear_plan *plan, const char *name, const longspan_linear_state *state,
                        bool here, failure *f)
{
    if (!state) return;
    if (!plan->problem.causal)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s is given, but without causal there is no such state", name);
    if (here && !state->sums)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s.sums is NULL on the rank that needs it", name);
    if (here && plan->reference && !state->reference)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s.reference is NULL on the rank that needs it", name);
    if (!plan->reference && state->reference)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s.reference is given, but attention '%s' has none", name,
                    plan->problem.attention);
}

/* Collective. */
static longspan_status check_arrays(longspan_linear_plan *plan, const longspan_linear_arrays *arrays, const void *out)
{
    const linear_variant *variant = plan->call.shape.variant;
    const bool here = plan->call.tokens > 0;
    const bool decays = variant->decay == LINEAR_DECAY_TOKEN || variant->decay == LINEAR_DECAY_FEATURE;
    const int rank = plan->context->rank;
    failure f = {0};
    check_array("q", arrays->q, here, true, &f);
    check_array("k", arrays->k, here, true, &f);
    check_array("v", arrays->v, here, true, &f);
    check_array("out", out, here, true, &f);
    check_array("log_decay", arrays->log_decay, here && decays, decays, &f);
    check_array("beta", arrays->beta, here && variant->has_beta, variant->has_beta, &f);
    check_state(plan, "initial", arrays->initial, rank == longspan_linear_plan_first_rank(plan), &f);
    check_state(plan, "final", arrays->final, rank == longspan_linear_plan_last_rank(plan), &f);
    const agreement_value equal[] = {{"whether initial is given", arrays->initial != NULL},
                                     {"whether final is given", arrays->final != NULL}};
    return context_agree_equal(plan->context, equal, sizeof equal / sizeof *equal, &f);
}

/* Nobody polls or marks yet: before the first step nothing travels. */
static linear_call call_of(const longspan_linear_plan *plan, const longspan_linear_arrays *arrays)
{
    linear_call call = plan->call;
    call.q = arrays->q;
    call.k = arrays->k;
    call.v = arrays->v;
    call.log_decay = plan->head_log_decay ? plan->head_log_decay : arrays->log_decay;
    call.beta = arrays->beta;
    return call;
}

longspan_status longspan_linear_plan_execute(longspan_linear_plan *plan, const longspan_linear_arrays *arrays,
                                             void *out)
{
    const double begin = MPI_Wtime();
    const longspan_status status = check_arrays(plan, arrays, out);
    if (status != LONGSPAN_OK) return status;

    /* Kernels call OpenBLAS from threads of their own; how many it uses otherwise is the caller's. */
    const int blas_threads = openblas_get_num_threads();
    openblas_set_num_threads(1);
    execution x = {.plan = plan, .call = call_of(plan, arrays), .out = out};
    plan->timing = (longspan_timing){.steps = plan->schedule->step_count, .flops = plan->flops};
    linear_stream_find_reference(plan, &x.call, arrays->initial);
    linear_stream_begin(plan, arrays->initial);
    x.call.poll = poll;
    x.call.poll_data = &x;
    x.call.mark = plan->context->trace ? mark : NULL;
    x.call.mark_data = &x;
    run_steps(&x);

    const double finish = MPI_Wtime();
    linear_stream_end(plan, arrays->final);
    openblas_set_num_threads(blas_threads);
    step_records_add(plan->records, plan->schedule->step_count, &plan->timing);
    const double end = MPI_Wtime();
    plan->timing.finish = end - finish;
    plan->timing.total = end - begin;
    plan_trace(plan->context->trace, plan->records, plan->schedule->step_count, begin, finish, end);
    return LONGSPAN_OK;
}
