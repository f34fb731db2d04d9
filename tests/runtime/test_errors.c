/* Bad arguments, arguments that differ between ranks, and faults on any rank: every rank returns the same status, the
 * text names what is wrong, and nothing hangs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/agreement.h"
#include "runtime/context.h"
#include "tests/runtime/problem.h"

static int my_rank, rank_count;

static longspan_context *default_context(void)
{
    longspan_context *context;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, NULL, &context), LONGSPAN_OK);
    return context;
}

/* The largest of a value over ranks: assertions are made on it so that all ranks agree on them. */
static int largest(int value)
{
    MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return value;
}

/* Planning fails everywhere with `status` and a text that contains `part`. */
static void assert_refused(longspan_context *context, const longspan_problem *p, longspan_status status,
                           const char *part)
{
    longspan_plan *plan = NULL;
    longspan_status got = longspan_plan_create(context, p, &plan);
    const char *text = longspan_context_error(context);
    int wrong = got != status || !strstr(text, part) || plan || longspan_context_error_rank(context) < 0;
    if (largest(wrong)) fail_msg("expected status %d and '%s', got %d and '%s'", status, part, got, text);
}

static void each_bad_size_is_refused_by_name(void **state)
{
    (void)state;
    longspan_context *context = default_context();
    const longspan_problem good = make_problem(100, 4, 2, 16).problem;
    longspan_problem p;
    p = good, p.queries = 0, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "queries");
    p = good, p.queries = -5, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "queries");
    p = good, p.queries = INT64_MAX, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "queries");
    p = good, p.keys = -1, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "keys");
    p = good, p.batch = 0, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "batch");
    p = good, p.heads = 0, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "heads");
    p = good, p.heads = 3, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "kv_heads");
    p = good, p.kv_heads = -2, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "kv_heads");
    p = good, p.dim = 513, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "dim");
    p = good, p.value_dim = -1, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "value_dim");
    p = good, p.scale = NAN, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "scale");
    p = good, p.type = (longspan_type)9, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "type");
    p = good, p.strategy = "carousel", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "carousel");
    p = good, p.layout = "spiral", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "spiral");
    longspan_context_destroy(&context);
}

static void each_bad_part_of_a_mask_is_refused_by_name(void **state)
{
    (void)state;
    longspan_context *context = default_context();
    longspan_problem good = make_problem(100, 4, 2, 16).problem, p;
    static const int64_t long_keys[] = {100, 101}, negative[] = {-1, 5};
    good.batch = 2;
    p = good, p.window_left = -2, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "window_left");
    p = good, p.window_right = INT64_MIN, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "window_right");
    p = good, p.causal = 1, p.prefix = -1, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "prefix");
    p = good, p.prefix = 3, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "prefix 3 needs causal");
    p = good, p.chunk = -4, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "chunk");
    p = good, p.chunks_left = 1, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "need chunk");
    p = good, p.chunks_right = 0, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "need chunk");
    p = good, p.chunk = 8, p.chunks_left = -3, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "chunks_left");
    p = good, p.key_lengths = long_keys, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "key_lengths[1] is 101");
    p = good, p.key_lengths = negative, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "key_lengths[0] is -1");
    longspan_context_destroy(&context);
}

static void each_bad_part_of_a_score_is_refused_by_name(void **state)
{
    (void)state;
    longspan_context *context = default_context();
    const longspan_problem good = make_problem(100, 2, 2, 16).problem;
    static const float nan_second[] = {1, NAN}, infinite[] = {INFINITY, 0};
    longspan_problem p;
    p = good, p.softcap = -1, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "softcap");
    p = good, p.softcap = NAN, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "softcap");
    p = good, p.softcap = 1e300, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "softcap");
    p = good, p.softcap = 1e-300, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "softcap");
    p = good, p.rope_dim = 5, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "rope_dim");
    p = good, p.rope_dim = 18, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "rope_dim is 18");
    p = good, p.rope_dim = 8, p.rope_base = 0, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "rope_base");
    p = good, p.alibi_slopes = nan_second, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "alibi_slopes[1]");
    p = good, p.alibi_slopes = infinite, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "alibi_slopes[0]");
    p = good, p.sinks = nan_second, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "sinks[1]");
    p = good, p.sinks = infinite, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "sinks[0]");
    longspan_context_destroy(&context);
}

