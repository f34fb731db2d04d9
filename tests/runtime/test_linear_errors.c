/* Bad problems and arrays of linear attention, those that differ between ranks, and faults on any rank: every rank
 * returns the same status, the text names what is wrong, and nothing hangs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runtime/linear_case.h"
#include "tests/runtime/problem.h"

static int my_rank, rank_count;
static longspan_context *context;

static int largest(int value)
{
    MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return value;
}

/* Fails everywhere with `status` and a text that contains `part`. */
static void assert_failed(longspan_context *of, longspan_status got, longspan_status status, const char *part)
{
    const char *text = longspan_context_error(of);
    const int wrong = got != status || !strstr(text, part) || longspan_context_error_rank(of) < 0;
    if (largest(wrong)) fail_msg("expected status %d and '%s', got %d and '%s'", status, part, got, text);
}

static void assert_refused_by(longspan_context *of, const longspan_linear_problem *p, longspan_status status,
                              const char *part)
{
    longspan_linear_plan *plan = NULL;
    const longspan_status got = longspan_linear_plan_create(of, p, &plan);
    assert_null(plan);
    assert_failed(of, got, status, part);
}

static void assert_refused(const longspan_linear_problem *p, longspan_status status, const char *part)
{
    assert_refused_by(context, p, status, part);
}

static longspan_linear_problem good_problem(const char *attention)
{
    return linear_case_make(attention, 100).problem;
}

static void each_bad_size_is_refused_by_name(void **state)
{
    (void)state;
    const longspan_status argument = LONGSPAN_ERROR_ARGUMENT;
    const longspan_linear_problem good = good_problem("gla");
    longspan_linear_problem p;
    p = good, p.tokens = 0, assert_refused(&p, argument, "tokens is 0");
    p = good, p.tokens = INT64_MAX, assert_refused(&p, argument, "tokens");
    p = good, p.batch = 0, assert_refused(&p, argument, "batch");
    p = good, p.heads = 0, assert_refused(&p, argument, "heads is 0");
    p = good, p.heads = 3, assert_refused(&p, argument, "heads is 3, which does not divide 4");
    p = good, p.k_heads = -2, assert_refused(&p, argument, "k_heads is -2");
    p = good, p.v_heads = 1 << 20, assert_refused(&p, argument, "v_heads");
    p = good, p.dim = 513, assert_refused(&p, argument, "dim is 513");
    p = good, p.value_dim = -1, assert_refused(&p, argument, "value_dim is -1");
    p = good, p.scale = NAN, assert_refused(&p, argument, "scale");
    p = good, p.scale = 1e300, assert_refused(&p, argument, "scale");
    p = good, p.out_type = (longspan_type)7, assert_refused(&p, argument, "out_type");
    p = good, p.strategy = "ring", assert_refused(&p, argument, "strategy 'ring' is not known");
    p = good, p.attention = "softmax", assert_refused(&p, argument, "attention 'softmax' is not known");
    p = good, p.attention = NULL, assert_refused(&p, argument, "attention is NULL");
    p = good, p.tokens = (int64_t)1 << 31, p.batch = 1 << 20, p.heads = p.k_heads = p.v_heads = 1 << 16;
    assert_refused(&p, LONGSPAN_ERROR_MEMORY, "no memory for");
    p = good, p.batch = 1 << 20, p.heads = p.k_heads = p.v_heads = 1 << 10, p.dim = 512, p.value_dim = 512;
    assert_refused(&p, LONGSPAN_ERROR_MEMORY, "no memory for the states");
}

static void bad_documents_are_refused_by_name(void **state)
{
    (void)state;
    static const int64_t late[] = {1, 100}, descending[] = {0, 60, 40, 100};
    longspan_linear_problem p = good_problem("delta");
    p.documents = late, p.document_count = 1, assert_refused(&p, LONGSPAN_ERROR_ARGUMENT, "documents run from 1");
    p.documents = descending, p.document_count = 3, assert_refused(&p, LONGSPAN_ERROR_ARGUMENT, "documents[1]");
    p.documents = NULL, assert_refused(&p, LONGSPAN_ERROR_ARGUMENT, "document_count");
}

