/* longspan attend: attention over a file's q, k and v. */
#include "runtime/cli/attend.h"
#include "runtime/cli/attend_selection.h"
#include "runtime/cli/command.h"
#include "runtime/cli/entmax_option.h"
#include "runtime/cli/file_rows.h"
#include "runtime/cli/progress_bar.h"
#include "runtime/cli/result_file.h"
#include "runtime/cli/run_report.h"
#include "runtime/cli/trace_file.h"
#include "runtime/patience.h"
#include "runtime/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const options_spec spec = {
    .usage = "attend IN.h5 -o OUT.h5 [OPTIONS]",
    .summary =
        "Exact softmax attention over /q, /k and /v of IN; writes /out and /lse to OUT.\n"
        "What IN holds besides always applies, together with --mask: packed /documents, /key_lengths of batch\n"
        "items, /alibi_slopes and /sinks of heads, and /relative_keys of a window, with /relative_bias_u and\n"
        "/relative_bias_w; /selected_blocks with --pattern selected:SIZE. With moba and nsa the blocks that q and k\n"
        "choose are written to OUT as /selected_blocks; nsa needs /gates, and has no /lse.\n"
        "With --attention sparsemax or entmax: weights that are 0 but for few keys; writes /threshold in place of "
        "/lse.\n"
        "With a linear --attention: the recurrence of that name, over what IN holds for it of /log_decay, /beta,\n"
        "/bonus and /features, from /state if IN has one; writes /out, and with --state the /state to go on from.",
    .example = "mpirun -np 4 longspan attend in.h5 -o out.h5 --mask causal\n"
               "  mpirun -np 4 longspan attend in.h5 -o out.h5 --attention gated-delta --state",
    .least_arguments = 1,
    .most_arguments = 1,
    .takes = TAKES_OUTPUT | TAKES_REPORT | TAKES_OUT_TYPE | TAKES_MASK | TAKES_PATTERN | TAKES_STRATEGY | TAKES_COMPUTE | TAKES_SCORES |
             TAKES_PROGRESS | TAKES_ARITHMETIC | TAKES_SHARE | TAKES_TRACE | TAKES_STALL_LIMIT | TAKES_ATTENTION |
             TAKES_STATE,
};

enum { DATASETS = 3 }; /* /out; /lse, of entmax /threshold; and, where attend has chosen them, /selected_blocks */

/* What the result says of itself, counted over all ranks. */
typedef struct {
    int64_t rows, rows_without_keys, rows_nan; /* rows: (batch item, token, head) */
    double pairs, pairs_expected;              /* (query, key) pairs folded; of one head, mean over batch items */
} attend_checks;

/* Collective. The pairs that the executor counted against the closed form of the mask. */
static attend_checks check_result(const session *s, const job *j, double flops, failure *f)
{
    const longspan_problem *p = &j->problem;
    const int64_t local = p->batch * longspan_plan_tokens(j->plan, LONGSPAN_QUERIES) * p->heads;
    int64_t counts[3] = {local, 0, 0}, sums[3];
    for (int64_t i = 0; i < local; i++) {
        counts[1] += j->lse[i] == -INFINITY;
        counts[2] += isnan(j->lse[i]) != 0;
    }
    wait_allreduce(counts, sums, 3, MPI_INT64_T, MPI_SUM, s->comm);
    const attend_checks checks = {
        .rows = sums[0],
        .rows_without_keys = sums[1],
        .rows_nan = sums[2],
        .pairs = flops / plan_flops_per_pair(p),
        .pairs_expected = job_pairs(j),
    };
    if (fabs(checks.pairs - checks.pairs_expected) > 1e-12 * checks.pairs_expected)
        failure_set(f, LONGSPAN_ERROR_INTERNAL, "%.0f (query, key) pairs were folded where the mask has %.0f",
                    checks.pairs, checks.pairs_expected);
    return checks;
}

/* `chosen`: blocks were chosen by q and k, which are there. */
static bool read_inputs(const session *s, const input_file *input, bool chosen, job *j, failure *f)
{
    return (chosen || (file_rows_read(s, j, LONGSPAN_QUERIES, input, "/q", &input->shapes.q, j->q, f) &&
                       file_rows_read(s, j, LONGSPAN_KEYS, input, "/k", &input->shapes.k, j->k, f))) &&
           file_rows_read(s, j, LONGSPAN_KEYS, input, "/v", &input->shapes.v, j->v, f);
}

/* Out and lse in the shape of /q: with the batch axis where it has one. */
static void describe_datasets(const tensor_shape *q, const longspan_problem *p, output_dataset datasets[DATASETS])
{
    const int first = q->batched ? 1 : 0;
    datasets[0] = (output_dataset){.name = "/out", .type = (output_type)p->out_type, .rank = first + 3};
    datasets[1] =
        (output_dataset){.name = p->alpha != 0 ? "/threshold" : "/lse", .type = OUTPUT_FLOAT32, .rank = first + 2};
    for (int i = 0; i < 2; i++) {
        datasets[i].extent[0] = q->batch;
        datasets[i].extent[first] = q->tokens;
        datasets[i].extent[first + 1] = q->heads;
    }
    datasets[0].extent[first + 2] = p->value_dim;
}

