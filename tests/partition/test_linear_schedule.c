/* The schedules of linear attention, run on paper: every rank begins with, or reads, exactly what it should, and what
 * travels is what the strategies' closed forms say. */
#include "tests/partition/linear_checker.h"
#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_RANKS = 9, MOST_GRAINS = 24, MOST_UNITS = 7, SEED = 11, MANY_RANKS = 4096 };

static int64_t schedules_checked, problems_refused;
static uint64_t random_state = SEED;

static void describe(const linear_schedule_problem *p, const char *name, char *text, size_t size)
{
    size_t used = (size_t)snprintf(
        text, size, "%s, P=%d, N=%" PRId64 ", grain %" PRId64 "%s, %" PRId64 " units by %" PRId64, name,
        p->layout.ranks, p->layout.tokens, p->layout.grain, p->causal ? ", causal" : "", p->units, p->stage_units);
    for (int64_t i = 0; p->documents && i <= p->document_count && used < size; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%" PRId64, i == 0 ? ", documents " : ",", p->documents[i]);
}

/* States that a rank must send or receive at the most, by its position and by who shares its documents. */

static int64_t powers_of_two_up_to(int64_t limit)
{
    int64_t count = 0;
    for (int64_t power = 1; power <= limit; power *= 2) count++;
    return count;
}

static int64_t allreduce_states(const linear_schedule_problem *p, int rank)
{
    const int first = linear_first_rank(p), ranks = p->layout.ranks - first, at = rank - first;
    const int64_t rounds = powers_of_two_up_to(ranks) - 1;
    const int in_pairs = 2 * (ranks - (1 << rounds));
    if (at >= in_pairs) return rounds;
    return at % 2 == 0 ? 1 : rounds + 1;
}

static int64_t states_of(const linear_schedule_problem *p, const linear_strategy *how, const linear_truth *t, int rank,
                         transfer_direction direction)
{
    const int readers = t->readers[rank], contributors = t->contributors[rank];
    const int peers = direction == TRANSFER_SEND ? readers : contributors;
    if (range_is_empty(t->tokens[rank])) return 0;
    if (strcmp(how->name, "chain") == 0) return peers > 0;
    if (strcmp(how->name, "scan") == 0) return powers_of_two_up_to(peers);
    if (strcmp(how->name, "allreduce") == 0) return allreduce_states(p, rank);
    return p->causal ? peers : readers + contributors;
}

static void assert_traffic(const linear_schedule_problem *p, const linear_strategy *how, const linear_truth *t,
                           const linear_schedule *s)
{
    for (int direction = TRANSFER_SEND; direction <= TRANSFER_RECEIVE; direction++) {
        const int64_t units = linear_units_moved(s, (transfer_direction)direction);
        const int64_t wanted = states_of(p, how, t, s->rank, (transfer_direction)direction) * p->units;
        if (units == wanted) continue;
        char text[1024];
        describe(p, how->name, text, sizeof text);
        fail_msg("%s: rank %d, direction %d: %" PRId64 " units instead of %" PRId64, text, s->rank, direction, units,
                 wanted);
    }
}

static void assert_dependencies(const linear_schedule_problem *p, const linear_truth *t)
{
    for (int rank = 0; rank < p->layout.ranks; rank++) {
        assert_int_equal(linear_first_contributor(p, rank), rank - t->contributors[rank]);
        assert_int_equal(linear_last_reader(p, rank), rank + t->readers[rank]);
        if (range_is_empty(t->tokens[rank])) continue;
        assert_int_equal(linear_has_one_piece(p, rank), t->one_piece[rank]);
    }
}

static void plan_linear(const linear_schedule_problem *p, const linear_strategy *how, linear_schedule **schedules)
{
    for (int rank = 0; rank < p->layout.ranks; rank++) assert_int_equal(how->plan(p, rank, &schedules[rank]), 0);
}

static void assert_right(const linear_schedule_problem *p)
{
    linear_truth t;
    linear_truth_find(p, &t);
    assert_dependencies(p, &t);
    for (int i = 0; i < linear_strategy_count; i++) {
        const linear_strategy *how = linear_strategies[i];
        if (how->refuse(p)) {
            problems_refused++;
            continue;
        }
        linear_schedule *schedules[MOST_RANKS];
        char fault[256], text[1024];
        plan_linear(p, how, schedules);
        if (!linear_schedules_are_right(p, schedules, fault, sizeof fault)) {
            describe(p, how->name, text, sizeof text);
            fail_msg("%s: %s", text, fault);
        }
        for (int rank = 0; rank < p->layout.ranks; rank++) {
            assert_traffic(p, how, &t, schedules[rank]);
            assert_int_equal(schedules[rank]->summarises, p->causal && strcmp(how->name, "chain") != 0);
            linear_schedule_destroy(schedules[rank]);
        }
        schedules_checked++;
    }
}

/* Document sets: one document, those of problems.h, and one that has a boundary at every shard. */
static bool documents_get(const layout *l, int64_t index, document_set *set_p)
{
    document_set set = {0};
    if (index > 1) return document_set_get(l->tokens, index - 2, set_p);
    for (int rank = 0; rank < l->ranks && index == 1; rank++) set.offsets[set.count++] = layout_chunk(l, rank).begin;
    set.offsets[set.count] = l->tokens;
    *set_p = set;
    return true;
}

static void assert_right_with_documents(layout l)
{
    document_set set;
    for (int64_t index = 0; documents_get(&l, index, &set); index++)
        for (int causal = 0; causal < 2; causal++) {
            linear_schedule_problem p = {.layout = l, .causal = causal, .late = true};
            p.leads = random_between(&random_state, 0, 1);
            if (index > 0) {
                p.documents = set.offsets;
                p.document_count = set.count;
            }
            p.units = random_between(&random_state, 1, MOST_UNITS);
            p.stage_units = random_between(&random_state, 1, p.units);
            assert_right(&p);
        }
}

static void every_rank_begins_with_the_state_of_its_past(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
        for (int64_t grains = 0; grains <= MOST_GRAINS; grains++) {
            assert_right_with_documents((layout){LAYOUT_CONTIGUOUS, grains, 1, ranks});
            if (grains > 0) assert_right_with_documents((layout){LAYOUT_CONTIGUOUS, grains * 64 - 17, 64, ranks});
        }
    assert_true(schedules_checked > 10000 && problems_refused > 10000);
}

static void units_can_be_cut_into_any_stages(void **state)
{
    (void)state;
    const int64_t documents[] = {0, 9, 9, 17, 24};
    for (int64_t units = 1; units <= MOST_UNITS; units++)
        for (int64_t stage = 1; stage <= MOST_UNITS + 1; stage++)
            for (int form = 0; form < 4; form++)
                for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
                    linear_schedule_problem p = {.layout = {LAYOUT_CONTIGUOUS, 24, 1, ranks},
                                                 .causal = form % 2,
                                                 .units = units,
                                                 .stage_units = stage,
                                                 .leads = (units + stage) % 2,
                                                 .late = true};
                    if (form > 1) {
                        p.documents = documents;
                        p.document_count = 4;
                    }
                    assert_right(&p);
                }
}

