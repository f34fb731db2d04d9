/* What a sparse pattern lets a query see, and how often, a key at a time, from its definition in README: what verify
 * recomputes with. Shares the text's parser with partition/, but nothing that it checks. */
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

typedef struct pattern_oracle pattern_oracle;

/* NULL if memory ran out. `problem` must outlive it. */
pattern_oracle *pattern_oracle_create(const longspan_problem *problem, const pattern_query *query);
void pattern_oracle_destroy(pattern_oracle *o); /* NULL allowed */

/* Does any head of the query see key j? */
bool pattern_oracle_sees(const pattern_oracle *o, int64_t key);
/* How often a head of it sees key j; and the most that this can be. */
int pattern_oracle_times(const pattern_oracle *o, int head, int64_t key);
int pattern_oracle_most(const pattern_oracle *o);

#endif
