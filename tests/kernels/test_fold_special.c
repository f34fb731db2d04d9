/* NaN, Inf and nothing to see are data; the floating-point environment and the poll are the caller's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/problem.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static const attention_kernel *kernel;

static const problem_shape causal = {.heads = 4,
                                     .kv_heads = 2,
                                     .dim = 20,
                                     .value_dim = 24,
                                     .tokens = 150,
                                     .keys = 150,
                                     .query_scale = 1,
                                     .mask = MASK_CAUSAL,
                                     .seed = 30000};

static bool row_equal(const problem *p, attention_state a, attention_state b, int64_t row)
{
    const int64_t width = p->shape.value_dim;
    return memcmp(a.o + row * width, b.o + row * width, (size_t)width * sizeof(float)) == 0 &&
           memcmp(a.m + row, b.m + row, sizeof(float)) == 0 && memcmp(a.l + row, b.l + row, sizeof(float)) == 0;
}

static void a_nan_query_row_is_nan_and_stays_alone(void **unused)
{
    (void)unused;
    static const int64_t tokens[] = {0, 3, 63, 64, 149};
    problem p = problem_create(&causal);
    attention_state clean = problem_state(&p, kernel, &(fold_cut){0});
    float out[24], lse;
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        const int head = (int)i % causal.heads;
        const double kept = problem_get(&p, &p.q, tokens[i], head, 7);
        problem_set(&p, &p.q, tokens[i], head, 7, NAN);
        attention_state state = problem_state(&p, kernel, &(fold_cut){0});
        for (int64_t row = 0; row < causal.tokens * causal.heads; row++) {
            if (row != tokens[i] * causal.heads + head) {
                assert_true(row_equal(&p, clean, state, row));
                continue;
            }
            const attention_state one = {state.o + row * causal.value_dim, state.m + row, state.l + row, 0};
            attention_state_finish(one, 1, causal.value_dim, KERNEL_FLOAT32, out, &lse, 1);
            for (int e = 0; e < causal.value_dim; e++) assert_true(isnan(out[e]));
            assert_true(isnan(lse));
        }
        problem_set(&p, &p.q, tokens[i], head, 7, (float)kept);
        state_destroy(&state);
    }
    state_destroy(&clean);
    problem_destroy(&p);
}

/* The same NaN or infinity, or within 1e-5 or what the arithmetic costs. */
static bool same_number(float value, double expected)
{
    if (isnan(expected)) return isnan(value);
    return isinf(expected) ? value == expected : fabs(value - expected) < compute_bound(1, 1e-5);
}

/* Rows that do not see `key` keep their bits; the others are what the oracle says, NaN and Inf included. */
static void check_poisoned(const problem *p, attention_state clean, attention_state state, int64_t key, int kv_head)
{
    const problem_shape *s = &p->shape;
    const int group = s->heads / s->kv_heads;
    float out[24], lse;
    double expected[24], expected_lse;
    for (int64_t row = 0; row < s->tokens * s->heads; row++) {
        const int64_t token = row / s->heads;
        const int head = (int)(row % s->heads);
        if (head / group != kv_head || !problem_sees(p, token, key)) {
            if (!row_equal(p, clean, state, row)) {
                problem_print(p);
                fail_msg("row %lld does not see key %lld and changed", (long long)row, (long long)key);
            }
            continue;
        }
        const attention_state one = {state.o + row * s->value_dim, state.m + row, state.l + row, 0};
        attention_state_finish(one, 1, s->value_dim, KERNEL_FLOAT32, out, &lse, 1);
        problem_reference(p, token, head, expected, &expected_lse);
        for (int e = 0; e < s->value_dim; e++) {
            if (!same_number(out[e], expected[e])) {
                problem_print(p);
                fail_msg("row %lld sees key %lld: out[%d] is %g, should be %g", (long long)row, (long long)key, e,
                         (double)out[e], expected[e]);
            }
        }
        assert_true(same_number(lse, expected_lse));
    }
}