static void what_a_variant_needs_or_has_not_is_refused_naming_both(void **state)
{
    (void)state;
    const longspan_status argument = LONGSPAN_ERROR_ARGUMENT, unsupported = LONGSPAN_ERROR_UNSUPPORTED;
    static const float numbers[4 * 512] = {0}, not_a_number[] = {0, NAN, 0, 0}, growing[] = {0, 0, INFINITY, 0};
    longspan_linear_problem p;
    p = good_problem("lightning"), assert_refused(&p, argument, "attention 'lightning' needs head_log_decay");
    p.head_log_decay = not_a_number, assert_refused(&p, argument, "head_log_decay[1]");
    p.head_log_decay = growing, assert_refused(&p, argument, "head_log_decay[2]");
    p = good_problem("gla"), p.head_log_decay = numbers;
    assert_refused(&p, argument, "attention 'gla' has no head_log_decay");
    p = good_problem("rwkv6"), assert_refused(&p, argument, "attention 'rwkv6' needs bonus");
    p = good_problem("kda"), p.bonus = numbers, assert_refused(&p, argument, "attention 'kda' has no bonus");
    p = good_problem("favor"), assert_refused(&p, argument, "attention 'favor' needs features");
    p.features = numbers, p.feature_count = 0, assert_refused(&p, argument, "feature_count is 0");
    p.feature_count = 1 << 20, assert_refused(&p, argument, "feature_count");
    p = good_problem("elu"), p.features = numbers, assert_refused(&p, argument, "attention 'elu' has no features");
    p = good_problem("elu"), p.feature_count = 3, assert_refused(&p, argument, "feature_count is 3");
    p = good_problem("based"), p.dim = 128, assert_refused(&p, unsupported, "attention 'based' of dim 128");
    p = good_problem("based"), p.scale = -1, assert_refused(&p, argument, "square root");
    p = good_problem("taylor"), p.scale = 2, assert_refused(&p, unsupported, "scale 2: attention 'taylor'");
    p = good_problem("delta"), p.causal = 0, assert_refused(&p, unsupported, "attention 'delta' needs causal");
    p = good_problem("elu"), p.strategy = "allreduce";
    assert_refused(&p, unsupported, "strategy 'allreduce' with attention 'elu'");
    p = good_problem("efficient"), p.strategy = "gather";
    assert_refused(&p, unsupported, "strategy 'gather' with attention 'efficient'");
}

static void an_arithmetic_other_than_fp32_is_refused_naming_both(void **state)
{
    (void)state;
    longspan_options options;
    longspan_context *coarse;
    longspan_options_default(&options);
    options.compute = "bf16x3";
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &coarse), LONGSPAN_OK);
    const longspan_linear_problem p = good_problem("retention");
    assert_refused_by(coarse, &p, LONGSPAN_ERROR_UNSUPPORTED, "compute 'bf16x3' with attention 'retention'");
    longspan_context_destroy(&coarse);
    options.compute = "fp32";
    longspan_linear_plan *plan;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &coarse), LONGSPAN_OK);
    assert_int_equal(longspan_linear_plan_create(coarse, &p, &plan), LONGSPAN_OK);
    longspan_linear_plan_destroy(&plan);
    longspan_context_destroy(&coarse);
}

static void problems_that_differ_between_ranks_are_refused_by_name(void **state)
{
    (void)state;
    if (rank_count == 1) return;
    const longspan_status mismatch = LONGSPAN_ERROR_MISMATCH;
    const longspan_linear_problem good = good_problem("retention");
    static const int64_t one[] = {0, 30, 100}, other[] = {0, 31, 100};
    static const float decays[] = {-1, -2, -3, -4}, others[] = {-1, -2, -3, -5};
    static const float rows[20 * 12]; /* enough for bonus and features */
    const int last = my_rank == rank_count - 1;
    longspan_linear_problem p;
    p = good, p.tokens += last, assert_refused(&p, mismatch, "tokens differs");
    p = good, p.v_heads *= 1 + last, assert_refused(&p, mismatch, "v_heads differs");
    p = good, p.causal = last, assert_refused(&p, mismatch, "causal differs");
    p = good, p.scale = last ? 0.5 : 0.25, assert_refused(&p, mismatch, "scale differs");
    p = good, p.attention = last ? "delta" : "gla", assert_refused(&p, mismatch, "attention differs");
    p = good, p.strategy = last ? "scan" : "gather", assert_refused(&p, mismatch, "strategy differs");
    p = good, p.documents = last ? one : other, p.document_count = 2, assert_refused(&p, mismatch, "documents differs");
    p = good_problem("lightning"), p.head_log_decay = last ? decays : others;
    assert_refused(&p, mismatch, "head_log_decay differs");
    p = good_problem("rwkv6"), p.bonus = last ? rows : NULL, assert_refused(&p, mismatch, "bonus differs");
    p = good_problem("favor"), p.features = last ? rows : NULL, assert_refused(&p, mismatch, "features differs");
}

/* Executes with arrays of which `change` has spoiled some; then without, which must work. */
static void assert_execute_fails(const char *attention, int causal, void (*change)(longspan_linear_arrays *arrays),
                                 longspan_status status, const char *part)
{
    linear_case c = linear_case_make(attention, 64 * rank_count);
    c.problem.batch = 1, c.problem.causal = causal;
    linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
    longspan_linear_plan *plan;
    assert_int_equal(longspan_linear_plan_create(context, &d.problem, &plan), LONGSPAN_OK);
    float *out = calloc((size_t)(64 * d.heads * d.problem.value_dim), sizeof *out);
    /* Every rank takes the first rows of the whole: what they are does not matter here. */
    const longspan_linear_arrays good = {.q = d.q, .k = d.k, .v = d.v, .log_decay = d.log_decay, .beta = d.beta};
    longspan_linear_arrays bad = good;
    change(&bad);
    assert_failed(context, longspan_linear_plan_execute(plan, &bad, out), status, part);
    assert_int_equal(longspan_linear_plan_execute(plan, &good, out), LONGSPAN_OK);
    free(out);
    longspan_linear_plan_destroy(&plan);
    linear_data_free(&d);
}

