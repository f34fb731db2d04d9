/* What the ranks of a ring and of a gather send and receive, against the closed forms that their files state. */
#include "partition/schedule.h"

#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { SHARD = 12, MOST_RANKS = 16 };

typedef struct {
    int64_t sent, received; /* rows */
} traffic;

static traffic traffic_of(const char *name, const schedule_problem *p, int rank)
{
    int rows, columns;
    schedule *s = NULL;
    assert_int_equal(strategy_find(name, &rows, &columns)->plan(p, rank, &s), 0);
    traffic moved = {0, 0};
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t n = 0; n < s->steps[i].transfer_count; n++) {
            const schedule_transfer *t = &s->steps[i].transfers[n];
            assert_int_equal(t->kind, ROWS_KEYS);
            *(t->direction == TRANSFER_SEND ? &moved.sent : &moved.received) += range_length(t->rows);
        }
    schedule_destroy(s);
    return moved;
}

static void check(const char *name, const schedule_problem *p, int rank, traffic expected)
{
    const traffic got = traffic_of(name, p, rank);
    if (got.sent == expected.sent && got.received == expected.received) return;
    char text[1024];
    problem_describe(p, name, text, sizeof text);
    fail_msg("%s, rank %d: sends %" PRId64 " rows, not %" PRId64 "; receives %" PRId64 ", not %" PRId64, text, rank,
             got.sent, expected.sent, got.received, expected.received);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void a_full_mask_moves_every_other_shard_to_every_rank(void **state)
{
    (void)state;
    const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG, LAYOUT_STRIPED};
    for (int kind = 0; kind < 3; kind++)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (int rank = 0; rank < ranks; rank++) {
                const schedule_problem p = problem_of(kinds[kind], ranks * SHARD, ranks * SHARD, 1, ranks, false);
                const traffic others = {(ranks - 1) * SHARD, (ranks - 1) * SHARD};
                check("ring", &p, rank, others);
                check("gather", &p, rank, others);
            }
}

static void causal_contiguous_shards_move_up_only(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
        for (int rank = 0; rank < ranks; rank++) {
            const schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, ranks * SHARD, ranks * SHARD, 1, ranks, true);
            check("ring", &p, rank, (traffic){rank < ranks - 1 ? (rank + 1) * SHARD : 0, rank * SHARD});
            check("gather", &p, rank, (traffic){(ranks - 1 - rank) * SHARD, rank * SHARD});
        }
}

static void causal_zigzag_shards_save_a_quarter_on_a_ring(void **state)
{
    (void)state;
    const int64_t half = SHARD / 2;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
        int64_t sent = 0;
        for (int rank = 0; rank < ranks; rank++) {
            const schedule_problem p = problem_of(LAYOUT_ZIGZAG, ranks * SHARD, ranks * SHARD, 1, ranks, true);
            const int64_t early = (ranks - 1) * half;
            check("ring", &p, rank,
                  (traffic){early + (rank > 0 ? (ranks - rank) * half : 0), early + (ranks - 1 - rank) * half});
            check("gather", &p, rank, (traffic){early + rank * half, (2 * ranks - 2 - rank) * half});
            sent += traffic_of("ring", &p, rank).sent;
        }
        assert_int_equal(4 * sent, 3 * ranks * (ranks - 1) * SHARD);
    }
}

static void causal_stripes_move_all_but_a_block_of_each_shard(void **state)
{
    (void)state;
    const char *const names[] = {"ring", "gather"};
    const int block = 3;
    for (int i = 0; i < 2; i++)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (int rank = 0; rank < ranks; rank++) {
                const schedule_problem p = problem_of(LAYOUT_STRIPED, ranks * SHARD, ranks * SHARD, block, ranks, true);
                const traffic got = traffic_of(names[i], &p, rank);
                assert_true(got.sent <= (ranks - 1) * SHARD && got.sent >= (ranks - 1) * (SHARD - block));
                assert_true(got.received <= (ranks - 1) * SHARD && got.received >= (ranks - 1) * (SHARD - block));
            }
}

static void a_window_moves_its_width_however_many_shards_it_spans(void **state)
{
    (void)state;
    for (int64_t width = 0; width <= 5 * SHARD; width += 5)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (int rank = 0; rank < ranks; rank++) {
                schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, ranks * SHARD, ranks * SHARD, 1, ranks, true);
                p.mask.window_left = width;
                const int64_t received = smaller(width, rank * SHARD);
                const int64_t passed = rank < ranks - 1 ? smaller(width, (rank + 1) * SHARD) : 0;
                check("ring", &p, rank, (traffic){passed, received});
                assert_int_equal(traffic_of("gather", &p, rank).received, received);
            }
}

static void a_gather_under_a_window_exchanges_a_halo(void **state)
{
    (void)state;
    const int64_t left = 5, right = 3;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
        for (int rank = 0; rank < ranks; rank++) {
            schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, ranks * SHARD, ranks * SHARD, 1, ranks, false);
            p.mask.window_left = left;
            p.mask.window_right = right;
            const int64_t before = rank > 0, after = rank < ranks - 1;
            check("gather", &p, rank, (traffic){before * right + after * left, before * left + after * right});
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_mask_moves_every_other_shard_to_every_rank),
        cmocka_unit_test(causal_contiguous_shards_move_up_only),
        cmocka_unit_test(causal_zigzag_shards_save_a_quarter_on_a_ring),
        cmocka_unit_test(causal_stripes_move_all_but_a_block_of_each_shard),
        cmocka_unit_test(a_window_moves_its_width_however_many_shards_it_spans),
        cmocka_unit_test(a_gather_under_a_window_exchanges_a_halo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
