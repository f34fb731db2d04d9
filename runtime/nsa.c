/* Native sparse attention as three branches of what there is, and a sum:
 *
 *     out_i = g0 attention(q_i, pooled keys, pooled values) + g1 attention(q_i, selected blocks) + g2 attention(q_i,
 * window)
 *
 * with gates g of every query and head, the caller's. Yuan et al., arXiv 2502.11089, equation (5). Blocks are pooled by
 * the mean: the paper's learned map is the caller's. Pooled keys and values are few, M / STRIDE, and every rank gets
 * all of them: it selects by them and folds them by itself. The other two branches are plans. */
#include "runtime/nsa.h"

#include "runtime/plan.h"
#include "runtime/problem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GATES = 3 };

struct longspan_nsa {
    longspan_context *context;
    longspan_problem problem; /* with its defaults; no arrays */
    char pattern[64];         /* of the selected blocks */
    nsa_sizes sizes;
    longspan_selection *selection;
    longspan_plan *selected, *window;
    int64_t tokens, pooled; /* T; pooled blocks */
    block_means values;     /* stretches of v */
    float *stretches, *pooled_k, *pooled_v;
    const float *q_read; /* q as float32: the caller's, or `q` */
    float *q, *branch, *sum;
    attention_state state;
    int64_t *visible_begin, *visible_end;
    void *workspace;
    longspan_timing timing;
};

nsa_sizes nsa_sizes_of(const pattern_choice *choice)
{
    const range *n = choice->items;
    return (nsa_sizes){n[0].begin, n[1].begin, n[2].begin, n[3].begin, n[4].begin};
}

longspan_status nsa_check(const longspan_problem *p, failure *f)
{
    const char *part = NULL;
    if (!p->causal)
        return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                           "pattern 'nsa' needs a causal mask: it looks at blocks before");
    if (p->prefix > 0) part = "a prefix";
    if (p->window_left >= 0 || p->window_right >= 0) part = "a window in the mask: it has its own";
    if (p->chunk > 0) part = "chunks";
    if (p->documents) part = "packed documents";
    if (p->rope_dim > 0) part = "RoPE: turn q and k before, it pools them as they are";
    if (p->alibi_slopes) part = "ALiBi slopes: pooled keys have no position";
    if (p->sinks) part = "sinks: it has three sums of exponentials";
    if (p->softcap > 0) part = "a softcap";
    if (part) failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern 'nsa' with %s", part);
    return f->status;
}

int64_t nsa_pooled_count(const nsa_sizes *sizes, int64_t keys)
{
    return keys < sizes->length ? 0 : (keys - sizes->length) / sizes->stride + 1;
}

int64_t nsa_pooled_seen(const nsa_sizes *sizes, int64_t keys, int64_t position)
{
    return position < 0 ? 0 : nsa_pooled_count(sizes, position < keys ? position + 1 : keys);
}

