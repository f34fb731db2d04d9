#include "runtime/cli/linear_inputs.h"

#include "runtime/cli/linear_values.h"
#include "runtime/linear_problem.h"

#include <stdlib.h>

static float *allocate(int64_t first, int64_t second, failure *f)
{
    float *values = malloc((size_t)first * (size_t)second * sizeof *values);
    if (!values)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for %lld x %lld values", (long long)first,
                    (long long)second);
    return values;
}

void linear_inputs_make(uint64_t seed, longspan_linear_problem *p, linear_inputs *inputs_p, failure *f)
{
    const linear_variant *variant = linear_variant_find(p->attention);
    const int heads = linear_problem_heads(p);
    linear_inputs made = {0};
    if (variant->decay == LINEAR_DECAY_HEAD) made.head_log_decay = allocate(heads, 1, f);
    if (variant->reads_before) made.bonus = allocate(heads, p->dim, f);
    if (variant->map == LINEAR_MAP_FAVOR) made.features = allocate(p->feature_count, p->dim, f);
    if (made.head_log_decay) linear_values_head_log_decay(heads, made.head_log_decay);
    if (made.bonus) linear_values_bonus(seed, heads, p->dim, made.bonus);
    if (made.features) linear_values_features(seed, p->feature_count, p->dim, made.features);
    p->head_log_decay = made.head_log_decay;
    p->bonus = made.bonus;
    p->features = made.features;
    *inputs_p = made;
}

void linear_inputs_free(linear_inputs *inputs)
{
    free(inputs->head_log_decay);
    free(inputs->bonus);
    free(inputs->features);
    *inputs = (linear_inputs){0};
}
