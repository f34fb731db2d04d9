/* Counts against closed forms, and times against sums by hand. */
#include "partition/linear_cost.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const linear_sizes sizes = {.state_bytes = 1000,
                                   .summary_bytes = 1500,
                                   .fold_seconds = 1e-3,
                                   .lead_seconds = 4e-4,
                                   .summarise_seconds = 1e-3,
                                   .apply_seconds = 5e-4,
                                   .compose_seconds = 1e-4};
static const prediction_machine machine = {.node = {1e-6, 1e9, 0}, .network = {1e-6, 1e9, 0}};

static linear_schedule_problem problem_with(int ranks, int64_t units, int64_t stage_units, bool causal)
{
    return (linear_schedule_problem){.layout = {LAYOUT_CONTIGUOUS, 64 * ranks, 64, ranks},
                                     .causal = causal,
                                     .units = units,
                                     .stage_units = stage_units,
                                     .leads = true,
                                     .late = true};
}

static linear_cost cost_with(const char *name, const linear_schedule_problem *p, int rank)
{
    linear_schedule *s;
    linear_cost c;
    assert_int_equal(linear_strategy_find(name)->plan(p, rank, &s), 0);
    linear_cost_of(s, p, &sizes, &c);
    linear_schedule_destroy(s);
    return c;
}

static void bytes_and_memory_are_those_of_the_closed_forms(void **state)
{
    (void)state;
    const linear_schedule_problem p = problem_with(8, 6, 2, true), both = problem_with(6, 6, 2, false);
    const linear_cost chain = cost_with("chain", &p, 3), gather = cost_with("gather", &p, 3),
                      scan = cost_with("scan", &p, 7), sums = cost_with("allreduce", &both, 1);
    assert_int_equal(chain.bytes_sent, 6 * 1000);
    assert_int_equal(chain.bytes_received, 6 * 1000);
    assert_int_equal(chain.messages_sent, 3);
    assert_int_equal(chain.actions, 3 * 3); /* copies, leads, folds */
    assert_int_equal(chain.buffer_bytes, 2 * 6 * 1000);
    assert_int_equal(gather.bytes_sent, 4 * 6 * 1500);
    assert_int_equal(gather.bytes_received, 3 * 6 * 1500);
    assert_int_equal(gather.buffer_bytes, 4 * 6 * 1500);
    assert_int_equal(scan.bytes_sent, 0);
    assert_int_equal(scan.bytes_received, 3 * 6 * 1500);
    assert_int_equal(sums.bytes_sent, 3 * 6 * 1000); /* the odd one of a pair: 2 rounds and what it hands back */
    assert_int_equal(sums.buffer_bytes, 2 * 6 * 1000);
}

static double seconds_with(const char *name, const linear_schedule_problem *p)
{
    double seconds;
    assert_int_equal(linear_predict(linear_strategy_find(name), p, &sizes, &machine, 1, &seconds), 0);
    return seconds;
}

/* Fold 64 ms a unit, lead 25.6; a transfer of a unit 2 us. */
static void a_chain_takes_the_folds_of_its_pipeline(void **state)
{
    (void)state;
    const linear_schedule_problem alone = problem_with(1, 8, 1, true), two = problem_with(2, 8, 1, true),
                                  five = problem_with(5, 8, 1, true);
    assert_true(fabs(seconds_with("chain", &alone) - 8 * 0.064) < 1e-9);
    /* 8 stages, and a lead for each hand-over */
    assert_true(fabs(seconds_with("chain", &two) - (8 + 0.4) * 0.064) < 8 * 0.001);
    assert_in_range((int)(seconds_with("chain", &five) / 0.064 * 10), (8 + 4 * 0.4) * 10, (8 + 4 * 0.4 + 0.2) * 10);
}

static void hundreds_of_ranks_in_one_document_are_no_place_for_a_chain_of_few_stages(void **state)
{
    (void)state;
    const linear_schedule_problem p = problem_with(300, 2, 2, true);
    assert_true(seconds_with("scan", &p) < seconds_with("chain", &p));
    assert_true(seconds_with("chain", &p) > 290 * 2 * 0.0256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_and_memory_are_those_of_the_closed_forms),
        cmocka_unit_test(a_chain_takes_the_folds_of_its_pipeline),
        cmocka_unit_test(hundreds_of_ranks_in_one_document_are_no_place_for_a_chain_of_few_stages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
