/* Double ring: a ring of nodes, and within every node a ring of its ranks.
 *
 * Source: Gu et al., "LoongTrain: Efficient Training of Long-Sequence LLMs with Head-Context Parallelism", arXiv
 * 2406.18485, section 4.3 ("Double-Ring-Attention").
 *
 * In one ring over K nodes of L ranks, all keys pass through the one link by which a node is entered, one rank's at a
 * time, while the links of its other ranks stand idle. Here rank i of a node gets, from rank i of the node behind it,
 * the shards of the ranks i of all nodes: every shard enters every node once, each of the L ranks takes in its share,
 * and the rest of the way is inside the node.
 *
 * With d = +1 or -1, rank (k, i), which is k L + i, holds in inner step j of round t the shard that began on
 * (k - d t, i - d j). It folds that shard, passes it on to (k, i + d) unless it has been everywhere in the node, and
 * receives the next; beside that it sends to (k + d, i), in every step of a round, an L-th of the rows that it began
 * the round with. Cut like that, the exchange between nodes hides behind a whole round, and a step still waits for all
 * that it started.
 *
 * As in ring.c only rows travel that a rank ahead needs: between nodes, one of a node ahead; inside one, a rank of it.
 *
 * With n keys a rank and a full mask, a rank sends (K - 1) n keys to another node and K (L - 1) n within its own, P - 1
 * shards together, as in one ring, of which (P - 1) n leave the node where it ends. A window of w <= n keys to the
 * left, contiguous: w to the next rank, as one ring sends. Memory: the shard, two slots for the ring of nodes, two for
 * that of the node. */
#include "partition/parcel.h"

#include <stddef.h>

typedef struct {
    const schedule_problem *problem;
    schedule *s;
    group_ring outer; /* of the nodes */
    group_ring inner; /* of the ranks of this node */
    int node, index;
    int outer_slots[2], inner_slots[2];
} tour;

/* What lies in this node's rank `index` at the beginning of a round. */
static parcel round_shard(const tour *t, int round, int index)
{
    const int origin_node = group_ahead(&t->outer, t->node, -round);
    const int origin = origin_node * t->outer.size + index;
    if (round == 0) return parcel_home(t->problem, ROWS_KEYS, origin);
    parcel p = parcel_of_keys_ahead(t->problem, &t->outer, origin_node, round, origin);
    int64_t end = 0;
    parcel_place(&p, t->outer_slots[(round - 1) % 2], &end);
    return p;
}

/* What this rank holds in a step of a round. */
static parcel held_shard(const tour *t, int round, int step)
{
    if (step == 0) return round_shard(t, round, t->index);
    const int index = group_ahead(&t->inner, t->index, -step);
    parcel p = parcel_of_keys_ahead(t->problem, &t->inner, index, step, round_shard(t, round, index).origin);
    int64_t end = 0;
    parcel_place(&p, t->inner_slots[(step - 1) % 2], &end);
    return p;
}

/* Slice `index` of `count`. */
static parcel slice_of(const parcel *whole, int index, int count)
{
    parcel slice = *whole;
    for (int piece = 0; piece < MOST_PIECES; piece++) {
        const range rows = whole->rows[piece];
        const int64_t length = range_length(rows), each = length / count, larger = length % count;
        const int64_t before = index * each + (index < larger ? index : larger);
        slice.rows[piece].begin = rows.begin + before;
        slice.rows[piece].end = rows.begin + before + each + (index < larger);
    }
    return parcel_part(whole, &slice);
}

