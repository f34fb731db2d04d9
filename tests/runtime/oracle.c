#include "tests/runtime/oracle.h"

#include "kernels/reference.h"
#include "tests/runtime/entmax_oracle.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

longspan_problem oracle_defaults(const longspan_problem *p)
{
    longspan_problem full = *p;
    if (full.keys == 0) full.keys = full.queries;
    if (full.kv_heads == 0) full.kv_heads = full.heads;
    if (full.value_dim == 0) full.value_dim = full.dim;
    if (full.scale == 0) full.scale = 1 / sqrt(full.dim);
    return full;
}

static int64_t chunk_of(int64_t position, int64_t chunk)
{
    return (int64_t)floor((double)position / (double)chunk);
}

bool oracle_sees(const longspan_problem *p, int64_t b, int64_t i, int64_t j)
{
    if (p->key_lengths && j >= p->key_lengths[b]) return false;
    int64_t start = 0;
    for (int64_t d = 0; d < p->document_count; d++)
        if (p->documents[d] <= i && i < p->documents[d + 1]) {
            if (j < p->documents[d] || j >= p->documents[d + 1]) return false;
            start = p->documents[d];
        }
    const int64_t query = i + (p->keys - p->queries) - start, key = j - start;
    if (p->causal && key > query && key >= p->prefix) return false;
    if (p->window_left >= 0 && key < query - p->window_left) return false;
    if (p->window_right >= 0 && key > query + p->window_right) return false;
    if (p->chunk > 0) {
        const int64_t ahead = chunk_of(key, p->chunk) - chunk_of(query, p->chunk);
        if (p->chunks_left >= 0 && ahead < -p->chunks_left) return false;
        if (p->chunks_right >= 0 && ahead > p->chunks_right) return false;
    }
    return true;
}

void oracle_seen(const longspan_problem *p, int64_t b, int64_t i, int64_t *begin_p, int64_t *end_p)
{
    *begin_p = *end_p = 0;
    for (int64_t j = 0; j < p->keys; j++) {
        if (!oracle_sees(p, b, i, j)) continue;
        if (*begin_p == *end_p) *begin_p = *end_p = j;
        if (*end_p != j) {
            fprintf(stderr, "query %lld sees keys that are not one range\n", (long long)i);
            abort();
        }
        *end_p = j + 1;
    }
}

double oracle_pairs(const longspan_problem *p)
{
    double pairs = 0;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t i = 0; i < p->queries; i++)
            for (int64_t j = 0; j < p->keys; j++) pairs += oracle_sees(p, b, i, j);
    return pairs;
}

void oracle_rotate(const longspan_problem *p, int64_t position, double *row)
{
    double frequencies[256];
    if (p->rope_dim == 0) return;
    for (int c = 0; c < p->rope_dim / 2; c++) frequencies[c] = exp(-2.0 * c / p->rope_dim * log(p->rope_base));
    const reference_scores rope = {
        .rope_dim = p->rope_dim, .rope_interleaved = p->rope_interleaved != 0, .rope_frequencies = frequencies};
    reference_rotate(&rope, position, row);
}

/* Times scale: q . k, or with relative keys, for offsets that the table has, (q + u) . k + (q + w) . r. */
static double product(const longspan_problem *p, int64_t offset, int head, const double *q, const double *k)
{
    int64_t left = p->window_left, right = p->window_right;
    double sum = 0;
    for (int d = 0; d < p->dim; d++) sum += q[d] * k[d];
    if (!p->relative_keys) return sum * p->scale;
    if (p->pattern) sscanf(p->pattern, "global:%" SCNd64 ",%" SCNd64, &left, &right);
    if (right < 0) right = 0;
    if (offset > left || offset < -right) return sum * p->scale;
    for (int d = 0; d < p->dim; d++) {
        const double r = (double)p->relative_keys[((left - offset) * p->heads + head) * p->dim + d];
        const double u = p->relative_bias_u ? (double)p->relative_bias_u[head * p->dim + d] : 0;
        const double w = p->relative_bias_w ? (double)p->relative_bias_w[head * p->dim + d] : 0;
        sum += u * k[d] + (q[d] + w) * r;
    }
    return sum * p->scale;
}

