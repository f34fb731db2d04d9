/* Selected blocks of keys against an explicit mask of every head in float64: lists for all heads, for key heads and for
 * query heads; blocks that straddle shards, queries without blocks; the same bits at any rank count; and that exactly
 * the union of a rank's needs is sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runtime/oracle.h"
#include "tests/runtime/problem.h"

static int ranks, my_rank;

enum { MOST_TOKENS = 320, MOST_HEADS = 8, MOST_BLOCKS = 6 };

static int32_t lists[MOST_TOKENS * MOST_HEADS * MOST_BLOCKS]; /* of all queries */
static unsigned char times[MOST_HEADS * MOST_TOKENS * MOST_TOKENS];

typedef struct {
    int64_t size, most;
    int lists;
} shape;

static longspan_context *default_context(int threads)
{
    test_problem t = make_problem(1, 1, 1, 1);
    longspan_status status;
    t.threads = threads;
    longspan_context *context = open_context(&t, &status);
    assert_non_null(context);
    return context;
}

/* A third of the blocks, or none at all for some queries; the same on every rank. */
static void draw_lists(const longspan_problem *p, const shape *s, uint64_t seed)
{
    const int64_t count = (p->keys - 1) / s->size + 1;
    for (int64_t i = 0; i < p->queries * s->lists; i++) {
        int64_t chosen = 0;
        for (int64_t b = 0; b < count && chosen < s->most && i % 17 != 3; b++)
            if (scramble(seed + (uint64_t)(i * count + b)) % 3 == 0) lists[i * s->most + chosen++] = (int32_t)b;
        while (chosen < s->most) lists[i * s->most + chosen++] = -1;
    }
}

/* [H, N, M] from the lists. */
static void allow(const longspan_problem *given, const shape *s)
{
    const longspan_problem p = oracle_defaults(given);
    memset(times, 0, sizeof times);
    for (int h = 0; h < p.heads; h++)
        for (int64_t i = 0; i < p.queries; i++) {
            const int list = s->lists == 1 ? 0 : s->lists == p.heads ? h : h / (p.heads / p.kv_heads);
            const int32_t *blocks = lists + (i * s->lists + list) * s->most;
            for (int64_t j = 0; j < p.keys; j++)
                for (int64_t b = 0; b < s->most; b++)
                    if (blocks[b] == j / s->size) times[(h * p.queries + i) * p.keys + j] = 1;
        }
}

/* Bytes that all ranks together receive: each key of a key head that a query of the rank sees, and that lies elsewhere;
 * of a list for all heads, for all of them. */
