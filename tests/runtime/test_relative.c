/* Relative keys of windows against the equation in float64: every strategy, layout and mask that a window has, global
 * tokens, tables wider than shards; and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/partition/brute_pattern.h"
#include "tests/runtime/oracle.h"
#include "tests/runtime/product.h"

static int ranks, my_rank;

enum { MOST_TOKENS = 160, MOST_FLOATS = 1 << 17 };

static float table[MOST_FLOATS], bias_u[1024], bias_w[1024];

/* Relative keys for the window of the problem, with or without biases. */
static void set_relative(longspan_problem *p, int64_t left, int64_t right, bool biases)
{
    const int64_t row = (int64_t)p->heads * p->dim;
    p->relative_count = left + right + 1;
    if (p->relative_count * row > MOST_FLOATS || row > 1024) fail_msg("too many offsets for the test");
    for (int64_t i = 0; i < p->relative_count * row; i++) table[i] = (float)made_number(7, 3, 0, i, 0, 0);
    for (int64_t i = 0; i < row; i++) {
        bias_u[i] = (float)made_number(7, 4, 0, i, 0, 0);
        bias_w[i] = (float)made_number(7, 5, 0, i, 0, 0);
    }
    p->relative_keys = table;
    p->relative_bias_u = biases ? bias_u : NULL;
    p->relative_bias_w = biases ? bias_w : NULL;
}

static void assert_right(const test_problem *t, const char *text)
{
    static const double bars[][2] = {{1e-6, 2e-6}, {0x1p-11 + 1e-6, 0x1p-11}, {0x1p-8 + 1e-6, 0x1p-8}};
    const test_result r = run_problem(t);
    const double *bar = bars[t->problem.type];
    if (r.status != LONGSPAN_OK || !(r.relative_rms <= bar[0]) || !(r.worst_lse <= bar[1]) || r.mismatches ||
        r.bytes_sent != r.bytes_received)
        fail_msg("%s on %d ranks (seed %llu): status %d %s, relative RMS %.3g, lse %.3g, %lld mismatches", text, ranks,
                 (unsigned long long)t->seed, r.status, r.text, r.relative_rms, r.worst_lse, (long long)r.mismatches);
}

/* The masks of tests/runtime/product.c that are windows of two sides, or causal ones: which, and the sides. */
static const int windows[][3] = {{2, 9, 0}, {3, 5, 11}, {10, 12, 3}, {14, 0, 6}};
enum { WINDOWS = sizeof windows / sizeof windows[0] };

static void every_strategy_and_layout_is_right(void **state)
{
    (void)state;
    int turn = 0;
    for (int strategy = 0; strategy < PRODUCT_STRATEGIES; strategy++) {
        if (product_refuses(strategy, ranks)) continue;
        test_problem t = product_open(strategy, ranks, ranks == 1 ? 2 : 1);
        for (int layout = 0; layout < PRODUCT_LAYOUTS; layout++)
            for (int i = 0; i < (ranks == 1 ? WINDOWS : 1); i++, turn++) {
                char text[256];
                const int w = (turn + turn / WINDOWS) % WINDOWS;
                const product_point point = {
                    windows[w][0], turn % 3 == 0 ? 1 : turn % 5 == 0 ? 5 : 0, strategy,
                    layout,        (turn + turn / 20) % PRODUCT_SHAPES,       turn % 4 ? 0 : turn / 4 % 3};
                product_set(&t, &point, text);
                set_relative(&t.problem, windows[w][1], windows[w][2], turn % 7 != 0);
                assert_right(&t, text);
            }
        longspan_context_destroy(&t.context);
    }
}

static void tables_wider_than_shards_and_sequences_are_right(void **state)
{
    (void)state;
    static const int64_t cases[][4] = {{120, 120, 40, 50}, {120, 120, 200, 150}, {97, 150, 90, 3}, {150, 97, 0, 120}};
    for (int i = 0; i < 4; i++) {
        test_problem t = make_problem(cases[i][0], 4, 2, 20);
        t.problem.keys = cases[i][1];
        t.problem.value_dim = 12;
        t.problem.window_left = cases[i][2];
        t.problem.window_right = cases[i][3];
        set_relative(&t.problem, cases[i][2], cases[i][3], true);
        assert_right(&t, "a wide table");
    }
}

