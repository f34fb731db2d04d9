/* Sparsemax and alpha-entmax against sorting in float64: alphas, masks, scores, layouts, strategies, lengths that do
 * not divide, supports that fit into a list and such that do not, patterns, NaN and Inf, refusals, traffic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/partition/brute_pattern.h"
#include "tests/runtime/product.h"

static int ranks, my_rank;
static test_problem opened[PRODUCT_STRATEGIES]; /* a context for each strategy, kept for all cases */

static const double alphas[] = {2, 1.5, 1.25, 1.75, 1.05};
enum { ALPHAS = 5, PLAIN_SCORES = 5 }; /* scores without sinks */

static const double bar[] = {1e-6, 0x1p-11 + 1e-6, 0x1p-8 + 1e-6};

static bool is_right(const test_problem *t, const test_result *r)
{
    return r->status == LONGSPAN_OK && r->relative_rms <= bar[t->problem.out_type] && r->worst_lse <= 2e-6 &&
           r->mismatches == 0;
}

static void assert_right(const test_problem *t, const test_result *r, const char *what)
{
    if (!is_right(t, r))
        fail_msg(
            "%s, alpha %g, support %d, q times %g on %d ranks (seed %llu): status %d %s, relative RMS %.3g, threshold "
            "%.3g, %lld mismatches",
            what, t->problem.alpha, t->problem.support, (double)t->q_factor, ranks, (unsigned long long)t->seed,
            r->status, r->text, r->relative_rms, r->worst_lse, (long long)r->mismatches);
}

/* A strategy that moves keys alone and goes with the rank count: ring, gather, double-ring, shared or auto. */
static int strategy_of(int turn)
{
    static const int move_keys[] = {0, 1, 7, 8, 9, 10, 11, 13};
    const int strategy = move_keys[turn % 8];
    return product_refuses(strategy, ranks) ? 0 : strategy;
}

/* Every pair of mask and scores, each with another alpha, list, strategy, layout, length and type. */
static void masks_scores_layouts_and_strategies_are_right(void **state)
{
    (void)state;
    char text[256];
    int turn = 0;
    for (int mask = 0; mask < PRODUCT_MASKS; mask++)
        for (int scores = 0; scores < PLAIN_SCORES; scores++)
            for (int again = 0; again < 2; again++, turn++) {
                const product_point point = {.mask = mask,
                                             .scores = scores,
                                             .strategy = strategy_of(turn),
                                             .layout = turn / 3 % PRODUCT_LAYOUTS,
                                             .shape = turn / 2 % PRODUCT_SHAPES,
                                             .type = turn % 7 < 5 ? LONGSPAN_FLOAT32 : (longspan_type)(turn % 7 - 4)};
                test_problem t = opened[point.strategy];
                product_set(&t, &point, text);
                t.problem.alpha = alphas[turn % ALPHAS];
                t.problem.support = turn % 2 ? 1 : 0;
                t.q_factor = turn % 3 == 0 ? 0.2f : 3;
                const test_result r = run_problem(&t);
                assert_right(&t, &r, text);
            }
}

/* Rows of supports from one key to all of them, through lists and without. */
static void supports_of_any_length_are_right(void **state)
{
    (void)state;
    static const float factors[] = {0, 0.01f, 1, 30};
    for (int a = 0; a < ALPHAS; a++)
        for (int c = 0; c < 4; c++)
            for (int lists = 0; lists < 3; lists++) {
                test_problem t = make_problem(157, 2, 1, 32);
                t.context = opened[0].context;
                t.problem.alpha = alphas[a];
                t.problem.support = lists == 0 ? 1 : lists == 1 ? 48 : 157;
                t.problem.causal = c % 2;
                t.problem.value_dim = 20;
                t.q_factor = factors[c] == 0 ? 1e-30f : factors[c];
                t.checked_rows = 12;
                const test_result r = run_problem(&t);
                /* A score of hundreds carries its own rounding into the weights. */
                if (factors[c] > 1 && r.status == LONGSPAN_OK && r.relative_rms <= 1e-5 && r.mismatches == 0) continue;
                assert_right(&t, &r, "supports");
            }
}

/* One key of each row has all the weight, but for those in its shadow. */
static float one_key_stands_out(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    (void)head;
    return which == TENSOR_K && token % 37 == 5 && element == 0 ? 50 + (float)(token % 7) : made;
}

