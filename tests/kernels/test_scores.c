/* What a score is besides scale * q.k: the cap, ALiBi's slopes, RoPE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/problem.h"

#include <math.h>

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

static void a_cap_is_right_whatever_the_scores_are(void **unused)
{
    (void)unused;
    static const float caps[] = {0.5f, 5, 50, 1e30f, 3e38f, 1e-30f};
    static const int sizes[] = {1, 20, 64, 75};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++)
            for (int large = 0; large < 2; large++)
                check(&(problem_shape){.type = (kernel_type)(i % 3),
                                       .heads = 3,
                                       .kv_heads = 1,
                                       .dim = sizes[j],
                                       .value_dim = 9,
                                       .tokens = 29,
                                       .keys = 150,
                                       .query_scale = large ? 40 : 1,
                                       .mask = (problem_mask)((i + j) % MASK_COUNT),
                                       .softcap = caps[i],
                                       .seed = 70000 + i * 16 + j * 2 + (size_t)large},
                      &(fold_cut){0}, 40, large ? 4e-6 : 1e-6);
}

/* One key: the reference m of a row is its score in base 2. */
static attention_state scores_alone(const problem *p)
{
    problem_set(p, &p->k, 0, 0, 0, 1);
    return problem_state(p, kernel, &(fold_cut){0});
}

static void a_capped_score_is_exact_to_a_few_roundings(void **unused)
{
    (void)unused;
    static const float caps[] = {1, 30, 50, 1e6f};
    problem_shape shape = {.heads = 1, .kv_heads = 1, .dim = 1, .value_dim = 1, .tokens = 4000, .keys = 1};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        shape.softcap = caps[i];
        shape.seed = 71000 + i;
        problem p = problem_create(&shape);
        uint64_t random = shape.seed;
        p.scale = 1;
        for (int64_t t = 0; t < shape.tokens; t++) /* from 1e-30 to 1e3 caps */
            problem_set(
                &p, &p.q, t, 0, 0,
                (t % 2 ? -1 : 1) * caps[i] *
                    (float)pow(10, t % 3 ? 4 * random_uniform(&random) - 3 : 33 * random_uniform(&random) - 30));
        attention_state state = scores_alone(&p);
        for (int64_t t = 0; t < shape.tokens; t++) {
            const double cap = (double)caps[i], score = problem_get(&p, &p.q, t, 0, 0);
            const double expected = cap * tanh(score / cap) / log(2), error = (double)state.m[t] / expected - 1;
            if (!(fabs(error) <= 5e-7)) {
                problem_print(&p);
                fail_msg("cap %g, score %.9g: %.9g, should be %.9g, relative error %.3g", cap, score,
                         (double)state.m[t], expected, error);
            }
        }
        state_destroy(&state);
        problem_destroy(&p);
    }
}

static void a_cap_holds_infinities_and_lets_nan_through(void **unused)
{
    (void)unused;
    const problem_shape shape = {
        .heads = 1, .kv_heads = 1, .dim = 1, .value_dim = 1, .tokens = 5, .keys = 1, .softcap = 50, .seed = 72000};
    static const float scores[] = {INFINITY, -INFINITY, NAN, 0, -3e38f};
    problem p = problem_create(&shape);
    p.scale = 1;
    for (int t = 0; t < 5; t++) problem_set(&p, &p.q, t, 0, 0, scores[t]);
    attention_state state = scores_alone(&p);
    assert_float_equal(state.m[0] * log(2), 50, 2e-5);
    assert_float_equal(state.m[1] * log(2), -50, 2e-5);
    assert_true(isnan(state.l[2]));
    assert_true(state.m[3] == 0 && state.l[3] == 1);
    assert_float_equal(state.m[4] * log(2), -50, 2e-5);
    state_destroy(&state);
    problem_destroy(&p);
}

static void slopes_are_right_under_every_mask_and_layout(void **unused)
{
    (void)unused;
    static const int heads[][2] = {{1, 1}, {8, 1}, {6, 2}, {5, 5}};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        for (int mask = 0; mask < MASK_COUNT; mask++)
            for (int places = 0; places < PLACES_COUNT; places++)
                check(&(problem_shape){.type = (kernel_type)(mask % 3),
                                       .heads = heads[i][0],
                                       .kv_heads = heads[i][1],
                                       .dim = 11,
                                       .value_dim = 7,
                                       .tokens = 60,
                                       .keys = 150,
                                       .first_key = mask % 2 ? 2147483500 : 0,
                                       .query_scale = 2,
                                       .mask = (problem_mask)mask,
                                       .sloped = true,
                                       .places = (problem_places)places,
                                       .seed = 73000 + i * 16 + (size_t)mask * 2 + (size_t)places},
                      &(fold_cut){.threads = 2, .span_tokens = 37, .segment_keys = 50}, 60, 2e-6);
}