/* Global tokens anywhere, in documents too; the pattern's own window is the table's. */
static void global_tokens_are_right_inside_and_outside_the_table(void **state)
{
    (void)state;
    static const int64_t documents[] = {0, 37, 38, 75, 113};
    static const int global[][3] = {{0, 0, 0}, {112, 112, 112}, {3, 56, 99}, {0, 20, 20}};
    enum { HEADS = 6 };
    static unsigned char times[HEADS * MOST_TOKENS * MOST_TOKENS];
    for (int i = 0; i < 8; i++) {
        brute_pattern b = {.name = BRUTE_GLOBAL, .numbers = {i % 3 ? 9 : 50, i % 2 ? 4 : 12}};
        test_problem t = make_problem(113, HEADS, 3, 24);
        longspan_problem *p = &t.problem;
        char text[256];
        const bool packed = i >= 4;
        for (int g = 0; g < 3; g++) b.first[global[i % 4][g]] = true;
        if (packed) p->documents = documents, p->document_count = 4;
        p->causal = i % 4 == 2;
        p->softcap = i % 4 == 1 ? 2 : 0;
        p->type = p->out_type = (longspan_type)(i == 3 ? 1 : 0);
        p->batch = i == 2 ? 2 : 1;
        for (int64_t q = 0; q < 113; q++)
            for (int64_t j = 0; j < 113; j++) {
                int64_t start = 0, end = 113;
                for (int d = 0; packed && d < 4; d++)
                    if (documents[d] <= q && q < documents[d + 1]) start = documents[d], end = documents[d + 1];
                for (int h = 0; h < HEADS; h++)
                    times[(h * 113 + q) * 113 + j] =
                        (unsigned char)(j >= start && j < end ? brute_times(&b, h, q - start, j - start, end - start) : 0);
            }
        brute_pattern_text(&b, text, sizeof text);
        p->pattern = text;
        t.times = times;
        set_relative(p, b.numbers[0], b.numbers[1], true);
        assert_right(&t, text);
    }
}

static void assert_refused(longspan_context *context, const longspan_problem *p, longspan_status status,
                           const char *first, const char *second)
{
    longspan_plan *plan = NULL;
    const longspan_status got = longspan_plan_create(context, p, &plan);
    const char *text = longspan_context_error(context);
    int wrong = got != status || plan || !strstr(text, first) || !strstr(text, second);
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (wrong) fail_msg("expected %d with '%s' and '%s', got %d: %s", status, first, second, got, text);
}

static void what_does_not_go_together_is_refused_naming_both(void **state)
{
    (void)state;
    static const float slopes[] = {1, 2};
    const longspan_status no = LONGSPAN_ERROR_UNSUPPORTED, wrong = LONGSPAN_ERROR_ARGUMENT;
    longspan_status status;
    test_problem t = make_problem(64, 2, 2, 8);
    longspan_context *context = open_context(&t, &status);
    longspan_problem good = t.problem, p;
    good.window_left = 10, good.window_right = 4;
    set_relative(&good, 10, 4, true);
    p = good, p.relative_count = 16, assert_refused(context, &p, no, "relative_keys have 16 rows", "needs 15");
    p = good, p.window_right = -1, assert_refused(context, &p, no, "relative_keys", "window");
    p = good, p.window_left = p.window_right = -1, assert_refused(context, &p, no, "relative_keys", "window");
    p = good, p.window_right = -1, p.causal = 1, p.prefix = 5,
    assert_refused(context, &p, no, "relative_keys", "window");
    p = good, p.rope_dim = 4, assert_refused(context, &p, no, "relative_keys", "RoPE");
    p = good, p.alibi_slopes = slopes, assert_refused(context, &p, no, "relative_keys", "alibi_slopes");
    p = good, p.pattern = "global:10,4,0", assert_refused(context, &p, no, "relative_keys", "global:10,4,0");
    p = good, p.window_left = p.window_right = -1, p.pattern = "sinks:1,14";
    assert_refused(context, &p, no, "relative_keys", "sinks:1,14");
    p.pattern = "global-twice:10,4,0", assert_refused(context, &p, no, "relative_keys", "global-twice:10,4,0");
    p = good, p.alpha = 1.5, assert_refused(context, &p, no, "relative keys", "alpha 1.5");
    p = good, p.relative_bias_w = NULL, assert_refused(context, &p, wrong, "relative_bias_u", "relative_bias_w");
    p = good, p.relative_keys = NULL, assert_refused(context, &p, wrong, "relative_count", "relative_keys");
    table[17] = NAN, assert_refused(context, &good, wrong, "relative_keys", "nan");
    table[17] = 0, bias_w[3] = INFINITY, assert_refused(context, &good, wrong, "relative_bias_w", "inf");
    bias_w[3] = my_rank == ranks - 1 ? 1 : 2;
    if (ranks > 1) assert_refused(context, &good, LONGSPAN_ERROR_MISMATCH, "relative_keys or their biases", "differs");
    longspan_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_and_layout_is_right),
        cmocka_unit_test(tables_wider_than_shards_and_sequences_are_right),
        cmocka_unit_test(global_tokens_are_right_inside_and_outside_the_table),
        cmocka_unit_test(what_does_not_go_together_is_refused_naming_both),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
