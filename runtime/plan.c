#include "runtime/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void longspan_problem_default(longspan_problem *problem_p)
{
    *problem_p = (longspan_problem){.batch = 1, .strategy = "auto", .layout = "auto"};
}

double plan_flops_per_pair(const longspan_problem *p)
{
    return 2.0 * p->heads * (p->dim + p->value_dim) * (double)p->batch;
}

static void fill_defaults(longspan_problem *p)
{
    if (p->keys == 0) p->keys = p->queries;
    if (p->kv_heads == 0) p->kv_heads = p->heads;
    if (p->value_dim == 0) p->value_dim = p->dim;
    if (p->scale == 0 && p->dim > 0) p->scale = 1 / sqrt(p->dim);
    if (!p->strategy) p->strategy = "auto";
    if (!p->layout) p->layout = "auto";
}

static bool type_is_known(longspan_type type)
{
    return type == LONGSPAN_FLOAT32 || type == LONGSPAN_FLOAT16 || type == LONGSPAN_BFLOAT16;
}

/* Pairs of tokens, and elements of all tensors together, stay in the range of int64_t. */
static const int64_t most_tokens = (int64_t)1 << 31;
static const double most_elements = 0x1p58;
enum { MOST_BATCH = 1 << 20, MOST_HEADS = 1 << 16, MOST_DIM = 512 };

static void check_sizes(const longspan_problem *p, failure *f)
{
    if (p->batch < 1 || p->batch > MOST_BATCH)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "batch is %lld, not 1 to %d", (long long)p->batch, MOST_BATCH);
    if (p->queries < 1 || p->queries > most_tokens)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "queries is %lld, not 1 to 2^31", (long long)p->queries);
    if (p->keys < 1 || p->keys > most_tokens)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "keys is %lld, not 1 to 2^31", (long long)p->keys);
    if (p->heads < 1 || p->heads > MOST_HEADS)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "heads is %d, not 1 to %d", p->heads, MOST_HEADS);
    if (p->kv_heads < 1 || (p->heads > 0 && p->heads % p->kv_heads != 0))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "heads %d is not a multiple of kv_heads %d", p->heads, p->kv_heads);
    if (p->dim < 1 || p->dim > MOST_DIM)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "dim is %d, not 1 to %d", p->dim, MOST_DIM);
    if (p->value_dim < 1 || p->value_dim > MOST_DIM)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "value_dim is %d, not 1 to %d", p->value_dim, MOST_DIM);
    if (!type_is_known(p->type) || !type_is_known(p->out_type))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "type or out_type is not one of longspan_type");
    if (!isfinite(p->scale)) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "scale is not finite");
    const double tokens = (double)p->batch * (double)(p->queries > p->keys ? p->queries : p->keys);
    if (tokens * p->heads * MOST_DIM > most_elements)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for %.3g tokens of %d heads", tokens, p->heads);
}

static void check_documents(const longspan_problem *p, failure *f)
{
    if (!p->documents) {
        if (p->document_count != 0)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "document_count is %lld but documents is NULL",
                        (long long)p->document_count);
        return;
    }
    if (p->queries != p->keys) {
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "documents need as many queries as keys, but there are %lld queries and %lld keys",
                    (long long)p->queries, (long long)p->keys);
        return;
    }
    if (p->document_count < 1) {
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "document_count is %lld, not positive", (long long)p->document_count);
        return;
    }
    if (p->documents[0] != 0 || p->documents[p->document_count] != p->queries)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "documents run from %lld to %lld, not from 0 to %lld",
                    (long long)p->documents[0], (long long)p->documents[p->document_count], (long long)p->queries);
    for (int64_t d = 0; d < p->document_count; d++)
        if (p->documents[d] > p->documents[d + 1]) {
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "documents[%lld] = %lld is above documents[%lld] = %lld",
                        (long long)d, (long long)p->documents[d], (long long)d + 1, (long long)p->documents[d + 1]);
            return;
        }
}

static layout make_layout(layout_kind kind, int64_t tokens, int ranks)
{
    return (layout){kind, tokens, layout_default_grain(kind, tokens, ranks), ranks};
}

longspan_status plan_choose(longspan_problem *p, int ranks, schedule_problem *scheduled_p, const strategy **strategy_p,
                            failure *f)
{
    fill_defaults(p);
    check_sizes(p, f);
    check_documents(p, f);

    /* Under a causal mask a contiguous last rank has (2P - 1) times the work of the first; zigzag is even. */
    layout_kind kind = p->causal ? LAYOUT_ZIGZAG : LAYOUT_CONTIGUOUS;
    if (strcmp(p->layout, "auto") != 0 && !layout_from_name(p->layout, &kind))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "layout '%s' is not known", p->layout);

    /* The ring needs two shards of memory whatever P is; gather saves P - 2 waits and needs the whole of k and v. */
    const strategy *chosen = strategy_find(strcmp(p->strategy, "auto") == 0 ? "ring" : p->strategy);
    if (!chosen) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "strategy '%s' is not known", p->strategy);
    if (f->status != LONGSPAN_OK) return f->status;

    schedule_problem scheduled = {
        .mask = {.queries = p->queries,
                 .keys = p->keys,
                 .causal = p->causal != 0,
                 .documents = p->documents,
                 .document_count = p->document_count},
        .query_layout = make_layout(kind, p->queries, ranks),
        .key_layout = make_layout(kind, p->keys, ranks),
    };
    const char *refusal = chosen->refuse(&scheduled);
    if (refusal) return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "strategy '%s': %s", chosen->name, refusal);
    *scheduled_p = scheduled;
    *strategy_p = chosen;
    return LONGSPAN_OK;
}

