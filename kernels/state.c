/* The monoid of partial results, kernels/attention.h. */
#include "kernels/attention.h"
#include "kernels/float_environment.h"

#include <math.h>
#include <string.h>

enum { VALUE_DIM_MAX = 512 };

void attention_state_clear(attention_state state, int64_t rows, int value_dim)
{
    memset(state.o, 0, (size_t)rows * (size_t)value_dim * sizeof *state.o);
    memset(state.l, 0, (size_t)rows * sizeof *state.l);
    for (int64_t r = 0; r < rows; r++) state.m[r] = -INFINITY;
}

/* 2^(m - top) for m <= top. Below the normal numbers it is 0: such a row cannot move the other's last bit. */
static float weight_below(float m, float top)
{
    const float gap = m - top;
    return gap < -126 ? 0 : exp2f(gap);
}

/* o of a row whose l is 0 is 0, or NaN where a score of -inf met a value that is not finite: that stays, as it does when
 * the row's other keys are folded after it. */
static void keep_nan(float *restrict o, const float *restrict other, int value_dim)
{
    for (int e = 0; e < value_dim; e++) o[e] = isnan(other[e]) ? other[e] : o[e];
}

/* o of the row is 0 or NaN; becomes the other's, or stays NaN. */
static void take_unless_nan(float *restrict o, const float *restrict other, int value_dim)
{
    for (int e = 0; e < value_dim; e++) o[e] = isnan(o[e]) ? o[e] : other[e];
}

void attention_state_merge(attention_state into, attention_state from, int64_t rows, int value_dim)
{
    const float_environment environment = environment_enter();
    for (int64_t r = 0; r < rows; r++) {
        float *restrict o = into.o + r * value_dim;
        const float *restrict other = from.o + r * value_dim;

        /* l = 0: has seen nothing, or only scores of -inf, which weigh nothing. NaN is not 0. */
        if (from.l[r] == 0) {
            keep_nan(o, other, value_dim);
            continue;
        }
        if (into.l[r] == 0) {
            take_unless_nan(o, other, value_dim);
            into.m[r] = from.m[r];
            into.l[r] = from.l[r];
            continue;
        }
        const float top = into.m[r] > from.m[r] ? into.m[r] : from.m[r];
        const float a = weight_below(into.m[r], top), b = weight_below(from.m[r], top);
        for (int e = 0; e < value_dim; e++) o[e] = a * o[e] + b * other[e];
        into.m[r] = top;
        into.l[r] = a * into.l[r] + b * from.l[r];
    }
    environment_leave(environment);
}

void attention_state_add_sinks(attention_state state, int64_t rows, int heads, int value_dim, const float *sinks)
{
    float nothing[VALUE_DIM_MAX] = {0};
    for (int64_t r = 0; r < rows; r++) {
        float m = (float)((double)sinks[r % heads] * 1.4426950408889634);
        float l = m < INFINITY ? 1 : NAN; /* as a key of infinite score */
        if (m == -INFINITY) continue;
        const attention_state row = {state.o + r * value_dim, state.m + r, state.l + r, 0};
        const attention_state sink = {nothing, &m, &l, 0};
        attention_state_merge(row, sink, 1, value_dim);
    }
}

static void row_finish(const float *restrict o, float l, int value_dim, float *restrict out)
{
    if (l == 0) memset(out, 0, (size_t)value_dim * sizeof *out);
    else
        for (int e = 0; e < value_dim; e++) out[e] = o[e] / l;
}

void attention_state_finish(attention_state state, int64_t rows, int value_dim, kernel_type out_type, void *out,
                            float *lse, int threads)
{
    const double ln2 = 0.693147180559945309417232;
    const size_t row_size = number_size(out_type) * (size_t)value_dim;
#pragma omp parallel num_threads(threads)
    {
        const float_environment environment = environment_enter();
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            float row[VALUE_DIM_MAX];
            row_finish(state.o + r * value_dim, state.l[r], value_dim, row);
            number_narrow(out_type, row, (char *)out + (size_t)r * row_size, value_dim);
            if (lse) lse[r] = state.l[r] == 0 ? -INFINITY : (float)((double)state.m[r] * ln2 + log((double)state.l[r]));
        }
        environment_leave(environment);
    }
}