static void thresholds_that_rise_late_are_right(void **state)
{
    (void)state;
    for (int layout = 0; layout < PRODUCT_LAYOUTS; layout++)
        for (int a = 0; a < 3; a++) {
            test_problem t = make_problem(203, 3, 3, 16);
            t.context = opened[0].context;
            t.replace = one_key_stands_out;
            t.problem.alpha = alphas[a];
            t.problem.support = a == 1 ? 1 : 0;
            t.problem.layout = product_layout(layout);
            const test_result r = run_problem(&t);
            if (r.status == LONGSPAN_OK && r.relative_rms <= 4e-6 && r.mismatches == 0) continue;
            assert_right(&t, &r, t.problem.layout);
        }
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

static float infinity_in_key_60(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    (void)head;
    return which == TENSOR_K && token == 60 && element == 0 ? INFINITY : made;
}

static float values_not_finite(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    (void)head;
    if (which == TENSOR_V && token == 100 && element == 5) return INFINITY;
    return which == TENSOR_V && token == 31 ? NAN : made;
}

/* A query, key: all that see it. A value: all that give it weight. */
static void nan_and_infinity_reach_exactly_the_rows_that_look_at_them(void **state)
{
    (void)state;
    float (*const replace[])(tensor, int64_t, int64_t, int, int, float) = {nan_in_key_100, nan_in_query_150,
                                                                           infinity_in_key_60, values_not_finite};
    static const int64_t documents[] = {0, 70, 140, 140, 261};
    for (int c = 0; c < 16; c++) {
        test_problem t = make_problem(261, 2, 1, 16);
        t.context = opened[0].context;
        t.replace = replace[c % 4];
        t.problem.causal = c / 4 % 2;
        t.problem.alpha = alphas[c % 3];
        t.problem.support = c / 8 ? 1 : 0;
        t.problem.layout = product_layout(c / 4);
        if (c / 4 == 1 || c / 4 == 2) t.problem.documents = documents, t.problem.document_count = 4;
        const test_result r = run_problem(&t);
        assert_right(&t, &r, "values that are not finite");
    }
}

static void rows_with_nothing_to_see_give_zero_and_minus_infinity(void **state)
{
    (void)state;
    test_problem t = make_problem(350, 2, 1, 16);
    t.context = opened[0].context;
    t.problem.keys = 45;
    t.problem.causal = 1;
    t.problem.alpha = 2;
    const test_result r = run_problem(&t);
    assert_right(&t, &r, "more queries than keys");
}

static void patterns_are_right(void **state)
{
    (void)state;
    enum { TOKENS = 97, HEADS = 4 };
    static unsigned char times[HEADS * TOKENS * TOKENS];
    static int64_t offsets[BRUTE_OFFSETS], columns[BRUTE_COLUMNS];
    char text[1024];
    for (int name = 0; name < BRUTE_PATTERNS; name++)
        for (int lists = 0; lists < 2; lists++) {
            test_problem t = make_problem(TOKENS, HEADS, 2, 16);
            brute_pattern b;
            if (name == BRUTE_GLOBAL_TWICE || name == BRUTE_LONGNET) continue; /* refused: they count keys twice */
            brute_pattern_draw(&b, (brute_name)name, HEADS, TOKENS, TOKENS, (uint64_t)name, offsets, columns);
            if (name == BRUTE_GLOBAL) { /* one alone, whose query softmax attention sends to the keys */
                memset(b.first, 0, sizeof b.first);
                b.first[40] = true;
                b.numbers[0] = b.numbers[1] = 5;
            }
            brute_pattern_text(&b, text, sizeof text);
            for (int h = 0; h < HEADS; h++)
                for (int64_t i = 0; i < TOKENS; i++)
                    for (int64_t j = 0; j < TOKENS; j++)
                        times[(h * TOKENS + i) * TOKENS + j] = (unsigned char)brute_times(&b, h, i, j, TOKENS);
            if (brute_is_of_blocks(&b)) {
                t.problem.block_offsets = b.offsets;
                t.problem.block_offset_count = b.offsets_of_head * (name == BRUTE_HEAD_BLOCKS ? HEADS : 1);
                t.problem.block_keys = b.columns;
                t.problem.block_key_count = b.offsets[t.problem.block_offset_count - 1];
            }
            t.context = opened[0].context;
            t.times = times;
            t.problem.pattern = text;
            t.problem.causal = (name + lists) % 2;
            t.problem.alpha = alphas[(name + lists) % 3];
            t.problem.support = lists ? 1 : 0;
            t.problem.strategy = lists ? "fetch-ring" : "fetch";
            t.q_factor = lists ? 0.3f : 3;
            const test_result r = run_problem(&t);
            assert_right(&t, &r, text);
        }
}

/* Keys once and values once, as softmax attention sends both at once, whatever the scores; full rows ask for more. */
static void lists_that_suffice_cost_no_more_traffic_than_softmax(void **state)
{
    (void)state;
    test_problem t = make_problem(256, 2, 2, 16);
    t.context = opened[0].context;
    t.problem.strategy = "ring";
    t.problem.layout = "contiguous";
    t.checked_rows = CHECK_NO_ROWS;
    const test_result softmax = run_problem(&t);
    t.problem.alpha = 1.5;
    t.problem.support = 256;
    const test_result entmax = run_problem(&t);
    t.problem.support = 1;
    t.q_factor = 0.1f;
    const test_result full = run_problem(&t);
    assert_int_equal(entmax.status, LONGSPAN_OK);
    assert_int_equal(entmax.bytes_sent, softmax.bytes_sent);
    assert_int_equal(entmax.bytes_received, softmax.bytes_received);
    assert_true(entmax.flops == 2.0 * 16 * 2 * 256 * 256);
    assert_true(ranks == 1 ? full.bytes_sent == 0 : full.bytes_sent > 2 * softmax.bytes_sent);
    assert_true(full.bytes_sent <= 20 * softmax.bytes_sent);
}

/* A row's bits: not of the thread count, nor of the rows beside it. */
static void bits_do_not_depend_on_threads_or_on_other_rows(void **state)
{
    (void)state;
    for (int lists = 0; lists < 2; lists++) {
        test_problem t = make_problem(333, 6, 2, 24);
        uint64_t prints[3];
        t.problem.alpha = lists ? 1.25 : 1.5;
        t.problem.support = lists ? 1 : 0;
        t.problem.causal = 1;
        t.checked_rows = CHECK_NO_ROWS;
        t.share_nothing = true;
        t.problem.strategy = "ring";
        for (int threads = 1; threads <= 3; threads++) {
            t.threads = threads;
            prints[threads - 1] = run_problem(&t).fingerprint;
        }
        assert_true(prints[0] == prints[1] && prints[0] == prints[2]);
    }
}

static void assert_refused(const longspan_problem *p, longspan_status status, const char *first, const char *second)
{
    longspan_plan *plan = NULL;
    const longspan_status got = longspan_plan_create(opened[0].context, p, &plan);
    const char *text = longspan_context_error(opened[0].context);
    int wrong = got != status || plan || !strstr(text, first) || !strstr(text, second);
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (wrong) fail_msg("expected %d with '%s' and '%s', got %d: %s", status, first, second, got, text);
}

static void what_does_not_go_together_is_refused_naming_both(void **state)
{
    (void)state;
    static const float sinks[] = {1, 2};
    static const char *const strategies[] = {"heads", "queries", "decode"};
    longspan_problem good = make_problem(64, 2, 2, 8).problem, p;
    good.alpha = 1.5;
    p = good, p.sinks = sinks;
    assert_refused(&p, LONGSPAN_ERROR_UNSUPPORTED, "sinks", "alpha 1.5");
    p = good, p.alpha = 1;
    assert_refused(&p, LONGSPAN_ERROR_ARGUMENT, "alpha is 1", "softmax");
    p = good, p.alpha = 2.5;
    assert_refused(&p, LONGSPAN_ERROR_ARGUMENT, "alpha is 2.5", "2");
    p = good, p.alpha = NAN;
    assert_refused(&p, LONGSPAN_ERROR_ARGUMENT, "alpha is", "2");
    p = good, p.alpha = 0, p.support = 64;
    assert_refused(&p, LONGSPAN_ERROR_ARGUMENT, "support is 64", "softmax");
    p = good, p.support = -1;
    assert_refused(&p, LONGSPAN_ERROR_ARGUMENT, "support is -1", "1");
    for (int i = 0; i < 3 && ranks > 1; i++) {
        p = good, p.strategy = strategies[i];
        assert_refused(&p, LONGSPAN_ERROR_UNSUPPORTED, strategies[i], "entmax");
    }
    p = good, p.pattern = "longnet:8,16/1,2",
    assert_refused(&p, LONGSPAN_ERROR_UNSUPPORTED, "longnet:8,16/1,2", "alpha 1.5");
    p = good, p.pattern = "selected:8", assert_refused(&p, LONGSPAN_ERROR_UNSUPPORTED, "selected:8", "alpha 1.5");
    if (ranks > 1) {
        p = good, p.alpha = my_rank == ranks - 1 ? 1.5 : 2;
        assert_refused(&p, LONGSPAN_ERROR_MISMATCH, "alpha", "differs");
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_scores_layouts_and_strategies_are_right),
        cmocka_unit_test(supports_of_any_length_are_right),
        cmocka_unit_test(thresholds_that_rise_late_are_right),
        cmocka_unit_test(nan_and_infinity_reach_exactly_the_rows_that_look_at_them),
        cmocka_unit_test(rows_with_nothing_to_see_give_zero_and_minus_infinity),
        cmocka_unit_test(patterns_are_right),
        cmocka_unit_test(lists_that_suffice_cost_no_more_traffic_than_softmax),
        cmocka_unit_test(bits_do_not_depend_on_threads_or_on_other_rows),
        cmocka_unit_test(what_does_not_go_together_is_refused_naming_both),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    for (int s = 0; s < PRODUCT_STRATEGIES; s++) opened[s] = product_open(s, ranks, 1);
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    for (int s = 0; s < PRODUCT_STRATEGIES; s++) longspan_context_destroy(&opened[s].context);
    return mpi_group_end(failures);
}
