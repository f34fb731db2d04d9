#include "tests/runtime/linear_case.h"

#include "kernels/linear.h"
#include "kernels/linear_reference.h"
#include "tests/runtime/problem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Follow those of tests/runtime/problem.h. */
enum { MADE_DECAY = TENSOR_V + 1, MADE_HARD, MADE_BETA, MADE_HEAD_DECAY, MADE_BONUS, MADE_FEATURES };

linear_case linear_case_make(const char *attention, int64_t tokens)
{
    linear_case c = {.seed = 20261125};
    longspan_linear_problem_default(&c.problem);
    c.problem.attention = attention;
    c.problem.tokens = tokens;
    c.problem.batch = 2;
    c.problem.heads = c.problem.k_heads = 2;
    c.problem.v_heads = 4;
    c.problem.dim = 12;
    c.problem.value_dim = 10;
    if (strcmp(attention, "favor") == 0) c.problem.feature_count = 20;
    return c;
}

static void *room(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    if (!memory) abort();
    return memory;
}

/* [B, N, heads, dim], also as the library sees it. */
static float *make_tensor(const linear_data *d, tensor which, int heads, int dim, double factor, void **stored_p)
{
    const longspan_linear_problem *p = &d->problem;
    const int64_t count = p->batch * p->tokens * heads * dim;
    float *wide = room(count, sizeof *wide), *at = wide;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t i = 0; i < p->tokens; i++)
            for (int h = 0; h < heads; h++)
                for (int e = 0; e < dim; e++)
                    *at++ = (float)(factor * made_number(d->source.seed, (int)which, b, i, h, e));
    *stored_p = room(count, number_size((kernel_type)p->type));
    number_narrow((kernel_type)p->type, wide, *stored_p, count);
    number_widen((kernel_type)p->type, *stored_p, wide, count);
    return wide;
}

static float made_decay(const linear_case *c, int64_t b, int64_t token, int head, int element)
{
    const double number = fabs(made_number(c->seed, MADE_DECAY, b, token, head, element));
    if (!c->hard_decays) return (float)(-0.02 * number);
    const double hard = made_number(c->seed, MADE_HARD, b, token, head, element);
    if (hard > 1.6) return -INFINITY;
    return (float)(hard > 0.5 ? -5 - 40 * number : -0.1 * number);
}

static float *make_decays(const linear_data *d, int dim)
{
    const longspan_linear_problem *p = &d->problem;
    float *decays = room(p->batch * p->tokens * d->heads * dim, sizeof *decays), *at = decays;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t i = 0; i < p->tokens; i++)
            for (int h = 0; h < d->heads; h++)
                for (int e = 0; e < dim; e++) *at++ = made_decay(&d->source, b, i, h, e);
    return decays;
}

/* Between 0 and 1. */
static float *make_betas(const linear_data *d)
{
    const longspan_linear_problem *p = &d->problem;
    float *betas = room(p->batch * p->tokens * d->heads, sizeof *betas), *at = betas;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t i = 0; i < p->tokens; i++)
            for (int h = 0; h < d->heads; h++)
                *at++ = (float)(1 / (1 + exp(-made_number(d->source.seed, MADE_BETA, b, i, h, 0))));
    return betas;
}

static float *make_rows(const linear_data *d, int which, int rows, int dim)
{
    float *made = room((int64_t)rows * dim, sizeof *made);
    for (int r = 0; r < rows; r++)
        for (int e = 0; e < dim; e++) made[r * dim + e] = (float)made_number(d->source.seed, which, 0, 0, r, e);
    return made;
}

static int columns_of(const linear_data *d)
{
    return d->source.columns ? d->source.columns : d->problem.value_dim;
}

/* The oracle's head, and room for its state. */
static linear_reference head_of(const linear_data *d, int head)
{
    linear_reference r = {.variant = d->problem.attention,
                          .dim = d->problem.dim,
                          .columns = columns_of(d),
                          .head = head,
                          .features = d->problem.feature_count,
                          .projections = d->features,
                          .scale = d->problem.scale};
    r.state = room((int64_t)linear_reference_size(&r), sizeof *r.state);
    return r;
}

