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

enum { LARGEST = 12, LARGEST_OF_ALL_PARTS = 8, LARGEST_RANDOM = 90, RANDOM_SEED = 11 };

static void fail_at(const mask *m, const char *what, range queries, range keys)
{
    schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, m->queries, m->keys, 1, 1, false);
    p.mask = *m;
    char text[512];
    problem_describe(&p, "mask", text, sizeof text);
    fail_msg("%s: %s, queries [%" PRId64 ",%" PRId64 "), keys [%" PRId64 ",%" PRId64 ")", text, what, queries.begin,
             queries.end, keys.begin, keys.end);
}

/* below[i][j]: pairs of queries before i and keys before j. */
typedef struct {
    const mask *m;
    int64_t below[LARGEST_RANDOM + 1][LARGEST_RANDOM + 1];
} counts;

static void count(counts *c, const mask *m)
{
    int64_t *document_of = documents_of_tokens(m);
    c->m = m;
    for (int64_t j = 0; j <= m->keys; j++) c->below[0][j] = 0;
    for (int64_t i = 0; i < m->queries; i++) {
        int64_t row = 0;
        c->below[i + 1][0] = 0;
        for (int64_t j = 0; j < m->keys; j++) {
            row += brute_sees(m, document_of, i, j);
            c->below[i + 1][j + 1] = c->below[i][j + 1] + row;
        }
    }
    free(document_of);
}

static int64_t counted(const counts *c, range q, range k)
{
    if (range_is_empty(q) || range_is_empty(k)) return 0;
    return c->below[q.end][k.end] - c->below[q.begin][k.end] - c->below[q.end][k.begin] + c->below[q.begin][k.begin];
}

/* All that a mask says about one pair of ranges, against counting. */
static void check_ranges(const counts *c, range queries, range keys)
{
    const int64_t pairs = counted(c, queries, keys), all = range_length(queries) * range_length(keys);
    const mask_answer expected = pairs == 0 ? MASK_NOTHING : pairs == all ? MASK_EVERYTHING : MASK_LOOK_INSIDE;
    if (mask_ask(c->m, queries, keys) != expected) fail_at(c->m, "wrong answer", queries, keys);
    if (mask_pairs(c->m, queries, keys) != pairs) fail_at(c->m, "wrong number of pairs", queries, keys);
}

/* The keys that any query of a range sees, against counting each key; they must lie without a gap. */
static void check_keys(const counts *c, range queries)
{
    const range keys = mask_keys(c->m, queries);
    for (int64_t j = 0; j < c->m->keys; j++) {
        const bool seen = counted(c, queries, (range){j, j + 1}) > 0;
        if ((keys.begin <= j && j < keys.end) != seen) fail_at(c->m, "wrong keys", queries, (range){j, j + 1});
    }
    if (range_length(queries) != 1) return;
    const range row = mask_row(c->m, queries.begin);
    if (row.begin < 0 || row.end > c->m->keys || range_length(row) != range_length(keys) ||
        (!range_is_empty(row) && row.begin != keys.begin))
        fail_at(c->m, "wrong row", queries, row);
}

static void check_queries(const counts *c, range keys)
{
    const range queries = mask_queries(c->m, keys);
    for (int64_t i = 0; i < c->m->queries; i++) {
        const bool seen = counted(c, (range){i, i + 1}, keys) > 0;
        if ((queries.begin <= i && i < queries.end) != seen)
            fail_at(c->m, "wrong queries of keys", (range){i, i + 1}, keys);
    }
}

static void check_mask(const mask *m)
{
    static counts c;
    if (mask_fault(m)) fail_at(m, mask_fault(m), (range){0, 0}, (range){0, 0});
    count(&c, m);
    for (int64_t a = 0; a <= m->queries; a++)
        for (int64_t b = a; b <= m->queries; b++) check_keys(&c, (range){a, b});
    for (int64_t x = 0; x <= m->keys; x++)
        for (int64_t y = x; y <= m->keys; y++) check_queries(&c, (range){x, y});
    for (int64_t a = 0; a <= m->queries; a++)
        for (int64_t b = a; b <= m->queries; b++)
            for (int64_t x = 0; x <= m->keys; x++)
                for (int64_t y = x; y <= m->keys; y++) check_ranges(&c, (range){a, b}, (range){x, y});
}

