/* longspan plan with a linear --attention: every strategy of the family, ranked, and what each rank would do under the
 * one that attend takes. */
#include "runtime/cli/plan.h"

#include "runtime/cli/linear_inputs.h"
#include "runtime/cli/linear_job.h"
#include "runtime/cli/linear_report.h"
#include "runtime/cli/placement.h"
#include "runtime/cli/schedule_print.h"
#include "runtime/linear_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STRATEGIES = 16, MOST_VERBOSE_RANKS = 16 };

typedef enum { COUNT_STEPS, COUNT_MESSAGES, COUNT_SENT, COUNT_RECEIVED, COUNT_FLOPS, COUNTS } linear_count;

static const struct {
    const char *label, *key;
    double unit;
} fields[COUNTS] = {
    [COUNT_STEPS] = {"steps", "steps", 1},
    [COUNT_MESSAGES] = {"messages", "messages", 1},
    [COUNT_SENT] = {"sent, MiB", "bytes_sent", 1048576},
    [COUNT_RECEIVED] = {"received, MiB", "bytes_received", 1048576},
    [COUNT_FLOPS] = {"work, GFLOP", "flops", 1e9},
};

/* Over the ranks counted. */
typedef struct {
    report_statistics rank[COUNTS];
    double sum[COUNTS];
} linear_counts;

typedef struct {
    linear_offer offer;
    linear_counts counts; /* where it is not refused */
} ranked;

typedef struct {
    longspan_linear_problem problem; /* complete */
    placement place;
    int threads, ranks_counted;
    ranked way[MOST_STRATEGIES]; /* the first is taken; then as predicted, refused ones last */
    int way_count;
} linear_forecast;

static bool comes_before(const linear_offer *a, const linear_offer *b)
{
    if (!a->refusal != !b->refusal) return !a->refusal;
    return !a->refusal && a->seconds < b->seconds;
}

/* All that are left open, the one that attend takes first. */
static bool rank_strategies(linear_forecast *c, failure *f)
{
    linear_offer taken;
    if (linear_plan_choose(&c->problem, &c->place, c->threads, &taken, f) != LONGSPAN_OK) return false;
    c->way[c->way_count++].offer = taken;
    if (strcmp(c->problem.strategy, "auto") != 0) return true;
    for (int i = 0; i < linear_strategy_count && c->way_count < MOST_STRATEGIES; i++) {
        linear_offer other;
        if (linear_strategies[i] == taken.strategy) continue;
        if (linear_plan_predict(&c->problem, linear_strategies[i], &c->place, c->threads, &other, f) != LONGSPAN_OK)
            return false;
        int at = c->way_count++;
        for (; at > 1 && comes_before(&other, &c->way[at - 1].offer); at--) c->way[at] = c->way[at - 1];
        c->way[at].offer = other;
    }
    return true;
}

/* Of a rank's tokens, document by document. */
static double rank_flops(const linear_forecast *c, const linear_schedule_problem *scheduled, const linear_shape *shape,
                         int rank)
{
    const range rows = layout_chunk(&scheduled->layout, rank);
    const longspan_linear_problem *p = &c->problem;
    double flops = 0;
    if (!p->documents) return linear_plan_flops(shape, p->causal != 0, rows);
    for (int64_t d = 0; d < p->document_count; d++) {
        range own = {p->documents[d], p->documents[d + 1]};
        if (own.begin < rows.begin) own.begin = rows.begin;
        if (own.end > rows.end) own.end = rows.end;
        if (own.begin < own.end) flops += linear_plan_flops(shape, p->causal != 0, own);
    }
    return flops;
}

static void add_rank(linear_counts *c, int rank, int counted, const double value[COUNTS])
{
    for (int i = 0; i < COUNTS; i++) {
        report_statistics *t = &c->rank[i];
        if (counted == 0 || value[i] < t->min) {
            t->min = value[i];
            t->min_rank = rank;
        }
        if (counted == 0 || value[i] > t->max) {
            t->max = value[i];
            t->max_rank = rank;
        }
        c->sum[i] += value[i];
        t->mean = c->sum[i] / (counted + 1);
    }
}

