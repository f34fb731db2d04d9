#include "partition/patterns.h"

#include "tests/partition/brute.h"
#include "tests/partition/brute_pattern.h"
#include "tests/partition/problems.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LARGEST = 41, ROUNDS = 600, ALGEBRA_ROUNDS = 3000, SEED = 7, MOST_COLUMNS = 8192 };

static bool in_slice(const slice *s, int64_t i, int64_t j)
{
    return i >= s->queries.begin && i < s->queries.end && (i - s->queries.begin) % s->query_stride == 0 &&
           j >= s->keys.begin && j < s->keys.end && (j - s->keys.begin) % s->key_stride == 0 && j - i >= s->low &&
           j - i < s->high;
}

typedef struct {
    int64_t queries, keys;
    int times[LARGEST][LARGEST]; /* that a pair was visited */
    int layer_of[LARGEST], parts_of_layer[LARGEST];
    const char *text;
} table;

static int count_part(void *data, const pattern_part *part)
{
    table *t = data;
    if (part->count < 1) fail_msg("%s: an empty part", t->text);
    for (int64_t r = 0; r < part->count; r++) {
        const slice *run = &part->runs[r], *first = &part->runs[0];
        if (run->low != first->low || run->high != first->high || run->key_stride != first->key_stride ||
            run->query_stride != first->query_stride)
            fail_msg("%s: runs of one part differ", t->text);
        for (int64_t i = 0; i < t->queries; i++)
            for (int64_t j = 0; j < t->keys; j++) t->times[i][j] += in_slice(run, i, j);
    }
    for (int64_t i = 0; i < t->queries; i++) {
        bool in = false;
        for (int64_t r = 0; r < part->count; r++) {
            const slice *run = &part->runs[r];
            in = in ||
                 (i >= run->queries.begin && i < run->queries.end && (i - run->queries.begin) % run->query_stride == 0);
        }
        if (!in) continue;
        if (t->layer_of[i] == part->layer + 1)
            fail_msg("%s: a query is in two parts of layer %d", t->text, part->layer);
        t->layer_of[i] = part->layer + 1; /* layers come in order */
    }
    return 0;
}

/* Everything that is asked of a pattern under a mask, against `wanted`. */
static void check(const pattern *p, const mask *m, bool wanted[LARGEST][LARGEST], const char *text, uint64_t *state)
{
    static table t;
    const range all_queries = {0, m->queries}, all_keys = {0, m->keys};
    t = (table){.queries = m->queries, .keys = m->keys, .text = text};
    assert_int_equal(pattern_visit(p, m, all_queries, all_keys, count_part, &t), 0);
    for (int64_t i = 0; i < m->queries; i++)
        for (int64_t j = 0; j < m->keys; j++)
            if (t.times[i][j] != wanted[i][j])
                fail_msg("%s (N=%d M=%d): query %d, key %d: visited %d times", text, (int)m->queries, (int)m->keys,
                         (int)i, (int)j, t.times[i][j]);
    for (int turn = 0; turn < 12; turn++) {
        const int64_t a = random_between(state, 0, m->queries), c = random_between(state, 0, m->keys);
        const range q = {a, random_between(state, a, m->queries)}, k = {c, random_between(state, c, m->keys)};
        int64_t pairs = 0;
        for (int64_t i = q.begin; i < q.end; i++)
            for (int64_t j = k.begin; j < k.end; j++) pairs += wanted[i][j];
        if (pattern_pairs(p, m, q, k) != pairs) fail_msg("%s: the count of pairs is wrong", text);
        const mask_answer answer = pattern_ask(p, m, q, k);
        const bool all = pairs > 0 && pairs == range_length(q) * range_length(k);
        if (answer != (pairs == 0 ? MASK_NOTHING : all ? MASK_EVERYTHING : MASK_LOOK_INSIDE))
            fail_msg("%s: the answer is %d", text, (int)answer);
    }
}

