#include "partition/mask.h"

#include "tests/partition/brute.h"
#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LARGEST = 12 };

static void fail_at(const mask *m, const char *what, range queries, range keys)
{
    const schedule_problem p = {.mask = *m,
                                .query_layout = {.tokens = m->queries, .grain = 1, .ranks = 1},
                                .key_layout = {.tokens = m->keys, .grain = 1, .ranks = 1}};
    char text[512];
    problem_describe(&p, "mask", text, sizeof text);
    fail_msg("%s: %s, queries [%" PRId64 ",%" PRId64 "), keys [%" PRId64 ",%" PRId64 ")", text, what, queries.begin,
             queries.end, keys.begin, keys.end);
}

/* All that a mask says about one pair of ranges, against counting. */
static void check_ranges(const mask *m, const int64_t *document_of, range queries, range keys)
{
    int64_t pairs = 0;
    for (int64_t i = queries.begin; i < queries.end; i++)
        for (int64_t j = keys.begin; j < keys.end; j++) pairs += brute_sees(m, document_of, i, j);
    const int64_t all = range_length(queries) * range_length(keys);
    const mask_answer expected = pairs == 0 ? MASK_NOTHING : pairs == all ? MASK_EVERYTHING : MASK_LOOK_INSIDE;
    if (mask_ask(m, queries, keys) != expected) fail_at(m, "wrong answer", queries, keys);
    if (mask_pairs(m, queries, keys) != pairs) fail_at(m, "wrong number of pairs", queries, keys);
}

static void check_row(const mask *m, const int64_t *document_of, int64_t i)
{
    const range row = mask_row(m, i);
    for (int64_t j = 0; j < m->keys; j++)
        if ((row.begin <= j && j < row.end) != brute_sees(m, document_of, i, j))
            fail_at(m, "wrong row", (range){i, i + 1}, (range){j, j + 1});
}

static void check_column(const mask *m, const int64_t *document_of, range keys)
{
    const range queries = mask_queries(m, keys);
    for (int64_t i = 0; i < m->queries; i++) {
        bool seen = false;
        for (int64_t j = keys.begin; j < keys.end; j++) seen = seen || brute_sees(m, document_of, i, j);
        if ((queries.begin <= i && i < queries.end) != seen)
            fail_at(m, "wrong queries of keys", (range){i, i + 1}, keys);
    }
}

static void check_mask(const mask *m)
{
    int64_t *document_of = documents_of_tokens(m);
    for (int64_t i = 0; i < m->queries; i++) check_row(m, document_of, i);
    for (int64_t begin = 0; begin <= m->keys; begin++)
        for (int64_t end = begin; end <= m->keys; end++) check_column(m, document_of, (range){begin, end});
    for (int64_t a = 0; a <= m->queries; a++)
        for (int64_t b = a; b <= m->queries; b++)
            for (int64_t x = 0; x <= m->keys; x++)
                for (int64_t y = x; y <= m->keys; y++) check_ranges(m, document_of, (range){a, b}, (range){x, y});
    free(document_of);
}

static void full_and_causal_equal_counting_for_all_lengths_and_ranges(void **state)
{
    (void)state;
    for (int64_t queries = 0; queries <= LARGEST; queries++) {
        for (int64_t keys = 0; keys <= LARGEST; keys++) {
            check_mask(&(mask){.queries = queries, .keys = keys});
            check_mask(&(mask){.queries = queries, .keys = keys, .causal = true});
        }
    }
}

static void documents_equal_counting_for_all_ranges(void **state)
{
    (void)state;
    document_set set;
    for (int64_t tokens = 0; tokens <= LARGEST; tokens++) {
        for (int64_t index = 0; document_set_get(tokens, index, &set); index++) {
            mask m = {.queries = tokens, .keys = tokens, .documents = set.offsets, .document_count = set.count};
            check_mask(&m);
            m.causal = true;
            check_mask(&m);
        }
    }
}

static void the_last_query_sees_the_last_key_when_lengths_differ(void **state)
{
    (void)state;
    const mask more_keys = {.queries = 3, .keys = 10, .causal = true},
               more_queries = {.queries = 10, .keys = 3, .causal = true};
    assert_int_equal(mask_row(&more_keys, 0).end, 8);
    assert_int_equal(mask_row(&more_keys, 2).end, 10);
    assert_true(range_is_empty(mask_row(&more_queries, 6)));
    assert_int_equal(mask_row(&more_queries, 7).end, 1);
    assert_int_equal(mask_row(&more_queries, 9).end, 3);
}

static void pairs_of_two_to_the_31_tokens_do_not_overflow(void **state)
{
    (void)state;
    const int64_t n = (int64_t)1 << 31;
    const range all = {0, n};
    mask m = {.queries = n, .keys = n};
    assert_true(mask_pairs(&m, all, all) == (int64_t)1 << 62);
    m.causal = true;
    assert_true(mask_pairs(&m, all, all) == n / 2 * (n + 1));
    assert_true(mask_pairs(&m, (range){n / 2, n}, all) == n / 2 * (n + 1) - n / 4 * (n / 2 + 1));
    assert_int_equal(mask_ask(&m, (range){n - 1, n}, all), MASK_EVERYTHING);
    assert_int_equal(mask_ask(&m, (range){n - 2, n}, all), MASK_LOOK_INSIDE);
    assert_int_equal(mask_ask(&m, (range){0, n - 1}, (range){n - 1, n}), MASK_NOTHING);

    const int64_t documents = 1 << 12, length = n / documents;
    int64_t *offsets = test_allocate((size_t)documents + 1, sizeof *offsets);
    for (int64_t d = 0; d <= documents; d++) offsets[d] = d * length;
    m.documents = offsets;
    m.document_count = documents;
    assert_true(mask_pairs(&m, all, all) == documents * (length / 2) * (length + 1));
    m.causal = false;
    assert_true(mask_pairs(&m, all, all) == documents * length * length);
    free(offsets);
}

static void causal_pairs_are_equal_on_all_ranks_in_a_zigzag_layout(void **state)
{
    (void)state;
    const layout l = {.kind = LAYOUT_ZIGZAG, .tokens = 1 << 20, .grain = 64, .ranks = 64};
    const mask m = {.queries = l.tokens, .keys = l.tokens, .causal = true};
    const range all = {0, l.tokens};
    const int64_t mean = l.tokens / 2 * (l.tokens + 1) / l.ranks;
    for (int rank = 0; rank < l.ranks; rank++) {
        int64_t pairs = 0;
        for (int64_t i = 0; i < layout_rank_chunk_count(&l, rank); i++)
            pairs += mask_pairs(&m, layout_chunk(&l, layout_rank_chunk(&l, rank, i)), all);
        assert_true(pairs == mean);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_and_causal_equal_counting_for_all_lengths_and_ranges),
        cmocka_unit_test(documents_equal_counting_for_all_ranges),
        cmocka_unit_test(the_last_query_sees_the_last_key_when_lengths_differ),
        cmocka_unit_test(pairs_of_two_to_the_31_tokens_do_not_overflow),
        cmocka_unit_test(causal_pairs_are_equal_on_all_ranks_in_a_zigzag_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
