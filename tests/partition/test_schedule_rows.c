/* The building blocks of strategies that translate between rows of shards and what the mask says of tokens. */
#include "partition/parcel.h"

#include "tests/partition/brute.h"
#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LARGEST = 64, RANDOM_SEED = 5 };

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG, LAYOUT_STRIPED};

/* Who sees what, pair by pair. */
typedef struct {
    const schedule_problem *p;
    token_map queries, keys;
    bool sees[LARGEST][LARGEST];
} world;

static void world_make(world *w, const schedule_problem *p)
{
    int64_t *document_of = documents_of_tokens(&p->mask);
    w->p = p;
    token_map_make(&w->queries, &p->query_layout);
    token_map_make(&w->keys, &p->key_layout);
    for (int64_t i = 0; i < p->mask.queries; i++)
        for (int64_t j = 0; j < p->mask.keys; j++) w->sees[i][j] = brute_sees(&p->mask, document_of, i, j);
    free(document_of);
}

static void world_free(world *w)
{
    token_map_free(&w->queries);
    token_map_free(&w->keys);
}

static void fail_in(const world *w, const char *what, int query_origin, int key_origin, range rows, range got)
{
    char text[1024];
    problem_describe(w->p, "rows", text, sizeof text);
    fail_msg("%s: %s, queries of rank %d, keys of rank %d, rows [%" PRId64 ",%" PRId64 "), got [%" PRId64 ",%" PRId64
             ")",
             text, what, query_origin, key_origin, rows.begin, rows.end, got.begin, got.end);
}

static bool holds(const token_map *map, int64_t token, int rank, range rows)
{
    return map->owner[token] == rank && rows.begin <= map->row[token] && map->row[token] < rows.end;
}

/* Is query i one of ranks [first, last], or, where `between`, between two of theirs? */
static bool reads(const world *w, int64_t i, int first, int last, bool between)
{
    const int owner = w->queries.owner[i];
    if (first <= owner && owner <= last) return true;
    bool before = false, after = false;
    for (int64_t n = 0; n < w->queries.tokens && between; n++) {
        if (w->queries.owner[n] < first || w->queries.owner[n] > last) continue;
        before = before || n < i;
        after = after || n > i;
    }
    return before && after;
}

/* From the first to the last row of a piece of keys that a query of ranks [first, last] sees, or one between these. */
static range brute_needed(const world *w, int first, int last, bool between, int origin, range piece)
{
    range needed = {0, 0};
    for (int64_t i = 0; i < w->queries.tokens; i++) {
        if (!reads(w, i, first, last, between)) continue;
        for (int64_t j = 0; j < w->keys.tokens; j++)
            if (w->sees[i][j] && holds(&w->keys, j, origin, piece))
                needed = range_hull(needed, (range){w->keys.row[j], w->keys.row[j] + 1});
    }
    return needed;
}

static bool holds_range(range outer, range inner)
{
    return range_is_empty(inner) || (outer.begin <= inner.begin && inner.end <= outer.end);
}

static void check_needed(const world *w)
{
    const schedule_problem *p = w->p;
    const int ranks = p->key_layout.ranks;
    for (int origin = 0; origin < ranks; origin++)
        for (int i = 0; i < layout_piece_count(&p->key_layout); i++)
            for (int first = 0; first < ranks; first++) {
                const range piece = layout_piece(&p->key_layout, origin, i);
                assert_true(range_is_empty(schedule_needed_rows(p, first, first - 1, origin, i)));
                for (int last = first; last < ranks; last++) {
                    const bool striped = p->query_layout.kind == LAYOUT_STRIPED;
                    const range needed = brute_needed(w, first, last, false, origin, piece);
                    const range expected = striped ? brute_needed(w, first, last, true, origin, piece) : needed;
                    const range got = schedule_needed_rows(p, first, last, origin, i);
                    if (!holds_range(got, needed) || !holds_range(piece, got))
                        fail_in(w, "needed rows", first, origin, needed, got);
                    if (range_length(got) != range_length(expected))
                        fail_in(w, "other than the needed rows", first, origin, expected, got);
                }
            }
}

static range random_rows(uint64_t *random, range piece)
{
    const int64_t a = random_between(random, piece.begin, piece.end),
                  b = random_between(random, piece.begin, piece.end);
    return a < b ? (range){a, b} : (range){b, a};
}

static int64_t brute_pairs(const world *w, int query_origin, range queries, int key_origin, range keys)
{
    int64_t pairs = 0;
    for (int64_t i = 0; i < w->queries.tokens; i++) {
        if (!holds(&w->queries, i, query_origin, queries)) continue;
        for (int64_t j = 0; j < w->keys.tokens; j++) pairs += w->sees[i][j] && holds(&w->keys, j, key_origin, keys);
    }
    return pairs;
}

