/* Values and shapes that broke other systems: NaN and Inf as data, rows with nothing to see, huge scores, documents
 * that do not divide, bits that must not depend on threads, errors that must not grow with the rank count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tests/runtime/product.h"

static int ranks;
static test_problem opened[PRODUCT_STRATEGIES]; /* a context for each strategy, kept for all cases */

static void assert_result(const test_problem *t, const test_result *r, double bound)
{
    if (r->status != LONGSPAN_OK || !(r->relative_rms <= bound) || !(r->worst_lse <= 2e-6) || r->mismatches)
        fail_msg("%s in nodes of %d, %s: status %d %s, relative RMS %.3g, lse %.3g, %lld mismatches (seed %llu)",
                 t->problem.strategy, t->node_ranks, t->problem.layout, r->status, r->text, r->relative_rms,
                 r->worst_lse, (long long)r->mismatches, (unsigned long long)t->seed);
}

static void assert_within(const test_problem *t, double bound)
{
    const test_result r = run_problem(t);
    assert_result(t, &r, bound);
}

static void assert_right(const test_problem *t)
{
    assert_within(t, 1e-6);
}

/* And layouts. Strategies that do not go with the rank count must be refused, no others. */
static void assert_right_under_all_strategies(test_problem t)
{
    int refused = 0, refusing = 0;
    for (int strategy = 0; strategy < PRODUCT_STRATEGIES; strategy++) {
        t.context = opened[strategy].context;
        t.node_ranks = opened[strategy].node_ranks;
        t.problem.strategy = opened[strategy].problem.strategy;
        refusing += product_refuses(strategy, ranks);
        for (int layout = 0; layout < PRODUCT_LAYOUTS; layout++) {
            t.problem.layout = product_layout(layout);
            const test_result r = run_problem(&t);
            if (r.status == LONGSPAN_ERROR_UNSUPPORTED && product_refuses(strategy, ranks)) refused++;
            else assert_result(&t, &r, 1e-6);
        }
    }
    assert_int_equal(refused, refusing * PRODUCT_LAYOUTS);
}

static float nan_in_query_150(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    return which == TENSOR_Q && token == 150 && head == 1 && element == 3 ? NAN : made;
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
    float (*const replace[])(tensor, int64_t, int64_t, int, int, float) = {nan_in_key_100, nan_in_query_150,
                                                                           infinity_in_value_100};
    static const int64_t documents[] = {0, 70, 140, 140, 261};
    for (int c = 0; c < 4; c++) {
        test_problem t = make_problem(261, 2, 1, 16);
        t.replace = replace[c % 3];
        t.problem.causal = 1;
        if (c >= 2) {
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
    test_problem t = make_problem(350, 2, 1, 16);
    t.problem.keys = 45;
    t.problem.causal = 1;
    assert_right_under_all_strategies(t);
}

/* Only queries whose first blocks are masked everywhere and whose own block is not. */
static void rows_whose_first_blocks_are_masked_are_right(void **state)
{
    (void)state;
    static const int64_t documents[] = {0, 256, 257, 400};
    test_problem t = make_problem(400, 2, 1, 16);
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
        int causal;
    } cases[] = {{short_documents, 3, 16, 0}, {long_documents, 3, 4232, 1}, {tail, 7, 301, 0}, {tail, 7, 301, 1}};
    for (int c = 0; c < 4; c++) {
        test_problem t = make_problem(cases[c].tokens, 1, 1, 8);
        t.checked_rows = 12;
        t.problem.causal = cases[c].causal;
        t.problem.documents = cases[c].offsets;
        t.problem.document_count = cases[c].count;
        assert_right_under_all_strategies(t);
    }
}

static void head_counts_that_ranks_do_not_divide_are_right(void **state)
{
    (void)state;
    static const int heads[][2] = {{7, 1}, {48, 2}, {5, 5}};
    for (int h = 0; h < 3; h++) {
        test_problem t = make_problem(111, heads[h][0], heads[h][1], 16);
        t.checked_rows = 4;
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
    test_problem t = make_problem(411, 1, 1, 8);
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
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
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
        cmocka_unit_test(fixed_shapes_are_right),
        cmocka_unit_test(shards_above_one_message_arrive_whole),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    bool ready = true;
    for (int i = 0; i < PRODUCT_STRATEGIES; i++) {
        opened[i] = product_open(i, ranks, 1);
        ready = ready && opened[i].context;
    }
    const int failures = ready ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
    for (int i = 0; i < PRODUCT_STRATEGIES; i++) longspan_context_destroy(&opened[i].context);
    return mpi_group_end(failures);
}