static longspan_status check_equal(longspan_context *context, const longspan_problem *p, failure *f)
{
    const agreement_value equal[] = {
        {"batch", p->batch},
        {"queries", p->queries},
        {"keys", p->keys},
        {"heads", p->heads},
        {"kv_heads", p->kv_heads},
        {"dim", p->dim},
        {"value_dim", p->value_dim},
        {"type", p->type},
        {"out_type", p->out_type},
        {"causal", p->causal != 0},
        {"scale", agreement_bits(p->scale)},
        {"strategy", agreement_hash_text(p->strategy)},
        {"layout", agreement_hash_text(p->layout)},
        {"document_count", p->document_count},
        {"documents",
         p->documents && p->document_count > 0 ? agreement_hash_integers(p->documents, p->document_count + 1) : 0},
    };
    int rank;
    longspan_status status = agreement_check_equal(context->comm, equal, sizeof equal / sizeof *equal, f, &rank);
    if (status != LONGSPAN_OK) {
        context->last = *f;
        context->error_rank = rank;
    }
    return status;
}

/* malloc on a cache line, for `count` elements of `size` bytes; a failure when there is no room. */
static void *allocate(int64_t count, size_t size, const char *what, failure *f)
{
    size_t bytes = 0;
    void *memory = NULL;
    if (!__builtin_mul_overflow((size_t)count, size, &bytes) && bytes <= SIZE_MAX - 64)
        memory = aligned_alloc(64, bytes / 64 * 64 + 64);
    if (!memory)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for %s: %.1f MiB", what,
                    (double)count * (double)size / 1048576);
    return memory;
}

static bool looks_inside(const schedule *s)
{
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t j = 0; j < s->steps[i].fold_count; j++)
            if (s->steps[i].folds[j].look_inside) return true;
    return false;
}

/* The key range that each local query sees. */
static void fill_visible(longspan_plan *plan)
{
    const layout *l = &plan->scheduled.query_layout;
    int rank = plan->context->rank;
    int64_t row = 0;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, rank); i++) {
        range chunk = layout_chunk(l, layout_rank_chunk(l, rank, i));
        for (int64_t token = chunk.begin; token < chunk.end; token++, row++) {
            range seen = mask_row(&plan->scheduled.mask, token);
            plan->visible_begin[row] = seen.begin;
            plan->visible_end[row] = seen.end;
        }
    }
}

/* Everything that execute needs and that its size decides. Failures go to *f; the plan may be half filled. */
static void allocate_buffers(longspan_plan *plan, failure *f)
{
    const longspan_problem *p = &plan->problem;
    const schedule *s = plan->schedule;
    size_t element = number_size((kernel_type)p->type);
    size_t k_bytes = (size_t)p->kv_heads * (size_t)p->dim * element;
    size_t v_bytes = (size_t)p->kv_heads * (size_t)p->value_dim * element;
    int64_t rows = p->batch * plan->query_tokens * p->heads;

    plan->state.o = allocate(rows * p->value_dim, sizeof(float), "the attention state", f);
    plan->state.m = allocate(rows, sizeof(float), "the attention state", f);
    plan->state.l = allocate(rows, sizeof(float), "the attention state", f);
    for (int slot = 0; slot < SCHEDULE_MAX_SLOTS; slot++) {
        plan->slots[slot].rows = s->slot_tokens[slot];
        if (s->slot_tokens[slot] == 0) continue;
        plan->slots[slot].k = allocate(p->batch * s->slot_tokens[slot], k_bytes, "keys from other ranks", f);
        plan->slots[slot].v = allocate(p->batch * s->slot_tokens[slot], v_bytes, "values from other ranks", f);
    }
    if (looks_inside(s)) {
        plan->visible_begin = allocate(plan->query_tokens, sizeof(int64_t), "the mask", f);
        plan->visible_end = allocate(plan->query_tokens, sizeof(int64_t), "the mask", f);
        if (plan->visible_begin && plan->visible_end) fill_visible(plan);
    }
    int64_t most_folds = 1;
    for (int64_t i = 0; i < s->step_count; i++)
        if (s->steps[i].fold_count > most_folds) most_folds = s->steps[i].fold_count;
    plan->spans = allocate(p->batch * most_folds, sizeof *plan->spans, "the folds of a step", f);
    plan->segments = allocate(p->batch * most_folds, sizeof *plan->segments, "the folds of a step", f);
    plan->workspace = allocate(1, attention_workspace_size(plan->context->threads, p->dim, p->value_dim),
                               "the kernel's workspace", f);
    plan->exchange = exchange_create(plan->context->comm, s, p->batch, k_bytes, v_bytes, plan->context->stall_seconds);
    if (!plan->exchange) failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the exchange");
}

