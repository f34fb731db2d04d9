/* What each rank sends and receives, counted from its schedule, is the closed form that its strategy states: all
 * strategies but ring and gather, which have test_traffic.c. All lengths divide here: N tokens a rank. */
#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { N = 24, WINDOW = 10, MOST_RANKS = 12, HEADS = 24, KV_HEADS = 12 };

/* Rows times heads, by kind. */
typedef struct {
    int64_t rows[ROWS_KINDS];
} traffic;

/* To or from ranks of this node, or of others, or of all. */
typedef enum { ANYWHERE, IN_THE_NODE, BETWEEN_NODES } which_peers;

static traffic count_traffic(const schedule *s, transfer_direction direction, which_peers which, int node_ranks)
{
    traffic counted = {{0}};
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t j = 0; j < s->steps[i].transfer_count; j++) {
            const schedule_transfer *t = &s->steps[i].transfers[j];
            const bool in_node = t->peer / node_ranks == s->rank / node_ranks;
            if (t->direction != direction || (which == IN_THE_NODE && !in_node) || (which == BETWEEN_NODES && in_node))
                continue;
            counted.rows[t->kind] += range_length(t->rows) * heads_count(t->heads);
        }
    return counted;
}

static schedule_problem problem_with(layout_kind kind, int ranks, bool causal)
{
    schedule_problem p = problem_of(kind, (int64_t)ranks * N, (int64_t)ranks * N, 1, ranks, causal);
    p.heads = HEADS;
    p.kv_heads = KV_HEADS;
    p.may_share = true;
    return p;
}

static schedule_problem windowed(int ranks)
{
    schedule_problem p = problem_with(LAYOUT_CONTIGUOUS, ranks, true);
    p.mask.window_left = WINDOW;
    return p;
}

static schedule *plan(const char *name, const schedule_problem *p, int rank)
{
    int rows, columns;
    schedule *s = NULL;
    const strategy *how = strategy_find(name, &rows, &columns);
    assert_non_null(how);
    assert_null(how->refuse(p));
    assert_int_equal(how->plan(p, rank, &s), 0);
    return s;
}

static void assert_traffic(const char *name, const schedule_problem *p, int rank, transfer_direction direction,
                           which_peers which, traffic expected)
{
    schedule *s = plan(name, p, rank);
    const traffic counted = count_traffic(s, direction, which, p->node_ranks);
    schedule_destroy(s);
    for (int kind = 0; kind < ROWS_KINDS; kind++) {
        if (counted.rows[kind] == expected.rows[kind]) continue;
        char text[512];
        problem_describe(p, name, text, sizeof text);
        fail_msg("%s: rank %d %s %" PRId64 " rows times heads of kind %d, not %" PRId64, text, rank,
                 direction == TRANSFER_SEND ? "sends" : "receives", counted.rows[kind], kind, expected.rows[kind]);
    }
}

static traffic keys_only(int64_t rows)
{
    return (traffic){{rows * KV_HEADS, 0, 0}};
}

/* K nodes of L ranks. Between nodes, rank (k, i) passes on K-1 shards, or those of the nodes up to its own where there
 * is one above. In the node, L-1 shards a round; causal, contiguous, from its own node only those of ranks up to its
 * own, unless it is last. A window reaches over the border of a node by way of the first rank of the next. */
static void double_ring_crosses_between_nodes_once_a_node(void **state)
{
    (void)state;
    for (int nodes = 1; nodes <= 4; nodes++) {
        for (int size = 2; size <= 3; size++) {
            const int ranks = nodes * size;
            for (int rank = 0; rank < ranks; rank++) {
                const int node = rank / size, index = rank % size;
                const bool last_node = node == nodes - 1, last_index = index == size - 1;
                const struct {
                    schedule_problem p;
                    int64_t between, within;
                } cases[] = {
                    {problem_with(LAYOUT_ZIGZAG, ranks, false), (nodes - 1) * N, nodes * (size - 1) * N},
                    {problem_with(LAYOUT_STRIPED, ranks, false), (nodes - 1) * N, nodes * (size - 1) * N},
                    {problem_with(LAYOUT_CONTIGUOUS, ranks, true), last_node ? 0 : (node + 1) * N,
                     node * (size - 1) * N + (last_index ? 0 : (index + 1) * N)},
                    {windowed(ranks), last_index && !last_node ? WINDOW : 0, !last_index || node > 0 ? WINDOW : 0},
                };
                for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                    schedule_problem p = cases[i].p;
                    p.node_ranks = size;
                    assert_traffic("double-ring", &p, rank, TRANSFER_SEND, BETWEEN_NODES, keys_only(cases[i].between));
                    assert_traffic("double-ring", &p, rank, TRANSFER_SEND, IN_THE_NODE, keys_only(cases[i].within));
                }
            }
        }
    }
}

