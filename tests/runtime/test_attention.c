/* The distributed result against the float64 oracle: strategies, layouts, masks, head counts, types, odd lengths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/runtime/oracle.h"
#include "tests/runtime/problem.h"

static const double bound_float32 = 1e-6;

/* Runs one problem under every strategy and layout and asserts the float32 bound. */
static void assert_float32(test_problem t)
{
    static const char *const strategies[] = {"ring", "gather"}, *const layouts[] = {"contiguous", "zigzag"};
    for (int s = 0; s < 2; s++)
        for (int l = 0; l < 2; l++) {
            t.problem.strategy = strategies[s];
            t.problem.layout = layouts[l];
            test_result r = run_problem(&t);
            if (r.status != LONGSPAN_OK || !(r.relative_rms <= bound_float32) || !(r.worst_lse <= 2e-6) || r.mismatches)
                fail_msg(
                    "%s %s N=%lld M=%lld H=%d G=%d D=%d causal=%d documents=%lld: status %d, relative RMS %.3g, lse "
                    "%.3g, %lld mismatches (seed %llu)",
                    strategies[s], layouts[l], (long long)t.problem.queries, (long long)t.problem.keys, t.problem.heads,
                    t.problem.kv_heads, t.problem.dim, t.problem.causal, (long long)t.problem.document_count, r.status,
                    r.relative_rms, r.worst_lse, (long long)r.mismatches, (unsigned long long)t.seed);
        }
}

/* Three documents, one of them empty, whose edges divide nothing. */
static void split_documents(int64_t tokens, int64_t offsets[5])
{
    offsets[0] = 0;
    offsets[1] = tokens / 5;
    offsets[2] = offsets[1];
    offsets[3] = tokens - tokens / 7;
    offsets[4] = tokens;
}

/* Every mask at one length. */
static void assert_masks(test_problem t)
{
    int64_t offsets[5];
    split_documents(t.problem.queries, offsets);
    for (int causal = 0; causal < 2; causal++)
        for (int documents = 0; documents < 2; documents++) {
            t.problem.causal = causal;
            t.problem.documents = documents ? offsets : NULL;
            t.problem.document_count = documents ? 4 : 0;
            assert_float32(t);
        }
}

static const int head_counts[][2] = {{1, 1}, {3, 1}, {3, 3}, {8, 1}, {8, 8}};
enum { HEAD_COUNTS = sizeof head_counts / sizeof *head_counts };

static void short_sequences_equal_the_reference(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 7, 31};
    for (int n = 0; n < 3; n++)
        for (int h = 0; h < HEAD_COUNTS; h++)
            assert_masks(make_problem(lengths[n], head_counts[h][0], head_counts[h][1], 16));
}

static void length_698_equals_the_reference(void **state)
{
    (void)state;
    for (int h = 0; h < HEAD_COUNTS; h++) {
        test_problem t = make_problem(698, head_counts[h][0], head_counts[h][1], 40);
        t.checked_rows = 50;
        assert_masks(t);
    }
}

static void length_3816_equals_the_reference(void **state)
{
    (void)state;
    test_problem t = make_problem(3816, 3, 1, 32);
    t.checked_rows = 20;
    assert_masks(t);
}

static void length_10000_equals_the_reference(void **state)
{
    (void)state;
    test_problem t = make_problem(10000, 1, 1, 16);
    t.checked_rows = 20;
    t.problem.causal = 1;
    assert_float32(t);
}

static void lengths_around_the_rank_count_equal_the_reference(void **state)
{
    (void)state;
    int ranks;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const int64_t lengths[] = {1, ranks - 1, ranks, ranks + 1, 2 * ranks - 1, 2 * ranks + 1};
    for (int n = 0; n < 6; n++)
        if (lengths[n] > 0) assert_masks(make_problem(lengths[n], 2, 1, 8));
}

