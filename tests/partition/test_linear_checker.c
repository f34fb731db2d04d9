/* The checker of linear attention's schedules must be able to fail: right schedules, broken in every way and place, one
 * at a time. */
#include "tests/partition/linear_checker.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { RANKS = 6, TOKENS = 24, UNITS = 3, ALL = 4, CAUSAL = 3 };

/* A mutation breaks place number `place` of the schedules and returns false when there are no more places. */
typedef bool (*mutation_fn)(linear_schedule **schedules, int64_t place);

typedef struct {
    linear_schedule *s;
    int64_t step, index;
} place_in_schedule;

static bool find_action(linear_schedule **schedules, int64_t place, place_in_schedule *at)
{
    for (int rank = 0; rank < RANKS; rank++)
        for (int64_t i = 0; i < schedules[rank]->step_count; place -= schedules[rank]->steps[i++].action_count)
            if (place < schedules[rank]->steps[i].action_count) {
                *at = (place_in_schedule){schedules[rank], i, place};
                return true;
            }
    return false;
}

static linear_action *action_at(const place_in_schedule *at)
{
    return &at->s->steps[at->step].actions[at->index];
}

static bool find_action_of(linear_schedule **schedules, linear_action_kind kind, int64_t place, place_in_schedule *at)
{
    for (int64_t i = 0; find_action(schedules, i, at); i++)
        if (action_at(at)->kind == kind && place-- == 0) return true;
    return false;
}

static bool find_transfer(linear_schedule **schedules, int64_t place, place_in_schedule *at)
{
    for (int rank = 0; rank < RANKS; rank++)
        for (int64_t i = 0; i < schedules[rank]->step_count; place -= schedules[rank]->steps[i++].transfer_count)
            if (place < schedules[rank]->steps[i].transfer_count) {
                *at = (place_in_schedule){schedules[rank], i, place};
                return true;
            }
    return false;
}

static linear_transfer *transfer_at(const place_in_schedule *at)
{
    return &at->s->steps[at->step].transfers[at->index];
}

static void drop_transfer(const place_in_schedule *at)
{
    linear_step *step = &at->s->steps[at->step];
    step->transfer_count--;
    memmove(&step->transfers[at->index], &step->transfers[at->index + 1],
            (size_t)(step->transfer_count - at->index) * sizeof *step->transfers);
}

/* The receive of a send; in one step a rank sends another the units of one stage only once. */
static place_in_schedule twin_of(linear_schedule **schedules, const place_in_schedule *sent)
{
    const linear_transfer *t = transfer_at(sent);
    place_in_schedule at = {schedules[t->peer], sent->step, 0};
    for (; at.index < at.s->steps[at.step].transfer_count; at.index++) {
        const linear_transfer *u = transfer_at(&at);
        if (u->direction == TRANSFER_RECEIVE && u->peer == sent->s->rank && u->units.begin == t->units.begin) return at;
    }
    fail_msg("a send has no twin");
    return at;
}

static bool find_send(linear_schedule **schedules, int64_t place, place_in_schedule *at)
{
    for (int64_t i = 0; find_transfer(schedules, i, at); i++)
        if (transfer_at(at)->direction == TRANSFER_SEND && place-- == 0) return true;
    return false;
}

/* Actions. */

static bool action_dropped(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_action(schedules, place, &at)) return false;
    linear_step *step = &at.s->steps[at.step];
    step->action_count--;
    memmove(&step->actions[at.index], &step->actions[at.index + 1],
            (size_t)(step->action_count - at.index) * sizeof *step->actions);
    return true;
}

static bool action_of_a_unit_too_few(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_action(schedules, place, &at)) return false;
    action_at(&at)->units.end--;
    return true;
}

/* Where a rank without readers leaves its summary does not matter. */
static bool action_in_another_buffer(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    for (int64_t i = 0; find_action(schedules, i, &at); i++) {
        linear_action *a = action_at(&at);
        if (a->kind == LINEAR_SUMMARISE && linear_units_moved(at.s, TRANSFER_SEND) == 0) continue;
        if (place-- > 0) continue;
        a->buffer = (a->buffer + 1) % (at.s->buffers + 1);
        return true;
    }
    return false;
}

/* Clearing and copying twice does no harm. */
static bool action_done_twice(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    for (int64_t i = 0; find_action(schedules, i, &at); i++) {
        const linear_action a = *action_at(&at);
        if (a.kind == LINEAR_CLEAR || a.kind == LINEAR_COPY || place-- > 0) continue;
        assert_int_equal(linear_add_action(at.s, at.step, a), 0);
        linear_step *step = &at.s->steps[at.step];
        memmove(&step->actions[at.index + 1], &step->actions[at.index],
                (size_t)(step->action_count - 1 - at.index) * sizeof *step->actions);
        return true;
    }
    return false;
}

