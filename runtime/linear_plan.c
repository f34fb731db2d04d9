#include "runtime/linear_plan.h"

#include "partition/message.h"

#include <stdlib.h>
#include <string.h>

/* Makes the caller's arrays the plan's own. */
static void copy_arrays(longspan_linear_plan *plan, failure *f)
{
    longspan_linear_problem *p = &plan->problem;
    const int64_t heads = linear_problem_heads(p), dim = p->dim;
    const size_t word = sizeof(float);
    if (p->documents) plan->documents = plan_copy(p->documents, p->document_count + 1, sizeof *p->documents, f);
    if (p->head_log_decay) plan->head_log_decay = plan_copy(p->head_log_decay, heads, word, f);
    if (p->bonus) plan->bonus = plan_copy(p->bonus, heads * dim, word, f);
    if (p->features) plan->features = plan_copy(p->features, p->feature_count * dim, word, f);
    p->documents = plan->documents;
    p->head_log_decay = plan->head_log_decay;
    p->bonus = plan->bonus;
    p->features = plan->features;
}

/* The documents within this rank's rows. */
static void find_pieces(longspan_linear_plan *plan, failure *f)
{
    const longspan_linear_problem *p = &plan->problem;
    const range rows = plan->rows;
    int64_t inside = 0, count = 0;
    for (int64_t d = 1; d < p->document_count; d++)
        inside += p->documents[d] > rows.begin && p->documents[d] < rows.end;
    plan->pieces = plan_allocate(inside + 2, sizeof *plan->pieces, "the documents of a rank", f);
    if (!plan->pieces) return;
    plan->pieces[0] = 0;
    for (int64_t d = 1; d < p->document_count; d++) {
        const int64_t begin = p->documents[d];
        if (begin > rows.begin + plan->pieces[count] && begin < rows.end) plan->pieces[++count] = begin - rows.begin;
    }
    if (!range_is_empty(rows)) plan->pieces[++count] = range_length(rows);
    plan->call.pieces = plan->pieces;
    plan->call.piece_count = count;
}

/* What all steps need room for: messages of the largest; calls of the kernel; unfinished outputs. And what there is to do
 * in all. */
typedef struct {
    int64_t messages, calls;
    bool leaves_partial;
} needs;

static needs look_at_steps(longspan_linear_plan *plan)
{
    const size_t state_bytes = linear_state_size(&plan->call.shape) * sizeof(double);
    needs all = {0};
    for (int64_t i = 0; i < plan->schedule->step_count; i++) {
        const linear_step *step = &plan->schedule->steps[i];
        int64_t messages = 0;
        for (int64_t t = 0; t < step->transfer_count; t++) {
            const size_t bytes = (size_t)range_length(step->transfers[t].units) * state_bytes;
            messages += message_count((int64_t)bytes, 1);
        }
        if (messages > all.messages) all.messages = messages;
        for (int64_t a = 0; a < step->action_count; a++) {
            const linear_action *action = &step->actions[a];
            all.calls += linear_plan_calls(action->kind);
            if (linear_plan_calls(action->kind) > 0) plan->work += range_length(action->units);
            if (action->kind == LINEAR_SUMMARISE) all.leaves_partial = true;
        }
    }
    return all;
}

/* Everything that execute needs and that its size decides. Failures go to *f; the plan may be half filled. */
static void allocate_buffers(longspan_linear_plan *plan, failure *f)
{
    const longspan_linear_problem *p = &plan->problem;
    const longspan_context *context = plan->context;
    const linear_schedule *s = plan->schedule;
    const linear_shape *shape = &plan->call.shape;
    const int64_t heads = shape->batch * shape->heads;
    const size_t reference = (size_t)linear_reference_dim(shape) * sizeof(double);
    const needs needed = look_at_steps(plan);
    plan->buffers =
        plan_allocate(s->buffers * linear_units(shape), linear_state_size(shape) * sizeof(double), "the states", f);
    if (reference > 0) plan->reference = plan_allocate(heads, reference, "the references of states", f);
    if (needed.leaves_partial)
        plan->partial = plan_allocate(heads * range_length(plan->rows), (size_t)linear_partial_width(shape) * 4,
                                      "unfinished outputs", f);
    plan->workspace = plan_allocate(1, linear_workspace_size(shape, context->threads), "the kernel's workspace", f);
    plan->records = plan_allocate(s->step_count, sizeof *plan->records, "the steps' records", f);
    if (plan->records) memset(plan->records, 0, (size_t)s->step_count * sizeof *plan->records);
    if (!request_set_create(&plan->transfers, context->comm, needed.messages))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the messages of a step");
    if (context->trace && !plan_trace_reserve(context->trace, s->step_count, context->threads, needed.calls))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the trace");
    for (int64_t i = 0; plan->pieces && i < plan->call.piece_count; i++) {
        const range piece = {plan->rows.begin + plan->pieces[i], plan->rows.begin + plan->pieces[i + 1]};
        plan->flops += linear_plan_flops(shape, p->causal, piece);
    }
}

/* What a call of the kernel is given, but for the arrays of an execute. */
static void set_call(longspan_linear_plan *plan, bool summarises)
{
    const longspan_linear_problem *p = &plan->problem;
    plan->call = (linear_call){
        .shape = linear_problem_shape(p, summarises),
        .type = (kernel_type)p->type,
        .out_type = (kernel_type)p->out_type,
        .scale = (float)p->scale,
        .bonus = p->bonus,
        .features = p->features,
        .tokens = range_length(plan->rows),
        .first_token = plan->rows.begin,
        .threads = plan->context->threads,
    };
}

