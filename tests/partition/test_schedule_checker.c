/* The checker of schedules must be able to fail: right schedules, broken in every way and place, one at a time. */
#include "tests/partition/schedule_checker.h"

#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS = 4, TOKENS = 24, ALL = 1000 };

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG};

/* A mutation breaks place number `place` of the schedules and returns false when there are no more places. */
typedef bool (*mutation_fn)(schedule **schedules, const schedule_problem *p, int64_t place);

typedef struct {
    schedule *s;
    schedule_step *step;
    int64_t step_index, index;
} place_in_schedule;

typedef enum { OF_FOLDS, OF_TRANSFERS, OF_CLEARS, OF_MERGES } item_list;

static int64_t item_count(const schedule_step *step, item_list list)
{
    switch (list) {
    case OF_FOLDS:
        return step->fold_count;
    case OF_TRANSFERS:
        return step->transfer_count;
    case OF_CLEARS:
        return step->clear_count;
    default:
        return step->merge_count;
    }
}

static bool find_item(schedule **schedules, item_list list, int64_t place, place_in_schedule *at)
{
    for (int rank = 0; rank < RANKS; rank++)
        for (int64_t i = 0; i < schedules[rank]->step_count; i++) {
            schedule_step *step = &schedules[rank]->steps[i];
            if (place < item_count(step, list)) {
                *at = (place_in_schedule){schedules[rank], step, i, place};
                return true;
            }
            place -= item_count(step, list);
        }
    return false;
}

static schedule_fold *find_fold(schedule **schedules, int64_t place)
{
    place_in_schedule at;
    return find_item(schedules, OF_FOLDS, place, &at) ? &at.step->folds[at.index] : NULL;
}

static schedule_transfer *find_transfer(schedule **schedules, int64_t place)
{
    place_in_schedule at;
    return find_item(schedules, OF_TRANSFERS, place, &at) ? &at.step->transfers[at.index] : NULL;
}

static schedule_merge *find_merge(schedule **schedules, int64_t place)
{
    place_in_schedule at;
    return find_item(schedules, OF_MERGES, place, &at) ? &at.step->merges[at.index] : NULL;
}

static int64_t other_way(int64_t place)
{
    return place % 2 ? 1 : -1;
}

/* Folds. */

static bool fold_dropped(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_FOLDS, place, &at)) return false;
    at.step->fold_count--;
    memmove(&at.step->folds[at.index], &at.step->folds[at.index + 1],
            (size_t)(at.step->fold_count - at.index) * sizeof *at.step->folds);
    return true;
}

static bool fold_done_twice(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_FOLDS, place, &at)) return false;
    assert_int_equal(schedule_add_fold(at.s, at.step_index, at.step->folds[at.index]), 0);
    return true;
}

static bool fold_key_row_shifted(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->key_slot_row += other_way(place);
    return f;
}

static bool fold_query_row_shifted(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->query_slot_row += other_way(place);
    return f;
}

static bool fold_state_row_shifted(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->state_slot_row += other_way(place);
    return f;
}

static bool fold_of_another_piece_of_queries(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->query_rows.end++;
    return f;
}

static bool fold_of_the_last_key_only(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f;
    for (int64_t i = 0; (f = find_fold(schedules, i)); i++) {
        if (range_length(f->key_rows) == 1 || place-- > 0) continue;
        f->key_slot_row += range_length(f->key_rows) - 1;
        f->key_rows.begin = f->key_rows.end - 1;
        return true;
    }
    return false;
}

static bool fold_in_another_key_slot(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->key_slot = f->key_slot == SLOT_HOME ? 0 : f->key_slot - 1;
    return f;
}

static bool fold_in_another_query_slot(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->query_slot = f->query_slot == SLOT_HOME ? 0 : f->query_slot - 1;
    return f;
}

static bool fold_in_another_state_slot(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->state_slot = f->state_slot == SLOT_HOME ? 0 : f->state_slot - 1;
    return f;
}

