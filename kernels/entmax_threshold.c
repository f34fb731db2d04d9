/* The threshold of alpha-entmax from a list of keys or from sums over all of them, in float64: kernels/entmax.h. */
#include "kernels/entmax.h"
#include "kernels/implementations.h"

#include <math.h>
#include <string.h>

enum { VALUE_DIM_MAX = 512, MOST_STEPS = 400 };

/* Sums of float32, of powers y^r, agree with 1 no better than 1 + r times this. */
static const double sum_agrees = 5e-7;

const entmax_kernel *entmax_kernel_find(const char *name)
{
    static const entmax_kernel *const kernels[] = {
        &entmax_portable,
#if defined(__x86_64__)
        &entmax_avx2,
        &entmax_avx512,
#endif
    };
    name = vector_isa(name); /* tau asks for more than bfloat16 gives */
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++)
        if (strcmp(kernels[i]->name, name) == 0) return kernels[i];
    return NULL;
}

void entmax_rows_clear(entmax_rows *rows)
{
    memset(rows->stages, ENTMAX_OPEN, (size_t)rows->count);
    memset(rows->lengths, 0, (size_t)rows->count * sizeof *rows->lengths);
    memset(rows->sums, 0, (size_t)rows->count * 2 * sizeof *rows->sums);
    for (int64_t r = 0; r < rows->count; r++) {
        rows->bounds[r] = rows->high[r] = -INFINITY;
        rows->low[r] = 0;
    }
}

static double power(double y, double exponent)
{
    if (exponent == 0) return 1;
    if (exponent == 1) return y;
    return exponent == 2 ? y * y : pow(y, exponent);
}

/* How far f^(1/r) = 1 moves t, from f and from g = sum_j (z_j - t)_+^(r - 1). */
static double newton_step(double f, double g, double exponent)
{
    return (f - power(f, 1 - 1 / exponent)) / g;
}

static void set_threshold(entmax_rows *rows, int64_t row, double t)
{
    rows->high[row] = (float)t;
    rows->low[row] = (float)(t - (double)rows->high[row]);
}

/* The list becomes the support with its weights. In distances from the largest z, which are exact. */
static void solve_list(entmax_rows *rows, int64_t row, double exponent)
{
    float *z = rows->weights + row * rows->room;
    uint32_t *keys = rows->keys + row * rows->room;
    const int length = rows->lengths[row];
    float largest = -INFINITY;
    int kept = 0;
    for (int i = 0; i < length; i++) largest = z[i] > largest ? z[i] : largest;
    rows->stages[row] = ENTMAX_LISTED;
    if (length == 0) return;
    double t = -1; /* from the largest z */
    for (int step = 0; step < MOST_STEPS; step++) {
        double f = 0, g = 0;
        for (int i = 0; i < length; i++) {
            const double y = (double)z[i] - (double)largest - t;
            if (y <= 0) continue;
            const double below = power(y, exponent - 1);
            f += below * y;
            g += below;
        }
        const double moved = newton_step(f, g, exponent);
        if (!(moved > 0)) break;
        t += moved;
        if (moved < 1e-15) break;
    }
    set_threshold(rows, row, (double)largest + t);
    for (int i = 0; i < length; i++) {
        const double y = (double)z[i] - (double)largest - t;
        const float p = y > 0 ? (float)power(y, exponent) : 0;
        if (p == 0) continue;
        z[kept] = p;
        keys[kept++] = keys[i];
    }
    rows->lengths[row] = kept;
}

/* A row whose list overflowed: t where its sums say, no lower than the list's bound; that may have been rounded up,
 * beyond tau, where f < 1 shows it. */
static void approach(entmax_rows *rows, int64_t row, double exponent, bool summed)
{
    double *sums = rows->sums + 2 * row, t = rows->bounds[row];
    rows->stages[row] = ENTMAX_OPEN;
    if (summed) {
        const double before = (double)rows->high[row] + (double)rows->low[row];
        const double after = before + newton_step(sums[0], sums[1], exponent);
        if (after > t || sums[0] < 1) t = after;
        if (fabs(sums[0] - 1) <= sum_agrees * (1 + exponent)) {
            t = after;
            rows->stages[row] = ENTMAX_DENSE;
        }
    }
    set_threshold(rows, row, t);
    rows->bounds[row] = nextafterf(rows->high[row], -INFINITY);
    rows->lengths[row] = 0;
    sums[0] = sums[1] = 0;
}

static void settle(const entmax_call *call, int64_t row)
{
    entmax_rows *rows = call->rows;
    if (rows->stages[row] != ENTMAX_OPEN && rows->stages[row] != ENTMAX_FULL) return;
    if (rows->bounds[row] == INFINITY) rows->stages[row] = ENTMAX_NAN;
    else if (rows->stages[row] == ENTMAX_FULL) approach(rows, row, call->exponent, call->sums);
    else solve_list(rows, row, call->exponent);
}

entmax_counts entmax_rows_settle(const entmax_call *call)
{
    int64_t open = 0, dense = 0;
#pragma omp parallel for num_threads(call->attention->threads) reduction(+ : open, dense) schedule(dynamic, 64)
    for (int64_t row = 0; row < call->rows->count; row++) {
        settle(call, row);
        open += call->rows->stages[row] == ENTMAX_OPEN;
        dense += call->rows->stages[row] == ENTMAX_DENSE;
    }
    return (entmax_counts){open, dense};
}

void entmax_rows_finish(const entmax_rows *rows, const float *o, int value_dim, kernel_type out_type, void *out,
                        float *threshold, int threads)
{
    const size_t row_size = number_size(out_type) * (size_t)value_dim;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < rows->count; r++) {
        float nothing[VALUE_DIM_MAX];
        const float *row = o + r * value_dim;
        const bool nan = rows->stages[r] == ENTMAX_NAN;
        for (int e = 0; nan && e < value_dim; e++) nothing[e] = NAN;
        number_narrow(out_type, nan ? nothing : row, (char *)out + (size_t)r * row_size, value_dim);
        if (threshold) threshold[r] = nan ? NAN : rows->high[r];
    }
}
