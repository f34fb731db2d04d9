/* The plan's own relative keys: as they came, and as the kernel reads them. */
#include "runtime/plan.h"

#include <stdlib.h>
#include <string.h>

/* [H, D], the caller's, or zeros. */
static float *bias_copy(const longspan_problem *p, const float *bias, failure *f)
{
    const int64_t count = (int64_t)p->heads * p->dim;
    if (bias) return plan_copy(bias, count, sizeof *bias, f);
    float *zeros = plan_allocate(count, sizeof *zeros, "the biases of relative keys", f);
    if (zeros) memset(zeros, 0, (size_t)count * sizeof *zeros);
    return zeros;
}

void plan_relative_create(longspan_plan *plan, failure *f)
{
    longspan_problem *p = &plan->problem;
    plan_relative *own = &plan->relative;
    int64_t left, right;
    if (!p->relative_keys) return;
    if (plan->compute != COMPUTE_FP32)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "relative_keys need compute 'fp32'; they do not go with '%s'",
                    attention_compute_name(plan->compute));
    if (f->status != LONGSPAN_OK || problem_relative_sides(p, &left, &right, f) != LONGSPAN_OK) return;
    const int offsets = (int)p->relative_count;
    own->table_floats = attention_relative_table_floats(offsets, p->dim);
    own->keys = plan_copy(p->relative_keys, p->relative_count * p->heads * p->dim, sizeof *own->keys, f);
    own->u = bias_copy(p, p->relative_bias_u, f);
    own->w = bias_copy(p, p->relative_bias_w, f);
    own->table = plan_allocate(p->heads, own->table_floats * sizeof *own->table, "the table of relative keys", f);
    own->workspace =
        plan_allocate(1, attention_relative_workspace_size(plan->context->threads, p->dim, p->value_dim, offsets),
                      "the kernel's workspace", f);
    p->relative_keys = own->keys;
    p->relative_bias_u = p->relative_bias_u ? own->u : NULL;
    p->relative_bias_w = p->relative_bias_w ? own->w : NULL;
    if (f->status != LONGSPAN_OK) return;
    attention_relative_prepare(own->keys, offsets, p->heads, p->dim, own->table);
    own->of_heads = (attention_relative){.left = (int)left, .right = (int)right, .workspace = own->workspace};
}

const attention_relative *plan_relative_of(longspan_plan *plan, int head)
{
    plan_relative *own = &plan->relative;
    if (!own->table) return NULL;
    own->of_heads.u = own->u + (int64_t)head * plan->problem.dim;
    own->of_heads.w = own->w + (int64_t)head * plan->problem.dim;
    own->of_heads.table = own->table + (size_t)head * own->table_floats;
    return &own->of_heads;
}

void plan_relative_free(longspan_plan *plan)
{
    free(plan->relative.keys);
    free(plan->relative.u);
    free(plan->relative.w);
    free(plan->relative.table);
    free(plan->relative.workspace);
    plan->relative = (plan_relative){0};
}