static bool composed_in_the_wrong_order(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_action_of(schedules, LINEAR_COMPOSE, place, &at)) return false;
    const linear_action a = *action_at(&at);
    action_at(&at)->buffer = a.other;
    action_at(&at)->other = a.buffer;
    return true;
}

static bool folded_where_it_should_be_summarised(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_action_of(schedules, LINEAR_SUMMARISE, place, &at)) return false;
    action_at(&at)->kind = LINEAR_FOLD;
    return true;
}

static bool summarised_where_it_should_be_folded(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_action_of(schedules, LINEAR_FOLD, place, &at)) return false;
    action_at(&at)->kind = LINEAR_SUMMARISE;
    return true;
}

static bool actions_a_step_early(linear_schedule **schedules, int64_t place)
{
    for (int rank = 0; rank < RANKS; rank++)
        for (int64_t i = 1; i < schedules[rank]->step_count; i++) {
            linear_step *step = &schedules[rank]->steps[i];
            bool receives = false; /* what the first action of this step needs */
            for (int64_t j = 0; j < step[-1].transfer_count; j++)
                for (int64_t k = 0; k < step->action_count; k++)
                    receives |= step[-1].transfers[j].direction == TRANSFER_RECEIVE &&
                                step[-1].transfers[j].units.begin == step->actions[k].units.begin;
            if (!receives || place-- > 0) continue;
            for (int64_t j = 0; j < step->action_count; j++)
                assert_int_equal(linear_add_action(schedules[rank], i - 1, step->actions[j]), 0);
            step->action_count = 0;
            return true;
        }
    return false;
}

/* Transfers. */

static bool transfer_dropped(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, place, &at)) return false;
    drop_transfer(&at);
    return true;
}

static bool transfer_and_twin_dropped(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_send(schedules, place, &at)) return false;
    const place_in_schedule twin = twin_of(schedules, &at);
    drop_transfer(&at);
    drop_transfer(&twin);
    return true;
}

static bool transfer_and_twin_of_a_unit_too_few(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_send(schedules, place, &at)) return false;
    const place_in_schedule twin = twin_of(schedules, &at);
    transfer_at(&at)->units.end--;
    transfer_at(&twin)->units.end--;
    return true;
}

static void move_with_twin(linear_schedule **schedules, const place_in_schedule *at, int64_t steps)
{
    const place_in_schedule twin = twin_of(schedules, at);
    assert_int_equal(linear_add_transfer(at->s, at->step + steps, *transfer_at(at)), 0);
    assert_int_equal(linear_add_transfer(twin.s, twin.step + steps, *transfer_at(&twin)), 0);
    drop_transfer(at);
    drop_transfer(&twin);
}

/* Whether a rank works on a stage in a step. */
static bool works_on(const linear_schedule *s, int64_t step, range units)
{
    for (int64_t i = 0; step < s->step_count && i < s->steps[step].action_count; i++)
        if (s->steps[step].actions[i].units.begin == units.begin) return true;
    return false;
}

/* Not where the sender has done its last step, or where what it sends is not needed before the step after the next. */
static bool transfer_and_twin_a_step_late(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    for (int64_t i = 0; find_send(schedules, i, &at); i++) {
        const linear_transfer *t = transfer_at(&at);
        if (at.step + 1 >= at.s->step_count || !works_on(schedules[t->peer], at.step + 1, t->units)) continue;
        if (place-- > 0) continue;
        move_with_twin(schedules, &at, 1);
        return true;
    }
    return false;
}

/* Not where what is sent has been there for longer. */
static bool transfer_and_twin_a_step_early(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    for (int64_t i = 0; find_send(schedules, i, &at); i++) {
        if (!works_on(at.s, at.step - 1, transfer_at(&at)->units) || place-- > 0) continue;
        move_with_twin(schedules, &at, -1);
        return true;
    }
    return false;
}

static bool transfer_with_another_peer(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, place, &at)) return false;
    transfer_at(&at)->peer = (transfer_at(&at)->peer + 1) % RANKS;
    return true;
}

/* Two away: the sums of a rank with one document are the same in two. */
static bool transfer_of_another_buffer(linear_schedule **schedules, int64_t place)
{
    place_in_schedule at;
    if (!find_transfer(schedules, place, &at)) return false;
    transfer_at(&at)->buffer = (transfer_at(&at)->buffer + 2) % (at.s->buffers + 2);
    return true;
}

