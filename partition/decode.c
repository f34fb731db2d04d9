/* Decoding: few queries, keys sharded over all ranks. The queries of a rank go down a binomial tree to all ranks whose
 * keys they see, every rank folds them against its own keys, and the partial results come back up the tree, merged on
 * the way.
 *
 * Where a step's cost is the latency of its messages and not their bytes, ceil(log2 P) messages in a row each way do
 * what a ring does in P - 1. Source: Shyam et al., "Tree Attention: Topology-aware Decoding for Long-Context Attention
 * on GPU clusters", arXiv 2408.04093; that partial results of split keys merge in any order: Dao et al.,
 * "Flash-Decoding", 2023.
 *
 * Every origin o has a tree of its own, rooted in itself. Let v = (r - o) mod P be the number of rank r in it, and
 * 2^L >= P > 2^(L-1). A node v > 0 with its lowest bit at h has the subtree [v, min(v + h, P)), the root all of it; the
 * children of v are v + h' for all h' = 2^i below its h. Ranks of a subtree are neighbours, so most of a tree lies
 * inside the nodes of the machine. With h' = 2^(L-1), ..., 2, 1 in this order,
 *
 *     step k = 0 .. L - 1   h' = 2^(L-1-k): v sends the queries to v + h';
 *     step k + 1            v + h' folds them against its keys; the root folds its own in step 0;
 *     step L + 1 + 2 j      j = 0 .. L - 1, h' = 2^j: v + h' sends its partial results, which are complete, to v;
 *     step L + 2 + 2 j      v merges them into its own.
 *
 * All origins do so at the same time. Down a tree travel only the rows that see a key of the subtree, up come the same.
 * With n queries a rank and a full mask, a rank sends, over all trees, (P - 1) n queries and (P - 1) n states; with
 * the n queries on one rank alone, that rank sends L n queries, and every other receives them once. Memory: the shard,
 * all visiting queries with their states, and a slot for the states that a step brings. */
#include "partition/parcel.h"

#include <stdlib.h>

typedef struct {
    const schedule_problem *problem;
    schedule *s;
    int ranks, levels; /* P, L */
    int query_slot, state_slot, child_slot;
    parcel *queries, *states; /* [P] what this rank holds of each origin; its own in SLOT_HOME */
} trees;

static int levels_of(int ranks)
{
    int levels = 0;
    while (((int64_t)1 << levels) < ranks) levels++;
    return levels;
}

/* The subtree of a node is as wide as this, where P does not cut it; its farthest child is half of this away. */
static int64_t reach_of(const trees *t, int64_t node)
{
    return node == 0 ? (int64_t)1 << t->levels : node & -node;
}

static int node_of(const trees *t, int origin)
{
    return (int)(((int64_t)t->s->rank - origin + t->ranks) % t->ranks);
}

static int rank_of(const trees *t, int origin, int64_t node)
{
    return (int)((origin + node) % t->ranks);
}

/* The rows of an origin's queries that see a key of the subtree of a node. */
static parcel rows_for(const trees *t, int origin, int64_t node)
{
    int64_t end = node + reach_of(t, node);
    if (end > t->ranks) end = t->ranks;
    const int first = rank_of(t, origin, node), last = rank_of(t, origin, end - 1);
    if (first <= last) return parcel_of_queries_that_see(t->problem, origin, first, last);
    const parcel low = parcel_of_queries_that_see(t->problem, origin, 0, last);
    const parcel high = parcel_of_queries_that_see(t->problem, origin, first, t->ranks - 1);
    return parcel_hull(&low, &high);
}

/* Where everything lies, and the folds. */
static int plan_held(trees *t)
{
    const parcel keys = parcel_home(t->problem, ROWS_KEYS, t->s->rank);
    int64_t query_end = 0, state_end = 0;
    for (int origin = 0; origin < t->ranks; origin++) {
        const int64_t node = node_of(t, origin);
        parcel queries = rows_for(t, origin, node), states = parcel_as_states(&queries);
        int64_t step = 0;
        if (node != 0) {
            parcel_place(&queries, t->query_slot, &query_end);
            parcel_place(&states, t->state_slot, &state_end);
            for (int64_t half = (int64_t)1 << t->levels; half > reach_of(t, node); half /= 2) step++;
        }
        t->queries[origin] = queries;
        t->states[origin] = states;
        if (parcel_fold(t->s, step, t->problem, &queries, &states, &keys, queries.heads) != 0) return -1;
    }
    slot_hold(t->s, t->query_slot, query_end);
    slot_hold(t->s, t->state_slot, state_end);
    if (state_end == 0) return 0;
    return schedule_add_clear(t->s, 0, (schedule_clear){t->state_slot, {0, state_end}});
}

/* Between nodes `half` apart of all trees: queries down in one step, states up in another, merged in the one after. */
static int plan_level(const trees *t, int level)
{
    const int64_t half = (int64_t)1 << level;
    const int64_t down = t->levels - 1 - level, up = t->levels + 1 + 2 * (int64_t)level;
    int64_t end = 0;
    for (int origin = 0; origin < t->ranks; origin++) {
        const int64_t node = node_of(t, origin);
        const int64_t reach = reach_of(t, node);
        if (reach == half) {
            const int parent = rank_of(t, origin, node - half);
            if (parcel_receive(t->s, down, &t->queries[origin], parent) != 0) return -1;
            if (parcel_send(t->s, up, &t->states[origin], parent) != 0) return -1;
        } else if (reach > half && node + half < t->ranks) {
            const int child = rank_of(t, origin, node + half);
            const parcel rows = rows_for(t, origin, node + half);
            const parcel sent = parcel_part(&t->queries[origin], &rows);
            parcel returned = parcel_as_states(&rows);
            parcel_place(&returned, t->child_slot, &end);
            if (parcel_send(t->s, down, &sent, child) != 0) return -1;
            if (parcel_receive(t->s, up, &returned, child) != 0) return -1;
            if (parcel_merge(t->s, up + 1, &returned, &t->states[origin], returned.heads) != 0) return -1;
        }
    }
    slot_hold(t->s, t->child_slot, end);
    return 0;
}

static int plan_trees(trees *t)
{
    const head_range heads = heads_all(t->problem->heads);
    if (!t->queries || !t->states) return -1;
    if (schedule_add_slot(t->s, ROWS_QUERIES, heads, 0, &t->query_slot) != 0) return -1;
    if (schedule_add_slot(t->s, ROWS_STATES, heads, 0, &t->state_slot) != 0) return -1;
    if (schedule_add_slot(t->s, ROWS_STATES, heads, 0, &t->child_slot) != 0) return -1;
    if (plan_held(t) != 0) return -1;
    for (int level = 0; level < t->levels; level++)
        if (plan_level(t, level) != 0) return -1;
    return 0;
}

static int decode_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    const int ranks = problem->key_layout.ranks, levels = levels_of(ranks);
    trees t = {
        .problem = problem, .s = schedule_create(rank, 3 * (int64_t)levels + 1), .ranks = ranks, .levels = levels};
    if (!t.s) return -1;
    t.queries = calloc((size_t)ranks, sizeof *t.queries);
    t.states = calloc((size_t)ranks, sizeof *t.states);
    const int result = plan_trees(&t);
    free(t.queries);
    free(t.states);
    return schedule_finish(t.s, result, schedule_p);
}

extern const strategy strategy_decode;
const strategy strategy_decode = {
    .name = "decode",
    .summary = "queries down binomial trees, partial results back up, merged on the way; for very few queries",
    .refuse = schedule_moving_problem_fault,
    .plan = decode_plan,
};
