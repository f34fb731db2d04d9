/* longspan attend with a linear --attention: a recurrence over a file's q, k and v. */
#include "runtime/cli/attend.h"
#include "runtime/cli/linear_job.h"
#include "runtime/cli/linear_report.h"
#include "runtime/cli/progress_bar.h"
#include "runtime/cli/result_file.h"
#include "runtime/cli/trace_file.h"
#include "runtime/patience.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SET_OUT, SET_STATE, SET_REFERENCE, SETS };

/* Collective. Whether IN has a first state that this run can begin with. Fails as session_agree does. */
static bool find_state(const session *s, const options *o, const input_file *input, bool *has_p, failure *f)
{
    *has_p = tensor_file_has_state(input->file);
    if (*has_p && !o->mask.causal)
        failure_set(f, LONGSPAN_ERROR_IO,
                    "%s: /state has no meaning with --mask full: only a causal run begins with one", o->arguments[0]);
    return session_agree(s, f);
}

/* Collective. The first state, on the rank that has token 0; the other ranks check no less. */
static bool read_state(const session *s, const input_file *input, linear_job *j, failure *f)
{
    io_error error;
    j->state.batched = input->shapes.q.batched;
    const char *attention = j->problem.attention;
    if (j->has_initial && (j->initial.sums ? tensor_file_state_read(input->file, &j->state, attention, j->initial.sums,
                                                                    j->initial.reference, &error)
                                           : tensor_file_state_check(input->file, &j->state, attention, &error)) != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    return session_agree(s, f);
}

static bool read_rows(const session *s, const input_file *input, const char *dataset, const tensor_shape *shape,
                      const linear_job *j, void *target, failure *f)
{
    if (!target) return true;
    if (input_file_read(s->comm, input, dataset, shape, &j->rows, 1, target, f) == LONGSPAN_OK) return true;
    session_fail(s, f);
    return false;
}

static bool read_inputs(const session *s, const input_file *input, linear_job *j, failure *f)
{
    return read_state(s, input, j, f) && read_rows(s, input, "/q", &input->shapes.q, j, j->base.q, f) &&
           read_rows(s, input, "/k", &input->shapes.k, j, j->base.k, f) &&
           read_rows(s, input, "/v", &input->shapes.v, j, j->base.v, f) &&
           read_rows(s, input, linear_dataset_name(LINEAR_LOG_DECAY), &input->linear.log_decay, j, j->log_decay, f) &&
           read_rows(s, input, linear_dataset_name(LINEAR_BETA), &input->linear.beta, j, j->beta, f);
}

/* Appends an extent. */
static void add_axis(output_dataset *dataset, int64_t extent)
{
    dataset->extent[dataset->rank++] = extent;
}

/* /out and, where wanted, the last state, with the batch axis where /q has it; returns how many. */
static int describe_datasets(const tensor_shape *q, const linear_job *j, output_dataset datasets[SETS])
{
    const longspan_linear_problem *p = &j->problem;
    datasets[SET_OUT] = (output_dataset){.name = "/out", .type = (output_type)p->out_type};
    datasets[SET_STATE] = (output_dataset){.name = "/state", .type = OUTPUT_FLOAT64};
    datasets[SET_REFERENCE] = (output_dataset){.name = "/state_reference", .type = OUTPUT_FLOAT64};
    for (int i = 0; i < SETS && q->batched; i++) add_axis(&datasets[i], q->batch);
    add_axis(&datasets[SET_OUT], p->tokens);
    add_axis(&datasets[SET_OUT], j->state.heads);
    add_axis(&datasets[SET_OUT], p->value_dim);
    add_axis(&datasets[SET_STATE], j->state.heads);
    add_axis(&datasets[SET_STATE], j->state.features);
    add_axis(&datasets[SET_STATE], j->state.width);
    add_axis(&datasets[SET_REFERENCE], j->state.heads);
    add_axis(&datasets[SET_REFERENCE], j->state.reference);
    if (!j->has_final) return 1;
    return j->state.reference > 0 ? SETS : SETS - 1;
}

static bool write_result(const session *s, const options *o, const linear_job *j, const tensor_shape *q, failure *f)
{
    char program[64], *relative = NULL, *absolute = NULL;
    output_dataset datasets[SETS];
    output_file output;
    const int count = describe_datasets(q, j, datasets);
    snprintf(program, sizeof program, "longspan %s", longspan_version());
    if (s->rank == 0) result_file_name_input(o->output, o->arguments[0], &relative, &absolute, f);
    if (!session_agree(s, f)) return false;
    const output_attribute how[] = {
        {.name = "format_version", .kind = ATTRIBUTE_INTEGER, .integer = 1},
        {.name = "program", .kind = ATTRIBUTE_TEXT, .text = program},
        {.name = "input", .kind = ATTRIBUTE_TEXT, .text = relative},
        {.name = "input_absolute", .kind = ATTRIBUTE_TEXT, .text = absolute},
        {.name = "strategy", .kind = ATTRIBUTE_TEXT, .text = linear_job_strategy(j)},
        {.name = "layout", .kind = ATTRIBUTE_TEXT, .text = "contiguous"},
        {.name = "compute", .kind = ATTRIBUTE_TEXT, .text = "fp32"},
        {.name = "isa", .kind = ATTRIBUTE_TEXT, .text = j->base.kernel->name},
        {.name = "ranks", .kind = ATTRIBUTE_INTEGER, .integer = s->ranks},
        {.name = "threads", .kind = ATTRIBUTE_INTEGER, .integer = j->base.threads},
    };
    enum { HOW = sizeof how / sizeof how[0] };
    output_attribute attributes[HOW + RESULT_PROBLEM_ATTRIBUTES];
    memcpy(attributes, how, sizeof how);
    const int described = result_file_describe_linear(&j->problem, j->has_initial, attributes + HOW);
    if (output_file_begin(s->comm, o->output, o->force, datasets, count, attributes, HOW + described, &output, f) ==
        LONGSPAN_OK) {
        output_file_write(&output, SET_OUT, q->batched, &j->rows, 1, j->base.out, f);
        if (j->final.sums) output_file_write_run(&output, SET_STATE, 0, linear_state_sums(j), j->final.sums, f);
        if (j->final.reference)
            output_file_write_run(&output, SET_REFERENCE, 0, linear_state_references(j), j->final.reference, f);
        output_file_commit(s->comm, &output, f);
    }
    free(relative);
    free(absolute);
    if (f->status != LONGSPAN_OK) session_fail(s, f);
    return f->status == LONGSPAN_OK;
}

/* Collective. Rows (batch item, token, head) of out with a NaN, and all of them. */
typedef struct {
    int64_t rows, rows_nan;
} linear_checks;

static linear_checks check_result(const session *s, const linear_job *j)
{
    const longspan_linear_problem *p = &j->problem;
    const kernel_type type = (kernel_type)p->out_type;
    const size_t row_bytes = (size_t)p->value_dim * number_size(type);
    const int64_t rows = p->batch * (j->rows.end - j->rows.begin) * j->state.heads;
    int64_t counts[2] = {rows, 0}, sums[2];
    for (int64_t i = 0; i < rows; i++) {
        float values[512];
        bool nan = false;
        number_widen(type, (const char *)j->base.out + (size_t)i * row_bytes, values, p->value_dim);
        for (int e = 0; e < p->value_dim; e++) nan |= isnan(values[e]) != 0;
        counts[1] += nan;
    }
    wait_allreduce(counts, sums, 2, MPI_INT64_T, MPI_SUM, s->comm);
    return (linear_checks){sums[0], sums[1]};
}

static json_t *report_json(const options *o, const run_report *r, const linear_job *j, const run_phase *read,
                           const run_phase *write, const linear_checks *checks)
{
    json_t *root = linear_report_json(r, j);
    json_t *rest =
        json_pack("{s:s, s:s, s:{s:o, s:o}, s:{s:I, s:I}}", "input", o->arguments[0], "output", o->output, "io", "read",
                  report_statistics_json(&read->seconds), "write", report_statistics_json(&write->seconds), "checks",
                  "rows", (json_int_t)checks->rows, "rows_nan", (json_int_t)checks->rows_nan);
    return run_report_json_join(root, rest);
}

/* The times at which a run's parts begin. */
typedef struct {
    double started, planning, reading, computing, computed, writing, finished;
} run_times;

static bool report_run(const session *s, const options *o, const linear_job *j, run_repeat *repeat, const run_times *at,
                       failure *f)
{
    run_report report = linear_report_gather(s->comm, j, repeat, 1);
    const linear_checks checks = check_result(s, j);
    const run_phase phases[] = {
        {"plan", report_reduce(s->comm, at->reading - at->planning)},
        {"read", report_reduce(s->comm, at->computing - at->reading)},
        {"compute", repeat->compute},
        {"wait", repeat->wait},
        {"finish", repeat->finish},
        {"write", report_reduce(s->comm, at->finished - at->writing)},
    };
    bool done = true;
    if (o->report) {
        json_t *root = s->rank == 0 ? report_json(o, &report, j, &phases[1], &phases[5], &checks) : NULL;
        done = run_report_write(s, o->report, o->force, root, f);
    }
    if (done && s->rank == 0 && !s->quiet)
        linear_report_print(stderr, &report, j, repeat, phases, sizeof phases / sizeof phases[0],
                            at->finished - at->started);
    if (done && checks.rows_nan)
        session_say(s, "  checks   %lld rows of %lld have a NaN\n", (long long)checks.rows_nan, (long long)checks.rows);
    run_report_free(&report);
    return done;
}

static void say_outputs(const session *s, const options *o)
{
    session_say(s, "  output   %s\n", o->output);
    if (o->report) session_say(s, "  report   %s\n", o->report);
    if (o->trace) session_say(s, "  trace    %s\n", o->trace);
}

void attend_linear(const session *s, const options *o, failure *f)
{
    input_file input = {0};
    linear_job j = {0};
    progress_bar bar = {0};
    longspan_linear_problem problem;
    bool has_initial = false;
    run_times at = {.started = MPI_Wtime()};
    const bool bar_wanted = progress_bar_wanted(o->progress, s->quiet);

    if (!attend_check_paths(s, o, f)) return;
    if (input_file_open(s->comm, o->arguments[0], o->linear, &input, f) != LONGSPAN_OK) {
        session_fail(s, f);
        return;
    }
    if (!find_state(s, o, &input, &has_initial, f)) goto done;
    linear_problem_from_input(&input, o->linear, &problem);
    linear_problem_choose(o, &problem);
    at.planning = MPI_Wtime();
    if (!linear_job_open(s, o, &problem, has_initial, o->state, bar_wanted ? progress_bar_update : NULL, &bar, &j, f))
        goto done;
    at.reading = MPI_Wtime();
    if (!read_inputs(s, &input, &j, f)) goto done;
    trace_file_phase(j.base.trace, "read", at.reading);
    at.computing = MPI_Wtime();

    if (bar_wanted) progress_bar_start(&bar, (double)problem.batch * (double)problem.tokens, "token/s");
    const bool executed = linear_job_execute(s, &j, f);
    if (bar_wanted) progress_bar_stop(&bar);
    if (!executed) goto done;
    at.computed = MPI_Wtime();
    run_repeat repeat = linear_repeat_gather(s->comm, &j, at.computed - at.computing);
    at.writing = MPI_Wtime();
    if (!write_result(s, o, &j, &input.shapes.q, f)) goto done;
    trace_file_phase(j.base.trace, "write", at.writing);
    at.finished = MPI_Wtime();
    if (o->trace && !trace_file_write(s, o->trace, o->force, j.base.trace, f)) goto done;
    if (report_run(s, o, &j, &repeat, &at, f)) say_outputs(s, o);
done:
    linear_job_close(&j);
    input_file_close(&input);
}
