/* What attend would do on any number of ranks, without running: all strategies ranked by predicted time, and the exact
 * counts of the one to be used. */
#ifndef CLI_FORECAST_H
#define CLI_FORECAST_H

#include "runtime/cli/machine_file.h"
#include "runtime/cli/report.h"
#include "runtime/plan.h"

/* Counts of a rank. */
typedef enum {
    FORECAST_STEPS,
    FORECAST_MESSAGES,
    FORECAST_SENT,
    FORECAST_RECEIVED,
    FORECAST_SCORES,
    FORECAST_FLOPS,
    FORECAST_MEMORY,
    FORECAST_COUNTS
} forecast_count;

/* Every rank is counted up to this many; of more ranks those that stand for all of them (partition/prediction.h). */
enum { FORECAST_ALL_RANKS = 512 };

typedef struct {
    longspan_problem problem; /* defaults filled in */
    int ranks, ranks_counted;
    pattern_sum *pattern; /* NULL where the problem has none */
    choice *choices; /* as plan_rank gives them: the first is used */
    int choice_count;
    cost_sizes sizes;
    report_statistics rank[FORECAST_COUNTS]; /* over the ranks counted */
    double sum[FORECAST_COUNTS];
} forecast;

/* Not collective. Of a complete problem (runtime/problem.h). False with the reason in *f. To be freed in either case. */
bool forecast_make(const longspan_problem *problem, const placement *place, forecast *c, failure *f);
void forecast_free(forecast *c);

#endif