static void full_and_causal_equal_counting_for_all_lengths_and_ranges(void **state)
{
    (void)state;
    for (int64_t queries = 0; queries <= LARGEST; queries++) {
        for (int64_t keys = 0; keys <= LARGEST; keys++) {
            mask m = mask_full(queries, keys);
            check_mask(&m);
            m.causal = true;
            check_mask(&m);
        }
    }
}

static void every_combination_of_parts_equals_counting_for_all_lengths_and_ranges(void **state)
{
    (void)state;
    mask m;
    for (int64_t queries = 0; queries <= LARGEST_OF_ALL_PARTS; queries++)
        for (int64_t keys = 0; keys <= LARGEST_OF_ALL_PARTS; keys++)
            for (int64_t index = 0; mask_case_get(queries, keys, index, &m); index++) check_mask(&m);
}

static void documents_equal_counting_with_every_combination_of_parts(void **state)
{
    (void)state;
    document_set set;
    for (int64_t tokens = 0; tokens <= LARGEST_OF_ALL_PARTS; tokens++) {
        for (int64_t which = 0; document_set_get(tokens, which, &set); which++) {
            mask m;
            for (int64_t index = 0; mask_case_get(tokens, tokens, index, &m); index++) {
                m.documents = set.offsets;
                m.document_count = set.count;
                check_mask(&m);
            }
        }
    }
}

/* Unlimited one time in three. */
static int64_t random_reach(uint64_t *state, int64_t most)
{
    const int64_t reach = random_between(state, -most / 2, most);
    return reach < 0 ? MASK_UNLIMITED : reach;
}

static mask random_mask(uint64_t *state, document_set *set)
{
    mask m = mask_full(random_between(state, 0, LARGEST_RANDOM), random_between(state, 0, LARGEST_RANDOM));
    m.causal = random_between(state, 0, 1);
    m.window_left = random_reach(state, 40);
    m.window_right = random_reach(state, 40);
    if (m.causal) m.prefix = random_between(state, 0, 1) * random_between(state, 0, 50);
    if (random_between(state, 0, 1)) {
        m.chunk = random_between(state, 1, 30);
        m.chunks_left = random_reach(state, 4);
        m.chunks_right = random_reach(state, 4);
    }
    if (m.queries > 0 && random_between(state, 0, 2) == 0 &&
        document_set_get(m.queries, random_between(state, 0, 10), set)) {
        m.keys = m.queries;
        m.documents = set->offsets;
        m.document_count = set->count;
    }
    return m;
}

static range random_range(uint64_t *state, int64_t length)
{
    const int64_t a = random_between(state, 0, length), b = random_between(state, 0, length);
    return a < b ? (range){a, b} : (range){b, a};
}

static void random_parts_of_longer_sequences_equal_counting(void **state)
{
    (void)state;
    static counts c;
    uint64_t random = RANDOM_SEED;
    document_set set;
    for (int i = 0; i < 3000; i++) {
        const mask m = random_mask(&random, &set);
        if (mask_fault(&m)) fail_at(&m, mask_fault(&m), (range){0, 0}, (range){0, 0});
        count(&c, &m);
        for (int n = 0; n < 100; n++) {
            const range queries = random_range(&random, m.queries), keys = random_range(&random, m.keys);
            check_ranges(&c, queries, keys);
            check_keys(&c, queries);
            check_queries(&c, keys);
        }
    }
}

static void the_last_query_sees_the_last_key_when_lengths_differ(void **state)
{
    (void)state;
    mask more_keys = mask_full(3, 10), more_queries = mask_full(10, 3);
    more_keys.causal = more_queries.causal = true;
    assert_int_equal(mask_row(&more_keys, 0).end, 8);
    assert_int_equal(mask_row(&more_keys, 2).end, 10);
    assert_true(range_is_empty(mask_row(&more_queries, 6)));
    assert_int_equal(mask_row(&more_queries, 7).end, 1);
    assert_int_equal(mask_row(&more_queries, 9).end, 3);
}

