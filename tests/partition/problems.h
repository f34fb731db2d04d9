/* Problems to schedule, and what the tests do with all ranks of one. */
#ifndef TESTS_PARTITION_PROBLEMS_H
#define TESTS_PARTITION_PROBLEMS_H

#include "partition/schedule.h"

#include <stddef.h>

/* Layouts of one kind and grain for queries and keys; a full or causal mask, no documents; 4 heads, 2 key/value heads,
 * nodes of one rank. */
schedule_problem problem_of(layout_kind kind, int64_t queries, int64_t keys, int64_t grain, int ranks, bool causal);

/* One line that reproduces a problem. */
void problem_describe(const schedule_problem *problem, const char *strategy_name, char *text, size_t size);

/* Document sets to try. offsets holds count + 1 numbers. */
enum { DOCUMENT_SET_LIMIT = 64 };
typedef struct {
    int64_t count;
    int64_t offsets[DOCUMENT_SET_LIMIT + 1];
} document_set;

/* Number `index` of the sets for `tokens` tokens: every cut of up to 6 tokens; beyond, a few named shapes and random
 * ones with empty documents, from a fixed seed. Returns false when there are no more. */
bool document_set_get(int64_t tokens, int64_t index, document_set *set_p);

/* Mask number `index` of every part alone and all of them combined, without documents: a window, a prefix, chunks, each
 * of a few sizes, with and without causal. Returns false when there are no more. */
bool mask_case_get(int64_t queries, int64_t keys, int64_t index, mask *mask_p);

/* The next number of a fixed sequence; splitmix64. */
uint64_t random_next(uint64_t *state);
/* low <= result <= high */
int64_t random_between(uint64_t *state, int64_t low, int64_t high);

/* The schedules of ranks 0 .. P-1; fails the test if memory runs out. */
void plan_all(const schedule_problem *problem, const strategy *how, schedule **schedules);
void destroy_all(const schedule_problem *problem, schedule **schedules);

/* Does the strategy pass on keys that it has received? */
bool may_forward(const strategy *how);

#endif