static void check_poisoned_shape(const problem_shape *shape, bool in_key, float value)
{
    static const int64_t keys[] = {0, 31, 63, 64, 100, 149};
    problem p = problem_create(shape);
    const problem_array *array = in_key ? &p.k : &p.v;
    attention_state clean = problem_state(&p, kernel, &(fold_cut){0});
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const double kept = problem_get(&p, array, keys[i], 1, 5);
        problem_set(&p, array, keys[i], 1, 5, value);
        attention_state state = problem_state(&p, kernel, &(fold_cut){0});
        check_poisoned(&p, clean, state, keys[i], 1);
        problem_set(&p, array, keys[i], 1, 5, (float)kept);
        state_destroy(&state);
    }
    state_destroy(&clean);
    problem_destroy(&p);
}

static void check_poison(bool in_key, float value, kernel_type type, problem_mask mask)
{
    problem_shape shape = causal;
    shape.type = type;
    shape.mask = mask;
    check_poisoned_shape(&shape, in_key, value);
}

static void what_scores_are_made_of_does_not_stop_a_nan_or_let_it_out(void **unused)
{
    (void)unused;
    static const float poisons[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 6; i++) {
        problem_shape shape = causal;
        shape.mask = i % 2 ? MASK_RANDOM : MASK_CAUSAL;
        shape.softcap = 4;
        shape.sloped = true;
        shape.rope_dim = i < 3 ? 0 : 4; /* an infinity is in element 5: rotated it would be some NaN or other */
        shape.places = (problem_places)(i % PLACES_COUNT);
        check_poisoned_shape(&shape, i != 5, poisons[i % 3]);
    }
}

static void a_nan_key_reaches_exactly_the_rows_that_see_it(void **unused)
{
    (void)unused;
    for (int type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16; type++)
        check_poison(true, NAN, (kernel_type)type, MASK_CAUSAL);
    check_poison(true, NAN, KERNEL_FLOAT32, MASK_RANDOM);
    check_poison(true, NAN, KERNEL_FLOAT32, MASK_FULL);
}

static void an_infinite_key_reaches_exactly_the_rows_that_see_it(void **unused)
{
    (void)unused;
    check_poison(true, INFINITY, KERNEL_FLOAT32, MASK_CAUSAL);
    check_poison(true, -INFINITY, KERNEL_FLOAT16, MASK_CAUSAL);
    check_poison(true, -INFINITY, KERNEL_FLOAT32, MASK_RANDOM);
}

static void a_nan_value_reaches_exactly_the_rows_that_see_it(void **unused)
{
    (void)unused;
    for (int type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16; type++)
        check_poison(false, NAN, (kernel_type)type, MASK_CAUSAL);
    check_poison(false, NAN, KERNEL_FLOAT32, MASK_RANDOM);
    check_poison(false, NAN, KERNEL_FLOAT32, MASK_EMPTY);
    check_poison(false, NAN, KERNEL_FLOAT32, MASK_FULL);
}

static void an_infinite_value_reaches_exactly_the_rows_that_see_it(void **unused)
{
    (void)unused;
    check_poison(false, INFINITY, KERNEL_FLOAT32, MASK_CAUSAL);
    check_poison(false, -INFINITY, KERNEL_BFLOAT16, MASK_CAUSAL);
    check_poison(false, INFINITY, KERNEL_FLOAT32, MASK_RANDOM);
}

/* A NaN whose payload fills all its bits: arithmetic on exponents must not turn it into a number. */
static void a_nan_of_any_payload_stays_nan(void **unused)
{
    (void)unused;
    static const uint32_t payloads[] = {0x7fffffff, 0xffffffff, 0x7f800001, 0x7fc00001, 0xffc001ff};
    const problem_shape shape = {
        .heads = 1, .kv_heads = 1, .dim = 1, .value_dim = 1, .tokens = 2, .keys = 70, .query_scale = 1, .seed = 31000};
    problem p = problem_create(&shape);
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        memcpy(p.q.data, &payloads[i], sizeof payloads[i]);
        attention_state state = problem_state(&p, kernel, &(fold_cut){0});
        assert_true(isnan(state.o[0]));
        assert_true(isnan(state.l[0]));
        assert_false(isnan(state.o[1]));
        state_destroy(&state);
    }
    problem_destroy(&p);
}

