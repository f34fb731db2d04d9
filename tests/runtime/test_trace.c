/* The trace: JSON that a reader takes, every rank, step and thread in it, times that agree with the timing, and a count of
 * what found no room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/plan.h"
#include "tests/runtime/linear_case.h"
#include "tests/runtime/problem.h"

static int rank, ranks;

/* The written trace, parsed on rank 0 and NULL elsewhere. */
static json_t *write_and_read(const trace *t)
{
    failure f = {0};
    FILE *file = rank == 0 ? tmpfile() : NULL;
    trace_write(t, MPI_COMM_WORLD, file, &f);
    assert_int_equal(f.status, LONGSPAN_OK);
    if (rank != 0) return NULL;
    json_error_t error;
    rewind(file);
    json_t *root = json_loadf(file, 0, &error);
    fclose(file);
    if (!root) fail_msg("line %d: %s", error.line, error.text);
    return root;
}

/* Of a rank's complete events of a name: how many, and their seconds in all. */
static int count_events(const json_t *root, int of_rank, const char *name, double *seconds_p)
{
    size_t i;
    json_t *event;
    int count = 0;
    *seconds_p = 0;
    json_array_foreach(json_object_get(root, "traceEvents"), i, event)
    {
        if (json_integer_value(json_object_get(event, "pid")) != of_rank) continue;
        if (strcmp(json_string_value(json_object_get(event, "name")), name) != 0) continue;
        count++;
        *seconds_p += json_number_value(json_object_get(event, "dur")) * 1e-6;
    }
    return count;
}

static void every_step_of_every_rank_is_in_the_trace(void **state)
{
    (void)state;
    longspan_status status;
    test_problem t = make_problem(400, 2, 1, 16);
    t.problem.strategy = "ring";
    t.context = open_context(&t, &status);
    assert_non_null(t.context);
    t.context->trace = trace_create(MPI_COMM_WORLD, 0);
    assert_non_null(t.context->trace);
    const test_result r = run_problem(&t);
    assert_int_equal(r.status, LONGSPAN_OK);
    json_t *root = write_and_read(t.context->trace);
    for (int i = 0; rank == 0 && i < ranks; i++) {
        double seconds;
        assert_int_equal(count_events(root, i, "compute", &seconds), ranks);
        assert_true(seconds > 0);
        assert_int_equal(count_events(root, i, "transfers", &seconds), ranks - 1);
        assert_int_equal(count_events(root, i, "finish", &seconds), 1);
        assert_int_equal(count_events(root, i, "execute", &seconds), 1);
        assert_int_equal(count_events(root, i, "process_name", &seconds), 1);
    }
    json_decref(root);
    trace_destroy(t.context->trace);
    longspan_context_destroy(&t.context);
}

/* Begins and ends of a rank's complete events of a name on a track and of a step; false unless there is just one. */
static bool find_event(const json_t *root, int of_rank, const char *name, int track, int step, double *begin_p,
                       double *end_p)
{
    size_t i;
    json_t *event;
    int found = 0;
    json_array_foreach(json_object_get(root, "traceEvents"), i, event)
    {
        const json_t *at = json_object_get(json_object_get(event, "args"), "step");
        if (json_integer_value(json_object_get(event, "pid")) != of_rank || !at || json_integer_value(at) != step ||
            json_integer_value(json_object_get(event, "tid")) != track ||
            strcmp(json_string_value(json_object_get(event, "name")), name) != 0)
            continue;
        found++;
        *begin_p = json_number_value(json_object_get(event, "ts"));
        *end_p = *begin_p + json_number_value(json_object_get(event, "dur"));
    }
    return found == 1;
}

/* Microseconds by which two clocks may seem to differ. */
enum { SLACK = 20 };