/* All ranks, or of more than FORECAST_ALL_RANKS so many, evenly, the last among them. */
static void count_ranks(linear_forecast *c, ranked *way, failure *f)
{
    const int ranks = c->place.ranks;
    const linear_schedule_problem scheduled =
        linear_plan_scheduled(&c->problem, &c->place, c->threads, way->offer.summarises);
    const linear_shape shape = linear_problem_shape(&c->problem, way->offer.summarises);
    const linear_sizes sizes = linear_plan_sizes(&c->problem, &scheduled, &c->place);
    c->ranks_counted = ranks < FORECAST_ALL_RANKS ? ranks : FORECAST_ALL_RANKS;
    for (int i = 0; i < c->ranks_counted && f->status == LONGSPAN_OK; i++) {
        const int rank = (int)((int64_t)(i + 1) * ranks / c->ranks_counted) - 1;
        linear_schedule *one;
        linear_cost cost;
        if (way->offer.strategy->plan(&scheduled, rank, &one) != 0) {
            failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the schedule of rank %d", rank);
            return;
        }
        linear_cost_of(one, &scheduled, &sizes, &cost);
        const double value[COUNTS] = {[COUNT_STEPS] = (double)cost.steps,
                                      [COUNT_MESSAGES] = (double)cost.messages_sent,
                                      [COUNT_SENT] = (double)cost.bytes_sent,
                                      [COUNT_RECEIVED] = (double)cost.bytes_received,
                                      [COUNT_FLOPS] = rank_flops(c, &scheduled, &shape, rank)};
        add_rank(&way->counts, rank, i, value);
        linear_schedule_destroy(one);
    }
}

/* For people. */

static void print_ranking(const linear_forecast *c)
{
    printf("\n  %-12s %7s %9s %12s %14s %12s\n", "strategy", "steps", "messages", "MiB sent", "MiB memory",
           "predicted s");
    for (int i = 0; i < c->way_count; i++) {
        const linear_offer *one = &c->way[i].offer;
        const report_statistics *rank = c->way[i].counts.rank;
        const bool fits = c->place.memory_bytes == 0 || one->memory_bytes <= c->place.memory_bytes;
        printf("  %-12s ", one->strategy->name);
        if (one->refusal) printf("refused: %s\n", one->refusal);
        else
            printf("%7.0f %9.0f %12.6g %14.6g %12.4g%s\n", rank[COUNT_STEPS].max, rank[COUNT_MESSAGES].max,
                   rank[COUNT_SENT].max / 1048576, (double)one->memory_bytes / 1048576, one->seconds,
                   fits ? "" : "  does not fit into memory");
    }
    printf("  (of the rank with the most; states of the last one, which waits for all others)\n");
}

static void print_counts(const linear_forecast *c)
{
    printf("\n  %-16s %14s %14s %14s %8s\n", "a rank", "min", "mean", "max", "of rank");
    for (int i = 0; i < COUNTS; i++) {
        const report_statistics *t = &c->way[0].counts.rank[i];
        printf("  %-16s %14.6g %14.6g %14.6g %8d\n", fields[i].label, t->min / fields[i].unit, t->mean / fields[i].unit,
               t->max / fields[i].unit, t->max_rank);
    }
    if (c->ranks_counted < c->place.ranks) printf("  (of %d ranks of %d)\n", c->ranks_counted, c->place.ranks);
}

static void print_forecast(const options *o, const linear_forecast *c, const char *source)
{
    const linear_offer *taken = &c->way[0].offer;
    const linear_shape shape = linear_problem_shape(&c->problem, taken->summarises);
    linear_problem_print(stdout, &c->problem);
    printf("  on %d ranks, %d a node: strategy %s%s, layout contiguous; a state of %d x %d a head, %.4g MiB in all\n",
           c->place.ranks, c->place.node_ranks, taken->strategy->name,
           strcmp(o->strategy, "auto") == 0 ? " (auto)" : "", linear_feature_dim(&shape), linear_width(&shape),
           (double)linear_units(&shape) * (double)linear_state_size(&shape) * sizeof(double) / 1048576);
    if (c->way_count > 1) print_ranking(c);
    print_counts(c);
    printf("\n  time     %.4g s predicted\n", taken->seconds);
    placement_print(o, &c->place, 0, source);
}

/* The report. */

