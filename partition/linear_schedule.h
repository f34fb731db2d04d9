/* How the states of linear attention travel: what one rank does, as data.
 *
 * The sequence is in a contiguous layout. A rank's tokens need the state that the tokens before them have made, back to
 * the beginning of the document that the rank's first token is in; a document boundary resets the state, so nothing
 * travels past one. States are those of units [0, units), see kernels/linear.h: all alike, each a fixed number of
 * bytes, so a transfer is a range of units from a buffer of one rank into one of another.
 *
 * A rank runs its steps in order. In a step it
 *   1. starts all transfers;
 *   2. runs its actions in order, while the transfers travel;
 *   3. waits for all its transfers.
 * An action sees what those before it in the step have left. What a transfer of step s receives may be sent or used, and
 * what the actions of step s leave in a buffer may be sent, from step s + 1 on. A transfer's twin is in the same step of
 * the peer, and transfers between two ranks in one step are in the same order on both, so a schedule cannot deadlock.
 * Units that a step receives into or sends from are not written by its actions; nor are those that it receives into
 * read or sent. A step in which a rank has nothing to do costs it nothing.
 *
 * Buffers hold a state for every unit. Plain integers: no MPI, no floats, no clock. */
#ifndef PARTITION_LINEAR_SCHEDULE_H
#define PARTITION_LINEAR_SCHEDULE_H

#include "partition/layout.h"
#include "partition/schedule.h"

typedef enum {
    LINEAR_CLEAR,     /* buffer becomes the state of nothing seen */
    LINEAR_FOLD,      /* the rank's tokens, onto the state in the buffer; outputs are finished; leaves the last state */
    LINEAR_LEAD,      /* the state that FOLD leaves, with its bits, and no outputs yet */
    LINEAR_SUMMARISE, /* FOLD from nothing; outputs are unfinished; leaves the summary of the run. That of a run in
                         which a document begins is never composed onto another: it need not forget */
    LINEAR_COMPOSE,   /* buffer = other o buffer: what came before, then what `other` did */
    LINEAR_COPY,      /* buffer = other */
    LINEAR_APPLY,     /* the state in the buffer turns out to be what the rank begins with; outputs are finished */
    LINEAR_SUM,       /* without a causal mask: buffer, other = sums of the rank's tokens of its first and of its last
                         document; where there is but one, the same in both */
    LINEAR_ADD,       /* buffer += other */
    LINEAR_READ,      /* without a causal mask: outputs, from the states of the first (buffer) and last (other)
                         document; where there is but one, both are the same buffer */
} linear_action_kind;

typedef struct {
    linear_action_kind kind;
    range units;
    int buffer, other;
} linear_action;

typedef struct {
    transfer_direction direction;
    int peer;
    range units;
    int buffer;
} linear_transfer;

typedef struct {
    linear_transfer *transfers;
    int64_t transfer_count;
    linear_action *actions;
    int64_t action_count;
} linear_step;

typedef struct {
    int rank, buffers;
    linear_step *steps;
    int64_t step_count;
    bool summarises;                  /* states travel with their transitions, see linear_shape */
    int initial_buffer, final_buffer; /* where the rank that has the first token finds the state given, before the
                                         first step; where the rank that has the last token leaves its state, after the
                                         last; -1 on the others, and without a causal mask */
} linear_schedule;

/* What is to be scheduled. Equal on all ranks. */
typedef struct {
    layout layout;            /* contiguous; its grain a multiple of the chunk */
    const int64_t *documents; /* document_count + 1 offsets, or NULL: one document */
    int64_t document_count;
    bool causal;
    int64_t units;
    int64_t stage_units; /* that are worked on, and travel, at a time: at least one a thread */
    bool leads;          /* ranks have cores of their own: work done twice so that others wait less pays */
    bool late;           /* a run can take in late the state that it begins with (efficient attention cannot) */
} linear_schedule_problem;

typedef struct {
    const char *name; /* as in --strategy */
    const char *summary;
    const char *(*refuse)(const linear_schedule_problem *problem); /* NULL, or why not (a static string) */
    /* 0, or -1 if memory ran out; to be freed with linear_schedule_destroy. O(what the rank does), pure. */
    int (*plan)(const linear_schedule_problem *problem, int rank, linear_schedule **schedule_p);
} linear_strategy;

extern const linear_strategy *const linear_strategies[];
extern const int linear_strategy_count;
const linear_strategy *linear_strategy_find(const char *name); /* NULL if there is none */

void linear_schedule_destroy(linear_schedule *s); /* NULL is allowed */

/* Who depends on whom. Ranks without tokens, the first ones of a layout, take no part in anything. */

/* The first rank whose tokens' state reaches `rank`: the one with the token where its first token's document begins,
 * past ranks without tokens; `rank` itself if a document begins with its first token, or it has none. */
int linear_first_contributor(const linear_schedule_problem *problem, int rank);
/* The last rank that the state after the last token of `rank` reaches, the one with the last token of its document;
 * `rank` itself if it has none. The ranks between are readers of `rank`, and it is a contributor to each. */
int linear_last_reader(const linear_schedule_problem *problem, int rank);
/* All tokens of a rank are of one document: its last state depends on the state that it begins with. */
bool linear_has_one_piece(const linear_schedule_problem *problem, int rank);
/* Tokens of the document that a token is in. */
int64_t linear_document_length(const linear_schedule_problem *problem, int64_t token);
/* Ranks without tokens: [0, result). */
int linear_first_rank(const linear_schedule_problem *problem);

/* Building blocks for strategies. Those that return an int return 0, or -1 if memory ran out. */

/* NULL, or why no strategy can honour the problem (a static string): for the strategies' `refuse`. */
const char *linear_problem_fault(const linear_schedule_problem *problem);

int64_t linear_stage_count(const linear_schedule_problem *problem);
range linear_stage(const linear_schedule_problem *problem, int64_t stage); /* its units */

linear_schedule *linear_schedule_create(int rank, int64_t steps); /* NULL if memory ran out */
int linear_add_transfer(linear_schedule *s, int64_t step, linear_transfer transfer);
int linear_add_action(linear_schedule *s, int64_t step, linear_action action);
/* The end of a plan that came to `result`: forgets idle steps at the end, counts the buffers and sets *schedule_p, or
 * destroys the schedule if memory ran out. Returns `result`. */
int linear_schedule_finish(linear_schedule *s, int result, linear_schedule **schedule_p);
/* The state that a rank begins with is known at once, at the beginning of a document or of the stream: clears it, if it
 * is not given. */
int linear_begin(linear_schedule *s, int64_t step, range units, int buffer);
/* And folds onto it. */
int linear_begin_and_fold(linear_schedule *s, int64_t step, range units, int buffer);

#endif
