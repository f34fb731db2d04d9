#include "partition/layout.h"

#include "tests/partition/brute.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG, LAYOUT_STRIPED};
static const int64_t grains[] = {1, 2, 3, 4, 5, 8, 64};
enum { KINDS = sizeof kinds / sizeof kinds[0], GRAINS = sizeof grains / sizeof grains[0] };

#define CHECK(condition, l)                                                                                            \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail_msg("%s: kind %d, N=%" PRId64 ", grain %" PRId64 ", P=%d", #condition, (int)(l)->kind, (l)->tokens,   \
                     (l)->grain, (l)->ranks);                                                                          \
    } while (0)

static void for_each_layout(int64_t most_tokens, int most_ranks, void (*check)(const layout *l))
{
    for (int kind = 0; kind < KINDS; kind++)
        for (int ranks = 1; ranks <= most_ranks; ranks++)
            for (int g = 0; g < GRAINS; g++)
                for (int64_t tokens = 0; tokens <= most_tokens; tokens++)
                    check(&(layout){.kind = kinds[kind], .tokens = tokens, .grain = grains[g], .ranks = ranks});
}

static void check_chunks(const layout *l)
{
    int64_t at = 0, smallest = INT64_MAX, largest = 0, last_used = 0;
    for (int64_t c = 0; c < layout_chunk_count(l); c++) {
        const range r = layout_chunk(l, c);
        CHECK(r.begin == at && r.end >= r.begin, l);
        const int64_t length = r.end - r.begin;
        if (length < smallest) smallest = length;
        if (length > largest) largest = length;
        if (length > 0) {
            CHECK(r.begin % l->grain == 0, l);
            last_used = r.end;
        }
        at = r.end;
    }
    CHECK(at == l->tokens && last_used == l->tokens, l);
    if (l->kind != LAYOUT_STRIPED) CHECK(largest - smallest <= l->grain, l);
}

static void chunks_cover_the_tokens_once_on_the_grid_and_differ_by_a_grain(void **state)
{
    (void)state;
    for_each_layout(200, 9, check_chunks);
}

static void check_owners(const layout *l)
{
    token_map map;
    token_map_make(&map, l);
    for (int64_t i = 0; i < l->tokens; i++) {
        const int64_t chunk = layout_chunk_of_token(l, i);
        CHECK(chunk == map.chunk[i], l);
        CHECK(layout_chunk_owner(l, chunk) == map.owner[i], l);
        CHECK(layout_local_row(l, i) == map.row[i], l);
        CHECK(layout_token(l, map.owner[i], map.row[i]) == i, l);
        if (i == layout_chunk(l, chunk).begin) CHECK(layout_chunk_row(l, chunk) == map.row[i], l);
    }
    for (int rank = 0; rank < l->ranks; rank++) {
        CHECK(layout_rank_tokens(l, rank) == map.held[rank], l);
        int64_t before = -1;
        for (int64_t i = 0; i < layout_rank_chunk_count(l, rank); i++) {
            const int64_t chunk = layout_rank_chunk(l, rank, i);
            CHECK(chunk > before && chunk < layout_chunk_count(l), l);
            CHECK(layout_chunk_owner(l, chunk) == rank, l);
            before = chunk;
        }
    }
    token_map_free(&map);
}

static void owners_and_local_rows_equal_a_walk_over_the_tokens(void **state)
{
    (void)state;
    for_each_layout(140, 7, check_owners);
}

static void check_pieces(const layout *l)
{
    token_map map;
    token_map_make(&map, l);
    for (int rank = 0; rank < l->ranks; rank++) {
        int64_t at = 0;
        for (int i = 0; i < layout_piece_count(l); i++) {
            const range piece = layout_piece(l, rank, i);
            CHECK(piece.begin == at && piece.end >= piece.begin, l);
            at = piece.end;
        }
        CHECK(at == map.held[rank], l);
    }
    for (int64_t i = 0; i < l->tokens && l->kind != LAYOUT_STRIPED; i++) { /* chunks and pieces are the same */
        const range piece = layout_piece(l, map.owner[i], map.chunk[i] < l->ranks ? 0 : 1);
        CHECK(piece.begin <= map.row[i] && map.row[i] < piece.end, l);
        CHECK(layout_hull(l, map.owner[i], piece).begin == layout_chunk(l, map.chunk[i]).begin, l);
        CHECK(layout_hull(l, map.owner[i], piece).end == layout_chunk(l, map.chunk[i]).end, l);
    }
    token_map_free(&map);
}