/* A fold of every thread for each step, within what the rank says that it computed. */
static void every_thread_has_a_track_of_its_folds(void **state)
{
    (void)state;
    longspan_status status;
    for (int threads = 1; threads <= 3; threads++) {
        test_problem t = make_problem(400, 2, 1, 16);
        t.threads = threads;
        t.problem.strategy = "ring";
        t.problem.layout = "contiguous";
        t.context = open_context(&t, &status);
        assert_non_null(t.context);
        t.context->trace = trace_create(MPI_COMM_WORLD, 0);
        assert_non_null(t.context->trace);
        assert_int_equal(run_problem(&t).status, LONGSPAN_OK);
        json_t *root = write_and_read(t.context->trace);
        for (int i = 0; rank == 0 && i < ranks; i++) {
            double seconds, begin = 0, end = 0, first = 0, last = 0;
            assert_int_equal(count_events(root, i, "fold", &seconds), ranks * threads);
            assert_int_equal(count_events(root, i, "thread_name", &seconds), TRACE_TRACKS + threads);
            assert_int_equal(count_events(root, i, "process_labels", &seconds), 0);
            for (int step = 0; step < ranks; step++) {
                assert_true(find_event(root, i, "compute", TRACE_WORK, step, &first, &last));
                for (int thread = 0; thread < threads; thread++) {
                    assert_true(find_event(root, i, "fold", TRACE_TRACKS + thread, step, &begin, &end));
                    assert_true(first - SLACK <= begin && begin <= end && end <= last + SLACK);
                }
            }
        }
        json_decref(root);
        trace_destroy(t.context->trace);
        longspan_context_destroy(&t.context);
    }
}

/* No execute makes room for another. */
static void folds_that_find_no_room_are_counted(void **state)
{
    (void)state;
    trace *t = trace_create(MPI_COMM_WORLD, 0);
    assert_non_null(t);
    assert_true(trace_reserve_threads(t, 2, 1));
    assert_true(trace_reserve_threads(t, 1, 1));
    for (int i = 0; i < 4; i++)
        for (int thread = 0; thread < 2; thread++)
            for (int begin = 1; begin >= 0; begin--) trace_mark_fold(t, thread, begin, i);
    json_t *root = write_and_read(t);
    for (int i = 0; rank == 0 && i < ranks; i++) {
        double seconds;
        size_t at;
        json_t *event;
        assert_int_equal(count_events(root, i, "fold", &seconds), 3);
        json_array_foreach(json_object_get(root, "traceEvents"), at, event)
        {
            if (strcmp(json_string_value(json_object_get(event, "name")), "process_labels") != 0) continue;
            assert_string_equal(json_string_value(json_object_get(json_object_get(event, "args"), "labels")),
                                "5 events found no room");
        }
        assert_int_equal(count_events(root, i, "process_labels", &seconds), 1);
    }
    json_decref(root);
    trace_destroy(t);
}

static void steps_add_up_to_the_timing(void **state)
{
    (void)state;
    longspan_status status;
    longspan_plan *plan;
    test_problem t = make_problem(300, 2, 1, 16);
    t.problem.strategy = "queries";
    longspan_context *context = open_context(&t, &status);
    assert_int_equal(longspan_plan_create(context, &t.problem, &plan), LONGSPAN_OK);
    int64_t count;
    assert_null(plan_steps(plan, &count));
    assert_int_equal(count, 0);
    float *rows = calloc((size_t)longspan_plan_tokens(plan, LONGSPAN_QUERIES) * 32 + 1, sizeof *rows);
    float *out = calloc((size_t)longspan_plan_tokens(plan, LONGSPAN_QUERIES) * 32 + 1, sizeof *out);
    assert_int_equal(longspan_plan_execute(plan, rows, rows, rows, out, NULL), LONGSPAN_OK);
    longspan_timing timing;
    longspan_plan_timing(plan, &timing);
    const step_record *steps = plan_steps(plan, &count);
    assert_int_equal(count, timing.steps);
    double compute = 0, wait = 0;
    int64_t sent = 0, wrong = 0;
    for (int64_t i = 0; i < count; i++) {
        compute += steps[i].computed - steps[i].begin;
        wait += steps[i].end - steps[i].computed;
        sent += steps[i].bytes_sent;
        wrong += !(steps[i].begin <= steps[i].computed && steps[i].computed <= steps[i].end);
        wrong += !(steps[i].begin <= steps[i].transferred && steps[i].transferred <= steps[i].end);
        wrong += i > 0 && steps[i].begin < steps[i - 1].end;
        wrong += steps[i].waited_for < -1 || steps[i].waited_for >= ranks || (ranks > 1 && steps[i].waited_for == rank);
    }
    wrong += fabs(compute - timing.compute) > 1e-9 || fabs(wait - timing.wait) > 1e-9 || sent != timing.bytes_sent;
    wrong += timing.total + 1e-9 < compute + wait + timing.finish;
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    assert_int_equal(wrong, 0);
    free(rows);
    free(out);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
}