/* Distances beyond any token are no limit, not an overflow. */
static void limits_of_any_size_are_right(void **state)
{
    (void)state;
    test_problem t = make_problem(90, 2, 1, 8);
    t.problem.window_left = INT64_MAX;
    t.problem.window_right = 3;
    assert_true(run_problem(&t).relative_rms <= 1e-6);
    t.problem.causal = 1;
    t.problem.prefix = INT64_MAX;
    t.problem.chunk = INT64_MAX;
    t.problem.chunks_left = INT64_MAX;
    t.problem.chunks_right = 0;
    const test_result r = run_problem(&t);
    assert_int_equal(r.status, LONGSPAN_OK);
    assert_true(r.relative_rms <= 1e-6);
}

static void strategies_and_layouts_that_do_not_fit_are_refused_by_name(void **state)
{
    (void)state;
    longspan_context *context = default_context();
    const longspan_problem good = make_problem(100, 4, 2, 16).problem;
    longspan_problem p;
    p = good, p.strategy = "hybrid:7x3";
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "strategy 'hybrid:7x3' is for 21 ranks, but there are");
    p = good, p.strategy = "hybrid:x", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "hybrid:x");
    p = good, p.strategy = "ring:2x2", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "ring:2x2");
    p = good, p.layout = "striped:0", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "striped:0");
    p = good, p.layout = "zigzag:4", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "zigzag:4");
    longspan_context_destroy(&context);
}

static void an_arithmetic_that_the_kernel_lacks_is_refused_naming_both(void **state)
{
    (void)state;
    longspan_options options;
    longspan_context *context;
    const longspan_problem p = make_problem(100, 4, 2, 16).problem;
    longspan_options_default(&options);
    options.isa = "portable";
    options.compute = "bf16x3";
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_OK);
    assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "compute 'bf16x3'");
    assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "kernel 'portable' offers fp32");
    longspan_context_destroy(&context);
    options.compute = "fp64";
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_ERROR_ARGUMENT);
    assert_null(context);
}

/* As if "auto" had found other CPUs under the last rank. */
static void kernels_that_differ_between_ranks_are_refused_naming_both(void **state)
{
    (void)state;
    if (rank_count == 1 || !attention_kernel_find("avx2")) skip();
    longspan_context *context = default_context();
    const longspan_problem p = make_problem(100, 4, 2, 16).problem;
    const bool last = my_rank == rank_count - 1;
    context->kernel = attention_kernel_find(last ? "avx2" : "portable");
    assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "from 'portable' to 'avx2'");
    context->kernel = attention_kernel_find("portable");
    context->compute = last ? COMPUTE_BF16 : COMPUTE_FP32;
    assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "from 'fp32' to 'bf16'");
    longspan_context_destroy(&context);
}

static void bad_documents_are_refused_by_name(void **state)
{
    (void)state;
    longspan_context *context = default_context();
    static const int64_t late[] = {1, 100}, early[] = {0, 99}, descending[] = {0, 60, 40, 100}, whole[] = {0, 100};
    longspan_problem p = make_problem(100, 1, 1, 8).problem;
    p.documents = late, p.document_count = 1, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "documents");
    p.documents = early, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "documents");
    p.documents = descending, p.document_count = 3,
    assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "documents[1]");
    p.documents = NULL, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "document_count");
    p.documents = whole, p.document_count = 0, assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "document_count");
    p.document_count = 1, p.keys = 120, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "documents");
    longspan_context_destroy(&context);
}

/* More memory than there is: refused by all when planning, not killed while executing. */
static void a_problem_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    longspan_context *context = default_context();
    longspan_problem p = make_problem((int64_t)1 << 31, 4096, 1, 512).problem;
    p.keys = 1;
    assert_refused(context, &p, LONGSPAN_ERROR_MEMORY, "no memory for the attention state");
    p.batch = 1 << 20;
    assert_refused(context, &p, LONGSPAN_ERROR_MEMORY, "no memory for");
    longspan_context_destroy(&context);
}

