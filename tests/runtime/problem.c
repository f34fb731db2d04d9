#include "tests/runtime/problem.h"

#include "kernels/number.h"
#include "runtime/context.h"
#include "tests/runtime/oracle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAN_BYTE = 0xff }; /* makes a NaN of any type */

void mpi_group_begin(int *argc, char ***argv)
{
    int level, rank;
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank != 0 && !freopen("/dev/null", "w", stdout)) MPI_Abort(MPI_COMM_WORLD, 1);
}

int mpi_group_end(int failures)
{
    MPI_Finalize();
    return failures;
}

test_problem make_problem(int64_t tokens, int heads, int kv_heads, int dim)
{
    test_problem t = {.comm = MPI_COMM_WORLD, .seed = 20261120};
    longspan_problem_default(&t.problem);
    t.problem.queries = tokens;
    t.problem.heads = heads;
    t.problem.kv_heads = kv_heads;
    t.problem.dim = dim;
    return t;
}

uint64_t scramble(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

/* The sum of four uniform numbers of 16 bits each. */
double made_number(uint64_t seed, int which, int64_t b, int64_t token, int head, int element)
{
    uint64_t h = scramble(seed + (uint64_t)which);
    h = scramble(h ^ (uint64_t)b);
    h = scramble(h ^ (uint64_t)token);
    h = scramble(h ^ ((uint64_t)head << 32 | (uint64_t)element));
    double sum = 0;
    for (int i = 0; i < 4; i++) sum += (double)(h >> 16 * i & 0xffff) / 65536.0 - 0.5;
    return sum * sqrt(3.0);
}

static float made(const test_problem *t, tensor which, int64_t b, int64_t token, int head, int element)
{
    float value = (float)made_number(t->seed, (int)which, b, token, head, element) * (which == TENSOR_Q && t->q_factor != 0 ? t->q_factor : 1);
    return t->replace ? t->replace(which, b, token, head, element, value) : value;
}

/* One row of a head as the library sees it, rounded to the problem's type, in `type`'s bytes and as doubles. */
static void make_row(const test_problem *t, tensor which, int64_t b, int64_t token, int head, int dim, void *stored,
                     double *exact)
{
    float row[512] = {0}, widened[512];
    uint16_t narrow[1024] = {0};
    kernel_type type = (kernel_type)t->problem.type;
    for (int d = 0; d < dim; d++) row[d] = made(t, which, b, token, head, d);
    number_narrow(type, row, narrow, dim);
    if (stored) memcpy(stored, narrow, (size_t)dim * number_size(type));
    number_widen(type, narrow, widened, dim);
    for (int d = 0; exact && d < dim; d++) exact[d] = widened[d];
}

typedef struct {
    longspan_range *ranges;
    int64_t count, tokens;
} rows;

static rows rows_of(const longspan_plan *plan, longspan_axis axis)
{
    rows r = {NULL, 0, longspan_plan_tokens(plan, axis)};
    longspan_plan_rows(plan, axis, NULL, 0, &r.count);
    r.ranges = malloc((size_t)(r.count + 1) * sizeof *r.ranges);
    longspan_plan_rows(plan, axis, r.ranges, r.count, &r.count);
    return r;
}

static int64_t token_of(const rows *r, int64_t local)
{
    for (int64_t i = 0; i < r->count; i++) {
        int64_t length = r->ranges[i].end - r->ranges[i].begin;
        if (local < length) return r->ranges[i].begin + local;
        local -= length;
    }
    return -1;
}

static size_t tensor_bytes(const test_problem *t, const rows *r, int heads, int dim)
{
    return (size_t)(t->problem.batch * r->tokens * heads) * (size_t)dim * number_size((kernel_type)t->problem.type);
}

static void *make_tensor(const test_problem *t, tensor which, const rows *r, int heads, int dim)
{
    size_t row_bytes = (size_t)dim * number_size((kernel_type)t->problem.type);
    char *data = malloc(tensor_bytes(t, r, heads, dim) + 1), *at = data;
    for (int64_t b = 0; b < t->problem.batch; b++)
        for (int64_t i = 0; i < r->tokens; i++)
            for (int h = 0; h < heads; h++, at += row_bytes) make_row(t, which, b, token_of(r, i), h, dim, at, NULL);
    return data;
}

typedef struct {
    double error, reference, worst_lse, worst_ulps;
    int64_t mismatches;
} comparison;

bool alike(double a, double b)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    if (isinf(a) || isinf(b)) return a == b;
    return true;
}

