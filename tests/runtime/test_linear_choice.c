/* What the plan of linear attention chooses among, for any number of ranks, without running. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "runtime/linear_plan.h"

/* 16 heads of D = E = 128, complete. */
static longspan_linear_problem make(const char *attention, int64_t tokens)
{
    failure f = {0};
    longspan_linear_problem p;
    longspan_linear_problem_default(&p);
    p.attention = attention;
    p.tokens = tokens;
    p.heads = 16;
    p.dim = strcmp(attention, "based") == 0 ? 16 : 128;
    assert_int_equal(linear_problem_complete(&p, &f), LONGSPAN_OK);
    return p;
}

static placement place_of(int ranks)
{
    longspan_machine machine = {.memory_bytes = 0};
    const machine_seat seat = {.threads = 1, .cpu_share = 1};
    machine_fill(&machine, NULL, 0);
    return (placement){
        .ranks = ranks, .node_ranks = 1, .machine = machine_of_rank(&machine, &seat, LONGSPAN_FLOAT32, COMPUTE_FP32)};
}

static linear_offer offer_of(const longspan_linear_problem *p, const char *strategy, const placement *place)
{
    failure f = {0};
    linear_offer offer;
    const linear_strategy *way = linear_strategy_find(strategy);
    assert_non_null(way);
    assert_int_equal(linear_plan_predict(p, way, place, 1, &offer, &f), LONGSPAN_OK);
    return offer;
}

static void the_fastest_that_fits_is_taken(void **state)
{
    (void)state;
    static const char *const names[] = {"elu", "based", "efficient", "retention", "gla", "kda"};
    static const int ranks[] = {1, 2, 7, 64, 300};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (size_t r = 0; r < sizeof ranks / sizeof *ranks; r++)
            for (int causal = 0; causal < 2; causal++) {
                failure f = {0};
                linear_offer taken;
                longspan_linear_problem p = make(names[n], (int64_t)ranks[r] * 4096);
                const placement place = place_of(ranks[r]);
                if (!causal && !linear_variant_find(names[n])->two_sided) continue;
                p.causal = causal;
                assert_int_equal(linear_plan_choose(&p, &place, 1, &taken, &f), LONGSPAN_OK);
                assert_null(taken.refusal);
                for (int i = 0; i < linear_strategy_count; i++) {
                    const linear_offer other = offer_of(&p, linear_strategies[i]->name, &place);
                    assert_true(other.refusal || (other.seconds > 0 && other.seconds >= taken.seconds));
                }
            }
}

static void what_does_not_fit_into_memory_is_not_taken(void **state)
{
    (void)state;
    failure f = {0};
    linear_offer taken;
    longspan_linear_problem p = make("elu", 64 * 1024);
    p.causal = 0;
    placement place = place_of(64);
    const linear_offer gather = offer_of(&p, "gather", &place), reduce = offer_of(&p, "allreduce", &place);
    assert_true(gather.memory_bytes > 4 * reduce.memory_bytes);
    place.memory_bytes = reduce.memory_bytes;
    assert_int_equal(linear_plan_choose(&p, &place, 1, &taken, &f), LONGSPAN_OK);
    assert_string_equal(taken.strategy->name, "allreduce");
    place.memory_bytes = 1;
    assert_int_equal(linear_plan_choose(&p, &place, 1, &taken, &f), LONGSPAN_OK);
    assert_string_equal(taken.strategy->name, "allreduce");
}

/* A token has q, k, v, out and, of gated-delta, a decay and a beta a head. A state of all heads is 8 B H F W bytes, under
 * the delta rule F F more a head with its transition; outputs that wait unfinished have W floats a row, under the delta
 * rule D more. */
static void memory_is_that_of_tokens_states_and_unfinished_outputs(void **state)
{
    (void)state;
    enum { HEADS = 16, DIM = 128, RANKS = 5, TOKENS = 1024, ROWS = 4 * TOKENS * HEADS * (4 * DIM + 2) };
    const longspan_linear_problem p = make("gated-delta", (int64_t)RANKS * TOKENS);
    const placement place = place_of(RANKS);
    const linear_offer chain = offer_of(&p, "chain", &place), gather = offer_of(&p, "gather", &place);
    assert_false(chain.summarises);
    assert_true(gather.summarises);
    assert_int_equal(chain.memory_bytes, ROWS + 2 * 8 * HEADS * DIM * DIM); /* where leads began too */
    assert_int_equal(gather.memory_bytes, ROWS + RANKS * 8 * HEADS * 2 * DIM * DIM + 4 * TOKENS * HEADS * 2 * DIM);
}

static void stages_are_as_small_as_all_threads_have_work_in(void **state)
{
    (void)state;
    longspan_linear_problem p = make("retention", 1 << 20);
    const placement one = place_of(1), two = place_of(2);
    assert_int_equal(linear_plan_scheduled(&p, &one, 1, false).stage_units, 16);
    assert_int_equal(linear_plan_scheduled(&p, &two, 1, false).stage_units, 1);
    assert_int_equal(linear_plan_scheduled(&p, &two, 4, false).stage_units, 4);
    p.batch = 1 << 10;
    assert_int_equal(linear_plan_scheduled(&p, &two, 4, false).stage_units, 64);
}

/* Flops of a whole are those of its parts where it is cut on the grid; a chunk's are counted here once more. */
static void flops_of_parts_add_up(void **state)
{
    (void)state;
    static const char *const names[] = {"elu", "based", "gla", "kda"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        const longspan_linear_problem p = make(names[n], 1000);
        const linear_shape shape = linear_problem_shape(&p, false);
        double parts = 0;
        for (int64_t begin = 0; begin < 1000; begin += 2 * LINEAR_CHUNK)
            parts +=
                linear_plan_flops(&shape, true, (range){begin, begin + 128 < 1000 ? begin + 2 * LINEAR_CHUNK : 1000});
        const double whole = linear_plan_flops(&shape, true, (range){0, 1000});
        assert_true(fabs(parts - whole) <= 1e-12 * whole);
    }
    const longspan_linear_problem p = make("gla", 1);
    const linear_shape shape = linear_problem_shape(&p, false);
    const double chunk = 16 * (64.0 * 65 * (128 + 128) + 4 * 64.0 * 128 * 128);
    assert_true(linear_plan_flops(&shape, true, (range){0, 64}) == chunk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_that_fits_is_taken),
        cmocka_unit_test(what_does_not_fit_into_memory_is_not_taken),
        cmocka_unit_test(memory_is_that_of_tokens_states_and_unfinished_outputs),
        cmocka_unit_test(stages_are_as_small_as_all_threads_have_work_in),
        cmocka_unit_test(flops_of_parts_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
