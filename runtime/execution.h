/* One pass of an execute over its schedule: what executor.c and entmax_executor.c share. */
#ifndef RUNTIME_EXECUTION_H
#define RUNTIME_EXECUTION_H

#include "runtime/plan.h"

typedef struct execution execution;

/* Gives spans to the kernel; what differs from the plan's arithmetic is put into *call first. */
typedef void execution_fold_fn(const execution *x, attention_call *call, const attention_span *spans, int64_t count);

struct execution {
    longspan_plan *plan;
    exchange *exchanges[2]; /* whose transfers travel meanwhile */
    int exchange_count;
    execution_fold_fn *fold;
    const void *fold_data;
    double done, now; /* flops of the finished calls, and of the running one */
    int64_t step;     /* as the trace numbers it */
};

/* Not collective. The folds of a step of the schedule, call by call; polls between tiles. */
void execution_run_folds(execution *x, int64_t step);

#endif
