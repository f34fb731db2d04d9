/* The arithmetics on bf16 matrix units: how accurate each is, and what goes through the float32 fold instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/cpu.h"
#include "tests/kernels/problem.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 24, EVERY_ROW = 1 << 20, VALUE_DIM_MAX = 512 };

static const attention_kernel *kernel;
static const attention_kernel *blocked; /* whose float32 fold the kernel uses */

static attention_state state_of(const problem *p, const attention_kernel *of, attention_compute compute)
{
    const attention_compute before = compute_under_test;
    compute_under_test = compute;
    attention_state state = problem_state(p, of, &(fold_cut){0});
    compute_under_test = before;
    return state;
}

static float round_to(kernel_type type, float value)
{
    uint16_t number;
    if (type == KERNEL_FLOAT32) return value;
    number_narrow(type, &value, &number, 1);
    number_widen(type, &number, &value, 1);
    return value;
}

static int64_t row_of(const problem *p, int i, int count)
{
    return p->shape.tokens * p->shape.heads * i / count;
}

/* Relative RMS error, on `rows` rows, of what `state` finishes as, rounded to `type`, against the oracle's for p. */
static double error_of_state(const problem *p, attention_state state, kernel_type type, int rows)
{
    const int width = p->shape.value_dim;
    double expected[VALUE_DIM_MAX], lse, error = 0, norm = 0;
    for (int i = 0; i < rows; i++) {
        const int64_t row = row_of(p, i, rows);
        problem_reference(p, row / p->shape.heads, (int)(row % p->shape.heads), expected, &lse);
        for (int e = 0; e < width; e++) {
            const double out = (double)round_to(type, state.o[row * width + e] / state.l[row]);
            error += (out - expected[e]) * (out - expected[e]);
            norm += expected[e] * expected[e];
        }
    }
    return sqrt(error / norm);
}

/* The same of the oracle's result for `rounded`, rounded to bfloat16. */
static double error_of_rounding(const problem *p, const problem *rounded, int rows)
{
    double expected[VALUE_DIM_MAX], other[VALUE_DIM_MAX], lse, error = 0, norm = 0;
    for (int i = 0; i < rows; i++) {
        const int64_t row = row_of(p, i, rows);
        problem_reference(p, row / p->shape.heads, (int)(row % p->shape.heads), expected, &lse);
        problem_reference(rounded, row / p->shape.heads, (int)(row % p->shape.heads), other, &lse);
        for (int e = 0; e < p->shape.value_dim; e++) {
            const double difference = (double)round_to(KERNEL_BFLOAT16, (float)other[e]) - expected[e];
            error += difference * difference;
            norm += expected[e] * expected[e];
        }
    }
    return sqrt(error / norm);
}

static problem_shape long_shape(kernel_type type, int dim, float query_scale, uint64_t seed)
{
    return (problem_shape){.type = type,
                           .heads = 1,
                           .kv_heads = 1,
                           .dim = dim,
                           .value_dim = dim,
                           .tokens = 32,
                           .keys = 4096,
                           .query_scale = query_scale,
                           .seed = seed};
}

static void check_accuracy(attention_compute compute, kernel_type type, float query_scale, double bound)
{
    for (int dim = 64; dim <= 128; dim += 64) {
        const problem_shape shape = long_shape(type, dim, query_scale, 90000 + (uint64_t)dim);
        problem p = problem_create(&shape);
        attention_state state = state_of(&p, kernel, compute);
        const double error = error_of_state(&p, state, KERNEL_FLOAT32, ROWS);
        if (!(error <= bound)) {
            problem_print(&p);
            fail_msg("%s: relative RMS error %.3g above %.3g", attention_compute_name(compute), error, bound);
        }
        state_destroy(&state);
        problem_destroy(&p);
    }
}

static void six_products_are_as_exact_as_float32(void **unused)
{
    (void)unused;
    if (!attention_kernel_offers(kernel, COMPUTE_BF16X6)) skip();
    check_accuracy(COMPUTE_BF16X6, KERNEL_FLOAT32, 1, 6e-7);
    check_accuracy(COMPUTE_BF16X6, KERNEL_FLOAT32, 40, 1.5e-6);
}