static void a_row_whose_scores_are_all_minus_infinity_has_seen_nothing(void **unused)
{
    (void)unused;
    const problem_shape shape = {
        .heads = 1, .kv_heads = 1, .dim = 1, .value_dim = 3, .tokens = 2, .keys = 70, .query_scale = 1, .seed = 32000};
    problem p = problem_create(&shape);
    for (int64_t j = 0; j < shape.keys; j++) problem_set(&p, &p.k, j, 0, 0, INFINITY);
    for (int64_t t = 0; t < shape.tokens; t++) problem_set(&p, &p.q, t, 0, 0, -1);
    attention_state state = problem_state(&p, kernel, &(fold_cut){0});
    problem_check(&p, state, 2, 0, 0);
    state_destroy(&state);
    problem_destroy(&p);
}

static void a_span_that_sees_nothing_is_the_identity(void **unused)
{
    (void)unused;
    problem_shape shape = causal;
    problem p = problem_create(&shape);
    for (int64_t t = 0; t < shape.tokens; t++) p.visible_begin[t] = p.visible_end[t] = 70;
    attention_state state = problem_state(&p, kernel, &(fold_cut){0});
    attention_state identity = state_create(shape.tokens * shape.heads, shape.value_dim);
    assert_true(states_equal(state, identity, shape.tokens * shape.heads, shape.value_dim));
    state_destroy(&state);
    state_destroy(&identity);
    problem_destroy(&p);
}

static void empty_spans_and_segments_are_allowed(void **unused)
{
    (void)unused;
    problem p = problem_create(&causal);
    const int64_t rows = causal.tokens * causal.heads;
    attention_state state = state_create(rows, causal.value_dim), identity = state_create(rows, causal.value_dim);
    problem_fold_keys(&p, kernel, &(fold_cut){.threads = 2}, 10, 10, state);
    assert_true(states_equal(state, identity, rows, causal.value_dim));

    const attention_segment none = {.k = p.k.data, .v = p.v.data, .begin = 5, .end = 5, .look_inside = true};
    const attention_span spans[] = {
        {.tokens = 0},
        {.q = p.q.data,
         .q_token_stride = p.q.token_stride,
         .q_head_stride = p.q.head_stride,
         .tokens = causal.tokens,
         .state = state,
         .visible_begin = p.visible_begin,
         .visible_end = p.visible_end,
         .segments = &none,
         .segment_count = 1},
        {.tokens = 0},
    };
    attention_call call = {.heads = causal.heads,
                           .kv_heads = causal.kv_heads,
                           .dim = causal.dim,
                           .value_dim = causal.value_dim,
                           .scale = 1,
                           .threads = 1};
    call.workspace = aligned_alloc(64, attention_workspace_size(1, causal.dim, causal.value_dim));
    kernel->fold(&call, spans, 3);
    kernel->fold(&call, spans, 1);
    kernel->fold(&call, NULL, 0);
    assert_true(states_equal(state, identity, rows, causal.value_dim));
    free(call.workspace);
    state_destroy(&state);
    state_destroy(&identity);
    problem_destroy(&p);
}

static bool denormals_work(void)
{
    volatile float tiny = 1e-39f, one = 1;
    return tiny * one == 1e-39f && tiny + tiny > 0;
}

static void every_thread_has_its_denormals_back(void **unused)
{
    (void)unused;
    problem p = problem_create(&causal);
    attention_state state = problem_state(&p, kernel, &(fold_cut){.threads = 2});
    int working = 0;
    assert_true(denormals_work());
#pragma omp parallel num_threads(2) reduction(+ : working)
    working += denormals_work();
    assert_int_equal(working, 2);
    state_destroy(&state);
    problem_destroy(&p);
}

enum { MARKING = 3 }; /* threads */

typedef struct {
    int begun[MARKING], ended[MARKING], wrong[MARKING];
} mark_record;

static void record_mark(void *data, int thread, bool begin)
{
    mark_record *record = data;
    record->wrong[thread] += thread != omp_get_thread_num() || record->ended[thread] > 0 || record->begun[thread] != !begin;
    if (begin) record->begun[thread]++;
    else record->ended[thread]++;
}

/* Rows that threads divide among them, one row that they share, and tasks for fewer threads than there are. The fold on
 * tiles asks the blocked one for keys at the edges, within a thread's share. */
