/* All-gather attention: every rank first collects all the keys and values its queries see, straight from their
 * owners, and folds its own shard meanwhile; then it folds what came.
 *
 * Two steps instead of P and no forwarding, so it sends least of all strategies that move keys; but a rank must hold
 * all it needs at once: under a causal mask up to the whole sequence. It is what Llama 3 trained with (arXiv
 * 2407.21783, section 3.3.2), where keys are few because heads share them.
 *
 * The messages between two ranks are in the order of their keys on both sides. A rank lists its sends starting with
 * the rank after it, so that not everybody writes to rank 0 first. */
#include "partition/schedule.h"

static int plan_sends(schedule *s, const schedule_problem *problem)
{
    const layout *l = &problem->key_layout;
    for (int distance = 1; distance < l->ranks; distance++) {
        const int peer = (int)(((int64_t)s->rank + distance) % l->ranks);
        for (int64_t i = 0; i < layout_rank_chunk_count(l, s->rank); i++) {
            const int64_t chunk = layout_rank_chunk(l, s->rank, i);
            const range keys = layout_chunk(l, chunk);
            if (!schedule_rank_needs(problem, peer, keys)) continue;
            const schedule_transfer send = {.direction = TRANSFER_SEND,
                                            .peer = peer,
                                            .keys = keys,
                                            .slot = SLOT_HOME,
                                            .row = layout_chunk_row(l, chunk)};
            if (schedule_add_transfer(s, 0, send) != 0) return -1;
        }
    }
    return 0;
}

/* Receives the chunks of other ranks in step 0, one after the other in slot 0, and folds them in step 1; folds the
 * rank's own in step 0. */
static int plan_chunks(schedule *s, const schedule_problem *problem)
{
    const layout *l = &problem->key_layout;
    int64_t row = 0;
    for (int64_t chunk = 0; chunk < layout_chunk_count(l); chunk++) {
        const range keys = layout_chunk(l, chunk);
        const int owner = layout_chunk_owner(l, chunk);
        if (owner == s->rank) {
            if (schedule_add_folds(s, 0, problem, keys, SLOT_HOME, layout_chunk_row(l, chunk)) != 0) return -1;
            continue;
        }
        if (!schedule_rank_needs(problem, s->rank, keys)) continue;
        const schedule_transfer receive = {
            .direction = TRANSFER_RECEIVE, .peer = owner, .keys = keys, .slot = 0, .row = row};
        if (schedule_add_transfer(s, 0, receive) != 0) return -1;
        if (schedule_add_folds(s, 1, problem, keys, 0, row) != 0) return -1;
        row += range_length(keys);
    }
    s->slot_tokens[0] = row;
    return 0;
}

static int gather_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, 2);
    if (!s) return -1;
    if (plan_chunks(s, problem) != 0 || plan_sends(s, problem) != 0) {
        schedule_destroy(s);
        return -1;
    }
    schedule_sort_folds(s);
    schedule_drop_idle_tail(s);
    *schedule_p = s;
    return 0;
}

extern const strategy strategy_gather;
const strategy strategy_gather = {
    .name = "gather",
    .summary = "every rank first collects all keys and values that its queries see; memory for all of them",
    .refuse = schedule_problem_fault,
    .plan = gather_plan,
};
