#include "kernels/reference.h"

#include <math.h>

enum { DIM_MAX = 512 };

void reference_rotate(const reference_scores *scores, int64_t position, double *row)
{
    const int pairs = scores->rope_dim / 2;
    for (int c = 0; c < pairs; c++) {
        /* In float64 an angle of 2^31 would already be off by 2^-23. */
        const long double angle = (long double)position * (long double)scores->rope_frequencies[c];
        const double cosine = (double)cosl(angle), sine = (double)sinl(angle);
        double *x = scores->rope_interleaved ? &row[2 * c] : &row[c];
        double *y = scores->rope_interleaved ? &row[2 * c + 1] : &row[c + pairs];
        const double turned_x = *x * cosine - *y * sine;
        *y = *x * sine + *y * cosine;
        *x = turned_x;
    }
}

static double dot(const double *a, const double *b, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

/* scale * ((q + u) . k + (q + w) . r) of attention_relative, where the table has the offset; else scale * q . k. */
static double relative_score(const double *q, const double *k, int64_t offset, int dim, double scale,
                             const reference_scores *scores)
{
    if (offset > scores->relative_left || offset < -scores->relative_right) return scale * dot(q, k, dim);
    const double *r = scores->relative + (scores->relative_left - offset) * dim;
    double sum = 0;
    for (int d = 0; d < dim; d++)
        sum += (q[d] + scores->relative_u[d]) * k[d] + (q[d] + scores->relative_w[d]) * r[d];
    return scale * sum;
}

static double score_of(const double *q, const double *k, int64_t key, int dim, double scale,
                       const reference_scores *scores)
{
    if (!scores) return scale * dot(q, k, dim);
    const int64_t position = scores->key_positions ? scores->key_positions[key] : key;
    double rotated_q[DIM_MAX], rotated_k[DIM_MAX];
    for (int d = 0; d < dim; d++) {
        rotated_q[d] = q[d];
        rotated_k[d] = k[d];
    }
    reference_rotate(scores, scores->query_position, rotated_q);
    reference_rotate(scores, position, rotated_k);
    double score = scale * dot(rotated_q, rotated_k, dim);
    if (scores->relative) score = relative_score(q, k, scores->query_position - position, dim, scale, scores);
    if (scores->softcap != 0) score = scores->softcap * tanh(score / scores->softcap);
    return score - scores->slope * fabs((double)(scores->query_position - position));
}

void attention_reference(const double *q, const double *k, int64_t k_stride, const double *v, int64_t v_stride,
                         int64_t keys, int64_t begin, int64_t end, int dim, int value_dim, double scale,
                         const reference_scores *scores, double *out, double *lse, double *weights)
{
    double largest = -INFINITY, sum = 0;
    bool weighs = false; /* some score is not -inf: a NaN score is not, and must show */

    for (int64_t j = 0; j < keys; j++) {
        weights[j] = 0;
        if (j < begin || j >= end) continue;
        weights[j] = score_of(q, k + j * k_stride, j, dim, scale, scores);
        if (weights[j] != -INFINITY) weighs = true;
        if (weights[j] > largest) largest = weights[j];
    }
    const double offset = largest == -INFINITY ? 0 : largest;

    for (int e = 0; e < value_dim; e++) out[e] = 0;
    for (int64_t j = 0; j < keys; j++) {
        if (j < begin || j >= end) continue;
        weights[j] = exp(weights[j] - offset);
        sum += weights[j];
        if (!weighs) continue;
        for (int e = 0; e < value_dim; e++) out[e] += weights[j] * v[j * v_stride + e];
    }

    if (lse) *lse = weighs ? offset + log(sum) : -INFINITY;
    if (!weighs) return;
    for (int e = 0; e < value_dim; e++) out[e] /= sum;
    for (int64_t j = 0; j < keys; j++) weights[j] /= sum;
}
