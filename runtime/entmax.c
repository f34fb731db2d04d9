/* Memory and exchanges of alpha-entmax attention. */
#include "runtime/entmax.h"

#include <stdlib.h>
#include <string.h>

static int room_for(const longspan_problem *p)
{
    return (p->support + ENTMAX_LIST_UNIT - 1) / ENTMAX_LIST_UNIT * ENTMAX_LIST_UNIT;
}

int64_t entmax_row_bytes(const longspan_problem *p)
{
    const entmax_rows *r = NULL;
    return room_for(p) * (int64_t)(sizeof *r->weights + sizeof *r->keys) +
           (int64_t)(sizeof *r->lengths + sizeof *r->stages + sizeof *r->bounds + 2 * sizeof *r->sums);
}

static void allocate_rows(longspan_plan *plan, failure *f)
{
    static const char what[] = "the keys that queries keep (support)";
    entmax_rows *rows = &plan->entmax->rows;
    const longspan_problem *p = &plan->problem;
    const int64_t count = p->batch * plan->query_tokens * p->heads;
    *rows = (entmax_rows){.count = count, .room = room_for(p)};
    rows->weights = plan_allocate(count, (size_t)rows->room * sizeof *rows->weights, what, f);
    rows->keys = plan_allocate(count, (size_t)rows->room * sizeof *rows->keys, what, f);
    rows->lengths = plan_allocate(count, sizeof *rows->lengths, what, f);
    rows->stages = plan_allocate(count, sizeof *rows->stages, what, f);
    rows->bounds = plan_allocate(count, sizeof *rows->bounds, what, f);
    rows->sums = plan_allocate(count, 2 * sizeof *rows->sums, what, f);
    const row_store *states = &plan->stores.home[ROWS_STATES];
    rows->high = (float *)(void *)states->data[1];
    rows->low = (float *)(void *)states->data[2];
}

/* ALiBi's slopes in units of z times ln 2: see entmax_call. */
static void scale_slopes(longspan_plan *plan, double factor, failure *f)
{
    const longspan_problem *p = &plan->problem;
    if (!p->alibi_slopes) return;
    float *slopes = plan->entmax->slopes = plan_copy(p->alibi_slopes, p->heads, sizeof *slopes, f);
    for (int h = 0; slopes && h < p->heads; h++) slopes[h] = (float)((double)slopes[h] * factor);
}

/* One tensor a row of keys: k by the plan's exchange, v by another of the same schedule. */
static void create_exchanges(longspan_plan *plan, failure *f)
{
    struct plan_entmax *e = plan->entmax;
    const longspan_context *context = plan->context;
    const schedule *s = plan->schedule;
    row_format formats[ROWS_KINDS];
    memcpy(formats, plan->formats, sizeof formats);
    formats[ROWS_KEYS].tensors = 1;
    plan->exchange = exchange_create(context->comm, context->node.comm, s, plan->problem.batch, formats, &plan->stores);
    e->value_slots = plan_copy(plan->stores.slots, s->slot_count, sizeof *e->value_slots, f);
    if (!e->value_slots) return;
    e->values = plan->stores;
    e->values.slots = e->value_slots;
    formats[ROWS_KEYS].head_bytes[0] = plan->formats[ROWS_KEYS].head_bytes[1];
    e->value_exchange = exchange_create(context->comm, context->node.comm, s, plan->problem.batch, formats, &e->values);
    if (!plan->exchange || !e->value_exchange) failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the exchange");
}

void entmax_plan_create(longspan_plan *plan, failure *f)
{
    const longspan_problem *p = &plan->problem;
    struct plan_entmax *e = plan->entmax = calloc(1, sizeof *e);
    if (!e) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for a plan");
        return;
    }
    e->kernel = entmax_kernel_find(plan->context->kernel->name);
    e->exponent = 1 / (p->alpha - 1);
    allocate_rows(plan, f);
    scale_slopes(plan, entmax_factor(p), f);
    e->spare_records = plan_allocate(plan->schedule->step_count, sizeof *e->spare_records, "the steps' records", f);
    create_exchanges(plan, f);
}

void entmax_plan_destroy(longspan_plan *plan)
{
    struct plan_entmax *e = plan->entmax;
    if (!e) return;
    exchange_destroy(e->value_exchange);
    free(e->value_slots);
    free(e->spare_records);
    free(e->slopes);
    free(e->rows.weights);
    free(e->rows.keys);
    free(e->rows.lengths);
    free(e->rows.stages);
    free(e->rows.bounds);
    free(e->rows.sums);
    free(e);
    plan->entmax = NULL;
}
