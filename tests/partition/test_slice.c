#include "partition/slice.h"

#include "tests/partition/brute.h"
#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LARGEST = 23, ROUNDS = 30000, SEED = 5 };

/* Straight from the definition. */
static bool in_slice(const slice *s, int64_t i, int64_t j)
{
    if (i < s->queries.begin || i >= s->queries.end || (i - s->queries.begin) % s->query_stride != 0) return false;
    if (j < s->keys.begin || j >= s->keys.end || (j - s->keys.begin) % s->key_stride != 0) return false;
    return j - i >= s->low && j - i < s->high;
}

static range random_range(uint64_t *state, int64_t tokens)
{
    const int64_t a = random_between(state, 0, tokens), b = random_between(state, 0, tokens);
    return a < b ? (range){a, b} : (range){b, a};
}

static slice random_slice(uint64_t *state, int64_t queries, int64_t keys, int64_t stride)
{
    const int64_t middle = random_between(state, -keys, keys);
    slice s = slice_band(random_range(state, queries), random_range(state, keys),
                         middle - random_between(state, 0, keys), middle + random_between(state, 0, keys));
    if (random_next(state) % 3 == 0) s.low = -SLICE_FAR;
    if (random_next(state) % 3 == 0) s.high = SLICE_FAR;
    s.key_stride = stride;
    if (random_next(state) % 2) s.query_stride = stride;
    return s;
}

static int64_t random_stride(uint64_t *state)
{
    static const int64_t strides[] = {1, 1, 1, 2, 3, 4, 6};
    return strides[random_next(state) % 7];
}

static void fail_at(int round, const slice *s, const char *what)
{
    fail_msg("round %d, %s: queries [%" PRId64 ",%" PRId64 ") by %" PRId64 ", keys [%" PRId64 ",%" PRId64
             ") by %" PRId64 ", j - i in [%" PRId64 ",%" PRId64 ")",
             round, what, s->queries.begin, s->queries.end, s->query_stride, s->keys.begin, s->keys.end, s->key_stride,
             s->low, s->high);
}

static bool in_range(range r, int64_t token)
{
    return token >= r.begin && token < r.end;
}

static bool sees_key(const slice *s, int64_t i, range keys)
{
    for (int64_t j = keys.begin; j < keys.end; j++)
        if (in_slice(s, i, j)) return true;
    return false;
}

static bool key_is_seen(const slice *s, range queries, int64_t j)
{
    for (int64_t i = queries.begin; i < queries.end; i++)
        if (in_slice(s, i, j)) return true;
    return false;
}

static void the_part_in_two_ranges_is_what_its_pairs_say(void **unused)
{
    (void)unused;
    uint64_t state = SEED;
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t n = random_between(&state, 1, LARGEST), m = random_between(&state, 1, LARGEST);
        const slice s = random_slice(&state, n, m, random_stride(&state));
        const range queries = random_range(&state, n), keys = random_range(&state, m);
        const slice part = slice_within(&s, queries, keys);
        int64_t pairs = 0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < m; j++) {
                const bool wanted = in_slice(&s, i, j) && in_range(queries, i) && in_range(keys, j);
                pairs += wanted;
                if (wanted != (in_slice(&part, i, j) && !slice_is_empty(&part))) fail_at(round, &s, "pairs differ");
            }
        if (slice_pairs(&part) != pairs) fail_at(round, &s, "the count of pairs is wrong");
        if ((pairs == 0) != slice_is_empty(&part)) {
            /* A run of queries between the strided keys that a narrow band looks for. */
            if (pairs > 0 || s.query_stride == s.key_stride) fail_at(round, &s, "the part is not tight");
        }
        if (pairs == 0) continue;
        if (slice_sees_all(&part) != (pairs == slice_query_count(&part) * slice_key_count(&part)))
            fail_at(round, &s, "sees_all is wrong");
        for (int64_t j = part.keys.begin; j < part.keys.end; j += part.key_stride)
            if (!key_is_seen(&part, part.queries, j)) fail_at(round, &s, "a key is seen by nobody");
        for (int64_t i = part.queries.begin; i < part.queries.end; i += part.query_stride) {
            const range row = slice_row(&part, i);
            for (int64_t j = 0; j < m; j++)
                if (in_slice(&part, i, j) != (in_range(row, j) && (j - row.begin) % part.key_stride == 0))
                    fail_at(round, &s, "a row is wrong");
            if (s.query_stride == s.key_stride && !sees_key(&part, i, keys)) fail_at(round, &s, "a query sees nothing");
        }
    }
}

enum { MOST_PARTS = 4096 };
typedef struct {
    slice parts[MOST_PARTS];
    int count;
} part_list;

static int collect(void *data, const slice *part)
{
    part_list *list = data;
    assert_true(list->count < MOST_PARTS);
    list->parts[list->count++] = *part;
    return 0;
}

/* How many of the parts a pair is in. */
static int times(const slice *parts, int count, int64_t i, int64_t j)
{
    int sum = 0;
    for (int p = 0; p < count; p++) sum += in_slice(&parts[p], i, j);
    return sum;
}

