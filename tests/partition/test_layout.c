#include "partition/layout.h"

#include "tests/partition/brute.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG};
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
    CHECK(largest - smallest <= l->grain, l);
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
        if (i == layout_chunk(l, chunk).begin) CHECK(layout_chunk_row(l, chunk) == map.row[i], l);
    }
    int64_t largest = 0;
    for (int rank = 0; rank < l->ranks; rank++) {
        CHECK(layout_rank_tokens(l, rank) == map.held[rank], l);
        if (map.held[rank] > largest) largest = map.held[rank];
        int64_t before = -1;
        for (int64_t i = 0; i < layout_rank_chunk_count(l, rank); i++) {
            const int64_t chunk = layout_rank_chunk(l, rank, i);
            CHECK(chunk > before && chunk < layout_chunk_count(l), l);
            CHECK(layout_chunk_owner(l, chunk) == rank, l);
            before = chunk;
        }
    }
    CHECK(layout_largest_rank_tokens(l) == largest, l);
    token_map_free(&map);
}

static void owners_and_local_rows_equal_a_walk_over_the_tokens(void **state)
{
    (void)state;
    for_each_layout(140, 7, check_owners);
}

static bool in_runs(const rank_run *runs, int count, int rank)
{
    for (int i = 0; i < count; i++)
        if (runs[i].first <= rank && rank <= runs[i].last) return true;
    return false;
}

static void check_holders(const layout *l)
{
    token_map map;
    token_map_make(&map, l);
    for (int64_t begin = 0; begin <= l->tokens; begin++) {
        for (int64_t end = begin; end <= l->tokens; end++) {
            bool holds[8] = {false};
            for (int64_t i = begin; i < end; i++) holds[map.owner[i]] = true;
            rank_run runs[2];
            const int count = layout_ranks_holding(l, (range){begin, end}, runs);
            CHECK(count >= 0 && count <= 2, l);
            for (int rank = 0; rank < l->ranks; rank++) CHECK(in_runs(runs, count, rank) == holds[rank], l);
        }
    }
    token_map_free(&map);
}

static void ranks_holding_a_range_are_exactly_the_owners_of_its_tokens(void **state)
{
    (void)state;
    for_each_layout(26, 6, check_holders);
}

static bool every_chunk_has_four(layout_kind kind, int64_t tokens, int ranks, int64_t grain)
{
    const layout l = {.kind = kind, .tokens = tokens, .grain = grain, .ranks = ranks};
    for (int64_t c = 0; c < layout_chunk_count(&l); c++)
        if (range_length(layout_chunk(&l, c)) < 4 * grain) return false;
    return true;
}

static void default_grain_is_the_largest_power_of_two_that_leaves_four_grains_a_chunk(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        for (int ranks = 1; ranks <= 5; ranks++) {
            for (int64_t tokens = 0; tokens <= 3000; tokens += 1 + tokens / 50) {
                int64_t expected = 64;
                while (expected > 1 && !every_chunk_has_four(kinds[kind], tokens, ranks, expected)) expected /= 2;
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
}

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        layout_kind kind = kinds[1 - i];
        assert_true(layout_from_name(layout_name(kinds[i]), &kind));
        assert_int_equal(kind, kinds[i]);
    }
    assert_string_equal(layout_name(LAYOUT_ZIGZAG), "zigzag");
    layout_kind kind = LAYOUT_ZIGZAG;
    assert_false(layout_from_name("diagonal", &kind));
    assert_int_equal(kind, LAYOUT_ZIGZAG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_cover_the_tokens_once_on_the_grid_and_differ_by_a_grain),
        cmocka_unit_test(owners_and_local_rows_equal_a_walk_over_the_tokens),
        cmocka_unit_test(ranks_holding_a_range_are_exactly_the_owners_of_its_tokens),
        cmocka_unit_test(default_grain_is_the_largest_power_of_two_that_leaves_four_grains_a_chunk),
        cmocka_unit_test(zigzag_gives_each_rank_an_early_and_a_late_chunk),
        cmocka_unit_test(sizes_near_the_end_of_int64_do_not_overflow),
        cmocka_unit_test(names_go_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