static bool write_result(const session *s, const options *o, const job *j, const tensor_shape *q, failure *f)
{
    char program[64], attention[ENTMAX_NAME_SIZE], mask_name[MASK_NAME_SIZE], *relative = NULL, *absolute = NULL;
    output_dataset datasets[DATASETS];
    output_file output;
    const int dataset_count = j->selection_is_chosen ? DATASETS : DATASETS - 1;
    describe_datasets(q, &j->problem, datasets);
    if (j->selection_is_chosen) datasets[2] = attend_selection_dataset(j->selection, q->tokens);
    snprintf(program, sizeof program, "longspan %s", longspan_version());
    entmax_option_name(j->problem.alpha, attention);
    if (s->rank == 0) result_file_name_input(o->output, o->arguments[0], &relative, &absolute, f);
    if (!session_agree(s, f)) return false;
    const output_attribute how[] = {
        {.name = "format_version", .kind = ATTRIBUTE_INTEGER, .integer = 1},
        {.name = "program", .kind = ATTRIBUTE_TEXT, .text = program},
        {.name = "input", .kind = ATTRIBUTE_TEXT, .text = relative},
        {.name = "input_absolute", .kind = ATTRIBUTE_TEXT, .text = absolute},
        {.name = "attention", .kind = ATTRIBUTE_TEXT, .text = attention},
        {.name = "strategy", .kind = ATTRIBUTE_TEXT, .text = plan_strategy_name(j->plan)},
        {.name = "layout", .kind = ATTRIBUTE_TEXT, .text = plan_layout_name(j->plan)},
        {.name = "compute", .kind = ATTRIBUTE_TEXT, .text = plan_compute_name(j->plan)},
        {.name = "isa", .kind = ATTRIBUTE_TEXT, .text = j->kernel->name},
        {.name = "ranks", .kind = ATTRIBUTE_INTEGER, .integer = s->ranks},
        {.name = "threads", .kind = ATTRIBUTE_INTEGER, .integer = j->threads},
    };
    enum { HOW = sizeof how / sizeof how[0] };
    output_attribute attributes[HOW + RESULT_PROBLEM_ATTRIBUTES];
    memcpy(attributes, how, sizeof how);
    const int described = result_file_describe(&j->problem, mask_name, attributes + HOW);
    if (output_file_begin(s->comm, o->output, o->force, datasets, dataset_count, attributes, HOW + described, &output, f) ==
        LONGSPAN_OK) {
        const size_t heads = (size_t)q->heads, value_dim = (size_t)j->problem.value_dim;
        const size_t size = number_size((kernel_type)j->problem.out_type);
        file_rows_write(s, j, &output, 0, q->batched, heads * value_dim * size, j->out, f);
        file_rows_write(s, j, &output, 1, q->batched, heads * sizeof *j->lse, j->lse, f);
        if (j->selection_is_chosen) {
            int lists;
            int64_t most;
            const int32_t *blocks = longspan_selection_blocks(j->selection, &lists, &most);
            file_rows_write(s, j, &output, 2, false, (size_t)lists * (size_t)most * sizeof *blocks, blocks, f);
        }
        output_file_commit(s->comm, &output, f);
    }
    free(relative);
    free(absolute);
    if (f->status != LONGSPAN_OK) session_fail(s, f);
    return f->status == LONGSPAN_OK;
}

static json_t *report_json(const options *o, const run_report *r, const report_statistics *read,
                           const report_statistics *write, const attend_checks *checks)
{
    json_t *root = run_report_json(r);
    json_t *rest = json_pack(
        "{s:s, s:s, s:{s:o, s:o}, s:{s:I, s:I, s:I, s:f, s:f}}", "input", o->arguments[0], "output", o->output, "io",
        "read", report_statistics_json(read), "write", report_statistics_json(write), "checks", "rows",
        (json_int_t)checks->rows, "rows_without_keys", (json_int_t)checks->rows_without_keys, "rows_nan",
        (json_int_t)checks->rows_nan, "pairs", checks->pairs, "pairs_expected", checks->pairs_expected);
    return run_report_json_join(root, rest);
}

static void say_checks(const session *s, const job *j, const attend_checks *c)
{
    const char *of_none = j->problem.alpha != 0 ? "threshold" : "lse";
    if (c->rows_nan)
        session_say(s, "  checks   %lld rows of %lld are NaN\n", (long long)c->rows_nan, (long long)c->rows);
    if (c->rows_without_keys)
        session_say(s, "  checks   %lld rows of %lld see no key: out 0, %s -inf\n", (long long)c->rows_without_keys,
                    (long long)c->rows, of_none);
}