void nsa_pool(const nsa_sizes *sizes, const float *stretches, int64_t count, int64_t width, float *pooled)
{
    const int64_t parts = sizes->length / sizes->stride;
    for (int64_t c = 0; c < count; c++)
        for (int64_t i = 0; i < width; i++) {
            double sum = 0;
            for (int64_t n = 0; n < parts; n++) sum += (double)stretches[(c + n) * width + i];
            pooled[c * width + i] = (float)(sum / (double)parts);
        }
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void allocate(longspan_nsa *n, failure *f)
{
    const longspan_problem *p = &n->problem;
    const int64_t rows = n->tokens * p->heads, pooled = n->pooled * p->kv_heads;
    const int64_t stretches = (p->keys - 1) / n->sizes.stride + 1, widest = larger(p->dim, p->value_dim);
    const char *what = "the branches of native sparse attention";
    n->stretches = plan_allocate(stretches * p->kv_heads * widest, sizeof(float), what, f);
    n->pooled_k = plan_allocate(pooled * p->dim, sizeof(float), what, f);
    n->pooled_v = plan_allocate(pooled * p->value_dim, sizeof(float), what, f);
    n->branch = plan_allocate(rows * p->value_dim, sizeof(float), what, f);
    n->sum = plan_allocate(rows * p->value_dim, sizeof(float), what, f);
    if (p->type != LONGSPAN_FLOAT32) n->q = plan_allocate(rows * p->dim, sizeof(float), what, f);
    n->state.o = plan_allocate(rows * p->value_dim, sizeof(float), what, f);
    n->state.m = plan_allocate(rows, sizeof(float), what, f);
    n->state.l = plan_allocate(rows, sizeof(float), what, f);
    n->visible_begin = plan_allocate(n->tokens, sizeof(int64_t), what, f);
    n->visible_end = plan_allocate(n->tokens, sizeof(int64_t), what, f);
    n->workspace = plan_allocate(1, attention_workspace_size(n->context->threads, p->dim, p->value_dim), what, f);
    if (!block_means_create(&n->values, n->context, p->keys, n->sizes.stride, (int64_t)p->kv_heads * p->value_dim))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the means of values");
}

/* The problem of a branch: softmax attention with float32 results, in contiguous layouts. */
static longspan_problem branch_of(const longspan_nsa *n)
{
    longspan_problem p = n->problem;
    p.out_type = LONGSPAN_FLOAT32;
    p.pattern = NULL;
    p.strategy = "auto";
    p.layout = "contiguous";
    return p;
}

/* Collective. Pools k, selects by it, and plans; agrees on *f. */
static void select_and_plan(longspan_nsa *n, const void *q, const void *k, failure *f)
{
    const longspan_problem *p = &n->problem;
    longspan_problem selected = branch_of(n), window = branch_of(n);
    selected.pattern = n->pattern;
    window.window_left = n->sizes.window - 1;
    window.strategy = "gather";
    block_means keys;
    const int64_t width = (int64_t)p->kv_heads * p->dim;
    if (!block_means_create(&keys, n->context, p->keys, n->sizes.stride, width))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the means of keys");
    float *lanes = plan_allocate(block_means_stride(n->pooled) * width, sizeof *lanes, "the pooled keys", f);
    if (context_agree(n->context, f) == LONGSPAN_OK) {
        memset(lanes, 0, (size_t)(block_means_stride(n->pooled) * width) * sizeof *lanes);
        block_means_gather(&keys, (kernel_type)p->type, k, n->stretches);
        nsa_pool(&n->sizes, n->stretches, n->pooled, width, n->pooled_k);
        block_means_lay_out(n->pooled_k, n->pooled, p->kv_heads, p->dim, lanes);
        n->selection = nsa_select(n->context, &selected, &n->sizes, q, lanes, f);
        context_agree(n->context, f);
    }
    free(lanes);
    block_means_free(&keys);
    selected.selection = n->selection;
    if (f->status == LONGSPAN_OK) f->status = longspan_plan_create(n->context, &selected, &n->selected);
    if (f->status == LONGSPAN_OK) f->status = longspan_plan_create(n->context, &window, &n->window);
}

longspan_status longspan_nsa_create(longspan_context *context, const longspan_problem *problem, const void *q,
                                    const void *k, longspan_nsa **nsa_p)
{
    failure f = {0};
    longspan_problem p;
    pattern_choice choice;
    *nsa_p = NULL;
    if (selection_begin(context, problem, &p, &choice, &f) != LONGSPAN_OK) return f.status;
    if (strcmp(choice.kind->name, "nsa") != 0)
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "pattern '%s' is not nsa", choice.kind->name);
    const longspan_range queries = longspan_selection_tokens(context, &p, LONGSPAN_QUERIES);
    const longspan_range keys = longspan_selection_tokens(context, &p, LONGSPAN_KEYS);
    if ((queries.begin < queries.end && !q) || (keys.begin < keys.end && !k))
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "q or k is NULL on a rank that has some");
    longspan_nsa *n = calloc(1, sizeof *n);
    if (!n) failure_set(&f, LONGSPAN_ERROR_MEMORY, "no memory for native sparse attention");
    if (n) {
        n->context = context;
        n->problem = p;
        n->sizes = nsa_sizes_of(&choice);
        n->pooled = nsa_pooled_count(&n->sizes, p.keys);
        n->tokens = queries.end - queries.begin;
        snprintf(n->pattern, sizeof n->pattern, "selected:%lld", (long long)n->sizes.block);
        allocate(n, &f);
    }
    if (context_agree(context, &f) == LONGSPAN_OK) select_and_plan(n, q, k, &f);
    if (f.status != LONGSPAN_OK) {
        longspan_nsa_destroy(&n);
        return f.status;
    }
    const int64_t shift = queries.begin + p.keys - p.queries;
    for (int64_t t = 0; t < n->tokens; t++) {
        n->visible_begin[t] = 0;
        n->visible_end[t] = nsa_pooled_seen(&n->sizes, p.keys, t + shift);
    }
    n->problem.pattern = NULL; /* the caller's */
    n->problem.strategy = n->problem.layout = NULL;
    *nsa_p = n;
    return LONGSPAN_OK;
}

void longspan_nsa_destroy(longspan_nsa **nsa_p)
{
    if (!nsa_p || !*nsa_p) return;
    longspan_nsa *n = *nsa_p;
    longspan_plan_destroy(&n->selected);
    longspan_plan_destroy(&n->window);
    longspan_selection_destroy(&n->selection);
    block_means_free(&n->values);
    void *const arrays[] = {n->stretches, n->pooled_k,      n->pooled_v,    n->q,
                            n->branch,    n->sum,           n->state.o,     n->state.m,
                            n->state.l,   n->visible_begin, n->visible_end, n->workspace};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    free(n);
    *nsa_p = NULL;
}

const longspan_selection *longspan_nsa_selection(const longspan_nsa *nsa)
{
    return nsa->selection;
}

void longspan_nsa_timing(const longspan_nsa *nsa, longspan_timing *timing_p)
{
    *timing_p = nsa->timing;
}

static double pooled_flops(const longspan_nsa *n)
{
    const longspan_problem *p = &n->problem;
    double pairs = 0;
    for (int64_t t = 0; t < n->tokens; t++) pairs += (double)n->visible_end[t];
    return 2.0 * (p->dim + p->value_dim) * p->heads * pairs;
}

