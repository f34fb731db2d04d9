/* longspan plan: what attend would do on any number of ranks, counted from the same schedules, without running it. */
#include "runtime/cli/command.h"
#include "runtime/cli/entmax_option.h"
#include "runtime/cli/files.h"
#include "runtime/cli/forecast.h"
#include "runtime/cli/job.h"
#include "runtime/cli/placement.h"
#include "runtime/cli/plan.h"
#include "runtime/cli/relative_values.h"
#include "runtime/cli/run_report.h"
#include "runtime/cli/schedule_print.h"

#include <stdio.h>
#include <string.h>

static const options_spec spec = {
    .usage = "plan [IN.h5] --ranks P [OPTIONS]",
    .summary =
        "What attend would do on P ranks, without running: every strategy with its steps, messages, bytes sent and\n"
        "memory a rank and the time that a model of the machine predicts; then the counts of the one that attend "
        "takes.\n"
        "The shape is that of IN.h5, or --tokens and so on. With --verbose the steps themselves, of up to 16 ranks.\n"
        "Needs no mpirun. The machine's numbers are those that `longspan bench exchange` measured and "
        "LONGSPAN_MACHINE\n"
        "names, else built-in ones; --rate, --bandwidth and --latency take their place. What does not fit into\n"
        "--memory is ranked after what does.",
    .example = "longspan plan --tokens 1M --heads 8 --kv-heads 2 --dim 128 --mask causal --ranks 64 --node-ranks 8\n"
               "  longspan plan --tokens 1M --heads 32 --dim 128 --attention gated-delta --ranks 64",
    .most_arguments = 1,
    .takes = TAKES_SHAPE | TAKES_TYPE | TAKES_OUT_TYPE | TAKES_MASK | TAKES_PATTERN | TAKES_SCORES | TAKES_STRATEGY | TAKES_COMPUTE |
             TAKES_ARITHMETIC | TAKES_SHARE | TAKES_MACHINE | TAKES_REPORT | TAKES_FORCE | TAKES_DOCUMENTS |
             TAKES_ATTENTION | TAKES_RELATIVE,
};

enum {
    MOST_VERBOSE_RANKS = 16,
    FROM_FILE = TAKES_OUT_TYPE | TAKES_MASK | TAKES_PATTERN | TAKES_SCORES | TAKES_STRATEGY | TAKES_COMPUTE | TAKES_ARITHMETIC |
                TAKES_SHARE | TAKES_MACHINE | TAKES_REPORT | TAKES_FORCE | TAKES_ATTENTION,
};

static const struct {
    const char *label, *key; /* key: in the report */
    double unit;             /* what is printed is the value over it */
    bool summed;
} fields[FORECAST_COUNTS] = {
    [FORECAST_STEPS] = {"steps", "steps", 1, false},
    [FORECAST_MESSAGES] = {"messages", "messages", 1, true},
    [FORECAST_SENT] = {"sent, MiB", "bytes_sent", 1048576, true},
    [FORECAST_RECEIVED] = {"received, MiB", "bytes_received", 1048576, false},
    [FORECAST_SCORES] = {"scores, millions", "scores", 1e6, true},
    [FORECAST_FLOPS] = {"work, GFLOP", "flops", 1e9, true},
    [FORECAST_MEMORY] = {"memory, MiB", "memory_bytes", 1048576, false},
};

/* Of a (query, key) pair. */
static double elements_of(const longspan_problem *p)
{
    return problem_pair_elements(p);
}

/* For people. */

static const char *chosen_by(const char *option)
{
    return strcmp(option, "auto") == 0 ? " (auto)" : "";
}

static void print_ranking(const forecast *c)
{
    printf("\n  %-16s %-14s %7s %9s %12s %12s %12s  %s\n", "strategy", "layout", "steps", "messages", "MiB sent",
           "MiB memory", "predicted s", "bound by");
    for (int i = 0; i < c->choice_count; i++) {
        const choice *one = &c->choices[i];
        const prediction *p = &one->prediction;
        const plan_names names = plan_name_choice(&one->problem, one->strategy);
        printf("  %-16s %-14s ", names.strategy, names.layout);
        if (one->refusal) printf("refused: %s\n", one->refusal);
        else
            printf("%7lld %9lld %12.6g %12.6g %12.4g  %s%s\n", (long long)p->steps, (long long)p->messages,
                   (double)p->bytes_sent / 1048576, (double)p->memory_bytes / 1048576, p->seconds,
                   prediction_bound_name(p->bound), one->fits ? "" : "; does not fit into memory");
    }
}

/* Bytes of the keys and values that a rank does not hold, mean over the ranks. */
static double bytes_elsewhere(const forecast *c)
{
    const double row = (double)c->problem.kv_heads * (double)c->sizes.row_bytes[ROWS_KEYS];
    return (double)c->problem.keys * row * (1 - 1.0 / c->ranks);
}

