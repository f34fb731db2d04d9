#include "runtime/cli/run_report.h"

#include "runtime/cli/entmax_option.h"
#include "runtime/cli/files.h"
#include "runtime/patience.h"
#include "runtime/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PEAK_MILLISECONDS = 20 };

run_repeat run_repeat_gather(MPI_Comm comm, const longspan_timing *t, double wall)
{
    run_repeat r = {
        .wall = report_reduce(comm, wall).max,
        .compute = report_reduce(comm, t->compute),
        .wait = report_reduce(comm, t->wait),
        .finish = report_reduce(comm, t->finish),
        .transfer = report_reduce(comm, t->transfer),
        .total = report_reduce(comm, t->total),
        .bytes_sent = report_reduce(comm, (double)t->bytes_sent),
    };
    const report_statistics busy = report_reduce(comm, t->compute + t->finish);
    wait_allreduce(&t->flops, &r.flops, 1, MPI_DOUBLE, MPI_SUM, comm);
    r.overlap = r.transfer.mean > 0 ? fmax(0, 1 - r.wait.mean / r.transfer.mean) : 1;
    r.load_balance = busy.max > 0 ? busy.mean / busy.max : 1;
    r.communication_efficiency = r.wall > 0 ? busy.max / r.wall : 1;
    return r;
}

/* The wall time that stands at place `n` (from 0) in ascending order. */
static double nth_wall(const run_repeat *repeats, int count, int n)
{
    for (int i = 0; i < count; i++) {
        int less = 0, equal = 0;
        for (int j = 0; j < count; j++) {
            less += repeats[j].wall < repeats[i].wall;
            equal += repeats[j].wall == repeats[i].wall;
        }
        if (less <= n && n < less + equal) return repeats[i].wall;
    }
    return 0;
}

run_report run_report_measure(MPI_Comm comm, const job *j, int64_t steps, run_repeat *repeats, int count)
{
    run_report r = {
        .job = j,
        .repeats = repeats,
        .count = count,
        .median_wall = (nth_wall(repeats, count, (count - 1) / 2) + nth_wall(repeats, count, count / 2)) / 2,
        .peak = report_peak(comm, j->kernel, j->threads, PEAK_MILLISECONDS * 1e-3),
        .memory = report_reduce(comm, (double)report_peak_memory()),
        .steps = (int64_t)report_reduce(comm, (double)steps).max,
        .threads = (int)report_reduce(comm, j->threads).max,
    };
    r.flops_rate = r.median_wall > 0 ? repeats[0].flops / r.median_wall : 0;
    return r;
}

run_report run_report_gather(MPI_Comm comm, const job *j, run_repeat *repeats, int count)
{
    longspan_timing t;
    longspan_plan_timing(j->plan, &t);
    run_report r = run_report_measure(comm, j, t.steps, repeats, count);
    int64_t steps;
    const step_record *records = plan_steps(j->plan, &steps);
    r.step_times = run_steps_gather(comm, records, steps);
    failure unpredicted = {0};
    if (j->plan->context->rank == 0 && plan_predict(j->plan, &r.predicted, &unpredicted) != LONGSPAN_OK)
        r.predicted = (prediction){0};
    return r;
}

const run_repeat *run_report_typical(const run_report *r)
{
    const run_repeat *best = &r->repeats[0];
    for (int i = 1; i < r->count; i++) {
        const double distance = r->repeats[i].wall - r->median_wall, least = best->wall - r->median_wall;
        if (distance * distance < least * least) best = &r->repeats[i];
    }
    return best;
}

void run_report_free(run_report *r)
{
    run_steps_free(&r->step_times);
}

const char *run_type_name(longspan_type type)
{
    return io_type_name((io_type)type);
}

static json_t *rope_json(const longspan_problem *p)
{
    if (p->rope_dim == 0) return json_null();
    return json_pack("{s:i, s:f, s:s}", "dim", p->rope_dim, "base", p->rope_base, "style",
                     p->rope_interleaved ? "interleaved" : "half");
}

json_t *run_problem_json(const longspan_problem *p)
{
    const mask_choice mask = mask_choice_of(p);
    char name[MASK_NAME_SIZE];
    mask_choice_name(&mask, name);
    json_t *root = json_pack(
        "{s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:I, s:f, s:f, s:o, s:b, s:b, s:b}", "batch",
        (json_int_t)p->batch, "queries", (json_int_t)p->queries, "keys", (json_int_t)p->keys, "heads", p->heads,
        "kv_heads", p->kv_heads, "dim", p->dim, "value_dim", p->value_dim, "type", run_type_name(p->type), "out_type",
        run_type_name(p->out_type), "mask", name, "documents", (json_int_t)p->document_count, "scale", p->scale,
        "softcap", p->softcap, "rope", rope_json(p), "alibi", p->alibi_slopes != NULL, "sinks", p->sinks != NULL,
        "relative", p->relative_keys != NULL);
    if (p->pattern) json_object_set_new(root, "pattern", json_string(p->pattern));
    if (p->alpha != 0) {
        json_object_set_new(root, "alpha", json_real(p->alpha));
        json_object_set_new(root, "support", json_integer(p->support));
    }
    return root;
}

