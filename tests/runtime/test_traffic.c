/* The bytes and messages that a rank sends, counted as they are posted, are those of its schedule, and those of the closed form that
 * the strategy promises (partition/<strategy>.c), written down here once more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/plan.h"
#include "tests/runtime/problem.h"

static int rank, ranks;

/* Tokens of a rank: chunks are whole grains under every layout, so that shares are even. */
enum { TOKENS = 64, BATCH = 2, DIM = 4, VALUE_DIM = 6, WINDOW = 10 };

typedef enum { FULL, CAUSAL, WINDOWED } mask_case;

/* Bytes of a token: of k and v, of q, of a state. */
typedef struct {
    int64_t key, query, state;
} token_bytes;

typedef struct {
    const char *strategy, *layout;
    mask_case mask;
    int node_ranks; /* 0: all */
    int64_t (*expected)(token_bytes size);
} traffic_case;

static int64_t all_others(token_bytes size)
{
    return (ranks - 1) * TOKENS * size.key;
}

static int64_t ring_up(token_bytes size)
{
    return rank < ranks - 1 ? (rank + 1) * TOKENS * size.key : 0;
}

static int64_t ring_down_zigzag(token_bytes size)
{
    return ((ranks - 1) + (rank > 0 ? ranks - rank : 0)) * TOKENS / 2 * size.key;
}

static int64_t gather_later(token_bytes size)
{
    return (ranks - 1 - rank) * TOKENS * size.key;
}

static int64_t gather_zigzag(token_bytes size)
{
    return ranks > 1 ? (ranks - 1 + rank) * TOKENS / 2 * size.key : 0;
}

static int64_t window_to_the_next(token_bytes size)
{
    return rank < ranks - 1 ? WINDOW * size.key : 0;
}

/* In nodes of two, keys that the next node's first rank sees enter it by its second one, which passes them on. */
static int64_t window_through_nodes_of_two(token_bytes size)
{
    const int node = rank / 2, crosses = node<ranks / 2 - 1, passes_on = node> 0;
    return (rank % 2 == 0 ? 1 : crosses + passes_on) * WINDOW * size.key;
}

static int64_t heads_of_all(token_bytes size)
{
    return TOKENS * (ranks - 1) * (size.key + size.query + size.state) / ranks;
}

static int64_t queries_and_states(token_bytes size)
{
    return (ranks - 1) * TOKENS * (size.query + size.state);
}

static int64_t queries_down_states_up(token_bytes size)
{
    return rank * TOKENS * size.query + (ranks - 1 - rank) * TOKENS * size.state;
}

static int64_t nothing(token_bytes size)
{
    (void)size;
    return 0;
}

static int64_t other_nodes_of_two(token_bytes size)
{
    return (ranks / 2 - 1) * TOKENS * size.key;
}

static int64_t halves_of_heads_and_a_ring(token_bytes size)
{
    return (ranks / 2 - 1) * TOKENS * size.key + TOKENS / 2 * (size.key + size.query + size.state);
}

static const traffic_case any_ranks[] = {
    {"ring", "contiguous", FULL, 0, all_others},
    {"ring", "zigzag", FULL, 0, all_others},
    {"ring", "striped", FULL, 0, all_others},
    {"ring", "contiguous", CAUSAL, 0, ring_up},
    {"ring", "zigzag", CAUSAL, 0, ring_down_zigzag},
    {"ring", "contiguous", WINDOWED, 0, window_to_the_next},
    {"gather", "contiguous", FULL, 0, all_others},
    {"gather", "zigzag", FULL, 0, all_others},
    {"gather", "contiguous", CAUSAL, 0, gather_later},
    {"gather", "zigzag", CAUSAL, 0, gather_zigzag},
    {"gather", "contiguous", WINDOWED, 0, window_to_the_next},
    {"heads", "contiguous", FULL, 0, heads_of_all},
    {"heads", "contiguous", CAUSAL, 0, heads_of_all},
    {"heads", "zigzag", CAUSAL, 0, heads_of_all},
    {"queries", "contiguous", FULL, 0, queries_and_states},
    {"queries", "contiguous", CAUSAL, 0, queries_down_states_up},
    {"decode", "contiguous", FULL, 0, queries_and_states},
    {"shared", "contiguous", FULL, 0, nothing},
    {"shared", "zigzag", CAUSAL, 0, nothing},
};

static const traffic_case even_ranks[] = {
    {"double-ring", "contiguous", FULL, 2, all_others},
    {"double-ring", "contiguous", WINDOWED, 2, window_through_nodes_of_two},
    {"shared", "contiguous", FULL, 2, other_nodes_of_two},
    {"hybrid:*x2", "contiguous", FULL, 0, halves_of_heads_and_a_ring},
};

/* Bytes that the schedule of this rank sends. */
static int64_t scheduled_bytes(const longspan_plan *plan, transfer_direction direction)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < plan->schedule->step_count; i++)
        for (int64_t j = 0; j < plan->schedule->steps[i].transfer_count; j++) {
            const schedule_transfer *t = &plan->schedule->steps[i].transfers[j];
            const int elements[ROWS_KINDS] = {
                [ROWS_KEYS] = DIM + VALUE_DIM, [ROWS_QUERIES] = DIM, [ROWS_STATES] = VALUE_DIM + 2};
            if (t->direction == direction)
                bytes += BATCH * range_length(t->rows) * heads_count(t->heads) * elements[t->kind] * 4;
        }
    return bytes;
}

