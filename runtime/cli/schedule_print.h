/* A schedule for people: what plan --verbose shows. */
#ifndef CLI_SCHEDULE_PRINT_H
#define CLI_SCHEDULE_PRINT_H

#include "partition/linear_schedule.h"
#include "partition/schedule.h"

/* Every step of one rank on stdout: what it sends, receives, clears, folds and merges, by token where rows are
 * consecutive tokens. */
void schedule_print(const schedule *s, const schedule_problem *problem);

/* The same of the linear family. */
void schedule_print_linear(const linear_schedule *s);

#endif
