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
 *     window of w <= n keys to the left (and causal), contiguous   w for r < P-1: one hop of what the next rank sees
 * A window to both sides sends slivers the long way round: there a gather is better. */
#include "partition/schedule.h"

static int direction_of(const schedule_problem *problem)
{
    return problem->key_layout.kind == LAYOUT_ZIGZAG ? -1 : 1;
}

static int modulo(int64_t a, int ranks)
{
    const int64_t rest = a % ranks;
    return (int)(rest < 0 ? rest + ranks : rest);
}

/* Rows of a piece that the ranks `hops`, hops + 1, ..., P-1 hops after its origin need: what travels on the hop of that
 * number. These ranks are one run, or two where the way passes from P-1 to 0. */
static range rows_of_hop(const schedule_problem *problem, int origin, int piece, int hops)
{
    const int ranks = problem->key_layout.ranks, direction = direction_of(problem);
    if (hops >= ranks) return (range){0, 0};
    const int next = modulo(origin + (int64_t)direction * hops, ranks);
    const int last = modulo((int64_t)origin - direction, ranks);
    const int low = direction > 0 ? next : last, high = direction > 0 ? last : next;
    if (low <= high) return schedule_needed_rows(problem, low, high, origin, piece);
    return range_hull(schedule_needed_rows(problem, 0, high, origin, piece),
                      schedule_needed_rows(problem, low, ranks - 1, origin, piece));
}

/* Step `step` of rank s->rank: folds and sends on what it holds of the shard that has travelled `step` hops. */
static int plan_held(schedule *s, const schedule_problem *problem, int step)
{
    const layout *l = &problem->key_layout;
    const int direction = direction_of(problem);
    const int origin = modulo(s->rank - (int64_t)direction * step, l->ranks);
    const int slot = step == 0 ? SLOT_HOME : (step - 1) % 2;
    int64_t slot_row = 0;
    for (int piece = 0; piece < layout_piece_count(l); piece++) {
        const range held = step == 0 ? layout_piece(l, origin, piece) : rows_of_hop(problem, origin, piece, step);
        const schedule_fold fold = {.heads = heads_all(problem->heads),
                                    .query_origin = s->rank,
                                    .query_slot = SLOT_HOME,
                                    .state_slot = SLOT_HOME,
                                    .key_origin = origin,
                                    .key_rows = held,
                                    .holder = s->rank,
                                    .key_slot = slot,
                                    .key_slot_row = slot_row};
        if (schedule_add_folds(s, step, problem, &fold) != 0) return -1;
        const range sent = rows_of_hop(problem, origin, piece, step + 1);
        const schedule_transfer send = {.direction = TRANSFER_SEND,
                                        .peer = modulo((int64_t)s->rank + direction, l->ranks),
                                        .kind = ROWS_KEYS,
                                        .origin = origin,
                                        .rows = sent,
                                        .heads = heads_all(problem->kv_heads),
                                        .slot = slot,
                                        .slot_row = slot_row + sent.begin - held.begin};
        if (!range_is_empty(sent) && schedule_add_transfer(s, step, send) != 0) return -1;
        slot_row += range_length(held);
    }
    return 0;
}

/* Step `step` of rank s->rank: receives what it holds in the next step. */
static int plan_receives(schedule *s, const schedule_problem *problem, int step)
{
    const layout *l = &problem->key_layout;
    const int direction = direction_of(problem);
    const int origin = modulo(s->rank - (int64_t)direction * (step + 1), l->ranks);
    const int slot = step % 2;
    int64_t slot_row = 0;
    for (int piece = 0; piece < layout_piece_count(l); piece++) {
        const range rows = rows_of_hop(problem, origin, piece, step + 1);
        if (range_is_empty(rows)) continue;
        const schedule_transfer receive = {.direction = TRANSFER_RECEIVE,
                                           .peer = modulo((int64_t)s->rank - direction, l->ranks),
                                           .kind = ROWS_KEYS,
                                           .origin = origin,
                                           .rows = rows,
                                           .heads = heads_all(problem->kv_heads),
                                           .slot = slot,
                                           .slot_row = slot_row};
        if (schedule_add_transfer(s, step, receive) != 0) return -1;
        slot_row += range_length(rows);
    }
    if (slot_row > 0 && slot_row > s->slots[slot].rows) s->slots[slot].rows = slot_row;
    return 0;
}

static int plan_steps(schedule *s, const schedule_problem *problem)
{
    const int ranks = problem->key_layout.ranks;
    for (int slot = 0; slot < 2 && ranks > 1; slot++) {
        int number = 0;
        if (schedule_add_slot(s, ROWS_KEYS, heads_all(problem->kv_heads), 0, &number) != 0) return -1;
    }
    for (int step = 0; step < ranks; step++)
        if (plan_receives(s, problem, step) != 0 || plan_held(s, problem, step) != 0) return -1;
    return 0;
}

static int ring_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, problem->key_layout.ranks);
    if (!s) return -1;
    if (plan_steps(s, problem) != 0) {
        schedule_destroy(s);
        return -1;
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
