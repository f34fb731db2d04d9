/* The rule on bits: a row's state is the same bits whatever rows share its vector and its task, however the spans are
 * cut, on any number of threads, and whether its blocks are folded with or without looking at the mask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/problem.h"

#include <math.h>

static const attention_kernel *kernel;

static const problem_shape shapes[] = {
    {.heads = 1, .kv_heads = 1, .dim = 64, .value_dim = 64, .tokens = 230, .keys = 300, .mask = MASK_CAUSAL},
    {.heads = 6, .kv_heads = 2, .dim = 20, .value_dim = 33, .tokens = 150, .keys = 210, .mask = MASK_RANDOM},
    {.type = KERNEL_FLOAT16,
     .heads = 4,
     .kv_heads = 1,
     .dim = 72,
     .value_dim = 8,
     .tokens = 100,
     .keys = 130,
     .mask = MASK_EMPTY},
    {.type = KERNEL_BFLOAT16,
     .heads = 2,
     .kv_heads = 2,
     .dim = 9,
     .value_dim = 40,
     .tokens = 130,
     .keys = 257,
     .mask = MASK_FIRST_HIDDEN},
    {.heads = 3, .kv_heads = 3, .dim = 40, .value_dim = 16, .tokens = 200, .keys = 100, .mask = MASK_CAUSAL},
    {.heads = 2, .kv_heads = 1, .dim = 32, .value_dim = 24, .tokens = 70, .keys = 333, .mask = MASK_FULL},
    {.heads = 4, .kv_heads = 2, .dim = 13, .value_dim = 9, .tokens = 110, .keys = 150, .softcap = 5, .sloped = true},
    {.type = KERNEL_BFLOAT16,
     .heads = 3,
     .kv_heads = 1,
     .dim = 50,
     .value_dim = 20,
     .tokens = 90,
     .keys = 270,
     .mask = MASK_CAUSAL,
     .rope_dim = 44,
     .places = PLACES_STRIPED},
    {.type = KERNEL_FLOAT16,
     .heads = 6,
     .kv_heads = 3,
     .dim = 16,
     .value_dim = 12,
     .tokens = 64,
     .keys = 190,
     .mask = MASK_RANDOM,
     .softcap = 20,
     .sloped = true,
     .rope_dim = 16,
     .rope_interleaved = true},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* Scores wide enough that rescaling happens often, and not for every row of a vector at once. */
static problem shape_problem(int index)
{
    problem_shape shape = shapes[index];
    shape.query_scale = 6;
    shape.seed = 20000 + (uint64_t)index;
    return problem_create(&shape);
}

static void check_equal(const problem *p, const fold_cut *one, const fold_cut *other)
{
    attention_state a = problem_state(p, kernel, one), b = problem_state(p, kernel, other);
    if (!states_equal(a, b, p->shape.tokens * p->shape.heads, p->shape.value_dim)) {
        problem_print(p);
        fail_msg("threads %d and %d, span_tokens %lld and %lld, segment_keys %lld and %lld: different bits",
                 one->threads, other->threads, (long long)one->span_tokens, (long long)other->span_tokens,
                 (long long)one->segment_keys, (long long)other->segment_keys);
    }
    state_destroy(&a);
    state_destroy(&b);
}

static void a_row_alone_is_the_row_among_others(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        check_equal(&p, &(fold_cut){0}, &(fold_cut){.span_tokens = 1});
        problem_destroy(&p);
    }
}

static void spans_may_be_cut_anywhere(void **unused)
{
    (void)unused;
    static const int64_t cuts[] = {2, 17, 64, 99};
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        for (size_t j = 0; j < sizeof cuts / sizeof cuts[0]; j++)
            check_equal(&p, &(fold_cut){0}, &(fold_cut){.span_tokens = cuts[j]});
        problem_destroy(&p);
    }
}

static void rows_may_be_listed(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        for (int lists = 1; lists <= 5; lists += 2)
            for (int threads = 1; threads <= 3; threads += 2)
                check_equal(&p, &(fold_cut){0}, &(fold_cut){.threads = threads, .lists = lists});
        problem_destroy(&p);
    }
}

/* Some rows in several spans, a segment each: as if a span were a call, whoever folds which part of them. */
static void lists_may_follow_each_other(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        for (int lists = 1; lists <= 5; lists += 2)
            for (int threads = 1; threads <= 4; threads++) {
                const int64_t keys = lists == 3 ? 64 : 45;
                check_equal(&p, &(fold_cut){.segment_keys = keys, .lists = lists, .apart = true},
                            &(fold_cut){.segment_keys = keys, .threads = threads, .lists = lists, .chained = true});
            }
        problem_destroy(&p);
    }
}