static json_t *repeat_json(const run_repeat *r)
{
    return json_pack("{s:f, s:{s:o, s:o, s:o, s:o, s:o}, s:f, s:o, s:f, s:f, s:f, s:f}", "wall", r->wall, "phases",
                     "compute", report_statistics_json(&r->compute), "wait", report_statistics_json(&r->wait), "finish",
                     report_statistics_json(&r->finish), "transfer", report_statistics_json(&r->transfer), "total",
                     report_statistics_json(&r->total), "flops", r->flops, "bytes_sent",
                     report_statistics_json(&r->bytes_sent), "overlap", r->overlap, "load_balance", r->load_balance,
                     "communication_efficiency", r->communication_efficiency, "parallel_efficiency",
                     r->load_balance * r->communication_efficiency);
}

static json_t *prediction_json(const run_report *r)
{
    const prediction *p = &r->predicted;
    if (p->seconds <= 0) return json_null();
    return json_pack("{s:f, s:f, s:f, s:f, s:s, s:f}", "seconds", p->seconds, "compute", p->compute, "memory",
                     p->memory, "waiting", p->waiting, "bound", prediction_bound_name(p->bound),
                     "measured_to_predicted", r->median_wall / p->seconds);
}

json_t *run_report_json_of(const run_report *r, json_t *problem, json_t *plan)
{
    json_t *repeats = json_array();
    for (int i = 0; i < r->count; i++) json_array_append_new(repeats, repeat_json(&r->repeats[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "problem", problem, "plan", plan,
                     "repeat", repeats, "steps", run_steps_json(&r->step_times), "prediction", prediction_json(r),
                     "median_wall", r->median_wall, "gflops", r->flops_rate * 1e-9, "peak_gflops", r->peak * 1e-9,
                     "fraction_of_peak", r->peak > 0 ? r->flops_rate / r->peak : 0, "memory_peak_bytes",
                     report_statistics_json(&r->memory), "machine", report_machine_json(), "versions",
                     report_versions_json());
}

json_t *run_report_json_join(json_t *root, json_t *rest)
{
    if (!root || !rest || json_object_update(root, rest)) {
        json_decref(root);
        root = NULL;
    }
    json_decref(rest);
    return root;
}

json_t *run_report_json(const run_report *r)
{
    const longspan_plan *plan = r->job->plan;
    json_t *choice = json_pack("{s:s, s:s, s:b, s:s, s:s, s:i, s:i, s:I}", "strategy", plan_strategy_name(plan),
                               "layout", plan_layout_name(plan), "shares_memory", plan->schedule->shares_memory,
                               "compute", plan_compute_name(plan), "isa", r->job->kernel->name, "ranks",
                               plan->context->ranks, "threads", r->threads, "steps", (json_int_t)r->steps);
    return run_report_json_of(r, run_problem_json(&r->job->problem), choice);
}

/* " + softcap 30 + RoPE ...": nothing where a score is q.k alone. */
static void print_scores(FILE *to, const longspan_problem *p)
{
    const char *separator = "  scores: ";
    if (p->softcap > 0) {
        fprintf(to, "%ssoftcap %g", separator, p->softcap);
        separator = ", ";
    }
    if (p->rope_dim > 0) {
        fprintf(to, "%sRoPE of %d elements, base %g, %s", separator, p->rope_dim, p->rope_base,
                p->rope_interleaved ? "interleaved" : "half");
        separator = ", ";
    }
    if (p->alibi_slopes) {
        fprintf(to, "%sALiBi", separator);
        separator = ", ";
    }
    if (p->sinks) {
        fprintf(to, "%sa sink a head", separator);
        separator = ", ";
    }
    if (p->relative_keys) {
        fprintf(to, "%srelative keys", separator);
        separator = ", ";
    }
    if (*separator == ',') fprintf(to, "\n");
}

static void print_what(FILE *to, const run_report *r)
{
    const longspan_problem *p = &r->job->problem;
    const mask_choice mask = mask_choice_of(p);
    char mask_name[MASK_NAME_SIZE];
    mask_choice_name(&mask, mask_name);
    char keys[64] = "", kv_heads[32] = "", value_dim[32] = "", batch[64] = "", out[32] = "";
    if (p->keys != p->queries) snprintf(keys, sizeof keys, " against %lld keys", (long long)p->keys);
    if (p->kv_heads != p->heads) snprintf(kv_heads, sizeof kv_heads, " (%d of keys and values)", p->kv_heads);
    if (p->value_dim != p->dim) snprintf(value_dim, sizeof value_dim, " (values %d)", p->value_dim);
    if (p->batch > 1) snprintf(batch, sizeof batch, "%lld sequences of ", (long long)p->batch);
    if (p->out_type != p->type) snprintf(out, sizeof out, " to %s", run_type_name(p->out_type));
    fprintf(to, "%s attention: %s%lld tokens%s, %d heads%s of %d%s, %s%s\n", mask_name, batch, (long long)p->queries,
            keys, p->heads, kv_heads, p->dim, value_dim, run_type_name(p->type), out);
    if (p->pattern) fprintf(to, "  pattern %s\n", p->pattern);
    if (p->alpha != 0) {
        char name[ENTMAX_NAME_SIZE];
        entmax_option_name(p->alpha, name);
        fprintf(to, "  %s, lists of %d keys\n", name, p->support);
    }
    if (p->documents) fprintf(to, "  %lld documents\n", (long long)p->document_count);
    print_scores(to, p);
    const longspan_plan *plan = r->job->plan;
    const int ranks = plan->context->ranks;
    fprintf(to, "  %s over %s shards%s, %d rank%s x %d thread%s, %s kernel, %s arithmetic\n", plan_strategy_name(plan),
            plan_layout_name(plan), plan->schedule->shares_memory ? " in shared memory" : "", ranks,
            ranks == 1 ? "" : "s", r->threads, r->threads == 1 ? "" : "s", r->job->kernel->name,
            plan_compute_name(plan));
}

void run_report_print(FILE *to, const run_report *r, const run_repeat *shown, const run_phase *phases, int phase_count,
                      double elapsed)
{
    print_what(to, r);
    run_report_print_numbers(to, r, shown, phases, phase_count, elapsed);
}

void run_report_print_numbers(FILE *to, const run_report *r, const run_repeat *shown, const run_phase *phases,
                              int phase_count, double elapsed)
{
    const double mega = 1.0 / 1048576;
    fprintf(to, "\n  %-8s %11s %11s %11s %8s %8s\n", "seconds", "min", "mean", "max", "of rank", "share");
    double rest = elapsed;
    for (int i = 0; i < phase_count; i++) {
        const report_statistics *t = &phases[i].seconds;
        fprintf(to, "  %-8s %11.4f %11.4f %11.4f %8d %7.1f%%\n", phases[i].name, t->min, t->mean, t->max, t->max_rank,
                elapsed > 0 ? 100 * t->mean / elapsed : 0);
        rest -= t->mean;
    }
    if (rest < 0) rest = 0;
    fprintf(to, "  %-8s %11s %11.4f %11s %8s %7.1f%%\n", "other", "", rest, "", "",
            elapsed > 0 ? 100 * rest / elapsed : 0);
    fprintf(to, "  %-8s %11s %11.4f\n\n", "all", "", elapsed);
    fprintf(to, "  rate     %.2f GFLOP/s: %.1f %% of the %.1f GFLOP/s peak measured on these ranks now\n",
            r->flops_rate * 1e-9, r->peak > 0 ? 100 * r->flops_rate / r->peak : 0, r->peak * 1e-9);
    if (shown->bytes_sent.max > 0)
        fprintf(to, "  sent     %.2f MiB a rank (min %.2f on rank %d, max %.2f on rank %d), overlap %.0f %%\n",
                shown->bytes_sent.mean * mega, shown->bytes_sent.min * mega, shown->bytes_sent.min_rank,
                shown->bytes_sent.max * mega, shown->bytes_sent.max_rank, 100 * shown->overlap);
    else fprintf(to, "  sent     nothing\n");
    if (r->job->context->ranks > 1)
        fprintf(to, "  parallel %.1f %% efficient: load balance %.1f %%, communication efficiency %.1f %%\n",
                100 * shown->load_balance * shown->communication_efficiency, 100 * shown->load_balance,
                100 * shown->communication_efficiency);
    run_steps_print(to, &r->step_times);
    if (r->predicted.seconds > 0)
        fprintf(to, "  model    %.4f s predicted, bound by %s; %.4f s measured\n", r->predicted.seconds,
                prediction_bound_name(r->predicted.bound), r->median_wall);
    fprintf(to, "  memory   at most %.1f MiB resident (rank %d; mean %.1f)\n", r->memory.max * mega, r->memory.max_rank,
            r->memory.mean * mega);
}

void run_report_print_median(FILE *to, const run_report *r)
{
    double least = r->repeats[0].wall, most = least;
    for (int i = 1; i < r->count; i++) {
        least = fmin(least, r->repeats[i].wall);
        most = fmax(most, r->repeats[i].wall);
    }
    fprintf(to, "  median   %.6f s of %d (min %.6f, max %.6f); the table is of the repetition next to it\n",
            r->median_wall, r->count, least, most);
}

bool run_report_write(const session *s, const char *path, bool force, json_t *root, failure *f)
{
    char *text = NULL;
    if (s->rank == 0) {
        text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
        if (!text) failure_set(f, LONGSPAN_ERROR_MEMORY, "%s: the report could not be put together", path);
    }
    output_file_write_text(s->comm, path, text, text ? strlen(text) : 0, force, f);
    free(text);
    json_decref(root);
    if (f->status != LONGSPAN_OK) session_fail(s, f);
    return f->status == LONGSPAN_OK;
}
