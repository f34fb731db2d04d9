/* longspan plan: what attend would do on any number of ranks, counted from the same schedules, without running it. */
#include "io/output_file.h"
#include "kernels/cpu.h"
#include "partition/cost.h"
#include "runtime/cli/command.h"
#include "runtime/cli/files.h"
#include "runtime/cli/run_report.h"
#include "runtime/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const options_spec spec = {
    .usage = "plan --tokens N --ranks P [OPTIONS]",
    .summary =
        "What attend would do on P ranks, without running: steps, messages, bytes sent, work and memory a rank, and\n"
        "the time that a simple model of the machine predicts. With --verbose the steps themselves, of up to 16\n"
        "ranks. Needs no mpirun. --rate is that of a rank, all its threads; unless given it is 0.6 of the peak\n"
        "that one thread here reaches now. --bandwidth is 10 GB/s and --latency 2 microseconds unless given.",
    .example = "longspan plan --tokens 1M --heads 8 --kv-heads 2 --dim 128 --mask causal --ranks 64 --rate 2000",
    .takes = TAKES_SHAPE | TAKES_TYPE | TAKES_OUT_TYPE | TAKES_MASK | TAKES_SCORES | TAKES_STRATEGY | TAKES_MACHINE |
             TAKES_REPORT | TAKES_FORCE,
};

enum { MOST_VERBOSE_RANKS = 16 };
static const double attainable = 0.6, peak_seconds = 0.02;
static const double default_bandwidth = 10, default_latency = 2; /* GB/s, microseconds */

/* Counts of all ranks. */
enum { STEPS, MESSAGES, SENT, RECEIVED, PAIRS, FLOPS, MEMORY, SECONDS, FIELDS };
static const struct {
    const char *label, *key; /* key: in the report */
    double unit;             /* what is printed is the value over it */
} fields[FIELDS] = {
    [STEPS] = {"steps", "steps", 1},
    [MESSAGES] = {"messages", "messages", 1},
    [SENT] = {"sent, MiB", "bytes_sent", 1048576},
    [RECEIVED] = {"received, MiB", "bytes_received", 1048576},
    [PAIRS] = {"pairs, millions", "pairs", 1e6},
    [FLOPS] = {"work, GFLOP", "flops", 1e9},
    [MEMORY] = {"memory, MiB", "memory_bytes", 1048576},
    [SECONDS] = {"predicted, s", "predicted_seconds", 1},
};

typedef struct {
    longspan_problem problem; /* defaults filled in */
    schedule_problem scheduled;
    const strategy *strategy;
    int ranks;
    cost_sizes sizes;
    cost_machine machine;
    report_statistics total[FIELDS]; /* over ranks */
    double sum[FIELDS];
} forecast;

static cost_sizes sizes_of(const longspan_problem *p)
{
    const int64_t size = (int64_t)number_size((kernel_type)p->type);
    const int64_t out_size = (int64_t)number_size((kernel_type)p->out_type), word = (int64_t)sizeof(float);
    return (cost_sizes){
        .flops_per_pair = plan_flops_per_pair(p),
        .key_value_bytes = p->batch * p->kv_heads * (p->dim + p->value_dim) * size,
        .query_bytes = p->batch * p->heads * p->dim * size,
        .output_bytes = p->batch * p->heads * (p->value_dim * out_size + word),
        .state_bytes = p->batch * p->heads * (p->value_dim + 2) * word,
    };
}

static void add_rank(forecast *c, int rank, const cost *of)
{
    const double value[FIELDS] = {
        [STEPS] = (double)of->steps,         [MESSAGES] = (double)of->messages,
        [SENT] = (double)of->bytes_sent,     [RECEIVED] = (double)of->bytes_received,
        [PAIRS] = (double)of->pairs,         [FLOPS] = of->flops,
        [MEMORY] = (double)of->memory_bytes, [SECONDS] = of->seconds,
    };
    for (int i = 0; i < FIELDS; i++) {
        report_statistics *t = &c->total[i];
        if (rank == 0) *t = (report_statistics){.min = value[i], .max = value[i]};
        if (value[i] < t->min) {
            t->min = value[i];
            t->min_rank = rank;
        }
        if (value[i] > t->max) {
            t->max = value[i];
            t->max_rank = rank;
        }
        c->sum[i] += value[i];
        t->mean = c->sum[i] / c->ranks;
    }
}