static void print_needs(const forecast *c)
{
    const report_statistics *received = &c->rank[FORECAST_RECEIVED];
    const double all = bytes_elsewhere(c);
    printf("  pattern  %s\n", c->problem.pattern);
    printf("           a rank needs %.6g MiB of others, at most %.6g, where all their keys and values are %.6g MiB: "
           "%.4g %% saved\n",
           received->mean / 1048576, received->max / 1048576, all / 1048576,
           all > 0 ? 100 * (1 - received->mean / all) : 0.0);
}

static void print_counts(const forecast *c)
{
    printf("\n  %-16s %14s %14s %14s %8s\n", "a rank", "min", "mean", "max", "of rank");
    for (int i = 0; i < FORECAST_COUNTS; i++) {
        const report_statistics *t = &c->rank[i];
        const double unit = fields[i].unit;
        printf("  %-16s %14.6g %14.6g %14.6g %8d\n", fields[i].label, t->min / unit, t->mean / unit, t->max / unit,
               t->max_rank);
    }
    if (c->ranks_counted < c->ranks) printf("  (of %d ranks that stand for all %d)\n", c->ranks_counted, c->ranks);
}

static void print_forecast(const options *o, const forecast *c, const placement *place, const char *source)
{
    const longspan_problem *p = &c->problem;
    const choice *used = &c->choices[0];
    const plan_names names = plan_name_choice(&used->problem, used->strategy);
    const mask_choice mask = mask_choice_of(p);
    char mask_name[MASK_NAME_SIZE];
    mask_choice_name(&mask, mask_name);
    printf("%s attention: %lld x %lld tokens against %lld, %d heads (%d of keys and values) of %d and %d, %s\n",
           mask_name, (long long)p->batch, (long long)p->queries, (long long)p->keys, p->heads, p->kv_heads, p->dim,
           p->value_dim, run_type_name(p->type));
    printf("  on %d ranks, %d a node: strategy %s%s, layout %s%s\n", c->ranks, place->node_ranks, names.strategy,
           chosen_by(o->strategy), names.layout, chosen_by(o->layout));
    if (p->alpha != 0) {
        char name[ENTMAX_NAME_SIZE];
        entmax_option_name(p->alpha, name);
        printf("  %s   keys travel once and values once, if lists of %d keys suffice; else keys some times more\n",
               name, p->support);
    }
    if (p->pattern) print_needs(c);
    if (c->choice_count > 1) print_ranking(c);
    print_counts(c);
    const prediction *t = &used->prediction;
    const double flops = 2.0 * elements_of(p) * c->sum[FORECAST_SCORES];
    if (c->ranks_counted == c->ranks)
        printf("\n  work     %.6g GFLOP in all, balance (mean / max) %.3f", flops * 1e-9,
               c->rank[FORECAST_FLOPS].max > 0 ? c->rank[FORECAST_FLOPS].mean / c->rank[FORECAST_FLOPS].max : 1);
    printf("\n  time     %.4g s predicted; of rank %d, the busiest: %.4g computing, %.4g in memory, %.4g for transfers "
           "and other ranks\n",
           t->seconds, t->busiest, t->compute, t->memory, t->waiting);
    placement_print(o, place, elements_of(p), source);
}

/* The report. */

static json_t *choice_json(const choice *c)
{
    const prediction *p = &c->prediction;
    const plan_names names = plan_name_choice(&c->problem, c->strategy);
    if (c->refusal)
        return json_pack("{s:s, s:s, s:s}", "strategy", names.strategy, "layout", names.layout, "refused", c->refusal);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:f, s:f, s:f, s:f, s:s}", "strategy", names.strategy,
                     "layout", names.layout, "steps", (json_int_t)p->steps, "messages", (json_int_t)p->messages,
                     "bytes_sent", (json_int_t)p->bytes_sent, "memory_bytes", (json_int_t)p->memory_bytes, "fits",
                     c->fits, "predicted_seconds", p->seconds, "compute", p->compute, "memory", p->memory, "waiting",
                     p->waiting, "bound", prediction_bound_name(p->bound));
}

static json_t *forecast_json(const forecast *c, const placement *place, const char *source)
{
    json_t *rank = json_object(), *sum = json_object(), *ranking = json_array();
    for (int i = 0; i < FORECAST_COUNTS; i++) {
        json_object_set_new(rank, fields[i].key, report_statistics_json(&c->rank[i]));
        if (fields[i].summed && c->ranks_counted == c->ranks)
            json_object_set_new(sum, fields[i].key, json_real(c->sum[i]));
    }
    for (int i = 0; i < c->choice_count; i++) json_array_append_new(ranking, choice_json(&c->choices[i]));
    const choice *used = &c->choices[0];
    const plan_names names = plan_name_choice(&used->problem, used->strategy);
    json_t *plan = json_pack("{s:s, s:s, s:i, s:i, s:i}", "strategy", names.strategy, "layout", names.layout, "ranks",
                             c->ranks, "node_ranks", place->node_ranks, "ranks_counted", c->ranks_counted);
    json_t *model = placement_json(place, elements_of(&c->problem), source);
    json_t *root = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:o}", "problem", run_problem_json(&c->problem),
                             "plan", plan, "ranking", ranking, "machine_model", model, "rank", rank, "sum", sum,
                             "predicted_seconds", used->prediction.seconds, "versions", report_versions_json());
    if (c->problem.pattern)
        json_object_set_new(root, "keys_elsewhere",
                            json_pack("{s:f, s:f}", "bytes_needed", c->rank[FORECAST_RECEIVED].mean, "bytes_of_all",
                                      bytes_elsewhere(c)));
    return root;
}