/* The float32 fold of each instruction set that this CPU has. */
static void float32_is_good_to_6e_7_and_to_more_where_scores_are_large(void **unused)
{
    (void)unused;
    const attention_kernel *tested = kernel;
    for (int i = 0; i < attention_kernel_count; i++) {
        kernel = attention_kernels[i];
        if (cpu_features_missing(kernel->features)) continue;
        check_accuracy(COMPUTE_FP32, KERNEL_FLOAT32, 1, 6e-7);
        check_accuracy(COMPUTE_FP32, KERNEL_FLOAT32, 40, 1.5e-6);
    }
    kernel = tested;
}

/* At 40 times the scores of ordinary data two parts cannot hold 2e-5: the product of the second ones that is left out
 * and the rounding of the parts are 2^-18 of each term, and an error of a score, which is 100 and more there, is one of
 * its probability's logarithm. Who has such scores has BF16X6. */
static void three_products_are_good_to_2e_5_where_scores_are_ordinary(void **unused)
{
    (void)unused;
    if (!attention_kernel_offers(kernel, COMPUTE_BF16X3)) skip();
    check_accuracy(COMPUTE_BF16X3, KERNEL_FLOAT32, 1, 2e-5);
    check_accuracy(COMPUTE_BF16X3, KERNEL_FLOAT16, 1, 2e-5);
    check_accuracy(COMPUTE_BF16X3, KERNEL_FLOAT32, 40, 8e-5);
}

static void one_product_costs_little_more_than_rounding_to_bfloat16(void **unused)
{
    (void)unused;
    for (int dim = 64; dim <= 128; dim += 64)
        for (int scale = 1; scale <= 40; scale += 39) {
            problem_shape shape = long_shape(KERNEL_FLOAT32, dim, (float)scale, 91000 + (uint64_t)dim);
            problem p = problem_create(&shape);
            shape.type = KERNEL_BFLOAT16;
            problem rounded = problem_create(&shape);
            const double bound = 1.5 * error_of_rounding(&p, &rounded, ROWS);
            const problem *problems[] = {&p, &rounded};
            for (int i = 0; i < 2; i++) {
                attention_state state = state_of(problems[i], kernel, COMPUTE_BF16);
                const double error = error_of_state(&p, state, KERNEL_BFLOAT16, ROWS);
                if (!(error <= bound)) {
                    problem_print(problems[i]);
                    fail_msg("relative RMS error %.3g, 1.5 times that of rounding is %.3g", error, bound);
                }
                state_destroy(&state);
            }
            problem_destroy(&p);
            problem_destroy(&rounded);
        }
}

/* Numbers whose parts would be denormals: 1e-20 is far from that, 1e-30 is not; nor may a whole value dimension be lost
 * beside others that are not small. */
static void small_and_large_values_keep_their_accuracy(void **unused)
{
    (void)unused;
    static const float sizes[] = {1e-30f, 1e-26f, 1e-24f, 1e-20f, 1e20f, 1e29f, 1e33f};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        problem_shape shape = long_shape(KERNEL_FLOAT32, 20, 1, 92000 + i);
        shape.keys = 300;
        problem p = problem_create(&shape);
        for (int64_t j = 0; j < shape.keys; j++)
            for (int e = 0; e < shape.value_dim; e++)
                problem_set(&p, &p.v, j, 0, e, (float)problem_get(&p, &p.v, j, 0, e) * sizes[i]);
        attention_state state = problem_state(&p, kernel, &(fold_cut){0});
        problem_check(&p, state, EVERY_ROW, 1e-6, 1e-6);
        state_destroy(&state);
        problem_destroy(&p);
    }
}

/* Scores are what they would be with ordinary q and k. */
static void large_queries_against_small_keys_are_right_and_the_other_way_round(void **unused)
{
    (void)unused;
    static const float sizes[] = {0x1p50f, 0x1p54f, 0x1p57f, 0x1p64f, 0x1p100f, 0x1p-50f, 0x1p-100f, 0x1p-110f};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        problem_shape shape = long_shape(KERNEL_FLOAT32, 33, 1, 93000 + i);
        shape.keys = 300;
        problem p = problem_create(&shape);
        for (int d = 0; d < shape.dim; d++) {
            for (int64_t t = 0; t < shape.tokens; t++)
                problem_set(&p, &p.q, t, 0, d, (float)problem_get(&p, &p.q, t, 0, d) * sizes[i]);
            for (int64_t j = 0; j < shape.keys; j++)
                problem_set(&p, &p.k, j, 0, d, (float)problem_get(&p, &p.k, j, 0, d) / sizes[i]);
        }
        attention_state state = problem_state(&p, kernel, &(fold_cut){0});
        problem_check(&p, state, EVERY_ROW, 2e-6, 2e-6);
        state_destroy(&state);
        problem_destroy(&p);
    }
}