/* The slice of this step goes to the next node, and that of the node behind comes. */
static int plan_outer(const tour *t, int round, int step)
{
    const int64_t at = (int64_t)round * t->inner.groups + step;
    const parcel held = round_shard(t, round, t->index);
    const parcel leaving =
        parcel_of_keys_ahead(t->problem, &t->outer, held.origin / t->outer.size, round + 1, held.origin);
    const parcel part = parcel_part(&held, &leaving);
    const parcel sent = slice_of(&part, step, t->inner.groups);
    const int to = group_ahead(&t->outer, t->node, 1) * t->outer.size + t->index;
    if (parcel_send(t->s, at, &sent, to) != 0) return -1;

    const parcel next = round_shard(t, round + 1, t->index);
    const parcel received = slice_of(&next, step, t->inner.groups);
    const int from = group_ahead(&t->outer, t->node, -1) * t->outer.size + t->index;
    slot_hold(t->s, next.slot, parcel_rows(&next));
    return parcel_receive(t->s, at, &received, from);
}

static int plan_inner(const tour *t, int round, int step, const parcel *held)
{
    const int64_t at = (int64_t)round * t->inner.groups + step;
    const int begin = held->origin % t->outer.size;
    const parcel leaving = parcel_of_keys_ahead(t->problem, &t->inner, begin, step + 1, held->origin);
    const parcel sent = parcel_part(held, &leaving);
    if (parcel_send(t->s, at, &sent, t->inner.first + group_ahead(&t->inner, t->index, 1)) != 0) return -1;
    const parcel next = held_shard(t, round, step + 1);
    slot_hold(t->s, next.slot, parcel_rows(&next));
    return parcel_receive(t->s, at, &next, t->inner.first + group_ahead(&t->inner, t->index, -1));
}

static int plan_step(const tour *t, int round, int step)
{
    const int64_t at = (int64_t)round * t->inner.groups + step;
    const parcel queries = parcel_home(t->problem, ROWS_QUERIES, t->s->rank);
    const parcel states = parcel_home(t->problem, ROWS_STATES, t->s->rank);
    const parcel held = held_shard(t, round, step);
    if (parcel_fold(t->s, at, t->problem, &queries, &states, &held, queries.heads) != 0) return -1;
    if (step + 1 < t->inner.groups && plan_inner(t, round, step, &held) != 0) return -1;
    return round + 1 < t->outer.groups ? plan_outer(t, round, step) : 0;
}

static int plan_tour(tour *t)
{
    const head_range heads = heads_all(t->problem->kv_heads);
    for (int i = 0; i < 2; i++) {
        if (schedule_add_slot(t->s, ROWS_KEYS, heads, 0, &t->outer_slots[i]) != 0) return -1;
        if (schedule_add_slot(t->s, ROWS_KEYS, heads, 0, &t->inner_slots[i]) != 0) return -1;
    }
    for (int round = 0; round < t->outer.groups; round++)
        for (int step = 0; step < t->inner.groups; step++)
            if (plan_step(t, round, step) != 0) return -1;
    return 0;
}

static int double_ring_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    const int ranks = problem->key_layout.ranks, size = problem->node_ranks, direction = ring_direction(problem);
    tour t = {.problem = problem,
              .s = schedule_create(rank, ranks),
              .outer = {.first = 0, .size = size, .groups = ranks / size, .direction = direction},
              .inner = {.first = rank / size * size, .size = 1, .groups = size, .direction = direction},
              .node = rank / size,
              .index = rank % size};
    if (!t.s) return -1;
    if (plan_tour(&t) != 0) {
        schedule_destroy(t.s);
        return -1;
    }
    schedule_sort_folds(t.s);
    schedule_drop_idle_tail(t.s);
    *schedule_p = t.s;
    return 0;
}

static const char *double_ring_refuse(const schedule_problem *problem)
{
    const char *fault = schedule_problem_fault(problem);
    if (fault) return fault;
    const int ranks = problem->key_layout.ranks;
    if (ranks % problem->node_ranks != 0) return "double-ring needs as many ranks on every node";
    if (problem->node_ranks == 1 && ranks > 1)
        return "double-ring needs several ranks on every node, as many on each and in order; say ring";
    return NULL;
}

extern const strategy strategy_double_ring;
const strategy strategy_double_ring = {
    .name = "double-ring",
    .summary = "a ring of nodes around rings inside each node: a shard enters a node once; memory for five shards",
    .refuse = double_ring_refuse,
    .plan = double_ring_plan,
};