static mask random_mask(uint64_t *state, int64_t n, int64_t m, document_set *documents)
{
    mask x = mask_full(n, m);
    x.causal = random_next(state) % 2;
    if (random_next(state) % 3 == 0) x.window_left = random_between(state, 0, m);
    if (random_next(state) % 3 == 0) x.window_right = random_between(state, 0, m);
    if (x.causal && random_next(state) % 3 == 0) x.prefix = random_between(state, 1, m);
    if (random_next(state) % 3 == 0) {
        x.chunk = random_between(state, 1, 9);
        x.chunks_left = random_between(state, 0, 2);
    }
    if (n == m && random_next(state) % 2 && document_set_get(n, (int64_t)(random_next(state) % 9), documents)) {
        x.documents = documents->offsets;
        x.document_count = documents->count;
    }
    return x;
}

/* A query and a key of different documents are no pair; a document is as if alone, but for blocks. */
static bool brute_pair(const brute_pattern *b, const mask *m, const int64_t *document_of, int64_t i, int64_t j)
{
    if (!brute_sees(m, document_of, i, j)) return false;
    if (b->name == BRUTE_BLOCKS) return brute_in_pattern(b, i, j, m->keys);
    if (!document_of) return brute_in_pattern(b, i + m->keys - m->queries, j, m->keys);
    const int64_t start = m->documents[document_of[i]], end = m->documents[document_of[i] + 1];
    return brute_in_pattern(b, i - start, j - start, end - start);
}

static void named_patterns_are_their_definitions_under_every_mask(void **unused)
{
    (void)unused;
    static int64_t offsets[513], columns[MOST_COLUMNS];
    static bool wanted[LARGEST][LARGEST];
    uint64_t state = SEED;
    int refused = 0;
    for (int round = 0; round < ROUNDS * BRUTE_PATTERNS; round++) {
        const brute_name name = (brute_name)(round % BRUTE_PATTERNS);
        const int64_t n = random_between(&state, 1, LARGEST);
        const int64_t keys =
            random_next(&state) % 3 == 0 && name != BRUTE_BIGBIRD && name != BRUTE_RANDOM ? random_between(&state, 1, LARGEST) : n;
        document_set documents;
        const mask m = random_mask(&state, n, keys, &documents);
        brute_pattern b;
        char text[512], why[PATTERN_WHY_SIZE];
        pattern_choice choice;
        pattern *p = NULL;
        brute_pattern_draw(&b, name, n, keys, random_next(&state), offsets, columns);
        brute_pattern_text(&b, text, sizeof text);
        if (!pattern_choice_parse(text, &choice, why)) fail_msg("%s: %s", text, why);
        const int64_t size = b.numbers[0] > 0 ? b.numbers[0] : 1, rows = (n + size - 1) / size;
        const pattern_blocks blocks = {rows, (keys + size - 1) / size, offsets[rows], offsets, columns};
        const int made = pattern_make(&choice, &m, name == BRUTE_BLOCKS ? &blocks : NULL, &p, why);
        const bool alone = name == BRUTE_BIGBIRD || name == BRUTE_RANDOM || name == BRUTE_VERTICAL_SLASH;
        assert_int_equal(made, m.documents && alone ? 1 : 0);
        if (made) {
            assert_non_null(strstr(why, "documents"));
            refused++;
            continue;
        }
        int64_t *document_of = documents_of_tokens(&m);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < keys; j++) wanted[i][j] = brute_pair(&b, &m, document_of, i, j);
        check(p, &m, wanted, text, &state);
        free(document_of);
        pattern_destroy(p);
    }
    assert_true(refused > ROUNDS / 10);
}

/* Slices, or blocks, drawn at random, and the table of their pairs. */
static pattern *random_pattern(uint64_t *state, int64_t n, int64_t m, int64_t stride, bool table[LARGEST][LARGEST])
{
    pattern *p = pattern_create(n, m);
    assert_non_null(p);
    memset(table, 0, LARGEST * sizeof table[0]);
    const int64_t count = random_between(state, 0, 4);
    for (int64_t c = 0; c < count; c++) {
        const int64_t a = random_between(state, 0, n), b = random_between(state, 0, m),
                      low = random_between(state, -m, m);
        slice s = slice_band((range){a, random_between(state, a, n)}, (range){b, random_between(state, b, m)}, low,
                             low + random_between(state, 0, m));
        if (random_next(state) % 3 == 0) s.low = -SLICE_FAR;
        if (random_next(state) % 3 == 0) s.high = SLICE_FAR;
        if (c >= count / 2) s.key_stride = s.query_stride = stride; /* dense ones first */
        assert_int_equal(pattern_add(p, &s), 0);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < m; j++) table[i][j] = table[i][j] || in_slice(&s, i, j);
    }
    return p;
}