/* Local part of longspan_linear_plan_create: everything after the arguments were found equal. */
static longspan_linear_plan *build(longspan_context *context, const longspan_linear_problem *problem,
                                   const linear_kernel *kernel, failure *f)
{
    const placement place = {
        .ranks = context->ranks,
        .node_ranks = context->node.ranks,
        .machine = machine_of_rank(&context->machine, &context->seat, problem->type, COMPUTE_FP32),
        .memory_bytes = context->seat.memory_bytes,
        .cores_shared = context->seat.cpu_share < 1,
    };
    linear_offer offer;
    longspan_linear_plan *plan = calloc(1, sizeof *plan);
    if (!plan) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for a plan");
        return NULL;
    }
    plan->context = context;
    plan->problem = *problem;
    plan->kernel = kernel;
    if (linear_plan_choose(problem, &place, context->seat.threads, &offer, f) != LONGSPAN_OK) return plan;
    plan->strategy = offer.strategy;
    plan->predicted = offer.seconds;
    plan->memory_bytes = offer.memory_bytes;
    plan->problem.attention = linear_variant_find(problem->attention)->name;
    plan->problem.strategy = offer.strategy->name;
    copy_arrays(plan, f);
    if (f->status != LONGSPAN_OK) return plan;
    plan->scheduled = linear_plan_scheduled(&plan->problem, &place, context->seat.threads, offer.summarises);
    plan->rows = layout_chunk(&plan->scheduled.layout, context->rank);
    if (plan->strategy->plan(&plan->scheduled, context->rank, &plan->schedule) != 0) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the schedule");
        return plan;
    }
    set_call(plan, offer.summarises);
    find_pieces(plan, f);
    allocate_buffers(plan, f);
    plan->call.reference = plan->reference;
    plan->call.workspace = plan->workspace;
    return plan;
}

/* States are sums of float32's precision: the other arithmetics have none of it. */
static void check_compute(const longspan_context *context, const longspan_linear_problem *p, failure *f)
{
    if (context->compute != COMPUTE_AUTO && context->compute != COMPUTE_FP32)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "compute '%s' with attention '%s', which is computed in fp32 only",
                    attention_compute_name((attention_compute)context->compute), p->attention);
}

longspan_status longspan_linear_plan_create(longspan_context *context, const longspan_linear_problem *problem,
                                            longspan_linear_plan **plan_p)
{
    *plan_p = NULL;
    failure f = {0};
    if (linear_problem_check_equal(context, problem, &f) != LONGSPAN_OK) return f.status;
    longspan_linear_problem p = *problem; /* the same on all ranks, and so is what is wrong with it */
    if (linear_problem_complete(&p, &f) == LONGSPAN_OK) check_compute(context, &p, &f);
    if (f.status != LONGSPAN_OK) return context_agree(context, &f);
    const linear_kernel *kernel = linear_kernel_find(context->kernel->name);
    if (plan_agree_on_kernel(context, kernel->name, COMPUTE_FP32, &f) != LONGSPAN_OK) return f.status;
    longspan_linear_plan *plan = build(context, &p, kernel, &f);
    if (context_agree(context, &f) != LONGSPAN_OK) {
        longspan_linear_plan_destroy(&plan);
        return f.status;
    }
    context_expect(context, plan->predicted);
    *plan_p = plan;
    return LONGSPAN_OK;
}

void longspan_linear_plan_destroy(longspan_linear_plan **plan_p)
{
    if (!plan_p || !*plan_p) return;
    longspan_linear_plan *plan = *plan_p;
    request_set_destroy(&plan->transfers);
    linear_schedule_destroy(plan->schedule);
    free(plan->records);
    free(plan->workspace);
    free(plan->partial);
    free(plan->reference);
    free(plan->buffers);
    free(plan->pieces);
    free(plan->features);
    free(plan->bonus);
    free(plan->head_log_decay);
    free(plan->documents);
    free(plan);
    *plan_p = NULL;
}

longspan_range longspan_linear_plan_rows(const longspan_linear_plan *plan)
{
    return (longspan_range){plan->rows.begin, plan->rows.end};
}

void longspan_linear_plan_state_shape(const longspan_linear_plan *plan, int *features_p, int *width_p, int *reference_p)
{
    *features_p = linear_feature_dim(&plan->call.shape);
    *width_p = linear_width(&plan->call.shape);
    *reference_p = linear_reference_dim(&plan->call.shape);
}

int longspan_linear_plan_first_rank(const longspan_linear_plan *plan)
{
    return (int)layout_chunk_of_token(&plan->scheduled.layout, 0);
}

int longspan_linear_plan_last_rank(const longspan_linear_plan *plan)
{
    return (int)layout_chunk_of_token(&plan->scheduled.layout, plan->problem.tokens - 1);
}

void longspan_linear_plan_timing(const longspan_linear_plan *plan, longspan_timing *timing_p)
{
    *timing_p = plan->timing;
}

const char *linear_plan_strategy_name(const longspan_linear_plan *plan)
{
    return plan->problem.strategy;
}

const step_record *linear_plan_steps(const longspan_linear_plan *plan, int64_t *count_p)
{
    const bool executed = plan->timing.total > 0;
    *count_p = executed ? plan->schedule->step_count : 0;
    return executed ? plan->records : NULL;
}
