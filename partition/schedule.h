/* A schedule: what one rank does, as data.
 *
 * A rank runs its steps in order. In a step it
 *   1. starts all transfers;
 *   2. clears the states it lists, runs the folds, then the merges in their order, while the transfers travel;
 *   3. waits for all its transfers; where the schedule shares memory, also for the ranks of its node (node_sync).
 * What a transfer of step s receives, and what step s folds or merges into a state, may be sent, folded or merged from
 * step s+1 on (a merge also reads what the folds of its own step made). A transfer's twin, the matching send or
 * receive, is in the same step of the peer, and the transfers between two ranks in one step are listed in the same
 * order on both, so a schedule cannot deadlock.
 *
 * What is worked on are rows: local rows [begin, end) of the shard of a rank, the origin, in the layout of their axis.
 * Three kinds are held and travel: keys (a row is the key and the value of one token), queries, and states (the partial
 * result (o, m, l) of a query). Each for a range of heads: of key/value heads for keys, of query heads for the others;
 * all batch items.
 *
 * Rows lie in slots. SLOT_HOME is the rank's own shard, all heads: the caller's k and v, its q, and the plan's state
 * of its queries, empty at the beginning and the result at the end. Slots 0, 1, ... are buffers of the rank, of one
 * kind each. A receive never writes rows that the same step reads, and only slots are received into. A fold may read
 * keys from another rank of its node in place (holder), if the schedule says that it shares memory.
 *
 * Plain integers: no MPI, no floats, no clock. Three things read it: the executor (runtime/executor.c), the planner
 * (partition/cost.c), the tests. */
#ifndef PARTITION_SCHEDULE_H
#define PARTITION_SCHEDULE_H

#include "partition/layout.h"
#include "partition/mask.h"
#include "partition/pattern_sum.h"
#include "partition/selection.h"

enum { SLOT_HOME = -1 };

typedef enum { ROWS_KEYS, ROWS_QUERIES, ROWS_STATES, ROWS_KINDS } rows_kind;

typedef struct {
    rows_kind kind;
    int64_t rows;     /* capacity */
    head_range heads; /* that a row holds */
} schedule_slot;

typedef enum { TRANSFER_SEND, TRANSFER_RECEIVE } transfer_direction;

typedef struct {
    transfer_direction direction;
    int peer;
    rows_kind kind;
    int origin; /* whose rows */
    range rows; /* local rows of the origin's shard; all in one piece */
    head_range heads;
    int slot;         /* where they are read from or written to; of this kind */
    int64_t slot_row; /* row of rows.begin in that slot; for SLOT_HOME rows.begin itself */
    /* Its rows go in one message with those of the transfer before it, which is of the same direction, peer, kind,
     * origin and slot, and of the same heads; on both sides alike. */
    bool joined;
} schedule_transfer;

typedef struct {
    head_range heads; /* query heads; their key heads are heads / (H / G) */

    int query_origin;
    range query_rows; /* of one piece */
    int query_slot;
    int64_t query_slot_row;
    int state_slot; /* where their partial result is: of kind ROWS_STATES */
    int64_t state_slot_row;

    int key_origin;
    range key_rows; /* of one piece */
    int holder;     /* rank whose slot it is: this one, or one of its node */
    int key_slot;
    int64_t key_slot_row;

    bool look_inside; /* false: every query sees every key */

    /* Of a sparse pattern: the fold is a slice (partition/slice.h), and what its queries see is what that says, with
     * the mask in it. Its rows are every query_stride-th and every key_stride-th of those ranges; of the slot that
     * holds the keys it is every key_slot_stride-th row. */
    bool sliced;
    int64_t query_stride, key_stride, key_slot_stride;
    int64_t low, high; /* low <= key token - query token < high */
    int turn; /* folds of the same heads and of different turns, which ascend in a step, may have queries in common; 0 but
               * of patterns */

    /* Of a selection: not all rows of the queries, but of its key head, which is one, those that are listed, ascending,
     * as token row * (H / G) + query head of the key head. What they see the mask says. Folds of a key head may have
     * rows in common, whose keys are folded in the order of the folds. The schedule's; NULL: all rows. */
    const int64_t *listed;
    int64_t listed_rows;
} schedule_fold;

/* A state slot's rows become those of nothing seen, all heads of the slot. */
typedef struct {
    int slot;
    range slot_rows;
} schedule_clear;

/* State rows of a slot are joined to those of another, or of SLOT_HOME, of this rank. */
typedef struct {
    int64_t count; /* rows */
    head_range heads;
    int from_slot, to_slot;
    int64_t from_row, to_row;
} schedule_merge;

typedef struct {
    schedule_transfer *transfers;
    int64_t transfer_count;
    schedule_clear *clears;
    int64_t clear_count;
    schedule_fold *folds; /* folds of the same queries and heads stand next to each other */
    int64_t fold_count;
    schedule_merge *merges;
    int64_t merge_count;
} schedule_step;