/* A row of alpha-entmax over the keys that the mask and `times`, unless NULL, leave. */
static bool entmax_row(const longspan_problem *p, const unsigned char *times, int64_t b, int64_t i, int head,
                       const double *q, const double *k, const double *v, double *z, double *out, double *tau_p)
{
    const double slope = p->alibi_slopes ? (double)p->alibi_slopes[head] : 0;
    bool sees = false;
    for (int64_t j = 0; j < p->keys; j++) {
        z[j] = -INFINITY;
        if ((times && times[j] == 0) || !oracle_sees(p, b, i, j)) continue;
        double score = 0;
        for (int d = 0; d < p->dim; d++) score += q[d] * k[j * p->dim + d];
        score *= p->scale;
        if (p->softcap > 0) score = p->softcap * tanh(score / p->softcap);
        z[j] = (p->alpha - 1) * (score - slope * fabs((double)(i + p->keys - p->queries - j)));
        sees = true;
    }
    *tau_p = entmax_oracle_threshold(z, p->keys, p->alpha);
    for (int e = 0; e < p->value_dim; e++) out[e] = isnan(*tau_p) ? NAN : 0;
    for (int64_t j = 0; j < p->keys; j++) {
        const double weight = entmax_oracle_weight(z[j], *tau_p, p->alpha);
        for (int e = 0; weight > 0 && e < p->value_dim; e++) out[e] += weight * v[j * p->value_dim + e];
    }
    return sees;
}

bool oracle_row(const longspan_problem *p, int64_t b, int64_t i, int head, const double *q, const double *k,
                const double *v, double *weights, double *out, double *lse_p)
{
    const reference_scores scores = {.softcap = p->softcap,
                                     .slope = p->alibi_slopes ? (double)p->alibi_slopes[head] : 0,
                                     .query_position = i + (p->keys - p->queries)};
    int64_t begin, end;
    if (p->relative_keys) return oracle_row_of(p, NULL, b, i, head, q, k, v, weights, out, lse_p);
    if (p->alpha != 0) return entmax_row(p, NULL, b, i, head, q, k, v, weights, out, lse_p);
    oracle_seen(p, b, i, &begin, &end);
    attention_reference(q, k, p->dim, v, p->value_dim, p->keys, begin, end, p->dim, p->value_dim, p->scale, &scores,
                        out, lse_p, weights);
    if (p->sinks && p->sinks[head] > -INFINITY) {
        const double sink = (double)p->sinks[head], top = fmax(sink, *lse_p);
        const double with = isnan(*lse_p) ? *lse_p : top + log(exp(sink - top) + exp(*lse_p - top));
        for (int e = 0; e < p->value_dim; e++) out[e] = begin < end ? out[e] * exp(*lse_p - with) : 0;
        *lse_p = with;
    }
    return begin < end;
}

bool oracle_row_of(const longspan_problem *p, const unsigned char *times, int64_t b, int64_t i, int head,
                   const double *q, const double *k, const double *v, double *weights, double *out, double *lse_p)
{
    const double slope = p->alibi_slopes ? (double)p->alibi_slopes[head] : 0;
    const double sink = p->sinks ? (double)p->sinks[head] : -INFINITY;
    double top = sink, sum = 0;
    bool sees = false;
    if (p->alpha != 0) return entmax_row(p, times, b, i, head, q, k, v, weights, out, lse_p);
    for (int64_t j = 0; j < p->keys; j++) {
        weights[j] = -INFINITY;
        if ((times && times[j] == 0) || !oracle_sees(p, b, i, j)) continue;
        double score = product(p, i + p->keys - p->queries - j, head, q, k + j * p->dim);
        if (p->softcap > 0) score = p->softcap * tanh(score / p->softcap);
        weights[j] = score - slope * fabs((double)(i + p->keys - p->queries - j));
        top = fmax(top, weights[j]);
        sees = true;
    }
    for (int e = 0; e < p->value_dim; e++) out[e] = 0;
    for (int64_t j = 0; j < p->keys && sees; j++) {
        if (weights[j] == -INFINITY) continue;
        const double weight = (times ? times[j] : 1) * exp(weights[j] - top);
        sum += weight;
        for (int e = 0; e < p->value_dim; e++) out[e] += weight * v[j * p->value_dim + e];
    }
    if (sink > -INFINITY) sum += exp(sink - top);
    for (int e = 0; e < p->value_dim && sees; e++) out[e] /= sum;
    *lse_p = sum > 0 ? top + log(sum) : -INFINITY;
    return sees;
}