static int64_t bytes_needed(longspan_context *context, const test_problem *t, const shape *s)
{
    const longspan_problem p = oracle_defaults(&t->problem);
    const longspan_range queries = longspan_selection_tokens(context, &p, LONGSPAN_QUERIES);
    const longspan_range keys = longspan_selection_tokens(context, &p, LONGSPAN_KEYS);
    int64_t count = 0;
    for (int g = 0; g < p.kv_heads; g++)
        for (int64_t j = 0; j < p.keys; j++) {
            bool needed = false;
            for (int h = 0; h < p.heads; h++)
                for (int64_t i = queries.begin; i < queries.end && (s->lists == 1 || h / (p.heads / p.kv_heads) == g);
                     i++)
                    needed = needed || (times[(h * p.queries + i) * p.keys + j] && oracle_sees(&p, 0, i, j));
            count += needed && (j < keys.begin || j >= keys.end);
        }
    MPI_Allreduce(MPI_IN_PLACE, &count, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    return count * (p.dim + p.value_dim) * (p.type == LONGSPAN_FLOAT32 ? 4 : 2);
}

/* The lists of this rank alone are handed over. */
static longspan_selection *select_lists(longspan_context *context, const longspan_problem *p, const shape *s)
{
    longspan_selection *selection = NULL;
    const longspan_range own = longspan_selection_tokens(context, p, LONGSPAN_QUERIES);
    const longspan_status status =
        longspan_selection_create(context, p, s->lists, s->most, lists + own.begin * s->lists * s->most, &selection);
    if (status != LONGSPAN_OK) fail_msg("%s", longspan_context_error(context));
    return selection;
}

static test_result assert_right(longspan_context *context, test_problem *t, const shape *s, const char *what)
{
    char text[64];
    snprintf(text, sizeof text, "selected:%lld", (long long)s->size);
    const longspan_problem full = oracle_defaults(&t->problem);
    draw_lists(&full, s, t->seed + 5);
    allow(&t->problem, s);
    t->problem.pattern = text;
    longspan_selection *selection = select_lists(context, &t->problem, s);
    t->problem.selection = selection;
    t->times = times;
    t->context = context;
    const test_result r = run_problem(t);
    longspan_selection_destroy(&selection);
    const double bar[] = {1e-6, 0x1p-11 + 1e-6, 0x1p-8 + 1e-6}, lse_bar[] = {2e-6, 0x1p-11, 0x1p-8};
    if (r.status != LONGSPAN_OK || !(r.relative_rms <= bar[t->problem.type]) ||
        !(r.worst_lse <= lse_bar[t->problem.type]) || r.mismatches != 0)
        fail_msg(
            "%s, %s, %d lists, N=%lld M=%lld on %d ranks: status %d %s, relative RMS %.3g, lse %.3g, %lld mismatches",
            text, what, s->lists, (long long)full.queries, (long long)full.keys, ranks, r.status, r.text,
            r.relative_rms, r.worst_lse, (long long)r.mismatches);
    const int64_t bytes = bytes_needed(context, t, s);
    if (r.bytes_received != bytes || r.bytes_sent != bytes)
        fail_msg("%s, %s: %lld bytes sent, %lld received, %lld needed", text, what, (long long)r.bytes_sent,
                 (long long)r.bytes_received, (long long)bytes);
    t->problem.selection = NULL;
    t->problem.pattern = NULL;
    return r;
}

static void given_lists_are_right_under_every_mask(void **state)
{
    (void)state;
    static const int64_t documents[] = {0, 40, 40, 101, 150, 151}, lengths[] = {151, 29, 7};
    static const float slopes[] = {0.5f, 0.25f, 0.03f, 1.5f}, sinks[] = {0.3f, -INFINITY, 2.5f, -4};
    longspan_context *context = default_context(ranks == 1 ? 2 : 1);
    for (int n = 0; n < 3; n++)
        for (int mask = 0; mask < 5; mask++)
            for (int kind = 0; kind < 3; kind++) {
                const shape s = {(int64_t[]){16, 1, 37, 64, 5}[(mask + kind + n) % 5], 4, (int[]){1, 2, 4}[kind]};
                test_problem t = make_problem(lengths[n], 4, 2, 16);
                longspan_problem *p = &t.problem;
                p->causal = mask != 0;
                p->value_dim = kind == 1 ? 24 : 16;
                if (mask == 2 && n == 0) p->documents = documents, p->document_count = 5;
                if (mask == 3) p->alibi_slopes = slopes, p->sinks = sinks, p->rope_dim = 8;
                if (mask == 4) p->keys = lengths[n] + 90, p->softcap = 2;
                p->type = p->out_type = (longspan_type)(mask == 1 ? kind : 0);
                assert_right(context, &t, &s,
                             (const char *[]){"full", "causal", "documents", "scores", "more keys"}[mask]);
            }
    longspan_context_destroy(&context);
}

/* Fewer keys than queries: the first queries see nothing. */
static void queries_without_keys_are_right(void **state)
{
    (void)state;
    const shape s = {16, 3, 3};
    longspan_context *context = default_context(1);
    test_problem t = make_problem(97, 3, 1, 8);
    t.problem.keys = 41;
    t.problem.causal = 1;
    assert_right(context, &t, &s, "fewer keys");
    longspan_context_destroy(&context);
}

/* Shards of 320 tokens on 5 ranks begin on the kernels' grid, blocks too. On one rank alone, the bits must be the same.
 */
static void bits_do_not_depend_on_the_rank_count(void **state)
{
    (void)state;
    const shape s = {64, 3, 4};
    MPI_Comm alone;
    longspan_context *context = default_context(1);
    test_problem t = make_problem(320, 4, 2, 32);
    t.problem.causal = 1;
    const test_result all = assert_right(context, &t, &s, "bits");
    longspan_context_destroy(&context);
    MPI_Comm_split(MPI_COMM_WORLD, my_rank, 0, &alone);
    t.comm = alone;
    t.problem.pattern = "selected:64";
    longspan_status status;
    context = t.context = NULL;
    t.context = context = open_context(&t, &status);
    longspan_selection *selection = select_lists(context, &t.problem, &s);
    t.problem.selection = selection;
    const test_result one = run_problem(&t);
    longspan_selection_destroy(&selection);
    longspan_context_destroy(&context);
    MPI_Comm_free(&alone);
    const bool aligned = ranks == 1 || ranks == 5;
    if (aligned) assert_true(one.fingerprint == all.fingerprint);
}

/* This rank's rows of a tensor, as run_problem makes them. */
static float *make_rows(const test_problem *t, tensor which, longspan_range own, int heads)
{
    const int dim = t->problem.dim;
    float *rows = malloc(((size_t)(own.end - own.begin) * (size_t)(heads * dim) + 1) * sizeof *rows);
    assert_non_null(rows);
    for (int64_t i = own.begin; i < own.end; i++)
        for (int h = 0; h < heads; h++)
            for (int d = 0; d < dim; d++) {
                const float made = (float)made_number(t->seed, (int)which, 0, i, h, d);
                rows[((i - own.begin) * heads + h) * dim + d] = t->replace ? t->replace(which, 0, i, h, d, made) : made;
            }
    return rows;
}

/* Into `lists`: of every query and head the own block, and of those before it the most - 1 of the highest q . mean(k).
 */
static void choose_by_definition(const test_problem *t, const shape *s)
{
    const longspan_problem p = oracle_defaults(&t->problem);
    const int group = p.heads / p.kv_heads;
    float *q = make_rows(t, TENSOR_Q, (longspan_range){0, p.queries}, p.heads);
    float *k = make_rows(t, TENSOR_K, (longspan_range){0, p.keys}, p.kv_heads);
    for (int64_t i = 0; i < p.queries * p.heads * s->most; i++) lists[i] = -1;
    for (int64_t i = 0; i < p.queries; i++)
        for (int h = 0; h < p.heads; h++) {
            const int64_t position = i + p.keys - p.queries, own = position / s->size;
            bool chosen[MOST_TOKENS] = {false};
            if (position < 0) continue;
            chosen[own] = true;
            for (int64_t n = 1; n < s->most; n++) {
                int64_t best = -1;
                double best_score = 0;
                for (int64_t b = 0; b < own; b++) {
                    double score = 0;
                    for (int64_t j = b * s->size; j < (b + 1) * s->size; j++)
                        for (int d = 0; d < p.dim; d++)
                            score += (double)q[(i * p.heads + h) * p.dim + d] *
                                     (double)k[(j * p.kv_heads + h / group) * p.dim + d];
                    if (chosen[b] || (best >= 0 && score <= best_score)) continue;
                    best = b;
                    best_score = score;
                }
                if (best >= 0) chosen[best] = true;
            }
            int64_t count = 0;
            for (int64_t b = 0; b <= own; b++)
                if (chosen[b]) lists[(i * p.heads + h) * s->most + count++] = (int32_t)b;
        }
    free(q);
    free(k);
}

static longspan_selection *choose_by_library(longspan_context *context, const test_problem *t)
{
    longspan_selection *selection = NULL;
    const longspan_range queries = longspan_selection_tokens(context, &t->problem, LONGSPAN_QUERIES);
    const longspan_range keys = longspan_selection_tokens(context, &t->problem, LONGSPAN_KEYS);
    float *q = make_rows(t, TENSOR_Q, queries, t->problem.heads),
          *k = make_rows(t, TENSOR_K, keys, t->problem.kv_heads);
    const longspan_status status = longspan_selection_choose(context, &t->problem, q, k, &selection);
    free(q);
    free(k);
    if (status != LONGSPAN_OK) fail_msg("%s", longspan_context_error(context));
    return selection;
}

/* Chooses as defined, and computes what the definition lets heads see. */
static void assert_moba_right(longspan_context *context, test_problem *t, const shape *s, const char *what)
{
    char text[64];
    int list_count;
    int64_t most;
    snprintf(text, sizeof text, "moba:%lld,%lld", (long long)s->size, (long long)s->most);
    t->problem.causal = 1;
    t->problem.pattern = text;
    t->context = context;
    choose_by_definition(t, s);
    allow(&t->problem, s);
    longspan_selection *selection = choose_by_library(context, t);
    const int32_t *blocks = longspan_selection_blocks(selection, &list_count, &most);
    const longspan_range own = longspan_selection_tokens(context, &t->problem, LONGSPAN_QUERIES);
    int wrong = list_count != t->problem.heads || most > s->most;
    for (int64_t i = 0; !wrong && i < (own.end - own.begin) * list_count; i++)
        for (int64_t n = 0; n < s->most; n++)
            wrong =
                wrong || (n < most ? blocks[i * most + n] : -1) != lists[(own.begin * list_count + i) * s->most + n];
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (wrong) fail_msg("%s, %s, on %d ranks: other blocks are chosen than defined", text, what, ranks);
    t->problem.selection = selection;
    t->times = times;
    const test_result r = run_problem(t);
    longspan_selection_destroy(&selection);
    if (r.status != LONGSPAN_OK || !(r.relative_rms <= 1e-6) || !(r.worst_lse <= 2e-6) || r.mismatches != 0)
        fail_msg("%s, %s, on %d ranks: status %d %s, relative RMS %.3g, lse %.3g, %lld mismatches", text, what, ranks,
                 r.status, r.text, r.relative_rms, r.worst_lse, (long long)r.mismatches);
    const int64_t bytes = bytes_needed(context, t, s);
    if (r.bytes_received != bytes || r.bytes_sent != bytes)
        fail_msg("%s, %s: %lld bytes sent, %lld needed", text, what, (long long)r.bytes_sent, (long long)bytes);
    t->problem.selection = NULL;
    t->problem.pattern = NULL;
}

/* All keys alike: all blocks score the same. */
static float equal_keys(tensor t, int64_t b, int64_t token, int head, int element, float made)
{
    (void)b;
    (void)token;
    return t == TENSOR_K ? (float)(head + 1) * (element % 2 ? 0.25f : -0.5f) : made;
}

static void moba_chooses_as_defined_and_is_right(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{16, 3}, {37, 2}, {5, 6}, {1, 4}, {64, 1}, {400, 2}};
    longspan_context *context = default_context(1);
    for (int n = 0; n < 6; n++) {
        const shape s = {sizes[n][0], sizes[n][1], 4};
        test_problem t = make_problem(n == 3 ? 29 : 151, 4, 2, 16);
        t.seed += (uint64_t)n;
        assert_moba_right(context, &t, &s, "sizes");
    }
    for (int n = 0; n < 3; n++) {
        const shape s = {8, 3, 4};
        test_problem t = make_problem(61, 4, n == 0 ? 4 : 1, 12);
        if (n == 1) t.problem.keys = 100;
        if (n == 2) t.problem.keys = 40;
        if (n == 0) t.replace = equal_keys;
        assert_moba_right(context, &t, &s, (const char *[]){"ties", "more keys", "fewer keys"}[n]);
    }
    longspan_context_destroy(&context);
}