static json_t *way_json(const ranked *way)
{
    const linear_offer *c = &way->offer;
    const report_statistics *rank = way->counts.rank;
    if (c->refusal) return json_pack("{s:s, s:s}", "strategy", c->strategy->name, "refused", c->refusal);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:f}", "strategy", c->strategy->name, "steps",
                     (json_int_t)rank[COUNT_STEPS].max, "messages", (json_int_t)rank[COUNT_MESSAGES].max, "bytes_sent",
                     (json_int_t)rank[COUNT_SENT].max, "memory_bytes", (json_int_t)c->memory_bytes, "predicted_seconds",
                     c->seconds);
}

static json_t *forecast_json(const linear_forecast *c, const char *source)
{
    json_t *rank = json_object(), *sum = json_object(), *ranking = json_array();
    const ranked *taken = &c->way[0];
    for (int i = 0; i < COUNTS; i++) {
        json_object_set_new(rank, fields[i].key, report_statistics_json(&taken->counts.rank[i]));
        if (c->ranks_counted == c->place.ranks)
            json_object_set_new(sum, fields[i].key, json_real(taken->counts.sum[i]));
    }
    for (int i = 0; i < c->way_count; i++) json_array_append_new(ranking, way_json(&c->way[i]));
    json_t *plan =
        json_pack("{s:s, s:s, s:i, s:i, s:i}", "strategy", taken->offer.strategy->name, "layout", "contiguous", "ranks",
                  c->place.ranks, "node_ranks", c->place.node_ranks, "ranks_counted", c->ranks_counted);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:o}", "problem", linear_problem_json(&c->problem), "plan",
                     plan, "ranking", ranking, "machine_model", placement_json(&c->place, 0, source), "rank",
                     rank, "sum", sum, "predicted_seconds", taken->offer.seconds, "versions", report_versions_json());
}

/* The steps of the strategy that is taken. */
static void print_steps(const session *s, const linear_forecast *c, failure *f)
{
    const linear_offer *taken = &c->way[0].offer;
    const linear_schedule_problem scheduled =
        linear_plan_scheduled(&c->problem, &c->place, c->threads, taken->summarises);
    if (c->place.ranks > MOST_VERBOSE_RANKS) {
        session_say(s, "longspan plan: the steps are printed for at most %d ranks\n", MOST_VERBOSE_RANKS);
        return;
    }
    for (int rank = 0; rank < c->place.ranks; rank++) {
        linear_schedule *one;
        if (taken->strategy->plan(&scheduled, rank, &one) != 0) {
            failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the schedule of rank %d", rank);
            return;
        }
        schedule_print_linear(one);
        linear_schedule_destroy(one);
    }
}

/* Rank 0. */
static json_t *plan_here(const session *s, const options *o, const void *problem, const machine_source *source,
                         failure *f)
{
    linear_forecast c = {.problem = *(const longspan_linear_problem *)problem};
    if (linear_problem_complete(&c.problem, f) != LONGSPAN_OK ||
        !placement_make(o, &(placement_work){.type = c.problem.type}, source, &c.place, f))
        return NULL;
    c.threads = placement_threads(o, c.place.node_ranks);
    if (!rank_strategies(&c, f)) return NULL;
    for (int i = 0; i < c.way_count; i++)
        if (!c.way[i].offer.refusal) count_ranks(&c, &c.way[i], f);
    if (f->status != LONGSPAN_OK) return NULL;
    if (s->verbose) print_steps(s, &c, f);
    job_warn_of_memory(s, c.way[0].offer.strategy->name, "contiguous", c.way[0].offer.memory_bytes, c.place.memory_bytes);
    print_forecast(o, &c, source->source);
    return o->report ? forecast_json(&c, source->source) : NULL;
}

exit_status plan_linear(session *s, const options *o)
{
    failure f = {0};
    longspan_linear_problem problem;
    linear_inputs made;
    linear_problem_from_options(o, &problem);
    linear_problem_choose(o, &problem);
    linear_inputs_make(o->seed, &problem, &made, &f);
    const exit_status planned = session_agree(s, &f) ? plan_by(s, o, plan_here, &problem) : session_exit_status(&f);
    linear_inputs_free(&made);
    return planned;
}

exit_status plan_linear_file(session *s, const options *o, const input_file *input)
{
    longspan_linear_problem problem;
    linear_problem_from_input(input, o->linear, &problem);
    linear_problem_choose(o, &problem);
    return plan_by(s, o, plan_here, &problem);
}
