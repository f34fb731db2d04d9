/* fold and finish against the oracle, for the kernel that the argument names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/problem.h"

#include <math.h>
#include <time.h>

enum { ALL_ROWS = 1 << 20 };

static const attention_kernel *kernel;

static void check(const problem_shape *shape, const fold_cut *cut, int64_t rows, double bound)
{
    problem p = problem_create(shape);
    attention_state state = problem_state(&p, kernel, cut);
    problem_check(&p, state, rows, bound, bound);
    state_destroy(&state);
    problem_destroy(&p);
}

static void every_size_of_head_and_type_is_right(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{1, 1},     {3, 3},   {16, 16},   {32, 32},   {40, 40},   {64, 64},   {72, 72},
                                   {80, 80},   {96, 96}, {128, 128}, {160, 160}, {192, 192}, {256, 256}, {512, 512},
                                   {192, 128}, {64, 1},  {1, 64},    {72, 80},   {3, 5},     {40, 512}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16; type++)
            for (int layout = 0; layout < LAYOUT_COUNT; layout++)
                check(&(problem_shape){.type = (kernel_type)type,
                                       .heads = 4,
                                       .kv_heads = 2,
                                       .dim = sizes[i][0],
                                       .value_dim = sizes[i][1],
                                       .tokens = 13,
                                       .keys = 138,
                                       .query_scale = 1,
                                       .mask = MASK_CAUSAL,
                                       .layout = (problem_layout)layout,
                                       .seed = 1000 + i * 16 + (size_t)type * 4 + (size_t)layout},
                      &(fold_cut){0}, 8, 1e-6);
}

static void every_length_and_mask_is_right(void **unused)
{
    (void)unused;
    static const int64_t lengths[] = {1, 7, 31, 63, 64, 65, 130, 698};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (int mask = 0; mask < MASK_COUNT; mask++)
            for (int type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16; type++)
                check(&(problem_shape){.type = (kernel_type)type,
                                       .heads = 2,
                                       .kv_heads = 1,
                                       .dim = 20,
                                       .value_dim = 24,
                                       .tokens = lengths[i],
                                       .keys = lengths[i],
                                       .query_scale = 1,
                                       .mask = (problem_mask)mask,
                                       .seed = 2000 + i * 64 + (size_t)mask * 8 + (size_t)type},
                      &(fold_cut){0}, 150, 1e-6);
}

static void tokens_need_not_be_as_many_as_keys(void **unused)
{
    (void)unused;
    static const int64_t lengths[][2] = {{1, 1}, {1, 200}, {5, 64}, {100, 1}, {100, 40}, {300, 129}};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (int mask = 0; mask < MASK_COUNT; mask++)
            check(&(problem_shape){.heads = 3,
                                   .kv_heads = 3,
                                   .dim = 16,
                                   .value_dim = 8,
                                   .tokens = lengths[i][0],
                                   .keys = lengths[i][1],
                                   .query_scale = 1,
                                   .mask = (problem_mask)mask,
                                   .seed = 3000 + i * 8 + (size_t)mask},
                  &(fold_cut){0}, ALL_ROWS, 1e-6);
}

static void grouped_query_heads_use_their_key_head(void **unused)
{
    (void)unused;
    static const int heads[][2] = {{1, 1}, {3, 1}, {3, 3}, {5, 5}, {6, 2}, {7, 1}, {8, 1}, {12, 4}, {32, 4}};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        for (int mask = 0; mask < MASK_COUNT; mask++)
            check(&(problem_shape){.heads = heads[i][0],
                                   .kv_heads = heads[i][1],
                                   .dim = 8,
                                   .value_dim = 12,
                                   .tokens = 50,
                                   .keys = 70,
                                   .query_scale = 1,
                                   .mask = (problem_mask)mask,
                                   .seed = 4000 + i * 8 + (size_t)mask},
                  &(fold_cut){.threads = 2}, ALL_ROWS, 1e-6);
}

/* More than the threads have room for at once. */
static void few_rows_of_many_heads_are_right(void **unused)
{
    (void)unused;
    static const int shapes[][3] = {{64, 64, 512}, {200, 200, 64}, {48, 6, 256}, {130, 26, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int threads = 1; threads <= 3; threads++)
            check(&(problem_shape){.heads = shapes[i][0],
                                   .kv_heads = shapes[i][1],
                                   .dim = shapes[i][2],
                                   .value_dim = shapes[i][2],
                                   .tokens = 2,
                                   .keys = 700,
                                   .query_scale = 1,
                                   .mask = MASK_CAUSAL,
                                   .layout = (problem_layout)(i % LAYOUT_COUNT),
                                   .seed = 4500 + i},
                  &(fold_cut){.threads = threads}, 12, 1e-6);
}

/* The calling thread sleeps while it waits for the others, so that it comes to heads that they have left behind. */
static void sleep_in_poll(void *data, double fraction)
{
    (void)fraction;
    unsigned *calls = data;
    nanosleep(&(struct timespec){.tv_nsec = 100000 * (long)(1 + ++*calls % 16)}, NULL);
}

static void few_rows_are_right_beside_a_slow_thread(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 64,
                                 .kv_heads = 64,
                                 .dim = 512,
                                 .value_dim = 512,
                                 .tokens = 2,
                                 .keys = 150,
                                 .query_scale = 1,
                                 .seed = 4600};
    problem p = problem_create(&shape);
    attention_state alone = problem_state(&p, kernel, &(fold_cut){0});
    unsigned calls = 0;
    problem_check(&p, alone, ALL_ROWS, 1e-6, 1e-6);
    for (int i = 0; i < 50; i++) {
        attention_state beside =
            problem_state(&p, kernel, &(fold_cut){.threads = 2, .poll = sleep_in_poll, .poll_data = &calls});
        assert_true(states_equal(alone, beside, shape.tokens * shape.heads, shape.value_dim));
        state_destroy(&beside);
    }
    assert_true(calls > 0);
    state_destroy(&alone);
    problem_destroy(&p);
}

