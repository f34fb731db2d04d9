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
 * A ring that carries everything everywhere sends (P-1)/P of all keys through every rank. Here each hop carries, of
 * each piece of a shard, only the rows from the first to the last that any rank still ahead on the way needs; a rank on
 * the way that does not need them passes them on without folding. The slot holds what arrived, packed.
 *
 * How much that is depends on the direction, which is why there is one. Under a causal mask a rank needs the keys
 * before its own. In a contiguous layout those belong to lower ranks: going up (+1), the shard of rank o stops at rank
 * P-1 after P-1-o hops, where going down it would pass 0 and wrap around to o+1. In a zigzag layout the early chunk r
 * is needed by every rank, for its late queries, and goes all the way either way. The late chunk 2P-1-r is needed only
 * by later queries, which lie on ranks below r: going down (-1) it stops at rank 0 after r hops; going up it would have
 * to pass P-1 first. Down thus saves a quarter of all traffic. In a striped layout every rank needs some of every
 * shard, and without a causal mask everything is needed everywhere: both directions cost the same.
 *
 * Rows that rank r sends, n = M / P keys a rank, each row all key/value heads (G (D + E) elements, B batch items):
 *     full, any layout         (P-1) n
 *     causal, contiguous       (r+1) n for r < P-1, else 0; the mean is (P-1)/2 n
 *     causal, zigzag           (P-1) n/2 + (P-r) n/2 for r > 0; (P-1) n/2 for r = 0; the mean is 3/4 (P-1) n
 *     causal, striped          (P-1) n, but for a block at most of each shard
 *     window of w keys to the left (and causal), contiguous   min(w, (r+1) n) for r < P-1, else 0
 * A window to both sides sends slivers the long way round: there a gather is better. */
#include "partition/parcel.h"

/* What this rank holds in a step. */
static parcel held_shard(const schedule *s, const schedule_problem *problem, const group_ring *ring, int step,
                         const int slots[2])
{
    const int origin = group_ahead(ring, s->rank, -step);
    return parcel_on_ring(problem, ring, origin, step, origin, slots);
}

static int plan_steps(schedule *s, const schedule_problem *problem)
{
    const int ranks = problem->key_layout.ranks;
    const group_ring ring = {.first = 0, .size = 1, .groups = ranks, .direction = ring_direction(problem)};
    const parcel queries = parcel_home(problem, ROWS_QUERIES, s->rank);
    const parcel states = parcel_home(problem, ROWS_STATES, s->rank);
    const int to = group_ahead(&ring, s->rank, 1), from = group_ahead(&ring, s->rank, -1);
    int slots[2];
    for (int i = 0; i < 2; i++)
        if (schedule_add_slot(s, ROWS_KEYS, heads_all(problem->kv_heads), 0, &slots[i]) != 0) return -1;
    for (int step = 0; step < ranks; step++) {
        const parcel held = held_shard(s, problem, &ring, step, slots);
        if (parcel_fold(s, step, problem, &queries, &states, &held, queries.heads) != 0) return -1;
        if (step + 1 == ranks) continue;
        const parcel next = held_shard(s, problem, &ring, step + 1, slots);
        if (parcel_pass_on(s, step, problem, &ring, held.origin, step, &held, to, &next, from) != 0) return -1;
    }
    return 0;
}

static int ring_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, problem->key_layout.ranks);
    if (!s) return -1;
    return schedule_finish(s, plan_steps(s, problem), schedule_p);
}

extern const strategy strategy_ring;
const strategy strategy_ring = {
    .name = "ring",
    .summary = "keys and values walk around the ranks, a shard a step; memory for three shards",
    .refuse = schedule_problem_fault,
    .plan = ring_plan,
};