static const problem_shape mixed = {.heads = 6,
                                    .kv_heads = 2,
                                    .dim = 20,
                                    .value_dim = 24,
                                    .tokens = 100,
                                    .keys = 150,
                                    .query_scale = 1,
                                    .mask = MASK_CAUSAL,
                                    .seed = 94000};

static bool rows_equal(attention_state a, attention_state b, int64_t row, int width)
{
    const size_t bytes = (size_t)width * sizeof(float);
    return memcmp(a.o + row * width, b.o + row * width, bytes) == 0 && a.m[row] == b.m[row] && a.l[row] == b.l[row];
}

/* Huge elements in some queries: those rows have the bits of the float32 fold, all others theirs of before. */
static void a_query_that_does_not_split_is_folded_in_float32_and_alone(void **unused)
{
    (void)unused;
    problem p = problem_create(&mixed);
    attention_state before = problem_state(&p, kernel, &(fold_cut){0});
    for (int64_t t = 3; t < mixed.tokens; t += 1 + t % 5)
        for (int h = (int)t % 3; h < mixed.heads; h += 1 + (int)t % 4)
            problem_set(&p, &p.q, t, h, (int)t % 20, 0x1p60f);
    attention_state state = problem_state(&p, kernel, &(fold_cut){.threads = 2, .span_tokens = 41});
    attention_state float32 = state_of(&p, blocked, COMPUTE_FP32);
    for (int64_t row = 0; row < mixed.tokens * mixed.heads; row++) {
        const int64_t t = row / mixed.heads;
        const bool huge = problem_get(&p, &p.q, t, (int)(row % mixed.heads), (int)t % 20) == 0x1p60;
        if (!rows_equal(state, huge ? float32 : before, row, mixed.value_dim)) {
            problem_print(&p);
            fail_msg("row %lld, %s: other bits", (long long)row, huge ? "huge" : "ordinary");
        }
    }
    state_destroy(&before);
    state_destroy(&state);
    state_destroy(&float32);
    problem_destroy(&p);
}

/* A value that does not split: with one part only huge ones do not. */
static float odd_value(void)
{
    return compute_under_test == COMPUTE_BF16 ? 0x1p101f : 1e-30f;
}

/* A huge element in every key or an odd one in every value: the whole of it has the bits of the float32 fold. */
static void keys_and_values_that_do_not_split_are_folded_in_float32(void **unused)
{
    (void)unused;
    for (int i = 0; i < 4; i++) {
        const bool values = i % 2;
        problem_shape shape = mixed;
        if (i >= 2) shape.type = KERNEL_BFLOAT16; /* which one part takes as it is */
        problem p = problem_create(&shape);
        for (int64_t j = 0; j < mixed.keys; j++)
            for (int g = 0; g < mixed.kv_heads; g++)
                problem_set(&p, values ? &p.v : &p.k, j, g, (int)j % 20, values ? odd_value() : 0x1p56f);
        attention_state state = problem_state(&p, kernel, &(fold_cut){.threads = 2, .span_tokens = 41});
        attention_state float32 = state_of(&p, blocked, COMPUTE_FP32);
        assert_true(states_equal(state, float32, mixed.tokens * mixed.heads, mixed.value_dim));
        state_destroy(&state);
        state_destroy(&float32);
        problem_destroy(&p);
    }
}

/* Beside ordinary values it is nothing: all bits are those with 0 in its place, so it went the same way. */
static void a_value_goes_through_the_products_however_small_as_long_as_its_parts_count(void **unused)
{
    (void)unused;
    static const float least[] = {[COMPUTE_BF16X6] = 0x1p-80f, [COMPUTE_BF16X3] = 0x1p-88f, [COMPUTE_BF16] = 0x1p-126f};
    problem p = problem_create(&mixed);
    problem_set(&p, &p.v, 70, 1, 5, 0);
    attention_state without = problem_state(&p, kernel, &(fold_cut){0});
    problem_set(&p, &p.v, 70, 1, 5, least[compute_under_test]);
    attention_state with = problem_state(&p, kernel, &(fold_cut){0});
    assert_true(states_equal(without, with, mixed.tokens * mixed.heads, mixed.value_dim));
    state_destroy(&without);
    state_destroy(&with);
    problem_destroy(&p);
}

