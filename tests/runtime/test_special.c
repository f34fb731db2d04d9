/* Values and shapes that broke other systems: NaN and Inf as data, rows with nothing to see, huge scores, documents
 * that do not divide, bits that must not depend on threads, errors that must not grow with the rank count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tests/runtime/problem.h"

static void assert_within(const test_problem *t, double bound)
{
    test_result r = run_problem(t);
    if (r.status != LONGSPAN_OK || !(r.relative_rms <= bound) || !(r.worst_lse <= 2e-6) || r.mismatches)
        fail_msg("status %d, relative RMS %.3g, lse %.3g, %lld mismatches (seed %llu)", r.status, r.relative_rms,
                 r.worst_lse, (long long)r.mismatches, (unsigned long long)t->seed);
}

static void assert_right(const test_problem *t)
{
    assert_within(t, 1e-6);
}

static void assert_right_under_all_strategies(test_problem t)
{
    static const char *const strategies[] = {"ring", "gather"}, *const layouts[] = {"contiguous", "zigzag"};
    for (int s = 0; s < 4; s++) {
        t.problem.strategy = strategies[s / 2];
        t.problem.layout = layouts[s % 2];
        assert_right(&t);
    }
}

static float nan_in_query_300(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    return which == TENSOR_Q && token == 300 && head == 1 && element == 3 ? NAN : made;
}

static float nan_in_key_100(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    (void)head;
    return which == TENSOR_K && token == 100 && element == 0 ? NAN : made;
}

static float infinity_in_value_100(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    (void)head;
    return which == TENSOR_V && token == 100 && element == 5 ? INFINITY : made;
}

static void nan_and_infinity_reach_exactly_the_rows_that_see_them(void **state)
{
    (void)state;
    float (*const replace[])(tensor, int64_t, int64_t, int, int, float) = {nan_in_query_300, nan_in_key_100,
                                                                           infinity_in_value_100};
    static const int64_t documents[] = {0, 70, 190, 190, 517};
    for (int c = 0; c < 6; c++) {
        test_problem t = make_problem(517, 2, 1, 16);
        t.replace = replace[c / 2];
        t.problem.causal = 1;
        if (c % 2) {
            t.problem.documents = documents;
            t.problem.document_count = 4;
        }
        assert_right_under_all_strategies(t);
    }
}

/* Causal with more queries than keys: the first N - M queries see nothing, among them all rows of some ranks. */
static void rows_with_nothing_to_see_give_zero_and_minus_infinity(void **state)
{
    (void)state;
    test_problem t = make_problem(700, 2, 2, 16);
    t.problem.keys = 90;
    t.problem.causal = 1;
    assert_right_under_all_strategies(t);
}

/* Only queries whose first blocks are masked everywhere and whose own block is not. */
static void rows_whose_first_blocks_are_masked_are_right(void **state)
{
    (void)state;
    static const int64_t documents[] = {0, 640, 641, 1000};
    test_problem t = make_problem(1000, 2, 1, 16);
    t.problem.documents = documents;
    t.problem.document_count = 3;
    assert_right_under_all_strategies(t);
    t.problem.causal = 1;
    assert_right_under_all_strategies(t);
}

static void documents_that_do_not_divide_do_not_leak(void **state)
{
    (void)state;
    static const int64_t short_documents[] = {0, 7, 14, 16}, long_documents[] = {0, 120, 1248, 4232},
                         tail[] = {0, 0, 50, 50, 128, 300, 301, 301};
    const struct {
        const int64_t *offsets;
        int64_t count, tokens;
    } cases[] = {{short_documents, 3, 16}, {long_documents, 3, 4232}, {tail, 7, 301}};
    for (int c = 0; c < 6; c++) {
        test_problem t = make_problem(cases[c / 2].tokens, 2, 1, 24);
        t.checked_rows = 40;
        t.problem.causal = c % 2;
        t.problem.documents = cases[c / 2].offsets;
        t.problem.document_count = cases[c / 2].count;
        assert_right_under_all_strategies(t);
    }
}

static void head_counts_that_ranks_do_not_divide_are_right(void **state)
{
    (void)state;
    static const int heads[][2] = {{1, 1}, {7, 7}, {7, 1}, {48, 2}, {32, 4}, {5, 5}};
    for (int h = 0; h < 6; h++) {
        test_problem t = make_problem(333, heads[h][0], heads[h][1], 16);
        t.checked_rows = 12;
        t.problem.causal = 1;
        assert_right_under_all_strategies(t);
    }
}

/* Shards whose scores lie ten thousand apart. */
static float keys_far_apart(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    (void)head;
    if (element != 0) return which == TENSOR_V ? made : 0;
    if (which == TENSOR_Q) return 1;
    if (which == TENSOR_K) return token < 200 ? -10000 : token < 300 ? 10000 : (float)(token % 7) * 300;
    return made;
}

static void scores_ten_thousand_apart_merge_without_overflow(void **state)
{
    (void)state;
    test_problem t = make_problem(611, 1, 1, 8);
    t.problem.scale = 1;
    t.replace = keys_far_apart;
    for (int causal = 0; causal < 2; causal++) {
        t.problem.causal = causal;
        assert_right_under_all_strategies(t);
    }
}

