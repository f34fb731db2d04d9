/* What one or more executions of a job did, over all ranks: the report's JSON and the summary for people. */
#ifndef CLI_RUN_REPORT_H
#define CLI_RUN_REPORT_H

#include "partition/prediction.h"
#include "runtime/cli/job.h"
#include "runtime/cli/report.h"
#include "runtime/cli/run_steps.h"

#include <stdio.h>

/* One execution. Times in seconds; equal on every rank. */
typedef struct {
    double wall; /* of the slowest rank */
    report_statistics compute, wait, finish, transfer, total;
    report_statistics bytes_sent;
    double flops;   /* all ranks */
    double overlap; /* the part of the transfers' time that nobody waited for: 1 - wait / transfer over the ranks' sums;
                       1 without transfers, 0 at the least */
    /* Factors of the parallel efficiency, which is their product: mean over max of compute + finish, and that max over
     * `wall` (POP Centre of Excellence, "POP standard metrics for parallel performance analysis"). */
    double load_balance, communication_efficiency;
} run_repeat;

typedef struct {
    const job *job;
    run_repeat *repeats; /* the caller's */
    int count;
    double median_wall;
    double flops_rate; /* flop/s of all ranks at the median wall time */
    double peak;       /* flop/s of all ranks, measured right after the run */
    report_statistics memory;
    int64_t steps;        /* of the rank with the most */
    int threads;          /* of the rank with the most */
    run_steps step_times; /* of the last repetition */
    prediction predicted; /* by the cost model, on rank 0; seconds 0 where it could not be made */
} run_report;

/* Collective. What a plan's last execution did, `t`; `wall` as this rank measured it. */
run_repeat run_repeat_gather(MPI_Comm comm, const longspan_timing *t, double wall);

/* Collective. Measures the peak and gathers the rest. `repeats` must stay. To be freed with run_report_free.
 * run_report_measure is that of any job, also without a plan of softmax attention: no times of steps, no prediction. */
run_report run_report_gather(MPI_Comm comm, const job *j, run_repeat *repeats, int count);
run_report run_report_measure(MPI_Comm comm, const job *j, int64_t steps, run_repeat *repeats, int count);
void run_report_free(run_report *r); /* {0} allowed */

/* Not collective. The report as an object of its own: problem, plan, repeat, prediction, median_wall, gflops,
 * peak_gflops, fraction_of_peak, steps, memory_peak_bytes, machine, versions. NULL if memory ran out. */
json_t *run_report_json(const run_report *r);
/* The same of another kind of attention: its problem and plan, two references that are taken over. */
json_t *run_report_json_of(const run_report *r, json_t *problem, json_t *plan);
/* Not collective. `root` with what `rest` has too, two references that are taken over; NULL where either is. */
json_t *run_report_json_join(json_t *root, json_t *rest);

/* Not collective. The repetition whose wall time is next to the median. */
const run_repeat *run_report_typical(const run_report *r);

/* Not collective. {batch, queries, ..., sinks}; a new reference. */
json_t *run_problem_json(const longspan_problem *p);
const char *run_type_name(longspan_type type);

/* One line of the summary's table. */
typedef struct {
    const char *name;
    report_statistics seconds;
} run_phase;

/* Not collective: for rank 0. What was computed and on what; the phases with min, mean, max, the rank of the maximum
 * and the mean's share of `elapsed`; rate, fraction of the peak, bytes that the repetition `shown` sent, memory. */
void run_report_print(FILE *to, const run_report *r, const run_repeat *shown, const run_phase *phases, int phase_count,
                      double elapsed);

/* The same without what was computed. */
void run_report_print_numbers(FILE *to, const run_report *r, const run_repeat *shown, const run_phase *phases,
                              int phase_count, double elapsed);

/* Not collective: for rank 0. A line about the repetitions, of which run_report_typical is the one that was printed. */
void run_report_print_median(FILE *to, const run_report *r);

/* Collective. Rank 0 writes `root` to a file; takes the reference over, whatever happens, NULL on the other ranks. The
 * failure is agreed on and printed, as by session_agree. */
bool run_report_write(const session *s, const char *path, bool force, json_t *root, failure *f);

#endif
