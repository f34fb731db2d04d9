/* Runs a schedule: for each step, start its transfers, fold while they travel, wait for them.
 *
 * The walk of one query: its row of q is read in place by the kernel; its state (o, m, l) lives in the plan and is
 * folded with this rank's own keys in the first step and with the visiting shards in the next ones; at the end the
 * state becomes the row of out and of lse. Keys and values are read where they are: the caller's arrays or a slot. */
#include "runtime/plan.h"

typedef struct {
    longspan_plan *plan;
    key_slot home;
    const char *q;
    double done, now; /* pairs of the finished steps, and of the running one */
} execution;

/* Between tiles, on the thread that owns MPI. */
static void poll(void *data, double fraction)
{
    execution *x = data;
    const longspan_context *context = x->plan->context;
    exchange_poll(x->plan->exchange);
    if (context->progress && context->rank == 0 && x->plan->pairs > 0)
        context->progress(context->progress_data, (x->done + fraction * x->now) / (double)x->plan->pairs);
}

static attention_segment make_segment(const execution *x, const schedule_fold *fold, int64_t b)
{
    const longspan_problem *p = &x->plan->problem;
    const key_slot *slot = fold->slot == SLOT_HOME ? &x->home : &x->plan->slots[fold->slot];
    int64_t element = (int64_t)number_size((kernel_type)p->type);
    int64_t row = b * slot->rows + fold->row;
    int64_t k_token = (int64_t)p->kv_heads * p->dim, v_token = (int64_t)p->kv_heads * p->value_dim;
    return (attention_segment){
        .k = slot->k + row * k_token * element,
        .v = slot->v + row * v_token * element,
        .k_token_stride = k_token,
        .k_head_stride = p->dim,
        .v_token_stride = v_token,
        .v_head_stride = p->value_dim,
        .begin = fold->keys.begin,
        .end = fold->keys.end,
        .look_inside = fold->look_inside,
    };
}

static attention_span make_span(const execution *x, range queries, int64_t b)
{
    const longspan_plan *plan = x->plan;
    const longspan_problem *p = &plan->problem;
    int64_t element = (int64_t)number_size((kernel_type)p->type);
    int64_t local = layout_local_row(&plan->scheduled.query_layout, queries.begin);
    int64_t row = b * plan->query_tokens + local;
    int64_t q_token = (int64_t)p->heads * p->dim;
    return (attention_span){
        .q = x->q + row * q_token * element,
        .q_token_stride = q_token,
        .q_head_stride = p->dim,
        .tokens = range_length(queries),
        .state = {plan->state.o + row * p->heads * p->value_dim, plan->state.m + row * p->heads,
                  plan->state.l + row * p->heads},
        .visible_begin = plan->visible_begin ? plan->visible_begin + local : NULL,
        .visible_end = plan->visible_end ? plan->visible_end + local : NULL,
    };
}

/* The folds of a step as spans: one span for each run of folds of the same queries, for each batch item, so that a
 * query's keys are folded in order by one thread. Returns the number of spans. */
static int64_t gather_spans(execution *x, const schedule_step *step)
{
    longspan_plan *plan = x->plan;
    int64_t span_count = 0, segment_count = 0;
    for (int64_t b = 0; b < plan->problem.batch; b++) {
        for (int64_t i = 0; i < step->fold_count; i++) {
            const schedule_fold *fold = &step->folds[i];
            if (i == 0 || fold->queries.begin != fold[-1].queries.begin) {
                plan->spans[span_count] = make_span(x, fold->queries, b);
                plan->spans[span_count++].segments = plan->segments + segment_count;
            }
            plan->segments[segment_count++] = make_segment(x, fold, b);
            plan->spans[span_count - 1].segment_count++;
        }
    }
    return span_count;
}

static double step_pairs(const longspan_plan *plan, const schedule_step *step)
{
    double pairs = 0;
    for (int64_t i = 0; i < step->fold_count; i++)
        pairs += (double)mask_pairs(&plan->scheduled.mask, step->folds[i].queries, step->folds[i].keys);
    return pairs;
}

static void run_steps(execution *x)
{
    longspan_plan *plan = x->plan;
    const longspan_problem *p = &plan->problem;
    const attention_call call = {
        .type = (kernel_type)p->type,
        .heads = p->heads,
        .kv_heads = p->kv_heads,
        .dim = p->dim,
        .value_dim = p->value_dim,
        .scale = (float)p->scale,
        .threads = plan->context->threads,
        .workspace = plan->workspace,
        .poll = poll,
        .poll_data = x,
    };
    for (int64_t i = 0; i < plan->schedule->step_count; i++) {
        const schedule_step *step = &plan->schedule->steps[i];
        exchange_start(plan->exchange, i, &x->home, plan->slots);
        double begin = MPI_Wtime();
        x->now = step_pairs(plan, step);
        int64_t spans = gather_spans(x, step);
        if (spans > 0) plan->context->kernel->fold(&call, plan->spans, spans);
        x->done += x->now;
        plan->timing.compute += MPI_Wtime() - begin;
        exchange_finish(plan->exchange);
    }
}

longspan_status longspan_plan_execute(longspan_plan *plan, const void *q, const void *k, const void *v, void *out,
                                      float *lse)
{
    double begin = MPI_Wtime();
    failure f = {0};
    const longspan_problem *p = &plan->problem;
    if (plan->query_tokens > 0 && (!q || !out))
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "q or out is NULL on a rank that has queries");
    if (plan->key_tokens > 0 && (!k || !v))
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "k or v is NULL on a rank that has keys");
    if (context_agree(plan->context, &f) != LONGSPAN_OK) return f.status;

    /* The home slot is only read: sends and folds take it as it is. */
    execution x = {.plan = plan, .home = {(char *)k, (char *)v, plan->key_tokens}, .q = q};
    int64_t rows = p->batch * plan->query_tokens * p->heads;
    plan->timing =
        (longspan_timing){.steps = plan->schedule->step_count, .flops = (double)plan->pairs * plan_flops_per_pair(p)};
    exchange_reset(plan->exchange);
    attention_state_clear(plan->state, rows, p->value_dim);
    run_steps(&x);

    double finish = MPI_Wtime();
    attention_state_finish(plan->state, rows, p->value_dim, (kernel_type)p->out_type, out, lse, plan->context->threads);
    exchange_totals totals = exchange_read_totals(plan->exchange);
    plan->timing.finish = MPI_Wtime() - finish;
    plan->timing.wait = totals.wait;
    plan->timing.transfer = totals.transfer;
    plan->timing.bytes_sent = totals.bytes_sent;
    plan->timing.bytes_received = totals.bytes_received;
    plan->timing.messages_sent = totals.messages_sent;
    plan->timing.total = MPI_Wtime() - begin;
    return LONGSPAN_OK;
}