static bool fold_of_another_origin(schedule **schedules, const schedule_problem *p, int64_t place)
{
    schedule_fold *f = find_fold(schedules, place);
    if (f && place % 2) f->key_origin = (f->key_origin + 1) % p->key_layout.ranks;
    else if (f) f->query_origin = (f->query_origin + 1) % p->key_layout.ranks;
    return f;
}

static bool fold_of_fewer_heads(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f && place % 2) f->heads.begin++;
    else if (f) f->heads.end--;
    return f;
}

static bool fold_of_more_heads(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f && place % 2) f->heads.begin--;
    else if (f) f->heads.end++;
    return f;
}

static bool fold_with_another_holder(schedule **schedules, const schedule_problem *p, int64_t place)
{
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->holder = (f->holder + 1) % p->key_layout.ranks;
    return f;
}

static bool fold_looks_the_other_way(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_fold *f = find_fold(schedules, place);
    if (f) f->look_inside = !f->look_inside;
    return f;
}

/* The first fold of a run of several goes to the end of its step, behind those of other queries. */
static bool folds_scattered(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    for (int64_t i = 0; find_item(schedules, OF_FOLDS, i, &at); i++) {
        schedule_fold *f = &at.step->folds[at.index];
        const int64_t after = at.step->fold_count - at.index - 1;
        if (after < 2 || f[0].query_rows.begin != f[1].query_rows.begin || f[0].query_origin != f[1].query_origin)
            continue;
        const schedule_fold *last = &f[after];
        if (f[0].query_rows.begin == last->query_rows.begin && f[0].query_origin == last->query_origin) continue;
        if (place-- > 0) continue;
        const schedule_fold first = f[0];
        memmove(f, f + 1, (size_t)after * sizeof *f);
        f[after] = first;
        return true;
    }
    return false;
}

/* Transfers. */

static void remove_transfer(schedule_step *step, int64_t index)
{
    step->transfer_count--;
    memmove(&step->transfers[index], &step->transfers[index + 1],
            (size_t)(step->transfer_count - index) * sizeof *step->transfers);
}

/* The matching receive or send of the peer. */
static int64_t find_twin(const schedule_step *other, int rank, const schedule_transfer *t)
{
    for (int64_t i = 0; i < other->transfer_count; i++) {
        const schedule_transfer *x = &other->transfers[i];
        if (x->peer == rank && x->direction != t->direction && x->kind == t->kind && x->origin == t->origin &&
            x->rows.begin == t->rows.begin && x->heads.begin == t->heads.begin)
            return i;
    }
    fail_msg("a transfer of rank %d has no twin", rank);
    return -1;
}

static bool transfer_dropped(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_TRANSFERS, place, &at)) return false;
    remove_transfer(at.step, at.index);
    return true;
}

static bool transfer_and_twin_dropped(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_TRANSFERS, place, &at)) return false;
    const schedule_transfer t = at.step->transfers[at.index];
    remove_transfer(at.step, at.index);
    schedule_step *other = &schedules[t.peer]->steps[at.step_index];
    remove_transfer(other, find_twin(other, at.s->rank, &t));
    return true;
}

static bool transfer_row_shifted(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_transfer *t = find_transfer(schedules, place);
    if (t) t->slot_row += other_way(place);
    return t;
}

static bool transfer_in_another_slot(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_transfer *t = find_transfer(schedules, place);
    if (t) t->slot = t->slot == 0 ? 1 : 0;
    return t;
}

static bool receive_into_the_home_shard(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_transfer *t;
    for (int64_t i = 0; (t = find_transfer(schedules, i)); i++) {
        if (t->direction != TRANSFER_RECEIVE || place-- > 0) continue;
        t->slot = SLOT_HOME;
        t->slot_row = 0;
        return true;
    }
    return false;
}

static bool transfer_with_another_peer(schedule **schedules, const schedule_problem *p, int64_t place)
{
    schedule_transfer *t = find_transfer(schedules, place);
    if (t) t->peer = (t->peer + 1) % p->key_layout.ranks;
    return t;
}

