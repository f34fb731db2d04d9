#include "runtime/entmax.h"

#include "partition/selected.h"
#include "runtime/memory.h"
#include "runtime/patience.h"
#include "runtime/selection.h"

#include <stdlib.h>
#include <string.h>

void *plan_allocate(int64_t count, size_t size, const char *what, failure *f)
{
    size_t bytes = 0;
    void *memory = NULL;
    if (!__builtin_mul_overflow((size_t)count, size, &bytes)) memory = memory_allocate(bytes);
    if (!memory)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for %s: %.1f MiB", what,
                    (double)count * (double)size / 1048576);
    return memory;
}

void *plan_copy(const void *values, int64_t count, size_t size, failure *f)
{
    void *own = plan_allocate(count, size, "the arrays of the problem", f);
    if (own && count > 0) memcpy(own, values, (size_t)count * size);
    return own;
}

/* Makes the caller's arrays the plan's own. */
static void copy_arrays(longspan_plan *plan, failure *f)
{
    longspan_problem *p = &plan->problem;
    if (p->documents) plan->documents = plan_copy(p->documents, p->document_count + 1, sizeof *p->documents, f);
    if (p->key_lengths) plan->key_lengths = plan_copy(p->key_lengths, p->batch, sizeof *p->key_lengths, f);
    if (p->alibi_slopes) plan->alibi_slopes = plan_copy(p->alibi_slopes, p->heads, sizeof *p->alibi_slopes, f);
    if (p->sinks) plan->sinks = plan_copy(p->sinks, p->heads, sizeof *p->sinks, f);
    if (p->pattern) plan->pattern_text = plan_copy(p->pattern, (int64_t)strlen(p->pattern) + 1, 1, f);
    p->pattern = plan->pattern_text;
    if (p->block_offsets) {
        plan->block_offsets = plan_copy(p->block_offsets, p->block_offset_count, sizeof *p->block_offsets, f);
        plan->block_keys = plan_copy(p->block_keys, p->block_key_count, sizeof *p->block_keys, f);
    }
    p->block_offsets = plan->block_offsets;
    p->block_keys = plan->block_keys;
    p->documents = plan->scheduled.mask.documents = plan->documents;
    p->key_lengths = plan->key_lengths;
    p->alibi_slopes = plan->alibi_slopes;
    p->sinks = plan->sinks;
}

/* Which keys have weight is not to depend on what narrower products lose. */
static void check_compute(const longspan_context *context, const longspan_problem *p, failure *f)
{
    if (p->alpha != 0 && context->compute != COMPUTE_AUTO && context->compute != COMPUTE_FP32)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "compute '%s' with alpha %g: entmax is computed in fp32 only",
                    attention_compute_name((attention_compute)context->compute), p->alpha);
}

/* The arithmetic asked for, which the kernel need not offer. It depends on the problem, not on what a rank has of it. */
static attention_compute compute_of(const longspan_context *context, const longspan_problem *p)
{
    if (context->compute != COMPUTE_AUTO) return (attention_compute)context->compute;
    if (p->relative_keys) return COMPUTE_FP32;
    if (p->alpha != 0) return COMPUTE_FP32;
    return attention_compute_best(context->kernel, (kernel_type)p->type, p->queries * (p->heads / p->kv_heads));
}

/* The arithmetic of the folds on this rank's kernel. */
static void choose_compute(longspan_plan *plan, failure *f)
{
    const attention_kernel *kernel = plan->context->kernel;
    plan->compute = compute_of(plan->context, &plan->problem);
    if (attention_kernel_offers(kernel, plan->compute)) return;
    char offered[64] = "";
    for (int c = 0; c < COMPUTE_COUNT; c++)
        if (attention_kernel_offers(kernel, (attention_compute)c)) {
            if (offered[0]) strcat(offered, ", ");
            strcat(offered, attention_compute_name((attention_compute)c));
        }
    failure_set(f, LONGSPAN_ERROR_ARGUMENT, "compute '%s' needs a kernel that offers it; kernel '%s' offers %s",
                attention_compute_name(plan->compute), kernel->name, offered);
}