static linear_reference_token token_of(const linear_data *d, int64_t b, int64_t i, int head)
{
    const longspan_linear_problem *p = &d->problem;
    const int64_t row = b * p->tokens + i, at = row * d->heads + head;
    const int q = head / (d->heads / p->heads), k = head / (d->heads / p->k_heads), v = head / (d->heads / p->v_heads);
    const linear_variant *variant = linear_variant_find(p->attention);
    const int decays = variant->decay == LINEAR_DECAY_FEATURE ? p->dim : 1;
    return (linear_reference_token){
        .q = d->wide_q + (row * p->heads + q) * p->dim,
        .k = d->wide_k + (row * p->k_heads + k) * p->dim,
        .v = d->wide_v + (row * p->v_heads + v) * p->value_dim,
        .log_decay = d->head_log_decay ? d->head_log_decay + head
                     : d->log_decay    ? d->log_decay + at * decays
                                       : NULL,
        .beta = d->beta ? (double)d->beta[at] : 0,
        .bonus = d->bonus ? d->bonus + head * p->dim : NULL,
    };
}

static double *out_of(const linear_data *d, int64_t b, int64_t i, int head)
{
    return d->out + ((b * d->problem.tokens + i) * d->heads + head) * columns_of(d);
}

/* One document of one head. */
static void run_document(const linear_data *d, const linear_reference *r, int64_t b, int head, int64_t begin,
                         int64_t end)
{
    memset(r->state, 0, linear_reference_size(r) * sizeof *r->state);
    for (int64_t i = begin; i < end; i++) {
        const linear_reference_token token = token_of(d, b, i, head);
        if (d->problem.causal) linear_reference_step(r, &token, out_of(d, b, i, head));
        else linear_reference_write(r, &token);
    }
    for (int64_t i = begin; !d->problem.causal && i < end; i++) {
        const linear_reference_token token = token_of(d, b, i, head);
        linear_reference_read(r, &token, out_of(d, b, i, head));
    }
}

/* The oracle has the sums of keys behind the state, a state of the library in its last column. */
static void keep_sums(const linear_data *d, const linear_reference *r, int64_t b, int head)
{
    int features, width, reference;
    linear_case_shape(d, &features, &width, &reference);
    double *sums = d->sums + (b * d->heads + head) * features * width;
    for (int f = 0; f < features; f++)
        for (int w = 0; w < width; w++)
            sums[f * width + w] = w < r->columns ? r->state[f * r->columns + w] : r->state[features * r->columns + f];
}

static void run_oracle(linear_data *d, MPI_Comm comm)
{
    int rank, ranks, features, width, reference;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    linear_case_shape(d, &features, &width, &reference);
    const longspan_linear_problem *p = &d->problem;
    const int64_t whole[] = {0, p->tokens}, *documents = p->documents ? p->documents : whole;
    const int64_t count = p->documents ? p->document_count : 1;
    for (int64_t b = 0; b < p->batch; b++)
        for (int h = 0; h < d->heads; h++) {
            if ((b * d->heads + h) % ranks != rank) continue;
            linear_reference r = head_of(d, h);
            for (int64_t i = 0; i < count; i++)
                if (documents[i] < documents[i + 1]) run_document(d, &r, b, h, documents[i], documents[i + 1]);
            if (columns_of(d) == p->value_dim) keep_sums(d, &r, b, h);
            free(r.state);
        }
    const int64_t heads = p->batch * d->heads;
    MPI_Allreduce(MPI_IN_PLACE, d->out, (int)(heads * p->tokens * columns_of(d)), MPI_DOUBLE, MPI_SUM, comm);
    MPI_Allreduce(MPI_IN_PLACE, d->sums, (int)(heads * features * width), MPI_DOUBLE, MPI_SUM, comm);
}

static void fill_problem(linear_data *d)
{
    longspan_linear_problem *p = &d->problem;
    const linear_variant *variant = linear_variant_find(p->attention);
    if (p->k_heads == 0) p->k_heads = p->heads;
    if (p->v_heads == 0) p->v_heads = p->heads;
    if (p->value_dim == 0) p->value_dim = p->dim;
    if (p->scale == 0) p->scale = variant->scaled ? 1 / sqrt(p->dim) : 1;
    d->heads = p->heads > p->k_heads ? p->heads : p->k_heads;
    if (p->v_heads > d->heads) d->heads = p->v_heads;
    if (variant->map == LINEAR_MAP_FAVOR) d->features = make_rows(d, MADE_FEATURES, p->feature_count, p->dim);
    if (variant->reads_before) d->bonus = make_rows(d, MADE_BONUS, d->heads, p->dim);
    if (variant->decay == LINEAR_DECAY_HEAD) {
        d->head_log_decay = room(d->heads, sizeof(float));
        for (int h = 0; h < d->heads; h++) d->head_log_decay[h] = made_decay(&d->source, 0, 0, h, MADE_HEAD_DECAY);
    }
    p->features = d->features;
    p->bonus = d->bonus;
    p->head_log_decay = d->head_log_decay;
}