static bool transfer_of_other_rows(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_transfer *t = find_transfer(schedules, place);
    if (t) {
        t->rows.begin++;
        t->slot_row++;
    }
    return t;
}

static bool transfer_of_another_origin(schedule **schedules, const schedule_problem *p, int64_t place)
{
    schedule_transfer *t = find_transfer(schedules, place);
    if (t) t->origin = (t->origin + 1) % p->key_layout.ranks;
    return t;
}

static bool transfer_of_another_kind(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_transfer *t = find_transfer(schedules, place);
    if (t) t->kind = (rows_kind)((t->kind + 1) % ROWS_KINDS);
    return t;
}

static bool transfer_of_fewer_heads(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_transfer *t = find_transfer(schedules, place);
    if (t) t->heads.begin++;
    return t;
}

/* On both sides, so that only what is missing afterwards tells. */
static bool transfer_and_twin_of_fewer_heads(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    for (int64_t i = 0; find_item(schedules, OF_TRANSFERS, i, &at); i++) {
        schedule_transfer *t = &at.step->transfers[at.index];
        if (heads_count(t->heads) == 1 || place-- > 0) continue;
        schedule_step *other = &schedules[t->peer]->steps[at.step_index];
        schedule_transfer *twin = &other->transfers[find_twin(other, at.s->rank, t)];
        t->heads.begin++;
        twin->heads.begin++;
        return true;
    }
    return false;
}

/* Two transfers of one direction with one peer in one step change places, on one side only. */
static bool transfers_out_of_order(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    for (int64_t i = 0; find_item(schedules, OF_TRANSFERS, i, &at); i++) {
        schedule_transfer *t = &at.step->transfers[at.index];
        if (at.index + 1 >= at.step->transfer_count) continue;
        if (t[0].peer != t[1].peer || t[0].direction != t[1].direction || place-- > 0) continue;
        const schedule_transfer first = t[0];
        t[0] = t[1];
        t[1] = first;
        return true;
    }
    return false;
}

static bool is_folded(const schedule_step *step, const schedule_transfer *received)
{
    for (int64_t i = 0; i < step->fold_count; i++) {
        const schedule_fold *f = &step->folds[i];
        const bool keys = received->kind == ROWS_KEYS;
        const range rows = keys ? f->key_rows : f->query_rows;
        if ((keys ? f->key_origin : f->query_origin) == received->origin &&
            (keys ? f->key_slot : f->query_slot) == received->slot &&
            !range_is_empty(range_intersect(rows, received->rows)))
            return true;
    }
    return false;
}

/* A transfer and its twin happen a step later, in which what it brings is folded. */
static bool transfer_a_step_late(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    for (int64_t i = 0; find_item(schedules, OF_TRANSFERS, i, &at); i++) {
        const schedule_transfer t = at.step->transfers[at.index];
        schedule *other = schedules[t.peer];
        if (t.direction != TRANSFER_SEND || at.step_index + 1 >= at.s->step_count ||
            at.step_index + 1 >= other->step_count)
            continue;
        const int64_t index = find_twin(&other->steps[at.step_index], at.s->rank, &t);
        const schedule_transfer twin = other->steps[at.step_index].transfers[index];
        if (!is_folded(&other->steps[at.step_index + 1], &twin) || place-- > 0) continue;
        remove_transfer(at.step, at.index);
        remove_transfer(&other->steps[at.step_index], index);
        assert_int_equal(schedule_add_transfer(at.s, at.step_index + 1, t), 0);
        assert_int_equal(schedule_add_transfer(other, at.step_index + 1, twin), 0);
        return true;
    }
    return false;
}

