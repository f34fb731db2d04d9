#include "runtime/cli/relative_values.h"

#include "runtime/cli/random.h"

#include <stdlib.h>

relative_values relative_values_make(const options *o, int heads, int dim, failure *f)
{
    relative_values values = {0};
    const int64_t row = (int64_t)heads * dim;
    if (!o->relative) return values;
    values.count = o->relative_left + o->relative_right + 1;
    values.keys = calloc((size_t)values.count, (size_t)row * sizeof *values.keys);
    values.u = calloc((size_t)row, sizeof *values.u);
    values.w = calloc((size_t)row, sizeof *values.w);
    if (!values.keys || !values.u || !values.w) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for relative keys of %lld offsets",
                    (long long)values.count);
        return values;
    }
    random_normal_floats(o->seed, RANDOM_RELATIVE_KEY, 0, values.count * row, values.keys);
    random_normal_floats(o->seed, RANDOM_RELATIVE_BIAS_U, 0, row, values.u);
    random_normal_floats(o->seed, RANDOM_RELATIVE_BIAS_W, 0, row, values.w);
    return values;
}

void relative_values_free(relative_values *values)
{
    free(values->keys);
    free(values->u);
    free(values->w);
    *values = (relative_values){0};
}

void relative_values_apply(const relative_values *values, longspan_problem *p)
{
    p->relative_keys = values->keys;
    p->relative_count = values->count;
    p->relative_bias_u = values->u;
    p->relative_bias_w = values->w;
}
