/* Ring attention: keys and values walk around a ring of ranks, a shard a step, and every rank folds what passes by.
 *
 * Source: Liu, Zaharia, Abbeel, "Ring Attention with Blockwise Transformers for Near-Infinite Context", arXiv
 * 2310.01889, section 3; the balanced layout: Zhu, "zigzag ring attention", 2024.
 *
 * With P ranks and a direction d = +1 or -1, rank r holds in step s the shard of origin o = r - d s (mod P). It
 *
 *     step 0       folds its own shard, sends it to r + d, and receives into slot 0 the shard of r - d;
 *     step s >= 1  folds the shard in slot (s-1) % 2, passes it on to r + d, and receives the next into slot s % 2.
 *
 * Two slots suffice: a step reads one and writes the other, and the one it writes was last read in the step before,
 * whose sends are complete. Memory a rank is its shard and two more, whatever P is; the exchange of a step hides behind
 * the folds of the same step.
 *
 * A ring that carries everything everywhere sends (P-1)/P of all keys through every rank. Here a chunk of keys travels
 * only as far as the farthest rank, in ring direction, that has a query which sees it; ranks on the way that do not
 * need it pass it on without folding. The slot holds what arrived, packed.
 *
 * How far that is depends on the direction, which is why there is one. Under a causal mask a rank needs the keys before
 * its own. In a contiguous layout those belong to lower ranks: going up (+1), the shard of rank o stops at rank P-1
 * after P-1-o hops, where going down it would pass 0 and wrap around to o+1. In a zigzag layout the early chunk r is
 * needed by every rank, for its late queries, and goes all the way either way. The late chunk 2P-1-r is needed only by
 * later queries, which lie on ranks below r: going down (-1) it stops at rank 0 after r hops; going up it would have to
 * pass P-1 first. Down thus saves a quarter of all traffic. Without a causal mask both directions cost the same. */
#include "partition/schedule.h"

static int direction_of(const schedule_problem *problem)
{
    return problem->key_layout.kind == LAYOUT_CONTIGUOUS ? 1 : -1;
}

static int modulo(int64_t a, int ranks)
{
    const int64_t rest = a % ranks;
    return (int)(rest < 0 ? rest + ranks : rest);
}

/* Hops from `origin` to the rank of a run that is farthest in ring direction; `origin` itself is 0 hops away. */
static int farthest_of_run(rank_run run, int origin, int direction, int ranks)
{
    /* Walking from the origin, the ranks behind it come last: among them the run's one next to the origin. */
    if (direction > 0) {
        if (run.first < origin) return modulo((int64_t)(run.last < origin ? run.last : origin - 1) - origin, ranks);
        return run.last - origin;
    }
    if (run.last > origin) return modulo((int64_t)origin - (run.first > origin ? run.first : origin + 1), ranks);
    return origin - run.first;
}

/* Hops that a chunk of keys travels from its origin: 0 where no other rank needs it. */
static int reach_of(const schedule_problem *problem, int64_t chunk)
{
    const layout *keys = &problem->key_layout;
    const int origin = layout_chunk_owner(keys, chunk);
    rank_run runs[2];
    const int count =
        layout_ranks_holding(&problem->query_layout, mask_queries(&problem->mask, layout_chunk(keys, chunk)), runs);
    int reach = 0;
    for (int i = 0; i < count; i++) {
        const int hops = farthest_of_run(runs[i], origin, direction_of(problem), keys->ranks);
        if (hops > reach) reach = hops;
    }
    return reach;
}

/* Step `step` of rank s->rank: folds and sends what it holds of the shard that has travelled `step` hops. */
static int plan_held(schedule *s, const schedule_problem *problem, int step)
{
    const layout *l = &problem->key_layout;
    const int direction = direction_of(problem);
    const int origin = modulo(s->rank - (int64_t)direction * step, l->ranks);
    const int slot = step == 0 ? SLOT_HOME : (step - 1) % 2;
    int64_t row = 0;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, origin); i++) {
        const int64_t chunk = layout_rank_chunk(l, origin, i);
        const range keys = layout_chunk(l, chunk);
        const int reach = reach_of(problem, chunk);
        if (reach < step) continue;
        if (schedule_add_folds(s, step, problem, keys, slot, row) != 0) return -1;
        if (reach > step) {
            const schedule_transfer send = {.direction = TRANSFER_SEND,
                                            .peer = modulo((int64_t)s->rank + direction, l->ranks),
                                            .keys = keys,
                                            .slot = slot,
                                            .row = row};
            if (schedule_add_transfer(s, step, send) != 0) return -1;
        }
        row += range_length(keys);
    }
    return 0;
}

/* Step `step` of rank s->rank: receives what goes `step` + 1 hops or more, to be held in the next step. */
static int plan_receives(schedule *s, const schedule_problem *problem, int step)
{
    const layout *l = &problem->key_layout;
    const int direction = direction_of(problem);
    const int origin = modulo(s->rank - (int64_t)direction * (step + 1), l->ranks);
    const int slot = step % 2;
    int64_t row = 0;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, origin); i++) {
        const int64_t chunk = layout_rank_chunk(l, origin, i);
        const range keys = layout_chunk(l, chunk);
        if (reach_of(problem, chunk) <= step) continue;
        const schedule_transfer receive = {.direction = TRANSFER_RECEIVE,
                                           .peer = modulo((int64_t)s->rank - direction, l->ranks),
                                           .keys = keys,
                                           .slot = slot,
                                           .row = row};
        if (schedule_add_transfer(s, step, receive) != 0) return -1;
        row += range_length(keys);
    }
    if (row > s->slot_tokens[slot]) s->slot_tokens[slot] = row;
    return 0;
}

static int ring_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    const int ranks = problem->key_layout.ranks;
    schedule *s = schedule_create(rank, ranks);
    if (!s) return -1;
    for (int step = 0; step < ranks; step++) {
        if (plan_receives(s, problem, step) != 0 || plan_held(s, problem, step) != 0) {
            schedule_destroy(s);
            return -1;
        }
    }
    schedule_sort_folds(s);
    schedule_drop_idle_tail(s);
    *schedule_p = s;
    return 0;
}

extern const strategy strategy_ring;
const strategy strategy_ring = {
    .name = "ring",
    .summary = "keys and values walk around the ranks, a shard a step; memory for three shards",
    .refuse = schedule_problem_fault,
    .plan = ring_plan,
};
