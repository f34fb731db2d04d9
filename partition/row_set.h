/* A set of tokens of a range, as bits: the union of whatever is added, read as runs. */
#ifndef PARTITION_ROW_SET_H
#define PARTITION_ROW_SET_H

#include "partition/range.h"

typedef struct {
    range tokens;
    int64_t words; /* room */
    uint64_t *bits;
} row_set;

/* Empties the set and makes it one of these tokens; begins as {0}. 0, or -1 if memory ran out. */
int row_set_reset(row_set *set, range tokens);
void row_set_free(row_set *set);

/* Adds begin, begin + stride, ... below the end of a range that lies in that of the set. */
void row_set_add(row_set *set, range tokens, int64_t stride);

/* How many tokens the set has. */
int64_t row_set_count(const row_set *set);

/* The next run of tokens of the set from *at on, which is moved behind it: false if there is none. */
bool row_set_next(const row_set *set, int64_t *at, range *run_p);

#endif
