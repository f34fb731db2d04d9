/* Parcels: what strategies move and fold. A parcel is some rows of one rank's shard, one range of each piece, for a
 * range of heads, lying in a slot. Rings of groups of ranks, and which rows a rank that is still ahead needs. */
#ifndef PARTITION_PARCEL_H
#define PARTITION_PARCEL_H

#include "partition/schedule.h"

enum { MOST_PIECES = 2 };

typedef struct {
    rows_kind kind;
    int origin;
    head_range heads;
    int slot;
    range rows[MOST_PIECES]; /* local rows of the origin's shard; {0, 0} for a piece that has none */
    int64_t slot_row[MOST_PIECES];
} parcel;

/* A rank's own shard, all of it, in SLOT_HOME. */
parcel parcel_home(const schedule_problem *problem, rows_kind kind, int rank);

/* Rows in a parcel. */
int64_t parcel_rows(const parcel *p);

/* Those rows and heads of `from` that `what` names; what it names lies in `from`. */
parcel parcel_part(const parcel *from, const parcel *what);

/* The smallest parcel that holds the rows of both, which are of one origin, kind and heads, in SLOT_HOME. */
parcel parcel_hull(const parcel *a, const parcel *b);

/* The same rows as states. */
parcel parcel_as_states(const parcel *queries);

/* Puts the rows of a parcel one after the other into a slot from row *end_p on, and moves *end_p behind them. */
void parcel_place(parcel *p, int slot, int64_t *end_p);

/* One message a piece that has rows. 0, or -1 if memory ran out. */
int parcel_send(schedule *s, int64_t step, const parcel *p, int peer);
int parcel_receive(schedule *s, int64_t step, const parcel *p, int peer);

/* The folds of one piece of queries, or of all, for `heads`, against the keys of a parcel that lies in a slot of rank
 * `holder`, or of this one: those that the mask does not rule out, each against the key rows from the first to the last
 * that its queries see. The state parcel names the same rows as the queries. Folds of one call of parcel_fold_piece
 * stand together; where a step has more, they are to be put in order (schedule_sort_folds). 0, or -1 if memory ran out.
 */
int parcel_fold_piece(schedule *s, int64_t step, const schedule_problem *problem, const parcel *queries,
                      const parcel *states, int piece, const parcel *keys, int holder, head_range heads);
int parcel_fold(schedule *s, int64_t step, const schedule_problem *problem, const parcel *queries, const parcel *states,
                const parcel *keys, head_range heads);

/* Joins the states of a parcel, for a range of heads, to those that `into` holds of the same rows. 0, or -1 if memory
 * ran out. */
int parcel_merge(schedule *s, int64_t step, const parcel *states, const parcel *into, head_range heads);

/* Raises the rows of a slot to `rows`. */
void slot_hold(schedule *s, int slot, int64_t rows);

/* The queries of a shard, all heads, that see a key of ranks [first_holder, last_holder]: of each piece the rows from
 * the first to the last. slot is SLOT_HOME, where they lie on their owner. O(log). */
parcel parcel_of_queries_that_see(const schedule_problem *problem, int query_origin, int first_holder, int last_holder);

/* The keys of a shard, all heads, that a query of ranks [first_reader, last_reader] sees; as above. */
parcel parcel_of_keys_seen_by(const schedule_problem *problem, int first_reader, int last_reader, int key_origin);

/* A ring of groups of ranks: group i is ranks [first + i * size, first + (i + 1) * size). A hop leads to the next
 * group, in direction +1 or -1. */
typedef struct {
    int first, size, groups, direction;
} group_ring;

/* The direction in which keys that a causal mask hides from the ranks on the way stop first; ring.c says why. */
int ring_direction(const schedule_problem *problem);

/* The group that is `hops` hops ahead of another; behind it where hops is negative. */
int group_ahead(const group_ring *ring, int group, int64_t hops);

/* The keys of a shard, all heads, that a query of the groups `hops` hops ahead of `group` and farther sees, as far as
 * the last one of the ring; 0 hops: of any group. Of each piece the rows from the first to the last. slot is SLOT_HOME,
 * where they lie on their owner. O(log). */
parcel parcel_of_keys_ahead(const schedule_problem *problem, const group_ring *ring, int group, int hops,
                            int key_origin);

/* The keys of a shard that began on a rank of group `begin` and have gone `hops` hops: in SLOT_HOME before the first,
 * all of them; then those that are needed there or farther on, in slots[(hops - 1) % 2] from row 0 on. */
parcel parcel_on_ring(const schedule_problem *problem, const group_ring *ring, int begin, int hops, int key_origin,
                      const int slots[2]);

/* Sends on, to rank `to`, what is still needed of a shard that began in group `begin` and is held after `hops` hops,
 * and receives `next` from rank `from`, whose slot is made as large. 0, or -1 if memory ran out. */
int parcel_pass_on(schedule *s, int64_t step, const schedule_problem *problem, const group_ring *ring, int begin,
                   int hops, const parcel *held, int to, const parcel *next, int from);

/* The end of a strategy's plan that came to `result`: puts the folds in order, forgets idle steps at the end, and sets
 * *schedule_p, or destroys the schedule if memory ran out. Returns `result`. */
int schedule_finish(schedule *s, int result, schedule **schedule_p);

#endif
