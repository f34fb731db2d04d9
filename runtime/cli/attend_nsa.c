/* longspan attend with --pattern nsa: native sparse attention, whose gates come with the file. */
#include "runtime/cli/attend.h"
#include "runtime/cli/attend_selection.h"
#include "runtime/cli/progress_bar.h"
#include "runtime/cli/result_file.h"
#include "runtime/cli/run_report.h"
#include "runtime/cli/trace_file.h"
#include "runtime/nsa.h"
#include "runtime/patience.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SET_OUT, SET_BLOCKS, SETS, GATES = 3 };

typedef struct {
    job base; /* context, q, k, v and out; no plan */
    longspan_nsa *nsa;
    longspan_range queries, keys;
    float *gates;
    progress_bar bar;
    double last; /* fraction of the running plan */
    int plans;   /* that are done, of two */
} nsa_job;

/* Two plans report one after the other. */
static void update_bar(void *data, double fraction)
{
    nsa_job *j = data;
    if (fraction < j->last && j->plans == 0) j->plans = 1;
    j->last = fraction;
    progress_bar_update(&j->bar, (j->plans + fraction) / 2);
}

static void check_gates(const char *path, const tensor_shape *q, const tensor_shape *gates, failure *f)
{
    if (gates->batch != 1 || gates->tokens != q->tokens || gates->heads != q->heads || gates->dim != GATES ||
        gates->type != IO_FLOAT32)
        failure_set(f, LONGSPAN_ERROR_IO, "%s: /gates needs %lld x %d x 3 float32", path, (long long)q->tokens,
                    q->heads);
}