/* Rows that nobody asked for go from their owner to a rank that has no use for them, with room and twin in order. */
static bool useless_transfer_added(schedule **schedules, const schedule_problem *p, int64_t place)
{
    for (int from = 0; from < RANKS; from++)
        for (int to = 0; to < RANKS; to++) {
            const range rows = layout_piece(&p->key_layout, from, 0);
            if (from == to || range_is_empty(rows) || place-- > 0) continue;
            int slot;
            assert_int_equal(
                schedule_add_slot(schedules[to], ROWS_KEYS, heads_all(p->kv_heads), range_length(rows), &slot), 0);
            schedule_transfer t = {.direction = TRANSFER_SEND,
                                   .peer = to,
                                   .kind = ROWS_KEYS,
                                   .origin = from,
                                   .rows = rows,
                                   .heads = heads_all(p->kv_heads),
                                   .slot = SLOT_HOME,
                                   .slot_row = rows.begin};
            assert_int_equal(schedule_add_transfer(schedules[from], 0, t), 0);
            t.direction = TRANSFER_RECEIVE;
            t.peer = from;
            t.slot = slot;
            t.slot_row = 0;
            assert_int_equal(schedule_add_transfer(schedules[to], 0, t), 0);
            return true;
        }
    return false;
}

/* Clears and merges. */

static bool clear_dropped(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_CLEARS, place, &at)) return false;
    at.step->clear_count = 0;
    return true;
}

static bool clear_a_row_too_few(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_CLEARS, place, &at)) return false;
    schedule_clear *x = &at.step->clears[at.index];
    if (place % 2) x->slot_rows.begin++;
    else x->slot_rows.end--;
    return true;
}

static bool folds_into(const schedule_step *step, int slot)
{
    for (int64_t i = 0; i < step->fold_count; i++)
        if (step->folds[i].state_slot == slot) return true;
    return false;
}

static bool clear_after_a_fold(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_CLEARS, place, &at)) return false;
    const schedule_clear x = at.step->clears[at.index];
    int64_t step = at.step_index;
    while (step + 1 < at.s->step_count && !folds_into(&at.s->steps[step], x.slot)) step++;
    at.step->clear_count = 0;
    if (step + 1 == at.s->step_count) return true;
    assert_int_equal(schedule_add_clear(at.s, step + 1, x), 0);
    return true;
}

static bool clear_of_another_slot(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_CLEARS, place, &at)) return false;
    at.step->clears[at.index].slot--;
    return true;
}

static bool merge_dropped(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_MERGES, place, &at)) return false;
    at.step->merge_count--;
    memmove(&at.step->merges[at.index], &at.step->merges[at.index + 1],
            (size_t)(at.step->merge_count - at.index) * sizeof *at.step->merges);
    return true;
}

static bool merge_done_twice(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_MERGES, place, &at)) return false;
    assert_int_equal(schedule_add_merge(at.s, at.step_index, at.step->merges[at.index]), 0);
    return true;
}

static bool merge_a_step_early(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    place_in_schedule at;
    if (!find_item(schedules, OF_MERGES, place, &at)) return false;
    const schedule_merge x = at.step->merges[at.index];
    at.step->merges[at.index] = at.step->merges[--at.step->merge_count];
    assert_int_equal(schedule_add_merge(at.s, at.step_index - 1, x), 0);
    return true;
}

static bool merge_from_a_shifted_row(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_merge *x = find_merge(schedules, place);
    if (x) x->from_row += other_way(place);
    return x;
}

static bool merge_to_a_shifted_row(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_merge *x = find_merge(schedules, place);
    if (x) x->to_row += other_way(place);
    return x;
}

static bool merge_of_a_row_too_few(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_merge *x = find_merge(schedules, place);
    if (x) x->count--;
    return x;
}

static bool merge_of_fewer_heads(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_merge *x = find_merge(schedules, place);
    if (x) x->heads.end--;
    return x;
}

static bool merge_from_another_slot(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_merge *x = find_merge(schedules, place);
    if (x) x->from_slot = x->from_slot == 0 ? 1 : x->from_slot - 1;
    return x;
}

static bool merge_to_itself(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    schedule_merge *x = find_merge(schedules, place);
    if (x) x->to_slot = x->from_slot;
    return x;
}

/* Slots and steps. */

static bool slot_too_large(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    for (int rank = 0; rank < RANKS; rank++) {
        schedule *s = schedules[rank];
        if (place < s->slot_count) {
            s->slots[place].rows++;
            return true;
        }
        place -= s->slot_count;
    }
    return false;
}