static void assert_choice_refused(longspan_context *context, const longspan_problem *p, longspan_status status,
                                  const char *first, const char *second)
{
    static const float zeros[64 * 4 * 8];
    longspan_selection *selection = NULL;
    const longspan_status got = longspan_selection_choose(context, p, zeros, zeros, &selection);
    const char *text = longspan_context_error(context);
    int wrong = got != status || selection || !strstr(text, first) || !strstr(text, second);
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (wrong) fail_msg("expected %d with '%s' and '%s', got %d: %s", status, first, second, got, text);
}

static void assert_refused(longspan_context *context, const longspan_problem *p, int list_count, int64_t most,
                           const int32_t *blocks, longspan_status status, const char *first, const char *second)
{
    longspan_selection *selection = NULL;
    const longspan_status got = longspan_selection_create(context, p, list_count, most, blocks, &selection);
    const char *text = longspan_context_error(context);
    int wrong = got != status || selection || !strstr(text, first) || !strstr(text, second);
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (wrong) fail_msg("expected %d with '%s' and '%s', got %d: %s", status, first, second, got, text);
}

static void moba_refuses_what_it_does_not_know(void **state)
{
    (void)state;
    static const int64_t documents[] = {0, 30, 64};
    longspan_context *context = default_context(1);
    longspan_problem good = make_problem(64, 4, 2, 8).problem, p;
    good.pattern = "moba:16,2";
    good.causal = 1;
    p = good, p.causal = 0, assert_choice_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'moba'", "causal");
    p = good, p.window_left = 5, assert_choice_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'moba'", "window");
    p = good, p.prefix = 5, assert_choice_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'moba'", "prefix");
    p = good, p.chunk = 5, assert_choice_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'moba'", "chunks");
    p = good, p.rope_dim = 4, assert_choice_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'moba'", "RoPE");
    p = good, p.documents = documents, p.document_count = 2;
    assert_choice_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'moba'", "documents");
    p = good, p.pattern = "selected:16";
    assert_choice_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "'selected'", "longspan_selection_create");
    p = good, p.pattern = "moba:16,0", assert_choice_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "moba:16,0", "");
    memset(lists, 0, sizeof lists);
    assert_refused(context, &good, 1, 1, lists, LONGSPAN_ERROR_ARGUMENT, "'moba'", "longspan_selection_choose");
    longspan_context_destroy(&context);
}

