/* The bias of relative positions: against the oracle, and the rule on bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/problem.h"

#include <math.h>

static const attention_kernel *kernel;

/* Tables narrower and wider than what is kept of them, rows beyond them on either side, every mask, and all that
 * positions may be. */
static const problem_shape shapes[] = {
    {.heads = 2,
     .kv_heads = 2,
     .dim = 64,
     .value_dim = 48,
     .tokens = 200,
     .keys = 200,
     .relative_left = 30,
     .relative_right = 30},
    {.heads = 1,
     .kv_heads = 1,
     .dim = 128,
     .value_dim = 128,
     .tokens = 130,
     .keys = 130,
     .relative_left = 128,
     .relative_right = 128},
    {.heads = 6,
     .kv_heads = 2,
     .dim = 20,
     .value_dim = 33,
     .tokens = 150,
     .keys = 210,
     .mask = MASK_RANDOM,
     .relative_left = 40,
     .relative_right = 0},
    {.type = KERNEL_FLOAT16,
     .heads = 4,
     .kv_heads = 1,
     .dim = 72,
     .value_dim = 8,
     .tokens = 100,
     .keys = 130,
     .mask = MASK_EMPTY,
     .relative_left = 0,
     .relative_right = 17},
    {.type = KERNEL_BFLOAT16,
     .heads = 2,
     .kv_heads = 2,
     .dim = 9,
     .value_dim = 40,
     .tokens = 130,
     .keys = 257,
     .mask = MASK_FIRST_HIDDEN,
     .relative_left = 0,
     .relative_right = 0},
    {.heads = 2,
     .kv_heads = 1,
     .dim = 33,
     .value_dim = 16,
     .tokens = 300,
     .keys = 800,
     .mask = MASK_CAUSAL,
     .relative_left = 500,
     .relative_right = 3},
    {.heads = 1,
     .kv_heads = 1,
     .dim = 12,
     .value_dim = 20,
     .tokens = 700,
     .keys = 700,
     .first_key = 2147483500,
     .relative_left = 333,
     .relative_right = 200},
    {.heads = 3,
     .kv_heads = 3,
     .dim = 40,
     .value_dim = 16,
     .tokens = 200,
     .keys = 100,
     .mask = MASK_CAUSAL,
     .layout = LAYOUT_HEAD_MAJOR,
     .relative_left = 9,
     .relative_right = 70},
    {.heads = 4,
     .kv_heads = 2,
     .dim = 24,
     .value_dim = 24,
     .tokens = 110,
     .keys = 150,
     .places = PLACES_STRIPED,
     .relative_left = 60,
     .relative_right = 100},
    {.heads = 1,
     .kv_heads = 1,
     .dim = 16,
     .value_dim = 8,
     .tokens = 90,
     .keys = 500,
     .places = PLACES_STRIPED,
     .mask = MASK_RANDOM,
     .relative_left = 900,
     .relative_right = 50},
    {.heads = 8,
     .kv_heads = 1,
     .dim = 75,
     .value_dim = 5,
     .tokens = 60,
     .keys = 90,
     .layout = LAYOUT_GAPS,
     .softcap = 5,
     .mask = MASK_CAUSAL,
     .relative_left = 25,
     .relative_right = 5},
    {.heads = 70,
     .kv_heads = 1,
     .dim = 1,
     .value_dim = 1,
     .tokens = 9,
     .keys = 70,
     .relative_left = 20,
     .relative_right = 20},
    {.heads = 2,
     .kv_heads = 2,
     .dim = 130,
     .value_dim = 12,
     .tokens = 3,
     .keys = 400,
     .mask = MASK_CAUSAL,
     .relative_left = 150,
     .relative_right = 2},
    {.heads = 4,
     .kv_heads = 2,
     .dim = 50,
     .value_dim = 64,
     .tokens = 7,
     .keys = 300,
     .places = PLACES_STRIPED,
     .relative_left = 400,
     .relative_right = 100},
    {.heads = 2,
     .kv_heads = 1,
     .dim = 512,
     .value_dim = 512,
     .tokens = 32,
     .keys = 300,
     .mask = MASK_CAUSAL,
     .relative_left = 100,
     .relative_right = 0},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static problem shape_problem(int index, float query_scale)
{
    problem_shape shape = shapes[index];
    shape.relative = true;
    shape.query_scale = query_scale;
    shape.seed = 90000 + (uint64_t)index;
    return problem_create(&shape);
}

static void every_shape_is_right(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++)
        for (int cut = 0; cut < 3; cut++) {
            static const fold_cut cuts[] = {
                {0}, {.threads = 2, .segment_keys = 50}, {.span_tokens = 7, .look_inside = true}};
            problem p = shape_problem(i, 1);
            attention_state state = problem_state(&p, kernel, &cuts[cut]);
            problem_check(&p, state, 60, 1e-6, 1.5e-6);
            state_destroy(&state);
            problem_destroy(&p);
        }
}

