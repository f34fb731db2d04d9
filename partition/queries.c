/* Moving queries: every rank keeps its keys, queries visit them, and what they found goes home as a partial result.
 *
 * For many keys and few queries, or few query heads to a key head: what travels is q and the state (o, m, l), never a
 * key. Partial results merge exactly (the monoid of (o, m, l): Rabe and Staats, arXiv 2112.05682; over split keys: Dao
 * et al., "Flash-Decoding", 2023); queries instead of keys around a ring: Yang et al., "Context Parallelism for
 * Scalable Million-Token Inference", arXiv 2411.01783, "pass-Q".
 *
 * Queries go straight to whom they need, one distance x = 1 .. P - 1 at a time; rank r
 *
 *     step x - 1   receives the queries of r + x into query slot (x - 1) % 2, while it folds others;
 *     step x       folds them into state slot (x - 1) % 2;
 *     step x + 1   sends these states home, while it folds the next;
 *     step x + 2   merges, as their owner, what came back from r - x.
 *
 * In step 0 it folds its own. In every step one shard of queries and one of states comes and goes, and each slot is
 * written when what was in it has gone. Queries travel to the ranks that hold keys which they see, and no others: of
 * each piece the rows from the first to the last that see one.
 *
 * With n queries a rank and a full mask, a rank sends (P - 1) n of them and (P - 1) n states. Causal, contiguous: rank
 * r sends r n queries and (P - 1 - r) n states. Memory: the shard, two slots of queries and four of states. */
#include "partition/parcel.h"

typedef struct {
    const schedule_problem *problem;
    schedule *s;
    int ranks;
    int query_slots[2], visitor_slots[2], returned_slots[2];
} exchange_of_queries;

static int rank_at(const exchange_of_queries *x, int64_t distance)
{
    return (int)((x->s->rank + distance + x->ranks) % x->ranks);
}

static parcel placed(schedule *s, parcel p, int slot)
{
    int64_t end = 0;
    parcel_place(&p, slot, &end);
    slot_hold(s, slot, end);
    return p;
}

/* Queries of the rank `distance` above come to see this rank's keys. */
static int plan_visitors(const exchange_of_queries *x, int distance)
{
    const int origin = rank_at(x, distance), rank = x->s->rank, turn = (distance - 1) % 2;
    const parcel asked = parcel_of_queries_that_see(x->problem, origin, rank, rank);
    const parcel keys = parcel_home(x->problem, ROWS_KEYS, rank);
    if (parcel_rows(&asked) == 0) return 0;
    const parcel queries = placed(x->s, asked, x->query_slots[turn]);
    const parcel states = placed(x->s, parcel_as_states(&asked), x->visitor_slots[turn]);
    const schedule_clear clear = {x->visitor_slots[turn], {0, parcel_rows(&states)}};
    if (parcel_receive(x->s, distance - 1, &queries, origin) != 0) return -1;
    if (schedule_add_clear(x->s, distance, clear) != 0) return -1;
    if (parcel_fold(x->s, distance, x->problem, &queries, &states, &keys, states.heads) != 0) return -1;
    return parcel_send(x->s, distance + 1, &states, origin);
}

/* This rank's queries see the keys of the rank `distance` below. */
static int plan_visit(const exchange_of_queries *x, int distance)
{
    const int host = rank_at(x, -distance);
    const parcel sent = parcel_of_queries_that_see(x->problem, x->s->rank, host, host);
    if (parcel_rows(&sent) == 0) return 0;
    const parcel states = placed(x->s, parcel_as_states(&sent), x->returned_slots[(distance - 1) % 2]);
    if (parcel_send(x->s, distance - 1, &sent, host) != 0) return -1;
    if (parcel_receive(x->s, distance + 1, &states, host) != 0) return -1;
    const parcel home = parcel_home(x->problem, ROWS_STATES, x->s->rank);
    return parcel_merge(x->s, distance + 2, &states, &home, states.heads);
}

static int plan_exchange(exchange_of_queries *x)
{
    const head_range heads = heads_all(x->problem->heads);
    for (int i = 0; i < 2; i++) {
        if (schedule_add_slot(x->s, ROWS_QUERIES, heads, 0, &x->query_slots[i]) != 0) return -1;
        if (schedule_add_slot(x->s, ROWS_STATES, heads, 0, &x->visitor_slots[i]) != 0) return -1;
        if (schedule_add_slot(x->s, ROWS_STATES, heads, 0, &x->returned_slots[i]) != 0) return -1;
    }
    const parcel queries = parcel_home(x->problem, ROWS_QUERIES, x->s->rank);
    const parcel states = parcel_home(x->problem, ROWS_STATES, x->s->rank);
    const parcel keys = parcel_home(x->problem, ROWS_KEYS, x->s->rank);
    if (parcel_fold(x->s, 0, x->problem, &queries, &states, &keys, heads) != 0) return -1;
    for (int distance = 1; distance < x->ranks; distance++)
        if (plan_visitors(x, distance) != 0 || plan_visit(x, distance) != 0) return -1;
    return 0;
}

static int queries_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    const int ranks = problem->key_layout.ranks;
    exchange_of_queries x = {.problem = problem, .s = schedule_create(rank, (int64_t)ranks + 2), .ranks = ranks};
    if (!x.s) return -1;
    return schedule_finish(x.s, plan_exchange(&x), schedule_p);
}

extern const strategy strategy_queries;
const strategy strategy_queries = {
    .name = "queries",
    .summary = "queries visit the ranks whose keys they see, partial results come back; for many keys and few queries",
    .refuse = schedule_moving_problem_fault,
    .plan = queries_plan,
};