/* Scores 0: what is left is the distance, whose float32 must be the integer's, not a difference of two float32. */
static void distances_are_exact_up_to_two_to_the_31(void **unused)
{
    (void)unused;
    static const int64_t keys[] = {0, 1, 2147483583, 2147483584, 2147483647}, query = 2147483648;
    const problem_shape shape = {.heads = 1,
                                 .kv_heads = 1,
                                 .dim = 1,
                                 .value_dim = 1,
                                 .tokens = 1,
                                 .keys = 1,
                                 .sloped = true,
                                 .places = PLACES_STRIPED,
                                 .seed = 74000};
    problem p = problem_create(&shape);
    problem_set(&p, &p.q, 0, 0, 0, 0);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        for (int swap = 0; swap < 2; swap++) {
            p.query_positions[0] = swap ? keys[i] : query;
            p.key_positions[0] = swap ? query : keys[i];
            attention_state state = scores_alone(&p);
            const double expected = -(double)p.slopes[0] * (double)(query - keys[i]);
            assert_float_equal((double)state.m[0] * log(2) / expected, 1, 2e-7);
            state_destroy(&state);
        }
    problem_destroy(&p);
}

static void rotations_are_right_for_every_size_and_type(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{2, 2}, {3, 2}, {20, 20}, {20, 6}, {64, 64}, {75, 32}, {128, 128}, {512, 512}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16; type++)
            for (int interleaved = 0; interleaved < 2; interleaved++)
                check(&(problem_shape){.type = (kernel_type)type,
                                       .heads = 4,
                                       .kv_heads = 2,
                                       .dim = sizes[i][0],
                                       .value_dim = 12,
                                       .tokens = 70,
                                       .keys = 138,
                                       .query_scale = 1,
                                       .mask = MASK_CAUSAL,
                                       .layout = (problem_layout)(i % LAYOUT_COUNT),
                                       .rope_dim = sizes[i][1],
                                       .rope_interleaved = interleaved,
                                       .seed = 75000 + i * 8 + (size_t)type * 2 + (size_t)interleaved},
                      &(fold_cut){0}, 8, 1.5e-6);
}

static void rotations_are_right_at_positions_around_two_to_the_31(void **unused)
{
    (void)unused;
    for (int interleaved = 0; interleaved < 2; interleaved++)
        for (int places = 0; places < PLACES_COUNT; places++)
            check(&(problem_shape){.heads = 3,
                                   .kv_heads = 1,
                                   .dim = 40,
                                   .value_dim = 24,
                                   .tokens = 40,
                                   .keys = 300,
                                   .first_key = 2147483648 - 170,
                                   .query_scale = 3,
                                   .mask = MASK_RANDOM,
                                   .rope_dim = 36,
                                   .rope_interleaved = interleaved,
                                   .places = (problem_places)places,
                                   .seed = 76000 + (size_t)interleaved * 2 + (size_t)places},
                  &(fold_cut){.segment_keys = 100, .span_tokens = 7}, 40, 1.5e-6);
}

static void cap_slopes_and_rotations_go_together(void **unused)
{
    (void)unused;
    static const int64_t lengths[][2] = {{1, 200}, {7, 7}, {64, 64}, {130, 129}, {40, 333}};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (int mask = 0; mask < MASK_COUNT; mask++)
            for (int type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16; type++)
                check(&(problem_shape){.type = (kernel_type)type,
                                       .heads = 6,
                                       .kv_heads = 2,
                                       .dim = 18,
                                       .value_dim = 10,
                                       .tokens = lengths[i][0],
                                       .keys = lengths[i][1],
                                       .first_key = 1000,
                                       .query_scale = 4,
                                       .mask = (problem_mask)mask,
                                       .softcap = 3,
                                       .sloped = true,
                                       .rope_dim = 10,
                                       .rope_interleaved = type == KERNEL_FLOAT16,
                                       .places = (problem_places)(mask % PLACES_COUNT),
                                       .seed = 77000 + i * 32 + (size_t)mask * 4 + (size_t)type},
                      &(fold_cut){.threads = 2}, 40, 2e-6);
}

int main(int argc, char **argv)
{
    kernel = kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cap_is_right_whatever_the_scores_are),
        cmocka_unit_test(a_capped_score_is_exact_to_a_few_roundings),
        cmocka_unit_test(a_cap_holds_infinities_and_lets_nan_through),
        cmocka_unit_test(slopes_are_right_under_every_mask_and_layout),
        cmocka_unit_test(distances_are_exact_up_to_two_to_the_31),
        cmocka_unit_test(rotations_are_right_for_every_size_and_type),
        cmocka_unit_test(rotations_are_right_at_positions_around_two_to_the_31),
        cmocka_unit_test(cap_slopes_and_rotations_go_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
