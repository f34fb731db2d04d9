/* clear, merge and finish: the monoid. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/problem.h"

#include <math.h>
#include <string.h>

static const attention_kernel *portable;

static attention_state copy_state(attention_state state, int64_t rows, int value_dim)
{
    attention_state copy = state_create(rows, value_dim);
    memcpy(copy.o, state.o, (size_t)(rows * value_dim) * sizeof *copy.o);
    memcpy(copy.m, state.m, (size_t)rows * sizeof *copy.m);
    memcpy(copy.l, state.l, (size_t)rows * sizeof *copy.l);
    return copy;
}

static const problem_shape some = {.heads = 2,
                                   .kv_heads = 1,
                                   .dim = 16,
                                   .value_dim = 20,
                                   .tokens = 40,
                                   .keys = 300,
                                   .query_scale = 3,
                                   .mask = MASK_RANDOM,
                                   .seed = 50000};
enum { SOME_ROWS = 80 };

static void an_empty_state_finishes_as_zero_and_minus_infinity(void **unused)
{
    (void)unused;
    attention_state state = state_create(3, 5);
    for (int type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16; type++) {
        float out[15], lse[3];
        memset(out, 0xff, sizeof out);
        attention_state_finish(state, 3, 5, (kernel_type)type, out, lse, 2);
        const char zeros[sizeof out] = {0};
        assert_memory_equal(out, zeros, 15 * number_size((kernel_type)type));
        for (int r = 0; r < 3; r++) assert_true(lse[r] == -INFINITY);
    }
    state_destroy(&state);
}

static void the_empty_state_is_the_identity_bit_for_bit(void **unused)
{
    (void)unused;
    problem p = problem_create(&some);
    attention_state state = problem_state(&p, portable, &(fold_cut){0});
    attention_state left = state_create(SOME_ROWS, some.value_dim), empty = state_create(SOME_ROWS, some.value_dim);
    attention_state right = copy_state(state, SOME_ROWS, some.value_dim);
    attention_state_merge(left, state, SOME_ROWS, some.value_dim);
    attention_state_merge(right, empty, SOME_ROWS, some.value_dim);
    assert_true(states_equal(left, state, SOME_ROWS, some.value_dim));
    assert_true(states_equal(right, state, SOME_ROWS, some.value_dim));

    attention_state both = state_create(SOME_ROWS, some.value_dim);
    attention_state_merge(both, empty, SOME_ROWS, some.value_dim);
    assert_true(states_equal(both, empty, SOME_ROWS, some.value_dim));
    state_destroy(&state);
    state_destroy(&left);
    state_destroy(&right);
    state_destroy(&empty);
    state_destroy(&both);
    problem_destroy(&p);
}

/* Folds thirds of the keys apart and merges them as (a b) c or a (b c). */
static void merge_thirds(const problem *p, bool right_first, attention_state *whole)
{
    attention_state parts[3];
    for (int i = 0; i < 3; i++) {
        parts[i] = state_create(SOME_ROWS, some.value_dim);
        problem_fold_keys(p, portable, &(fold_cut){0}, 100 * i, 100 * (i + 1), parts[i]);
    }
    if (right_first) {
        attention_state_merge(parts[1], parts[2], SOME_ROWS, some.value_dim);
        attention_state_merge(parts[0], parts[1], SOME_ROWS, some.value_dim);
    } else {
        attention_state_merge(parts[0], parts[1], SOME_ROWS, some.value_dim);
        attention_state_merge(parts[0], parts[2], SOME_ROWS, some.value_dim);
    }
    *whole = parts[0];
    state_destroy(&parts[1]);
    state_destroy(&parts[2]);
}

static void merging_is_associative_up_to_rounding(void **unused)
{
    (void)unused;
    problem p = problem_create(&some);
    for (int right_first = 0; right_first < 2; right_first++) {
        attention_state whole;
        merge_thirds(&p, right_first, &whole);
        problem_check(&p, whole, SOME_ROWS, 1e-6, 1e-6);
        state_destroy(&whole);
    }
    problem_destroy(&p);
}