static void a_huge_scale_is_folded_in_float32(void **unused)
{
    (void)unused;
    problem_shape shape = mixed;
    shape.query_scale = 0x1p-38f;
    problem p = problem_create(&shape);
    p.scale = 0x1p38f;
    attention_state state = problem_state(&p, kernel, &(fold_cut){0}), float32 = state_of(&p, blocked, COMPUTE_FP32);
    assert_true(states_equal(state, float32, shape.tokens * shape.heads, shape.value_dim));
    state_destroy(&state);
    state_destroy(&float32);
    problem_destroy(&p);
}

static int end_polls;

static void count_ends(void *unused, double fraction)
{
    (void)unused;
    if (fraction >= 1) end_polls++;
}

/* Huge queries and values: many folds in float32 inside the call's own. */
static void a_call_ends_once_whatever_goes_through_float32(void **unused)
{
    (void)unused;
    problem p = problem_create(&mixed);
    for (int64_t t = 0; t < mixed.tokens; t += 3) problem_set(&p, &p.q, t, (int)t % mixed.heads, 1, 0x1p60f);
    for (int64_t j = 0; j < mixed.keys; j += 5) problem_set(&p, &p.v, j, (int)j % mixed.kv_heads, 1, 0x1p101f);
    end_polls = 0;
    attention_state state = problem_state(&p, kernel, &(fold_cut){.poll = count_ends});
    assert_int_equal(end_polls, 1);
    state_destroy(&state);
    problem_destroy(&p);
}

/* One odd value: rows that do not see its key keep their bits. */
static void check_one_key(kernel_type type)
{
    static const int64_t keys[] = {0, 63, 64, 90, 149};
    problem_shape shape = mixed;
    shape.type = type;
    problem p = problem_create(&shape);
    attention_state before = problem_state(&p, kernel, &(fold_cut){0});
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const float kept = (float)problem_get(&p, &p.v, keys[i], 1, 5);
        problem_set(&p, &p.v, keys[i], 1, 5, odd_value());
        attention_state state = problem_state(&p, kernel, &(fold_cut){0});
        for (int64_t row = 0; row < mixed.tokens * mixed.heads; row++) {
            const bool sees = row % mixed.heads >= 3 && problem_sees(&p, row / mixed.heads, keys[i]);
            if (!sees) assert_true(rows_equal(before, state, row, mixed.value_dim));
        }
        problem_check(&p, state, EVERY_ROW, 1e-6, 1e-6);
        problem_set(&p, &p.v, keys[i], 1, 5, kept);
        state_destroy(&state);
    }
    state_destroy(&before);
    problem_destroy(&p);
}

static void a_key_that_does_not_split_changes_the_rows_that_see_it_alone(void **unused)
{
    (void)unused;
    check_one_key(KERNEL_FLOAT32);
    check_one_key(KERNEL_BFLOAT16);
}

/* 66 sub-blocks of rows, more than a task has; more key blocks than a chunk has; the last of each cut short. */
static void tasks_and_chunks_of_every_length_are_right(void **unused)
{
    (void)unused;
    static const int64_t lengths[][2] = {{2100, 65}, {33, 2300}, {31, 4097}, {1, 2111}};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const problem_shape shape = {.heads = 1,
                                     .kv_heads = 1,
                                     .dim = 8,
                                     .value_dim = 8,
                                     .tokens = lengths[i][0],
                                     .keys = lengths[i][1],
                                     .first_key = 1000,
                                     .query_scale = 1,
                                     .mask = i % 2 ? MASK_RANDOM : MASK_FULL,
                                     .seed = 95000 + i};
        problem p = problem_create(&shape);
        attention_state state = problem_state(&p, kernel, &(fold_cut){0});
        problem_check(&p, state, 200, 1e-6, 1e-6);
        state_destroy(&state);
        problem_destroy(&p);
    }
}