/* More rows than q and o of the shape have room for in a task, against keys of one block; whole tasks that see none. */
static void one_block_may_have_many_rows(void **unused)
{
    (void)unused;
    static const int dims[][2] = {{320, 200}, {128, 128}, {7, 500}, {40, 24}};
    for (int i = 0; i < 4 * MASK_COUNT; i++) {
        const problem_shape shape = {.heads = 2,
                                     .kv_heads = 1,
                                     .dim = dims[i % 4][0],
                                     .value_dim = dims[i % 4][1],
                                     .tokens = 900,
                                     .keys = i % 3 ? 64 : 41,
                                     .first_key = i % 3 ? 128 : 70,
                                     .query_scale = 6,
                                     .mask = (problem_mask)(i / 4),
                                     .seed = 26000 + (uint64_t)i};
        problem p = problem_create(&shape);
        check_equal(&p, &(fold_cut){0}, &(fold_cut){.span_tokens = 37});
        check_equal(&p, &(fold_cut){0}, &(fold_cut){.threads = 2, .lists = 2});
        check_equal(&p, &(fold_cut){.segment_keys = 16, .lists = 1, .apart = true},
                    &(fold_cut){.segment_keys = 16, .threads = 1 + i % 3, .lists = 1, .chained = true});
        problem_destroy(&p);
    }
}

static void threads_change_nothing(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        for (int threads = 2; threads <= 3; threads++)
            check_equal(&p, &(fold_cut){.threads = 1}, &(fold_cut){.threads = threads, .span_tokens = 31});
        problem_destroy(&p);
    }
}

/* So few rows that threads share them out by keys; as many keys as take several rounds. */
static void few_rows_have_their_bits_on_any_number_of_threads(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{512, 512}, {40, 17}, {1, 1}, {128, 64}, {66, 500}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int tokens = 1; tokens <= 5; tokens++) {
            const bool terms = (i + (size_t)tokens) % 2;
            const problem_shape shape = {.type = (kernel_type)(i % 3),
                                         .heads = 3,
                                         .kv_heads = tokens == 5 ? 1 : 3 - 2 * (tokens % 2),
                                         .dim = sizes[i][0],
                                         .value_dim = sizes[i][1],
                                         .tokens = tokens,
                                         .keys = 1500,
                                         .first_key = 128,
                                         .query_scale = 6,
                                         .mask = (problem_mask)(tokens % MASK_COUNT),
                                         .softcap = terms ? 30 : 0,
                                         .sloped = terms,
                                         .rope_dim = terms ? sizes[i][0] / 2 * 2 : 0,
                                         .places = PLACES_STRIPED,
                                         .seed = 24000 + i * 8 + (size_t)tokens};
            problem p = problem_create(&shape);
            for (int threads = 2; threads <= 4; threads++)
                check_equal(&p, &(fold_cut){0}, &(fold_cut){.threads = threads});
            check_equal(&p, &(fold_cut){.threads = 2}, &(fold_cut){.segment_keys = 5 * ATTENTION_KEY_BLOCK});
            problem_destroy(&p);
        }
}

/* Rows that one thread folds in blocks and several share out by keys, of shapes that leave room for one block a thread or
 * for many; some of a key head more than a vector's lanes. */
static void more_rows_have_their_bits_when_threads_share_them(void **unused)
{
    (void)unused;
    static const int sizes[][3] = {{512, 512, 64}, {64, 64, 32}, {171, 512, 63}, {128, 20, 17}, {1, 512, 49}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const bool terms = i % 2;
        const problem_shape shape = {.type = (kernel_type)(i % 3),
                                     .heads = i == 1 ? 8 : 1,
                                     .kv_heads = 1,
                                     .dim = sizes[i][0],
                                     .value_dim = sizes[i][1],
                                     .tokens = i == 1 ? 4 : sizes[i][2],
                                     .keys = 700,
                                     .first_key = 128,
                                     .query_scale = 6,
                                     .mask = (problem_mask)(i % MASK_COUNT),
                                     .softcap = terms ? 30 : 0,
                                     .sloped = terms,
                                     .rope_dim = terms ? sizes[i][0] / 2 * 2 : 0,
                                     .places = PLACES_STRIPED,
                                     .seed = 25000 + i};
        problem p = problem_create(&shape);
        for (int threads = 2; threads <= 4; threads++)
            check_equal(&p, &(fold_cut){0}, &(fold_cut){.threads = threads});
        check_equal(&p, &(fold_cut){.threads = 3}, &(fold_cut){.threads = 3, .span_tokens = shape.tokens - 1});
        problem_destroy(&p);
    }
}

