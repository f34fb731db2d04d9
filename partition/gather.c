/* All-gather attention: every rank first collects the keys and values its queries see, straight from their owners, and
 * folds its own shard meanwhile; then it folds what came.
 *
 * Two steps instead of P and no forwarding, so it sends least of all strategies that move keys; but a rank must hold
 * all it needs at once: under a causal mask up to the whole sequence. It is what Llama 3 trained with (arXiv
 * 2407.21783, section 3.3.2), where keys are few because heads share them. Under a window it is the exchange of a halo:
 * each rank receives the margins of its neighbours' shards and nothing else.
 *
 * Of each piece of another rank's keys a rank receives the rows from the first to the last that a query of its own
 * sees, in one message. The messages between two ranks are in the order of the pieces on both sides. A rank lists its
 * sends starting with the rank after it, so that not everybody writes to rank 0 first.
 *
 * Rows that rank r receives, and needs memory for, n = M / P keys a rank, each row all key/value heads (G (D + E)
 * elements, B batch items):
 *     full, any layout         (P-1) n; it sends as many
 *     causal, contiguous       r n; it sends (P-1-r) n
 *     causal, zigzag           (2P-2-r) n/2; it sends (P-1+r) n/2
 *     causal, striped          (P-1) n, but for a block at most of each shard
 *     window of w keys to the left (and causal), contiguous   min(w, r n) */
#include "partition/parcel.h"

static int plan_sends(schedule *s, const schedule_problem *problem)
{
    const int ranks = problem->key_layout.ranks;
    for (int distance = 1; distance < ranks; distance++) {
        const int peer = (int)(((int64_t)s->rank + distance) % ranks);
        const parcel keys = parcel_of_keys_seen_by(problem, peer, peer, s->rank);
        if (parcel_send(s, 0, &keys, peer) != 0) return -1;
    }
    return 0;
}

/* Folds the rank's own keys in step 0 and receives those of others meanwhile, to fold them in step 1. */
static int plan_keys(schedule *s, const schedule_problem *problem)
{
    const parcel queries = parcel_home(problem, ROWS_QUERIES, s->rank);
    const parcel states = parcel_home(problem, ROWS_STATES, s->rank);
    int slot;
    int64_t end = 0;
    if (schedule_add_slot(s, ROWS_KEYS, heads_all(problem->kv_heads), 0, &slot) != 0) return -1;
    for (int origin = 0; origin < problem->key_layout.ranks; origin++) {
        const bool own = origin == s->rank;
        parcel keys = parcel_of_keys_seen_by(problem, s->rank, s->rank, origin);
        if (!own) {
            parcel_place(&keys, slot, &end);
            if (parcel_receive(s, 0, &keys, origin) != 0) return -1;
        }
        if (parcel_fold(s, own ? 0 : 1, problem, &queries, &states, &keys, queries.heads) != 0) return -1;
    }
    slot_hold(s, slot, end);
    return 0;
}

static int gather_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, 2);
    if (!s) return -1;
    return schedule_finish(s, plan_keys(s, problem) != 0 ? -1 : plan_sends(s, problem), schedule_p);
}

extern const strategy strategy_gather;
const strategy strategy_gather = {
    .name = "gather",
    .summary = "every rank first collects all keys and values that its queries see; memory for all of them",
    .refuse = schedule_problem_fault,
    .plan = gather_plan,
};
