/* Runs a schedule: for each step, start its transfers, fold and merge while they travel, wait for them.
 *
 * The walk of one query: its row of q is read in place by the kernel; its state (o, m, l) lives in the plan and is
 * folded with this rank's own keys in the first step and with the visiting shards in the next ones; at the end the
 * state becomes the row of out and of lse. Where a strategy moves queries instead, q visits other ranks, and the
 * states that were made there come back and are merged. Keys and values are read where they are: the caller's arrays,
 * a slot, or the memory of another rank of the node. */
#include "runtime/entmax.h"

#include <string.h>

/* Between tiles, on the thread that owns MPI. */
static void poll(void *data, double fraction)
{
    execution *x = data;
    const longspan_context *context = x->plan->context;
    for (int i = 0; i < x->exchange_count; i++) exchange_poll(x->exchanges[i]);
    if (context->progress && context->rank == 0 && x->plan->flops > 0)
        context->progress(context->progress_data, (x->done + fraction * x->now) / x->plan->flops);
}

/* On every thread of a fold. */
static void mark(void *data, int thread, bool begin)
{
    const execution *x = data;
    trace_mark_fold(x->plan->context->trace, thread, begin, x->step);
}

static void clear_states(const longspan_plan *plan, const schedule_step *step)
{
    for (int64_t i = 0; i < step->clear_count; i++) {
        const schedule_clear *clear = &step->clears[i];
        const row_store *store = row_stores_find(&plan->stores, ROWS_STATES, clear->slot);
        for (int64_t b = 0; b < plan->problem.batch; b++) {
            const attention_state state = plan_state_at(plan, store, b, clear->slot_rows.begin, store->heads.begin);
            attention_state_clear(state, range_length(clear->slot_rows) * heads_count(store->heads),
                                  plan->problem.value_dim);
        }
    }
}

static void fold(const execution *x, attention_call *call, const attention_span *spans, int64_t count)
{
    x->plan->context->kernel->fold(call, spans, count);
}

void execution_run_folds(execution *x, int64_t step_index)
{
    longspan_plan *plan = x->plan;
    const longspan_problem *p = &plan->problem;
    const schedule_step *step = &plan->schedule->steps[step_index];
    const int group = p->heads / p->kv_heads;
    const fold_memory memory = {.formats = plan->formats,
                                .own = &plan->stores,
                                .node = plan->node,
                                .node_first = plan->context->rank - plan->context->node.comm_rank};
    int calls = 0;
    for (fold_call call = {0}; fold_call_next(&plan->folds, step, &call);) calls++;
    if (calls > 0) x->now = plan->folds.step_flops[step_index] / calls;
    for (fold_call call = {0}; fold_call_next(&plan->folds, step, &call); x->done += x->now) {
        const int64_t spans = fold_call_spans(&plan->folds, &memory, step, &call);
        if (spans == 0) continue;
        attention_call kernel_call = {
            .type = (kernel_type)p->type,
            .heads = heads_count(call.heads),
            .kv_heads = (call.heads.end - 1) / group - call.heads.begin / group + 1,
            .dim = p->dim,
            .value_dim = p->value_dim,
            .scale = (float)p->scale,
            .scores = {.softcap = (float)p->softcap,
                       .slopes = p->alibi_slopes ? p->alibi_slopes + call.heads.begin : NULL,
                       .rope_dim = p->rope_dim,
                       .rope_interleaved = p->rope_interleaved != 0,
                       .rope_frequencies = plan->folds.rope_frequencies,
                       .relative = plan_relative_of(plan, call.heads.begin)},
            .compute = plan->compute,
            .threads = plan->context->threads,
            .workspace = plan->workspace,
            .poll = poll,
            .poll_data = x,
            .mark = plan->context->trace ? mark : NULL,
            .mark_data = x,
        };
        x->fold(x, &kernel_call, plan->folds.spans, spans);
    }
}

