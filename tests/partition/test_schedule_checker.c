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

enum { RANKS = 4, TOKENS = 24 };

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG};

/* A mutation breaks place number `place` of one rank's schedule (and its twin where
 * it says so) and returns false when there are no more places. */
typedef bool (*mutation_fn)(schedule **schedules, const schedule_problem *p, int64_t place);

typedef struct {
    schedule_step *step;
    int rank;
    int64_t step_index, index;
} place_in_schedule;

static bool find_fold(schedule **schedules, const schedule_problem *p, int64_t place, place_in_schedule *at)
{
    for (int rank = 0; rank < p->key_layout.ranks; rank++)
        for (int64_t i = 0; i < schedules[rank]->step_count; i++) {
            schedule_step *step = &schedules[rank]->steps[i];
            if (place < step->fold_count) {
                *at = (place_in_schedule){step, rank, i, place};
                return true;
            }
            place -= step->fold_count;
        }
    return false;
}

static bool find_transfer(schedule **schedules, const schedule_problem *p, int64_t place, place_in_schedule *at)
{
    for (int rank = 0; rank < p->key_layout.ranks; rank++)
        for (int64_t i = 0; i < schedules[rank]->step_count; i++) {
            schedule_step *step = &schedules[rank]->steps[i];
            if (place < step->transfer_count) {
                *at = (place_in_schedule){step, rank, i, place};
                return true;
            }
            place -= step->transfer_count;
        }
    return false;
}

static void remove_transfer(schedule_step *step, int64_t index)
{
    step->transfer_count--;
    memmove(&step->transfers[index], &step->transfers[index + 1],
            (size_t)(step->transfer_count - index) * sizeof *step->transfers);
}

static bool fold_dropped(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_fold(schedules, p, place, &at)) return false;
    at.step->fold_count--;
    memmove(&at.step->folds[at.index], &at.step->folds[at.index + 1],
            (size_t)(at.step->fold_count - at.index) * sizeof *at.step->folds);
    return true;
}

static bool fold_row_shifted(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_fold(schedules, p, place, &at)) return false;
    at.step->folds[at.index].row += place % 2 ? 1 : -1;
    return true;
}

static bool fold_of_the_last_key_only(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_fold(schedules, p, place, &at)) return false;
    schedule_fold *f = &at.step->folds[at.index];
    f->row += range_length(f->keys) - 1;
    f->keys.begin = f->keys.end - 1;
    return true;
}

static bool fold_in_another_slot(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_fold(schedules, p, place, &at)) return false;
    schedule_fold *f = &at.step->folds[at.index];
    f->slot = f->slot == SLOT_HOME ? 0 : f->slot - 1;
    return true;
}

static bool fold_looks_the_other_way(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_fold(schedules, p, place, &at)) return false;
    at.step->folds[at.index].look_inside = !at.step->folds[at.index].look_inside;
    return true;
}

static bool fold_done_twice(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_fold(schedules, p, place, &at)) return false;
    const schedule_fold *f = &at.step->folds[at.index];
    assert_int_equal(schedule_add_folds(schedules[at.rank], at.step_index, p, f->keys, f->slot, f->row), 0);
    return true;
}

static bool transfer_dropped(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, p, place, &at)) return false;
    remove_transfer(at.step, at.index);
    return true;
}

static bool transfer_and_twin_dropped(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, p, place, &at)) return false;
    const schedule_transfer t = at.step->transfers[at.index];
    remove_transfer(at.step, at.index);
    schedule_step *other = &schedules[t.peer]->steps[at.step_index];
    for (int64_t i = 0; i < other->transfer_count; i++) {
        const schedule_transfer *x = &other->transfers[i];
        if (x->peer == at.rank && x->direction != t.direction && x->keys.begin == t.keys.begin) {
            remove_transfer(other, i);
            return true;
        }
    }
    fail_msg("a transfer of rank %d has no twin", at.rank);
    return false;
}

static bool transfer_row_shifted(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, p, place, &at)) return false;
    at.step->transfers[at.index].row += place % 2 ? 1 : -1;
    return true;
}

static bool transfer_in_another_slot(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, p, place, &at)) return false;
    schedule_transfer *t = &at.step->transfers[at.index];
    t->slot = t->slot == 0 ? 1 : 0;
    return true;
}

static bool transfer_with_another_peer(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, p, place, &at)) return false;
    at.step->transfers[at.index].peer = (at.step->transfers[at.index].peer + 1) % p->key_layout.ranks;
    return true;
}

static bool transfer_of_other_keys(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, p, place, &at)) return false;
    at.step->transfers[at.index].keys.begin++;
    at.step->transfers[at.index].row++;
    return true;
}