static pattern *random_blocks(uint64_t *state, int64_t n, int64_t m, int64_t size, bool table[LARGEST][LARGEST])
{
    pattern *p = pattern_create(n, m);
    const int64_t rows = (n + size - 1) / size, width = (m + size - 1) / size;
    assert_non_null(p);
    assert_int_equal(pattern_make_blocks(p, size, rows * width), 0);
    for (int64_t r = 0, used = 0; r < rows; r++) {
        for (int64_t c = 0; c < width; c++)
            if (random_next(state) % 2) p->blocks.columns[used++] = c;
        p->blocks.offsets[r + 1] = used;
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) {
            table[i][j] = false;
            for (int64_t c = p->blocks.offsets[i / size]; c < p->blocks.offsets[i / size + 1]; c++)
                table[i][j] = table[i][j] || p->blocks.columns[c] == j / size;
        }
    return p;
}

static void or_and_and_of_patterns_are_those_of_their_pairs(void **unused)
{
    (void)unused;
    static bool of_a[LARGEST][LARGEST], of_b[LARGEST][LARGEST], wanted[LARGEST][LARGEST];
    uint64_t state = SEED + 1;
    for (int round = 0; round < ALGEBRA_ROUNDS; round++) {
        const int64_t n = random_between(&state, 1, LARGEST), m = random_between(&state, 1, LARGEST);
        const int64_t size = random_between(&state, 1, 8);
        const int kind = round % 4; /* slices, blocks, one of each, blocks of different sizes */
        pattern *a = kind % 2 ? random_blocks(&state, n, m, size, of_a) : random_pattern(&state, n, m, size, of_a);
        pattern *b = kind ? random_blocks(&state, n, m, kind == 3 ? size + 1 : size, of_b)
                          : random_pattern(&state, n, m, size, of_b);
        const mask full = mask_full(n, m);
        for (int both = 0; both < 2; both++) {
            pattern *joined = NULL;
            char text[64];
            snprintf(text, sizeof text, "round %d, %s", round, both ? "and" : "or");
            assert_int_equal((both ? pattern_and : pattern_or)(a, b, &joined), 0);
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < m; j++)
                    wanted[i][j] = both ? of_a[i][j] && of_b[i][j] : of_a[i][j] || of_b[i][j];
            check(joined, &full, wanted, text, &state);
            pattern_destroy(joined);
        }
        pattern_destroy(a);
        pattern_destroy(b);
    }
}

static void patterns_that_cannot_be_joined_say_so(void **unused)
{
    (void)unused;
    pattern *twos = pattern_create(12, 12), *threes = pattern_create(12, 12), *joined = NULL;
    slice s = slice_full((range){0, 12}, (range){0, 12});
    s.query_stride = s.key_stride = 2;
    assert_int_equal(pattern_add(twos, &s), 0);
    s.query_stride = s.key_stride = 3;
    assert_int_equal(pattern_add(threes, &s), 0);
    assert_int_equal(pattern_or(twos, threes, &joined), PATTERN_MIXED);
    assert_int_equal(pattern_and(twos, threes, &joined), PATTERN_MIXED);
    assert_null(joined);
    pattern_destroy(twos);
    pattern_destroy(threes);
}

static void without_a_pattern_the_mask_decides(void **unused)
{
    (void)unused;
    static bool wanted[LARGEST][LARGEST];
    uint64_t state = SEED + 3;
    for (int round = 0; round < ROUNDS; round++) {
        const int64_t n = random_between(&state, 1, LARGEST);
        document_set documents;
        const mask m = random_mask(&state, n, n, &documents);
        int64_t *document_of = documents_of_tokens(&m);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) wanted[i][j] = brute_sees(&m, document_of, i, j);
        check(NULL, &m, wanted, "no pattern", &state);
        free(document_of);
    }
}