/* Joins `rows` rows of all or some heads of one store to another's; polls now and then. */
static void merge_rows(execution *x, const schedule_merge *merge, int64_t b)
{
    enum { SLICE_FLOATS = 1 << 18 };
    const longspan_plan *plan = x->plan;
    const int value_dim = plan->problem.value_dim, heads = heads_count(merge->heads);
    const row_store *from = row_stores_find(&plan->stores, ROWS_STATES, merge->from_slot);
    const row_store *to = row_stores_find(&plan->stores, ROWS_STATES, merge->to_slot);
    const int64_t slice = 1 + SLICE_FLOATS / ((int64_t)heads * value_dim);
    for (int64_t done = 0; done < merge->count; done += slice) {
        const int64_t end = done + slice < merge->count ? done + slice : merge->count;
#pragma omp parallel for num_threads(plan->context->threads) if (end - done >= 64)
        for (int64_t row = done; row < end; row++)
            attention_state_merge(plan_state_at(plan, to, b, merge->to_row + row, merge->heads.begin),
                                  plan_state_at(plan, from, b, merge->from_row + row, merge->heads.begin), heads,
                                  value_dim);
        exchange_poll(plan->exchange);
    }
}

static void run_steps(execution *x)
{
    longspan_plan *plan = x->plan;
    exchange_synchronise(plan->exchange);
    for (int64_t i = 0; i < plan->schedule->step_count; i++) {
        const schedule_step *step = &plan->schedule->steps[i];
        exchange_start(plan->exchange, i, &plan->records[i]);
        clear_states(plan, step);
        x->step = i;
        execution_run_folds(x, i);
        for (int64_t m = 0; m < step->merge_count; m++)
            for (int64_t b = 0; b < plan->problem.batch; b++) merge_rows(x, &step->merges[m], b);
        plan->records[i].computed = MPI_Wtime();
        exchange_finish(plan->exchange);
    }
}

/* Home rows are only read: sends and folds take the caller's arrays as they are. Where the node reads this rank's keys
 * in place they must lie in memory that it shares. */
static void set_home(longspan_plan *plan, const void *q, const void *k, const void *v)
{
    row_store *keys = &plan->stores.home[ROWS_KEYS];
    plan->stores.home[ROWS_QUERIES].data[0] = (char *)q;
    if (!plan->shared) {
        keys->data[0] = (char *)k;
        keys->data[1] = (char *)v;
        return;
    }
    const void *const given[] = {k, v};
    for (int t = 0; t < 2; t++) {
        const size_t row_bytes = (size_t)plan->problem.kv_heads * plan->formats[ROWS_KEYS].head_bytes[t];
        if (plan->key_tokens > 0 && given[t] != keys->data[t])
            memcpy(keys->data[t], given[t], (size_t)(plan->problem.batch * plan->key_tokens) * row_bytes);
    }
}

longspan_status longspan_plan_execute(longspan_plan *plan, const void *q, const void *k, const void *v, void *out,
                                      float *lse)
{
    const double begin = MPI_Wtime();
    failure f = {0};
    const longspan_problem *p = &plan->problem;
    if (plan->query_tokens > 0 && (!q || !out))
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "q or out is NULL on a rank that has queries");
    if (plan->key_tokens > 0 && (!k || !v))
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "k or v is NULL on a rank that has keys");
    if (context_agree(plan->context, &f) != LONGSPAN_OK) return f.status;
    set_home(plan, q, k, v);
    if (plan->entmax) return entmax_execute(plan, begin, out, lse);

    execution x = {.plan = plan, .exchanges = {plan->exchange}, .exchange_count = 1, .fold = fold};
    const attention_state state = plan_state_at(plan, &plan->stores.home[ROWS_STATES], 0, 0, 0);
    const int64_t rows = p->batch * plan->query_tokens * p->heads;
    plan->timing = (longspan_timing){.steps = plan->schedule->step_count, .flops = plan->flops};
    attention_state_clear(state, rows, p->value_dim);
    run_steps(&x);

    const double finish = MPI_Wtime();
    if (p->sinks) attention_state_add_sinks(state, rows, p->heads, p->value_dim, p->sinks);
    attention_state_finish(state, rows, p->value_dim, (kernel_type)p->out_type, out, lse, plan->context->threads);
    step_records_add(plan->records, plan->schedule->step_count, &plan->timing);
    const double end = MPI_Wtime();
    plan->timing.finish = end - finish;
    plan->timing.total = end - begin;
    plan_trace(plan->context->trace, plan->records, plan->schedule->step_count, begin, finish, end);
    return LONGSPAN_OK;
}
