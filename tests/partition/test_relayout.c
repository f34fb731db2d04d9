#include "partition/relayout.h"

#include "tests/partition/brute.h"
#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MOST_RANKS = 8, RANDOM_SEED = 7 };

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG, LAYOUT_STRIPED};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* The moves of all ranks of one pair of layouts, and where the tokens must go. */
typedef struct {
    const layout *from, *to;
    token_map before, after;
    relayout plans[MOST_RANKS];
    int64_t *token_at[MOST_RANKS]; /* [rank][row] of `from` */
    int64_t *arrived[MOST_RANKS];  /* [rank][row] of `to`: the token that came, -1 before */
} journey;

static void fail_journey(const journey *j, const char *what, int sender, int receiver)
{
    fail_msg("%s: N=%" PRId64 ", P=%d, from %s grain %" PRId64 " to %s grain %" PRId64 ", rank %d to %d", what,
             j->from->tokens, j->from->ranks, layout_name(j->from->kind), j->from->grain, layout_name(j->to->kind),
             j->to->grain, sender, receiver);
}

/* The next move of a rank's plan, from *at on, of a pair of ranks. */
static const relayout_move *next_move(const relayout *r, int sender, int receiver, int64_t *at)
{
    while (*at < r->move_count) {
        const relayout_move *move = &r->moves[(*at)++];
        if (move->sender == sender && move->receiver == receiver) return move;
    }
    return NULL;
}

static bool moves_match(const relayout_move *a, const relayout_move *b)
{
    return a->from == b->from && a->to == b->to && a->count == b->count && a->length == b->length &&
           a->from_step == b->from_step && a->to_step == b->to_step;
}

/* Sender and receiver list the same messages in the same order. */
static void check_twins(const journey *j, int sender, int receiver)
{
    int64_t sent = 0, received = 0;
    const relayout_move *s, *r;
    do {
        s = next_move(&j->plans[sender], sender, receiver, &sent);
        r = next_move(&j->plans[receiver], sender, receiver, &received);
        if (!s != !r) fail_journey(j, "a message without a twin", sender, receiver);
        if (s && !moves_match(s, r)) fail_journey(j, "twins that differ", sender, receiver);
    } while (s);
}

static void carry(journey *j, const relayout_move *move)
{
    for (int64_t i = 0; i < move->count; i++)
        for (int64_t n = 0; n < move->length; n++) {
            const int64_t from = move->from + i * move->from_step + n, to = move->to + i * move->to_step + n;
            if (from < 0 || from >= j->before.held[move->sender] || to < 0 || to >= j->after.held[move->receiver])
                fail_journey(j, "a row that is not there", move->sender, move->receiver);
            if (j->arrived[move->receiver][to] != -1) fail_journey(j, "a row twice", move->sender, move->receiver);
            j->arrived[move->receiver][to] = j->token_at[move->sender][from];
        }
}

static void check_rank(journey *j, int rank)
{
    int64_t rows[2] = {0, 0};
    const relayout *r = &j->plans[rank];
    for (int64_t i = 0; i < r->move_count; i++) {
        const relayout_move *move = &r->moves[i];
        if (move->sender != rank && move->receiver != rank)
            fail_journey(j, "a move of others", move->sender, move->receiver);
        if (move->count < 1 || move->length < 1) fail_journey(j, "an empty move", move->sender, move->receiver);
        if (move->sender == rank) carry(j, move);
        if (move->sender != move->receiver) rows[move->sender == rank] += move->count * move->length;
    }
    if (r->rows_sent != rows[1] || r->rows_received != rows[0]) fail_journey(j, "wrong numbers of rows", rank, rank);
}

static void check_journey(const layout *from, const layout *to)
{
    journey j = {.from = from, .to = to};
    token_map_make(&j.before, from);
    token_map_make(&j.after, to);
    for (int rank = 0; rank < from->ranks; rank++) {
        assert_int_equal(relayout_plan(from, to, rank, &j.plans[rank]), 0);
        j.token_at[rank] = test_allocate((size_t)j.before.held[rank], sizeof(int64_t));
        j.arrived[rank] = test_allocate((size_t)j.after.held[rank], sizeof(int64_t));
        for (int64_t row = 0; row < j.after.held[rank]; row++) j.arrived[rank][row] = -1;
    }
    for (int64_t i = 0; i < from->tokens; i++) j.token_at[j.before.owner[i]][j.before.row[i]] = i;
    for (int rank = 0; rank < from->ranks; rank++) check_rank(&j, rank);
    for (int a = 0; a < from->ranks; a++)
        for (int b = 0; b < from->ranks; b++) check_twins(&j, a, b);
    for (int64_t i = 0; i < from->tokens; i++)
        if (j.arrived[j.after.owner[i]][j.after.row[i]] != i)
            fail_journey(&j, "a token that does not arrive", j.before.owner[i], j.after.owner[i]);
    for (int rank = 0; rank < from->ranks; rank++) {
        relayout_free(&j.plans[rank]);
        free(j.token_at[rank]);
        free(j.arrived[rank]);
    }
    token_map_free(&j.before);
    token_map_free(&j.after);
}

