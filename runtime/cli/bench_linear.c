/* longspan bench attention with a linear --attention: whole executions of a plan over all ranks, in memory. */
#include "runtime/cli/bench.h"
#include "runtime/cli/files.h"
#include "runtime/cli/linear_inputs.h"
#include "runtime/cli/linear_report.h"
#include "runtime/cli/linear_values.h"
#include "runtime/patience.h"

#include <stdlib.h>

/* This rank's rows of a tensor [B, N, heads, dim]. */
static void fill(const options *o, const linear_job *j, random_tensor tensor, longspan_type type, int heads, int dim,
                 void *target)
{
    const longspan_linear_problem *p = &j->problem;
    const int64_t rows = j->rows.end - j->rows.begin;
    const size_t bytes = (size_t)(rows * heads * dim) * number_size((kernel_type)type);
    for (int64_t b = 0; b < p->batch && target && rows > 0; b++)
        linear_values(j->variant, o->seed, tensor, dim, (b * p->tokens + j->rows.begin) * heads, rows * heads, type,
                      (char *)target + (size_t)b * bytes, j->base.threads);
}

static void fill_all(const options *o, const linear_job *j)
{
    const longspan_linear_problem *p = &j->problem;
    const int heads = j->state.heads;
    fill(o, j, RANDOM_QUERY, p->type, p->heads, p->dim, j->base.q);
    fill(o, j, RANDOM_KEY, p->type, p->k_heads, p->dim, j->base.k);
    fill(o, j, RANDOM_VALUE, p->type, p->v_heads, p->value_dim, j->base.v);
    fill(o, j, RANDOM_LOG_DECAY, LONGSPAN_FLOAT32, heads, j->variant->decay == LINEAR_DECAY_FEATURE ? p->dim : 1,
         j->log_decay);
    fill(o, j, RANDOM_BETA, LONGSPAN_FLOAT32, heads, 1, j->beta);
}

/* Collective. One execution from a common start. */
static bool execute(const session *s, linear_job *j, run_repeat *repeat_p, failure *f)
{
    wait_barrier(s->comm);
    const double started = MPI_Wtime();
    if (!linear_job_execute(s, j, f)) return false;
    const double wall = MPI_Wtime() - started;
    if (repeat_p) *repeat_p = linear_repeat_gather(s->comm, j, wall);
    return true;
}

static void print_result(const run_report *r, const linear_job *j)
{
    const run_repeat *t = run_report_typical(r);
    const run_phase phases[] = {{"compute", t->compute}, {"wait", t->wait}, {"finish", t->finish}};
    linear_report_print(stdout, r, j, t, phases, sizeof phases / sizeof phases[0], t->wall);
    run_report_print_median(stdout, r);
}

static void measure(session *s, const options *o, failure *f)
{
    linear_job j = {0};
    linear_inputs made = {0};
    run_report report = {0};
    longspan_linear_problem problem;
    run_repeat *repeats = malloc((size_t)o->repeat * sizeof *repeats);
    if (!repeats) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for %d repetitions", o->repeat);
    linear_problem_from_options(o, &problem);
    linear_problem_choose(o, &problem);
    linear_inputs_make(o->seed, &problem, &made, f);
    if (!session_agree(s, f) || !linear_job_open(s, o, &problem, false, false, NULL, NULL, &j, f)) goto done;
    fill_all(o, &j);
    for (int i = 0; i < o->warmup; i++)
        if (!execute(s, &j, NULL, f)) goto done;
    for (int i = 0; i < o->repeat; i++)
        if (!execute(s, &j, &repeats[i], f)) goto done;
    report = linear_report_gather(s->comm, &j, repeats, o->repeat);
    if (o->report &&
        !run_report_write(s, o->report, o->force, s->rank == 0 ? linear_report_json(&report, &j) : NULL, f))
        goto done;
    if (s->rank == 0) print_result(&report, &j);
    if (o->report) session_say(s, "  report   %s\n", o->report);
done:
    run_report_free(&report);
    linear_inputs_free(&made);
    free(repeats);
    linear_job_close(&j);
}

exit_status bench_linear(session *s, const options *o)
{
    failure f = {0};
    if (o->report && output_file_check(s->comm, o->report, o->force, &f) != LONGSPAN_OK) return session_fail(s, &f);
    measure(s, o, &f);
    return session_exit_status(&f);
}
