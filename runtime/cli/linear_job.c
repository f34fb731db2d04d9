#include "runtime/cli/linear_job.h"

#include "runtime/cli/linear_wanted.h"
#include "runtime/cli/trace_file.h"
#include "runtime/linear_plan.h"

#include <stdlib.h>

void linear_problem_from_input(const input_file *input, const linear_variant *variant,
                               longspan_linear_problem *problem_p)
{
    const attention_shapes *shapes = &input->shapes;
    longspan_linear_problem p;
    longspan_linear_problem_default(&p);
    p.attention = variant->name;
    p.batch = shapes->q.batch;
    p.tokens = shapes->q.tokens;
    p.heads = shapes->q.heads;
    p.k_heads = shapes->k.heads;
    p.v_heads = shapes->v.heads;
    p.dim = shapes->q.dim;
    p.value_dim = shapes->v.dim;
    p.type = p.out_type = (longspan_type)shapes->q.type;
    p.documents = input->extras.documents;
    p.document_count = input->extras.document_count;
    p.head_log_decay = input->linear.head_log_decay;
    p.bonus = input->linear.bonus;
    p.features = input->linear.features;
    p.feature_count = input->linear.feature_count;
    *problem_p = p;
}

void linear_problem_from_options(const options *o, longspan_linear_problem *problem_p)
{
    longspan_linear_problem p;
    longspan_linear_problem_default(&p);
    p.attention = o->linear->name;
    p.batch = o->batch ? o->batch : 1;
    p.tokens = o->tokens;
    p.heads = o->heads ? o->heads : 8;
    p.k_heads = o->kv_heads ? o->kv_heads : p.heads;
    p.v_heads = o->value_heads ? o->value_heads : p.k_heads;
    p.dim = o->dim ? o->dim : 64;
    p.value_dim = o->value_dim ? o->value_dim : p.dim;
    p.type = p.out_type = o->type;
    p.documents = o->documents;
    p.document_count = o->document_count;
    if (o->linear->map == LINEAR_MAP_FAVOR) p.feature_count = o->features ? o->features : p.dim;
    *problem_p = p;
}

void linear_problem_choose(const options *o, longspan_linear_problem *p)
{
    p->causal = o->mask.causal;
    if (o->out_type_given) p->out_type = o->out_type;
    if (o->scale > 0) p->scale = o->scale;
    p->strategy = o->strategy;
}

int64_t linear_state_sums(const linear_job *j)
{
    return j->state.batch * j->state.heads * j->state.features * j->state.width;
}

int64_t linear_state_references(const linear_job *j)
{
    return j->state.batch * j->state.heads * j->state.reference;
}

/* Room for a state; a reference only where there is one. */
static void allocate_state(const linear_job *j, longspan_linear_state *state, failure *f)
{
    state->sums = job_allocate("the state", linear_state_sums(j), 1, 1, sizeof(double), f);
    if (j->state.reference > 0)
        state->reference = job_allocate("the state's exponents", linear_state_references(j), 1, 1, sizeof(double), f);
}

static void allocate_arrays(const session *s, linear_job *j, failure *f)
{
    const longspan_linear_problem *p = &j->problem;
    const int64_t rows = p->batch * (j->rows.end - j->rows.begin);
    const int heads = linear_problem_heads(p), axes = linear_log_decay_axes(j->variant);
    const size_t size = number_size((kernel_type)p->type), out_size = number_size((kernel_type)p->out_type);
    j->base.q = job_allocate("q", rows, p->heads, p->dim, size, f);
    j->base.k = job_allocate("k", rows, p->k_heads, p->dim, size, f);
    j->base.v = job_allocate("v", rows, p->v_heads, p->value_dim, size, f);
    j->base.out = job_allocate("out", rows, heads, p->value_dim, out_size, f);
    if (axes > 1) j->log_decay = job_allocate("log_decay", rows, heads, axes > 2 ? p->dim : 1, sizeof(float), f);
    if (j->variant->has_beta) j->beta = job_allocate("beta", rows, heads, 1, sizeof(float), f);
    if (j->has_initial && s->rank == longspan_linear_plan_first_rank(j->plan)) allocate_state(j, &j->initial, f);
    if (j->has_final && s->rank == longspan_linear_plan_last_rank(j->plan)) allocate_state(j, &j->final, f);
}

bool linear_job_open(const session *s, const options *o, const longspan_linear_problem *problem, bool has_initial,
                     bool has_final, void (*progress)(void *progress_data, double fraction), void *progress_data,
                     linear_job *job_p, failure *f)
{
    linear_job *j = job_p;
    *j = (linear_job){.problem = *problem, .has_initial = has_initial, .has_final = has_final};
    j->variant = linear_variant_find(problem->attention);
    if (!job_open_context(s, o, progress, progress_data, &j->base, f)) return false;
    linear_problem_complete(&j->problem, f);
    if (!session_agree(s, f)) return false;
    const double planning = MPI_Wtime();
    const longspan_status planned = longspan_linear_plan_create(j->base.context, &j->problem, &j->plan);
    trace_file_phase(j->base.trace, "plan", planning);
    if (!job_check(s, &j->base, planned, f)) return false;
    job_planned(s, &j->base);
    job_warn_of_memory(s, j->plan->strategy->name, "contiguous", j->plan->memory_bytes,
                       j->base.context->seat.memory_bytes);
    j->rows = longspan_linear_plan_rows(j->plan);
    j->state = (state_shape){.batch = j->problem.batch, .heads = linear_problem_heads(&j->problem)};
    longspan_linear_plan_state_shape(j->plan, &j->state.features, &j->state.width, &j->state.reference);
    allocate_arrays(s, j, f);
    return session_agree(s, f);
}

bool linear_job_execute(const session *s, linear_job *j, failure *f)
{
    const longspan_linear_arrays arrays = {.q = j->base.q,
                                           .k = j->base.k,
                                           .v = j->base.v,
                                           .log_decay = j->log_decay,
                                           .beta = j->beta,
                                           .initial = j->has_initial ? &j->initial : NULL,
                                           .final = j->has_final ? &j->final : NULL};
    return job_check(s, &j->base, longspan_linear_plan_execute(j->plan, &arrays, j->base.out), f);
}

const char *linear_job_strategy(const linear_job *j)
{
    return linear_plan_strategy_name(j->plan);
}

void linear_job_close(linear_job *j)
{
    free(j->log_decay);
    free(j->beta);
    free(j->initial.sums);
    free(j->initial.reference);
    free(j->final.sums);
    free(j->final.reference);
    longspan_linear_plan_destroy(&j->plan);
    job_close(&j->base);
    *j = (linear_job){0};
}