/* The exchange between nodes is spread over a round: no step sends more than an L-th of a shard to another node. */
static void double_ring_spreads_the_exchange_between_nodes_over_a_round(void **state)
{
    (void)state;
    const int nodes = 3, size = 4;
    schedule_problem p = problem_with(LAYOUT_CONTIGUOUS, nodes * size, false);
    p.node_ranks = size;
    for (int rank = 0; rank < nodes * size; rank++) {
        schedule *s = plan("double-ring", &p, rank);
        assert_int_equal(s->step_count, nodes * size);
        for (int64_t i = 0; i < s->step_count; i++) {
            int64_t rows = 0;
            for (int64_t j = 0; j < s->steps[i].transfer_count; j++) {
                const schedule_transfer *t = &s->steps[i].transfers[j];
                if (t->direction == TRANSFER_SEND && t->peer / size != rank / size) rows += range_length(t->rows);
            }
            assert_int_equal(rows, i < (nodes - 1) * size ? N / size : 0);
        }
        schedule_destroy(s);
    }
}

/* Nothing within a node. Between nodes as a ring of nodes. */
static void shared_sends_between_nodes_only(void **state)
{
    (void)state;
    for (int nodes = 1; nodes <= 4; nodes++) {
        for (int size = 1; size <= 3; size++) {
            const int ranks = nodes * size;
            for (int rank = 0; rank < ranks; rank++) {
                const int node = rank / size, index = rank % size;
                const bool last_node = node == nodes - 1;
                const struct {
                    schedule_problem p;
                    int64_t between;
                } cases[] = {
                    {problem_with(LAYOUT_ZIGZAG, ranks, false), (nodes - 1) * N},
                    {problem_with(LAYOUT_CONTIGUOUS, ranks, true), last_node ? 0 : (node + 1) * N},
                    {windowed(ranks), index == size - 1 && !last_node ? WINDOW : 0},
                };
                for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                    schedule_problem p = cases[i].p;
                    p.node_ranks = size;
                    assert_traffic("shared", &p, rank, TRANSFER_SEND, BETWEEN_NODES, keys_only(cases[i].between));
                    assert_traffic("shared", &p, rank, TRANSFER_SEND, IN_THE_NODE, keys_only(0));
                }
            }
        }
    }
}

/* C - 1 of C parts of the heads leave the rank, of queries, keys and states; keys also travel between R groups. Under a
 * causal mask every key is still seen by somebody, and every query sees one. */
static void heads_and_hybrid_send_their_closed_form(void **state)
{
    (void)state;
    static const int columns_tried[] = {1, 2, 3, 4, 6, 12};
    for (size_t c = 0; c < sizeof columns_tried / sizeof columns_tried[0]; c++) {
        const int columns = columns_tried[c];
        for (int groups = 1; groups * columns <= MOST_RANKS; groups++) {
            for (int rank = 0; rank < groups * columns; rank++) {
                const int group = rank / columns;
                const int64_t others = (int64_t)N * (columns - 1) / columns;
                const int64_t upwards = group < groups - 1 ? (int64_t)(group + 1) * N : 0;
                const struct {
                    schedule_problem p;
                    int64_t ring;
                } cases[] = {
                    {problem_with(LAYOUT_ZIGZAG, groups * columns, false), (int64_t)(groups - 1) * N},
                    {problem_with(LAYOUT_STRIPED, groups * columns, false), (int64_t)(groups - 1) * N},
                    {problem_with(LAYOUT_CONTIGUOUS, groups * columns, true), upwards},
                };
                for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                    schedule_problem p = cases[i].p;
                    p.columns = columns;
                    const traffic sent = {{(others + cases[i].ring) * KV_HEADS, others * HEADS, others * HEADS}};
                    assert_traffic("hybrid", &p, rank, TRANSFER_SEND, ANYWHERE, sent);
                    if (groups == 1) assert_traffic("heads", &p, rank, TRANSFER_SEND, ANYWHERE, sent);
                }
            }
        }
    }
}

/* Twice as many queries as keys, the last at the last key: those of the first half see nothing and stay at home, and no
 * state comes back for them. */
static void heads_leave_at_home_queries_that_see_nothing(void **state)
{
    (void)state;
    const int ranks = 4;
    schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, 2 * ranks * N, ranks * N, 1, ranks, true);
    p.heads = HEADS;
    p.kv_heads = KV_HEADS;
    for (int rank = 0; rank < ranks; rank++) {
        const bool blind = rank < ranks / 2;
        const int64_t keys = (ranks - 1) * N * KV_HEADS / ranks, to_one = 2 * N * HEADS / ranks;
        const int64_t guests = ranks / 2 - (blind ? 0 : 1);
        const traffic sent = {{keys, blind ? 0 : (ranks - 1) * to_one, guests * to_one}};
        assert_traffic("heads", &p, rank, TRANSFER_SEND, ANYWHERE, sent);
    }
}

/* Full: every rank's queries go to all, and as many states come back. Causal, contiguous: rank r visits the r ranks
 * before it and is visited by those after it. A window: the first W queries see keys of the rank before. */