static mask random_mask(uint64_t *state, int64_t n, int64_t m, document_set *documents)
{
    mask x = mask_full(n, m);
    x.causal = random_next(state) % 2;
    if (x.causal && random_next(state) % 2) x.prefix = random_between(state, 0, m);
    if (random_next(state) % 2) x.window_left = random_between(state, 0, m);
    if (random_next(state) % 2) x.window_right = random_between(state, 0, m);
    if (random_next(state) % 2) {
        x.chunk = random_between(state, 1, 7);
        if (random_next(state) % 2) x.chunks_left = random_between(state, 0, 3);
        if (random_next(state) % 2) x.chunks_right = random_between(state, 0, 3);
    }
    if (n == m && document_set_get(n, (int64_t)(random_next(state) % 9), documents)) {
        x.documents = documents->offsets;
        x.document_count = documents->count;
    }
    return x;
}

static void the_parts_under_a_mask_are_the_pairs_of_both_once(void **unused)
{
    (void)unused;
    static part_list list;
    uint64_t state = SEED + 1;
    for (int round = 0; round < ROUNDS / 3; round++) {
        const int64_t n = random_between(&state, 1, LARGEST),
                      m = random_next(&state) % 2 ? n : random_between(&state, 1, LARGEST);
        document_set documents;
        const mask x = random_mask(&state, n, m, &documents);
        const slice s = random_slice(&state, n, m, random_stride(&state));
        int64_t *document_of = documents_of_tokens(&x);
        list.count = 0;
        assert_int_equal(slice_under_mask(&s, &x, collect, &list), 0);
        for (int64_t i = 0; i < n; i++) {
            int in = 0;
            for (int p = 0; p < list.count; p++)
                in += in_range(list.parts[p].queries, i) &&
                      (i - list.parts[p].queries.begin) % list.parts[p].query_stride == 0;
            if (in > 1) fail_at(round, &s, "a query is in two parts");
            for (int64_t j = 0; j < m; j++)
                if (times(list.parts, list.count, i, j) != (in_slice(&s, i, j) && brute_sees(&x, document_of, i, j)))
                    fail_at(round, &s, "pairs under a mask differ");
        }
        free(document_of);
    }
}

static void intersection_and_difference_are_those_of_the_pairs(void **unused)
{
    (void)unused;
    uint64_t state = SEED + 2;
    int mixed = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t n = random_between(&state, 1, LARGEST), m = random_between(&state, 1, LARGEST);
        const slice a = random_slice(&state, n, m, random_stride(&state));
        const slice b = random_slice(&state, n, m, random_stride(&state));
        slice both, parts[SLICE_MOST_PARTS];
        const int common = slice_and(&a, &b, &both), rest = slice_without(&a, &b, parts);
        mixed += common < 0 || rest < 0;
        assert_true(common >= 0 || (a.key_stride != b.key_stride && a.key_stride > 1 && b.key_stride > 1) ||
                    a.query_stride != b.query_stride);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < m; j++) {
                const bool in_a = in_slice(&a, i, j), in_b = in_slice(&b, i, j);
                if (common >= 0 && (common > 0 && in_slice(&both, i, j)) != (in_a && in_b))
                    fail_at(round, &a, "an intersection is wrong");
                if (rest >= 0 && times(parts, rest, i, j) != (in_a && !in_b))
                    fail_at(round, &a, "a difference is wrong");
            }
    }
    assert_true(mixed > 0 && mixed < ROUNDS / 2);
}

static void kinds_are_named_by_their_limits(void **unused)
{
    (void)unused;
    const range all = {0, 9};
    const slice cases[] = {slice_full(all, all), slice_band(all, all, -SLICE_FAR, 1),
                           slice_band(all, all, 0, SLICE_FAR), slice_band(all, all, -2, 1)};
    for (int kind = SLICE_FULL; kind <= SLICE_BAND; kind++) assert_int_equal(slice_kind_of(&cases[kind]), kind);
}

static void pairs_of_long_slices_do_not_overflow(void **unused)
{
    (void)unused;
    const int64_t n = (int64_t)1 << 31;
    const range all = {0, n};
    const slice full = slice_full(all, all), causal = slice_band(all, all, -SLICE_FAR, 1);
    slice strided = full;
    strided.key_stride = 3;
    assert_int_equal(slice_pairs(&full), n * n);
    assert_int_equal(slice_pairs(&causal), n / 2 * (n + 1));
    assert_int_equal(slice_pairs(&strided), n * ((n + 2) / 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_part_in_two_ranges_is_what_its_pairs_say),
        cmocka_unit_test(the_parts_under_a_mask_are_the_pairs_of_both_once),
        cmocka_unit_test(intersection_and_difference_are_those_of_the_pairs),
        cmocka_unit_test(kinds_are_named_by_their_limits),
        cmocka_unit_test(pairs_of_long_slices_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
