/* Runs the schedules of all ranks on paper and says what is wrong with them. */
#ifndef TESTS_PARTITION_SCHEDULE_CHECKER_H
#define TESTS_PARTITION_SCHEDULE_CHECKER_H

#include "tests/partition/paper.h"

#include <stddef.h>

/* Checks, for the schedules of ranks 0 .. P-1 of one problem:
 *   result     at the end the home state of every query has, for every head, had folded into it each key that the mask
 *              allows, and no other; on the way none twice, be it by a fold or by a merge;
 *   folds      queries and keys lie in one piece each, see something of each other, and look_inside says whether the
 *              mask must be asked; folds into the same states in one step stand together and name the same rows; keys
 *              of another rank are read only where it is of the node and the schedule says that it shares memory;
 *   transfers  each has its twin in the same step of the peer, in the same order;
 *   contents   rows and heads that are read are what is claimed, of a state also that it was cleared or received; slots
 *              are of the kind they are used for, have the heads, and as many rows as are used;
 *   steps      nothing is written to what the step also sends or receives, nothing read that it receives; a merge takes
 *              nothing that another of the step has joined to, and nothing is joined to twice in a step; the ranks of a
 *              node that share memory have as many steps;
 *   economy    no rank receives keys or queries it has or had; the first and the last row of a transfer, every head,
 * are of use: folded where something is seen, or passed on, and not empty states. Where a layout is striped, schedules
 * may ask the mask, and send, more than they need: what is stated of use, and of folds that see something and need look
 * inside, is then not checked. Returns true if all hold; else false, with the first fault in `fault`. */
bool schedules_are_right(const pair_table *pairs, const schedule_problem *problem, schedule *const *schedules,
                         char *fault, size_t size);

#endif
