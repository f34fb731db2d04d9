#include "runtime/cli/linear_report.h"

#include "runtime/linear_plan.h"

run_repeat linear_repeat_gather(MPI_Comm comm, const linear_job *j, double wall)
{
    longspan_timing timing;
    longspan_linear_plan_timing(j->plan, &timing);
    return run_repeat_gather(comm, &timing, wall);
}

run_report linear_report_gather(MPI_Comm comm, const linear_job *j, run_repeat *repeats, int count)
{
    longspan_timing timing;
    longspan_linear_plan_timing(j->plan, &timing);
    run_report r = run_report_measure(comm, &j->base, timing.steps, repeats, count);
    int64_t steps;
    const step_record *records = linear_plan_steps(j->plan, &steps);
    r.step_times = run_steps_gather(comm, records, steps);
    return r;
}

json_t *linear_problem_json(const longspan_linear_problem *p)
{
    return json_pack("{s:s, s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:I, s:f}", "attention",
                     p->attention, "batch", (json_int_t)p->batch, "tokens", (json_int_t)p->tokens, "heads", p->heads,
                     "k_heads", p->k_heads, "v_heads", p->v_heads, "dim", p->dim, "value_dim", p->value_dim, "features",
                     p->feature_count, "type", run_type_name(p->type), "out_type", run_type_name(p->out_type), "mask",
                     p->causal ? "causal" : "full", "documents", (json_int_t)p->document_count, "scale", p->scale);
}

json_t *linear_report_json(const run_report *r, const linear_job *j)
{
    json_t *plan =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:i, s:i, s:f}", "strategy", linear_job_strategy(j), "layout",
                  "contiguous", "compute", "fp32", "isa", j->base.kernel->name, "ranks", j->base.context->ranks,
                  "threads", r->threads, "steps", (json_int_t)r->steps, "state_features", j->state.features,
                  "state_width", j->state.width, "predicted_seconds", j->plan->predicted);
    return run_report_json_of(r, linear_problem_json(&j->problem), plan);
}

void linear_problem_print(FILE *to, const longspan_linear_problem *p)
{
    char heads[96] = "", value_dim[32] = "", batch[64] = "", features[32] = "", out[32] = "";
    if (p->k_heads != p->heads || p->v_heads != p->heads)
        snprintf(heads, sizeof heads, " (%d of keys, %d of values)", p->k_heads, p->v_heads);
    if (p->value_dim != p->dim) snprintf(value_dim, sizeof value_dim, " (values %d)", p->value_dim);
    if (p->batch > 1) snprintf(batch, sizeof batch, "%lld sequences of ", (long long)p->batch);
    if (p->feature_count > 0) snprintf(features, sizeof features, ", %d features", p->feature_count);
    if (p->out_type != p->type) snprintf(out, sizeof out, " to %s", run_type_name(p->out_type));
    fprintf(to, "%s %s attention: %s%lld tokens, %d heads%s of %d%s%s, %s%s\n", p->causal ? "causal" : "full",
            p->attention, batch, (long long)p->tokens, p->heads, heads, p->dim, value_dim, features,
            run_type_name(p->type), out);
    if (p->documents) fprintf(to, "  %lld documents\n", (long long)p->document_count);
}

void linear_report_print(FILE *to, const run_report *r, const linear_job *j, const run_repeat *shown,
                         const run_phase *phases, int phase_count, double elapsed)
{
    const int ranks = j->base.context->ranks;
    linear_problem_print(to, &j->problem);
    fprintf(to, "  %s over contiguous shards, states of %d x %d, %d rank%s x %d thread%s, %s kernel\n",
            linear_job_strategy(j), j->state.features, j->state.width, ranks, ranks == 1 ? "" : "s", r->threads,
            r->threads == 1 ? "" : "s", j->base.kernel->name);
    run_report_print_numbers(to, r, shown, phases, phase_count, elapsed);
    fprintf(to, "  model    %.4g s predicted; %.4g s measured\n", j->plan->predicted, r->median_wall);
}
