/* What a plan of alpha-entmax attention has besides: lists of keys, and values that travel apart from keys. */
#ifndef RUNTIME_ENTMAX_H
#define RUNTIME_ENTMAX_H

#include "kernels/entmax.h"
#include "runtime/execution.h"

struct plan_entmax {
    const entmax_kernel *kernel;
    entmax_rows rows; /* of the queries; high and low are m and l of the plan's states */
    double exponent;
    float *slopes; /* [H] in units of z, NULL: none */
    row_store *value_slots;
    row_stores values; /* those of the plan, the first tensor of keys being v */
    exchange *value_exchange;
    step_record *spare_records; /* of passes after the first */
};

/* Kernels take scores times log2(e), which this undoes: (alpha - 1) ln 2. */
static inline double entmax_factor(const longspan_problem *problem)
{
    return (problem->alpha - 1) * 0.693147180559945309417232;
}

/* Not collective. Bytes of what is kept of a query row of one head, beside its state. */
int64_t entmax_row_bytes(const longspan_problem *problem);

/* Not collective. Everything of plan->entmax, and the exchange of keys alone, once the rest of the plan's buffers are
 * there. Failures go to *f; the plan may be half filled. */
void entmax_plan_create(longspan_plan *plan, failure *f);
void entmax_plan_destroy(longspan_plan *plan); /* of none, too */

/* Collective. As longspan_plan_execute, from where the arguments have been looked at, `begin` s ago on. */
longspan_status entmax_execute(longspan_plan *plan, double begin, void *out, float *threshold);

#endif