typedef struct {
    int rank;
    schedule_slot *slots;
    int slot_count;
    schedule_step *steps;
    int64_t step_count;
    int64_t *listed; /* where the lists of its folds are; NULL if they have none */
    bool shares_memory; /* folds read keys of other ranks of the node in place: home keys and all key slots lie in
                           shared memory; before the first step, and after each step, the ranks of a node wait for each
                           other. All ranks of a node have the same number of steps */
} schedule;

/* What is to be scheduled. Equal on all ranks. */
typedef struct {
    mask mask;
    const pattern_sum *pattern; /* seen is what both let see; NULL: the mask alone. The caller's */
    const selection *selection; /* seen is what both let see; NULL: the mask alone. This rank's own, the caller's */
    layout query_layout; /* of N tokens */
    layout key_layout;   /* of M tokens, same ranks */
    int heads, kv_heads; /* H, G */
    int node_ranks;      /* ranks of a node where all nodes have as many, rank = node * node_ranks + index; else 1 */
    bool may_share;      /* ranks of a node can read each other's keys in place */
    bool share_off;      /* they could, but are not to: may_share is false for this reason */
    int columns;         /* hybrid: ranks that share heads among them; 0: not given */
    bool states_stay;    /* what a row is found out to be is known to its own rank alone, and cannot be merged: queries
                            and states must not travel */
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
    /* How many consecutive ranks the heads are dealt to; NULL where all ranks work on all heads. */
    int (*columns)(const schedule_problem *problem);
    bool sparse; /* for problems with a sparse pattern, and only for them */
} strategy;

extern const strategy *const strategies[];
extern const int strategy_count;
/* "ring", "hybrid:4x8" (then *columns_p is 8 and *rows_p 4, else both 0), ... NULL if there is none of the name. */
const strategy *strategy_find(const char *name, int *rows_p, int *columns_p);

/* Building blocks for strategies. Those that return an int return 0, or -1 if memory ran out. */

schedule *schedule_create(int rank, int64_t steps); /* NULL if memory ran out */
void schedule_destroy(schedule *s);                 /* NULL is allowed */
/* Adds a slot; its number goes to *slot_p. Its rows may be raised afterwards. */
int schedule_add_slot(schedule *s, rows_kind kind, head_range heads, int64_t rows, int *slot_p);
int schedule_add_transfer(schedule *s, int64_t step, schedule_transfer transfer);
int schedule_add_fold(schedule *s, int64_t step, schedule_fold fold);
int schedule_add_clear(schedule *s, int64_t step, schedule_clear clear);
int schedule_add_merge(schedule *s, int64_t step, schedule_merge merge);
/* Puts the folds of every step in the order of their heads, origins, queries, then keys. */
void schedule_sort_folds(schedule *s);
/* Forgets the steps at the end that do nothing. Step numbers stay, so ranks stay aligned. */
void schedule_drop_idle_tail(schedule *s);

/* NULL, or why no strategy can honour the problem (a static string): for the strategies' `refuse`. The first is for
 * those that know masks alone, the second for those that know sparse patterns too. */
const char *schedule_problem_fault(const schedule_problem *problem);
const char *schedule_sparse_problem_fault(const schedule_problem *problem);
/* The first, for strategies that move queries or states. */
const char *schedule_moving_problem_fault(const schedule_problem *problem);

/* What the mask says of rows of two pieces; under a striped layout it may say LOOK_INSIDE where it need not. */
mask_answer schedule_ask(const schedule_problem *problem, int query_origin, range query_rows, int key_origin,
                         range key_rows);
/* The rows of a piece of keys, from the first to the last, that any query of ranks [first_reader, last_reader] sees;
 * empty if none; {0, 0} if first > last. Under a striped layout of queries perhaps some more at the ends: rows that
 * only queries of other ranks see, between those of the readers. O(log documents). */
range schedule_needed_rows(const schedule_problem *problem, int first_reader, int last_reader, int key_origin,
                           int piece);
/* The slice of a fold that has one. */
slice schedule_fold_slice(const schedule_problem *problem, const schedule_fold *fold);
/* Query rows and key rows of a fold. */
int64_t schedule_fold_queries(const schedule_fold *fold);
int64_t schedule_fold_keys(const schedule_fold *fold);
/* The transfers of a step that go in one message with transfer `first`, which is not joined: up to the result. */
int64_t schedule_joined_end(const schedule_step *step, int64_t first);
/* Pairs (query, key) of a fold, for one of its heads and one batch item. Not of one whose rows are listed. */
int64_t schedule_fold_pairs(const schedule_problem *problem, const schedule_fold *fold);
/* Of all its heads together, and of any fold. */
int64_t schedule_fold_all_pairs(const schedule_problem *problem, const schedule_fold *fold);

/* The key heads that query heads share, H / G of them each. */
static inline head_range heads_of_keys(const schedule_problem *problem, head_range heads)
{
    const int group = problem->heads / problem->kv_heads;
    return (head_range){heads.begin / group, (heads.end + group - 1) / group};
}

#endif