static void queries_sends_its_closed_form(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
        for (int rank = 0; rank < ranks; rank++) {
            const struct {
                schedule_problem p;
                int64_t queries, states;
            } cases[] = {
                {problem_with(LAYOUT_ZIGZAG, ranks, false), (ranks - 1) * N, (ranks - 1) * N},
                {problem_with(LAYOUT_STRIPED, ranks, false), (ranks - 1) * N, (ranks - 1) * N},
                {problem_with(LAYOUT_CONTIGUOUS, ranks, true), rank * N, (ranks - 1 - rank) * N},
                {windowed(ranks), rank > 0 ? WINDOW : 0, rank < ranks - 1 ? WINDOW : 0},
            };
            for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                assert_traffic("queries", &cases[i].p, rank, TRANSFER_SEND, ANYWHERE,
                               (traffic){{0, cases[i].queries * HEADS, cases[i].states * HEADS}});
        }
    }
}

static int ceiling_of_log2(int ranks)
{
    int levels = 0;
    for (int reached = 1; reached < ranks; reached *= 2) levels++;
    return levels;
}

/* Over all trees a rank is every node once, so that it sends what there are edges. With the queries on one rank, that
 * one sends to each of its children. */
static void decode_sends_its_closed_form_in_logarithmic_steps(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= MOST_RANKS; ranks++) {
        const int levels = ceiling_of_log2(ranks);
        for (int rank = 0; rank < ranks; rank++) {
            const schedule_problem everywhere = problem_with(LAYOUT_CONTIGUOUS, ranks, false);
            const int64_t edges = (int64_t)(ranks - 1) * N * HEADS;
            assert_traffic("decode", &everywhere, rank, TRANSFER_SEND, ANYWHERE, (traffic){{0, edges, edges}});
            schedule *s = plan("decode", &everywhere, rank);
            assert_true(s->step_count <= 3 * levels + 1);
            schedule_destroy(s);

            schedule_problem last = problem_of(LAYOUT_CONTIGUOUS, 1, (int64_t)ranks * N, 1, ranks, true);
            const bool owner = rank == ranks - 1;
            s = plan("decode", &last, rank);
            const traffic sent = count_traffic(s, TRANSFER_SEND, ANYWHERE, 1);
            const traffic received = count_traffic(s, TRANSFER_RECEIVE, ANYWHERE, 1);
            if (owner) assert_int_equal(sent.rows[ROWS_QUERIES], (int64_t)levels * last.heads);
            assert_int_equal(received.rows[ROWS_QUERIES], owner ? 0 : last.heads);
            assert_int_equal(sent.rows[ROWS_STATES], owner ? 0 : last.heads);
            assert_int_equal(received.rows[ROWS_STATES], sent.rows[ROWS_QUERIES]);
            assert_int_equal(sent.rows[ROWS_KEYS] + received.rows[ROWS_KEYS], 0);
            schedule_destroy(s);
        }
    }
}

/* Documents of a shard and a half: rank 1 ends the first and begins the second, rank 4 the third and the fourth. */
static void documents_are_sent_no_farther_than_they_reach(void **state)
{
    (void)state;
    const int64_t offsets[] = {0, N + N / 2, 3 * N, 4 * N + N / 2, 6 * N};
    static const int64_t keys_of_others[] = {0, N, N / 2, 0, N, N / 2};
    static const int64_t queries_to_others[] = {0, N / 2, N, 0, N / 2, N};
    schedule_problem p = problem_with(LAYOUT_CONTIGUOUS, 6, true);
    p.mask.documents = offsets;
    p.mask.document_count = 4;
    for (int rank = 0; rank < 6; rank++) {
        const int64_t next = rank < 5 ? queries_to_others[rank + 1] : 0;
        assert_traffic("gather", &p, rank, TRANSFER_RECEIVE, ANYWHERE, keys_only(keys_of_others[rank]));
        assert_traffic("ring", &p, rank, TRANSFER_RECEIVE, ANYWHERE, keys_only(keys_of_others[rank]));
        assert_traffic("shared", &p, rank, TRANSFER_RECEIVE, ANYWHERE, keys_only(keys_of_others[rank]));
        assert_traffic("queries", &p, rank, TRANSFER_SEND, ANYWHERE,
                       (traffic){{0, queries_to_others[rank] * HEADS, next * HEADS}});
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(double_ring_crosses_between_nodes_once_a_node),
        cmocka_unit_test(double_ring_spreads_the_exchange_between_nodes_over_a_round),
        cmocka_unit_test(shared_sends_between_nodes_only),
        cmocka_unit_test(heads_and_hybrid_send_their_closed_form),
        cmocka_unit_test(heads_leave_at_home_queries_that_see_nothing),
        cmocka_unit_test(queries_sends_its_closed_form),
        cmocka_unit_test(decode_sends_its_closed_form_in_logarithmic_steps),
        cmocka_unit_test(documents_are_sent_no_farther_than_they_reach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
