/* The machine's numbers on their way to the cost model, and the choice that they lead to. */
#include "runtime/machine.h"
#include "runtime/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int my_rank, rank_count;

static void nothing_stays_zero_and_what_is_given_stays(void **state)
{
    (void)state;
    longspan_machine m = {.memory_bandwidth = 5e9, .node = {.latency = 0, .bandwidth = 7e9, .busy = 0}};
    machine_fill(&m, NULL, 1e10);
    assert_true(m.memory_bandwidth == 5e9);
    assert_true(m.node.bandwidth == 7e9 && m.node.latency == 0 && m.node.busy == 0);
    assert_true(m.network.bandwidth > 0 && m.network.latency > 0);
    for (int i = 0; i < 4; i++) assert_true(m.score_seconds[i] > 0 && m.product_seconds[i] > 0);
    for (int type = 0; type < 3; type++)
        for (int i = 0; i < 3; i++) assert_true(m.few_seconds[type][i] > 0);
    failure f = {0};
    assert_true(machine_check(&m, &f));
    assert_int_equal(f.status, LONGSPAN_OK);
}

static void a_faster_peak_gives_faster_folds(void **state)
{
    (void)state;
    longspan_machine slow = {.memory_bytes = 0}, fast = {.memory_bytes = 0};
    machine_fill(&slow, NULL, 1e10);
    machine_fill(&fast, NULL, 2e10);
    assert_true(fabs(slow.product_seconds[0] / fast.product_seconds[0] - 2) < 1e-9);
    assert_true(fabs(slow.score_seconds[0] / fast.score_seconds[0] - 2) < 1e-9);
    assert_true(slow.memory_bandwidth == fast.memory_bandwidth);
}

static void products_gain_what_the_kernel_says(void **state)
{
    (void)state;
    const attention_kernel kernel = {.gain = {[COMPUTE_FP32] = 1, [COMPUTE_BF16] = 1.5}};
    longspan_machine m = {.memory_bytes = 0};
    machine_fill(&m, &kernel, 1e10);
    assert_true(fabs(m.product_seconds[COMPUTE_FP32] / m.product_seconds[COMPUTE_BF16] - 1.5) < 1e-9);
    assert_true(m.product_seconds[COMPUTE_BF16X3] == m.product_seconds[COMPUTE_FP32]);
}

static void bad_numbers_are_refused_by_name(void **state)
{
    (void)state;
    const struct {
        longspan_machine machine;
        const char *name;
    } cases[] = {
        {{.memory_bandwidth = -1}, "memory_bandwidth"},
        {{.score_seconds = {0, NAN}}, "score_seconds"},
        {{.product_seconds = {INFINITY}}, "product_seconds"},
        {{.few_seconds = {{0}, {0, 0, -1e-9}}}, "few_seconds"},
        {{.node = {.busy = 1.5}}, "node.busy"},
        {{.network = {.latency = -1e-6}}, "network.latency"},
        {{.barrier_seconds = 11}, "barrier_seconds"},
        {{.memory_bytes = -1}, "memory_bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        failure f = {0};
        longspan_options options;
        longspan_context *context;
        assert_false(machine_check(&cases[i].machine, &f));
        assert_int_equal(f.status, LONGSPAN_ERROR_ARGUMENT);
        if (!strstr(f.text, cases[i].name)) fail_msg("%s is not named: %s", cases[i].name, f.text);
        longspan_options_default(&options);
        options.machine = &cases[i].machine;
        assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_ERROR_ARGUMENT);
        assert_null(context);
    }
}

