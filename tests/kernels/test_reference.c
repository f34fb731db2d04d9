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

/* Scores log 1, log 2, log 5: weights 1/8, 2/8, 5/8. */
static void weights_are_the_softmax_of_the_scores(void **unused)
{
    (void)unused;
    const double q[] = {2, 0}, k[] = {0, 9, log(2), 9, log(5), 9}, v[] = {8, 0, 0, 16, 24, 8};
    double out[2], lse, weights[3];
    attention_reference(q, k, 2, v, 2, 3, 0, 3, 2, 2, 0.5, out, &lse, weights);
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
    attention_reference(q, k, 1, v, 1, 4, 1, 3, 1, 1, 1, &out, &lse, weights);
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
    attention_reference(q, k, 2, v, 3, 2, 0, 2, 1, 1, 1, &out, NULL, weights);
    near(out, 4);
}

static void a_row_without_keys_is_zero_and_minus_infinity(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {1, 2}, v[] = {3, 4}, lost[] = {-INFINITY, -INFINITY};
    double out = 5, lse = 5, weights[2];
    attention_reference(q, k, 1, v, 1, 2, 2, 1, 1, 1, 1, &out, &lse, weights);
    assert_true(out == 0 && lse == -INFINITY);
    out = lse = 5;
    attention_reference(q, lost, 1, v, 1, 2, 0, 2, 1, 1, 1, &out, &lse, weights);
    assert_true(out == 0 && lse == -INFINITY && weights[0] == 0);
}

static void large_scores_do_not_overflow(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {1e4, -1e4, 1e4}, v[] = {2, 100, 6};
    double out, lse, weights[3];
    attention_reference(q, k, 1, v, 1, 3, 0, 3, 1, 1, 1, &out, &lse, weights);
    near(out, 4);
    near(lse, 1e4 + log(2));
}

static void nan_and_infinity_are_data(void **unused)
{
    (void)unused;
    const double q[] = {1}, k[] = {0, 0}, v[] = {INFINITY, 1}, bad_k[] = {NAN, -INFINITY}, top[] = {INFINITY, 0};
    double out, lse, weights[2];
    attention_reference(q, k, 1, v, 1, 2, 0, 2, 1, 1, 1, &out, &lse, weights);
    assert_true(out == INFINITY);
    near(lse, log(2));
    attention_reference(q, bad_k, 1, v, 1, 2, 0, 2, 1, 1, 1, &out, &lse, weights);
    assert_true(isnan(out) && isnan(lse));
    attention_reference(q, top, 1, v, 1, 2, 0, 2, 1, 1, 1, &out, &lse, weights);
    assert_true(isnan(out) && isnan(lse));
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