double nsa_flops(const longspan_nsa *nsa)
{
    return pooled_flops(nsa) + nsa->selected->flops + nsa->window->flops;
}

const char *nsa_compute_name(const longspan_nsa *nsa)
{
    return plan_compute_name(nsa->selected);
}

/* The first branch: this rank's queries against all pooled keys. */
static void fold_pooled(longspan_nsa *n)
{
    const longspan_problem *p = &n->problem;
    const attention_segment segment = {.k = n->pooled_k,
                                       .v = n->pooled_v,
                                       .k_token_stride = (int64_t)p->kv_heads * p->dim,
                                       .k_head_stride = p->dim,
                                       .v_token_stride = (int64_t)p->kv_heads * p->value_dim,
                                       .v_head_stride = p->value_dim,
                                       .end = n->pooled,
                                       .look_inside = true};
    const attention_span span = {.q = n->q_read,
                                 .q_token_stride = (int64_t)p->heads * p->dim,
                                 .q_head_stride = p->dim,
                                 .tokens = n->tokens,
                                 .state = n->state,
                                 .visible_begin = n->visible_begin,
                                 .visible_end = n->visible_end,
                                 .segments = &segment,
                                 .segment_count = 1};
    const attention_call call = {.type = KERNEL_FLOAT32,
                                 .heads = p->heads,
                                 .kv_heads = p->kv_heads,
                                 .dim = p->dim,
                                 .value_dim = p->value_dim,
                                 .scale = (float)p->scale,
                                 .threads = n->context->threads,
                                 .workspace = n->workspace};
    attention_state_clear(n->state, n->tokens * p->heads, p->value_dim);
    if (n->pooled > 0 && n->tokens > 0) n->context->kernel->fold(&call, &span, 1);
    attention_state_finish(n->state, n->tokens * p->heads, p->value_dim, KERNEL_FLOAT32, n->branch, NULL,
                           n->context->threads);
}

/* sum = gate * branch, or += where it is not the first. */
static void add_branch(longspan_nsa *n, const float *gates, int branch)
{
    const int64_t rows = n->tokens * n->problem.heads, width = n->problem.value_dim;
#pragma omp parallel for num_threads(n->context->threads) if (rows > 64)
    for (int64_t row = 0; row < rows; row++) {
        const float gate = gates[row * GATES + branch];
        const float *from = n->branch + row * width;
        float *to = n->sum + row * width;
        for (int64_t e = 0; e < width; e++) to[e] = gate * from[e] + (branch > 0 ? to[e] : 0);
    }
}

static void add_timing(longspan_timing *sum, const longspan_plan *plan)
{
    longspan_timing t;
    longspan_plan_timing(plan, &t);
    sum->compute += t.compute;
    sum->wait += t.wait;
    sum->finish += t.finish;
    sum->transfer += t.transfer;
    sum->flops += t.flops;
    sum->bytes_sent += t.bytes_sent;
    sum->bytes_received += t.bytes_received;
    sum->messages_sent += t.messages_sent;
    sum->steps += t.steps;
}

longspan_status longspan_nsa_execute(longspan_nsa *n, const void *q, const void *k, const void *v, const float *gates,
                                     void *out)
{
    failure f = {0};
    const longspan_problem *p = &n->problem;
    const double begin = MPI_Wtime();
    if (n->tokens > 0 && (!q || !gates || !out))
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "q, gates or out is NULL on a rank that has queries");
    if (longspan_plan_tokens(n->selected, LONGSPAN_KEYS) > 0 && (!k || !v))
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "k or v is NULL on a rank that has keys");
    if (context_agree(n->context, &f) != LONGSPAN_OK) return f.status;
    n->timing = (longspan_timing){.flops = pooled_flops(n), .steps = 1};

    const int64_t width = (int64_t)p->kv_heads * p->value_dim;
    block_means_gather(&n->values, (kernel_type)p->type, v, n->stretches);
    nsa_pool(&n->sizes, n->stretches, n->pooled, width, n->pooled_v);
    n->timing.wait = MPI_Wtime() - begin;
    n->q_read = p->type == LONGSPAN_FLOAT32 ? q : n->q;
    if (p->type != LONGSPAN_FLOAT32) number_widen((kernel_type)p->type, q, n->q, n->tokens * p->heads * p->dim);
    fold_pooled(n);
    add_branch(n, gates, 0);
    n->timing.compute = MPI_Wtime() - begin - n->timing.wait;
    longspan_plan *const plans[] = {n->selected, n->window};
    for (int i = 0; i < 2; i++) {
        const longspan_status status = longspan_plan_execute(plans[i], q, k, v, n->branch, NULL);
        if (status != LONGSPAN_OK) return status;
        add_branch(n, gates, 1 + i);
        add_timing(&n->timing, plans[i]);
    }
    number_narrow((kernel_type)p->out_type, n->sum, out, n->tokens * p->heads * p->value_dim);
    n->timing.total = MPI_Wtime() - begin;
    return LONGSPAN_OK;
}