/* The chain on one thread: a stage a head and batch item, which the first rank only sends and the last only receives. */
static void every_stage_of_linear_attention_is_in_the_trace(void **state)
{
    (void)state;
    longspan_context *context;
    longspan_options options;
    longspan_options_default(&options);
    options.threads = 1;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_OK);
    context->trace = trace_create(MPI_COMM_WORLD, 0);
    assert_non_null(context->trace);
    context->seat.cpu_share = 1; /* leads, also where the ranks of this test share cores */
    const linear_case c = linear_case_make("gla", (int64_t)ranks * 64);
    linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
    const linear_run run = {.comm = MPI_COMM_WORLD, .context = context, .strategy = "chain"};
    assert_int_equal(linear_run_case(&run, &d).status, LONGSPAN_OK);
    json_t *root = write_and_read(context->trace);
    for (int i = 0; rank == 0 && i < ranks; i++) {
        const int stages = ranks > 1 ? 8 : 1, ends = (i > 0) + (i < ranks - 1);
        const int leads = ranks - 1 - i;
        double seconds;
        assert_int_equal(count_events(root, i, "fold", &seconds), stages + leads);
        assert_true(seconds > 0);
        assert_int_equal(count_events(root, i, "transfers", &seconds), ends == 2 ? stages + 2 : ends * stages);
        assert_int_equal(count_events(root, i, "finish", &seconds), 1);
        assert_int_equal(count_events(root, i, "execute", &seconds), 1);
    }
    json_decref(root);
    linear_data_free(&d);
    trace_destroy(context->trace);
    longspan_context_destroy(&context);
}

/* More than one piece of text a rank, and events beyond the room there is. */
static void long_traces_arrive_whole_and_tell_what_was_dropped(void **state)
{
    (void)state;
    enum { ROOM = 6000, EVENTS = ROOM + 5 };
    trace *t = trace_create(MPI_COMM_WORLD, ROOM);
    assert_non_null(t);
    const double now = MPI_Wtime();
    for (int i = 0; i < EVENTS; i++)
        trace_add(t, &(trace_event){.name = "an event with a name of some length",
                                    .category = "test",
                                    .begin = now + i,
                                    .end = now + i + 0.5,
                                    .arguments = {{"number", i}, {"again", INT64_MIN}, {"and again", INT64_MAX}}});
    json_t *root = write_and_read(t);
    for (int i = 0; rank == 0 && i < ranks; i++) {
        double seconds;
        assert_int_equal(count_events(root, i, "an event with a name of some length", &seconds), ROOM);
        assert_true(fabs(seconds - ROOM * 0.5) < 1e-3);
        assert_int_equal(count_events(root, i, "process_labels", &seconds), 1);
    }
    json_decref(root);
    trace_destroy(t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_of_every_rank_is_in_the_trace),
        cmocka_unit_test(every_thread_has_a_track_of_its_folds),
        cmocka_unit_test(folds_that_find_no_room_are_counted),
        cmocka_unit_test(steps_add_up_to_the_timing),
        cmocka_unit_test(every_stage_of_linear_attention_is_in_the_trace),
        cmocka_unit_test(long_traces_arrive_whole_and_tell_what_was_dropped),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