linear_data linear_data_make(const linear_case *c, MPI_Comm comm)
{
    linear_data d = {.source = *c, .problem = c->problem};
    const longspan_linear_problem *p = &d.problem;
    const linear_variant *variant = linear_variant_find(p->attention);
    int features, width, reference;
    fill_problem(&d);
    linear_case_shape(&d, &features, &width, &reference);
    /* Of a length near 1, so that erasing does not grow. */
    const double length = variant->erases ? 0.9 / sqrt(p->dim) : 1;
    d.wide_q = make_tensor(&d, TENSOR_Q, p->heads, p->dim, 1, &d.q);
    d.wide_k = make_tensor(&d, TENSOR_K, p->k_heads, p->dim, length, &d.k);
    d.wide_v = make_tensor(&d, TENSOR_V, p->v_heads, p->value_dim, 1, &d.v);
    if (variant->decay == LINEAR_DECAY_TOKEN) d.log_decay = make_decays(&d, 1);
    if (variant->decay == LINEAR_DECAY_FEATURE) d.log_decay = make_decays(&d, p->dim);
    if (variant->has_beta) d.beta = make_betas(&d);
    d.out = room(p->batch * p->tokens * d.heads * columns_of(&d), sizeof *d.out);
    d.sums = room(p->batch * d.heads * features * width, sizeof *d.sums);
    run_oracle(&d, comm);
    return d;
}

void linear_data_free(linear_data *d)
{
    void *const all[] = {d->q,    d->k,     d->v,        d->wide_q,         d->wide_k, d->wide_v, d->log_decay,
                         d->beta, d->bonus, d->features, d->head_log_decay, d->out,    d->sums};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    *d = (linear_data){.heads = 0};
}

void linear_case_shape(const linear_data *d, int *features_p, int *width_p, int *reference_p)
{
    const linear_variant *variant = linear_variant_find(d->problem.attention);
    const int dim = d->problem.dim;
    *features_p = variant->map == LINEAR_MAP_TAYLOR  ? 1 + dim
                  : variant->map == LINEAR_MAP_FAVOR ? d->problem.feature_count
                  : variant->map == LINEAR_MAP_BASED ? 1 + dim + dim * dim
                                                     : dim;
    *width_p = d->problem.value_dim + (variant->map != LINEAR_MAP_NONE);
    *reference_p = variant->map == LINEAR_MAP_FAVOR ? 1 : variant->map == LINEAR_MAP_EFFICIENT ? dim : 0;
}

longspan_linear_state linear_case_state(const linear_data *d)
{
    int features, width, reference;
    linear_case_shape(d, &features, &width, &reference);
    const int64_t heads = d->problem.batch * d->heads;
    return (longspan_linear_state){.sums = room(heads * features * width, sizeof(double)),
                                   .reference = reference ? room(heads * reference, sizeof(double)) : NULL};
}

void linear_case_state_free(longspan_linear_state *state)
{
    free(state->sums);
    free(state->reference);
    *state = (longspan_linear_state){NULL, NULL};
}

double linear_state_rms(const linear_data *d, const longspan_linear_state *state)
{
    int features, width, dim;
    double error = 0, size = 0;
    linear_case_shape(d, &features, &width, &dim);
    for (int64_t head = 0; head < d->problem.batch * d->heads; head++)
        for (int f = 0; f < features; f++) {
            const double factor = dim ? exp(-state->reference[head * dim + (dim > 1 ? f : 0)]) : 1;
            for (int w = 0; w < width; w++) {
                const int64_t at = (head * features + f) * width + w;
                const double expected = factor * d->sums[at], difference = state->sums[at] - expected;
                error += difference * difference;
                size += expected * expected;
            }
        }
    return sqrt(error / size);
}

/* This rank's rows [begin, end) of an array [B, N, row_bytes]. */
static void *rows_of(const linear_data *d, const void *whole, size_t row_bytes, int64_t begin, int64_t end)
{
    if (!whole) return NULL;
    const size_t bytes = (size_t)(end - begin) * row_bytes;
    char *rows = room(d->problem.batch * (int64_t)bytes, 1);
    for (int64_t b = 0; b < d->problem.batch; b++)
        memcpy(rows + (size_t)b * bytes, (const char *)whole + (size_t)(b * d->problem.tokens + begin) * row_bytes,
               bytes);
    return rows;
}

/* Of one element at token i of the whole; differences go to sums[0], the oracle's squares to sums[1]. */
static void compare(double out, double expected, double sums[2], int64_t *mismatches)
{
    if (!alike(out, expected)) ++*mismatches;
    else if (isfinite(expected)) {
        sums[0] += (out - expected) * (out - expected);
        sums[1] += expected * expected;
    }
}