static void print_slot(int slot, int64_t row)
{
    if (slot == SLOT_HOME) printf("home");
    else printf("slot %d", slot);
    printf(" row %lld", (long long)row);
}

static void print_schedule(const schedule *s)
{
    printf("rank %d\n", s->rank);
    for (int64_t i = 0; i < s->step_count; i++) {
        const schedule_step *step = &s->steps[i];
        printf("  step %lld%s\n", (long long)i, step->transfer_count + step->fold_count ? "" : ": nothing");
        for (int64_t n = 0; n < step->transfer_count; n++) {
            const schedule_transfer *t = &step->transfers[n];
            const bool send = t->direction == TRANSFER_SEND;
            printf("    %s keys [%lld, %lld) %s rank %d %s ", send ? "send   " : "receive", (long long)t->keys.begin,
                   (long long)t->keys.end, send ? "to  " : "from", t->peer, send ? "out of" : "into");
            print_slot(t->slot, t->row);
            printf("\n");
        }
        for (int64_t n = 0; n < step->fold_count; n++) {
            const schedule_fold *fold = &step->folds[n];
            printf("    fold    queries [%lld, %lld) x keys [%lld, %lld) in ", (long long)fold->queries.begin,
                   (long long)fold->queries.end, (long long)fold->keys.begin, (long long)fold->keys.end);
            print_slot(fold->slot, fold->row);
            printf("%s\n", fold->look_inside ? ", masked inside" : "");
        }
    }
}

/* Chooses as attend does and counts every rank's schedule, one at a time. */
static longspan_status forecast_make(const longspan_problem *problem, int ranks, const cost_machine *machine,
                                     bool print, forecast *c, failure *f)
{
    *c = (forecast){.problem = *problem, .ranks = ranks, .machine = *machine};
    if (plan_choose(&c->problem, ranks, &c->scheduled, &c->strategy, f) != LONGSPAN_OK) return f->status;
    c->sizes = sizes_of(&c->problem);
    for (int rank = 0; rank < ranks; rank++) {
        schedule *s;
        cost of;
        if (c->strategy->plan(&c->scheduled, rank, &s))
            return failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the schedule of rank %d", rank);
        cost_of_schedule(s, &c->scheduled, &c->sizes, machine, &of);
        add_rank(c, rank, &of);
        if (print) print_schedule(s);
        schedule_destroy(s);
    }
    return LONGSPAN_OK;
}

/* The options' machine, and where its rate comes from. */
static cost_machine machine_of(const options *o, const char **source_p)
{
    cost_machine machine = {
        .flops = o->rate * 1e9,
        .bandwidth = (o->bandwidth > 0 ? o->bandwidth : default_bandwidth) * 1e9,
        .latency = (o->latency >= 0 ? o->latency : default_latency) / 1e6,
    };
    *source_p = "as given";
    if (o->rate <= 0) {
        machine.flops = attainable * attention_kernel_find("auto")->peak(peak_seconds);
        *source_p = "0.6 of the peak of one thread here, measured now";
    }
    return machine;
}

static void print_forecast(const options *o, const forecast *c, const char *rate_source)
{
    const longspan_problem *p = &c->problem;
    printf("%s attention: %lld x %lld tokens against %lld, %d heads (%d of keys and values) of %d and %d, %s\n",
           job_mask_name(p), (long long)p->batch, (long long)p->queries, (long long)p->keys, p->heads, p->kv_heads,
           p->dim, p->value_dim, run_type_name(p->type));
    printf("  on %d ranks: strategy %s%s, layout %s%s\n\n", c->ranks, c->strategy->name,
           strcmp(o->strategy, "auto") == 0 ? " (auto)" : "", layout_name(c->scheduled.query_layout.kind),
           strcmp(o->layout, "auto") == 0 ? " (auto)" : "");
    printf("  %-16s %14s %14s %14s %8s\n", "a rank", "min", "mean", "max", "of rank");
    for (int i = 0; i < FIELDS; i++) {
        const report_statistics *t = &c->total[i];
        const double unit = fields[i].unit;
        printf("  %-16s %14.6g %14.6g %14.6g %8d\n", fields[i].label, t->min / unit, t->mean / unit, t->max / unit,
               t->max_rank);
    }
    printf("\n  work     %.6g GFLOP in all, balance (mean / max) %.3f\n", c->sum[FLOPS] * 1e-9,
           c->total[FLOPS].max > 0 ? c->total[FLOPS].mean / c->total[FLOPS].max : 1);
    printf("  time     %.4g s predicted: of the slowest rank, transfers behind the folds of their step\n",
           c->total[SECONDS].max);
    printf("  machine  %.4g GFLOP/s a rank (%s), %.4g GB/s (%s), %.3g us a message (%s)\n", c->machine.flops * 1e-9,
           rate_source, c->machine.bandwidth * 1e-9, o->bandwidth > 0 ? "as given" : "assumed",
           c->machine.latency * 1e6, o->latency >= 0 ? "as given" : "assumed");
}