static const float some[1];
static longspan_linear_state no_state;

static void no_v_on_the_last(longspan_linear_arrays *a)
{
    if (my_rank == rank_count - 1) a->v = NULL;
}

static void no_decay(longspan_linear_arrays *a)
{
    a->log_decay = NULL;
}

static void no_beta(longspan_linear_arrays *a)
{
    a->beta = NULL;
}

static void decays_on_the_first(longspan_linear_arrays *a)
{
    if (my_rank == 0) a->log_decay = some;
}

static void initial_without_sums(longspan_linear_arrays *a)
{
    a->initial = &no_state;
}

static void final_without_sums(longspan_linear_arrays *a)
{
    a->final = &no_state;
}

static void initial_on_the_first(longspan_linear_arrays *a)
{
    if (my_rank == 0) a->initial = &no_state;
}

static void final_on_the_last(longspan_linear_arrays *a)
{
    if (my_rank == rank_count - 1) a->final = &no_state;
}

static void bad_arrays_fail_on_all_ranks_and_the_plan_still_works(void **state)
{
    (void)state;
    const longspan_status argument = LONGSPAN_ERROR_ARGUMENT;
    assert_execute_fails("retention", 1, no_v_on_the_last, argument, "v is NULL");
    assert_execute_fails("gla", 1, no_decay, argument, "log_decay is NULL");
    assert_execute_fails("ssd", 1, no_beta, argument, "beta is NULL");
    assert_execute_fails("delta", 1, decays_on_the_first, argument, "log_decay is given");
    assert_execute_fails("delta", 1, initial_without_sums, argument, "initial.sums is NULL");
    assert_execute_fails("favor", 1, final_without_sums, argument, "final.sums is NULL");
    assert_execute_fails("elu", 0, final_without_sums, argument, "without causal");
    if (rank_count == 1) return;
    assert_execute_fails("retention", 1, initial_on_the_first, LONGSPAN_ERROR_MISMATCH, "whether initial is given");
    assert_execute_fails("retention", 1, final_on_the_last, LONGSPAN_ERROR_MISMATCH, "whether final is given");
}

#ifdef LONGSPAN_FAULT_INJECTION
/* Any agreement point of plan and execute fails on any rank: all ranks get the same status, and what was made is freed
 * (the address sanitizer watches). */
static void injected_faults_are_agreed_on_and_leak_nothing(void **state)
{
    (void)state;
    static const char *const strategies[] = {"chain", "gather", "scan"};
    const linear_case c = linear_case_make("gated-delta", 150);
    linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
    int failed = 0;
    for (int seed = 1; seed <= 60; seed++) {
        char fault[64];
        snprintf(fault, sizeof fault, "%d:%.3f", seed, 0.3 / rank_count);
        setenv("LONGSPAN_FAULT", fault, 1);
        const linear_run run = {.comm = MPI_COMM_WORLD, .context = context, .strategy = strategies[seed % 3]};
        const longspan_status status = linear_run_case(&run, &d).status;
        unsetenv("LONGSPAN_FAULT");
        int extremes[] = {(int)status, -(int)status};
        MPI_Allreduce(MPI_IN_PLACE, extremes, 2, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
        if (extremes[0] != -extremes[1])
            fail_msg("LONGSPAN_FAULT=%s: status from %d to %d over ranks", fault, -extremes[1], extremes[0]);
        failed += status != LONGSPAN_OK;
    }
    linear_data_free(&d);
    assert_in_range(failed, 10, 59);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_bad_size_is_refused_by_name),
        cmocka_unit_test(bad_documents_are_refused_by_name),
        cmocka_unit_test(what_a_variant_needs_or_has_not_is_refused_naming_both),
        cmocka_unit_test(an_arithmetic_other_than_fp32_is_refused_naming_both),
        cmocka_unit_test(problems_that_differ_between_ranks_are_refused_by_name),
        cmocka_unit_test(bad_arrays_fail_on_all_ranks_and_the_plan_still_works),
#ifdef LONGSPAN_FAULT_INJECTION
        cmocka_unit_test(injected_faults_are_agreed_on_and_leak_nothing),
#endif
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &rank_count);
    longspan_context_create(MPI_COMM_WORLD, NULL, &context);
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    longspan_context_destroy(&context);
    return mpi_group_end(failures);
}
