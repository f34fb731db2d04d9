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

enum { MOST_TOKENS = 512, MOST_COLUMNS = 8192 };

/* What a pattern lets queries see, [N, M], from its definition; documents as if each were alone, but for blocks. */
static void allow(const brute_pattern *b, const longspan_problem *given, bool *allowed)
{
    const longspan_problem full = oracle_defaults(given), *p = &full;
    for (int64_t i = 0; i < p->queries; i++) {
        int64_t start = 0, end = p->keys;
        for (int64_t d = 0; d < p->document_count && b->name != BRUTE_BLOCKS; d++)
            if (p->documents[d] <= i && i < p->documents[d + 1]) start = p->documents[d], end = p->documents[d + 1];
        for (int64_t j = 0; j < p->keys; j++) {
            const int64_t at = b->name == BRUTE_BLOCKS ? i : i + p->keys - p->queries - start;
            allowed[i * p->keys + j] = j >= start && j < end && brute_in_pattern(b, at, j - start, end - start);
        }
    }
}

/* Bytes of k and v that all ranks together receive: each key that a query of a rank sees and that lies elsewhere. Keys
 * that do not exist for a batch item are sent all the same, since others may have them. */
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
    for (int64_t j = 0; j < p.keys; j++) {
        bool needed = false;
        for (int64_t i = mine[LONGSPAN_QUERIES].begin; i < mine[LONGSPAN_QUERIES].end && !needed; i++)
            needed = t->allowed[i * p.keys + j] && oracle_sees(&p, 0, i, j);
        count += needed && (j < mine[LONGSPAN_KEYS].begin || j >= mine[LONGSPAN_KEYS].end);
    }
    MPI_Allreduce(MPI_IN_PLACE, &count, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    const int64_t size = p.type == LONGSPAN_FLOAT32 ? 4 : 2;
    return count * p.batch * p.kv_heads * (p.dim + p.value_dim) * size;
}

static void assert_right(longspan_context *context, test_problem *t, const brute_pattern *b, const char *what)
{
    static bool allowed[MOST_TOKENS * MOST_TOKENS];
    char text[1024];
    brute_pattern_text(b, text, sizeof text);
    allow(b, &t->problem, allowed);
    t->problem.pattern = text;
    t->allowed = allowed;
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
    if (r.bytes_received != bytes || r.bytes_sent != bytes)
        fail_msg("%s, %s: %lld bytes sent, %lld received, %lld needed", text, what, (long long)r.bytes_sent,
                 (long long)r.bytes_received, (long long)bytes);
    t->problem.pattern = NULL;
    t->allowed = NULL;
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
    if (b->name != BRUTE_BLOCKS) return;
    const int64_t rows = (p->queries + b->numbers[0] - 1) / b->numbers[0];
    p->block_offsets = b->offsets;
    p->block_keys = b->columns;
    p->block_offset_count = rows + 1;
    p->block_key_count = b->offsets[rows];
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

enum { MASKS = 8, LENGTHS = 4 };

static void every_pattern_is_right_under_every_mask(void **state)
{
    (void)state;
    static const int64_t lengths[LENGTHS] = {97, 31, 151, 7};
    static int64_t offsets[513], columns[MOST_COLUMNS];
    longspan_context *context = default_context(ranks <= 2 ? 2 : 1);
    for (int name = 0; name < BRUTE_PATTERNS; name++)
        for (int mask = 0; mask < MASKS; mask++)
            for (int n = 0; n < LENGTHS; n++) {
                const bool alone = name == BRUTE_BIGBIRD || name == BRUTE_RANDOM || name == BRUTE_VERTICAL_SLASH;
                if ((mask == 3 || mask == 4) && alone) continue;
                test_problem t = make_problem(lengths[n], 4, 2, 16);
                brute_pattern b;
                brute_pattern_draw(&b, (brute_name)name, lengths[n], lengths[n], (uint64_t)(mask * LENGTHS + n),
                                   offsets, columns);
                set_blocks(&t.problem, &b);
                t.problem.type = t.problem.out_type = (longspan_type)((name + mask + n) % 6 < 4 ? 0 : (name + n) % 3);
                const char *what = set_mask(&t.problem, mask);
                assert_right(context, &t, &b, what);
            }
    longspan_context_destroy(&context);
}

static void scores_that_depend_on_positions_are_right_in_strided_slices(void **state)
{
    (void)state;
    static const float slopes[] = {0.5f, 0.25f, 0.03f, 1.5f}, sinks[] = {0.3f, -INFINITY, 2.5f, -4};
    static int64_t offsets[513], columns[MOST_COLUMNS];
    longspan_context *context = default_context(1);
    for (int name = 0; name < BRUTE_PATTERNS; name++)
        for (int scores = 0; scores < 4; scores++) {
            test_problem t = make_problem(83, 4, 1, 12);
            brute_pattern b;
            brute_pattern_draw(&b, (brute_name)name, 83, 83, (uint64_t)(100 + scores), offsets, columns);
            set_blocks(&t.problem, &b);
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
    static int64_t offsets[513], columns[MOST_COLUMNS];
    longspan_context *context = default_context(1);
    for (int name = 0; name < BRUTE_PATTERNS; name++)
        for (int n = 0; n < 5; n++) {
            if (name == BRUTE_BIGBIRD || name == BRUTE_RANDOM) continue;
            test_problem t = make_problem(lengths[n][0], 3, 3, 8);
            brute_pattern b;
            t.problem.keys = lengths[n][1];
            brute_pattern_draw(&b, (brute_name)name, lengths[n][0], lengths[n][1], (uint64_t)(50 + n), offsets,
                               columns);
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
    };
    longspan_context *context = default_context(1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        test_problem t = make_problem(113, 8, 2, 32);
        t.problem.documents = cases[i].documents ? documents : NULL;
        t.problem.document_count = cases[i].documents ? 4 : 0;
        assert_right(context, &t, &cases[i].pattern, cases[i].what);
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
    static const int64_t documents[] = {0, 30, 64}, offsets[] = {0, 1, 2}, columns[] = {0, 1};
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
