/* What a sparse pattern lets a query see, a key at a time, from its definition in README: what verify recomputes with.
 * Shares the text's parser with partition/, but nothing that it checks. */
#ifndef CLI_PATTERN_ORACLE_H
#define CLI_PATTERN_ORACLE_H

#include "runtime/longspan.h"

#include <stdbool.h>

/* A query of a problem with a pattern that has been checked. */
typedef struct {
    int64_t query;      /* its token */
    int64_t begin, end; /* keys of its document */
    int64_t position;   /* among them, from `begin` */
} pattern_query;

/* Bit j % 64 of word j / 64 says whether the pattern lets the query see key j: malloc'ed, NULL if memory ran out. */
uint64_t *pattern_oracle_keys(const longspan_problem *problem, const pattern_query *query);

static inline bool pattern_oracle_bit(const uint64_t *keys, int64_t key)
{
    return keys[key / 64] >> (key % 64) & 1;
}

#endif