/* One row, E = 1, whose only key has the natural score `score` and value `value`. */
static attention_state single(double score, float value)
{
    attention_state state = state_create(1, 1);
    state.m[0] = (float)(score * 1.4426950408889634);
    state.l[0] = 1;
    state.o[0] = value;
    return state;
}

static void check_pair(double a, double b, float expected_out, double expected_lse)
{
    for (int swap = 0; swap < 2; swap++) {
        attention_state into = single(swap ? b : a, swap ? 3 : 1), from = single(swap ? a : b, swap ? 1 : 3);
        float out, lse;
        attention_state_merge(into, from, 1, 1);
        attention_state_finish(into, 1, 1, KERNEL_FLOAT32, &out, &lse, 1);
        assert_float_equal(out, expected_out, 1e-6);
        assert_float_equal(lse / expected_lse, 1, 1e-6);
        state_destroy(&into);
        state_destroy(&from);
    }
}

static void scores_far_apart_merge_without_overflow(void **unused)
{
    (void)unused;
    check_pair(7, 7, 2, 7 + log(2));
    check_pair(100, 5, 1, 100); /* 95 > 89 */
    check_pair(-5, -100, 1, -5);
    check_pair(800, 50, 1, 800); /* 750 > 710 */
    check_pair(1e4, -1e4, 1, 1e4);
    check_pair(-1e4, 1e4, 3, 1e4);
    check_pair(1e4, 1e4, 2, 1e4 + log(2));
    check_pair(-1e4, -1e4, 2, -1e4 + log(2));
}

static void a_nan_survives_every_merge(void **unused)
{
    (void)unused;
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < 3; i++) {
            static const float references[] = {-INFINITY, 0, INFINITY};
            attention_state bad = single(0, NAN), good = single(500, 1);
            bad.m[0] = references[i];
            bad.l[0] = NAN;
            attention_state_merge(side ? good : bad, side ? bad : good, 1, 1);
            float out, lse;
            attention_state_finish(side ? good : bad, 1, 1, KERNEL_FLOAT32, &out, &lse, 1);
            assert_true(isnan(out) && isnan(lse));
            state_destroy(&bad);
            state_destroy(&good);
        }
}

/* The value was seen: whether Inf or 0 * Inf comes out, as of one fold over all keys, it is not a number. */
static void an_infinite_value_survives_every_merge_however_small_its_weight(void **unused)
{
    (void)unused;
    for (int side = 0; side < 2; side++)
        for (float gap = 0; gap <= 400; gap += 50) {
            attention_state bad = single(0, INFINITY), good = single(gap, 1);
            attention_state_merge(side ? good : bad, side ? bad : good, 1, 1);
            float out, lse;
            attention_state_finish(side ? good : bad, 1, 1, KERNEL_FLOAT32, &out, &lse, 1);
            assert_false(isfinite(out));
            assert_true(isfinite(lse));
            state_destroy(&bad);
            state_destroy(&good);
        }
}

/* Keys of the first half have scores of -inf, and one a value of NaN: it reaches the row whether the second half is folded
 * on or merged, from either side. */
static void a_nan_value_at_a_score_of_minus_infinity_survives_a_merge_as_it_does_a_fold(void **unused)
{
    (void)unused;
    const problem_shape shape = {
        .heads = 1, .kv_heads = 1, .dim = 1, .value_dim = 3, .tokens = 1, .keys = 128, .query_scale = 1, .seed = 52000};
    problem p = problem_create(&shape);
    problem_set(&p, &p.q, 0, 0, 0, -1);
    for (int64_t j = 0; j < 64; j++) problem_set(&p, &p.k, j, 0, 0, INFINITY);
    problem_set(&p, &p.v, 7, 0, 1, NAN);
    attention_state folded = problem_state(&p, portable, &(fold_cut){0});
    for (int side = 0; side < 2; side++) {
        attention_state into = state_create(1, 3), from = state_create(1, 3);
        problem_fold_keys(&p, portable, &(fold_cut){0}, side ? 64 : 0, side ? 128 : 64, into);
        problem_fold_keys(&p, portable, &(fold_cut){0}, side ? 0 : 64, side ? 64 : 128, from);
        attention_state_merge(into, from, 1, 3);
        for (int e = 0; e < 3; e++) {
            assert_int_equal(isnan(into.o[e]) != 0, e == 1);
            assert_int_equal(isnan(folded.o[e]) != 0, e == 1);
        }
        assert_true(into.l[0] == folded.l[0] && into.m[0] == folded.m[0]);
        state_destroy(&into);
        state_destroy(&from);
    }
    state_destroy(&folded);
    problem_destroy(&p);
}