/* The same rows again and again, until there are too many to be few: they are the first rows of one problem. */
static void rows_have_their_bits_however_many_they_are(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        attention_state whole = problem_state(&p, kernel, &(fold_cut){0});
        const int64_t tokens = p.shape.tokens;
        for (p.shape.tokens = 1; p.shape.tokens <= 26; p.shape.tokens += 1 + p.shape.tokens / 6) {
            attention_state first = problem_state(&p, kernel, &(fold_cut){.threads = 3});
            if (!states_equal(whole, first, p.shape.tokens * p.shape.heads, p.shape.value_dim)) {
                problem_print(&p);
                fail_msg("the first tokens alone: different bits");
            }
            state_destroy(&first);
        }
        p.shape.tokens = tokens;
        state_destroy(&whole);
        problem_destroy(&p);
    }
}

static void segments_may_be_cut_on_the_grid(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        check_equal(&p, &(fold_cut){0}, &(fold_cut){.segment_keys = ATTENTION_KEY_BLOCK});
        check_equal(&p, &(fold_cut){0}, &(fold_cut){.segment_keys = 2 * ATTENTION_KEY_BLOCK});
        problem_destroy(&p);
    }
}

static void calls_may_be_cut_on_the_grid(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        const int64_t rows = p.shape.tokens * p.shape.heads;
        attention_state whole = problem_state(&p, kernel, &(fold_cut){0});
        attention_state pieces = state_create(rows, p.shape.value_dim);
        problem_fold_keys(&p, kernel, &(fold_cut){.span_tokens = 13}, 0, ATTENTION_KEY_BLOCK, pieces);
        problem_fold_keys(&p, kernel, &(fold_cut){.threads = 2}, ATTENTION_KEY_BLOCK, p.shape.keys, pieces);
        if (!states_equal(whole, pieces, rows, p.shape.value_dim)) {
            problem_print(&p);
            fail_msg("keys folded by two calls: different bits");
        }
        state_destroy(&whole);
        state_destroy(&pieces);
        problem_destroy(&p);
    }
}

static void looking_inside_where_nothing_is_hidden_changes_nothing(void **unused)
{
    (void)unused;
    for (int64_t keys = 120; keys <= 130; keys++) {
        const problem_shape shape = {.heads = 2,
                                     .kv_heads = 1,
                                     .dim = 24,
                                     .value_dim = 24,
                                     .tokens = 60,
                                     .keys = keys,
                                     .query_scale = 6,
                                     .seed = 21000 + (uint64_t)keys};
        problem p = problem_create(&shape);
        check_equal(&p, &(fold_cut){0}, &(fold_cut){.look_inside = true});
        problem_destroy(&p);
    }
}

/* States of more heads than the call has: its heads are the first rows of each token, the others are not touched. */
static void states_may_have_rows_of_other_heads(void **unused)
{
    (void)unused;
    for (int i = 0; i < SHAPES; i++) {
        problem p = shape_problem(i);
        const int heads = p.shape.heads, width = p.shape.value_dim, token_rows = heads + 3;
        const int64_t tokens = p.shape.tokens;
        attention_state whole = problem_state(&p, kernel, &(fold_cut){0});
        attention_state wide = state_create(tokens * token_rows, width);
        attention_state part = {wide.o + 2 * width, wide.m + 2, wide.l + 2, token_rows};
        problem_fold(&p, kernel, &(fold_cut){.threads = 2, .span_tokens = 33}, part);
        for (int64_t row = 0; row < tokens * token_rows; row++) {
            const int64_t head = row % token_rows - 2, from = row / token_rows * heads + head;
            const attention_state one = {wide.o + row * width, wide.m + row, wide.l + row, 0};
            const attention_state expected = {whole.o + from * width, whole.m + from, whole.l + from, 0};
            if (head >= 0 && head < heads) assert_true(states_equal(one, expected, 1, width));
            else assert_true(one.l[0] == 0 && one.m[0] == -INFINITY && one.o[0] == 0 && one.o[width - 1] == 0);
        }
        state_destroy(&whole);
        state_destroy(&wide);
        problem_destroy(&p);
    }
}