static void check_out(const linear_data *d, const void *out, int64_t begin, int64_t end, const linear_run *run,
                      linear_result *result)
{
    const longspan_linear_problem *p = &d->problem;
    const size_t size = number_size((kernel_type)p->out_type);
    const int dim = p->value_dim;
    double sums[2] = {0, 0};
    float row[512];
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t i = begin; i < end; i++)
            for (int h = 0; h < d->heads; h++) {
                const int64_t at = (b * (end - begin) + i - begin) * d->heads + h;
                const char *bits = (const char *)out + (size_t)(at * dim) * size;
                uint64_t hash = scramble((uint64_t)((b * p->tokens + i) * d->heads + h));
                for (size_t byte = 0; byte < (size_t)dim * size; byte++)
                    hash = scramble(hash ^ (unsigned char)bits[byte]);
                result->fingerprint += hash;
                number_widen((kernel_type)p->out_type, bits, row, dim);
                for (int e = 0; e < columns_of(d); e++)
                    compare((double)row[e], out_of(d, b, i, h)[e], sums, &result->mismatches);
            }
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, run->comm);
    MPI_Allreduce(MPI_IN_PLACE, &result->mismatches, 1, MPI_INT64_T, MPI_SUM, run->comm);
    MPI_Allreduce(MPI_IN_PLACE, &result->fingerprint, 1, MPI_UINT64_T, MPI_SUM, run->comm);
    result->relative_rms = sums[1] > 0 ? sqrt(sums[0] / sums[1]) : sqrt(sums[0]);
}

static void share_final(const linear_run *run, const longspan_linear_plan *plan, const linear_data *d)
{
    int features, width, reference;
    const int from = longspan_linear_plan_last_rank(plan);
    longspan_linear_plan_state_shape(plan, &features, &width, &reference);
    const int heads = (int)d->problem.batch * d->heads;
    MPI_Bcast(run->final->sums, heads * features * width, MPI_DOUBLE, from, run->comm);
    if (reference > 0) MPI_Bcast(run->final->reference, heads * reference, MPI_DOUBLE, from, run->comm);
}

static void execute(const linear_run *run, longspan_linear_plan *plan, const linear_data *d, int64_t offset,
                    linear_result *result)
{
    const longspan_linear_problem *p = &d->problem;
    const longspan_range rows = longspan_linear_plan_rows(plan);
    const int64_t begin = offset + rows.begin, end = offset + rows.end;
    const size_t size = number_size((kernel_type)p->type), word = sizeof(float);
    const bool of_features = linear_variant_find(p->attention)->decay == LINEAR_DECAY_FEATURE;
    const size_t decays = (size_t)d->heads * (of_features ? (size_t)p->dim : 1) * word;
    void *q = rows_of(d, d->q, (size_t)(p->heads * p->dim) * size, begin, end);
    void *k = rows_of(d, d->k, (size_t)(p->k_heads * p->dim) * size, begin, end);
    void *v = rows_of(d, d->v, (size_t)(p->v_heads * p->value_dim) * size, begin, end);
    float *log_decay = rows_of(d, d->log_decay, decays, begin, end);
    float *beta = rows_of(d, d->beta, (size_t)d->heads * word, begin, end);
    void *out = room(p->batch * (end - begin) * d->heads * p->value_dim, word);
    const longspan_linear_arrays arrays = {q, k, v, log_decay, beta, run->initial, run->final};
    result->status = longspan_linear_plan_execute(plan, &arrays, out);
    if (result->status == LONGSPAN_OK) {
        check_out(d, out, begin, end, run, result);
        if (run->final) share_final(run, plan, d);
        longspan_linear_plan_timing(plan, &result->timing);
    }
    free(q);
    free(k);
    free(v);
    free(log_decay);
    free(beta);
    free(out);
}

linear_result linear_run_case(const linear_run *run, const linear_data *d)
{
    linear_result result = {.status = LONGSPAN_OK};
    longspan_linear_plan *plan;
    longspan_linear_problem p = d->problem;
    p.strategy = run->strategy;
    if (run->end > run->begin) p.tokens = run->end - run->begin;
    result.status = longspan_linear_plan_create(run->context, &p, &plan);
    if (result.status == LONGSPAN_OK) execute(run, plan, d, run->begin, &result);
    if (result.status != LONGSPAN_OK)
        snprintf(result.text, sizeof result.text, "%s", longspan_context_error(run->context));
    longspan_linear_plan_destroy(&plan);
    return result;
}