static int count_actions(const linear_schedule *s, linear_action_kind kind)
{
    int count = 0;
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t j = 0; j < s->steps[i].action_count; j++) count += s->steps[i].actions[j].kind == kind;
    return count;
}

/* Each fold and lead continues what one process would have: no state is composed or applied late. As many stages are led
 * as there are hand-overs to come. */
static void a_chain_only_folds_and_leads(void **state)
{
    (void)state;
    const linear_strategy *chain = linear_strategy_find("chain");
    for (int64_t form = 2; form < 18; form++)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (int rank = 0; rank < ranks; rank++) {
                const int64_t units = form / 2;
                const linear_schedule_problem p = {.layout = {LAYOUT_CONTIGUOUS, 24, 1, ranks},
                                                   .causal = true,
                                                   .units = units,
                                                   .stage_units = 1,
                                                   .leads = form % 2};
                const int to_come = ranks - 1 - rank < units ? ranks - 1 - rank : (int)units;
                const int leads = p.leads ? to_come : 0;
                linear_schedule *s;
                assert_int_equal(chain->plan(&p, rank, &s), 0);
                assert_int_equal(count_actions(s, LINEAR_FOLD), units);
                assert_int_equal(count_actions(s, LINEAR_LEAD), leads);
                assert_int_equal(count_actions(s, LINEAR_COPY), leads);
                for (int kind = LINEAR_SUMMARISE; kind <= LINEAR_READ; kind++)
                    if (kind != LINEAR_COPY) assert_int_equal(count_actions(s, (linear_action_kind)kind), 0);
                assert_int_equal(s->buffers, leads > 0 ? 2 : 1);
                linear_schedule_destroy(s);
            }
}

