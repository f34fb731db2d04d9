#include "runtime/cli/forecast.h"

#include <stdlib.h>

static void add_rank(forecast *c, int rank, const cost *of)
{
    const double value[FORECAST_COUNTS] = {
        [FORECAST_STEPS] = (double)of->steps,
        [FORECAST_MESSAGES] = (double)of->sum.messages_sent,
        [FORECAST_SENT] = (double)cost_bytes(of->sum.bytes_sent),
        [FORECAST_RECEIVED] = (double)cost_bytes(of->sum.bytes_received),
        [FORECAST_SCORES] = (double)of->sum.pairs * (double)c->problem.batch,
        [FORECAST_FLOPS] = of->flops,
        [FORECAST_MEMORY] = (double)of->memory_bytes,
    };
    const bool first = c->ranks_counted++ == 0;
    for (int i = 0; i < FORECAST_COUNTS; i++) {
        report_statistics *t = &c->rank[i];
        if (first || value[i] < t->min) {
            t->min = value[i];
            t->min_rank = rank;
        }
        if (first || value[i] > t->max) {
            t->max = value[i];
            t->max_rank = rank;
        }
        c->sum[i] += value[i];
        t->mean = c->sum[i] / c->ranks_counted;
    }
}

static void count_rank(forecast *c, int rank, failure *f)
{
    const choice *used = &c->choices[0];
    schedule *s;
    cost of;
    if (used->strategy->plan(&used->problem, rank, &s) != 0) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the schedule of rank %d", rank);
        return;
    }
    cost_of_schedule(s, &used->problem, &c->sizes, &of);
    add_rank(c, rank, &of);
    schedule_destroy(s);
}

bool forecast_make(const longspan_problem *problem, const placement *place, forecast *c, failure *f)
{
    *c = (forecast){.problem = *problem, .ranks = place->ranks};
    if (problem_pattern(&c->problem, &c->pattern, f) != LONGSPAN_OK) return false;
    if (plan_rank(&c->problem, c->pattern, place, &c->choices, &c->choice_count, f) != LONGSPAN_OK) return false;
    c->sizes = plan_sizes(&c->problem);
    int sample[PREDICTION_ALL_RANKS], count = c->ranks;
    const bool all = c->ranks <= FORECAST_ALL_RANKS;
    if (!all) count = prediction_sample(c->choices[0].strategy, &c->choices[0].problem, sample);
    for (int i = 0; i < count && f->status == LONGSPAN_OK; i++) count_rank(c, all ? i : sample[i], f);
    return f->status == LONGSPAN_OK;
}

void forecast_free(forecast *c)
{
    free(c->choices);
    pattern_sum_destroy(c->pattern);
    c->choices = NULL;
    c->pattern = NULL;
}
