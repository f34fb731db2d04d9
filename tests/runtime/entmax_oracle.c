#include "tests/runtime/entmax_oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double entmax_oracle_weight(double z, double tau, double alpha)
{
    return z > tau ? pow(z - tau, 1 / (alpha - 1)) : 0;
}

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* The largest k for which the k-th largest z is above tau of the k largest. */
static double sparsemax(const double *z, int64_t count)
{
    double sum = 0, tau = 0;
    for (int64_t k = 1; k <= count; k++) {
        sum += z[k - 1];
        if (1 + (double)k * z[k - 1] > sum) tau = (sum - 1) / (double)k;
    }
    return tau;
}

/* Of the k largest, in distances from the largest: tau_k = mean - sqrt((1 - k variance) / k). */
static double entmax15(const double *z, int64_t count)
{
    double mean = 0, spread = 0, tau = 0; /* spread: k times the variance, by Welford */
    for (int64_t k = 1; k <= count; k++) {
        const double x = z[k - 1] - z[0], before = x - mean;
        mean += before / (double)k;
        spread += before * (x - mean);
        const double rest = (1 - spread) / (double)k, here = mean - sqrt(rest > 0 ? rest : 0);
        if (here <= x) tau = here;
    }
    return tau + z[0];
}

static double bisection(const double *z, int64_t count, double alpha)
{
    double low = -1, high = 0; /* from the largest */
    for (int i = 0; i < 80; i++) {
        const double middle = low + (high - low) / 2;
        double sum = 0;
        for (int64_t j = 0; j < count && z[j] - z[0] > middle; j++) sum += pow(z[j] - z[0] - middle, 1 / (alpha - 1));
        if (sum >= 1) low = middle;
        else high = middle;
    }
    return z[0] + low;
}

double entmax_oracle_threshold(const double *z, int64_t count, double alpha)
{
    double *sorted = malloc(((size_t)count + 1) * sizeof *sorted), tau = -INFINITY;
    int64_t kept = 0;
    for (int64_t j = 0; j < count; j++) {
        if (isnan(z[j]) || z[j] == INFINITY) tau = NAN;
        if (z[j] > -INFINITY) sorted[kept++] = z[j];
    }
    if (kept > 0 && !isnan(tau)) {
        qsort(sorted, (size_t)kept, sizeof *sorted, descending);
        tau = alpha == 2     ? sparsemax(sorted, kept)
              : alpha == 1.5 ? entmax15(sorted, kept)
                             : bisection(sorted, kept, alpha);
    }
    free(sorted);
    return tau;
}