/* Buffers and ranks. */

static bool initial_state_elsewhere(linear_schedule **schedules, int64_t place)
{
    for (int rank = 0; rank < RANKS; rank++)
        if (schedules[rank]->initial_buffer >= 0 && place-- == 0) {
            schedules[rank]->initial_buffer = -1;
            return true;
        }
    return false;
}

static bool final_state_elsewhere(linear_schedule **schedules, int64_t place)
{
    for (int rank = 0; rank < RANKS; rank++)
        if (schedules[rank]->final_buffer >= 0 && place-- == 0) {
            schedules[rank]->final_buffer++;
            return true;
        }
    return false;
}

static bool schedule_of_another_rank(linear_schedule **schedules, int64_t place)
{
    if (place >= RANKS) return false;
    schedules[place]->rank = (int)(place + 1) % RANKS;
    return true;
}

static const struct {
    const char *name;
    mutation_fn mutate;
    int strategies; /* that it must have found a place in, at the least */
} mutations[] = {
    {"an action dropped", action_dropped, ALL},
    {"an action of a unit too few", action_of_a_unit_too_few, ALL},
    {"an action in another buffer", action_in_another_buffer, ALL},
    {"an action done twice", action_done_twice, ALL},
    {"states composed in the wrong order", composed_in_the_wrong_order, 2},
    {"tokens folded that should be summarised", folded_where_it_should_be_summarised, 2},
    {"tokens summarised that should be folded", summarised_where_it_should_be_folded, CAUSAL},
    {"actions a step early", actions_a_step_early, ALL},
    {"a transfer dropped", transfer_dropped, ALL},
    {"a transfer and its twin dropped", transfer_and_twin_dropped, ALL},
    {"a transfer and its twin of a unit too few", transfer_and_twin_of_a_unit_too_few, ALL},
    {"a transfer and its twin a step late", transfer_and_twin_a_step_late, ALL},
    {"a transfer and its twin a step early", transfer_and_twin_a_step_early, ALL},
    {"a transfer with another peer", transfer_with_another_peer, ALL},
    {"a transfer of another buffer", transfer_of_another_buffer, ALL},
    {"an initial state elsewhere", initial_state_elsewhere, CAUSAL},
    {"a final state elsewhere", final_state_elsewhere, CAUSAL},
    {"a schedule of another rank", schedule_of_another_rank, ALL},
};
enum { MUTATIONS = sizeof mutations / sizeof mutations[0] };

/* Breaks every place of a problem's schedules, one at a time. Returns how many places there were. */
static int64_t all_places_are_noticed(const linear_schedule_problem *p, const linear_strategy *how, int mutation)
{
    for (int64_t place = 0;; place++) {
        linear_schedule *schedules[RANKS];
        char fault[256];
        for (int rank = 0; rank < RANKS; rank++) assert_int_equal(how->plan(p, rank, &schedules[rank]), 0);
        const bool mutated = mutations[mutation].mutate(schedules, place);
        const bool right = linear_schedules_are_right(p, schedules, fault, sizeof fault);
        for (int rank = 0; rank < RANKS; rank++) linear_schedule_destroy(schedules[rank]);
        if (!mutated) {
            if (!right) fail_msg("%s: %s", how->name, fault);
            return place;
        }
        if (right)
            fail_msg("%s%s%s: the checker overlooks: %s, place %" PRId64, how->name, p->causal ? ", causal" : "",
                     p->documents ? ", documents" : "", mutations[mutation].name, place);
    }
}

static void every_broken_schedule_is_noticed(void **state)
{
    (void)state;
    const int64_t documents[] = {0, 9, 9, 11, 20, TOKENS};
    for (int m = 0; m < MUTATIONS; m++) {
        int found = 0;
        for (int i = 0; i < linear_strategy_count; i++) {
            int64_t places = 0;
            for (int form = 0; form < 4; form++) {
                linear_schedule_problem p = {.layout = {LAYOUT_CONTIGUOUS, TOKENS, 1, RANKS},
                                             .causal = form % 2,
                                             .units = UNITS,
                                             .stage_units = 2,
                                             .leads = true,
                                             .late = true};
                if (form > 1) {
                    p.documents = documents;
                    p.document_count = 5;
                }
                if (!linear_strategies[i]->refuse(&p)) places += all_places_are_noticed(&p, linear_strategies[i], m);
            }
            found += places > 0;
        }
        if (found < mutations[m].strategies) fail_msg("%d strategies have a place for: %s", found, mutations[m].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_broken_schedule_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