/* What is said of random rows of two pieces. */
static void check_fold(const world *w, uint64_t *random)
{
    const schedule_problem *p = w->p;
    const int ranks = p->key_layout.ranks;
    schedule_fold f = {.heads = heads_all(p->heads),
                       .query_origin = (int)random_between(random, 0, ranks - 1),
                       .key_origin = (int)random_between(random, 0, ranks - 1)};
    const int query_piece = (int)random_between(random, 0, layout_piece_count(&p->query_layout) - 1);
    const int key_piece = (int)random_between(random, 0, layout_piece_count(&p->key_layout) - 1);
    f.query_rows = random_rows(random, layout_piece(&p->query_layout, f.query_origin, query_piece));
    f.key_rows = random_rows(random, layout_piece(&p->key_layout, f.key_origin, key_piece));
    const int64_t pairs = brute_pairs(w, f.query_origin, f.query_rows, f.key_origin, f.key_rows);
    const int64_t all = range_length(f.query_rows) * range_length(f.key_rows);

    const mask_answer answer = schedule_ask(p, f.query_origin, f.query_rows, f.key_origin, f.key_rows);
    const mask_answer exact = pairs == 0 ? MASK_NOTHING : pairs == all ? MASK_EVERYTHING : MASK_LOOK_INSIDE;
    const bool striped = p->query_layout.kind == LAYOUT_STRIPED || p->key_layout.kind == LAYOUT_STRIPED;
    if (answer != exact && !(striped && answer == MASK_LOOK_INSIDE))
        fail_in(w, "wrong answer", f.query_origin, f.key_origin, f.query_rows, f.key_rows);
    f.look_inside = answer != MASK_EVERYTHING;
    if (schedule_fold_pairs(p, &f) != pairs)
        fail_in(w, "wrong number of pairs", f.query_origin, f.key_origin, f.query_rows, f.key_rows);
}

/* The folds of a rank's queries with some rows of keys: every pair seen is in one, slots follow the rows. */
static void check_added_folds(const world *w, uint64_t *random)
{
    const schedule_problem *p = w->p;
    const int origin = (int)random_between(random, 0, p->key_layout.ranks - 1);
    const int reader = (int)random_between(random, 0, p->key_layout.ranks - 1);
    const int key_piece = (int)random_between(random, 0, layout_piece_count(&p->key_layout) - 1);
    parcel queries = parcel_home(p, ROWS_QUERIES, reader), states = parcel_home(p, ROWS_STATES, reader);
    parcel keys = {.kind = ROWS_KEYS, .origin = origin, .heads = heads_all(p->kv_heads), .slot = 6};
    const range piece = layout_piece(&p->key_layout, origin, key_piece), key_rows = random_rows(random, piece);
    keys.rows[key_piece] = key_rows;
    keys.slot_row[key_piece] = 300;
    queries.slot = 4;
    states.slot = 5;
    schedule *s = schedule_create(reader, 1);
    assert_non_null(s);
    for (int i = 0; i < MOST_PIECES; i++) {
        queries.slot_row[i] += 100;
        states.slot_row[i] += 200;
        assert_int_equal(parcel_fold_piece(s, 0, p, &queries, &states, i, &keys, 7, (head_range){1, 3}), 0);
    }
    int64_t pairs = 0;
    for (int64_t i = 0; i < s->steps[0].fold_count; i++) {
        const schedule_fold *f = &s->steps[0].folds[i];
        assert_int_equal(f->heads.begin, 1);
        assert_int_equal(f->heads.end, 3);
        assert_int_equal(f->query_origin, reader);
        assert_int_equal(f->key_origin, origin);
        assert_int_equal(f->holder, 7);
        assert_int_equal(f->query_slot, 4);
        assert_int_equal(f->state_slot, 5);
        assert_int_equal(f->key_slot, 6);
        assert_int_equal(f->query_slot_row, 100 + f->query_rows.begin);
        assert_int_equal(f->state_slot_row, 200 + f->query_rows.begin);
        assert_int_equal(f->key_slot_row, 300 + f->key_rows.begin - key_rows.begin);
        if (!holds_range(key_rows, f->key_rows)) fail_in(w, "keys of others", reader, origin, piece, f->key_rows);
        pairs += brute_pairs(w, reader, f->query_rows, origin, f->key_rows);
    }
    const range all = {0, layout_rank_tokens(&p->query_layout, reader)};
    if (pairs != brute_pairs(w, reader, all, origin, key_rows))
        fail_in(w, "the folds do not hold all pairs", reader, origin, all, key_rows);
    schedule_destroy(s);
}

static void check_problem(const schedule_problem *p, uint64_t *random)
{
    static world w;
    world_make(&w, p);
    check_needed(&w);
    for (int i = 0; i < 20; i++) check_fold(&w, random);
    for (int i = 0; i < 5; i++) check_added_folds(&w, random);
    world_free(&w);
}

