/* Fetch, in rounds: of a sparse pattern every rank gets exactly the keys that its queries see, from one owner at a
 * time.
 *
 * For patterns of which a rank needs nearly everything (partition/needs.h): what it holds at once is what it needs of
 * two shards, not of all, and each round but the first travels behind folds. With distances x = 1 .. P - 1, rank r
 *
 *     step x - 1   receives what it needs of r - x, into slot (x - 1) % 2, sends r + x what that needs of r, and folds
 *                  what it has: its own keys in step 0, those of r - x + 1 later;
 *     step P - 1   folds the last.
 *
 * The bytes are those of fetch. Memory: the shard and two slots of what is needed of one rank, at most 2 n rows of keys
 * where fetch holds up to (P - 1) n, with n = N / P. */
#include "partition/needs.h"

#include <stdlib.h>
#include <string.h>

static int rank_at(const needs *x, int64_t distance)
{
    const int64_t ranks = x->problem->key_layout.ranks;
    return (int)((x->s->rank + distance + ranks) % ranks);
}

/* Who is asked, and who asks, in x->peers; the first into `origins`. */
static int plan_rounds(needs *x, const bool *origins)
{
    const int ranks = x->problem->key_layout.ranks;
    for (int distance = 1; distance < ranks; distance++) {
        const int from = rank_at(x, -distance), to = rank_at(x, distance);
        needs_turn_to(x, (distance - 1) % 2);
        if (origins[from] && needs_receive(x, distance - 1, from) != 0) return -1;
        if (x->peers[to] && needs_send(x, distance - 1, to) != 0) return -1;
        if (origins[from] && needs_fold_held(x, distance, needs_keys_of(x, from), 0) < 0) return -1;
    }
    return 0;
}

static int plan_all(needs *x, bool *origins)
{
    if (!origins || needs_fold_home(x, 0) != 0 || needs_find_origins(x) != 0) return -1;
    memcpy(origins, x->peers, (size_t)x->problem->key_layout.ranks * sizeof *origins);
    return needs_find_readers(x) != 0 ? -1 : plan_rounds(x, origins);
}

static int fetch_ring_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    const size_t ranks = (size_t)problem->key_layout.ranks;
    needs x;
    schedule *s = schedule_create(rank, (int64_t)ranks);
    if (!s) return -1;
    bool *origins = calloc(ranks, sizeof *origins);
    const int result = needs_begin(&x, problem, s, LANE_SLOTS) != 0 ? -1 : plan_all(&x, origins);
    needs_end(&x);
    free(origins);
    if (result != 0) {
        schedule_destroy(s);
        return -1;
    }
    schedule_drop_idle_tail(s);
    *schedule_p = s;
    return 0;
}

extern const strategy strategy_fetch_ring;
const strategy strategy_fetch_ring = {
    .name = "fetch-ring",
    .summary = "the same from one rank at a time, while what came before is folded; memory for two shards",
    .refuse = needs_refuse,
    .plan = fetch_ring_plan,
    .sparse = true,
};
