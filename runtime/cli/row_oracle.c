#include "runtime/cli/row_oracle.h"

#include "runtime/problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double unit = 0x1p-24;

bool oracle_arithmetic_find(const char *compute, oracle_arithmetic *arithmetic_p)
{
    /* A float32 x is split into bfloat16 parts, rounded to nearest: what is left after one is 2^-9 |x|, after two 2^-18
     * |x|, after three nothing to speak of. Weights are split by truncation: 2^-7, 2^-15. Both factors of a score lose
     * their rest, and products of rests are dropped. */
    static const struct {
        const char *name;
        oracle_arithmetic lost;
    } known[] = {
        {"fp32", {0, 0, 0}},
        {"bf16x6", {0x1p-22, 0x1p-22, 0x1p-22}},
        {"bf16x3", {0x1p-16, 0x1p-14, 0x1p-16}},
        {"bf16", {0x1p-8, 0x1p-7, 0x1p-9}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, compute) != 0) continue;
        *arithmetic_p = known[i].lost;
        return true;
    }
    return false;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static bool mask_lets(const oracle_row *row, int64_t key)
{
    const longspan_problem *p = row->problem;
    const int64_t i = row->position, j = key - row->begin;
    if (key < row->begin || key >= row->end) return false;
    if (p->causal && j > i && j >= p->prefix) return false;
    if (p->window_left >= 0 && i - j > p->window_left) return false;
    if (p->window_right >= 0 && j - i > p->window_right) return false;
    if (p->chunk <= 0) return true;
    const int64_t ahead = floor_divide(j, p->chunk) - floor_divide(i, p->chunk);
    return (p->chunks_left < 0 || -ahead <= p->chunks_left) && (p->chunks_right < 0 || ahead <= p->chunks_right);
}

static bool is_listed(const oracle_row *row, int list, int64_t key)
{
    return row->selected[list * row->words + key / 64] >> (key % 64) & 1;
}

bool oracle_any_sees(const oracle_row *row, int64_t key)
{
    if (!mask_lets(row, key)) return false;
    if (!row->selected) return !row->allowed || pattern_oracle_sees(row->allowed, key);
    for (int list = 0; list < row->lists; list++)
        if (is_listed(row, list, key)) return true;
    return false;
}

int oracle_times(const oracle_row *row, int head, int64_t key)
{
    const longspan_problem *p = row->problem;
    if (!mask_lets(row, key)) return 0;
    if (!row->selected) return row->allowed ? pattern_oracle_times(row->allowed, head, key) : 1;
    return is_listed(row, row->lists == 1 ? 0 : head / (p->heads / row->lists), key);
}

oracle_row oracle_row_make(const longspan_problem *problem, oracle_arithmetic arithmetic, int64_t batch_item,
                           int64_t query)
{
    oracle_row row = {
        .problem = problem,
        .arithmetic = arithmetic,
        .end = problem->keys,
        .position = query + (problem->keys - problem->queries),
    };
    for (int64_t d = 0; d < problem->document_count; d++) {
        if (query < problem->documents[d] || query >= problem->documents[d + 1]) continue;
        row.begin = problem->documents[d];
        row.end = problem->documents[d + 1];
        row.position = query - row.begin;
    }
    if (problem->pattern) {
        const pattern_query of = {query, row.begin, row.end, row.position};
        row.allowed = pattern_oracle_create(problem, &of);
    }
    if (problem->key_lengths && problem->key_lengths[batch_item] < row.end) row.end = problem->key_lengths[batch_item];
    if (problem->relative_keys) { /* which have been checked to have sides */
        failure none = {0};
        problem_relative_sides(problem, &row.relative_left, &row.relative_right, &none);
    }
    for (int64_t key = 0; key < problem->keys; key++) row.seen += oracle_any_sees(&row, key);
    if (row.allowed) row.seen *= pattern_oracle_most(row.allowed);
    return row;
}

void oracle_row_free(oracle_row *row)
{
    pattern_oracle_destroy(row->allowed);
    free(row->selected);
    row->allowed = NULL;
    row->selected = NULL;
}

bool oracle_row_select(oracle_row *row, int64_t size, int lists, int64_t most, const int32_t *blocks)
{
    const int64_t keys = row->problem->keys;
    free(row->selected);
    row->lists = lists;
    row->words = keys / 64 + 1;
    row->selected = calloc((size_t)(row->words * lists), sizeof *row->selected);
    row->seen = 0;
    for (int list = 0; list < lists && row->selected; list++) {
        uint64_t *selected = row->selected + list * row->words;
        int64_t seen = 0;
        for (int64_t i = 0; i < most; i++)
            for (int64_t j = blocks[list * most + i] * size; j >= 0 && j < keys && j / size == blocks[list * most + i]; j++)
                selected[j / 64] |= UINT64_C(1) << j % 64;
        for (int64_t j = 0; j < keys; j++) seen += mask_lets(row, j) && is_listed(row, list, j);
        if (seen > row->seen) row->seen = seen;
    }
    return row->selected != NULL;
}

/* Elements of pair c. */
static void pair_places(const longspan_problem *p, int c, int *first_p, int *second_p)
{
    *first_p = p->rope_interleaved ? 2 * c : c;
    *second_p = p->rope_interleaved ? 2 * c + 1 : c + p->rope_dim / 2;
}

void oracle_turn(const longspan_problem *p, int64_t position, int heads, double *x)
{
    for (int c = 0; c < p->rope_dim / 2; c++) {
        const double angle = (double)position * pow(p->rope_base, -2.0 * c / p->rope_dim);
        const double cosine = cos(angle), sine = sin(angle);
        int first, second;
        pair_places(p, c, &first, &second);
        for (int h = 0; h < heads; h++) {
            double *row = x + (int64_t)h * p->dim;
            const double a = row[first], b = row[second];
            row[first] = a * cosine - b * sine;
            row[second] = a * sine + b * cosine;
        }
    }
}