/* Holds one row of out and lse against the oracle's. */
static void compare_row(comparison *c, const longspan_problem *p, int dim, const float *out, float lse,
                        const double *reference, double reference_lse, bool empty)
{
    static const double roundoff[] = {0x1p-24, 0x1p-11, 0x1p-8};
    double squares = 0;
    for (int e = 0; e < dim; e++) squares += reference[e] * reference[e];
    double rms = sqrt(squares / dim);
    for (int e = 0; e < dim; e++) {
        if (!alike(out[e], reference[e]) || (empty && out[e] != 0)) {
            c->mismatches++;
        } else if (isfinite(reference[e])) {
            double error = fabs(out[e] - reference[e]);
            double ulps = error == 0 ? 0 : error / (roundoff[p->out_type] * fabs(reference[e]) + 2e-6 * rms);
            c->error += error * error;
            c->reference += reference[e] * reference[e];
            if (!(ulps <= c->worst_ulps)) c->worst_ulps = ulps;
        }
    }
    if (!alike(lse, reference_lse)) c->mismatches++;
    else if (isfinite(reference_lse)) {
        double error = fabs(lse - reference_lse) / fmax(1, fabs(reference_lse));
        if (!(error <= c->worst_lse)) c->worst_lse = error;
    }
}

/* Rows of k and v of a key head, [M, D] and [M, E], the keys turned as the scores ask. */
static void make_keys(const test_problem *t, const longspan_problem *p, int64_t b, int head, double *k, double *v)
{
    for (int64_t j = 0; j < p->keys; j++) {
        make_row(t, TENSOR_K, b, j, head, p->dim, NULL, k + j * p->dim);
        make_row(t, TENSOR_V, b, j, head, p->value_dim, NULL, v + j * p->value_dim);
        oracle_rotate(p, j, k + j * p->dim);
    }
}

/* Holds this rank's rows against the oracle: all, or `checked_rows` of them, the first and the last included. */
static void compare(comparison *c, const test_problem *t, const rows *queries, const void *out, const float *lse)
{
    const longspan_problem full = oracle_defaults(&t->problem), *p = &full;
    const int group = p->heads / p->kv_heads;
    const size_t size = number_size((kernel_type)p->out_type);
    double *k = malloc((size_t)(p->keys * p->dim) * sizeof *k);
    double *v = malloc((size_t)(p->keys * p->value_dim) * sizeof *v);
    double *weights = malloc((size_t)p->keys * sizeof *weights), q[512], reference[512], reference_lse;
    float row[512];
    int64_t step = 1;
    if (t->checked_rows > 0 && queries->tokens > t->checked_rows) step = queries->tokens / t->checked_rows;
    for (int64_t b = 0; queries->tokens > 0 && b < p->batch; b++)
        for (int h = 0; h < p->heads; h++) {
            if (h % group == 0) make_keys(t, p, b, h / group, k, v);
            for (int64_t i = 0; i < queries->tokens; i++) {
                if (i % step != 0 && i != queries->tokens - 1) continue;
                const int64_t token = token_of(queries, i), at = (b * queries->tokens + i) * p->heads + h;
                make_row(t, TENSOR_Q, b, token, h, p->dim, NULL, q);
                oracle_rotate(p, token + p->keys - p->queries, q);
                const unsigned char *times = t->times ? t->times + (h * p->queries + token) * p->keys : NULL;
                const bool sees =
                    times ? oracle_row_of(p, times, b, token, h, q, k, v, weights, reference, &reference_lse)
                          : oracle_row(p, b, token, h, q, k, v, weights, reference, &reference_lse);
                number_widen((kernel_type)p->out_type, (const char *)out + (size_t)(at * p->value_dim) * size, row,
                             p->value_dim);
                compare_row(c, p, p->value_dim, row, lse[at], reference, reference_lse, !sees);
            }
        }
    free(k);
    free(v);
    free(weights);
}

/* A sum over rows of hashes of (position, bits): the order and the owner of rows do not matter. */
static uint64_t fingerprint(const longspan_problem *p, const rows *queries, const void *out, const float *lse)
{
    int value_dim = p->value_dim ? p->value_dim : p->dim;
    size_t size = (size_t)value_dim * number_size((kernel_type)p->out_type);
    uint64_t sum = 0;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t i = 0; i < queries->tokens; i++)
            for (int h = 0; h < p->heads; h++) {
                int64_t at = (b * queries->tokens + i) * p->heads + h;
                uint32_t lse_bits;
                memcpy(&lse_bits, &lse[at], sizeof lse_bits);
                uint64_t hash = scramble((uint64_t)((b * p->queries + token_of(queries, i)) * p->heads + h)) ^ lse_bits;
                for (size_t byte = 0; byte < size; byte++)
                    hash = scramble(hash ^ ((const unsigned char *)out)[(size_t)at * size + byte]);
                sum += hash;
            }
    return sum;
}