/* So that the others fold most of its rows, and finish tasks that it has just begun. */
static void many_rows_have_their_bits_beside_a_slow_thread(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 12,
                                 .kv_heads = 3,
                                 .dim = 40,
                                 .value_dim = 24,
                                 .tokens = 130,
                                 .keys = 300,
                                 .query_scale = 1,
                                 .mask = MASK_CAUSAL,
                                 .seed = 4700};
    problem p = problem_create(&shape);
    attention_state alone = problem_state(&p, kernel, &(fold_cut){.span_tokens = 37, .segment_keys = 100});
    unsigned calls = 0;
    problem_check(&p, alone, 100, 1e-6, 1e-6);
    for (int i = 0; i < 20; i++) {
        const fold_cut cut = {
            .threads = 2 + i % 2, .span_tokens = 37, .segment_keys = 100, .poll = sleep_in_poll, .poll_data = &calls};
        attention_state beside = problem_state(&p, kernel, &cut);
        assert_true(states_equal(alone, beside, shape.tokens * shape.heads, shape.value_dim));
        state_destroy(&beside);
    }
    assert_true(calls > 0);
    state_destroy(&alone);
    problem_destroy(&p);
}

static void keys_may_start_anywhere_and_come_in_pieces(void **unused)
{
    (void)unused;
    static const int64_t firsts[] = {0, 1, 63, 64, 100, 1000000007}, pieces[] = {1, 5, 64, 100};
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++)
        for (size_t j = 0; j < sizeof pieces / sizeof pieces[0]; j++)
            check(&(problem_shape){.heads = 2,
                                   .kv_heads = 2,
                                   .dim = 16,
                                   .value_dim = 16,
                                   .tokens = 90,
                                   .keys = 150,
                                   .first_key = firsts[i],
                                   .query_scale = 1,
                                   .mask = i % 2 ? MASK_CAUSAL : MASK_RANDOM,
                                   .seed = 5000 + i * 8 + j},
                  &(fold_cut){.segment_keys = pieces[j], .span_tokens = 37}, ALL_ROWS, 1e-6);
}

static void long_sums_keep_single_precision(void **unused)
{
    (void)unused;
    problem_shape shape = {
        .heads = 1, .kv_heads = 1, .dim = 64, .value_dim = 64, .tokens = 48, .keys = 4096, .query_scale = 1};
    for (shape.seed = 6000; shape.seed < 6002; shape.seed++) check(&shape, &(fold_cut){0}, ALL_ROWS, 4e-7);
    shape.mask = MASK_CAUSAL;
    check(&shape, &(fold_cut){.segment_keys = 700}, ALL_ROWS, 4e-7);
}

