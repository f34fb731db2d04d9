/* Shared: the ranks of a node read each other's keys where they lie, and the shards of a node travel round a ring of
 * nodes together.
 *
 * On one node nothing is sent at all: every rank folds the home keys of all, each beginning with its own and going on
 * with its neighbour's, so that they do not all read the same memory at once. That is the way a program of threads
 * would do it (MPI-3 shared memory windows: Hoefler et al., "MPI + MPI: a new hybrid approach to parallel programming
 * with MPI plus shared memory", Computing 95, 2013).
 *
 * Over K nodes of L ranks, d = +1 or -1, node k holds in step t the shards that began on node k - d t: rank (k, i),
 * which is k L + i, that of (k - d t, i), at home in step 0, in slot (t - 1) % 2 after. All ranks of the node fold all
 * L of them, each rank passes the one it holds on to (k + d, i) and receives the next into slot t % 2. Then the node
 * waits: nobody may overwrite what a neighbour still reads. As in ring.c, only rows travel that a rank of a node still
 * ahead needs.
 *
 * With n keys a rank and a full mask, a rank sends (K - 1) n keys where it sends (P - 1) n in one ring, and holds three
 * shards. The ranks of a node have the same number of steps, because they wait for each other after each; steps at the
 * end in which the whole node is idle are left out. */
#include "partition/parcel.h"

#include <stddef.h>

typedef struct {
    const schedule_problem *problem;
    schedule *s;
    group_ring ring; /* of the nodes */
    int node, index;
    int slots[2];
} node_tour;

/* What rank `index` of this node holds in a step. */
static parcel held_shard(const node_tour *t, int step, int index)
{
    const int begin = group_ahead(&t->ring, t->node, -step), origin = begin * t->ring.size + index;
    return parcel_on_ring(t->problem, &t->ring, begin, step, origin, t->slots);
}

static int plan_folds(const node_tour *t, int step)
{
    const parcel queries = parcel_home(t->problem, ROWS_QUERIES, t->s->rank);
    const parcel states = parcel_home(t->problem, ROWS_STATES, t->s->rank);
    for (int piece = 0; piece < MOST_PIECES; piece++) {
        for (int i = 0; i < t->ring.size; i++) {
            const int index = (t->index + i) % t->ring.size;
            const int holder = t->node * t->ring.size + index;
            const parcel keys = held_shard(t, step, index);
            if (parcel_fold_piece(t->s, step, t->problem, &queries, &states, piece, &keys, holder, queries.heads) != 0)
                return -1;
        }
    }
    return 0;
}

static int plan_transfers(const node_tour *t, int step)
{
    const parcel held = held_shard(t, step, t->index), next = held_shard(t, step + 1, t->index);
    const int to = group_ahead(&t->ring, t->node, 1) * t->ring.size + t->index;
    const int from = group_ahead(&t->ring, t->node, -1) * t->ring.size + t->index;
    const int begin = held.origin / t->ring.size;
    return parcel_pass_on(t->s, step, t->problem, &t->ring, begin, step, &held, to, &next, from);
}

/* Does any rank of the node have rows to fold or to pass on in a step? In the step before it receives them. */
static bool node_holds(const node_tour *t, int step)
{
    for (int index = 0; index < t->ring.size; index++) {
        const parcel held = held_shard(t, step, index);
        if (parcel_rows(&held) > 0) return true;
    }
    return false;
}

static int plan_tour(node_tour *t)
{
    for (int i = 0; i < 2; i++)
        if (schedule_add_slot(t->s, ROWS_KEYS, heads_all(t->problem->kv_heads), 0, &t->slots[i]) != 0) return -1;
    for (int step = 0; step < t->s->step_count; step++) {
        if (plan_folds(t, step) != 0) return -1;
        if (step + 1 < t->ring.groups && plan_transfers(t, step) != 0) return -1;
    }
    while (t->s->step_count > 1 && !node_holds(t, (int)t->s->step_count - 1)) t->s->step_count--;
    return 0;
}

static int shared_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    const int size = problem->node_ranks, nodes = problem->key_layout.ranks / size;
    node_tour t = {.problem = problem,
                   .s = schedule_create(rank, nodes),
                   .ring = {.first = 0, .size = size, .groups = nodes, .direction = ring_direction(problem)},
                   .node = rank / size,
                   .index = rank % size};
    if (!t.s) return -1;
    t.s->shares_memory = size > 1;
    if (plan_tour(&t) != 0) {
        schedule_destroy(t.s);
        return -1;
    }
    *schedule_p = t.s;
    return 0;
}

static const char *shared_refuse(const schedule_problem *problem)
{
    const char *fault = schedule_problem_fault(problem);
    if (fault) return fault;
    if (problem->key_layout.ranks % problem->node_ranks != 0) return "shared needs as many ranks on every node";
    if (problem->key_layout.ranks > 1 && problem->share_off)
        return "shared reads keys in place, which --share off (longspan_options.share_memory) forbids; say ring";
    if (problem->key_layout.ranks > 1 && !problem->may_share)
        return "shared needs ranks that can read each other's memory, as many on every node; say ring";
    return NULL;
}

extern const strategy strategy_shared;
const strategy strategy_shared = {
    .name = "shared",
    .summary = "the ranks of a node read each other's keys in place, nodes pass theirs around; memory for three shards",
    .refuse = shared_refuse,
    .plan = shared_plan,
};