/* The command. */

static void print_steps(const session *s, const forecast *c, failure *f)
{
    const choice *used = &c->choices[0];
    if (c->ranks > MOST_VERBOSE_RANKS) {
        session_say(s, "longspan plan: the steps are printed for at most %d ranks\n", MOST_VERBOSE_RANKS);
        return;
    }
    for (int rank = 0; rank < c->ranks; rank++) {
        schedule *one;
        if (used->strategy->plan(&used->problem, rank, &one) != 0) {
            failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the schedule of rank %d", rank);
            return;
        }
        schedule_print(one, &used->problem);
        schedule_destroy(one);
    }
}

/* Rank 0. */
static json_t *plan_here(const session *s, const options *o, const void *problem, const machine_source *source,
                         failure *f)
{
    placement place;
    forecast c = {.choice_count = 0};
    json_t *root = NULL;
    longspan_problem complete = *(const longspan_problem *)problem;
    if (problem_complete(&complete, f) != LONGSPAN_OK) return NULL;
    if (complete.relative_keys && strcmp(o->compute, "auto") != 0 && strcmp(o->compute, "fp32") != 0) {
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "relative_keys need compute 'fp32'; they do not go with '%s'",
                    o->compute);
        return NULL;
    }
    const placement_work work = {.type = complete.type,
                                 .rows = complete.queries * (complete.heads / complete.kv_heads),
                                 .elements = elements_of(&complete),
                                 .fp32 = complete.relative_keys != NULL};
    if (placement_make(o, &work, source, &place, f) && forecast_make(&complete, &place, &c, f)) {
        if (s->verbose) print_steps(s, &c, f);
        const choice *used = &c.choices[0];
        const plan_names names = plan_name_choice(&used->problem, used->strategy);
        job_warn_of_memory(s, names.strategy, names.layout, used->prediction.memory_bytes, place.memory_bytes);
        print_forecast(o, &c, &place, source->source);
        if (o->report) root = forecast_json(&c, &place, source->source);
    }
    forecast_free(&c);
    return root;
}

exit_status plan_by(session *s, const options *o, plan_maker *make, const void *problem)
{
    failure f = {0};
    machine_source source;
    if (o->report && output_file_check(s->comm, o->report, o->force, &f) != LONGSPAN_OK) return session_fail(s, &f);
    const attention_kernel *kernel = job_kernel(o->isa, &f);
    if (!session_agree(s, &f) || !machine_load(s, kernel, &source, &f)) return session_exit_status(&f);
    json_t *root = s->rank == 0 ? make(s, o, problem, &source, &f) : NULL;
    if (!session_agree(s, &f)) {
        json_decref(root);
        return session_exit_status(&f);
    }
    if (o->report && run_report_write(s, o->report, o->force, root, &f)) session_say(s, "  report   %s\n", o->report);
    return session_exit_status(&f);
}

static exit_status plan_file(session *s, const options *o)
{
    failure f = {0};
    input_file input = {0};
    longspan_problem problem;
    const exit_status status = options_refuse_others(s, o, (options_taken)FROM_FILE, "plan with a file");
    if (status != EXIT_DONE) return status;
    if (input_file_open(s->comm, o->arguments[0], o->linear, &input, &f) != LONGSPAN_OK) return session_fail(s, &f);
    if (o->linear) {
        const exit_status planned = plan_linear_file(s, o, &input);
        input_file_close(&input);
        return planned;
    }
    job_problem_from_input(&input, &problem);
    job_problem_choose(o, &problem);
    const longspan_status listed = job_problem_set_blocks(o->arguments[0], &input, &problem, &f);
    const exit_status planned = listed == LONGSPAN_OK ? plan_by(s, o, plan_here, &problem) : session_fail(s, &f);
    input_file_close(&input);
    return planned;
}

static exit_status run(session *s, options *o)
{
    longspan_problem problem;
    if (o->ranks == 0) return options_refuse(s, "--ranks is missing");
    if (o->argument_count > 0) return plan_file(s, o);
    if (o->tokens == 0) return options_refuse(s, "--tokens is missing");
    if (o->linear) return plan_linear(s, o);
    job_problem_from_options(o, &problem);
    job_problem_choose(o, &problem);
    failure f = {0};
    relative_values relative = relative_values_make(o, problem.heads, problem.dim, &f);
    relative_values_apply(&relative, &problem);
    const exit_status status =
        session_agree(s, &f) ? plan_by(s, o, plan_here, &problem) : session_exit_status(&f);
    relative_values_free(&relative);
    return status;
}

const command command_plan = {
    .name = "plan",
    .arguments = "[IN.h5] --ranks P",
    .summary = "what attend would do on any number of ranks",
    .spec = &spec,
    .run = run,
};