/* Scores of a few hundred in base 2 carry their own rounding into the weights, and that of the partial sums before it.
 * A few rows make up most of the error: it takes hundreds to measure it. */
static void scores_forty_times_larger_are_right(void **unused)
{
    (void)unused;
    static const int sizes[] = {64, 80, 128};
    problem_shape shape = {.heads = 2, .kv_heads = 1, .tokens = 150, .keys = 4096, .query_scale = 40};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        shape.dim = shape.value_dim = sizes[i];
        shape.type = (kernel_type)i;
        shape.seed = 7000 + i;
        check(&shape, &(fold_cut){0}, ALL_ROWS, 1.5e-6);
    }
}

/* Two keys with scores 0 and t, in base 2, and values 0 and 1: out = 2^t / (1 + 2^t). */
static void the_exponential_is_within_3e_7_over_its_range(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 1, .kv_heads = 1, .dim = 1, .value_dim = 1, .tokens = 5000, .keys = 2};
    problem p = problem_create(&shape);
    p.scale = (float)log(2);
    for (int j = 0; j < 2; j++) {
        problem_set(&p, &p.k, j, 0, 0, (float)j);
        problem_set(&p, &p.v, j, 0, 0, (float)j);
    }
    /* The last of three parts of a probability is lost where it would be a denormal. */
    const double lowest = compute_under_test == COMPUTE_FP32 ? -125.9 : -100, bound = compute_bound(100, 3e-7);
    uint64_t random = 8000;
    for (int64_t t = 0; t < shape.tokens; t++)
        problem_set(&p, &p.q, t, 0, 0, t == 0 ? 0 : (float)(lowest * random_uniform(&random)));
    attention_state state = problem_state(&p, kernel, &(fold_cut){0});
    for (int64_t t = 0; t < shape.tokens; t++) {
        const double power = exp2(problem_get(&p, &p.q, t, 0, 0)), out = (double)state.o[t] / (double)state.l[t];
        if (!(fabs(out * (1 + power) / power - 1) <= bound)) {
            problem_print(&p);
            fail_msg("2^%.9g: relative error %.3g", problem_get(&p, &p.q, t, 0, 0), out * (1 + power) / power - 1);
        }
    }
    state_destroy(&state);
    problem_destroy(&p);
}

static void a_score_below_all_normal_numbers_weighs_nothing(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 1, .kv_heads = 1, .dim = 1, .value_dim = 1, .tokens = 3, .keys = 2};
    static const float scores[] = {-127, -1e4f, -1e30f};
    problem p = problem_create(&shape);
    p.scale = (float)log(2);
    for (int j = 0; j < 2; j++) {
        problem_set(&p, &p.k, j, 0, 0, (float)j);
        problem_set(&p, &p.v, j, 0, 0, (float)j);
    }
    for (int t = 0; t < 3; t++) problem_set(&p, &p.q, t, 0, 0, scores[t]);
    attention_state state = problem_state(&p, kernel, &(fold_cut){0});
    for (int t = 0; t < 3; t++) {
        assert_true(state.o[t] == 0);
        assert_true(state.l[t] == 1);
    }
    state_destroy(&state);
    problem_destroy(&p);
}

/* Values of a constant come out as that constant; float16 subnormals must survive denormals-are-zero. */
static void float16_subnormal_values_are_not_flushed(void **unused)
{
    (void)unused;
    const problem_shape shape = {.type = KERNEL_FLOAT16,
                                 .heads = 1,
                                 .kv_heads = 1,
                                 .dim = 4,
                                 .value_dim = 4,
                                 .tokens = 9,
                                 .keys = 100,
                                 .query_scale = 1,
                                 .seed = 9000};
    problem p = problem_create(&shape);
    const float value = 3 * 0x1p-24f;
    for (int64_t j = 0; j < shape.keys; j++)
        for (int e = 0; e < shape.value_dim; e++) problem_set(&p, &p.v, j, 0, e, value);
    attention_state state = problem_state(&p, kernel, &(fold_cut){0});
    for (int64_t i = 0; i < shape.tokens * shape.value_dim; i++)
        assert_float_equal(state.o[i] / state.l[i / shape.value_dim] / value, 1, (float)compute_bound(1, 1e-6));
    state_destroy(&state);
    problem_destroy(&p);
}