static void check_equal(const problem *p, const fold_cut *cut)
{
    attention_state a = problem_state(p, kernel, &(fold_cut){0}), b = problem_state(p, kernel, cut);
    if (!states_equal(a, b, p->shape.tokens * p->shape.heads, p->shape.value_dim)) {
        problem_print(p);
        fail_msg("threads %d, span_tokens %lld: different bits", cut->threads, (long long)cut->span_tokens);
    }
    state_destroy(&a);
    state_destroy(&b);
}

/* Alone a row goes through the fold of few rows. */
static void a_row_has_its_bits_alone_and_on_any_number_of_threads(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i, 3);
        check_equal(&p, &(fold_cut){.span_tokens = 1});
        check_equal(&p, &(fold_cut){.span_tokens = 1, .threads = 3});
        check_equal(&p, &(fold_cut){.span_tokens = 41, .threads = 2});
        check_equal(&p, &(fold_cut){.threads = 3});
        check_equal(&p, &(fold_cut){.look_inside = true});
        problem_destroy(&p);
    }
}

/* Keys that a row sees, unseen ones left out, give the same as a table whose other rows say something else. */
static void offsets_that_nobody_has_change_nothing(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 2,
                                 .kv_heads = 1,
                                 .dim = 24,
                                 .value_dim = 16,
                                 .tokens = 100,
                                 .keys = 100,
                                 .window = 20,
                                 .query_scale = 2,
                                 .mask = MASK_CAUSAL,
                                 .relative = true,
                                 .relative_left = 30,
                                 .relative_right = 10,
                                 .seed = 91000};
    problem p = problem_create(&shape);
    attention_state before = problem_state(&p, kernel, &(fold_cut){0});
    float *table = (float *)p.relative.table;
    for (int c = 0; c < 41; c++) /* 30 - c is seen from 0 to 20 */
        for (int i = 0; i < shape.heads * shape.dim; i++)
            if (c < 10 || c > 30) p.relative_keys[c * shape.heads * shape.dim + i] = NAN;
    attention_relative_prepare(p.relative_keys, 41, shape.heads, shape.dim, table);
    attention_state after = problem_state(&p, kernel, &(fold_cut){0});
    attention_state alone = problem_state(&p, kernel, &(fold_cut){.span_tokens = 1});
    assert_true(states_equal(before, after, shape.tokens * shape.heads, shape.value_dim));
    assert_true(states_equal(before, alone, shape.tokens * shape.heads, shape.value_dim));
    state_destroy(&before);
    state_destroy(&after);
    state_destroy(&alone);
    problem_destroy(&p);
}

/* NaN in a query is in its row alone, in a key in the rows that see it. */
static void nan_reaches_those_who_see_it(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 1,
                                 .kv_heads = 1,
                                 .dim = 40,
                                 .value_dim = 8,
                                 .tokens = 150,
                                 .keys = 150,
                                 .window = 20,
                                 .query_scale = 2,
                                 .mask = MASK_CAUSAL,
                                 .relative = true,
                                 .relative_left = 12,
                                 .relative_right = 0,
                                 .seed = 92000};
    for (int few = 0; few < 2; few++) {
        problem p = problem_create(&shape);
        problem_set(&p, &p.q, 77, 0, 3, NAN);
        problem_set(&p, &p.k, 100, 0, 5, NAN);
        attention_state state = problem_state(&p, kernel, &(fold_cut){.span_tokens = few});
        for (int64_t t = 0; t < shape.tokens; t++)
            assert_int_equal(isnan(state.l[t]), t == 77 || (t >= 100 && t <= 120));
        state_destroy(&state);
        problem_destroy(&p);
    }
}

int main(int argc, char **argv)
{
    kernel = kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_is_right),
        cmocka_unit_test(a_row_has_its_bits_alone_and_on_any_number_of_threads),
        cmocka_unit_test(offsets_that_nobody_has_change_nothing),
        cmocka_unit_test(nan_reaches_those_who_see_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
