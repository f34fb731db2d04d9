/* The folds of a step as calls of the kernel.
 *
 * A kernel call takes any number of spans (query rows with a state, and the key segments to fold into it), all of the
 * same heads. A run of folds of the same queries becomes one span a batch item, so that a query's keys are folded in
 * order by one thread. What must be a call of its own:
 *   - folds of other heads; and within heads, those of key/value heads that are shared only in part: query heads [3, 9)
 *     in groups of 4 are the heads 3, 4 to 7 and 8, three calls at most;
 *   - under a striped layout, keys of another rank, since keys are numbered there by their row on the rank that owns
 * them, and a span says once which keys its rows see. Calls of the same queries follow each other, in waves;
 *   - folds of another turn, whose queries may be those of this one: slices of a sparse pattern.
 * Folds of selected blocks list their rows and are of one key head: those of all key heads are spans of one call, each
 * of which follows those of its head.
 *
 * Keys of other layouts are numbered by their token; those of a slice by their token over its stride, so that strided
 * queries and keys are rows that are further apart. */
#ifndef RUNTIME_FOLDS_H
#define RUNTIME_FOLDS_H

#include "kernels/attention.h"
#include "runtime/longspan.h"
#include "runtime/rows.h"

typedef struct {
    const longspan_problem *problem; /* with its defaults */
    const schedule_problem *scheduled;
    int rank, threads;
    bool positions_matter;    /* scores depend on them, or what is kept of keys names them */
    double *rope_frequencies; /* [rope_dim / 2] */

    /* Of local queries: the tokens of keys that each sees, by the mask alone, and positions. [T] */
    int64_t *home_begin, *home_end, *home_positions;

    /* Of one call, each enough for the largest. */
    attention_span *spans;
    attention_segment *segments;
    int64_t *visible_begin, *visible_end, *query_positions, *key_positions;

    double *step_flops; /* of each step of the schedule */
} fold_plan;

/* Not collective. Allocates and fills what does not change between executes. `problem`, `scheduled` and the schedule
 * must outlive it. Returns 0, or -1 if memory ran out; to be freed either way. */
int fold_plan_create(fold_plan *folds_p, const longspan_problem *problem, const schedule_problem *scheduled,
                     const schedule *s, int rank, int threads);
void fold_plan_free(fold_plan *folds);

/* One call among those of a step. Begins as {0}. */
typedef struct {
    head_range heads;    /* of this call */
    int64_t first, last; /* folds of the step that have heads in common with it: [first, last) */
    int part, wave;
} fold_call;

/* The next call of the step, or false. */
bool fold_call_next(const fold_plan *folds, const schedule_step *step, fold_call *call);

/* Where the rows of folds are. */
typedef struct {
    const row_format *formats;
    const row_stores *own;
    const row_stores *node; /* of the ranks of the node, or NULL */
    int node_first;         /* the first of them */
} fold_memory;

/* The spans of a call, in folds->spans; returns how many. Allocates nothing. */
int64_t fold_call_spans(fold_plan *folds, const fold_memory *memory, const schedule_step *step, const fold_call *call);

#endif
