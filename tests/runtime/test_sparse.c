/* Sparse patterns against an explicit boolean mask in float64: every pattern, odd lengths, windows wider than a shard,
 * globals anywhere, document edges inside halos, queries without keys; and that exactly the union of needs is sent. */
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
#include "tests/runtime/problem.h"

static int ranks, my_rank;

enum { MOST_TIMES = 1 << 20 };

/* How often a pattern lets queries see keys, [H, N, M], from its definition; documents as if each were alone, but for
 * blocks. */
static void count_times(const brute_pattern *b, const longspan_problem *given, unsigned char *times)
{
    const longspan_problem full = oracle_defaults(given), *p = &full;
    for (int64_t i = 0; i < p->queries; i++) {
        int64_t start = 0, end = p->keys;
        for (int64_t d = 0; d < p->document_count && !brute_is_of_blocks(b); d++)
            if (p->documents[d] <= i && i < p->documents[d + 1]) start = p->documents[d], end = p->documents[d + 1];
        for (int64_t j = 0; j < p->keys; j++) {
            const int64_t at = brute_is_of_blocks(b) ? i : i + p->keys - p->queries - start;
            for (int h = 0; h < p->heads; h++)
                times[(h * p->queries + i) * p->keys + j] =
                    (unsigned char)(j >= start && j < end ? brute_times(b, h, at, j - start, end - start) : 0);
        }
    }
}

static bool key_is_needed(const longspan_problem *p, const unsigned char *times, longspan_range queries, int kv_head,
                          int64_t key)
{
    const int group = p->heads / p->kv_heads;
    for (int h = kv_head * group; h < (kv_head + 1) * group; h++)
        for (int64_t i = queries.begin; i < queries.end; i++)
            if (times[(h * p->queries + i) * p->keys + key] > 0 && oracle_sees(p, 0, i, key)) return true;
    return false;
}

/* Bytes of k and v that all ranks together receive: of each key head each key that a query of a rank sees with one of
 * its heads and that lies elsewhere. Keys that do not exist for a batch item are sent all the same, since others may
 * have them. */
