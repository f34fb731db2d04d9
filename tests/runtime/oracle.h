/* What the library should give, straight from the definitions in runtime/longspan.h, one (query, key) pair at a time,
 * in float64. Shares no code with partition/ or with the folds. */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include "runtime/longspan.h"

#include <stdbool.h>

/* A problem with every default filled in. */
longspan_problem oracle_defaults(const longspan_problem *p);

/* Does query i of batch item b see key j? */
bool oracle_sees(const longspan_problem *p, int64_t b, int64_t i, int64_t j);

/* The keys that query i sees, [*begin_p, *end_p); aborts if they are not one range. */
void oracle_seen(const longspan_problem *p, int64_t b, int64_t i, int64_t *begin_p, int64_t *end_p);

/* Number of pairs seen, over all batch items, counted one by one. */
double oracle_pairs(const longspan_problem *p);

/* Turns a row of D elements as RoPE does at a position; leaves it if the problem has none. */
void oracle_rotate(const longspan_problem *p, int64_t position, double *row);

/* Row i of query head h: out [E] and *lse_p, of entmax its threshold. q [D] and the rows of k [M, D] are turned
 * already; v [M, E]; weights [M] is scratch. Returns false if the query sees no key. */
bool oracle_row(const longspan_problem *p, int64_t b, int64_t i, int head, const double *q, const double *k,
                const double *v, double *weights, double *out, double *lse_p);

/* The same of a sparse pattern: of the keys that the mask and the scores' definitions leave, key j counts times[j]
 * times; once if that is NULL. */
bool oracle_row_of(const longspan_problem *p, const unsigned char *times, int64_t b, int64_t i, int head,
                   const double *q, const double *k, const double *v, double *weights, double *out, double *lse_p);

#endif