static void rows_and_pairs_equal_counting_for_all_masks_and_layouts(void **state)
{
    (void)state;
    uint64_t random = RANDOM_SEED;
    for (int which = 0; which < 9; which++) {
        mask m;
        for (int64_t index = 0; mask_case_get(1, 1, index, &m); index++) {
            for (int64_t repeat = 0; repeat < 6; repeat++) {
                const int ranks = (int)random_between(&random, 1, 6);
                const int64_t queries = random_between(&random, 0, 40), keys = random_between(&random, 0, 40);
                schedule_problem p =
                    problem_of(kinds[which % 3], queries, keys, random_between(&random, 1, 4), ranks, false);
                p.key_layout.kind = kinds[which / 3];
                p.key_layout.grain = random_between(&random, 1, 4);
                assert_true(mask_case_get(queries, keys, index, &p.mask));
                check_problem(&p, &random);
            }
        }
    }
}

static void rows_and_pairs_equal_counting_for_packed_documents(void **state)
{
    (void)state;
    uint64_t random = RANDOM_SEED;
    document_set set;
    for (int which = 0; which < 9; which++) {
        for (int64_t tokens = 1; tokens <= 40; tokens += 3) {
            for (int64_t index = 0; document_set_get(tokens, index, &set); index++) {
                schedule_problem p = problem_of(kinds[which % 3], tokens, tokens, random_between(&random, 1, 4),
                                                (int)random_between(&random, 1, 6), false);
                p.key_layout.kind = kinds[which / 3];
                assert_true(mask_case_get(tokens, tokens, random_between(&random, 0, 119), &p.mask));
                p.mask.documents = set.offsets;
                p.mask.document_count = set.count;
                check_problem(&p, &random);
            }
        }
    }
}

static void check_fault(schedule_problem p, const char *expected)
{
    assert_non_null(schedule_problem_fault(&p));
    assert_string_equal(schedule_problem_fault(&p), expected);
}

static void problems_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const schedule_problem right = problem_of(LAYOUT_ZIGZAG, 8, 9, 1, 4, true);
    assert_null(schedule_problem_fault(&right));
    schedule_problem p = right;
    p.query_layout.ranks = 0;
    check_fault(p, "there is no rank");
    p = right;
    p.key_layout.ranks = 3;
    check_fault(p, "queries and keys lie on different ranks");
    p = right;
    p.key_layout.grain = 0;
    check_fault(p, "the grain of a layout is less than one token");
    p = right;
    p.query_layout.tokens = 9;
    check_fault(p, "the lengths of the mask and of the layouts differ");
    p = right;
    p.kv_heads = 0;
    check_fault(p, "there is no head");
    p = right;
    p.kv_heads = 3;
    check_fault(p, "the heads are no multiple of the key/value heads");
    p = right;
    p.node_ranks = 3;
    check_fault(p, "the ranks are no multiple of the ranks of a node");
    p = right;
    p.mask.prefix = -1;
    check_fault(p, "the prefix is negative");
    p = problem_of(LAYOUT_ZIGZAG, (int64_t)1 << 31, (int64_t)1 << 31, 1, 4, true);
    check_fault(p, "there are more than 2^62 triples of query, key and head");
}

static void strategies_are_found_by_name(void **state)
{
    (void)state;
    int rows = -1, columns = -1;
    for (int i = 0; i < strategy_count; i++) {
        assert_ptr_equal(strategy_find(strategies[i]->name, &rows, &columns), strategies[i]);
        assert_int_equal(rows, 0);
        assert_int_equal(columns, 0);
        assert_true(strategies[i]->summary[0] != '\0');
    }
    assert_string_equal(strategy_find("hybrid:4x8", &rows, &columns)->name, "hybrid");
    assert_int_equal(rows, 4);
    assert_int_equal(columns, 8);
    const char *const wrong[] = {"",
                                 "rin",
                                 "rings",
                                 "ring:",
                                 "ring:2x2",
                                 "hybrid:",
                                 "hybrid:4",
                                 "hybrid:4x",
                                 "hybrid:x4",
                                 "hybrid:0x4",
                                 "hybrid:4x0",
                                 "hybrid:-1x4",
                                 "hybrid:4x8 ",
                                 "hybrid: 4x8",
                                 "hybrid:4X8",
                                 "hybrid:4x8x2",
                                 "hybrid:99999999999x2"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (strategy_find(wrong[i], &rows, &columns)) fail_msg("takes '%s' for a strategy", wrong[i]);
        assert_int_equal(rows, 0);
        assert_int_equal(columns, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_and_pairs_equal_counting_for_all_masks_and_layouts),
        cmocka_unit_test(rows_and_pairs_equal_counting_for_packed_documents),
        cmocka_unit_test(problems_that_make_no_sense_are_refused),
        cmocka_unit_test(strategies_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