/* a_j / |scale| */
static double magnitude(const longspan_problem *p, const double *q, const double *k)
{
    double sum = 0;
    for (int c = 0; c < p->rope_dim / 2; c++) {
        int first, second;
        pair_places(p, c, &first, &second);
        sum += (fabs(q[first]) + fabs(q[second])) * (fabs(k[first]) + fabs(k[second]));
    }
    for (int d = p->rope_dim; d < p->dim; d++) sum += fabs(q[d] * k[d]);
    return sum;
}

/* The part of e_j that all keys of the row have. */
static double common_error(const oracle_row *row)
{
    return unit * (32 + 2 * sqrt((double)row->seen) + 8 * row->problem->softcap) + row->arithmetic.weight;
}

/* What relative keys make of q . k, the sum of a query and a key `offset` before it, and of its a_j / |scale|. */
static void add_relative(const oracle_row *row, int head, const double *q, const double *k, int64_t offset,
                         double *sum_p, double *magnitude_p)
{
    const longspan_problem *p = row->problem;
    if (!p->relative_keys || offset > row->relative_left || offset < -row->relative_right) return;
    const float *r = p->relative_keys + ((row->relative_left - offset) * p->heads + head) * p->dim;
    const float *u = p->relative_bias_u ? p->relative_bias_u + (int64_t)head * p->dim : NULL;
    const float *w = p->relative_bias_w ? p->relative_bias_w + (int64_t)head * p->dim : NULL;
    *sum_p = *magnitude_p = 0;
    for (int d = 0; d < p->dim; d++) {
        const double content = q[d] + (u ? (double)u[d] : 0), position = q[d] + (w ? (double)w[d] : 0);
        *sum_p += content * k[d] + position * (double)r[d];
        *magnitude_p += fabs(content * k[d]) + fabs(position * (double)r[d]);
    }
}

double oracle_score(const oracle_row *row, int head, const double *q, const double *k, int64_t key, double *error_p)
{
    const longspan_problem *p = row->problem;
    const double slope = p->alibi_slopes ? p->alibi_slopes[head] : 0;
    const int64_t offset = row->position - (key - row->begin);
    const double distance = fabs((double)offset);
    double s = 0, size = magnitude(p, q, k);
    for (int d = 0; d < p->dim; d++) s += q[d] * k[d];
    add_relative(row, head, q, k, offset, &s, &size);
    s *= p->scale;
    if (p->softcap > 0) s = p->softcap * tanh(s / p->softcap);
    s -= slope * distance;
    const double factor = unit * (2 * sqrt(p->dim) + (p->rope_dim ? 8 : 4)) + row->arithmetic.score;
    *error_p = common_error(row) + factor * fabs(p->scale) * size + 4 * unit * fabs(slope) * distance;
    return s;
}

int64_t oracle_sum_size(const longspan_problem *problem)
{
    return ORACLE_OUT + 2 * (int64_t)problem->value_dim;
}

void oracle_sum_start(const oracle_row *row, int head, bool with_sink, double *sum)
{
    memset(sum, 0, (size_t)oracle_sum_size(row->problem) * sizeof *sum);
    sum[ORACLE_LSE] = with_sink ? row->problem->sinks[head] : -INFINITY;
    sum[ORACLE_SPREAD] = with_sink ? common_error(row) : 0;
}

/* Adds what `count` keys of weight exp(score - lse) contribute: all but the lse of `sum`. */
static void add_keys(const oracle_row *row, const double *scores, const double *errors, double lse, const double *v,
                     int64_t v_stride, int64_t count, double *sum)
{
    const int value_dim = row->problem->value_dim;
    double *out = sum + ORACLE_OUT, *spread = out + value_dim;
    for (int64_t j = 0; j < count; j++) {
        if (scores[j] == -INFINITY) continue;
        const double weight = exp(scores[j] - lse), error = weight == 0 ? 0 : weight * errors[j];
        sum[ORACLE_SPREAD] += error;
        for (int e = 0; e < value_dim; e++) {
            const double value = v[j * v_stride + e];
            out[e] += weight * value;
            spread[e] += (error + weight * row->arithmetic.value) * fabs(value);
        }
    }
}

void oracle_fold(const oracle_row *row, int head, const double *q, const double *k, int64_t k_stride, const double *v,
                 int64_t v_stride, int64_t begin, int64_t end, double *scratch, double *sum)
{
    const int64_t count = end - begin;
    double *scores = scratch, *errors = scratch + count, top = sum[ORACLE_LSE], total = 0;
    bool any = false;
    for (int64_t j = 0; j < count; j++) {
        scores[j] = -INFINITY;
        const int times = oracle_times(row, head, begin + j);
        /* c times exp(s) is exp(s + log c) */
        if (times > 0) scores[j] = oracle_score(row, head, q, k + j * k_stride, begin + j, &errors[j]) + log(times);
        if (scores[j] > top) top = scores[j];
        any = any || scores[j] != -INFINITY;
    }
    if (!any) return;
    for (int64_t j = 0; j < count; j++) total += exp(scores[j] - top); /* a NaN score makes everything NaN */
    const double lse = top + log(exp(sum[ORACLE_LSE] - top) + total), before = exp(sum[ORACLE_LSE] - lse);
    for (int64_t i = 0; i < oracle_sum_size(row->problem); i++) sum[i] *= before;
    add_keys(row, scores, errors, lse, v, v_stride, count, sum);
    sum[ORACLE_LSE] = lse;
}