/* A rank that begins a document at its first token folds in its first steps that do anything, and waits for nobody. */
static void a_chain_starts_at_once_where_a_document_begins(void **state)
{
    (void)state;
    const int64_t documents[] = {0, 8, 24};
    const linear_schedule_problem p = {.layout = {LAYOUT_CONTIGUOUS, 24, 1, 6},
                                       .documents = documents,
                                       .document_count = 2,
                                       .causal = true,
                                       .units = 3,
                                       .stage_units = 1};
    linear_schedule *s;
    assert_int_equal(linear_first_contributor(&p, 2), 2);
    assert_int_equal(linear_strategy_find("chain")->plan(&p, 2, &s), 0);
    int64_t receives = 0;
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t j = 0; j < s->steps[i].transfer_count; j++)
            receives += s->steps[i].transfers[j].direction == TRANSFER_RECEIVE;
    assert_int_equal(receives, 0);
    linear_schedule_destroy(s);
}

static void what_cannot_be_honoured_is_refused(void **state)
{
    (void)state;
    const int64_t two[] = {0, 7, 24}, one[] = {0, 0, 24, 24}, falling[] = {0, 9, 7, 24}, short_of[] = {0, 20};
    const linear_schedule_problem fine = {
        .layout = {LAYOUT_CONTIGUOUS, 24, 1, 4}, .causal = true, .units = 5, .stage_units = 2, .late = true};
    const struct {
        bool causal, late;
        const int64_t *documents;
        int64_t document_count;
        const char *honoured; /* by these */
    } cases[] = {
        {true, true, NULL, 0, "chain gather scan"},
        {true, false, NULL, 0, "chain"},
        {false, true, NULL, 0, "gather allreduce"},
        {false, false, NULL, 0, "gather allreduce"},
        {false, true, one, 3, "gather allreduce"},
        {false, true, two, 2, "gather"},
        {true, true, two, 2, "chain gather scan"},
        {true, true, falling, 3, ""},
        {false, true, falling, 3, ""},
        {true, true, short_of, 1, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int j = 0; j < linear_strategy_count; j++) {
            linear_schedule_problem p = fine;
            p.causal = cases[i].causal;
            p.late = cases[i].late;
            p.documents = cases[i].documents;
            p.document_count = cases[i].document_count;
            const bool refused = linear_strategies[j]->refuse(&p) != NULL;
            if (refused == (strstr(cases[i].honoured, linear_strategies[j]->name) != NULL))
                fail_msg("case %zu: %s", i, linear_strategies[j]->name);
        }
    linear_schedule_problem p = fine;
    p.layout.kind = LAYOUT_ZIGZAG;
    for (int j = 0; j < linear_strategy_count; j++) assert_non_null(linear_strategies[j]->refuse(&p));
    assert_null(linear_strategy_find("ring"));
}

/* As many ranks as cannot be run on paper: a rank and those it exchanges with agree. */
static void ranks_agree_among_thousands(void **state)
{
    (void)state;
    const int64_t documents[] = {0, 100000, 100003, 200000, (int64_t)MANY_RANKS * 128};
    for (int form = 0; form < 4; form++)
        for (int i = 0; i < linear_strategy_count; i++) {
            const linear_strategy *how = linear_strategies[i];
            linear_schedule_problem p = {.layout = {LAYOUT_CONTIGUOUS, (int64_t)MANY_RANKS * 128, 64, MANY_RANKS},
                                         .causal = form % 2,
                                         .units = 4,
                                         .stage_units = 1,
                                         .leads = true,
                                         .late = true};
            if (form > 1) {
                p.documents = documents;
                p.document_count = 4;
            }
            if (how->refuse(&p)) continue;
            int64_t messages = 0;
            const int pairs[][2] = {{0, 1}, {781, 782}, {2046, 2047}, {2047, 4095}, {4094, 4095}};
            for (size_t j = 0; j < sizeof pairs / sizeof pairs[0]; j++) {
                linear_schedule *a, *b;
                assert_int_equal(how->plan(&p, pairs[j][0], &a), 0);
                assert_int_equal(how->plan(&p, pairs[j][1], &b), 0);
                assert_true(linear_twins_agree(a, b, &messages) && linear_twins_agree(b, a, &messages));
                linear_schedule_destroy(a);
                linear_schedule_destroy(b);
            }
            assert_true(messages > 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_begins_with_the_state_of_its_past),
        cmocka_unit_test(units_can_be_cut_into_any_stages),
        cmocka_unit_test(a_chain_only_folds_and_leads),
        cmocka_unit_test(a_chain_starts_at_once_where_a_document_begins),
        cmocka_unit_test(what_cannot_be_honoured_is_refused),
        cmocka_unit_test(ranks_agree_among_thousands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
