#include "runtime/cli/run_report.h"

#include "runtime/cli/files.h"
#include "runtime/plan.h"

#include <stdlib.h>
#include <string.h>

enum { PEAK_MILLISECONDS = 20 };

run_repeat run_repeat_gather(MPI_Comm comm, const longspan_plan *plan, double wall)
{
    longspan_timing t;
    longspan_plan_timing(plan, &t);
    run_repeat r = {
        .wall = report_reduce(comm, wall).max,
        .compute = report_reduce(comm, t.compute),
        .wait = report_reduce(comm, t.wait),
        .finish = report_reduce(comm, t.finish),
        .transfer = report_reduce(comm, t.transfer),
        .total = report_reduce(comm, t.total),
        .bytes_sent = report_reduce(comm, (double)t.bytes_sent),
    };
    MPI_Allreduce(&t.flops, &r.flops, 1, MPI_DOUBLE, MPI_SUM, comm);
    r.overlap = r.transfer.mean > 0 ? 1 - r.wait.mean / r.transfer.mean : 1;
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

run_report run_report_gather(MPI_Comm comm, const job *j, run_repeat *repeats, int count)
{
    longspan_timing t;
    longspan_plan_timing(j->plan, &t);
    run_report r = {
        .job = j,
        .repeats = repeats,
        .count = count,
        .median_wall = (nth_wall(repeats, count, (count - 1) / 2) + nth_wall(repeats, count, count / 2)) / 2,
        .peak = report_peak(comm, j->kernel, j->threads, PEAK_MILLISECONDS * 1e-3),
        .memory = report_reduce(comm, (double)report_peak_memory()),
        .steps = (int64_t)report_reduce(comm, (double)t.steps).max,
        .threads = (int)report_reduce(comm, j->threads).max,
    };
    r.flops_rate = r.median_wall > 0 ? repeats[0].flops / r.median_wall : 0;
    return r;
}

const char *run_type_name(longspan_type type)
{
    return io_type_name((io_type)type);
}

json_t *run_problem_json(const longspan_problem *p)
{
    return json_pack("{s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:f, s:I}", "batch", (json_int_t)p->batch,
                     "queries", (json_int_t)p->queries, "keys", (json_int_t)p->keys, "heads", p->heads, "kv_heads",
                     p->kv_heads, "dim", p->dim, "value_dim", p->value_dim, "type", run_type_name(p->type), "out_type",
                     run_type_name(p->out_type), "mask", job_mask_name(p), "scale", p->scale, "documents",
                     (json_int_t)p->document_count);
}

static json_t *repeat_json(const run_repeat *r)
{
    return json_pack("{s:f, s:{s:o, s:o, s:o, s:o, s:o}, s:f, s:o, s:f}", "wall", r->wall, "phases", "compute",
                     report_statistics_json(&r->compute), "wait", report_statistics_json(&r->wait), "finish",
                     report_statistics_json(&r->finish), "transfer", report_statistics_json(&r->transfer), "total",
                     report_statistics_json(&r->total), "flops", r->flops, "bytes_sent",
                     report_statistics_json(&r->bytes_sent), "overlap", r->overlap);
}

json_t *run_report_json(const run_report *r)
{
    const longspan_plan *plan = r->job->plan;
    json_t *repeats = json_array();
    for (int i = 0; i < r->count; i++) json_array_append_new(repeats, repeat_json(&r->repeats[i]));
    return json_pack("{s:o, s:{s:s, s:s, s:s, s:s, s:i, s:i, s:I}, s:o, s:f, s:f, s:f, s:f, s:o, s:o, s:o}", "problem",
                     run_problem_json(&r->job->problem), "plan", "strategy", plan_strategy_name(plan), "layout",
                     plan_layout_name(plan), "compute", "fp32", "isa", r->job->kernel->name, "ranks",
                     plan->context->ranks, "threads", r->threads, "steps", (json_int_t)r->steps, "repeat", repeats,
                     "median_wall", r->median_wall, "gflops", r->flops_rate * 1e-9, "peak_gflops", r->peak * 1e-9,
                     "fraction_of_peak", r->peak > 0 ? r->flops_rate / r->peak : 0, "memory_peak_bytes",
                     report_statistics_json(&r->memory), "machine", report_machine_json(), "versions",
                     report_versions_json());
}

static void print_what(FILE *to, const run_report *r)
{
    const longspan_problem *p = &r->job->problem;
    char keys[64] = "", kv_heads[32] = "", value_dim[32] = "", batch[64] = "", out[32] = "";
    if (p->keys != p->queries) snprintf(keys, sizeof keys, " against %lld keys", (long long)p->keys);
    if (p->kv_heads != p->heads) snprintf(kv_heads, sizeof kv_heads, " (%d of keys and values)", p->kv_heads);
    if (p->value_dim != p->dim) snprintf(value_dim, sizeof value_dim, " (values %d)", p->value_dim);
    if (p->batch > 1) snprintf(batch, sizeof batch, "%lld sequences of ", (long long)p->batch);
    if (p->out_type != p->type) snprintf(out, sizeof out, " to %s", run_type_name(p->out_type));
    fprintf(to, "%s attention: %s%lld tokens%s, %d heads%s of %d%s, %s%s\n", job_mask_name(p), batch,
            (long long)p->queries, keys, p->heads, kv_heads, p->dim, value_dim, run_type_name(p->type), out);
    if (p->documents) fprintf(to, "  %lld documents\n", (long long)p->document_count);
    const int ranks = r->job->plan->context->ranks;
    fprintf(to, "  %s over %s shards, %d rank%s x %d thread%s, %s kernel, fp32 arithmetic\n",
            plan_strategy_name(r->job->plan), plan_layout_name(r->job->plan), ranks, ranks == 1 ? "" : "s", r->threads,
            r->threads == 1 ? "" : "s", r->job->kernel->name);
}

void run_report_print(FILE *to, const run_report *r, const run_repeat *shown, const run_phase *phases, int phase_count,
                      double elapsed)
{
    const double mega = 1.0 / 1048576;
    print_what(to, r);
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
    fprintf(to, "  memory   at most %.1f MiB resident (rank %d; mean %.1f)\n", r->memory.max * mega, r->memory.max_rank,
            r->memory.mean * mega);
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