static void any_scale_is_right(void **unused)
{
    (void)unused;
    static const float scales[] = {0, -0.3f, -0.1f, 1e-45f, 1e-39f, 1e-30f, 0.4f, 1e20f};
    problem_shape shape = mixed;
    shape.tokens = shape.keys = 70;
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        problem p = problem_create(&shape);
        const double size = scales[i] == 1e20f ? 1e-20 : 1;
        p.scale = scales[i];
        for (int64_t t = 0; t < shape.tokens; t++)
            for (int h = 0; h < shape.heads; h++)
                for (int d = 0; d < shape.dim; d++)
                    problem_set(&p, &p.q, t, h, d, (float)(problem_get(&p, &p.q, t, h, d) * size));
        attention_state state = problem_state(&p, kernel, &(fold_cut){0});
        problem_check(&p, state, EVERY_ROW, 4e-6, 4e-6);
        state_destroy(&state);
        problem_destroy(&p);
    }
}

static void float32_is_the_blocked_fold(void **unused)
{
    (void)unused;
    problem p = problem_create(&mixed);
    attention_state state = state_of(&p, kernel, COMPUTE_FP32), float32 = state_of(&p, blocked, COMPUTE_FP32);
    assert_true(states_equal(state, float32, mixed.tokens * mixed.heads, mixed.value_dim));
    state_destroy(&state);
    state_destroy(&float32);
    problem_destroy(&p);
}

/* Bit for bit, of an accuracy that shows the order of every sum. */
static void the_processors_products_are_those_of_the_manual(void **unused)
{
    (void)unused;
#if defined(__x86_64__)
    if (kernel == attention_kernel_find("avx512_bf16")) {
        for (int dim = 20; dim <= 96; dim += 19) {
            const problem_shape shape = long_shape(KERNEL_BFLOAT16, dim, 1, 96000 + (uint64_t)dim);
            problem p = problem_create(&shape);
            attention_state state = state_of(&p, kernel, COMPUTE_BF16);
            attention_state emulated = state_of(&p, &attention_dots_emulated_avx512, COMPUTE_BF16);
            assert_true(states_equal(state, emulated, shape.tokens, dim));
            state_destroy(&state);
            state_destroy(&emulated);
            problem_destroy(&p);
        }
        return;
    }
#endif
    skip();
}

static void the_peaks_are_rates(void **unused)
{
    (void)unused;
    assert_true(kernel->bf16_peak(0.01) > 1e6 && isfinite(kernel->bf16_peak(0.01)));
    assert_true(kernel->peak(0.01) > 1e6 && isfinite(kernel->peak(0.01)));
}

int main(int argc, char **argv)
{
    char emulated[] = "amx-emulated", *plain[] = {argv[0], emulated};
    kernel = argc > 1 ? kernel_under_test(argc, argv) : kernel_under_test(2, plain);
    blocked = attention_kernel_find(kernel->features & CPU_AVX512 ? "avx512" : "portable");
    const struct CMUnitTest once[] = {
        cmocka_unit_test(six_products_are_as_exact_as_float32),
        cmocka_unit_test(float32_is_good_to_6e_7_and_to_more_where_scores_are_large),
        cmocka_unit_test(three_products_are_good_to_2e_5_where_scores_are_ordinary),
        cmocka_unit_test(one_product_costs_little_more_than_rounding_to_bfloat16),
        cmocka_unit_test(float32_is_the_blocked_fold),
        cmocka_unit_test(the_processors_products_are_those_of_the_manual),
        cmocka_unit_test(the_peaks_are_rates),
    };
    const struct CMUnitTest each[] = {
        cmocka_unit_test(small_and_large_values_keep_their_accuracy),
        cmocka_unit_test(large_queries_against_small_keys_are_right_and_the_other_way_round),
        cmocka_unit_test(a_query_that_does_not_split_is_folded_in_float32_and_alone),
        cmocka_unit_test(keys_and_values_that_do_not_split_are_folded_in_float32),
        cmocka_unit_test(a_value_goes_through_the_products_however_small_as_long_as_its_parts_count),
        cmocka_unit_test(a_huge_scale_is_folded_in_float32),
        cmocka_unit_test(a_call_ends_once_whatever_goes_through_float32),
        cmocka_unit_test(a_key_that_does_not_split_changes_the_rows_that_see_it_alone),
        cmocka_unit_test(tasks_and_chunks_of_every_length_are_right),
        cmocka_unit_test(any_scale_is_right),
    };
    return argc > 2 ? cmocka_run_group_tests(each, NULL, NULL) : cmocka_run_group_tests(once, NULL, NULL);
}