static void every_thread_marks_its_share_once(void **unused)
{
    (void)unused;
    const int64_t sizes[][2] = {{300, 500}, {1, 9000}, {2, 70}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const problem_shape shape = {.heads = 2,
                                     .kv_heads = 1,
                                     .dim = 24,
                                     .value_dim = 16,
                                     .tokens = sizes[i][0],
                                     .keys = sizes[i][1],
                                     .query_scale = 1,
                                     .seed = 34000 + i};
        problem p = problem_create(&shape);
        for (int threads = 1; threads <= MARKING; threads++) {
            mark_record record = {{0}, {0}, {0}};
            const fold_cut cut = {.threads = threads, .mark = record_mark, .poll_data = &record};
            attention_state state = problem_state(&p, kernel, &cut);
            for (int t = 0; t < MARKING; t++) {
                assert_int_equal(record.begun[t], t < threads);
                assert_int_equal(record.ended[t], t < threads);
                assert_int_equal(record.wrong[t], 0);
            }
            state_destroy(&state);
        }
        problem_destroy(&p);
    }
}

typedef struct {
    int calls, backwards, outside, other_thread;
    double last;
} poll_record;

static void record_poll(void *data, double fraction)
{
    poll_record *record = data;
    record->calls++;
    record->backwards += fraction < record->last;
    record->outside += !(fraction >= 0 && fraction <= 1);
    record->other_thread += omp_get_thread_num() != 0;
    record->last = fraction;
}

static void check_polls(const problem_shape *shape, int least_alone)
{
    problem p = problem_create(shape);
    for (int threads = 1; threads <= 2; threads++) {
        poll_record record = {0};
        const fold_cut cut = {.threads = threads, .poll = record_poll, .poll_data = &record};
        attention_state state = problem_state(&p, kernel, &cut);
        assert_true(record.calls >= (threads == 1 ? least_alone : 1));
        assert_int_equal(record.backwards, 0);
        assert_int_equal(record.outside, 0);
        assert_int_equal(record.other_thread, 0);
        state_destroy(&state);
    }
    problem_destroy(&p);
}

/* Alone, a poll at most every POLL_INTERVAL flop: 1.3 Gflop here, and 9 Mflop of a row whose keys take as long to read
 * as ten times as many flop. Beside others the calling thread may be left with nothing but the poll at the end. */
static void the_calling_thread_polls(void **unused)
{
    (void)unused;
    const problem_shape many = {.heads = 2,
                                .kv_heads = 2,
                                .dim = 64,
                                .value_dim = 64,
                                .tokens = 1024,
                                .keys = 2500,
                                .query_scale = 1,
                                .seed = 33000};
    const problem_shape few = {.heads = 1,
                               .kv_heads = 1,
                               .dim = 64,
                               .value_dim = 64,
                               .tokens = 1,
                               .keys = 35000,
                               .query_scale = 1,
                               .seed = 33001};
    check_polls(&many, compute_under_test == COMPUTE_FP32 ? 200 : 50);
    check_polls(&few, 15);
}

int main(int argc, char **argv)
{
    kernel = kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nan_query_row_is_nan_and_stays_alone),
        cmocka_unit_test(what_scores_are_made_of_does_not_stop_a_nan_or_let_it_out),
        cmocka_unit_test(a_nan_key_reaches_exactly_the_rows_that_see_it),
        cmocka_unit_test(an_infinite_key_reaches_exactly_the_rows_that_see_it),
        cmocka_unit_test(a_nan_value_reaches_exactly_the_rows_that_see_it),
        cmocka_unit_test(an_infinite_value_reaches_exactly_the_rows_that_see_it),
        cmocka_unit_test(a_nan_of_any_payload_stays_nan),
        cmocka_unit_test(a_row_whose_scores_are_all_minus_infinity_has_seen_nothing),
        cmocka_unit_test(a_span_that_sees_nothing_is_the_identity),
        cmocka_unit_test(empty_spans_and_segments_are_allowed),
        cmocka_unit_test(every_thread_has_its_denormals_back),
        cmocka_unit_test(the_calling_thread_polls),
        cmocka_unit_test(every_thread_marks_its_share_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