static void pieces_cut_the_rows_of_a_rank_and_are_chunks_unless_striped(void **state)
{
    (void)state;
    for_each_layout(140, 7, check_pieces);
}

/* Rows [rows.begin, rows.end) of a rank, against the tokens [x, y) for all x and y. */
static void check_rows(const layout *l, const token_map *map, int rank, range rows)
{
    int64_t first = -1, last = -1;
    for (int64_t i = 0; i < l->tokens; i++) {
        if (map->owner[i] != rank || map->row[i] < rows.begin || map->row[i] >= rows.end) continue;
        if (first < 0) first = i;
        last = i;
    }
    const range hull = layout_hull(l, rank, rows);
    CHECK(first < 0 ? range_is_empty(hull) : hull.begin == first && hull.end == last + 1, l);
    for (int64_t x = 0; x <= l->tokens; x++) {
        range within = {0, 0};
        for (int64_t y = x; y <= l->tokens; y++) {
            const range got = layout_rows_within(l, rank, rows, (range){x, y});
            CHECK(range_is_empty(within) ? range_is_empty(got) : got.begin == within.begin && got.end == within.end, l);
            if (y == l->tokens || map->owner[y] != rank) continue;
            if (map->row[y] < rows.begin || map->row[y] >= rows.end) continue;
            within = range_hull(within, (range){map->row[y], map->row[y] + 1});
        }
    }
}

static void check_rows_of_layout(const layout *l)
{
    token_map map;
    token_map_make(&map, l);
    for (int rank = 0; rank < l->ranks; rank++) {
        int64_t before = 0;
        CHECK(layout_rows_before(l, rank, -1) == 0, l);
        for (int64_t i = 0; i < l->tokens; i++) {
            CHECK(layout_rows_before(l, rank, i) == before, l);
            before += map.owner[i] == rank;
        }
        CHECK(layout_rows_before(l, rank, l->tokens) == before, l);
        CHECK(layout_rows_before(l, rank, l->tokens + 1) == before, l);
        for (int i = 0; i < layout_piece_count(l); i++) {
            const range piece = layout_piece(l, rank, i);
            for (int64_t a = piece.begin; a <= piece.end; a++)
                for (int64_t b = a; b <= piece.end; b++) check_rows(l, &map, rank, (range){a, b});
        }
    }
    token_map_free(&map);
}

static void rows_of_tokens_and_tokens_of_rows_equal_a_walk(void **state)
{
    (void)state;
    for_each_layout(26, 6, check_rows_of_layout);
}

static int64_t smallest_part(layout_kind kind, int64_t tokens, int ranks, int64_t grain)
{
    const layout l = {.kind = kind, .tokens = tokens, .grain = grain, .ranks = ranks};
    int64_t smallest = INT64_MAX;
    for (int rank = 0; rank < ranks; rank++)
        for (int i = 0; i < layout_piece_count(&l); i++) {
            const int64_t length = range_length(layout_piece(&l, rank, i));
            if (length < smallest) smallest = length;
        }
    return smallest;
}

static void default_grain_is_the_largest_power_of_two_that_leaves_four_grains_a_piece(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        for (int ranks = 1; ranks <= 5; ranks++) {
            for (int64_t tokens = 0; tokens <= 3000; tokens += 1 + tokens / 50) {
                int64_t expected = 64;
                while (expected > 1 && smallest_part(kinds[kind], tokens, ranks, expected) < 4 * expected)
                    expected /= 2;
                assert_int_equal(layout_default_grain(kinds[kind], tokens, ranks), expected);
            }
        }
    }
}

static void zigzag_gives_each_rank_an_early_and_a_late_chunk(void **state)
{
    (void)state;
    const layout l = {.kind = LAYOUT_ZIGZAG, .tokens = 80, .grain = 10, .ranks = 4};
    assert_int_equal(layout_rank_chunk_count(&l, 1), 2);
    const range early = layout_chunk(&l, layout_rank_chunk(&l, 1, 0)),
                late = layout_chunk(&l, layout_rank_chunk(&l, 1, 1));
    assert_int_equal(early.begin, 10);
    assert_int_equal(early.end, 20);
    assert_int_equal(late.begin, 60);
    assert_int_equal(late.end, 70);
    assert_int_equal(layout_local_row(&l, 65), 15);
}

