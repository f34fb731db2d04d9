/* The plan behind longspan_plan: the problem, this rank's schedule, and every buffer that execute needs. */
#ifndef RUNTIME_PLAN_H
#define RUNTIME_PLAN_H

#include "partition/choice.h"
#include "runtime/exchange.h"
#include "runtime/folds.h"
#include "runtime/problem.h"
#include "runtime/shared_memory.h"

/* Where ranks run: what a choice of strategy depends on besides the problem. */
typedef struct {
    int ranks;
    int node_ranks; /* of a node, as schedule_problem has it */
    bool may_share; /* ranks of a node may read each other's keys in place */
    bool share_off; /* not so because the options say it */
    prediction_machine machine;
    int64_t memory_bytes; /* that a rank may use; 0: as many as it likes */
    bool cores_shared; /* threads of ranks outnumber the cores: who waits lets others work */
} placement;

enum { PLAN_NAME_MAX = 32 };

/* What was chosen, by its name: "hybrid:4x8", "striped:64". */
typedef struct {
    char strategy[PLAN_NAME_MAX], layout[PLAN_NAME_MAX];
} plan_names;

/* Of relative keys; NULLs without them. */
typedef struct {
    float *keys, *u, *w; /* as in the problem; u and w zeros where it has none */
    float *table;        /* [H, table_floats] */
    size_t table_floats;
    void *workspace;
    attention_relative of_heads; /* of those of the call that runs */
} plan_relative;

struct longspan_plan {
    longspan_context *context;
    longspan_problem problem; /* every default filled in; arrays and names are the plan's own */
    int64_t *documents, *key_lengths, *block_offsets, *block_keys;
    char *pattern_text;
    pattern_sum *pattern; /* NULL where the problem has none */
    float *alibi_slopes, *sinks;
    plan_relative relative;
    plan_names names;
    const strategy *strategy;
    schedule_problem scheduled;
    schedule *schedule;
    attention_compute compute;
    prediction_machine machine; /* what was chosen for */
    double predicted_seconds;   /* of an execute */

    int64_t query_tokens, key_tokens; /* T of queries and of keys */
    row_format formats[ROWS_KINDS];
    row_stores stores; /* home: k, v and q are the caller's, set by execute, or k, v in shared memory; the state */
    row_stores *node;  /* [node_ranks] of the ranks of the node, keys alone; NULL unless the schedule shares memory */
    shared_memory *shared; /* NULL unless the schedule shares memory */
    fold_plan folds;
    exchange *exchange; /* of keys alone where there is entmax */
    void *workspace;
    struct plan_entmax *entmax; /* NULL: softmax */

    double flops;         /* of all steps */
    step_record *records; /* of each step, what the last execute did; of entmax those of its first and its last pass */
    int64_t record_count;
    longspan_timing timing;
};

/* Not collective. Ranks the strategies and layouts that a complete problem (problem.h) leaves open
 * (partition/choice.h): the first is what plan_choose takes. *choices_p is to be freed; it borrows problem->documents
 * and the pattern (problem_pattern), which may be NULL. Both are set only on success. A named strategy that refuses
 * every layout left open is a failure. Pure: the same on every rank. */
longspan_status plan_rank(const longspan_problem *problem, const pattern_sum *pattern, const placement *place,
                          choice **choices_p, int *count_p, failure *f);
/* The same, but only what is taken, and the seconds that an execute should take. */
longspan_status plan_choose(const longspan_problem *problem, const pattern_sum *pattern, const placement *place,
                            schedule_problem *scheduled_p, const strategy **strategy_p, double *seconds_p, failure *f);
/* Not collective. The same where there is no choice: a selection, in contiguous layouts; without its lists. */
schedule_problem plan_scheduled(const longspan_problem *problem, const placement *place);
/* Not collective. The names of what was chosen. */
plan_names plan_name_choice(const schedule_problem *scheduled, const strategy *strategy);

/* Collective. Puts this rank's keys and slots of keys where its node can read them. Fails on all ranks or on none. */
longspan_status plan_share_memory(longspan_plan *plan, failure *f);
/* Not collective. Undoes it, also when it was half done or never; nobody may read the keys any more. */
void plan_unshare_memory(longspan_plan *plan);

/* Not collective. As longspan_plan_rows, of any layout. */
longspan_status plan_layout_rows(const layout *l, int rank, longspan_range *ranges, int64_t capacity, int64_t *count_p);

/* A head of a row of states, as the kernels take it. */
static inline attention_state plan_state_at(const longspan_plan *plan, const row_store *store, int64_t b, int64_t row,
                                            int head)
{
    float *part[ROW_TENSORS];
    for (int t = 0; t < ROW_TENSORS; t++)
        part[t] = (float *)(void *)row_at(store, &plan->formats[ROWS_STATES], t, b, row, head);
    return (attention_state){part[0], part[1], part[2], heads_count(store->heads)};
}

/* Not collective. Makes the problem's relative keys the plan's own (runtime/plan_relative.c); nothing without them. */
void plan_relative_create(longspan_plan *plan, failure *f);
void plan_relative_free(longspan_plan *plan);
/* As a call of the kernel for heads from `head` on takes them, until the next one; NULL without them. */
const attention_relative *plan_relative_of(longspan_plan *plan, int head);

/* Not collective. memory_allocate of `count` elements of `size` bytes, and the same with a copy of `values`; a failure
 * when there is no room. */
void *plan_allocate(int64_t count, size_t size, const char *what, failure *f);
void *plan_copy(const void *values, int64_t count, size_t size, failure *f);

/* Collective. Fails where ranks would compute with another kernel or arithmetic than others: "auto" is the same text on
 * every rank, and each resolves it by its own CPU. */
longspan_status plan_agree_on_kernel(longspan_context *context, const char *kernel, attention_compute compute,
                                     failure *f);

/* Not collective. Makes room in the trace for an execute of so many steps, and on each of so many threads for as many
 * calls of the kernel. False if memory ran out. */
bool plan_trace_reserve(trace *t, int64_t steps, int threads, int64_t calls);
/* Notes an execute in the trace, if there is one: from `begin`, the steps' records, from `finish` to `end`. */
void plan_trace(trace *t, const step_record *records, int64_t steps, double begin, double finish, double end);

/* Not collective. What the cost model says of the plan. Fails with MEMORY. */
longspan_status plan_predict(const longspan_plan *plan, prediction *prediction_p, failure *f);
/* Not collective; a problem with its defaults. */
cost_sizes plan_sizes(const longspan_problem *problem);

/* Not collective. What was chosen. */
const char *plan_strategy_name(const longspan_plan *plan);
const char *plan_layout_name(const longspan_plan *plan);
/* Not collective. The arithmetic of the folds: "fp32", "bf16x6", ... */
const char *plan_compute_name(const longspan_plan *plan);

/* Not collective. What this rank did in each step of the last execute; NULL and 0 before the first. The plan's own. */
const step_record *plan_steps(const longspan_plan *plan, int64_t *count_p);

/* 2 problem_pair_elements H B: flops for one (query, key) pair that all heads and batch items see. */
double plan_flops_per_pair(const longspan_problem *p);

#endif