static void threads_and_shares_of_cpus_divide_times(void **state)
{
    (void)state;
    longspan_machine m = {.memory_bytes = 0};
    machine_fill(&m, NULL, 1e10);
    const prediction_machine one =
        machine_of_rank(&m, &(machine_seat){.threads = 1, .cpu_share = 1}, LONGSPAN_FLOAT16, COMPUTE_FP32);
    const prediction_machine six =
        machine_of_rank(&m, &(machine_seat){.threads = 12, .cpu_share = 0.5}, LONGSPAN_FLOAT16, COMPUTE_FP32);
    assert_true(fabs(one.score_seconds / six.score_seconds - 6) < 1e-9);
    assert_true(fabs(one.product_seconds / six.product_seconds - 6) < 1e-9);
    assert_true(fabs(one.few_seconds[2] / six.few_seconds[2] - 6) < 1e-9);
    assert_true(fabs(six.memory_bandwidth / one.memory_bandwidth - 6) < 1e-9);
    assert_true(one.node.bandwidth == six.node.bandwidth);
    assert_true(one.few_seconds[0] == m.few_seconds[LONGSPAN_FLOAT16][0]);
}

static void the_numbers_of_rank_0_are_those_of_all(void **state)
{
    (void)state;
    longspan_machine m = {.node = {.bandwidth = 1e9 + my_rank}, .memory_bytes = 1e9 + my_rank};
    longspan_options options;
    longspan_context *context;
    longspan_options_default(&options);
    options.threads = 1 + my_rank;
    options.machine = &m;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_OK);
    assert_true(context->machine.node.bandwidth == 1e9);
    assert_int_equal(context->seat.threads, 1);
    assert_int_equal(context->seat.memory_bytes, 1000000000);
    assert_true(context->seat.cpu_share > 0 && context->seat.cpu_share <= 1);
    longspan_context_destroy(&context);
}

/* The same plan whatever each rank believes of the machine, and what it predicts is what its choice was made by. */
static void a_plan_is_chosen_and_predicted_by_the_numbers(void **state)
{
    (void)state;
    longspan_machine m = {.node = {.bandwidth = my_rank == 0 ? 1e12 : 1, .busy = 0}};
    longspan_options options;
    longspan_context *context;
    longspan_plan *plan;
    longspan_problem p;
    longspan_options_default(&options);
    options.threads = 1;
    options.machine = &m;
    longspan_problem_default(&p);
    p.queries = 400;
    p.heads = 4;
    p.dim = 8;
    p.causal = 1;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_OK);
    assert_int_equal(longspan_plan_create(context, &p, &plan), LONGSPAN_OK);

    const placement place = {.ranks = rank_count,
                             .node_ranks = context->node.ranks,
                             .may_share = plan->scheduled.may_share,
                             .machine = plan->machine,
                             .memory_bytes = context->seat.memory_bytes};
    longspan_problem same = p;
    choice *choices;
    int count;
    failure f = {0};
    prediction predicted;
    assert_int_equal(problem_complete(&same, &f), LONGSPAN_OK);
    assert_int_equal(plan_rank(&same, NULL, &place, &choices, &count, &f), LONGSPAN_OK);
    assert_ptr_equal(choices[0].strategy, plan->strategy);
    assert_int_equal(choices[0].layout, plan->scheduled.query_layout.kind);
    assert_int_equal(plan_predict(plan, &predicted, &f), LONGSPAN_OK);
    assert_true(predicted.seconds == choices[0].prediction.seconds);
    free(choices);

    char names[2][64] = {{0}};
    snprintf(names[0], sizeof names[0], "%s %s", plan_strategy_name(plan), plan_layout_name(plan));
    memcpy(names[1], names[0], sizeof names[0]);
    MPI_Bcast(names[1], (int)sizeof names[1], MPI_CHAR, 0, MPI_COMM_WORLD);
    assert_string_equal(names[0], names[1]);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_stays_zero_and_what_is_given_stays),
        cmocka_unit_test(a_faster_peak_gives_faster_folds),
        cmocka_unit_test(products_gain_what_the_kernel_says),
        cmocka_unit_test(bad_numbers_are_refused_by_name),
        cmocka_unit_test(threads_and_shares_of_cpus_divide_times),
        cmocka_unit_test(the_numbers_of_rank_0_are_those_of_all),
        cmocka_unit_test(a_plan_is_chosen_and_predicted_by_the_numbers),
    };
    int level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &rank_count);
    const int failed = cmocka_run_group_tests_name("machine", tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
