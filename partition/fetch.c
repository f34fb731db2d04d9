/* Fetch: of a sparse pattern every rank gets exactly the keys that its queries see, straight from their owners, and
 * folds its own meanwhile; then it folds what came.
 *
 * What is a halo, a broadcast or a gather elsewhere is here what falls out (partition/needs.h): of a window the ends of
 * the neighbours' shards, of sinks and of global tokens a few rows of one rank for all others.
 *
 *     step 0   sends and receives, all runs of needed tokens of a shard in one message; folds of keys at home;
 *     step 1   folds of keys that came: those before the rank's own, then those after them.
 *
 * A few queries that see nearly all keys, such as those of global tokens, go to the keys instead (partition/visits.h):
 * then their states go back in step 2 and are merged in step 3.
 *
 * Rows that a rank receives, n = N / P tokens a rank:
 *     sinks:COUNT,LEFT            min(LEFT, r n) and, where that does not reach them, COUNT
 *     global:LEFT,RIGHT,AT        LEFT and RIGHT, and the tokens AT; the queries AT, and their states back
 *     dilated:STEP,LEFT,RIGHT     min(STEP LEFT, r n) and as many to the right
 *     longnet:SEGMENT/STEP        of a head (SEGMENT - n) / STEP, where a segment is longer than a shard
 *     blocks                      the blocks that any of its rows of blocks names
 * The work is one visit of the pattern for each peer that there is something to send to or to receive from, and one of
 * all that see the rank's keys. */
#include "partition/visits.h"

enum { STEPS = 4 };

static int plan_transfers(needs *x)
{
    const int ranks = x->problem->key_layout.ranks, rank = x->s->rank;
    if (visits_find(x) != 0 || needs_find_origins(x) != 0) return -1;
    for (int origin = 0; origin < ranks; origin++)
        if (origin != rank && x->peers[origin] && needs_receive(x, 0, origin) != 0) return -1;
    if (needs_find_readers(x) != 0) return -1;
    for (int distance = 1; distance < ranks; distance++) {
        const int peer = (int)(((int64_t)rank + distance) % ranks);
        if (x->peers[peer] && needs_send(x, 0, peer) != 0) return -1;
    }
    return 0;
}

static int plan_all(needs *x)
{
    const range own = needs_keys_of(x, x->s->rank);
    if (plan_transfers(x) != 0 || needs_fold_home(x, 0) != 0) return -1;
    int turn = needs_fold_held(x, 1, (range){0, own.begin}, 0);
    if (turn < 0) return -1;
    turn = needs_fold_held(x, 1, (range){own.end, x->problem->mask.keys}, turn);
    return turn < 0 ? -1 : visits_plan(x, turn);
}

static int fetch_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    needs x;
    schedule *s = schedule_create(rank, STEPS);
    if (!s) return -1;
    const int result = needs_begin(&x, problem, s, 1) != 0 ? -1 : plan_all(&x);
    needs_end(&x);
    if (result != 0) {
        schedule_destroy(s);
        return -1;
    }
    schedule_drop_idle_tail(s);
    *schedule_p = s;
    return 0;
}

extern const strategy strategy_fetch;
const strategy strategy_fetch = {
    .name = "fetch",
    .summary = "every rank gets exactly the keys that its queries see of a sparse pattern; memory for these",
    .refuse = needs_refuse,
    .plan = fetch_plan,
    .sparse = true,
};