static void chunks_of_positions_before_the_first_key_are_whole_chunks(void **state)
{
    (void)state;
    /* p = -3, -2, -1 | 0, 1, 2 with chunks of 3, one to the right: the first three queries see the first chunk. */
    mask m = mask_full(6, 3);
    m.chunk = 3;
    m.chunks_left = 0;
    m.chunks_right = 1;
    for (int64_t i = 0; i < 6; i++) {
        assert_int_equal(mask_row(&m, i).begin, 0);
        assert_int_equal(mask_row(&m, i).end, 3);
    }
    m.chunks_right = 0;
    assert_true(range_is_empty(mask_row(&m, 2)));
    assert_int_equal(mask_row(&m, 3).end, 3);
}

static void limits_beyond_every_length_limit_nothing(void **state)
{
    (void)state;
    const int64_t n = (int64_t)1 << 31;
    const range all = {0, n}, some = {n / 3, n / 2};
    const mask free = mask_full(n, n);
    const int64_t huge[] = {n, (int64_t)1 << 61, INT64_MAX - 1, INT64_MAX};
    for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
        mask m = free;
        m.window_left = m.window_right = m.chunk = m.chunks_left = m.chunks_right = huge[i];
        assert_null(mask_fault(&m));
        assert_true(mask_pairs(&m, all, all) == mask_pairs(&free, all, all));
        assert_int_equal(mask_ask(&m, all, all), MASK_EVERYTHING);
        m.chunk = 64;
        assert_int_equal(mask_ask(&m, some, all), MASK_EVERYTHING);
        m.causal = true;
        m.prefix = huge[i];
        assert_int_equal(mask_ask(&m, some, all), MASK_EVERYTHING);
    }
}

static void pairs_of_two_to_the_31_tokens_do_not_overflow(void **state)
{
    (void)state;
    const int64_t n = (int64_t)1 << 31;
    const range all = {0, n};
    mask m = mask_full(n, n);
    assert_null(mask_fault(&m));
    assert_true(mask_pairs(&m, all, all) == (int64_t)1 << 62);
    m.causal = true;
    assert_true(mask_pairs(&m, all, all) == n / 2 * (n + 1));
    assert_true(mask_pairs(&m, (range){n / 2, n}, all) == n / 2 * (n + 1) - n / 4 * (n / 2 + 1));
    assert_int_equal(mask_ask(&m, (range){n - 1, n}, all), MASK_EVERYTHING);
    assert_int_equal(mask_ask(&m, (range){n - 2, n}, all), MASK_LOOK_INSIDE);
    assert_int_equal(mask_ask(&m, (range){0, n - 1}, (range){n - 1, n}), MASK_NOTHING);
    m.prefix = n / 2;
    assert_true(mask_pairs(&m, all, all) == n / 2 * (n / 2) + (n / 2) * (n / 2) + n / 4 * (n / 2 + 1));
    m.prefix = 0;
    m.window_left = 1000; /* the first thousand rows see fewer */
    assert_true(mask_pairs(&m, all, all) == n * 1001 - 500 * 1001);

    const int64_t documents = 1 << 12, length = n / documents;
    int64_t *offsets = test_allocate((size_t)documents + 1, sizeof *offsets);
    for (int64_t d = 0; d <= documents; d++) offsets[d] = d * length;
    m = mask_full(n, n);
    m.causal = true;
    m.documents = offsets;
    m.document_count = documents;
    assert_true(mask_pairs(&m, all, all) == documents * (length / 2) * (length + 1));
    m.causal = false;
    assert_true(mask_pairs(&m, all, all) == documents * length * length);
    free(offsets);
}