/* A row's bits would depend on who folds it, and a prediction on who makes it. */
longspan_status plan_agree_on_kernel(longspan_context *context, const char *name, attention_compute compute, failure *f)
{
    int kernel = 0;
    while (kernel + 1 < attention_kernel_count && strcmp(attention_kernels[kernel]->name, name) != 0) kernel++;
    int most[] = {kernel, -kernel, (int)compute, -(int)compute};
    wait_allreduce(MPI_IN_PLACE, most, 4, MPI_INT, MPI_MAX, context->comm);
    if (most[0] == -most[1] && most[2] == -most[3]) return LONGSPAN_OK;
    failure_set(f, LONGSPAN_ERROR_MISMATCH,
                "kernel or compute differs between ranks, whose CPUs differ (from '%s' to '%s', from '%s' to '%s'): "
                "name one that all of them have in options.isa",
                attention_kernels[-most[1]]->name, attention_kernels[most[0]]->name,
                attention_compute_name((attention_compute)-most[3]), attention_compute_name((attention_compute)most[2]));
    return context_agree(context, f);
}

static void set_formats(longspan_plan *plan)
{
    const longspan_problem *p = &plan->problem;
    const size_t element = number_size((kernel_type)p->type), dim = (size_t)p->dim, value_dim = (size_t)p->value_dim;
    plan->formats[ROWS_KEYS] = (row_format){2, {dim * element, value_dim * element}};
    plan->formats[ROWS_QUERIES] = (row_format){1, {dim * element}};
    plan->formats[ROWS_STATES] = (row_format){3, {value_dim * sizeof(float), sizeof(float), sizeof(float)}};
    plan->stores.home[ROWS_KEYS] = (row_store){.rows = plan->key_tokens, .heads = heads_all(p->kv_heads)};
    plan->stores.home[ROWS_QUERIES] = (row_store){.rows = plan->query_tokens, .heads = heads_all(p->heads)};
    plan->stores.home[ROWS_STATES] = (row_store){.rows = plan->query_tokens, .heads = heads_all(p->heads)};
}

/* Memory of a store's own. */
static void allocate_store(const longspan_plan *plan, rows_kind kind, row_store *store, const char *what, failure *f)
{
    const row_format *format = &plan->formats[kind];
    for (int t = 0; t < format->tensors; t++)
        store->data[t] = plan_allocate(plan->problem.batch * store->rows,
                                       (size_t)heads_count(store->heads) * format->head_bytes[t], what, f);
}

static void allocate_stores(longspan_plan *plan, failure *f)
{
    static const char *const what[ROWS_KINDS] = {[ROWS_KEYS] = "keys and values from other ranks",
                                                 [ROWS_QUERIES] = "queries from other ranks",
                                                 [ROWS_STATES] = "partial results of other ranks"};
    const schedule *s = plan->schedule;
    allocate_store(plan, ROWS_STATES, &plan->stores.home[ROWS_STATES], "the attention state", f);
    plan->stores.slots = calloc((size_t)s->slot_count + 1, sizeof *plan->stores.slots);
    if (!plan->stores.slots) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the slots");
        return;
    }
    for (int i = 0; i < s->slot_count; i++) {
        const schedule_slot *slot = &s->slots[i];
        plan->stores.slots[i] = (row_store){.rows = slot->rows, .heads = slot->heads};
        if (slot->kind == ROWS_KEYS && s->shares_memory) continue;
        allocate_store(plan, slot->kind, &plan->stores.slots[i], what[slot->kind], f);
    }
}

/* Of the kernel, in all steps. */
static int64_t calls_of(const longspan_plan *plan)
{
    const schedule *s = plan->schedule;
    int64_t calls = 0;
    for (int64_t i = 0; i < s->step_count; i++)
        for (fold_call call = {0}; fold_call_next(&plan->folds, &s->steps[i], &call);) calls++;
    return calls;
}

