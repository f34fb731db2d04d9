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
#include "partition/schedule.h"

static int plan_sends(schedule *s, const schedule_problem *problem)
{
    const layout *l = &problem->key_layout;
    for (int distance = 1; distance < l->ranks; distance++) {
        const int peer = (int)(((int64_t)s->rank + distance) % l->ranks);
        for (int piece = 0; piece < layout_piece_count(l); piece++) {
            const range rows = schedule_needed_rows(problem, peer, peer, s->rank, piece);
            if (range_is_empty(rows)) continue;
            const schedule_transfer send = {.direction = TRANSFER_SEND,
                                            .peer = peer,
                                            .kind = ROWS_KEYS,
                                            .origin = s->rank,
                                            .rows = rows,
                                            .heads = heads_all(problem->kv_heads),
                                            .slot = SLOT_HOME,
                                            .slot_row = rows.begin};
            if (schedule_add_transfer(s, 0, send) != 0) return -1;
        }
    }
    return 0;
}

/* Receives rows of another rank in step 0, into the rows of slot 0 from *slot_row_p on. */
static int plan_receive(schedule *s, const schedule_problem *problem, int origin, range rows, int64_t *slot_row_p)
{
    int slot = 0;
    if (s->slot_count == 0 && schedule_add_slot(s, ROWS_KEYS, heads_all(problem->kv_heads), 0, &slot) != 0) return -1;
    const schedule_transfer receive = {.direction = TRANSFER_RECEIVE,
                                       .peer = origin,
                                       .kind = ROWS_KEYS,
                                       .origin = origin,
                                       .rows = rows,
                                       .heads = heads_all(problem->kv_heads),
                                       .slot = slot,
                                       .slot_row = *slot_row_p};
    if (schedule_add_transfer(s, 0, receive) != 0) return -1;
    *slot_row_p += range_length(rows);
    s->slots[slot].rows = *slot_row_p;
    return 0;
}

/* Folds the rank's own keys in step 0 and receives those of others meanwhile, to fold them in step 1. */
static int plan_keys(schedule *s, const schedule_problem *problem)
{
    const layout *l = &problem->key_layout;
    int64_t slot_row = 0;
    for (int origin = 0; origin < l->ranks; origin++) {
        const bool own = origin == s->rank;
        for (int piece = 0; piece < layout_piece_count(l); piece++) {
            const range rows = schedule_needed_rows(problem, s->rank, s->rank, origin, piece);
            if (range_is_empty(rows)) continue;
            const schedule_fold fold = {.heads = heads_all(problem->heads),
                                        .query_origin = s->rank,
                                        .query_slot = SLOT_HOME,
                                        .state_slot = SLOT_HOME,
                                        .key_origin = origin,
                                        .key_rows = rows,
                                        .holder = s->rank,
                                        .key_slot = own ? SLOT_HOME : 0,
                                        .key_slot_row = own ? rows.begin : slot_row};
            if (!own && plan_receive(s, problem, origin, rows, &slot_row) != 0) return -1;
            if (schedule_add_folds(s, own ? 0 : 1, problem, &fold) != 0) return -1;
        }
    }
    return 0;
}

static int gather_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, 2);
    if (!s) return -1;
    if (plan_keys(s, problem) != 0 || plan_sends(s, problem) != 0) {
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
