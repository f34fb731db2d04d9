/* What a rank of thousands does to plan, all but allocating its rows: strategies are ranked, the schedule is made, its
 * folds become calls of the kernel. In less than a second of its CPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "runtime/plan.h"
#include "runtime/problem.h"

enum { RANKS = 4096, NODE = 8 };

/* Sanitizers slow it down. */
#ifdef LONGSPAN_SANITIZED
static const double limit = 20;
#else
static const double limit = 1;
#endif

static placement place_of_cluster(void)
{
    longspan_machine machine = {.memory_bytes = 0};
    const machine_seat seat = {.threads = 1, .cpu_share = 1};
    machine_fill(&machine, NULL, 0);
    return (placement){.ranks = RANKS,
                       .node_ranks = NODE,
                       .may_share = true,
                       .machine = machine_of_rank(&machine, &seat, LONGSPAN_FLOAT32, COMPUTE_FP32)};
}

/* Seconds of CPU; negative where the strategy refuses the problem. */
static double seconds_to_plan(const longspan_problem *problem, const placement *place, int rank)
{
    longspan_problem p = *problem;
    schedule_problem scheduled;
    const strategy *how;
    schedule *s;
    fold_plan folds = {0};
    double predicted;
    failure f = {0};
    const clock_t begin = clock();
    const longspan_status chosen = plan_choose(&p, NULL, place, &scheduled, &how, &predicted, &f);
    if (chosen == LONGSPAN_ERROR_UNSUPPORTED) return -1;
    assert_int_equal(chosen, LONGSPAN_OK);
    assert_int_equal(how->plan(&scheduled, rank, &s), 0);
    assert_int_equal(fold_plan_create(&folds, &p, &scheduled, s, rank, 1), 0);
    const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    fold_plan_free(&folds);
    schedule_destroy(s);
    return seconds;
}

static void a_rank_of_4096_plans_in_less_than_a_second(void **state)
{
    (void)state;
    static const int ranks[] = {0, RANKS / 2 + 1, RANKS - 1};
    const placement place = place_of_cluster();
    failure f = {0};
    longspan_problem p;
    longspan_problem_default(&p);
    p.queries = p.keys = (1 << 20) + 37;
    p.heads = 32;
    p.kv_heads = 8;
    p.dim = 128;
    p.causal = 1;
    assert_int_equal(problem_complete(&p, &f), LONGSPAN_OK);
    int planned = 0;
    for (int i = -1; i < strategy_count; i++) {
        p.strategy = i < 0 ? "auto" : strategies[i]->name;
        double slowest = -1;
        for (size_t r = 0; r < sizeof ranks / sizeof ranks[0]; r++) {
            const double seconds = seconds_to_plan(&p, &place, ranks[r]);
            if (seconds > slowest) slowest = seconds;
        }
        if (slowest < 0) continue;
        planned++;
        print_message("%s: a rank of %d planned in at most %.3f s\n", p.strategy, RANKS, slowest);
        if (!(slowest < limit)) fail_msg("%s: %.3f s of CPU time", p.strategy, slowest);
    }
    assert_true(planned > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_rank_of_4096_plans_in_less_than_a_second)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