/* Two transfers of one direction with one peer in one step change places, on one side only. */
static bool transfers_out_of_order(schedule **schedules, const schedule_problem *p, int64_t place)
{
    place_in_schedule at;
    for (int64_t i = 0; find_transfer(schedules, p, i, &at); i++) {
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

static bool slot_too_large(schedule **schedules, const schedule_problem *p, int64_t place)
{
    if (place >= p->key_layout.ranks) return false;
    schedules[place]->slot_tokens[place % 2]++;
    return true;
}

static bool slot_too_small(schedule **schedules, const schedule_problem *p, int64_t place)
{
    for (int rank = 0; rank < p->key_layout.ranks; rank++)
        for (int slot = 0; slot < SCHEDULE_MAX_SLOTS; slot++)
            if (schedules[rank]->slot_tokens[slot] > 0 && place-- == 0) {
                schedules[rank]->slot_tokens[slot]--;
                return true;
            }
    return false;
}

/* A chunk that nobody asked for goes from its owner to a rank that has no use for it, with room and twin in order. */
static bool useless_transfer_added(schedule **schedules, const schedule_problem *p, int64_t place)
{
    const layout *l = &p->key_layout;
    for (int from = 0; from < l->ranks; from++)
        for (int to = 0; to < l->ranks; to++) {
            const int64_t chunk = layout_rank_chunk(l, from, 0);
            const range keys = layout_chunk(l, chunk);
            if (from == to || range_is_empty(keys) || schedule_rank_needs(p, to, keys) || place-- > 0) continue;
            const schedule_transfer send = {TRANSFER_SEND, to, keys, SLOT_HOME, layout_chunk_row(l, chunk)};
            const schedule_transfer receive = {TRANSFER_RECEIVE, from, keys, 0, schedules[to]->slot_tokens[0]};
            schedules[to]->slot_tokens[0] += range_length(keys);
            assert_int_equal(schedule_add_transfer(schedules[from], 0, send), 0);
            assert_int_equal(schedule_add_transfer(schedules[to], 0, receive), 0);
            return true;
        }
    return false;
}

/* Breaks every place of a problem's schedules, one at a time. Returns how many places there were. */
static int64_t all_places_are_noticed(const schedule_problem *p, const strategy *how, const char *name,
                                      mutation_fn mutate)
{
    for (int64_t place = 0;; place++) {
        schedule *schedules[RANKS];
        char fault[256];
        plan_all(p, how, schedules);
        const bool mutated = mutate(schedules, p, place);
        const bool right = schedules_are_right(p, schedules, may_forward(how), fault, sizeof fault);
        destroy_all(p, schedules);
        if (!mutated) {
            assert_true(right);
            return place;
        }
        if (right) {
            char text[512];
            problem_describe(p, how->name, text, sizeof text);
            fail_msg("%s: the checker overlooks: %s, place %" PRId64, text, name, place);
        }
    }
}

static void every_broken_schedule_is_noticed(void **state)
{
    (void)state;
    const struct {
        const char *name;
        mutation_fn mutate;
    } mutations[] = {
        {"a fold dropped", fold_dropped},
        {"a fold's row shifted", fold_row_shifted},
        {"a fold of the last key only", fold_of_the_last_key_only},
        {"a fold in another slot", fold_in_another_slot},
        {"a fold that looks the other way", fold_looks_the_other_way},
        {"a fold done twice", fold_done_twice},
        {"a transfer dropped", transfer_dropped},
        {"a transfer and its twin dropped", transfer_and_twin_dropped},
        {"a transfer's row shifted", transfer_row_shifted},
        {"a transfer in another slot", transfer_in_another_slot},
        {"a transfer with another peer", transfer_with_another_peer},
        {"a transfer of other keys", transfer_of_other_keys},
        {"transfers out of order", transfers_out_of_order},
        {"a slot too large", slot_too_large},
        {"a slot too small", slot_too_small},
        {"a useless transfer", useless_transfer_added},
    };
    const document_set set = {4, {0, 9, 9, 17, TOKENS}};
    for (size_t m = 0; m < sizeof mutations / sizeof mutations[0]; m++) {
        for (int i = 0; i < strategy_count; i++) {
            int64_t places = 0;
            for (size_t kind = 0; kind < 2; kind++) {
                for (int form = 0; form < 3; form++) {
                    schedule_problem p = problem_of(kinds[kind], TOKENS, TOKENS, 1, RANKS, form == 1);
                    if (form == 2) {
                        p.mask.documents = set.offsets;
                        p.mask.document_count = set.count;
                    }
                    places += all_places_are_noticed(&p, strategies[i], mutations[m].name, mutations[m].mutate);
                }
            }
            if (places == 0) fail_msg("%s: no place for: %s", strategies[i]->name, mutations[m].name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_schedule_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