static bool slot_too_small(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    for (int rank = 0; rank < RANKS; rank++)
        for (int slot = 0; slot < schedules[rank]->slot_count; slot++)
            if (schedules[rank]->slots[slot].rows > 0 && place-- == 0) {
                schedules[rank]->slots[slot].rows--;
                return true;
            }
    return false;
}

static bool slot_of_fewer_heads(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    for (int rank = 0; rank < RANKS; rank++)
        for (int slot = 0; slot < schedules[rank]->slot_count; slot++)
            if (schedules[rank]->slots[slot].rows > 0 && place-- == 0) {
                schedules[rank]->slots[slot].heads.end--;
                return true;
            }
    return false;
}

static bool memory_not_shared(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    if (place >= RANKS || !schedules[place]->shares_memory) return false;
    schedules[place]->shares_memory = false;
    return true;
}

/* Memory appears to be shared by a whole node, but its ranks do not have as many steps. */
static bool step_added_to_one_rank_of_a_node(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    if (place >= RANKS || !schedules[place]->shares_memory) return false;
    schedule *s = schedule_create((int)place, schedules[place]->step_count + 1);
    assert_non_null(s);
    memcpy(s->steps, schedules[place]->steps, (size_t)schedules[place]->step_count * sizeof *s->steps);
    schedules[place]->step_count = 0;
    s->shares_memory = true;
    for (int i = 0; i < schedules[place]->slot_count; i++) {
        const schedule_slot *slot = &schedules[place]->slots[i];
        int number;
        assert_int_equal(schedule_add_slot(s, slot->kind, slot->heads, slot->rows, &number), 0);
    }
    schedule_destroy(schedules[place]);
    schedules[place] = s;
    return true;
}

static bool schedule_of_another_rank(schedule **schedules, const schedule_problem *p, int64_t place)
{
    (void)p;
    if (place >= RANKS) return false;
    schedules[place]->rank = (int)(place + 1) % RANKS;
    return true;
}

static const struct {
    const char *name;
    mutation_fn mutate;
    int strategies; /* that it must have found a place in, at the least */
} mutations[] = {
    {"a fold dropped", fold_dropped, ALL},
    {"a fold done twice", fold_done_twice, ALL},
    {"a fold's key row shifted", fold_key_row_shifted, ALL},
    {"a fold's query row shifted", fold_query_row_shifted, ALL},
    {"a fold's state row shifted", fold_state_row_shifted, ALL},
    {"a fold of a query too many", fold_of_another_piece_of_queries, ALL},
    {"a fold of the last key only", fold_of_the_last_key_only, ALL},
    {"a fold in another key slot", fold_in_another_key_slot, ALL},
    {"a fold in another query slot", fold_in_another_query_slot, ALL},
    {"a fold in another state slot", fold_in_another_state_slot, ALL},
    {"a fold of another origin", fold_of_another_origin, ALL},
    {"a fold of fewer heads", fold_of_fewer_heads, ALL},
    {"a fold of more heads", fold_of_more_heads, ALL},
    {"a fold with another holder", fold_with_another_holder, ALL},
    {"a fold that looks the other way", fold_looks_the_other_way, ALL},
    {"folds of the same queries scattered", folds_scattered, 5},
    {"a transfer dropped", transfer_dropped, ALL},
    {"a transfer and its twin dropped", transfer_and_twin_dropped, ALL},
    {"a transfer's row shifted", transfer_row_shifted, ALL},
    {"a transfer in another slot", transfer_in_another_slot, ALL},
    {"a receive into the home shard", receive_into_the_home_shard, ALL},
    {"a transfer with another peer", transfer_with_another_peer, ALL},
    {"a transfer of other rows", transfer_of_other_rows, ALL},
    {"a transfer of another origin", transfer_of_another_origin, ALL},
    {"a transfer of another kind", transfer_of_another_kind, ALL},
    {"a transfer of fewer heads", transfer_of_fewer_heads, ALL},
    {"a transfer and its twin of fewer heads", transfer_and_twin_of_fewer_heads, 7},
    {"transfers out of order", transfers_out_of_order, ALL},
    {"a transfer and its twin a step late", transfer_a_step_late, ALL},
    {"a useless transfer", useless_transfer_added, ALL},
    {"a clear dropped", clear_dropped, 4},
    {"a clear of a row too few", clear_a_row_too_few, 4},
    {"a clear after a fold", clear_after_a_fold, 4},
    {"a clear of another slot", clear_of_another_slot, 4},
    {"a merge dropped", merge_dropped, 4},
    {"a merge done twice", merge_done_twice, 4},
    {"a merge a step early", merge_a_step_early, 4},
    {"a merge from a shifted row", merge_from_a_shifted_row, 4},
    {"a merge to a shifted row", merge_to_a_shifted_row, 4},
    {"a merge of a row too few", merge_of_a_row_too_few, 4},
    {"a merge of fewer heads", merge_of_fewer_heads, 4},
    {"a merge from another slot", merge_from_another_slot, 4},
    {"a merge to itself", merge_to_itself, 4},
    {"a slot too large", slot_too_large, ALL},
    {"a slot too small", slot_too_small, ALL},
    {"a slot of fewer heads", slot_of_fewer_heads, ALL},
    {"memory that is not shared", memory_not_shared, 1},
    {"a step more than the rest of the node", step_added_to_one_rank_of_a_node, 1},
    {"a schedule of another rank", schedule_of_another_rank, ALL},
};
enum { MUTATIONS = sizeof mutations / sizeof mutations[0] };

