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
 * What a transfer of step s receives, and what step s leaves in a buffer, may be sent or used from step s + 1 on. A
 * transfer's twin is in the same step of the peer, and transfers between two ranks in one step are in the same order on
 * both, so a schedule cannot deadlock.
 *
 * Buffers hold a state for every unit. Plain integers: no MPI, no floats, no clock. */
#ifndef PARTITION_LINEAR_SCHEDULE_H
#define PARTITION_LINEAR_SCHEDULE_H

#include "partition/layout.h"
#include "partition/schedule.h"

typedef enum {
    LINEAR_CLEAR,   /* buffer becomes the state of nothing seen */
    LINEAR_FOLD,    /* the rank's tokens, onto the state in the buffer; outputs are finished; leaves the last state */
    LINEAR_SUMMARISE, /* the same from nothing; outputs are unfinished; leaves the summary of the run */
    LINEAR_COMPOSE, /* buffer = other o buffer: what came before, then what `other` did */
    LINEAR_COPY,    /* buffer = other */
    LINEAR_APPLY,   /* the state in the buffer turns out to be what the rank begins with; outputs are finished */
    LINEAR_SUM,     /* without a causal mask: buffer, other = sums of the first and of the last document of the rank */
    LINEAR_ADD,     /* buffer += other */
    LINEAR_READ,    /* without a causal mask: outputs, from the states of the first (buffer) and last (other) document */
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
    bool summarises; /* states travel with their transitions, see linear_shape */
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

/* The first rank whose tokens' state reaches `rank`: the one with the token where its first token's document begins,
 * past ranks without tokens; `rank` itself if a document begins with its first token, or it has none. */
int linear_first_contributor(const linear_schedule_problem *problem, int rank);

#endif