/* Products that would be denormal are 0, the caller's environment comes back, and denormals of float16 are numbers. */
static void merge_and_finish_flush_denormals_of_float32_alone(void **unused)
{
    (void)unused;
    volatile float smallest = 0x1p-126f;
    attention_state into = single(0, 0x1p-100f), from = single(60 * log(2), 0);
    attention_state_merge(into, from, 1, 1);
#if defined(__SSE__)
    assert_true(into.o[0] == 0);
#endif
    assert_true(smallest * 0.5f > 0);

    attention_state small = single(0, 0x1.8p-23f);
    for (int threads = 1; threads <= 2; threads++) {
        uint16_t out;
        attention_state_finish(small, 1, 1, KERNEL_FLOAT16, &out, NULL, threads);
        assert_int_equal(out, 3); /* times 2^-24 */
        assert_true(smallest * 0.5f > 0);
    }
    state_destroy(&into);
    state_destroy(&from);
    state_destroy(&small);
}

static void merging_leaves_the_other_state_alone(void **unused)
{
    (void)unused;
    problem p = problem_create(&some);
    attention_state into = problem_state(&p, portable, &(fold_cut){0});
    attention_state from = copy_state(into, SOME_ROWS, some.value_dim);
    attention_state kept = copy_state(into, SOME_ROWS, some.value_dim);
    attention_state_merge(into, from, SOME_ROWS, some.value_dim);
    assert_true(states_equal(from, kept, SOME_ROWS, some.value_dim));
    state_destroy(&into);
    state_destroy(&from);
    state_destroy(&kept);
    problem_destroy(&p);
}

static void many_merges_do_not_grow_the_error(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 1,
                                 .kv_heads = 1,
                                 .dim = 32,
                                 .value_dim = 32,
                                 .tokens = 40,
                                 .keys = 2048,
                                 .query_scale = 1,
                                 .seed = 51000};
    static const int64_t pieces[] = {1, 4, 32, 256};
    problem p = problem_create(&shape);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        attention_state whole = state_create(shape.tokens, shape.value_dim);
        for (int64_t j = 0; j < pieces[i]; j++) {
            attention_state part = state_create(shape.tokens, shape.value_dim);
            const int64_t keys = shape.keys / pieces[i];
            problem_fold_keys(&p, portable, &(fold_cut){0}, j * keys, (j + 1) * keys, part);
            attention_state_merge(whole, part, shape.tokens, shape.value_dim);
            state_destroy(&part);
        }
        problem_check(&p, whole, shape.tokens, 6e-7, 6e-7);
        state_destroy(&whole);
    }
    problem_destroy(&p);
}

static void finishing_rounds_once_to_the_output_type(void **unused)
{
    (void)unused;
    problem p = problem_create(&some);
    attention_state state = problem_state(&p, portable, &(fold_cut){0});
    float out[SOME_ROWS * 20];
    uint16_t narrow[SOME_ROWS * 20], expected[SOME_ROWS * 20];
    attention_state_finish(state, SOME_ROWS, some.value_dim, KERNEL_FLOAT32, out, NULL, 1);
    for (int type = KERNEL_FLOAT16; type <= KERNEL_BFLOAT16; type++) {
        number_narrow((kernel_type)type, out, expected, SOME_ROWS * 20);
        attention_state_finish(state, SOME_ROWS, some.value_dim, (kernel_type)type, narrow, NULL, 2);
        assert_memory_equal(narrow, expected, sizeof narrow);
    }
    state_destroy(&state);
    problem_destroy(&p);
}