/* The last row sees everything: with the mask it goes the boundary way, among rows that do not see its keys. */
static void a_row_that_sees_all_does_not_feel_its_neighbours_masks(void **unused)
{
    (void)unused;
    problem_shape shape = {.heads = 1, .kv_heads = 1, .dim = 48, .value_dim = 24, .tokens = 150, .keys = 150};
    shape.query_scale = 6;
    shape.seed = 22000;
    problem full = problem_create(&shape);
    shape.mask = MASK_CAUSAL;
    problem causal = problem_create(&shape);
    attention_state a = problem_state(&full, kernel, &(fold_cut){0});
    attention_state b = problem_state(&causal, kernel, &(fold_cut){0});
    const int64_t last = shape.tokens - 1, width = shape.value_dim;
    assert_memory_equal(a.o + last * width, b.o + last * width, (size_t)width * sizeof(float));
    assert_memory_equal(a.m + last, b.m + last, sizeof(float));
    assert_memory_equal(a.l + last, b.l + last, sizeof(float));
    state_destroy(&a);
    state_destroy(&b);
    problem_destroy(&full);
    problem_destroy(&causal);
}

static void later_keys_do_not_touch_earlier_causal_rows(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 2,
                                 .kv_heads = 2,
                                 .dim = 32,
                                 .value_dim = 32,
                                 .tokens = 200,
                                 .keys = 200,
                                 .query_scale = 6,
                                 .mask = MASK_CAUSAL,
                                 .seed = 23000};
    static const int64_t prefixes[] = {1, 50, 64, 101, 199};
    problem p = problem_create(&shape);
    attention_state before = problem_state(&p, kernel, &(fold_cut){0});
    uint64_t random = 23001;
    for (size_t i = sizeof prefixes / sizeof prefixes[0]; i-- > 0;) {
        for (int64_t j = prefixes[i]; j < shape.keys; j++)
            for (int h = 0; h < shape.kv_heads; h++)
                for (int d = 0; d < shape.dim; d++) {
                    problem_set(&p, &p.k, j, h, d, (float)(100 * random_normal(&random)));
                    problem_set(&p, &p.v, j, h, d, (float)(100 * random_normal(&random)));
                }
        attention_state after = problem_state(&p, kernel, &(fold_cut){0});
        if (!states_equal(before, after, prefixes[i] * shape.heads, shape.value_dim)) {
            problem_print(&p);
            fail_msg("keys from %lld on changed rows before", (long long)prefixes[i]);
        }
        state_destroy(&after);
    }
    state_destroy(&before);
    problem_destroy(&p);
}

/* Row 0 has -1.5e-38 scaled by 2^-20 in its state, which flushes to -0 where that is one fused step; the third block,
 * which only row 1 sees, would make it +0. */
static void a_zero_has_the_same_sign_among_neighbours(void **unused)
{
    (void)unused;
    const problem_shape shape = {.heads = 1, .kv_heads = 1, .dim = 1, .value_dim = 1, .tokens = 2, .keys = 192};
    problem p = problem_create(&shape);
    p.scale = 0.693147181f;
    for (int64_t j = 0; j < shape.keys; j++) {
        problem_set(&p, &p.k, j, 0, 0, j / ATTENTION_KEY_BLOCK == 1);
        problem_set(&p, &p.v, j, 0, 0, j == 0 ? -1.5e-38f : 0);
    }
    for (int64_t t = 0; t < shape.tokens; t++) problem_set(&p, &p.q, t, 0, 0, 20);
    p.visible_end[0] = 128;
    check_equal(&p, &(fold_cut){.look_inside = true}, &(fold_cut){.look_inside = true, .span_tokens = 1});
    problem_destroy(&p);
}

int main(int argc, char **argv)
{
    kernel = kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_alone_is_the_row_among_others),
        cmocka_unit_test(spans_may_be_cut_anywhere),
        cmocka_unit_test(rows_may_be_listed),
        cmocka_unit_test(lists_may_follow_each_other),
        cmocka_unit_test(one_block_may_have_many_rows),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(few_rows_have_their_bits_on_any_number_of_threads),
        cmocka_unit_test(more_rows_have_their_bits_when_threads_share_them),
        cmocka_unit_test(rows_have_their_bits_however_many_they_are),
        cmocka_unit_test(segments_may_be_cut_on_the_grid),
        cmocka_unit_test(calls_may_be_cut_on_the_grid),
        cmocka_unit_test(looking_inside_where_nothing_is_hidden_changes_nothing),
        cmocka_unit_test(states_may_have_rows_of_other_heads),
        cmocka_unit_test(a_row_that_sees_all_does_not_feel_its_neighbours_masks),
        cmocka_unit_test(later_keys_do_not_touch_earlier_causal_rows),
        cmocka_unit_test(a_zero_has_the_same_sign_among_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
