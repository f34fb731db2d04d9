/* Relative keys of a problem: the window that their table belongs to, and what does not go with them. */
#include "partition/patterns.h"
#include "runtime/problem.h"

#include <math.h>
#include <string.h>

enum { MOST_OFFSETS = 1 << 24 };

static longspan_status sides_of_pattern(const longspan_problem *p, int64_t *left_p, int64_t *right_p, failure *f)
{
    pattern_choice choice;
    char why[PATTERN_WHY_SIZE];
    if (!pattern_choice_parse(p->pattern, &choice, why))
        return failure_set(f, LONGSPAN_ERROR_ARGUMENT, "pattern %s", why);
    if (strcmp(choice.kind->name, "global") != 0)
        return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                           "relative_keys need a window or the pattern global:LEFT,RIGHT,...; they do not go with the "
                           "pattern '%.100s'",
                           p->pattern);
    if (p->window_left != -1 || p->window_right != -1)
        return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                           "relative_keys have the sides of one window; they do not go with a window beside the "
                           "pattern '%.100s'",
                           p->pattern);
    *left_p = choice.items[0].begin;
    *right_p = choice.items[1].begin;
    return LONGSPAN_OK;
}

longspan_status problem_relative_sides(const longspan_problem *p, int64_t *left_p, int64_t *right_p, failure *f)
{
    *left_p = *right_p = 0;
    if (p->pattern) return sides_of_pattern(p, left_p, right_p, f);
    const bool ends_at_query = p->causal && p->prefix == 0;
    if (p->window_left < 0 || (p->window_right < 0 && !ends_at_query))
        return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                           "relative_keys need a window with an end on both sides, or the pattern "
                           "global:LEFT,RIGHT,...; the mask has none");
    *left_p = p->window_left;
    *right_p = p->window_right < 0 ? 0 : p->window_right;
    return LONGSPAN_OK;
}

static void check_finite(const char *name, const float *values, int64_t count, failure *f)
{
    for (int64_t i = 0; values && i < count && f->status == LONGSPAN_OK; i++)
        if (!isfinite(values[i]))
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s has %g as its value %lld; finite values are needed", name,
                        (double)values[i], (long long)i);
}

void problem_check_relative(const longspan_problem *p, failure *f)
{
    int64_t left, right;
    if (f->status != LONGSPAN_OK) return;
    if (!p->relative_keys) {
        if (p->relative_count != 0 || p->relative_bias_u || p->relative_bias_w)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT,
                        "relative_count, relative_bias_u and relative_bias_w need relative_keys, which is NULL");
        return;
    }
    if (!p->relative_bias_u != !p->relative_bias_w)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "relative_bias_u and relative_bias_w go together, but one is NULL");
    if (p->rope_dim > 0)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "relative_keys do not go with RoPE, rope_dim %d", p->rope_dim);
    if (p->alibi_slopes) failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "relative_keys do not go with alibi_slopes");
    if (f->status != LONGSPAN_OK || problem_relative_sides(p, &left, &right, f) != LONGSPAN_OK) return;
    if (left > MOST_OFFSETS || right > MOST_OFFSETS || left + right + 1 != p->relative_count)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "relative_keys have %lld rows, but the window of %lld keys before a query and %lld after it needs "
                    "%lld%s",
                    (long long)p->relative_count, (long long)left, (long long)right, (long long)(left + right + 1),
                    left > MOST_OFFSETS || right > MOST_OFFSETS ? ", which is too many" : "");
    if (f->status != LONGSPAN_OK) return;
    const int64_t row = (int64_t)p->heads * p->dim;
    check_finite("relative_keys", p->relative_keys, p->relative_count * row, f);
    check_finite("relative_bias_u", p->relative_bias_u, row, f);
    check_finite("relative_bias_w", p->relative_bias_w, row, f);
}

int64_t problem_hash_relative(const longspan_problem *p)
{
    if (p->heads < 1 || p->heads > MOST_HEADS || p->dim < 1 || p->dim > MOST_DIM || p->relative_count < 0 ||
        p->relative_count > 2 * MOST_OFFSETS + 1)
        return p->relative_keys != NULL;
    const int64_t row = (int64_t)p->heads * p->dim;
    const int64_t hashes[] = {
        p->relative_count,
        problem_hash_array(p->relative_keys, sizeof(float), p->relative_count * row, INT64_MAX),
        problem_hash_array(p->relative_bias_u, sizeof(float), row, INT64_MAX),
        problem_hash_array(p->relative_bias_w, sizeof(float), row, INT64_MAX),
    };
    return p->relative_keys || p->relative_count != 0 || p->relative_bias_u || p->relative_bias_w
               ? agreement_hash_integers(hashes, sizeof hashes / sizeof hashes[0])
               : 0;
}