static bool read_all(const session *s, const char *path, const input_file *input, const longspan_problem *p, nsa_job *j,
                     failure *f)
{
    const attention_shapes *shapes = &input->shapes;
    const size_t size = io_type_size(shapes->q.type), out_size = number_size((kernel_type)p->out_type);
    const int64_t queries = j->queries.end - j->queries.begin, keys = j->keys.end - j->keys.begin;
    tensor_shape gates = {0};
    io_error error;
    if (tensor_file_shape(input->file, "/gates", &gates, &error) != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    else check_gates(path, &shapes->q, &gates, f);
    j->base.q = job_allocate("q", queries, shapes->q.heads, shapes->q.dim, size, f);
    j->base.k = job_allocate("k", keys, shapes->k.heads, shapes->k.dim, size, f);
    j->base.v = job_allocate("v", keys, shapes->v.heads, shapes->v.dim, size, f);
    j->base.out = job_allocate("out", queries, shapes->q.heads, shapes->v.dim, out_size, f);
    j->gates = job_allocate("gates", queries, shapes->q.heads, GATES, sizeof *j->gates, f);
    if (!session_agree(s, f)) return false;
    const int64_t some_queries = queries > 0, some_keys = keys > 0;
    if (input_file_read(s->comm, input, "/q", &shapes->q, &j->queries, some_queries, j->base.q, f) == LONGSPAN_OK &&
        input_file_read(s->comm, input, "/k", &shapes->k, &j->keys, some_keys, j->base.k, f) == LONGSPAN_OK &&
        input_file_read(s->comm, input, "/v", &shapes->v, &j->keys, some_keys, j->base.v, f) == LONGSPAN_OK &&
        input_file_read(s->comm, input, "/gates", &gates, &j->queries, some_queries, j->gates, f) == LONGSPAN_OK)
        return true;
    session_fail(s, f);
    return false;
}

static bool write_result(const session *s, const options *o, const nsa_job *j, const longspan_problem *p,
                         const tensor_shape *q, failure *f)
{
    char program[64], mask_name[MASK_NAME_SIZE], *relative = NULL, *absolute = NULL;
    const longspan_selection *selection = longspan_nsa_selection(j->nsa);
    output_file output;
    output_dataset datasets[SETS] = {
        [SET_OUT] = {.name = "/out", .type = (output_type)p->out_type, .rank = q->batched ? 4 : 3},
        [SET_BLOCKS] = attend_selection_dataset(selection, q->tokens),
    };
    const int64_t extents[] = {1, q->tokens, q->heads, p->value_dim};
    memcpy(datasets[SET_OUT].extent, extents + !q->batched, (size_t)datasets[SET_OUT].rank * sizeof *extents);
    snprintf(program, sizeof program, "longspan %s", longspan_version());
    if (s->rank == 0) result_file_name_input(o->output, o->arguments[0], &relative, &absolute, f);
    if (!session_agree(s, f)) return false;
    const output_attribute how[] = {
        {.name = "format_version", .kind = ATTRIBUTE_INTEGER, .integer = 1},
        {.name = "program", .kind = ATTRIBUTE_TEXT, .text = program},
        {.name = "input", .kind = ATTRIBUTE_TEXT, .text = relative},
        {.name = "input_absolute", .kind = ATTRIBUTE_TEXT, .text = absolute},
        {.name = "attention", .kind = ATTRIBUTE_TEXT, .text = "softmax"},
        {.name = "strategy", .kind = ATTRIBUTE_TEXT, .text = "fetch"},
        {.name = "layout", .kind = ATTRIBUTE_TEXT, .text = "contiguous"},
        {.name = "compute", .kind = ATTRIBUTE_TEXT, .text = nsa_compute_name(j->nsa)},
        {.name = "isa", .kind = ATTRIBUTE_TEXT, .text = j->base.kernel->name},
        {.name = "ranks", .kind = ATTRIBUTE_INTEGER, .integer = s->ranks},
        {.name = "threads", .kind = ATTRIBUTE_INTEGER, .integer = j->base.threads},
    };
    enum { HOW = sizeof how / sizeof how[0] };
    output_attribute attributes[HOW + RESULT_PROBLEM_ATTRIBUTES];
    memcpy(attributes, how, sizeof how);
    const int described = result_file_describe(p, mask_name, attributes + HOW);
    if (output_file_begin(s->comm, o->output, o->force, datasets, SETS, attributes, HOW + described, &output, f) ==
        LONGSPAN_OK) {
        int lists;
        int64_t most;
        const int32_t *blocks = longspan_selection_blocks(selection, &lists, &most);
        const int64_t ranges = j->queries.begin < j->queries.end;
        output_file_write(&output, SET_OUT, q->batched, &j->queries, ranges, j->base.out, f);
        output_file_write(&output, SET_BLOCKS, false, &j->queries, ranges, blocks, f);
        output_file_commit(s->comm, &output, f);
    }
    free(relative);
    free(absolute);
    if (f->status != LONGSPAN_OK) session_fail(s, f);
    return f->status == LONGSPAN_OK;
}

static json_t *report_json(const session *s, const options *o, const run_report *r, const nsa_job *j,
                           const longspan_problem *p, const run_phase *phases)
{
    json_t *plan = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:I}", "strategy", "fetch", "layout", "contiguous",
                             "compute", nsa_compute_name(j->nsa), "isa", j->base.kernel->name, "ranks", s->ranks,
                             "threads", r->threads, "steps", (json_int_t)r->steps);
    json_t *root = run_report_json_of(r, run_problem_json(p), plan);
    json_t *rest =
        json_pack("{s:s, s:s, s:o, s:{s:o, s:o}}", "input", o->arguments[0], "output", o->output, "select",
                  report_statistics_json(&phases[1].seconds), "io", "read", report_statistics_json(&phases[0].seconds),
                  "write", report_statistics_json(&phases[5].seconds));
    return run_report_json_join(root, rest);
}

/* The times at which a run's parts begin. */
typedef struct {
    double started, reading, selecting, computing, computed, writing, finished;
} run_times;