static void stripes_are_dealt_in_turn(void **state)
{
    (void)state;
    /* | 0 1 2 | 3 4 5 | 6 7 8 | 9 |: ranks 0, 1, 0, 1 */
    const layout l = {.kind = LAYOUT_STRIPED, .tokens = 10, .grain = 3, .ranks = 2};
    assert_int_equal(layout_rank_tokens(&l, 0), 6);
    assert_int_equal(layout_rank_tokens(&l, 1), 4);
    assert_int_equal(layout_token(&l, 0, 3), 6);
    assert_int_equal(layout_token(&l, 1, 3), 9);
    assert_int_equal(layout_rows_before(&l, 0, 7), 4);
    assert_int_equal(layout_local_row(&l, 4), 1);
}

static void sizes_near_the_end_of_int64_do_not_overflow(void **state)
{
    (void)state;
    const layout l = {.kind = LAYOUT_ZIGZAG, .tokens = INT64_MAX, .grain = 64, .ranks = 4096};
    int64_t at = 0;
    for (int64_t c = 0; c < layout_chunk_count(&l); c++) {
        const range r = layout_chunk(&l, c);
        assert_true(r.begin == at && r.end > r.begin);
        at = r.end;
    }
    assert_true(at == INT64_MAX);
    assert_int_equal(layout_chunk_of_token(&l, INT64_MAX - 1), 8191);
    assert_int_equal(layout_default_grain(LAYOUT_ZIGZAG, INT64_MAX, 4096), 64);

    const layout striped = {.kind = LAYOUT_STRIPED, .tokens = INT64_MAX, .grain = 64, .ranks = 4096};
    int64_t rows = 0;
    for (int rank = 0; rank < striped.ranks; rank++) rows += layout_rank_tokens(&striped, rank);
    assert_true(rows == INT64_MAX);
    assert_true(layout_token(&striped, 4095, layout_rank_tokens(&striped, 4095) - 1) == INT64_MAX - 1);
    assert_int_equal(layout_local_row(&striped, INT64_MAX - 1), layout_rank_tokens(&striped, 4095) - 1);
}

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        layout_kind kind = kinds[(i + 1) % KINDS];
        int64_t block = -1;
        assert_true(layout_from_name(layout_name(kinds[i]), &kind, &block));
        assert_int_equal(kind, kinds[i]);
        assert_int_equal(block, 0);
    }
    assert_string_equal(layout_name(LAYOUT_ZIGZAG), "zigzag");
    layout_kind kind = LAYOUT_ZIGZAG;
    int64_t block = -1;
    assert_true(layout_from_name("striped:128", &kind, &block));
    assert_int_equal(kind, LAYOUT_STRIPED);
    assert_int_equal(block, 128);
}

static void names_of_no_layout_are_refused_and_set_nothing(void **state)
{
    (void)state;
    const char *const wrong[] = {"diagonal",   "",
                                 "zig",        "zigzags",
                                 "striped:",   "striped:0",
                                 "striped:-4", "striped:4x",
                                 "striped: 4", "striped:4:4",
                                 "zigzag:64",  "contiguous:1",
                                 ":4",         "striped:99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        layout_kind kind = LAYOUT_ZIGZAG;
        int64_t block = -1;
        if (layout_from_name(wrong[i], &kind, &block)) fail_msg("takes '%s' for a layout", wrong[i]);
        assert_int_equal(kind, LAYOUT_ZIGZAG);
        assert_int_equal(block, -1);
    }
}

static void layouts_are_equal_only_in_all_fields(void **state)
{
    (void)state;
    const layout a = {.kind = LAYOUT_STRIPED, .tokens = 10, .grain = 3, .ranks = 2};
    layout others[] = {a, a, a, a};
    assert_true(layouts_equal(&a, &others[0]));
    others[0].kind = LAYOUT_ZIGZAG;
    others[1].tokens++;
    others[2].grain++;
    others[3].ranks++;
    for (int i = 0; i < 4; i++) assert_false(layouts_equal(&a, &others[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_cover_the_tokens_once_on_the_grid_and_differ_by_a_grain),
        cmocka_unit_test(owners_and_local_rows_equal_a_walk_over_the_tokens),
        cmocka_unit_test(pieces_cut_the_rows_of_a_rank_and_are_chunks_unless_striped),
        cmocka_unit_test(rows_of_tokens_and_tokens_of_rows_equal_a_walk),
        cmocka_unit_test(default_grain_is_the_largest_power_of_two_that_leaves_four_grains_a_piece),
        cmocka_unit_test(zigzag_gives_each_rank_an_early_and_a_late_chunk),
        cmocka_unit_test(stripes_are_dealt_in_turn),
        cmocka_unit_test(sizes_near_the_end_of_int64_do_not_overflow),
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(names_of_no_layout_are_refused_and_set_nothing),
        cmocka_unit_test(layouts_are_equal_only_in_all_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