/* bf16 partial results would make the error grow with the number of merges; ours stay float32. */
static void the_error_does_not_grow_with_the_rank_count(void **state)
{
    (void)state;
    int rank, ranks;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    double alone[3] = {0};
    for (int size = 1; size <= ranks; size *= 2) {
        MPI_Comm comm;
        MPI_Comm_split(MPI_COMM_WORLD, rank < size ? 0 : MPI_UNDEFINED, rank, &comm);
        for (int type = 0; type < 3; type++) {
            double rms = 0;
            if (comm != MPI_COMM_NULL) {
                test_problem t = make_problem(2039, 2, 1, 64);
                t.comm = comm;
                t.checked_rows = 256 / size;
                t.problem.causal = 1;
                t.problem.type = (longspan_type)type;
                test_result r = run_problem(&t);
                rms = r.status == LONGSPAN_OK ? r.relative_rms : INFINITY;
            }
            MPI_Bcast(&rms, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
            if (size == 1) alone[type] = rms;
            if (!(rms <= 1.25 * alone[type]) || !(rms > 0))
                fail_msg("type %d: relative RMS %.3g on %d ranks, %.3g on one", type, rms, size, alone[type]);
        }
        if (comm != MPI_COMM_NULL) MPI_Comm_free(&comm);
    }
}

static void results_are_the_same_bits_whatever_the_thread_count(void **state)
{
    (void)state;
    test_problem t = make_problem(1500, 3, 1, 40);
    t.checked_rows = 1;
    t.problem.causal = 1;
    t.threads = 1;
    test_result one = run_problem(&t);
    assert_int_equal(one.status, LONGSPAN_OK);
    for (int threads = 2; threads <= 4; threads++) {
        t.threads = threads;
        test_result many = run_problem(&t);
        assert_int_equal(many.status, LONGSPAN_OK);
        assert_true(one.fingerprint == many.fingerprint);
    }
}

static void an_execute_repeats_its_bits(void **state)
{
    (void)state;
    for (int strategy = 0; strategy < 2; strategy++) {
        test_problem t = make_problem(900, 2, 2, 24);
        t.checked_rows = 1;
        t.problem.causal = 1;
        t.problem.strategy = strategy ? "gather" : "ring";
        test_result first = run_problem(&t), second = run_problem(&t);
        assert_int_equal(first.status, LONGSPAN_OK);
        assert_true(first.fingerprint == second.fingerprint);
    }
}

/* Known shapes of other systems' defects. */
static void fixed_shapes_are_right(void **state)
{
    (void)state;
    static const int64_t packed[] = {0, 128, 1248, 4240};
    const struct {
        int64_t tokens;
        int heads, kv_heads, dim, value_dim;
        const int64_t *documents;
    } shapes[] = {
        {3824, 5, 5, 128, 128, NULL},  {4240, 2, 1, 64, 64, packed}, {1024, 2, 2, 256, 256, NULL},
        {512, 16, 16, 192, 128, NULL}, {62, 2, 2, 16, 16, NULL},     {512, 12, 2, 128, 128, NULL},
    };
    for (int s = 0; s < 6; s++) {
        test_problem t = make_problem(shapes[s].tokens, shapes[s].heads, shapes[s].kv_heads, shapes[s].dim);
        t.checked_rows = 6;
        t.problem.value_dim = shapes[s].value_dim;
        t.problem.causal = 1;
        t.problem.documents = shapes[s].documents;
        t.problem.document_count = shapes[s].documents ? 3 : 0;
        assert_right(&t);
    }
}

/* Two rows of one value each would mean little where that value is what cancellation left. */
static float positive_values(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b, (void)token, (void)head, (void)element;
    return which == TENSOR_V ? fabsf(made) : made;
}

/* Keys that fill more than one message: two queries on two ranks against 40,000 keys of 2 KiB each. */
static void shards_above_one_message_arrive_whole(void **state)
{
    (void)state;
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    test_problem t = make_problem(2, 1, 1, 512);
    t.problem.keys = 80000;
    t.problem.value_dim = 1;
    t.problem.strategy = "ring";
    t.replace = positive_values;
    MPI_Comm_split(MPI_COMM_WORLD, rank / 2, rank, &t.comm);
    /* The rounding of the running sums grows with the root of the number of key blocks: 1e-6 is for 10,000 keys. */
    assert_within(&t, 2.8e-6);
    MPI_Comm_free(&t.comm);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nan_and_infinity_reach_exactly_the_rows_that_see_them),
        cmocka_unit_test(rows_with_nothing_to_see_give_zero_and_minus_infinity),
        cmocka_unit_test(rows_whose_first_blocks_are_masked_are_right),
        cmocka_unit_test(documents_that_do_not_divide_do_not_leak),
        cmocka_unit_test(head_counts_that_ranks_do_not_divide_are_right),
        cmocka_unit_test(scores_ten_thousand_apart_merge_without_overflow),
        cmocka_unit_test(the_error_does_not_grow_with_the_rank_count),
        cmocka_unit_test(results_are_the_same_bits_whatever_the_thread_count),
        cmocka_unit_test(an_execute_repeats_its_bits),
        cmocka_unit_test(fixed_shapes_are_right),
        cmocka_unit_test(shards_above_one_message_arrive_whole),
    };
    return RUN_MPI_GROUP(argc, argv, tests);
}
