/* A block of keys above 2 GiB goes from one rank to another whole, in as many messages as planned. Slow, and needs 12 GiB:
 * with less it ends with 77.
 *
 * One query a rank with q = (1, 0, ..., 0, 1), keys (f(j), 0, ..., 0, g(j)) and one value h(j) a key: the answer is a
 * weighted mean over all keys, in float64 a loop of one line, and every key counts in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/plan.h"
#include "tests/runtime/problem.h"

enum { SKIPPED = 77 };

enum { DIM = 512 };
static const int64_t keys = 2 * ((int64_t)1100000 + 7);

static float first(int64_t j)
{
    return (float)(j % 1009) / 1009;
}

static float last(int64_t j)
{
    return (float)(j % 3001) / 3001;
}

static float value(int64_t j)
{
    return 1 + (float)(j % 65537) / 65537;
}

static void run(const char *strategy)
{
    test_problem t = make_problem(2, 1, 1, DIM);
    longspan_status status;
    longspan_plan *plan;
    t.problem.keys = keys;
    t.problem.value_dim = 1;
    t.problem.scale = 1;
    t.problem.strategy = strategy;
    longspan_context *context = open_context(&t, &status);
    assert_non_null(context);
    if (longspan_plan_create(context, &t.problem, &plan) != LONGSPAN_OK)
        fail_msg("%s", longspan_context_error(context));
    const int64_t tokens = longspan_plan_tokens(plan, LONGSPAN_KEYS);
    assert_true((uint64_t)tokens * DIM * sizeof(float) > (uint64_t)1 << 31);
    float *k = calloc((size_t)tokens * DIM, sizeof *k), *v = malloc((size_t)tokens * sizeof *v);
    assert_non_null(k);
    longspan_range range;
    int64_t count;
    assert_int_equal(longspan_plan_rows(plan, LONGSPAN_KEYS, &range, 1, &count), LONGSPAN_OK);
    for (int64_t i = 0; i < tokens; i++) {
        k[i * DIM] = first(range.begin + i);
        k[i * DIM + DIM - 1] = last(range.begin + i);
        v[i] = value(range.begin + i);
    }
    float q[DIM] = {[0] = 1, [DIM - 1] = 1}, out[1] = {0}, lse[1] = {0};
    assert_int_equal(longspan_plan_execute(plan, q, k, v, out, lse), LONGSPAN_OK);
    longspan_timing timing;
    cost planned;
    const cost_sizes sizes = plan_sizes(&plan->problem);
    cost_of_schedule(plan->schedule, &plan->scheduled, &sizes, &planned);
    longspan_plan_timing(plan, &timing);
    assert_int_equal(timing.messages_sent, planned.sum.messages_sent);
    double l = 0, o = 0;
    for (int64_t j = 0; j < keys; j++) {
        const double weight = exp((double)first(j) + (double)last(j));
        l += weight;
        o += weight * (double)value(j);
    }
    if (longspan_plan_tokens(plan, LONGSPAN_QUERIES) == 1 &&
        (!(fabs(out[0] - o / l) <= 1e-5) || !(fabs(lse[0] - log(l)) <= 1e-5 * log(l))))
        fail_msg("%s: out %.9g, not %.9g; lse %.9g, not %.9g", strategy, (double)out[0], o / l, (double)lse[0], log(l));
    free(k);
    free(v);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
}

static void a_block_above_two_gibibytes_arrives_whole(void **state)
{
    (void)state;
    run("ring");
    run("shared");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_block_above_two_gibibytes_arrives_whole)};
    if ((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) < 12.0 * 1073741824) {
        puts("skipped: less than 12 GiB of memory");
        return SKIPPED;
    }
    return RUN_MPI_GROUP(argc, argv, tests);
}