/* A sink of score s and value 0 beside a row of (out, lse): lse' = log(exp(lse) + exp(s)), out' = out exp(lse - lse').
 */
static void a_sink_is_a_key_without_a_value(void **unused)
{
    (void)unused;
    static const float sinks[] = {-1.5f, 40}; /* MASK_RANDOM has rows that see nothing, too */
    problem p = problem_create(&some);
    attention_state state = problem_state(&p, portable, &(fold_cut){0});
    float out[SOME_ROWS * 20], lse[SOME_ROWS];
    attention_state_add_sinks(state, SOME_ROWS, some.heads, some.value_dim, sinks);
    attention_state_finish(state, SOME_ROWS, some.value_dim, KERNEL_FLOAT32, out, lse, 1);
    for (int64_t row = 0; row < SOME_ROWS; row++) {
        double expected[20], seen, sink = (double)sinks[row % 2];
        problem_reference(&p, row / 2, (int)(row % 2), expected, &seen);
        const double top = fmax(seen, sink), all = top + log(exp(seen - top) + exp(sink - top));
        assert_true(fabs((double)lse[row] - all) <= 1e-6 * (1 + fabs(all)));
        for (int e = 0; e < some.value_dim; e++)
            assert_true(fabs((double)out[row * 20 + e] - expected[e] * exp(seen - all)) <= 1e-6);
    }
    state_destroy(&state);
    problem_destroy(&p);
}

static void a_sink_of_minus_infinity_is_none(void **unused)
{
    (void)unused;
    static const float sinks[] = {-INFINITY, -INFINITY};
    problem p = problem_create(&some);
    attention_state state = problem_state(&p, portable, &(fold_cut){0});
    attention_state kept = copy_state(state, SOME_ROWS, some.value_dim);
    attention_state_add_sinks(state, SOME_ROWS, some.heads, some.value_dim, sinks);
    assert_true(states_equal(state, kept, SOME_ROWS, some.value_dim));
    state_destroy(&state);
    state_destroy(&kept);
    problem_destroy(&p);
}

static void an_infinite_sink_or_a_nan_gives_nan(void **unused)
{
    (void)unused;
    static const float sinks[] = {INFINITY, NAN};
    for (int empty = 0; empty < 2; empty++) {
        attention_state state = state_create(2, 1);
        float out[2], lse[2];
        for (int r = 0; r < 2 && !empty; r++) {
            state.m[r] = 3;
            state.l[r] = state.o[r] = 1;
        }
        attention_state_add_sinks(state, 2, 2, 1, sinks);
        attention_state_finish(state, 2, 1, KERNEL_FLOAT32, out, lse, 1);
        for (int r = 0; r < 2; r++) assert_true(isnan(out[r]) && isnan(lse[r]));
        state_destroy(&state);
    }
}

int main(void)
{
    portable = attention_kernel_find("portable");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_state_finishes_as_zero_and_minus_infinity),
        cmocka_unit_test(the_empty_state_is_the_identity_bit_for_bit),
        cmocka_unit_test(merging_is_associative_up_to_rounding),
        cmocka_unit_test(scores_far_apart_merge_without_overflow),
        cmocka_unit_test(a_nan_survives_every_merge),
        cmocka_unit_test(an_infinite_value_survives_every_merge_however_small_its_weight),
        cmocka_unit_test(a_nan_value_at_a_score_of_minus_infinity_survives_a_merge_as_it_does_a_fold),
        cmocka_unit_test(merge_and_finish_flush_denormals_of_float32_alone),
        cmocka_unit_test(merging_leaves_the_other_state_alone),
        cmocka_unit_test(many_merges_do_not_grow_the_error),
        cmocka_unit_test(finishing_rounds_once_to_the_output_type),
        cmocka_unit_test(a_sink_is_a_key_without_a_value),
        cmocka_unit_test(a_sink_of_minus_infinity_is_none),
        cmocka_unit_test(an_infinite_sink_or_a_nan_gives_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
