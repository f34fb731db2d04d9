/* Runs the schedules of all ranks on paper and says what is wrong with them. */
#ifndef TESTS_PARTITION_SCHEDULE_CHECKER_H
#define TESTS_PARTITION_SCHEDULE_CHECKER_H

#include "partition/schedule.h"

#include <stddef.h>

/* Checks, for the schedules of ranks 0 .. P-1 of one problem:
 *   folds      every pair that the mask allows is folded exactly once, on the rank that owns the query; a fold whose
 *              look_inside is false has no pair that the mask forbids, one whose look_inside is true has both kinds;
 *              queries lie in one chunk of the rank; folds of the same queries stand together;
 *   transfers  each has its twin in the same step of the peer, in the same order;
 *   contents   rows that are read hold the keys that are claimed; nothing is written to rows that the step reads,
 *              writes twice, or to the home shard; slot_tokens is what is used;
 *   economy    no rank receives a key it has or had, nor one it neither needs nor (if `forwards`) passes on later.
 * Returns true if all hold; else false, with the first fault in `fault`. */
bool schedules_are_right(const schedule_problem *problem, schedule *const *schedules, bool forwards, char *fault,
                         size_t size);

#endif