/* The strategies that attend did not choose but could have been told to use, a line each. */
static void print_alternatives(const longspan_problem *problem, const forecast *chosen)
{
    for (int i = 0; i < strategy_count; i++) {
        if (strategies[i] == chosen->strategy) continue;
        longspan_problem other = *problem;
        other.strategy = strategies[i]->name;
        forecast c;
        failure refused = {0};
        if (forecast_make(&other, chosen->ranks, &chosen->machine, false, &c, &refused) != LONGSPAN_OK) {
            printf("  instead  --strategy %s: %s\n", other.strategy, refused.text);
            continue;
        }
        printf("  instead  --strategy %s: at most %.6g MiB sent, %.6g MiB of memory a rank, %.4g s predicted\n",
               other.strategy, c.total[SENT].max / fields[SENT].unit, c.total[MEMORY].max / fields[MEMORY].unit,
               c.total[SECONDS].max);
    }
}

static json_t *forecast_json(const forecast *c, const char *rate_source)
{
    json_t *ranks = json_object(), *sums = json_object();
    for (int i = 0; i < FIELDS; i++) {
        json_object_set_new(ranks, fields[i].key, report_statistics_json(&c->total[i]));
        if (i == SENT || i == PAIRS || i == FLOPS || i == MESSAGES)
            json_object_set_new(sums, fields[i].key, json_real(c->sum[i]));
    }
    return json_pack("{s:o, s:{s:s, s:s, s:i}, s:{s:f, s:s, s:f, s:f}, s:o, s:o, s:f, s:o}", "problem",
                     run_problem_json(&c->problem), "plan", "strategy", c->strategy->name, "layout",
                     layout_name(c->scheduled.query_layout.kind), "ranks", c->ranks, "machine_model", "flops",
                     c->machine.flops, "rate_source", rate_source, "bandwidth", c->machine.bandwidth, "latency",
                     c->machine.latency, "rank", ranks, "sum", sums, "predicted_seconds", c->total[SECONDS].max,
                     "versions", report_versions_json());
}

/* Rank 0. */
static json_t *plan_here(const session *s, const options *o, failure *f)
{
    const char *rate_source;
    longspan_problem problem;
    forecast c;
    const cost_machine machine = machine_of(o, &rate_source);
    job_problem_from_options(o, &problem);
    job_problem_choose(o, &problem);
    if (forecast_make(&problem, o->ranks, &machine, s->verbose && o->ranks <= MOST_VERBOSE_RANKS, &c, f) != LONGSPAN_OK)
        return NULL;
    if (s->verbose && o->ranks > MOST_VERBOSE_RANKS)
        session_say(s, "longspan plan: the steps are printed for at most %d ranks\n", MOST_VERBOSE_RANKS);
    print_forecast(o, &c, rate_source);
    if (strcmp(o->strategy, "auto") == 0) print_alternatives(&problem, &c);
    return o->report ? forecast_json(&c, rate_source) : NULL;
}

static exit_status run(session *s, options *o)
{
    failure f = {0};
    if (o->tokens == 0) return options_refuse(s, "--tokens is missing");
    if (o->ranks == 0) return options_refuse(s, "--ranks is missing");
    if (o->report && output_file_check(s->comm, o->report, o->force, &f) != LONGSPAN_OK) return session_fail(s, &f);
    json_t *root = s->rank == 0 ? plan_here(s, o, &f) : NULL;
    if (!session_agree(s, &f)) {
        json_decref(root);
        return session_exit_status(&f);
    }
    if (o->report && run_report_write(s, o->report, o->force, root, &f)) session_say(s, "  report   %s\n", o->report);
    return session_exit_status(&f);
}

const command command_plan = {
    .name = "plan",
    .arguments = "--tokens N --ranks P",
    .summary = "what attend would do on any number of ranks",
    .spec = &spec,
    .run = run,
};
