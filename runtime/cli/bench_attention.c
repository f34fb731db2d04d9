/* longspan bench attention: whole executions of a plan over all ranks, in memory, without files. */
#include "runtime/cli/attend_selection.h"
#include "runtime/cli/bench.h"
#include "runtime/cli/files.h"
#include "runtime/cli/head_values.h"
#include "runtime/cli/random.h"
#include "runtime/cli/relative_values.h"
#include "runtime/cli/run_report.h"
#include "runtime/patience.h"
#include "runtime/selection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* This rank's rows of a tensor [B, tokens, heads, dim] of a problem. */
static void fill(const options *o, random_tensor tensor, const longspan_problem *p, int threads,
                 const longspan_range *ranges, int64_t range_count, int64_t tokens, int heads, int dim, void *target)
{
    const int64_t width = (int64_t)heads * dim;
    char *to = target;
    for (int64_t b = 0; b < p->batch; b++) {
        for (int64_t r = 0; r < range_count; r++) {
            const int64_t rows = ranges[r].end - ranges[r].begin;
            if (rows <= 0) continue;
            random_normal(o->seed, tensor, (b * tokens + ranges[r].begin) * width, rows * width, p->type, to, threads);
            to += (size_t)(rows * width) * number_size((kernel_type)p->type);
        }
    }
}

static bool chooses_blocks(const longspan_problem *problem)
{
    pattern_choice choice;
    return selection_is_wanted(problem, &choice) && strcmp(choice.kind->name, "moba") == 0;
}

/* Collective, with the job's context open. The blocks that q and k choose, once and before the plan: not timed. */
static bool choose_blocks(const session *s, const options *o, longspan_problem *problem, job *j, failure *f)
{
    const longspan_range queries = longspan_selection_tokens(j->context, problem, LONGSPAN_QUERIES);
    const longspan_range keys = longspan_selection_tokens(j->context, problem, LONGSPAN_KEYS);
    const int kv_heads = problem->kv_heads > 0 ? problem->kv_heads : problem->heads;
    const size_t size = number_size((kernel_type)problem->type);
    if (problem->batch == 1) { /* of more, the library refuses */
        j->q = job_allocate("q", queries.end - queries.begin, problem->heads, problem->dim, size, f);
        j->k = job_allocate("k", keys.end - keys.begin, kv_heads, problem->dim, size, f);
        if (!session_agree(s, f)) return false;
        fill(o, RANDOM_QUERY, problem, j->threads, &queries, 1, problem->queries, problem->heads, problem->dim, j->q);
        fill(o, RANDOM_KEY, problem, j->threads, &keys, 1, problem->keys, kv_heads, problem->dim, j->k);
    }
    if (!job_check(s, j, longspan_selection_choose(j->context, problem, j->q, j->k, &j->selection), f)) return false;
    problem->selection = j->selection;
    j->selection_is_chosen = true;
    return true;
}

/* Collective. One execution from a common start. */
static bool execute(const session *s, const job *j, run_repeat *repeat_p, failure *f)
{
    wait_barrier(s->comm);
    const double started = MPI_Wtime();
    const longspan_status status = longspan_plan_execute(j->plan, j->q, j->k, j->v, j->out, j->lse);
    const double wall = MPI_Wtime() - started;
    if (status != LONGSPAN_OK) {
        failure_set(f, status, "%s", longspan_context_error(j->context));
        session_fail(s, f);
        return false;
    }
    longspan_timing timing;
    longspan_plan_timing(j->plan, &timing);
    if (repeat_p) *repeat_p = run_repeat_gather(s->comm, &timing, wall);
    return true;
}

static void print_result(const run_report *r)
{
    const run_repeat *t = run_report_typical(r);
    const run_phase phases[] = {{"compute", t->compute}, {"wait", t->wait}, {"finish", t->finish}};
    run_report_print(stdout, r, t, phases, sizeof phases / sizeof phases[0], t->wall);
    run_report_print_median(stdout, r);
}

static void measure(session *s, const options *o, failure *f)
{
    job j = {0};
    run_repeat *repeats = NULL;
    float *slopes = NULL, *sinks = NULL;
    relative_values relative = {0};
    run_report report = {0};
    longspan_problem problem;
    if (o->report && output_file_check(s->comm, o->report, o->force, f) != LONGSPAN_OK) {
        session_fail(s, f);
        return;
    }
    job_problem_from_options(o, &problem);
    job_problem_choose(o, &problem);
    repeats = malloc((size_t)o->repeat * sizeof *repeats);
    slopes = malloc((size_t)problem.heads * sizeof *slopes);
    sinks = malloc((size_t)problem.heads * sizeof *sinks);
    if (!repeats || !slopes || !sinks)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for %d repetitions", o->repeat);
    relative = relative_values_make(o, problem.heads, problem.dim, f);
    if (!session_agree(s, f)) goto done;
    relative_values_apply(&relative, &problem);
    head_values_alibi(problem.heads, slopes);
    head_values_sinks(o->seed, problem.heads, sinks);
    if (o->alibi) problem.alibi_slopes = slopes;
    if (o->sinks) problem.sinks = sinks;
    if (!job_open_context(s, o, NULL, NULL, &j, f)) goto done;
    if (chooses_blocks(&problem) && !choose_blocks(s, o, &problem, &j, f)) goto done;
    if (!job_plan(s, &problem, &j, f)) goto done;
    if (j.selection) j.selection_pairs = attend_selection_pairs(s, &j);
    const longspan_problem *p = &j.problem;
    if (!j.selection) { /* else they are there, since it chose by them */
        fill(o, RANDOM_QUERY, p, j.threads, j.query_ranges, j.query_range_count, p->queries, p->heads, p->dim, j.q);
        fill(o, RANDOM_KEY, p, j.threads, j.key_ranges, j.key_range_count, p->keys, p->kv_heads, p->dim, j.k);
    }
    fill(o, RANDOM_VALUE, p, j.threads, j.key_ranges, j.key_range_count, p->keys, p->kv_heads, p->value_dim, j.v);
    for (int i = 0; i < o->warmup; i++)
        if (!execute(s, &j, NULL, f)) goto done;
    for (int i = 0; i < o->repeat; i++)
        if (!execute(s, &j, &repeats[i], f)) goto done;
    report = run_report_gather(s->comm, &j, repeats, o->repeat);
    if (o->report && !run_report_write(s, o->report, o->force, s->rank == 0 ? run_report_json(&report) : NULL, f))
        goto done;
    if (s->rank == 0) print_result(&report);
    if (o->report) session_say(s, "  report   %s\n", o->report);
done:
    run_report_free(&report);
    free(repeats);
    free(slopes);
    free(sinks);
    relative_values_free(&relative);
    job_close(&j);
}

exit_status bench_attention(session *s, const options *o)
{
    failure f = {0};
    if (o->tokens == 0) return options_refuse(s, "--tokens is missing");
    if (o->linear) return bench_linear(s, o);
    measure(s, o, &f);
    return session_exit_status(&f);
}
