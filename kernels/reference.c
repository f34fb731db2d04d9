#include "kernels/reference.h"

#include <math.h>
#include <stdbool.h>

void attention_reference(const double *q, const double *k, int64_t k_stride, const double *v, int64_t v_stride,
                         int64_t keys, int64_t begin, int64_t end, int dim, int value_dim, double scale, double *out,
                         double *lse, double *weights)
{
    double largest = -INFINITY, sum = 0;
    bool weighs = false; /* some score is not -inf: a NaN score is not, and must show */

    for (int64_t j = 0; j < keys; j++) {
        weights[j] = 0;
        if (j < begin || j >= end) continue;
        double score = 0;
        for (int d = 0; d < dim; d++) score += q[d] * k[j * k_stride + d];
        weights[j] = scale * score;
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