static int64_t bytes_needed(longspan_context *context, const test_problem *t)
{
    longspan_problem p = oracle_defaults(&t->problem);
    longspan_plan *plan;
    longspan_range mine[2] = {{0, 0}, {0, 0}};
    int64_t count = 0;
    assert_int_equal(longspan_plan_create(context, &t->problem, &plan), LONGSPAN_OK);
    for (int axis = LONGSPAN_QUERIES; axis <= LONGSPAN_KEYS; axis++) {
        int64_t ranges;
        longspan_plan_rows(plan, (longspan_axis)axis, &mine[axis], 1, &ranges);
    }
    longspan_plan_destroy(&plan);
    p.key_lengths = NULL;
    for (int g = 0; g < p.kv_heads; g++)
        for (int64_t j = 0; j < p.keys; j++) {
            const bool home = j >= mine[LONGSPAN_KEYS].begin && j < mine[LONGSPAN_KEYS].end;
            count += !home && key_is_needed(&p, t->times, mine[LONGSPAN_QUERIES], g, j);
        }
    MPI_Allreduce(MPI_IN_PLACE, &count, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    const int64_t size = p.type == LONGSPAN_FLOAT32 ? 4 : 2;
    return count * p.batch * (p.dim + p.value_dim) * size;
}

/* Few queries that see much may go to the keys instead, where that is less. */
static bool may_visit(const brute_pattern *b, const longspan_problem *p)
{
    return b->name == BRUTE_GLOBAL || b->name == BRUTE_GLOBAL_TWICE || p->queries < 10;
}

static void assert_right(longspan_context *context, test_problem *t, const brute_pattern *b, const char *what)
{
    static unsigned char times[MOST_TIMES];
    char text[1024];
    brute_pattern_text(b, text, sizeof text);
    assert_true(t->problem.heads * t->problem.queries * oracle_defaults(&t->problem).keys <= MOST_TIMES);
    count_times(b, &t->problem, times);
    t->problem.pattern = text;
    t->times = times;
    t->context = context;
    const test_result r = run_problem(t);
    const double bar[] = {1e-6, 0x1p-11 + 1e-6, 0x1p-8 + 1e-6};
    const double lse_bar[] = {2e-6, 0x1p-11, 0x1p-8};
    const bool right = r.status == LONGSPAN_OK && r.relative_rms <= bar[t->problem.type] &&
                       r.worst_lse <= lse_bar[t->problem.type] && r.mismatches == 0;
    if (!right)
        fail_msg(
            "%s, %s, N=%lld M=%lld on %d ranks (seed %llu): status %d %s, relative RMS %.3g, lse %.3g, %lld mismatches",
            text, what, (long long)t->problem.queries, (long long)t->problem.keys, ranks, (unsigned long long)t->seed,
            r.status, r.text, r.relative_rms, r.worst_lse, (long long)r.mismatches);
    const int64_t bytes = bytes_needed(context, t);
    const bool exact = strcmp(t->problem.strategy, "fetch-ring") == 0 || !may_visit(b, &t->problem);
    if (r.bytes_received != r.bytes_sent || (exact ? r.bytes_sent != bytes : r.bytes_sent > bytes))
        fail_msg("%s, %s: %lld bytes sent, %lld received, %lld needed", text, what, (long long)r.bytes_sent,
                 (long long)r.bytes_received, (long long)bytes);
    t->problem.pattern = NULL;
    t->times = NULL;
}

static longspan_context *default_context(int threads)
{
    test_problem t = make_problem(1, 1, 1, 1);
    longspan_status status;
    t.threads = threads;
    longspan_context *context = open_context(&t, &status);
    assert_non_null(context);
    return context;
}

static void set_blocks(longspan_problem *p, const brute_pattern *b)
{
    p->block_offsets = p->block_keys = NULL;
    p->block_offset_count = p->block_key_count = 0;
    if (!brute_is_of_blocks(b)) return;
    p->block_offsets = b->offsets;
    p->block_keys = b->columns;
    p->block_offset_count = (b->name == BRUTE_HEAD_BLOCKS ? p->heads : 1) * b->offsets_of_head;
    p->block_key_count = b->offsets[p->block_offset_count - 1];
}

/* Masks that go with patterns. */
static const char *set_mask(longspan_problem *p, int mask)
{
    static int64_t documents[6], lengths[2];
    const int64_t n = p->queries;
    if (mask == 1) p->causal = 1;
    if (mask == 2) p->window_left = n / 3, p->window_right = 5;
    if (mask == 3 || mask == 4) {
        const int64_t offsets[] = {0, n / 5, n / 5, n / 2 + 1, n - 1, n};
        memcpy(documents, offsets, sizeof offsets);
        p->documents = documents;
        p->document_count = 5;
        p->causal = mask == 4;
    }
    if (mask == 5) {
        p->batch = 2;
        lengths[0] = p->keys - p->keys / 4;
        lengths[1] = p->keys / 5;
        p->key_lengths = lengths;
    }
    if (mask == 6) p->chunk = 7, p->chunks_left = 2, p->chunks_right = 1;
    if (mask == 7) p->causal = 1, p->prefix = n / 4;
    static const char *const names[] = {"no mask",           "causal",      "a window", "documents",
                                        "documents, causal", "key lengths", "chunks",   "a prefix"};
    return names[mask];
}

enum { MASKS = 8, LENGTHS = 3 };

static void every_pattern_is_right_under_every_mask(void **state)
{
    (void)state;
    static const int64_t lengths[LENGTHS] = {97, 31, 7};
    static int64_t offsets[BRUTE_OFFSETS], columns[BRUTE_COLUMNS];
    longspan_context *context = default_context(ranks == 1 ? 2 : 1);
    for (int name = 0; name < BRUTE_PATTERNS; name++)
        for (int mask = 0; mask < MASKS; mask++)
            for (int n = 0; n < LENGTHS; n++) {
                if ((mask == 3 || mask == 4) && brute_is_alone((brute_name)name)) continue;
                test_problem t = make_problem(lengths[n], 4, n % 2 ? 4 : 2, 16);
                brute_pattern b;
                brute_pattern_draw(&b, (brute_name)name, t.problem.heads, lengths[n], lengths[n],
                                   (uint64_t)(mask * LENGTHS + n), offsets, columns);
                set_blocks(&t.problem, &b);
                t.problem.type = t.problem.out_type = (longspan_type)((name + mask + n) % 6 < 4 ? 0 : (name + n) % 3);
                const char *what = set_mask(&t.problem, mask);
                t.problem.strategy = (mask + n) % 2 ? "fetch-ring" : "fetch";
                assert_right(context, &t, &b, what);
            }
    longspan_context_destroy(&context);
}

static void scores_that_depend_on_positions_are_right_in_strided_slices(void **state)
{
    (void)state;
    static const float slopes[] = {0.5f, 0.25f, 0.03f, 1.5f}, sinks[] = {0.3f, -INFINITY, 2.5f, -4};
    static int64_t offsets[BRUTE_OFFSETS], columns[BRUTE_COLUMNS];
    longspan_context *context = default_context(1);
    for (int name = 0; name < BRUTE_PATTERNS; name++)
        for (int scores = 0; scores < 4; scores++) {
            test_problem t = make_problem(83, 4, 1, 12);
            brute_pattern b;
            brute_pattern_draw(&b, (brute_name)name, t.problem.heads, 83, 83, (uint64_t)(100 + scores), offsets,
                               columns);
            set_blocks(&t.problem, &b);
            t.problem.strategy = "fetch";
            if (scores == 0) t.problem.alibi_slopes = slopes;
            if (scores == 1) t.problem.rope_dim = 12;
            if (scores == 2) t.problem.sinks = sinks, t.problem.softcap = 1.5;
            if (scores == 3) t.problem.rope_dim = 6, t.problem.alibi_slopes = slopes, t.problem.sinks = sinks;
            t.problem.causal = scores % 2;
            t.problem.value_dim = 20;
            assert_right(context, &t, &b, "scores");
        }
    longspan_context_destroy(&context);
}

/* More keys than queries, as in decoding, and fewer, so that the first queries see nothing. */
static void other_lengths_of_queries_than_of_keys_are_right(void **state)
{
    (void)state;
    static const int64_t lengths[][2] = {{1, 200}, {5, 131}, {61, 97}, {97, 61}, {40, 3}};
    static int64_t offsets[BRUTE_OFFSETS], columns[BRUTE_COLUMNS];
    longspan_context *context = default_context(1);
    for (int name = 0; name < BRUTE_PATTERNS; name++)
        for (int n = 0; n < 5; n++) {
            if (name == BRUTE_BIGBIRD || name == BRUTE_RANDOM) continue;
            test_problem t = make_problem(lengths[n][0], 3, 3, 8);
            t.problem.strategy = n == 4 ? "fetch-ring" : "fetch";
            brute_pattern b;
            t.problem.keys = lengths[n][1];
            brute_pattern_draw(&b, (brute_name)name, t.problem.heads, lengths[n][0], lengths[n][1], (uint64_t)(50 + n),
                               offsets, columns);
            set_blocks(&t.problem, &b);
            t.problem.causal = n % 2;
            assert_right(context, &t, &b, "lengths that differ");
        }
    longspan_context_destroy(&context);
}

/* The cases that the drawn numbers might miss. */
static void named_cases_are_right(void **state)
{
    (void)state;
    static const int64_t documents[] = {0, 37, 38, 75, 113};
    static const struct {
        const char *what;
        brute_pattern pattern;
        bool documents;
    } cases[] = {
        {"a window wider than a shard", {.name = BRUTE_SINKS, .numbers = {3, 100}}, false},
        {"a window of nothing but itself", {.name = BRUTE_SINKS, .numbers = {0, 0}}, false},
        {"sinks beyond the end", {.name = BRUTE_SINKS, .numbers = {500, 1}}, false},
        {"document edges inside halos", {.name = BRUTE_SINKS, .numbers = {2, 30}}, true},
        {"a global last token", {.name = BRUTE_GLOBAL, .numbers = {9, 4}, .first = {[112] = true}}, false},
        {"globals everywhere",
         {.name = BRUTE_GLOBAL, .numbers = {3, 3}, .first = {[0] = true, [56] = true, [57] = true, [99] = true}},
         false},
        {"globals of documents", {.name = BRUTE_GLOBAL, .numbers = {5, 5}, .first = {[0] = true, [20] = true}}, true},
        {"queries without keys",
         {.name = BRUTE_VERTICAL_SLASH, .first = {[40] = true}, .second = {[90] = true}},
         false},
        {"a dilated window wider than a shard", {.name = BRUTE_DILATED, .numbers = {5, 12, 12}}, false},
        {"strides longer than a shard", {.name = BRUTE_STRIDED, .numbers = {40}}, false},
        {"stretches of documents", {.name = BRUTE_FIXED, .numbers = {10, 3}}, true},
        {"globals that count twice",
         {.name = BRUTE_GLOBAL_TWICE,
          .numbers = {20, 20},
          .first = {[0] = true, [55] = true, [56] = true, [112] = true}},
         false},
        {"globals of documents that count twice",
         {.name = BRUTE_GLOBAL_TWICE, .numbers = {5, 5}, .first = {[0] = true, [20] = true}},
         true},
        {"segments longer than shards",
         {.name = BRUTE_LONGNET, .numbers = {40, 113, 17}, .steps = {3, 5, 1}, .branches = 3},
         false},
        {"segments of which most tokens see nothing",
         {.name = BRUTE_LONGNET, .numbers = {10, 3}, .steps = {20, 4}, .branches = 2},
         false},
        {"segments of documents", {.name = BRUTE_LONGNET, .numbers = {16, 64}, .steps = {1, 4}, .branches = 2}, true},
    };
    longspan_context *context = default_context(1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_problem t = make_problem(113, 8, i % 2 ? 2 : 8, 32);
        t.problem.documents = cases[i].documents ? documents : NULL;
        t.problem.document_count = cases[i].documents ? 4 : 0;
        for (int ring = 0; ring < 2; ring++) {
            t.problem.strategy = ring ? "fetch-ring" : "fetch";
            assert_right(context, &t, &cases[i].pattern, cases[i].what);
        }
    }
    longspan_context_destroy(&context);
}

/* 5,000 rows of 16 KiB, two here and two there: more than a message holds. */
static void rows_with_gaps_that_fill_several_messages_are_right(void **state)
{
    (void)state;
    if (ranks != 2) skip();
    const brute_pattern b = {.name = BRUTE_FIXED, .numbers = {4, 2}};
    longspan_context *context = default_context(1);
    test_problem t = make_problem(2, 8, 8, 512);
    t.problem.keys = 20000;
    assert_right(context, &t, &b, "several messages");
    longspan_context_destroy(&context);
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
    static const int64_t documents[] = {0, 30, 64}, offsets[] = {0, 1, 2, 2, 2, 2}, columns[] = {0, 1};
    static const char *const strategies[] = {"ring", "gather", "queries", "decode"};
    longspan_context *context = default_context(1);
    const longspan_problem good = make_problem(64, 2, 2, 8).problem;
    longspan_problem p = good;
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "strategy '%s'", strategies[i]);
        p = good, p.pattern = "sinks:1,4", p.strategy = strategies[i];
        assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, name, "pattern");
    }
    p = good, p.pattern = "sinks:1,4", p.layout = "zigzag";
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "fetch", "contiguous");
    p = good, p.strategy = "fetch";
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "fetch", "pattern");
    p = good, p.pattern = "bigbird:8,1", p.documents = documents, p.document_count = 2;
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "bigbird", "documents");
    p.pattern = "vertical-slash:1/1";
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "vertical-slash", "documents");
    p = good, p.pattern = "bigbird:8,1", p.keys = 65;
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "bigbird", "as many keys");
    p = good, p.pattern = "sink:1,4";
    assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "'sink:1,4'", "sinks");
    p = good, p.pattern = "blocks:32";
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "blocks:32", "no list");
    p = good, p.block_offsets = offsets, p.block_offset_count = 3, p.block_keys = columns, p.block_key_count = 2;
    assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "block_offsets", "pattern");
    p.pattern = "blocks:16";
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "blocks:16", "number of blocks");
    p.pattern = "blocks:32", p.heads = p.kv_heads = 3, p.block_offset_count = 6;
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "blocks:32", "number of blocks");
    p = good, p.pattern = "longnet:8,16/1";
    assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "longnet:8,16/1", "as many steps");
    p.pattern = "longnet:8/1", p.strategy = "ring";
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "ring", "pattern");
    if (ranks > 1) {
        p = good, p.pattern = my_rank == ranks - 1 ? "sinks:1,4" : "sinks:1,5";
        assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "pattern", "differs");
    }
    longspan_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_is_right_under_every_mask),
        cmocka_unit_test(scores_that_depend_on_positions_are_right_in_strided_slices),
        cmocka_unit_test(other_lengths_of_queries_than_of_keys_are_right),
        cmocka_unit_test(named_cases_are_right),
        cmocka_unit_test(rows_with_gaps_that_fill_several_messages_are_right),
        cmocka_unit_test(what_does_not_go_together_is_refused_naming_both),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
