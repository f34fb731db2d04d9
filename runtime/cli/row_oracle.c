#include "runtime/cli/row_oracle.h"

#include "runtime/cli/pattern_oracle.h"

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
        row.allowed = pattern_oracle_keys(problem, &of);
    }
    if (problem->key_lengths && problem->key_lengths[batch_item] < row.end) row.end = problem->key_lengths[batch_item];
    for (int64_t key = 0; key < problem->keys; key++) row.seen += oracle_sees(&row, key);
    return row;
}

void oracle_row_free(oracle_row *row)
{
    free(row->allowed);
    row->allowed = NULL;
}

bool oracle_sees(const oracle_row *row, int64_t key)
{
    const longspan_problem *p = row->problem;
    const int64_t i = row->position, j = key - row->begin;
    if (key < row->begin || key >= row->end) return false;
    if (row->allowed && !pattern_oracle_bit(row->allowed, key)) return false;
    if (p->causal && j > i && j >= p->prefix) return false;
    if (p->window_left >= 0 && i - j > p->window_left) return false;
    if (p->window_right >= 0 && j - i > p->window_right) return false;
    if (p->chunk <= 0) return true;
    const int64_t ahead = floor_divide(j, p->chunk) - floor_divide(i, p->chunk);
    return (p->chunks_left < 0 || -ahead <= p->chunks_left) && (p->chunks_right < 0 || ahead <= p->chunks_right);
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

double oracle_score(const oracle_row *row, int head, const double *q, const double *k, int64_t key, double *error_p)
{
    const longspan_problem *p = row->problem;
    const double slope = p->alibi_slopes ? p->alibi_slopes[head] : 0;
    const double distance = fabs((double)(row->position - (key - row->begin)));
    double s = 0;
    for (int d = 0; d < p->dim; d++) s += q[d] * k[d];
    s *= p->scale;
    if (p->softcap > 0) s = p->softcap * tanh(s / p->softcap);
    s -= slope * distance;
    const double factor = unit * (2 * sqrt(p->dim) + (p->rope_dim ? 8 : 4)) + row->arithmetic.score;
    *error_p = common_error(row) + factor * fabs(p->scale) * magnitude(p, q, k) + 4 * unit * fabs(slope) * distance;
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
        if (oracle_sees(row, begin + j))
            scores[j] = oracle_score(row, head, q, k + j * k_stride, begin + j, &errors[j]);
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
