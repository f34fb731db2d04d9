/* What executions of a linear job did: the part of the report and of the summary that run_report.h does not know. */
#ifndef CLI_LINEAR_REPORT_H
#define CLI_LINEAR_REPORT_H

#include "runtime/cli/linear_job.h"
#include "runtime/cli/run_report.h"

/* Collective. The last execution of the job's plan; `wall` as this rank measured it. */
run_repeat linear_repeat_gather(MPI_Comm comm, const linear_job *j, double wall);
/* Collective. As run_report_gather. */
run_report linear_report_gather(MPI_Comm comm, const linear_job *j, run_repeat *repeats, int count);

/* Not collective. New references: {attention, batch, tokens, ...}; the whole report. */
json_t *linear_problem_json(const longspan_linear_problem *p);
json_t *linear_report_json(const run_report *r, const linear_job *j);

/* Not collective: for rank 0. "gated-delta attention: 65536 tokens, 16 heads of 128, float32", on one line or two, and
 * with what it was computed. */
void linear_problem_print(FILE *to, const longspan_linear_problem *p);
void linear_report_print(FILE *to, const run_report *r, const linear_job *j, const run_repeat *shown,
                         const run_phase *phases, int phase_count, double elapsed);

#endif
