/* The oracle against cases worked by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/reference.h"

#include <math.h>

static void near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-15 * (1 + fabs(expected)))) fail_msg("%.17g, should be %.17g", found, expected);
}

static void within(double found, double expected, double bound)
{
    if (!(fabs(found - expected) <= bound)) fail_msg("%.17g, should be %.17g", found, expected);
}

/* Scores log 1, log 2, log 5: weights 1/8, 2/8, 5/8. */
static void weights_are_the_softmax_of_the_scores(void **unused)
{
    (void)unused;
    const double q[] = {2, 0}, k[] = {0, 9, log(2), 9, log(5), 9}, v[] = {8, 0, 0, 16, 24, 8};
    double out[2], lse, weights[3];
    attention_reference(q, k, 2, v, 2, 3, 0, 3, 2, 2, 0.5, NULL, out, &lse, weights);
    near(weights[0], 0.125);
    near(weights[1], 0.25);
    near(weights[2], 0.625);
    near(out[0], 16);
    near(out[1], 9);
    near(lse, log(8));
}

static void keys_outside_the_range_weigh_nothing(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {NAN, log(3), 0, INFINITY}, v[] = {NAN, 4, 8, NAN};
    double out, lse, weights[4];
    attention_reference(q, k, 1, v, 1, 4, 1, 3, 1, 1, 1, NULL, &out, &lse, weights);
    near(out, 5);
    near(lse, log(4));
    assert_true(weights[0] == 0 && weights[3] == 0);
    near(weights[1], 0.75);
}

static void rows_may_be_strided(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {0, 77, 0, 77}, v[] = {2, 77, 77, 6, 77, 77};
    double out, weights[2];
    attention_reference(q, k, 2, v, 3, 2, 0, 2, 1, 1, 1, NULL, &out, NULL, weights);
    near(out, 4);
}

static void a_row_without_keys_is_zero_and_minus_infinity(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {1, 2}, v[] = {3, 4}, lost[] = {-INFINITY, -INFINITY};
    double out = 5, lse = 5, weights[2];
    attention_reference(q, k, 1, v, 1, 2, 2, 1, 1, 1, 1, NULL, &out, &lse, weights);
    assert_true(out == 0 && lse == -INFINITY);
    out = lse = 5;
    attention_reference(q, lost, 1, v, 1, 2, 0, 2, 1, 1, 1, NULL, &out, &lse, weights);
    assert_true(out == 0 && lse == -INFINITY && weights[0] == 0);
}

static void large_scores_do_not_overflow(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {1e4, -1e4, 1e4}, v[] = {2, 100, 6};
    double out, lse, weights[3];
    attention_reference(q, k, 1, v, 1, 3, 0, 3, 1, 1, 1, NULL, &out, &lse, weights);
    near(out, 4);
    near(lse, 1e4 + log(2));
}

static void nan_and_infinity_are_data(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {0, 0}, v[] = {INFINITY, 1}, bad_k[] = {NAN, -INFINITY}, top[] = {INFINITY, 0};
    double out, lse, weights[2];
    attention_reference(q, k, 1, v, 1, 2, 0, 2, 1, 1, 1, NULL, &out, &lse, weights);
    assert_true(out == INFINITY);
    near(lse, log(2));
    attention_reference(q, bad_k, 1, v, 1, 2, 0, 2, 1, 1, 1, NULL, &out, &lse, weights);
    assert_true(isnan(out) && isnan(lse));
    attention_reference(q, top, 1, v, 1, 2, 0, 2, 1, 1, 1, NULL, &out, &lse, weights);
    assert_true(isnan(out) && isnan(lse));
}

static void a_cap_bounds_scores_smoothly(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {INFINITY, -INFINITY, 3}, v[] = {2, 5, 7}, zero[] = {0, 0, 0};
    const reference_scores scores = {.softcap = 2, .key_positions = (const int64_t[]){0, 0, 0}};
    double out, lse, weights[3];
    attention_reference(q, k, 1, v, 1, 3, 0, 3, 1, 1, 1, &scores, &out, &lse, weights);
    near(lse, log(exp(2) + exp(-2) + exp(2 * tanh(1.5))));
    near(log(weights[0] / weights[1]), 4);
    attention_reference(q, zero, 1, v, 1, 3, 0, 3, 1, 1, 1, &scores, &out, &lse, weights);
    near(lse, log(3));
}