static void arguments_that_differ_between_ranks_are_refused_by_name(void **state)
{
    (void)state;
    if (rank_count == 1) return;
    longspan_context *context = default_context();
    const longspan_problem good = make_problem(100, 4, 2, 16).problem;
    static const int64_t one[] = {0, 30, 100}, other[] = {0, 31, 100};
    int last = my_rank == rank_count - 1;
    longspan_problem p;
    p = good, p.queries += last, assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "queries differs");
    p = good, p.heads *= 1 + last, assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "heads differs");
    p = good, p.causal = last, assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "causal differs");
    p = good, p.scale = last ? 0.5 : 0.25, assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "scale differs");
    static const float slopes[] = {1, 2, 3, 4}, others[] = {1, 2, 3, 5};
    static const int64_t lengths[] = {50}, longer[] = {51};
    p = good, p.window_left = last, assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "window_left differs");
    p = good, p.softcap = last, assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "softcap differs");
    p = good, p.alibi_slopes = last ? slopes : others;
    assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "alibi_slopes differs");
    p = good, p.sinks = last ? slopes : NULL, assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "sinks differs");
    p = good, p.key_lengths = last ? lengths : longer;
    assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "key_lengths differs");
    p = good, p.strategy = last ? "ring" : "gather", assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "strategy");
    p = good, p.documents = last ? one : other, p.document_count = 2;
    assert_refused(context, &p, LONGSPAN_ERROR_MISMATCH, "documents differs");

    /* The context is as good as before. */
    longspan_plan *plan;
    assert_int_equal(longspan_plan_create(context, &good, &plan), LONGSPAN_OK);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);

    longspan_options options;
    longspan_options_default(&options);
    options.share_memory = last;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_ERROR_MISMATCH);
    options.share_memory = 1;
    options.compute = last ? "fp32" : "auto";
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_ERROR_MISMATCH);
    options.compute = "auto";
    options.isa = last ? "portable" : "auto";
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_ERROR_MISMATCH);
    assert_null(context);
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    longspan_context *context;
    longspan_options options;
    longspan_options_default(&options);
    options.isa = "abacus";
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_ERROR_ARGUMENT);
    assert_null(context);
    longspan_options_default(&options);
    options.threads = my_rank == rank_count - 1 ? -1 : 1;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_ERROR_ARGUMENT);
    assert_null(context);
}

static void a_null_array_on_one_rank_fails_on_all_and_names_the_rank(void **state)
{
    (void)state;
    longspan_context *context = default_context();
    longspan_problem p = make_problem(64 * rank_count, 1, 1, 4).problem;
    p.layout = "contiguous";
    longspan_plan *plan;
    assert_int_equal(longspan_plan_create(context, &p, &plan), LONGSPAN_OK);
    size_t count = (size_t)longspan_plan_tokens(plan, LONGSPAN_QUERIES) * 4;
    float *data = calloc(count, sizeof *data), *out = malloc(count * sizeof *out);
    int last = my_rank == rank_count - 1;
    longspan_status status = longspan_plan_execute(plan, data, last ? NULL : data, data, out, NULL);
    int wrong = status != LONGSPAN_ERROR_ARGUMENT || longspan_context_error_rank(context) != rank_count - 1;
    assert_false(largest(wrong));
    /* And the same plan still works, without lse too. */
    assert_int_equal(longspan_plan_execute(plan, data, data, data, out, NULL), LONGSPAN_OK);
    free(data);
    free(out);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
}

