/* Queries that visit: where a few queries see so many keys that it is less to send the queries to the keys, and the
 * partial results back, than the keys to the queries. A part of fetch. */
#ifndef PARTITION_VISITS_H
#define PARTITION_VISITS_H

#include "partition/needs.h"

/* Is a part of a term of a kind that may visit? O(1); false where nobody visits at all. */
bool visits_may(const needs *x, const pattern_term *term, const pattern_part *part);

/* Finds out who visits whom, before anything is sent: x->visits_to and x->visits_from. 0, or -1 if memory ran out. */
int visits_find(needs *x);

/* The transfers, folds and merges of visits, behind those of keys:
 *     step 0   queries go to the ranks whose keys they see;
 *     step 1   are folded there, into states of their own, with turns from `first_turn` on;
 *     step 2   the states go back;
 *     step 3   and are merged, by ascending ranks.
 * 0, or -1 if memory ran out. */
int visits_plan(needs *x, int first_turn);

#endif