static void every_token_arrives_once_between_all_layouts(void **state)
{
    (void)state;
    const int64_t grains[] = {1, 2, 3, 4, 6, 64};
    enum { GRAINS = sizeof grains / sizeof grains[0] };
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
        for (int64_t tokens = 0; tokens <= 75; tokens += ranks < 4 || tokens < 9 ? 1 : 7)
            for (int which = 0; which < KINDS * KINDS * GRAINS * GRAINS; which++) {
                const int a = which % KINDS, b = which / KINDS % KINDS, grain = which / KINDS / KINDS;
                check_journey(&(layout){kinds[a], tokens, grains[grain % GRAINS], ranks},
                              &(layout){kinds[b], tokens, grains[grain / GRAINS], ranks});
            }
}

static void every_token_arrives_once_with_random_grains(void **state)
{
    (void)state;
    uint64_t random = RANDOM_SEED;
    for (int i = 0; i < 4000; i++) {
        const int64_t tokens = random_between(&random, 0, 1500);
        const int ranks = (int)random_between(&random, 1, MOST_RANKS);
        const layout from = {kinds[random_between(&random, 0, 2)], tokens, random_between(&random, 1, 40), ranks};
        const layout to = {kinds[random_between(&random, 0, 2)], tokens, random_between(&random, 1, 40), ranks};
        check_journey(&from, &to);
    }
}

static int64_t moves_between(const layout *from, const layout *to, int rank)
{
    relayout r;
    assert_int_equal(relayout_plan(from, to, rank, &r), 0);
    const int64_t moves = r.move_count, kept = layout_rank_tokens(from, rank) - r.rows_sent;
    assert_int_equal(kept, layout_rank_tokens(to, rank) - r.rows_received);
    relayout_free(&r);
    return moves;
}

/* Each pair of ranks: a cut stripe, whole ones, and a cut one, for each chunk. */
static void a_million_stripes_of_one_token_make_a_few_moves_a_pair(void **state)
{
    (void)state;
    const int64_t tokens = 1000003;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
        const layout contiguous = {LAYOUT_CONTIGUOUS, tokens, 64, ranks}, zigzag = {LAYOUT_ZIGZAG, tokens, 64, ranks},
                     striped = {LAYOUT_STRIPED, tokens, 1, ranks}, coarse = {LAYOUT_STRIPED, tokens, 64, ranks};
        for (int rank = 0; rank < ranks; rank++) {
            const int64_t pairs = 2 * ranks - 1;
            assert_true(moves_between(&contiguous, &striped, rank) <= pairs);
            assert_true(moves_between(&striped, &contiguous, rank) <= pairs);
            assert_true(moves_between(&coarse, &contiguous, rank) <= 3 * pairs);
            assert_true(moves_between(&zigzag, &coarse, rank) <= 2 * 3 * pairs);
            assert_true(moves_between(&striped, &coarse, rank) <= 2 * (64 + 1) * pairs);
        }
    }
}

static void equal_layouts_move_nothing_and_copy_a_shard_at_once(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        const layout l = {kinds[kind], 4096, 16, 4};
        for (int rank = 0; rank < l.ranks; rank++) {
            relayout r;
            assert_int_equal(relayout_plan(&l, &l, rank, &r), 0);
            assert_int_equal(r.rows_sent, 0);
            assert_int_equal(r.rows_received, 0);
            assert_int_equal(r.move_count, layout_piece_count(&l));
            relayout_free(&r);
        }
    }
}

static void huge_grains_do_not_overflow(void **state)
{
    (void)state;
    const int64_t tokens = 1000;
    const int64_t huge = (int64_t)1 << 62;
    for (int which = 0; which < KINDS * KINDS; which++) {
        check_journey(&(layout){kinds[which % KINDS], tokens, huge, 3},
                      &(layout){kinds[which / KINDS], tokens, ((int64_t)1 << 61) + 1, 3});
        check_journey(&(layout){kinds[which % KINDS], tokens, 7, 3}, &(layout){kinds[which / KINDS], tokens, huge, 3});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_arrives_once_between_all_layouts),
        cmocka_unit_test(every_token_arrives_once_with_random_grains),
        cmocka_unit_test(a_million_stripes_of_one_token_make_a_few_moves_a_pair),
        cmocka_unit_test(equal_layouts_move_nothing_and_copy_a_shard_at_once),
        cmocka_unit_test(huge_grains_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