static void the_most_severe_failure_of_the_lowest_rank_is_agreed_on(void **state)
{
    (void)state;
    for (int culprit = 0; culprit < rank_count; culprit++) {
        failure f = {0};
        int rank = -1;
        if (my_rank >= culprit) failure_set(&f, LONGSPAN_ERROR_IO, "from rank %d", my_rank);
        if (my_rank == 0 && culprit > 0) failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "less severe");
        failure_set(&f, f.status == LONGSPAN_OK ? LONGSPAN_OK : LONGSPAN_ERROR_INTERNAL, "a later failure is dropped");
        longspan_status status = agreement_reach(MPI_COMM_WORLD, &f, &rank);
        char expected[64];
        snprintf(expected, sizeof expected, "from rank %d", culprit);
        int wrong = status != LONGSPAN_ERROR_IO || rank != culprit || strcmp(f.text, expected) != 0;
        assert_false(largest(wrong));
    }
    failure none = {0};
    int rank = -1;
    assert_int_equal(agreement_reach(MPI_COMM_WORLD, &none, &rank), LONGSPAN_OK);
    assert_int_equal(rank, -1);
}

static void values_at_the_ends_of_their_range_compare_right(void **state)
{
    (void)state;
    const agreement_value equal[] = {{"least", INT64_MIN}, {"most", INT64_MAX}, {"zero", 0}};
    failure f = {0};
    int rank;
    assert_int_equal(agreement_check_equal(MPI_COMM_WORLD, equal, 3, &f, &rank), LONGSPAN_OK);
    if (rank_count == 1) return;
    const agreement_value differ[] = {{"same", 1}, {"extreme", my_rank == 0 ? INT64_MIN : INT64_MAX}};
    assert_int_equal(agreement_check_equal(MPI_COMM_WORLD, differ, 2, &f, &rank), LONGSPAN_ERROR_MISMATCH);
    assert_non_null(strstr(f.text, "extreme differs"));
}

#ifdef LONGSPAN_FAULT_INJECTION
/* Any agreement point of create, plan and execute fails on any rank: all ranks get the same status, and what was made
 * is freed (the address sanitizer watches). */
static void injected_faults_are_agreed_on_and_leak_nothing(void **state)
{
    (void)state;
    int failed = 0;
    for (int seed = 1; seed <= 60; seed++) {
        char fault[64];
        snprintf(fault, sizeof fault, "%d:%.3f", seed, 0.3 / rank_count);
        setenv("LONGSPAN_FAULT", fault, 1);
        test_problem t = make_problem(50, 1, 1, 8);
        t.checked_rows = 1;
        t.problem.strategy = seed % 2 ? "ring" : "shared";
        longspan_status status = run_problem(&t).status;
        unsetenv("LONGSPAN_FAULT");
        int extremes[] = {(int)status, -(int)status};
        MPI_Allreduce(MPI_IN_PLACE, extremes, 2, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
        if (extremes[0] != -extremes[1])
            fail_msg("LONGSPAN_FAULT=%s: status from %d to %d over ranks", fault, -extremes[1], extremes[0]);
        failed += status != LONGSPAN_OK;
    }
    assert_in_range(failed, 10, 59);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_bad_size_is_refused_by_name),
        cmocka_unit_test(each_bad_part_of_a_mask_is_refused_by_name),
        cmocka_unit_test(each_bad_part_of_a_score_is_refused_by_name),
        cmocka_unit_test(limits_of_any_size_are_right),
        cmocka_unit_test(strategies_and_layouts_that_do_not_fit_are_refused_by_name),
        cmocka_unit_test(an_arithmetic_that_the_kernel_lacks_is_refused_naming_both),
        cmocka_unit_test(kernels_that_differ_between_ranks_are_refused_naming_both),
        cmocka_unit_test(bad_documents_are_refused_by_name),
        cmocka_unit_test(a_problem_that_does_not_fit_is_refused),
        cmocka_unit_test(arguments_that_differ_between_ranks_are_refused_by_name),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(a_null_array_on_one_rank_fails_on_all_and_names_the_rank),
        cmocka_unit_test(the_most_severe_failure_of_the_lowest_rank_is_agreed_on),
        cmocka_unit_test(values_at_the_ends_of_their_range_compare_right),
#ifdef LONGSPAN_FAULT_INJECTION
        cmocka_unit_test(injected_faults_are_agreed_on_and_leak_nothing),
#endif
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &rank_count);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