static test_result reduce(MPI_Comm comm, const comparison *c, const longspan_timing *timing, uint64_t print)
{
    test_result r = {.status = LONGSPAN_OK};
    double sums[] = {c->error, c->reference, timing->flops}, extremes[] = {c->worst_lse, c->worst_ulps};
    int64_t counts[] = {c->mismatches, timing->bytes_sent, timing->bytes_received};
    MPI_Allreduce(MPI_IN_PLACE, sums, 3, MPI_DOUBLE, MPI_SUM, comm);
    MPI_Allreduce(MPI_IN_PLACE, extremes, 2, MPI_DOUBLE, MPI_MAX, comm);
    MPI_Allreduce(MPI_IN_PLACE, counts, 3, MPI_INT64_T, MPI_SUM, comm);
    MPI_Allreduce(&print, &r.fingerprint, 1, MPI_UINT64_T, MPI_SUM, comm);
    r.relative_rms = sums[1] > 0 ? sqrt(sums[0] / sums[1]) : sqrt(sums[0]);
    r.flops = sums[2];
    r.worst_lse = extremes[0];
    r.worst_ulps = extremes[1];
    r.mismatches = counts[0];
    r.bytes_sent = counts[1];
    r.bytes_received = counts[2];
    return r;
}

longspan_context *open_context(const test_problem *t, longspan_status *status_p)
{
    longspan_context *context;
    longspan_options options;
    longspan_options_default(&options);
    options.threads = t->threads;
    if (t->compute) options.compute = t->compute;
    options.share_memory = !t->share_nothing;
    *status_p = longspan_context_create(t->comm, &options, &context);
    if (context && t->node_ranks > 0) {
        node_free(&context->node);
        node_pretend(context->comm, t->node_ranks, &context->node);
    }
    return context;
}

test_result run_plan(const test_problem *t, longspan_plan *plan)
{
    const longspan_problem p = oracle_defaults(&t->problem);
    rows queries = rows_of(plan, LONGSPAN_QUERIES), keys = rows_of(plan, LONGSPAN_KEYS);
    void *q = make_tensor(t, TENSOR_Q, &queries, p.heads, p.dim);
    void *k = make_tensor(t, TENSOR_K, &keys, p.kv_heads, p.dim);
    void *v = make_tensor(t, TENSOR_V, &keys, p.kv_heads, p.value_dim);
    size_t out_rows = (size_t)(p.batch * queries.tokens * p.heads);
    void *out = malloc(out_rows * (size_t)p.value_dim * 4 + 1), *own_k, *own_v;
    float *lse = malloc(out_rows * sizeof *lse + 1);
    longspan_plan_key_arrays(plan, &own_k, &own_v);
    const bool own = t->own_arrays && own_k && own_v;
    const size_t q_bytes = tensor_bytes(t, &queries, p.heads, p.dim);
    const size_t k_bytes = tensor_bytes(t, &keys, p.kv_heads, p.dim);
    const size_t v_bytes = tensor_bytes(t, &keys, p.kv_heads, p.value_dim);
    if (own) {
        memcpy(own_k, k, k_bytes);
        memcpy(own_v, v, v_bytes);
    }

    test_result result = {.status = longspan_plan_execute(plan, q, own ? own_k : k, own ? own_v : v, out, lse)};
    memset(q, NAN_BYTE, q_bytes);
    memset(own ? own_k : k, NAN_BYTE, k_bytes);
    memset(own ? own_v : v, NAN_BYTE, v_bytes);
    if (result.status == LONGSPAN_OK) {
        comparison c = {0};
        longspan_timing timing;
        longspan_plan_timing(plan, &timing);
        if (t->checked_rows != CHECK_NO_ROWS) compare(&c, t, &queries, out, lse);
        result = reduce(t->comm, &c, &timing, fingerprint(&p, &queries, out, lse));
    }
    free(q);
    free(k);
    free(v);
    free(out);
    free(lse);
    free(queries.ranges);
    free(keys.ranges);
    return result;
}

test_result run_problem(const test_problem *t)
{
    longspan_plan *plan = NULL;
    test_result result = {.status = LONGSPAN_OK};
    longspan_context *context = t->context ? t->context : open_context(t, &result.status);
    if (!context) return result;
    result.status = longspan_plan_create(context, &t->problem, &plan);
    if (result.status == LONGSPAN_OK) result = run_plan(t, plan);
    if (result.status != LONGSPAN_OK) snprintf(result.text, sizeof result.text, "%s", longspan_context_error(context));
    longspan_plan_destroy(&plan);
    if (!t->context) longspan_context_destroy(&context);
    return result;
}