static void a_slope_takes_from_a_score_what_the_distance_says(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {1, 1, 1}, v[] = {2, 5, 7};
    const int64_t positions[] = {2147483640, 2147483647, 2147483657};
    const reference_scores near_by = {.slope = 0.5, .query_position = 1};
    const reference_scores far = {.slope = 0.25, .query_position = 2147483648, .key_positions = positions};
    double out, lse, weights[3];
    attention_reference(q, k, 1, v, 1, 3, 0, 3, 1, 1, 1, &near_by, &out, &lse, weights);
    near(log(weights[1] / weights[0]), 0.5);
    near(log(weights[1] / weights[2]), 0.5);
    attention_reference(q, k, 1, v, 1, 3, 0, 3, 1, 1, 1, &far, &out, &lse, weights);
    near(log(weights[1] / weights[0]), 0.25 * 7);
    near(log(weights[1] / weights[2]), 0.25 * 8);
}

static void a_rotation_turns_pairs_and_leaves_the_rest(void **unused)
{
    (void)unused;
    const double frequencies[] = {acos(0) / 3, acos(0)};
    double halves[] = {1, 2, 10, 20, 5}, pairs[] = {1, 10, 2, 20, 5};
    const reference_scores apart = {.rope_dim = 4, .rope_frequencies = frequencies};
    const reference_scores together = {.rope_dim = 4, .rope_interleaved = true, .rope_frequencies = frequencies};
    reference_rotate(&apart, 3, halves); /* by a right angle, and by three */
    within(halves[0], -10, 1e-13);
    within(halves[2], 1, 1e-13);
    within(halves[1], 20, 1e-13);
    within(halves[3], -2, 1e-13);
    within(halves[4], 5, 1e-13);
    reference_rotate(&together, 3, pairs);
    within(pairs[0], -10, 1e-13);
    within(pairs[1], 1, 1e-13);
    within(pairs[2], 20, 1e-13);
    within(pairs[3], -2, 1e-13);
    within(pairs[4], 5, 1e-13);
}

static void rotated_scores_depend_on_the_distance_alone(void **unused)
{
    (void)unused;
    const double frequencies[] = {1, 0.01}, q[] = {0.3, -1, 2, 0.5, 0.7};
    const double k[] = {1, 0.1, -2, 3, 4, 0.2, 1, 1, -1, 0}, v[] = {1, 4};
    double out[2], lse[2], weights[2];
    for (int far = 0; far < 2; far++) {
        const int64_t offset = far ? 2147483648 : 0, positions[] = {offset + 5, offset + 9};
        const reference_scores scores = {
            .query_position = offset + 11, .key_positions = positions, .rope_dim = 4, .rope_frequencies = frequencies};
        attention_reference(q, k, 5, v, 1, 2, 0, 2, 5, 1, 1, &scores, &out[far], &lse[far], weights);
    }
    within(out[1], out[0], 1e-11);
    within(lse[1], lse[0], 1e-11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_the_softmax_of_the_scores),
        cmocka_unit_test(keys_outside_the_range_weigh_nothing),
        cmocka_unit_test(rows_may_be_strided),
        cmocka_unit_test(a_row_without_keys_is_zero_and_minus_infinity),
        cmocka_unit_test(large_scores_do_not_overflow),
        cmocka_unit_test(nan_and_infinity_are_data),
        cmocka_unit_test(a_cap_bounds_scores_smoothly),
        cmocka_unit_test(a_slope_takes_from_a_score_what_the_distance_says),
        cmocka_unit_test(a_rotation_turns_pairs_and_leaves_the_rest),
        cmocka_unit_test(rotated_scores_depend_on_the_distance_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