static void queries_and_keys_of_different_length_align_at_the_bottom_right(void **state)
{
    (void)state;
    static const int64_t lengths[][2] = {{1, 100}, {5, 131}, {64, 700}, {100, 37}, {131, 5}, {300, 299}};
    for (int n = 0; n < 6; n++)
        for (int causal = 0; causal < 2; causal++) {
            test_problem t = make_problem(lengths[n][0], 4, 2, 24);
            t.problem.keys = lengths[n][1];
            t.problem.causal = causal;
            assert_float32(t);
        }
}

static void value_heads_of_another_size_and_a_batch_equal_the_reference(void **state)
{
    (void)state;
    static const int dims[][2] = {{192, 128}, {1, 1}, {5, 77}, {80, 72}, {256, 16}, {33, 512}};
    for (int d = 0; d < 6; d++) {
        test_problem t = make_problem(97, 4, 2, dims[d][0]);
        t.problem.value_dim = dims[d][1];
        t.problem.batch = 3;
        t.problem.causal = d % 2;
        assert_float32(t);
    }
}

static void a_scale_of_the_user_is_applied(void **state)
{
    (void)state;
    test_problem t = make_problem(130, 2, 2, 32);
    t.problem.scale = 0.37;
    t.problem.causal = 1;
    assert_float32(t);
}

/* Input types of two bytes in fp32: out of the same type carries its own rounding, out in float32 only ours; at any P.
 */
static void narrow_types_err_by_their_rounding_only(void **state)
{
    (void)state;
    static const longspan_type types[] = {LONGSPAN_FLOAT16, LONGSPAN_BFLOAT16};
    static const double roundoff[] = {0x1p-11, 0x1p-8};
    for (int y = 0; y < 2; y++)
        for (int causal = 0; causal < 2; causal++) {
            test_problem t = make_problem(1051, 4, 2, 64);
            t.checked_rows = 40;
            t.compute = "fp32";
            t.problem.type = types[y];
            t.problem.causal = causal;
            assert_float32(t);
            t.problem.out_type = types[y];
            test_result r = run_problem(&t);
            if (r.status || !(r.relative_rms <= 0.6 * roundoff[y]) || !(r.worst_ulps <= 1) || r.mismatches)
                fail_msg("type %d: relative RMS %.3g, worst element %.3g of its bound", (int)types[y], r.relative_rms,
                         r.worst_ulps);
        }
}

static void the_plan_counts_every_allowed_pair_once(void **state)
{
    (void)state;
    int64_t offsets[5];
    split_documents(701, offsets);
    for (int causal = 0; causal < 2; causal++)
        for (int documents = 0; documents < 2; documents++) {
            test_problem t = make_problem(701, 2, 1, 8);
            t.checked_rows = 1;
            t.problem.causal = causal;
            if (documents) {
                t.problem.documents = offsets;
                t.problem.document_count = 4;
            }
            test_result r = run_problem(&t);
            assert_int_equal(r.status, LONGSPAN_OK);
            const longspan_problem full = oracle_defaults(&t.problem);
            assert_true(r.flops == oracle_pairs(&full) * 2 * 2 * (8 + 8));
        }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_sequences_equal_the_reference),
        cmocka_unit_test(length_698_equals_the_reference),
        cmocka_unit_test(length_3816_equals_the_reference),
        cmocka_unit_test(length_10000_equals_the_reference),
        cmocka_unit_test(lengths_around_the_rank_count_equal_the_reference),
        cmocka_unit_test(queries_and_keys_of_different_length_align_at_the_bottom_right),
        cmocka_unit_test(value_heads_of_another_size_and_a_batch_equal_the_reference),
        cmocka_unit_test(a_scale_of_the_user_is_applied),
        cmocka_unit_test(narrow_types_err_by_their_rounding_only),
        cmocka_unit_test(the_plan_counts_every_allowed_pair_once),
    };
    return RUN_MPI_GROUP(argc, argv, tests);
}