static void few_queries_of_very_many_keys_do_not_overflow(void **state)
{
    (void)state;
    const int64_t queries = 16, keys = (int64_t)1 << 58;
    mask m = mask_full(queries, keys);
    m.causal = true;
    assert_null(mask_fault(&m));
    assert_true(mask_pairs(&m, (range){0, queries}, (range){0, keys}) == queries * keys - queries * (queries - 1) / 2);
    m.window_left = keys / 2;
    assert_true(mask_pairs(&m, (range){0, queries}, (range){0, keys}) == queries * (keys / 2 + 1));
}

static void causal_pairs_are_equal_on_all_ranks_in_a_zigzag_layout(void **state)
{
    (void)state;
    const layout l = {.kind = LAYOUT_ZIGZAG, .tokens = 1 << 20, .grain = 64, .ranks = 64};
    mask m = mask_full(l.tokens, l.tokens);
    m.causal = true;
    const range all = {0, l.tokens};
    const int64_t mean = l.tokens / 2 * (l.tokens + 1) / l.ranks;
    for (int rank = 0; rank < l.ranks; rank++) {
        int64_t pairs = 0;
        for (int64_t i = 0; i < layout_rank_chunk_count(&l, rank); i++)
            pairs += mask_pairs(&m, layout_chunk(&l, layout_rank_chunk(&l, rank, i)), all);
        assert_true(pairs == mean);
    }
}

static void check_fault(mask m, const char *expected)
{
    assert_non_null(mask_fault(&m));
    assert_string_equal(mask_fault(&m), expected);
}

static void fields_that_are_no_mask_are_refused(void **state)
{
    (void)state;
    mask m = mask_full(8, 8);
    assert_null(mask_fault(&m));
    check_fault(mask_full(-1, 8), "a length is negative");
    check_fault(mask_full(8, -1), "a length is negative");
    check_fault(mask_full(1, INT64_MAX), "a length is more than 2^60 tokens");
    check_fault(mask_full((int64_t)1 << 31, ((int64_t)1 << 31) + 1), "there are more than 2^62 pairs of query and key");
    m.window_right = -2;
    check_fault(m, "a window is negative");
    m = mask_full(8, 8);
    m.prefix = -1;
    check_fault(m, "the prefix is negative");
    m = mask_full(8, 8);
    m.chunk = -3;
    check_fault(m, "the chunk is negative");
    m = mask_full(8, 8);
    m.chunks_left = 1;
    check_fault(m, "chunks to the left or right are limited, but no size of a chunk is given");
    m.chunk = 2;
    assert_null(mask_fault(&m));
    m.chunks_left = -2;
    check_fault(m, "a number of chunks is negative");

    const int64_t right[] = {0, 3, 3, 8}, descending[] = {0, 5, 3, 8}, short_of[] = {0, 3, 3, 7}, late[] = {1, 3, 3, 8};
    m = mask_full(8, 8);
    m.document_count = 3;
    m.documents = right;
    assert_null(mask_fault(&m));
    m.documents = descending;
    check_fault(m, "document offsets do not ascend");
    m.documents = short_of;
    check_fault(m, "document offsets do not go from 0 to the number of tokens");
    m.documents = late;
    check_fault(m, "document offsets do not go from 0 to the number of tokens");
    m.documents = right;
    m.keys = 9;
    check_fault(m, "packed documents need as many keys as queries");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_and_causal_equal_counting_for_all_lengths_and_ranges),
        cmocka_unit_test(every_combination_of_parts_equals_counting_for_all_lengths_and_ranges),
        cmocka_unit_test(documents_equal_counting_with_every_combination_of_parts),
        cmocka_unit_test(random_parts_of_longer_sequences_equal_counting),
        cmocka_unit_test(the_last_query_sees_the_last_key_when_lengths_differ),
        cmocka_unit_test(chunks_of_positions_before_the_first_key_are_whole_chunks),
        cmocka_unit_test(limits_beyond_every_length_limit_nothing),
        cmocka_unit_test(pairs_of_two_to_the_31_tokens_do_not_overflow),
        cmocka_unit_test(few_queries_of_very_many_keys_do_not_overflow),
        cmocka_unit_test(causal_pairs_are_equal_on_all_ranks_in_a_zigzag_layout),
        cmocka_unit_test(fields_that_are_no_mask_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