static int64_t count_pairs(const schedule *s, const mask *m)
{
    int64_t pairs = 0;
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t j = 0; j < s->steps[i].fold_count; j++)
            pairs += mask_pairs(m, s->steps[i].folds[j].queries, s->steps[i].folds[j].keys);
    return pairs;
}

/* Local part of longspan_plan_create: everything after the arguments were found equal. */
static longspan_plan *build(longspan_context *context, const longspan_problem *problem, failure *f)
{
    longspan_plan *plan = calloc(1, sizeof *plan);
    if (!plan) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for a plan");
        return NULL;
    }
    plan->context = context;
    plan->problem = *problem;
    if (plan_choose(&plan->problem, context->ranks, &plan->scheduled, &plan->strategy, f) != LONGSPAN_OK) return plan;
    if (problem->documents) {
        plan->documents = allocate(problem->document_count + 1, sizeof(int64_t), "the document offsets", f);
        if (!plan->documents) return plan;
        memcpy(plan->documents, problem->documents, (size_t)(problem->document_count + 1) * sizeof(int64_t));
        plan->problem.documents = plan->scheduled.mask.documents = plan->documents;
    }
    if (plan->strategy->plan(&plan->scheduled, context->rank, &plan->schedule) != 0) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the schedule");
        return plan;
    }
    /* The names may be the caller's strings: keep our own. */
    plan->problem.strategy = plan->strategy->name;
    plan->problem.layout = layout_name(plan->scheduled.query_layout.kind);
    plan->query_tokens = layout_rank_tokens(&plan->scheduled.query_layout, context->rank);
    plan->key_tokens = layout_rank_tokens(&plan->scheduled.key_layout, context->rank);
    plan->pairs = count_pairs(plan->schedule, &plan->scheduled.mask);
    allocate_buffers(plan, f);
    return plan;
}

longspan_status longspan_plan_create(longspan_context *context, const longspan_problem *problem, longspan_plan **plan_p)
{
    *plan_p = NULL;
    failure f = {0};
    if (check_equal(context, problem, &f) != LONGSPAN_OK) return f.status;
    longspan_plan *plan = build(context, problem, &f);
    if (context_agree(context, &f) != LONGSPAN_OK) {
        longspan_plan_destroy(&plan);
        return f.status;
    }
    *plan_p = plan;
    return LONGSPAN_OK;
}

void longspan_plan_destroy(longspan_plan **plan_p)
{
    if (!plan_p || !*plan_p) return;
    longspan_plan *plan = *plan_p;
    exchange_destroy(plan->exchange);
    schedule_destroy(plan->schedule);
    for (int slot = 0; slot < SCHEDULE_MAX_SLOTS; slot++) {
        free(plan->slots[slot].k);
        free(plan->slots[slot].v);
    }
    free(plan->state.o);
    free(plan->state.m);
    free(plan->state.l);
    free(plan->visible_begin);
    free(plan->visible_end);
    free(plan->spans);
    free(plan->segments);
    free(plan->workspace);
    free(plan->documents);
    free(plan);
    *plan_p = NULL;
}

longspan_status longspan_plan_rows(const longspan_plan *plan, longspan_axis axis, longspan_range *ranges,
                                   int64_t capacity, int64_t *count_p)
{
    if (axis != LONGSPAN_QUERIES && axis != LONGSPAN_KEYS) return LONGSPAN_ERROR_ARGUMENT;
    if (capacity < 0 || (capacity > 0 && !ranges) || !count_p) return LONGSPAN_ERROR_ARGUMENT;
    const layout *l = axis == LONGSPAN_QUERIES ? &plan->scheduled.query_layout : &plan->scheduled.key_layout;
    int rank = plan->context->rank;
    int64_t count = 0;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, rank); i++) {
        range chunk = layout_chunk(l, layout_rank_chunk(l, rank, i));
        if (range_is_empty(chunk)) continue;
        if (count < capacity) ranges[count] = (longspan_range){chunk.begin, chunk.end};
        count++;
    }
    *count_p = count;
    return LONGSPAN_OK;
}

int64_t longspan_plan_tokens(const longspan_plan *plan, longspan_axis axis)
{
    return axis == LONGSPAN_QUERIES ? plan->query_tokens : plan->key_tokens;
}

void longspan_plan_timing(const longspan_plan *plan, longspan_timing *timing_p)
{
    *timing_p = plan->timing;
}

const char *plan_strategy_name(const longspan_plan *plan)
{
    return plan->strategy->name;
}

const char *plan_layout_name(const longspan_plan *plan)
{
    return layout_name(plan->scheduled.query_layout.kind);
}
