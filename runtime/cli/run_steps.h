/* What all ranks did in each step of a plan's last execution: which step was slow, and who waited for whom. */
#ifndef CLI_RUN_STEPS_H
#define CLI_RUN_STEPS_H

#include "runtime/exchange.h"

#include <jansson.h>
#include <stdio.h>

/* The mean over ranks, the largest, and the rank that it is of. */
typedef struct {
    double mean, max;
    int max_rank;
} step_statistics;

/* Times in seconds. */
typedef struct {
    step_statistics compute, wait;
    int waited_for;    /* by wait.max_rank, last of all; -1 if for none, or for its node */
    double transfer;   /* longest time that the transfers of a rank took */
    double bytes_sent; /* all ranks */
} run_step;

typedef struct {
    run_step *step;
    int64_t count;
} run_steps;

/* Collective; equal on every rank. From what this rank did in each step (plan_steps, linear_plan_steps). Nothing if memory
 * ran out on one. To be freed with run_steps_free. */
run_steps run_steps_gather(MPI_Comm comm, const step_record *records, int64_t count);
void run_steps_free(run_steps *steps); /* {0} allowed */

/* Not collective. An array of an object a step; a new reference, NULL if memory ran out. */
json_t *run_steps_json(const run_steps *steps);
/* Not collective. A line about the longest wait, where there was one. */
void run_steps_print(FILE *to, const run_steps *steps);

#endif
