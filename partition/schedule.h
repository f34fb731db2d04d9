/* A schedule: what one rank does, as data.
 *
 * A rank runs its steps in order. In a step it starts all transfers, does all folds while they travel, then waits
 * for all its transfers. What a transfer of step s receives may be read (folded, or sent on) from step s+1 on.
 * A transfer's twin, the matching send or receive, is in the same step of the peer, and the transfers between two
 * ranks in one step are listed in the same order on both, so a schedule cannot deadlock.
 *
 * Keys live in slots. SLOT_HOME is the rank's own shard, rows as in its key layout; slots 0, 1, ... are buffers of
 * slot_tokens[] rows. A row of a slot holds the key and the value of one token, all heads (and all batch items).
 * A receive never writes rows that the same step reads.
 *
 * Plain integers: no MPI, no floats, no clock. Three things read it: the executor (runtime/executor.c), the planner
 * (partition/cost.c), the tests. */
#ifndef PARTITION_SCHEDULE_H
#define PARTITION_SCHEDULE_H

#include "partition/layout.h"
#include "partition/mask.h"

enum { SLOT_HOME = -1, SCHEDULE_MAX_SLOTS = 2 };

typedef enum { TRANSFER_SEND, TRANSFER_RECEIVE } transfer_direction;

typedef struct {
    transfer_direction direction;
    int peer;
    range keys;  /* global tokens */
    int slot;    /* where they are read from or written to */
    int64_t row; /* row of keys.begin in that slot */
} schedule_transfer;

typedef struct {
    range queries; /* global tokens, inside one chunk of the rank's query layout */
    range keys;    /* global tokens, contiguous in the slot */
    int slot;
    int64_t row;      /* row of keys.begin in that slot */
    bool look_inside; /* false: every query sees every key */
} schedule_fold;

typedef struct {
    schedule_transfer *transfers;
    int64_t transfer_count;
    schedule_fold *folds; /* folds of the same queries stand next to each other */
    int64_t fold_count;
} schedule_step;

typedef struct {
    int rank;
    schedule_step *steps;
    int64_t step_count;
    int64_t slot_tokens[SCHEDULE_MAX_SLOTS];
} schedule;

/* What is to be scheduled. */
typedef struct {
    mask mask;
    layout query_layout; /* of N tokens */
    layout key_layout;   /* of M tokens, same ranks */
} schedule_problem;

/* A strategy: one file in partition/, one line in the table in partition/strategies.c. */
typedef struct {
    const char *name; /* as in --strategy */
    const char *summary;
    /* NULL if the strategy can honour the problem, else why not (a static string). */
    const char *(*refuse)(const schedule_problem *problem);
    /* The schedule of `rank`: a pure function of its arguments. Sets *schedule_p, to be freed with schedule_destroy.
     * Returns 0, or -1 if memory ran out. */
    int (*plan)(const schedule_problem *problem, int rank, schedule **schedule_p);
} strategy;

extern const strategy *const strategies[];
extern const int strategy_count;
const strategy *strategy_find(const char *name); /* NULL if there is none of the name */

/* Building blocks for strategies. Appending returns 0, or -1 if memory ran out. */
schedule *schedule_create(int rank, int64_t steps); /* NULL if memory ran out */
int schedule_add_transfer(schedule *s, int64_t step, schedule_transfer transfer);
/* Appends the folds of all the rank's query chunks against `keys` that the mask does not rule out. */
int schedule_add_folds(schedule *s, int64_t step, const schedule_problem *problem, range keys, int slot, int64_t row);
/* Puts the folds of every step in the order of their queries. */
void schedule_sort_folds(schedule *s);
/* Forgets the steps at the end that neither transfer nor fold. Step numbers stay, so ranks stay aligned. */
void schedule_drop_idle_tail(schedule *s);
void schedule_destroy(schedule *s); /* NULL is allowed */

/* NULL, or why no strategy can honour the problem (a static string): for the strategies' `refuse`. */
const char *schedule_problem_fault(const schedule_problem *problem);

/* Does any query of `rank` see a key of `keys`? */
bool schedule_rank_needs(const schedule_problem *problem, int rank, range keys);

#endif