/* Breaks every place of a problem's schedules, one at a time. Returns how many places there were. */
static int64_t all_places_are_noticed(const pair_table *pairs, const schedule_problem *p, const strategy *how,
                                      int mutation)
{
    for (int64_t place = 0;; place++) {
        schedule *schedules[RANKS];
        char fault[256];
        plan_all(p, how, schedules);
        const bool mutated = mutations[mutation].mutate(schedules, p, place);
        const bool right = schedules_are_right(pairs, p, schedules, fault, sizeof fault);
        destroy_all(p, schedules);
        if (!mutated) {
            if (!right) fail_msg("%s: %s", how->name, fault);
            return place;
        }
        if (right) {
            char text[512];
            problem_describe(p, how->name, text, sizeof text);
            fail_msg("%s: the checker overlooks: %s, place %" PRId64, text, mutations[mutation].name, place);
        }
    }
}

static void every_broken_schedule_is_noticed(void **state)
{
    (void)state;
    const document_set set = {4, {0, 9, 9, 17, TOKENS}};
    bool found[MUTATIONS][16] = {{0}};
    int for_masks = 0;
    assert_true(strategy_count <= 16);
    for (int i = 0; i < strategy_count; i++) for_masks += !strategies[i]->sparse;
    for (size_t kind = 0; kind < 2; kind++) {
        for (int form = 0; form < 4; form++) {
            schedule_problem p = problem_of(kinds[kind], TOKENS, TOKENS, 1, RANKS, form == 1);
            p.node_ranks = p.columns = 2;
            p.may_share = true;
            if (form == 2) {
                p.mask.documents = set.offsets;
                p.mask.document_count = set.count;
            }
            if (form == 3) p.mask.window_left = p.mask.window_right = 4;
            pair_table *pairs = pair_table_create(&p);
            for (int m = 0; m < MUTATIONS; m++)
                for (int i = 0; i < strategy_count; i++)
                    if (!strategies[i]->sparse && all_places_are_noticed(pairs, &p, strategies[i], m) > 0)
                        found[m][i] = true;
            pair_table_destroy(pairs);
        }
    }
    for (int m = 0; m < MUTATIONS; m++) {
        int count = 0;
        for (int i = 0; i < strategy_count; i++) count += found[m][i];
        const int expected = mutations[m].strategies == ALL ? for_masks : mutations[m].strategies;
        if (count < expected) fail_msg("%d strategies have a place for: %s", count, mutations[m].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_schedule_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