/* Entmax attention computes scores without values, for which more rows fit into a task. */
static size_t workspace_size(const longspan_plan *plan)
{
    const longspan_problem *p = &plan->problem;
    const int threads = plan->context->threads;
    const size_t size = attention_workspace_size(threads, p->dim, p->value_dim);
    const size_t without = p->alpha != 0 ? attention_workspace_size(threads, p->dim, 0) : 0;
    return size > without ? size : without;
}

/* Everything that execute needs and that its size decides, but what the node shares. Failures go to *f; the plan may be
 * half filled. */
static void allocate_buffers(longspan_plan *plan, failure *f)
{
    const longspan_problem *p = &plan->problem;
    const longspan_context *context = plan->context;
    const schedule *s = plan->schedule;
    set_formats(plan);
    allocate_stores(plan, f);
    if (f->status != LONGSPAN_OK) return;
    if (fold_plan_create(&plan->folds, p, &plan->scheduled, s, context->rank, context->threads) != 0) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the mask and the folds of a step");
        return;
    }
    for (int64_t i = 0; i < s->step_count; i++) plan->flops += plan->folds.step_flops[i];
    plan->record_count = (p->alpha != 0 ? 2 : 1) * s->step_count;
    plan->records = plan_allocate(plan->record_count, sizeof *plan->records, "the steps' records", f);
    if (plan->records) memset(plan->records, 0, (size_t)plan->record_count * sizeof *plan->records);
    plan->workspace = plan_allocate(1, workspace_size(plan), "the kernel's workspace", f);
    if (p->alpha != 0) {
        entmax_plan_create(plan, f);
    } else {
        plan->exchange = exchange_create(context->comm, context->node.comm, s, p->batch, plan->formats, &plan->stores);
        if (!plan->exchange) failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the exchange");
    }
    if (context->trace && !plan_trace_reserve(context->trace, plan->record_count, context->threads,
                                              (p->alpha != 0 ? 3 : 1) * calls_of(plan)))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the trace");
}

/* What is to be scheduled, and how: chosen, or of a selection, of which there is one way. */
static void choose(longspan_plan *plan, const placement *place, const selection *own, failure *f)
{
    if (!own) {
        plan_choose(&plan->problem, plan->pattern, place, &plan->scheduled, &plan->strategy, &plan->predicted_seconds, f);
        return;
    }
    plan->scheduled = plan_scheduled(&plan->problem, place);
    plan->scheduled.selection = own;
    plan->strategy = &strategy_selected;
}

/* Local part of longspan_plan_create: everything after the arguments were found equal. `own`: of a selection, else NULL.
 */
static longspan_plan *build(longspan_context *context, const longspan_problem *problem, const placement *place,
                            const selection *own, failure *f)
{
    longspan_plan *plan = calloc(1, sizeof *plan);
    if (!plan) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for a plan");
        return NULL;
    }
    plan->context = context;
    plan->problem = *problem;
    if (problem_pattern(&plan->problem, &plan->pattern, f) != LONGSPAN_OK) return plan;
    choose(plan, place, own, f);
    if (f->status != LONGSPAN_OK) return plan;
    choose_compute(plan, f);
    copy_arrays(plan, f);
    plan_relative_create(plan, f);
    if (f->status != LONGSPAN_OK) return plan;
    if (plan->strategy->plan(&plan->scheduled, context->rank, &plan->schedule) != 0) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the schedule");
        return plan;
    }
    plan->scheduled.selection = NULL; /* the schedule says it all */
    plan->problem.selection = NULL;
    plan->machine = place->machine;
    plan->names = plan_name_choice(&plan->scheduled, plan->strategy);
    plan->problem.strategy = plan->names.strategy;
    plan->problem.layout = plan->names.layout;
    plan->query_tokens = layout_rank_tokens(&plan->scheduled.query_layout, context->rank);
    plan->key_tokens = layout_rank_tokens(&plan->scheduled.key_layout, context->rank);
    allocate_buffers(plan, f);
    return plan;
}