static bool report_run(const session *s, const options *o, nsa_job *j, const longspan_problem *p, run_repeat *repeat,
                       const run_times *at, failure *f)
{
    longspan_timing timing;
    longspan_nsa_timing(j->nsa, &timing);
    run_report report = run_report_measure(s->comm, &j->base, timing.steps, repeat, 1);
    const run_phase phases[] = {
        {"read", report_reduce(s->comm, at->selecting - at->reading)},
        {"select", report_reduce(s->comm, at->computing - at->selecting)},
        {"compute", repeat->compute},
        {"wait", repeat->wait},
        {"finish", repeat->finish},
        {"write", report_reduce(s->comm, at->finished - at->writing)},
    };
    bool done = true;
    if (o->report) {
        json_t *root = s->rank == 0 ? report_json(s, o, &report, j, p, phases) : NULL;
        done = run_report_write(s, o->report, o->force, root, f);
    }
    if (done && s->rank == 0 && !s->quiet) {
        fprintf(stderr, "causal attention: %lld tokens, %d heads (%d of keys and values) of %d, %s\n  pattern %s\n",
                (long long)p->queries, p->heads, p->kv_heads ? p->kv_heads : p->heads, p->dim, run_type_name(p->type),
                p->pattern);
        fprintf(stderr, "  three branches over contiguous shards, %d rank%s x %d thread%s, %s kernel, %s arithmetic\n",
                s->ranks, s->ranks == 1 ? "" : "s", report.threads, report.threads == 1 ? "" : "s",
                j->base.kernel->name, nsa_compute_name(j->nsa));
        run_report_print_numbers(stderr, &report, repeat, phases, sizeof phases / sizeof phases[0],
                                 at->finished - at->started);
    }
    run_report_free(&report);
    return done;
}

/* Reads, selects, computes and writes, with the context open. */
static bool run_job(const session *s, const options *o, const input_file *input, const longspan_problem *p, nsa_job *j,
                    bool bar_wanted, run_times *at, failure *f)
{
    at->reading = MPI_Wtime();
    j->queries = longspan_selection_tokens(j->base.context, p, LONGSPAN_QUERIES);
    j->keys = longspan_selection_tokens(j->base.context, p, LONGSPAN_KEYS);
    if (!read_all(s, o->arguments[0], input, p, j, f)) return false;
    trace_file_phase(j->base.trace, "read", at->reading);
    at->selecting = MPI_Wtime();
    if (!job_check(s, &j->base, longspan_nsa_create(j->base.context, p, j->base.q, j->base.k, &j->nsa), f))
        return false;
    job_planned(s, &j->base);
    trace_file_phase(j->base.trace, "select", at->selecting);
    at->computing = MPI_Wtime();
    if (bar_wanted) progress_bar_start(&j->bar, nsa_flops(j->nsa), "flop/s");
    const longspan_status status = longspan_nsa_execute(j->nsa, j->base.q, j->base.k, j->base.v, j->gates, j->base.out);
    if (bar_wanted) progress_bar_stop(&j->bar);
    if (!job_check(s, &j->base, status, f)) return false;
    at->computed = at->writing = MPI_Wtime();
    if (!write_result(s, o, j, p, &input->shapes.q, f)) return false;
    trace_file_phase(j->base.trace, "write", at->writing);
    at->finished = MPI_Wtime();
    return !o->trace || trace_file_write(s, o->trace, o->force, j->base.trace, f);
}

void attend_nsa(const session *s, const options *o, failure *f)
{
    input_file input = {0};
    nsa_job j = {0};
    run_times at = {.started = MPI_Wtime()};
    const bool bar_wanted = progress_bar_wanted(o->progress, s->quiet);
    longspan_problem p;
    if (!attend_check_paths(s, o, f)) return;
    if (input_file_open(s->comm, o->arguments[0], NULL, &input, f) != LONGSPAN_OK) {
        session_fail(s, f);
        return;
    }
    job_problem_from_input(&input, &p);
    job_problem_choose(o, &p);
    attend_selects(o->arguments[0], &input, &p, f);
    if (f->status == LONGSPAN_OK) job_problem_set_blocks(o->arguments[0], &input, &p, f);
    if (f->status != LONGSPAN_OK) {
        session_fail(s, f);
        goto done;
    }
    if (p.scale == 0) p.scale = 1 / sqrt(p.dim);
    if (!job_open_context(s, o, bar_wanted ? update_bar : NULL, &j, &j.base, f) ||
        !run_job(s, o, &input, &p, &j, bar_wanted, &at, f))
        goto done;
    longspan_timing timing;
    longspan_nsa_timing(j.nsa, &timing);
    run_repeat repeat = run_repeat_gather(s->comm, &timing, at.computed - at.computing);
    if (!report_run(s, o, &j, &p, &repeat, &at, f)) goto done;
    session_say(s, "  output   %s\n", o->output);
    if (o->report) session_say(s, "  report   %s\n", o->report);
    if (o->trace) session_say(s, "  trace    %s\n", o->trace);
done:
    longspan_nsa_destroy(&j.nsa);
    free(j.gates);
    job_close(&j.base);
    input_file_close(&input);
}
