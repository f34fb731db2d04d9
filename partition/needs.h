/* What ranks need of each other's keys under a sparse pattern, and the folds of it: what fetch and fetch-ring share.
 *
 * Queries and states stay. Which keys a rank needs follows from the pattern, the mask and the layout alone: the owner
 * works out what each of its readers will ask for, so that nothing is exchanged while planning, and reader and owner
 * come to the same runs of rows by the same function.
 *
 * Where patterns differ between heads, key heads whose query heads have the same terms (partition/pattern_sum.h) are a
 * class, and are planned together; those of a class that follow each other are a lane. A lane has slots and, from each
 * peer, a message of its own, so that of a key head travels what its own query heads need.
 *
 * Received runs lie in a lane's slot, by ascending tokens, without gaps. A fold is one slice of the pattern (of a block
 * list the blocks of a row, one after the other) against one run; slices that have queries in common take turns, and so
 * do terms. Keys of a strided slice stand in the slot at a distance that depends on what else was needed: a fold goes
 * as far as that is the same. Contiguous layouts. */
#ifndef PARTITION_NEEDS_H
#define PARTITION_NEEDS_H

#include "partition/row_set.h"
#include "partition/schedule.h"

/* Received tokens and where they lie. */
typedef struct {
    int origin;
    range tokens;
    int64_t slot_row;
} held_run;

/* What the heads of a class have received: rows of each of their slots. */
typedef struct {
    held_run *runs;
    int64_t count, rows;
} held_keys;

enum { LANE_SLOTS = 2 };

/* Key heads in a row that are of one class. */
typedef struct {
    head_range heads;
    int class, slots[LANE_SLOTS];
} key_lane;

typedef struct {
    const schedule_problem *problem;
    schedule *s;
    bool *peers; /* [P]: ranks that were asked for last: has this rank something for them, or they for it? */
    row_set needed;
    int *class_of; /* [G] */
    int class_count;
    key_lane *lanes; /* by ascending heads */
    int lane_count;
    held_keys *held; /* of each class */
    int slot;        /* of each lane that is received into and folded from */
    /* [P]: whose keys this rank's queries visit, and whose queries visit this rank's keys (partition/visits.h): parts
     * that may visit need no keys there. NULL: nobody visits. */
    bool *visits_to, *visits_from;
    bool skips_visits; /* of the needs that are looked for: those of parts that may visit are left out */
    /* Of the folds that are being made. */
    int64_t step;
    int first_turn;
    head_range heads;     /* of queries */
    const key_lane *lane; /* whose received keys they are of; NULL: of keys at home */
    const pattern_term *term;
} needs;

/* Those that return an int return 0, or -1 if memory ran out. */

/* Makes `slots` slots of each lane; to be ended in either case. The schedule stays the caller's. */
int needs_begin(needs *x, const schedule_problem *problem, schedule *s, int slots);
void needs_end(needs *x);

/* The ranks whose queries may see keys of this one, or whose keys its queries may see: in x->peers. */
int needs_find_readers(needs *x);
int needs_find_origins(needs *x);

/* Sends a rank what it needs of this one's keys. */
int needs_send(needs *x, int64_t step, int peer);
/* Receives what is needed of a rank's keys, behind what is held. */
int needs_receive(needs *x, int64_t step, int origin);
/* Nothing is held any more: the next receive begins slot `slot` of each lane. */
void needs_turn_to(needs *x, int slot);

/* Visits the terms that heads of queries have; x->term is the one that is visited. */
int needs_visit(needs *x, head_range heads, range queries, range keys, pattern_fn fn);
/* The tokens of `origin` that queries of `reader` see with a key head of a class, into x->needed; where they visit,
 * those that the others see. */
int needs_find(needs *x, int reader, int origin, int class, bool they_visit);

/* Folds of keys at home, with turns from 0 on. */
int needs_fold_home(needs *x, int64_t step);
/* Of a range of keys what is held, with turns from `first_turn` on; returns the turn after the last one, or -1. */
int needs_fold_held(needs *x, int64_t step, range keys, int first_turn);

static inline range needs_queries_of(const needs *x, int rank)
{
    return layout_chunk(&x->problem->query_layout, rank);
}

static inline range needs_keys_of(const needs *x, int rank)
{
    return layout_chunk(&x->problem->key_layout, rank);
}

/* Heads of the queries that key heads are for. */
static inline head_range needs_readers_of(const needs *x, head_range keys)
{
    const int group = x->problem->heads / x->problem->kv_heads;
    return (head_range){keys.begin * group, keys.end * group};
}

/* The fold of a slice of queries of a rank with keys of a rank, for heads x->heads, at home in all slots. */
schedule_fold needs_fold(const needs *x, const slice *s, int turn, int reader, int origin);

/* NULL, or why no such strategy can honour the problem (a static string). */
const char *needs_refuse(const schedule_problem *problem);

#endif