static void permuting_keys_changes_nothing_but_rounding(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 2,
                                 .kv_heads = 1,
                                 .dim = 24,
                                 .value_dim = 8,
                                 .tokens = 20,
                                 .keys = 300,
                                 .query_scale = 3,
                                 .seed = 10000};
    problem p = problem_create(&shape), permuted = problem_create(&shape);
    for (int64_t j = 0; j < shape.keys; j++) { /* 7 and 300 are coprime */
        for (int d = 0; d < shape.dim; d++)
            problem_set(&permuted, &permuted.k, j * 7 % shape.keys, 0, d, (float)problem_get(&p, &p.k, j, 0, d));
        for (int e = 0; e < shape.value_dim; e++)
            problem_set(&permuted, &permuted.v, j * 7 % shape.keys, 0, e, (float)problem_get(&p, &p.v, j, 0, e));
    }
    attention_state state = problem_state(&permuted, kernel, &(fold_cut){0});
    problem_check(&p, state, ALL_ROWS, 1e-6, 1e-6);
    state_destroy(&state);
    problem_destroy(&permuted);
    problem_destroy(&p);
}

static void the_result_is_linear_in_the_values(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 1,
                                 .kv_heads = 1,
                                 .dim = 16,
                                 .value_dim = 16,
                                 .tokens = 30,
                                 .keys = 200,
                                 .query_scale = 1,
                                 .mask = MASK_CAUSAL,
                                 .seed = 11000};
    problem p = problem_create(&shape), other = problem_create(&shape), sum = problem_create(&shape);
    uint64_t random = 11001;
    for (int64_t j = 0; j < shape.keys; j++)
        for (int e = 0; e < shape.value_dim; e++) {
            problem_set(&other, &other.v, j, 0, e, (float)random_normal(&random));
            problem_set(&sum, &sum.v, j, 0, e,
                        (float)(2 * problem_get(&p, &p.v, j, 0, e) - 0.5 * problem_get(&other, &other.v, j, 0, e)));
        }
    attention_state a = problem_state(&p, kernel, &(fold_cut){0});
    attention_state b = problem_state(&other, kernel, &(fold_cut){0});
    attention_state c = problem_state(&sum, kernel, &(fold_cut){0});
    for (int64_t i = 0; i < shape.tokens * shape.value_dim; i++) {
        const float l = c.l[i / shape.value_dim];
        assert_float_equal(c.o[i] / l, (2 * a.o[i] - 0.5f * b.o[i]) / l, (float)compute_bound(1, 2e-6));
    }
    state_destroy(&a);
    state_destroy(&b);
    state_destroy(&c);
    problem_destroy(&p);
    problem_destroy(&other);
    problem_destroy(&sum);
}

static void the_peak_is_a_rate(void **unused)
{
    (void)unused;
    const double peak = kernel->peak(0.01);
    assert_true(peak > 1e6 && isfinite(peak));
}

int main(int argc, char **argv)
{
    kernel = kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_of_head_and_type_is_right),
        cmocka_unit_test(every_length_and_mask_is_right),
        cmocka_unit_test(tokens_need_not_be_as_many_as_keys),
        cmocka_unit_test(grouped_query_heads_use_their_key_head),
        cmocka_unit_test(few_rows_of_many_heads_are_right),
        cmocka_unit_test(few_rows_are_right_beside_a_slow_thread),
        cmocka_unit_test(many_rows_have_their_bits_beside_a_slow_thread),
        cmocka_unit_test(keys_may_start_anywhere_and_come_in_pieces),
        cmocka_unit_test(long_sums_keep_single_precision),
        cmocka_unit_test(scores_forty_times_larger_are_right),
        cmocka_unit_test(the_exponential_is_within_3e_7_over_its_range),
        cmocka_unit_test(a_score_below_all_normal_numbers_weighs_nothing),
        cmocka_unit_test(float16_subnormal_values_are_not_flushed),
        cmocka_unit_test(permuting_keys_changes_nothing_but_rounding),
        cmocka_unit_test(the_result_is_linear_in_the_values),
        cmocka_unit_test(the_peak_is_a_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