/* Messages that the planner counts for this rank. */
static int64_t planned_messages(const longspan_plan *plan)
{
    const cost_sizes sizes = plan_sizes(&plan->problem);
    cost of;
    cost_of_schedule(plan->schedule, &plan->scheduled, &sizes, &of);
    return of.sum.messages_sent;
}

static void execute(longspan_plan *plan)
{
    const longspan_problem *p = &plan->problem;
    const size_t rows = (size_t)(BATCH * plan->query_tokens * p->heads);
    float *in = calloc(rows * VALUE_DIM, sizeof *in), *out = calloc(rows * VALUE_DIM, sizeof *out);
    assert_int_equal(longspan_plan_execute(plan, in, in, in, out, NULL), LONGSPAN_OK);
    free(in);
    free(out);
}

static void assert_traffic(const traffic_case *c)
{
    char name[32];
    longspan_status status;
    longspan_plan *plan;
    test_problem t = make_problem((int64_t)TOKENS * ranks, 2 * ranks, 2 * ranks, DIM);
    snprintf(name, sizeof name, "%s", c->strategy);
    if (strchr(name, '*')) snprintf(name, sizeof name, "hybrid:%dx2", ranks / 2);
    t.node_ranks = c->node_ranks ? c->node_ranks : ranks;
    t.problem.value_dim = VALUE_DIM;
    t.problem.batch = BATCH;
    t.problem.causal = c->mask != FULL;
    if (c->mask == WINDOWED) t.problem.window_left = WINDOW;
    t.problem.strategy = name;
    t.problem.layout = c->layout;
    longspan_context *context = open_context(&t, &status);
    assert_non_null(context);
    assert_int_equal(longspan_plan_create(context, &t.problem, &plan), LONGSPAN_OK);
    execute(plan);

    longspan_timing timing;
    longspan_plan_timing(plan, &timing);
    const int64_t heads = t.problem.heads, unit = BATCH * heads * 4;
    const token_bytes size = {unit * (DIM + VALUE_DIM), unit * DIM, unit * (VALUE_DIM + 2)};
    const int64_t sent = scheduled_bytes(plan, TRANSFER_SEND), received = scheduled_bytes(plan, TRANSFER_RECEIVE);
    const int64_t messages = planned_messages(plan);
    int wrong = timing.bytes_sent != sent || timing.bytes_received != received || sent != c->expected(size) ||
                timing.messages_sent != messages;
    int wrong_rank = wrong ? rank : -1;
    if (wrong)
        fprintf(stderr,
                "rank %d of %d: %s %s mask %d: %lld bytes sent, %lld scheduled, %lld expected; %lld messages, %lld "
                "planned\n",
                rank, ranks, name, c->layout, (int)c->mask, (long long)timing.bytes_sent, (long long)sent,
                (long long)c->expected(size), (long long)timing.messages_sent, (long long)messages);
    MPI_Allreduce(MPI_IN_PLACE, &wrong_rank, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    assert_int_equal(wrong_rank, -1);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
}

static void every_rank_sends_what_its_strategy_promises(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof any_ranks / sizeof *any_ranks; i++) assert_traffic(&any_ranks[i]);
    for (size_t i = 0; ranks % 2 == 0 && i < sizeof even_ranks / sizeof *even_ranks; i++)
        assert_traffic(&even_ranks[i]);
}

/* Two messages for the 78 MiB of k, one for v. On two ranks alone: others would need gigabytes. */
static void a_transfer_above_the_cut_is_as_many_messages_as_planned(void **state)
{
    (void)state;
    enum { KEYS = 40000, LONG_DIM = 512 };
    longspan_status status;
    longspan_plan *plan;
    longspan_timing timing;
    if (ranks != 2) return;
    test_problem t = make_problem(2, 1, 1, LONG_DIM);
    t.problem.keys = 2 * KEYS;
    t.problem.value_dim = 1;
    t.problem.strategy = "ring";
    t.problem.layout = "contiguous";
    longspan_context *context = open_context(&t, &status);
    assert_non_null(context);
    assert_int_equal(longspan_plan_create(context, &t.problem, &plan), LONGSPAN_OK);
    float *k = calloc((size_t)KEYS * LONG_DIM, sizeof *k), *v = calloc(KEYS, sizeof *v), q[LONG_DIM] = {0}, out[1];
    assert_true(k && v);
    assert_int_equal(longspan_plan_execute(plan, q, k, v, out, NULL), LONGSPAN_OK);
    longspan_plan_timing(plan, &timing);
    int64_t counted[2] = {timing.messages_sent - 3, planned_messages(plan) - 3};
    MPI_Allreduce(MPI_IN_PLACE, counted, 2, MPI_INT64_T, MPI_BOR, MPI_COMM_WORLD);
    assert_int_equal(counted[0], 0);
    assert_int_equal(counted[1], 0);
    free(k);
    free(v);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_sends_what_its_strategy_promises),
        cmocka_unit_test(a_transfer_above_the_cut_is_as_many_messages_as_planned),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