static void texts_that_are_no_pattern_are_refused_with_the_reason(void **unused)
{
    (void)unused;
    static const char *const cases[][2] = {
        {"", "is no pattern"},
        {"sink:1,2", "sinks"},
        {"sinks", "is not sinks:COUNT,LEFT"},
        {"sinks:", "is not sinks:COUNT,LEFT"},
        {"sinks:1", "is not sinks:COUNT,LEFT"},
        {"sinks:1,2,3", "is not sinks:COUNT,LEFT"},
        {"sinks:1,2,", "is not sinks:COUNT,LEFT"},
        {"sinks:1,-2", "is not sinks:COUNT,LEFT"},
        {"sinks:1-2,2", "is not sinks:COUNT,LEFT"},
        {"sinks:1,2k3", "is not sinks:COUNT,LEFT"},
        {"sinks:1,99999999999999999999", "is not sinks:COUNT,LEFT"},
        {"global:1,1,5-4", "is not global"},
        {"global:1,1", "is not global"},
        {"vertical-slash:1,2", "is not vertical-slash"},
        {"vertical-slash:1/2/3", "is not vertical-slash"},
        {"dilated:0,4", "a step is at least 1"},
        {"strided:0", "a length is at least 1"},
        {"fixed:0,0", "a length is at least 1"},
        {"fixed:4,5", "more tokens"},
        {"bigbird:0,3", "at least 1 token"},
        {"random:0,3", "at least 1 token"},
        {"random:4,101", "at most 100"},
        {"blocks:0", "at least 1 token"},
    };
    pattern_choice choice;
    char why[PATTERN_WHY_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (pattern_choice_parse(cases[i][0], &choice, why)) fail_msg("'%s' is taken", cases[i][0]);
        if (!strstr(why, cases[i][1])) fail_msg("'%s': %s", cases[i][0], why);
    }
    assert_true(pattern_choice_parse("global:1k,2,7,9-11,1M", &choice, why));
    assert_int_equal(choice.count, 5);
    assert_int_equal(choice.items[0].begin, 1024);
    assert_int_equal(choice.items[3].end, 12);
    assert_int_equal(choice.items[4].begin, 1 << 20);
}

static void lists_of_blocks_that_are_none_are_refused(void **unused)
{
    (void)unused;
    const int64_t offsets[] = {0, 2, 3}, late[] = {1, 2, 3}, falling[] = {0, 4, 3};
    const int64_t columns[] = {0, 1, 1}, twice[] = {1, 1, 0}, beyond[] = {0, 2, 1};
    const pattern_blocks cases[] = {
        {3, 2, 3, offsets, columns}, {2, 3, 3, offsets, columns}, {2, 2, 2, offsets, columns}, {2, 2, 3, late, columns},
        {2, 2, 3, falling, columns}, {2, 2, 3, offsets, twice},   {2, 2, 3, offsets, beyond},  {0},
    };
    const mask m = mask_full(8, 7);
    pattern_choice choice;
    pattern *p = NULL;
    char why[PATTERN_WHY_SIZE];
    assert_true(pattern_choice_parse("blocks:4", &choice, why));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(pattern_make(&choice, &m, &cases[i], &p, why), 1);
    assert_int_equal(pattern_make(&choice, &m, NULL, &p, why), 1);
    const pattern_blocks right = {2, 2, 3, offsets, columns};
    assert_int_equal(pattern_make(&choice, &m, &right, &p, why), 0);
    pattern_destroy(p);
    assert_true(pattern_choice_parse("sinks:1,1", &choice, why));
    assert_int_equal(pattern_make(&choice, &m, &right, &p, why), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named_patterns_are_their_definitions_under_every_mask),
        cmocka_unit_test(or_and_and_of_patterns_are_those_of_their_pairs),
        cmocka_unit_test(patterns_that_cannot_be_joined_say_so),
        cmocka_unit_test(without_a_pattern_the_mask_decides),
        cmocka_unit_test(texts_that_are_no_pattern_are_refused_with_the_reason),
        cmocka_unit_test(lists_of_blocks_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
