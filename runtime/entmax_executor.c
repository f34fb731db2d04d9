/* Alpha-entmax attention over a schedule that moves keys: kernels/entmax.h says what a pass does.
 *
 * Keys go their way through all steps of the schedule, and every query keeps those that may have weight. Then each rank
 * knows the thresholds of its own queries. Where a query of any rank had no room for its keys, the keys go the same way
 * again, until all are known. At last the values go that way, to the queries that kept their keys; with them the keys
 * once more, where there are queries that did not. So a rank sends no more than under softmax attention unless lists
 * overflow, and its memory is bounded whatever the scores are. */
#include "runtime/entmax.h"

#include "runtime/patience.h"

#include <string.h>

enum { MOST_PASSES = 500 };

typedef struct {
    longspan_plan *plan;
    entmax_call call; /* but for `attention`, which a call of the kernel has */
    void (*kernel[2])(const entmax_call *call, const attention_span *spans, int64_t count);
    int kernel_count;
    bool reads_values;
} pass;

static void fold(const execution *x, attention_call *call, const attention_span *spans, int64_t count)
{
    const pass *p = x->fold_data;
    const longspan_problem *problem = &x->plan->problem;
    const double factor = entmax_factor(problem);
    entmax_call entmax = p->call;
    call->scale = (float)(problem->scale * factor);
    call->scores.softcap = (float)(problem->softcap * factor);
    if (call->scores.slopes)
        call->scores.slopes = x->plan->entmax->slopes + (call->scores.slopes - problem->alibi_slopes);
    if (!p->reads_values) call->value_dim = 0;
    entmax.attention = call;
    for (int i = 0; i < p->kernel_count; i++) p->kernel[i](&entmax, spans, count);
}

/* The bytes and messages of transfers that travelled beside others. */
static void add_record(step_record *record, const step_record *beside)
{
    record->bytes_sent += beside->bytes_sent;
    record->bytes_received += beside->bytes_received;
    record->messages_sent += beside->messages_sent;
    if (beside->begin < record->begin) record->begin = beside->begin;
    if (beside->transferred > record->transferred) record->transferred = beside->transferred;
}

static void start_step(const execution *x, int64_t step, step_record records[2])
{
    for (int i = 0; i < x->exchange_count; i++) exchange_start(x->exchanges[i], step, &records[i]);
}

/* All steps once; their records to `records`, numbered in the trace from `first` on. */
static void run_pass(const pass *p, exchange *const *exchanges, int exchange_count, step_record *records, int64_t first)
{
    longspan_plan *plan = p->plan;
    execution x = {.plan = plan, .exchange_count = exchange_count, .fold = fold, .fold_data = p};
    for (int i = 0; i < exchange_count; i++) x.exchanges[i] = exchanges[i];
    exchange_synchronise(exchanges[0]);
    for (int64_t i = 0; i < plan->schedule->step_count; i++) {
        step_record now[2];
        x.step = first + i;
        start_step(&x, i, now);
        execution_run_folds(&x, i);
        for (int e = 0; e < exchange_count; e++) now[e].computed = MPI_Wtime();
        for (int e = 0; e < exchange_count; e++) exchange_finish(exchanges[e]);
        if (exchange_count > 1) {
            now[1].computed = now[0].computed;
            add_record(&now[1], &now[0]);
        }
        records[i] = now[exchange_count - 1];
    }
    step_records_add(records, plan->schedule->step_count, &plan->timing);
    plan->timing.steps += plan->schedule->step_count;
}

/* Collective. Whether queries of any rank still need keys, and whether any have no list. */
static entmax_counts settle(const pass *p)
{
    const attention_call threads = {.threads = p->plan->context->threads};
    entmax_call call = p->call;
    call.attention = &threads;
    const entmax_counts here = entmax_rows_settle(&call);
    int64_t all[2] = {here.open, here.dense};
    wait_allreduce(MPI_IN_PLACE, all, 2, MPI_INT64_T, MPI_SUM, p->plan->context->comm);
    return (entmax_counts){all[0], all[1]};
}

/* Collective. Passes over the keys until every threshold is known; what is dense goes to *dense_p. */
static longspan_status find_thresholds(longspan_plan *plan, bool *dense_p)
{
    struct plan_entmax *e = plan->entmax;
    failure f = {0};
    pass keys = {.plan = plan,
                 .call = {.rows = &e->rows, .exponent = e->exponent},
                 .kernel = {e->kernel->collect},
                 .kernel_count = 1};
    entmax_counts left = {1, 0};
    for (int passes = 0; left.open > 0 && passes < MOST_PASSES; passes++) {
        keys.call.sums = passes > 0;
        run_pass(&keys, &plan->exchange, 1, passes == 0 ? plan->records : e->spare_records, 0);
        left = settle(&keys);
    }
    *dense_p = left.dense > 0;
    if (left.open == 0) return LONGSPAN_OK;
    failure_set(&f, LONGSPAN_ERROR_INTERNAL, "%lld thresholds were not found in %d passes over the keys",
                (long long)left.open, MOST_PASSES);
    return context_agree(plan->context, &f);
}

/* Values of listed queries and, where there are others, keys and values of those. */
static void weigh_values(longspan_plan *plan, bool dense)
{
    struct plan_entmax *e = plan->entmax;
    exchange *exchanges[] = {plan->exchange, e->value_exchange};
    const pass values = {.plan = plan,
                         .call = {.rows = &e->rows, .exponent = e->exponent},
                         .kernel = {e->kernel->gather, e->kernel->fold},
                         .kernel_count = dense ? 2 : 1,
                         .reads_values = true};
    run_pass(&values, dense ? exchanges : exchanges + 1, dense ? 2 : 1, plan->records + plan->schedule->step_count,
             plan->schedule->step_count);
}

/* Where values lie is known once the caller's arrays are, and the node's. */
static void set_values(longspan_plan *plan)
{
    struct plan_entmax *e = plan->entmax;
    e->values.home[ROWS_KEYS] = plan->stores.home[ROWS_KEYS];
    e->values.home[ROWS_KEYS].data[0] = plan->stores.home[ROWS_KEYS].data[1];
    for (int i = 0; i < plan->schedule->slot_count; i++) {
        if (plan->schedule->slots[i].kind != ROWS_KEYS) continue;
        e->value_slots[i] = plan->stores.slots[i];
        e->value_slots[i].data[0] = plan->stores.slots[i].data[1];
    }
}

longspan_status entmax_execute(longspan_plan *plan, double begin, void *out, float *threshold)
{
    const longspan_problem *p = &plan->problem;
    entmax_rows *rows = &plan->entmax->rows;
    float *o = (float *)(void *)plan->stores.home[ROWS_STATES].data[0];
    bool dense;
    set_values(plan);
    plan->timing = (longspan_timing){.flops = plan->flops};
    memset(o, 0, (size_t)rows->count * (size_t)p->value_dim * sizeof *o);
    entmax_rows_clear(rows);
    const longspan_status status = find_thresholds(plan, &dense);
    if (status != LONGSPAN_OK) return status;
    weigh_values(plan, dense);

    const double finish = MPI_Wtime();
    entmax_rows_finish(rows, o, p->value_dim, (kernel_type)p->out_type, out, threshold, plan->context->threads);
    const double end = MPI_Wtime();
    plan->timing.finish = end - finish;
    plan->timing.total = end - begin;
    plan_trace(plan->context->trace, plan->records, plan->record_count, begin, finish, end);
    return LONGSPAN_OK;
}