bool attend_check_paths(const session *s, const options *o, failure *f)
{
    const char *outputs[] = {o->output, o->report, o->trace};
    static const char *const names[] = {"-o", "--report", "--trace"};
    for (int i = 0; i < 3; i++) {
        if (!outputs[i]) continue;
        if (output_file_check_distinct(s->comm, outputs[i], o->arguments[0], f) != LONGSPAN_OK ||
            output_file_check(s->comm, outputs[i], o->force, f) != LONGSPAN_OK) {
            session_fail(s, f);
            return false;
        }
        for (int other = 0; other < i; other++)
            if (outputs[other] && strcmp(outputs[i], outputs[other]) == 0)
                failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s: %s and %s name the same file", outputs[i], names[other],
                            names[i]);
    }
    return session_agree(s, f);
}

static void attend(session *s, const options *o, failure *f)
{
    input_file input = {0};
    job j = {0};
    progress_bar bar = {0};
    run_report report = {0};
    const bool bar_wanted = progress_bar_wanted(o->progress, s->quiet);
    const double started = MPI_Wtime();

    if (!attend_check_paths(s, o, f)) return;
    if (input_file_open(s->comm, o->arguments[0], NULL, &input, f) != LONGSPAN_OK) {
        session_fail(s, f);
        return;
    }
    longspan_problem problem;
    job_problem_from_input(&input, &problem);
    job_problem_choose(o, &problem);
    if (job_problem_set_blocks(o->arguments[0], &input, &problem, f) != LONGSPAN_OK) {
        session_fail(s, f);
        goto done;
    }
    const bool selects = attend_selects(o->arguments[0], &input, &problem, f);
    if (f->status != LONGSPAN_OK) {
        session_fail(s, f);
        goto done;
    }
    const double selecting = MPI_Wtime();
    if (!job_open_context(s, o, bar_wanted ? progress_bar_update : NULL, &bar, &j, f)) goto done;
    if (selects && !attend_select(s, &input, &problem, &j, f)) goto done;
    const double planning = MPI_Wtime();
    if (selects) trace_file_phase(j.trace, "select", selecting);
    if (!job_plan(s, &problem, &j, f)) goto done;
    if (selects) j.selection_pairs = attend_selection_pairs(s, &j);
    const double reading = MPI_Wtime();
    if (!read_inputs(s, &input, j.selection_is_chosen, &j, f)) goto done;
    trace_file_phase(j.trace, "read", reading);
    const double computing = MPI_Wtime();

    if (bar_wanted) progress_bar_start(&bar, job_pairs(&j) * plan_flops_per_pair(&j.problem), "flop/s");
    const longspan_status executed = longspan_plan_execute(j.plan, j.q, j.k, j.v, j.out, j.lse);
    if (bar_wanted) progress_bar_stop(&bar);
    if (executed != LONGSPAN_OK) {
        failure_set(f, executed, "%s", longspan_context_error(j.context));
        session_fail(s, f);
        goto done;
    }
    const double computed = MPI_Wtime();
    longspan_timing timing;
    longspan_plan_timing(j.plan, &timing);
    run_repeat repeat = run_repeat_gather(s->comm, &timing, computed - computing);
    const attend_checks checks = check_result(s, &j, repeat.flops, f);
    if (!session_agree(s, f)) goto done;
    const double writing = MPI_Wtime();
    if (!write_result(s, o, &j, &input.shapes.q, f)) goto done;
    trace_file_phase(j.trace, "write", writing);
    const double finished = MPI_Wtime();
    if (o->trace && !trace_file_write(s, o->trace, o->force, j.trace, f)) goto done;

    report = run_report_gather(s->comm, &j, &repeat, 1);
    const run_phase phases[] = {
        {"plan", report_reduce(s->comm, reading - planning)},
        {"read", report_reduce(s->comm, computing - reading)},
        {"compute", repeat.compute},
        {"wait", repeat.wait},
        {"finish", repeat.finish},
        {"write", report_reduce(s->comm, finished - writing)},
        {"select", report_reduce(s->comm, planning - selecting)},
    };
    const int phase_count = (int)(sizeof phases / sizeof phases[0]) - !selects;
    if (o->report) {
        json_t *root = s->rank == 0 ? report_json(o, &report, &phases[1].seconds, &phases[5].seconds, &checks) : NULL;
        if (root && selects) json_object_set_new(root, "select", report_statistics_json(&phases[6].seconds));
        if (!run_report_write(s, o->report, o->force, root, f)) goto done;
    }
    if (s->rank == 0 && !s->quiet)
        run_report_print(stderr, &report, &repeat, phases, phase_count, finished - started);
    say_checks(s, &j, &checks);
    session_say(s, "  output   %s\n", o->output);
    if (o->report) session_say(s, "  report   %s\n", o->report);
    if (o->trace) session_say(s, "  trace    %s\n", o->trace);
done:
    run_report_free(&report);
    job_close(&j);
    input_file_close(&input);
}

static exit_status run(session *s, options *o)
{
    failure f = {0};
    if (o->linear) attend_linear(s, o, &f);
    else if (o->pattern && strncmp(o->pattern, "nsa:", strlen("nsa:")) == 0) attend_nsa(s, o, &f);
    else attend(s, o, &f);
    return session_exit_status(&f);
}

const command command_attend = {
    .name = "attend",
    .arguments = "IN.h5 -o OUT.h5",
    .summary = "attention over the q, k, v of a file",
    .spec = &spec,
    .run = run,
};