/* Collective. Whether ranks of a node may share memory for this problem: where the choice of a strategy is ours, only
 * if every node has room for the keys and for two shards more on each rank. */
static bool can_share(const longspan_context *context, const longspan_problem *p)
{
    if (!context->share_memory || context->node.ranks == 1) return false;
    const double row = (double)p->kv_heads * (p->dim + p->value_dim) * sizeof(float);
    const double shard = (double)p->batch * ((double)p->keys / context->ranks + 64) * row;
    const double shards = context->node.ranks * (context->ranks > context->node.ranks ? 3.0 : 1.0);
    int fits = strcmp(p->strategy, "auto") != 0 || shard * shards < shared_memory_free();
    wait_allreduce(MPI_IN_PLACE, &fits, 1, MPI_INT, MPI_MIN, context->comm);
    return fits;
}

/* Collective. Fails on all ranks or on none, with NULL. */
static longspan_plan *make(longspan_context *context, const longspan_problem *p, bool may_share, failure *f)
{
    selection own = {0};
    const placement place = {
        .ranks = context->ranks,
        .node_ranks = context->node.ranks,
        .may_share = may_share,
        .machine = machine_of_rank(&context->machine, &context->seat, p->type, compute_of(context, p)),
        .memory_bytes = context->seat.memory_bytes,
        .share_off = !context->share_memory,
    };
    if (p->selection) {
        const schedule_problem plain = plan_scheduled(p, &place);
        if (selection_schedule(context, p, &plain, &own, f) != LONGSPAN_OK) {
            free(own.asked);
            return NULL;
        }
    }
    longspan_plan *plan = build(context, p, &place, p->selection ? &own : NULL, f);
    free(own.asked);
    if (context_agree(context, f) != LONGSPAN_OK ||
        (plan->schedule->shares_memory && plan_share_memory(plan, f) != LONGSPAN_OK))
        longspan_plan_destroy(&plan);
    return plan;
}

/* Collective. A rank can predict its own part alone. */
static double predict_selected(const longspan_plan *plan)
{
    prediction own = {0};
    failure none = {0};
    plan_predict(plan, &own, &none);
    wait_allreduce(MPI_IN_PLACE, &own.seconds, 1, MPI_DOUBLE, MPI_MAX, plan->context->comm);
    return own.seconds;
}

longspan_status longspan_plan_create(longspan_context *context, const longspan_problem *problem, longspan_plan **plan_p)
{
    *plan_p = NULL;
    failure f = {0};
    if (problem_check_equal(context, problem, &f) != LONGSPAN_OK) return f.status;
    longspan_problem p = *problem; /* the same on all ranks, and so is what is wrong with it */
    if (problem_complete(&p, &f) == LONGSPAN_OK && selection_fits(context, &p, &f) == LONGSPAN_OK)
        check_compute(context, &p, &f);
    if (f.status != LONGSPAN_OK) return context_agree(context, &f);
    const attention_compute compute = compute_of(context, &p);
    if (plan_agree_on_kernel(context, context->kernel->name, compute, &f) != LONGSPAN_OK) return f.status;
    const bool may_share = can_share(context, &p);
    longspan_plan *plan = make(context, &p, may_share, &f);
    /* The room may be taken since it was looked at, and ranks of a node may be in containers that share none. */
    if (f.status == LONGSPAN_ERROR_MEMORY && may_share && strcmp(p.strategy, "auto") == 0) {
        f = (failure){0};
        plan = make(context, &p, false, &f);
    }
    if (!plan) return f.status;
    if (p.selection) plan->predicted_seconds = predict_selected(plan);
    context_expect(context, plan->predicted_seconds);
    *plan_p = plan;
    return LONGSPAN_OK;
}