static void wrong_lists_are_refused(void **state)
{
    (void)state;
    static const int64_t key_lengths[] = {5, 6};
    static const int32_t wrong[][3] = {{0, 4, -1}, {1, 1, -1}, {2, 1, -1}, {0, -1, 1}, {-2, 0, 1}};
    longspan_context *context = default_context(1);
    longspan_problem good = make_problem(64, 4, 2, 8).problem, p;
    good.pattern = "selected:16";
    memset(lists, 0, sizeof lists);
    assert_refused(context, &good, 3, 1, lists, LONGSPAN_ERROR_ARGUMENT, "3 lists", "kv_heads 2");
    assert_refused(context, &good, 1, 0, lists, LONGSPAN_ERROR_ARGUMENT, "lists of 0", "");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const longspan_range own = longspan_selection_tokens(context, &good, LONGSPAN_QUERIES);
        for (int64_t q = 0; q < 64; q++) memcpy(lists + 3 * q, (int32_t[]){0, -1, -1}, 3 * sizeof *lists);
        memcpy(lists + (size_t)3 * 63, wrong[i], sizeof wrong[i]); /* of the last query alone */
        assert_refused(context, &good, 1, 3, lists + 3 * own.begin, LONGSPAN_ERROR_ARGUMENT, "query 63", "block");
    }
    p = good, p.batch = 2;
    assert_refused(context, &p, 1, 1, lists, LONGSPAN_ERROR_UNSUPPORTED, "'selected'", "batch 2");
    p.key_lengths = key_lengths, p.batch = 1;
    assert_refused(context, &p, 1, 1, lists, LONGSPAN_ERROR_UNSUPPORTED, "'selected'", "key_lengths");
    p = good, p.strategy = "ring";
    assert_refused(context, &p, 1, 1, lists, LONGSPAN_ERROR_UNSUPPORTED, "'ring'", "'selected'");
    p = good, p.layout = "zigzag";
    assert_refused(context, &p, 1, 1, lists, LONGSPAN_ERROR_UNSUPPORTED, "'zigzag'", "'selected'");
    p = good, p.pattern = "sinks:1,4";
    assert_refused(context, &p, 1, 1, lists, LONGSPAN_ERROR_ARGUMENT, "sinks:1,4", "selected");
    if (ranks > 1)
        assert_refused(context, &good, 1, 1 + (my_rank == 0), lists, LONGSPAN_ERROR_MISMATCH, "most", "differs");
    longspan_context_destroy(&context);
}