static void free_store(row_store *store)
{
    for (int t = 0; t < ROW_TENSORS; t++) free(store->data[t]);
}

void longspan_plan_destroy(longspan_plan **plan_p)
{
    if (!plan_p || !*plan_p) return;
    longspan_plan *plan = *plan_p;
    exchange_destroy(plan->exchange);
    entmax_plan_destroy(plan);
    plan_unshare_memory(plan);
    for (int i = 0; plan->stores.slots && i < plan->schedule->slot_count; i++) free_store(&plan->stores.slots[i]);
    free_store(&plan->stores.home[ROWS_STATES]);
    free(plan->stores.slots);
    schedule_destroy(plan->schedule);
    fold_plan_free(&plan->folds);
    free(plan->records);
    free(plan->workspace);
    free(plan->pattern_text);
    pattern_sum_destroy(plan->pattern);
    free(plan->documents);
    free(plan->key_lengths);
    free(plan->block_offsets);
    free(plan->block_keys);
    free(plan->alibi_slopes);
    free(plan->sinks);
    plan_relative_free(plan);
    free(plan);
    *plan_p = NULL;
}

longspan_status plan_layout_rows(const layout *l, int rank, longspan_range *ranges, int64_t capacity, int64_t *count_p)
{
    if (capacity < 0 || (capacity > 0 && !ranges) || !count_p) return LONGSPAN_ERROR_ARGUMENT;
    int64_t count = 0, end = -1;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, rank); i++) {
        const range chunk = layout_chunk(l, layout_rank_chunk(l, rank, i));
        if (range_is_empty(chunk)) continue;
        /* Neighbours are one range: both chunks of the last rank under zigzag, all stripes of one rank. */
        const bool joins = chunk.begin == end;
        end = chunk.end;
        if (joins && count <= capacity) ranges[count - 1].end = end;
        if (joins) continue;
        if (count < capacity) ranges[count] = (longspan_range){chunk.begin, chunk.end};
        count++;
    }
    *count_p = count;
    return LONGSPAN_OK;
}

longspan_status longspan_plan_rows(const longspan_plan *plan, longspan_axis axis, longspan_range *ranges,
                                   int64_t capacity, int64_t *count_p)
{
    if (axis != LONGSPAN_QUERIES && axis != LONGSPAN_KEYS) return LONGSPAN_ERROR_ARGUMENT;
    const schedule_problem *s = &plan->scheduled;
    return plan_layout_rows(axis == LONGSPAN_QUERIES ? &s->query_layout : &s->key_layout, plan->context->rank, ranges,
                            capacity, count_p);
}

int64_t longspan_plan_tokens(const longspan_plan *plan, longspan_axis axis)
{
    return axis == LONGSPAN_QUERIES ? plan->query_tokens : plan->key_tokens;
}

void longspan_plan_key_arrays(const longspan_plan *plan, void **k_p, void **v_p)
{
    *k_p = plan->shared ? plan->stores.home[ROWS_KEYS].data[0] : NULL;
    *v_p = plan->shared ? plan->stores.home[ROWS_KEYS].data[1] : NULL;
}

void longspan_plan_timing(const longspan_plan *plan, longspan_timing *timing_p)
{
    *timing_p = plan->timing;
}

const char *plan_strategy_name(const longspan_plan *plan)
{
    return plan->names.strategy;
}

const char *plan_layout_name(const longspan_plan *plan)
{
    return plan->names.layout;
}

const char *plan_compute_name(const longspan_plan *plan)
{
    return attention_compute_name(plan->compute);
}

const step_record *plan_steps(const longspan_plan *plan, int64_t *count_p)
{
    const bool executed = plan->timing.total > 0;
    *count_p = executed ? plan->record_count : 0;
    return executed ? plan->records : NULL;
}

double plan_flops_per_pair(const longspan_problem *p)
{
    return 2.0 * p->heads * problem_pair_elements(p) * (double)p->batch;
}