static void assert_plan_refused(longspan_context *context, const longspan_problem *p, longspan_status status,
                                const char *first, const char *second)
{
    longspan_plan *plan = NULL;
    const longspan_status got = longspan_plan_create(context, p, &plan);
    const char *text = longspan_context_error(context);
    int wrong = got != status || plan || !strstr(text, first) || !strstr(text, second);
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (wrong) fail_msg("expected %d with '%s' and '%s', got %d: %s", status, first, second, got, text);
}

static void plans_without_their_selection_are_refused(void **state)
{
    (void)state;
    const shape s = {16, 1, 1};
    longspan_context *context = default_context(1);
    longspan_problem good = make_problem(64, 4, 2, 8).problem, p;
    good.pattern = "selected:16";
    memset(lists, 0, sizeof lists);
    assert_plan_refused(context, &good, LONGSPAN_ERROR_ARGUMENT, "selected:16", "selection");
    longspan_selection *selection = select_lists(context, &good, &s);
    p = good, p.selection = selection, p.queries = 63;
    assert_plan_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "another problem", "64 queries");
    p = good, p.selection = selection, p.pattern = "sinks:1,4";
    assert_plan_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "another problem", "selected:16");
    p = good, p.selection = selection, p.strategy = "gather";
    assert_plan_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'gather'", "'selected'");
    longspan_selection_destroy(&selection);
    longspan_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(given_lists_are_right_under_every_mask),
        cmocka_unit_test(queries_without_keys_are_right),
        cmocka_unit_test(bits_do_not_depend_on_the_rank_count),
        cmocka_unit_test(wrong_lists_are_refused),
        cmocka_unit_test(moba_chooses_as_defined_and_is_right),
        cmocka_unit_test(moba_refuses_what_it_does_not_know),
        cmocka_unit_test(plans_without_their_selection_are_refused),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
