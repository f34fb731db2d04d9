/* A sum of sparse patterns: which keys a query sees where that differs between heads, or where a key counts more than
 * once.
 *
 * Each term is a pattern (partition/pattern.h) of some heads. Query i of head h sees key j as often as there are terms
 * of h that have the pair:
 *
 *     c_ijh = number of terms t with h in heads(t) and (i, j) in pattern(t)
 *     out_i = sum_j c_ijh exp(s_ij) v_j / sum_j c_ijh exp(s_ij),     lse_i = log sum_j c_ijh exp(s_ij)
 *
 * which is what partial states of the terms, each of its own keys, merge into. A term alone has no pair twice, so that
 * its slices keep all that pattern.h says of them. */
#ifndef PARTITION_PATTERN_SUM_H
#define PARTITION_PATTERN_SUM_H

#include "partition/pattern.h"

typedef struct {
    pattern *pattern;
    head_range *runs; /* its heads: ascending, with gaps between them */
    int run_count;
} pattern_term;

typedef struct {
    int heads; /* H */
    pattern_term *terms;
    int count;
} pattern_sum;

/* Building. These return 0, or -1 if memory ran out. */

pattern_sum *pattern_sum_create(int heads); /* without terms; NULL if memory ran out */
void pattern_sum_destroy(pattern_sum *s);   /* and its patterns; NULL is allowed */
/* Adds a term of no pair, for N queries and M keys, that no head has yet: the last of s->terms. */
int pattern_sum_begin_term(pattern_sum *s, int64_t queries, int64_t keys);
/* Gives a term to the heads first, first + step, ..., which are above those that have it. */
int pattern_sum_give(pattern_sum *s, int term, int first, int step);
/* The same to one. */
int pattern_term_give(pattern_term *t, int head);

/* Asking. */

/* Has any head of a range a term? */
bool pattern_term_meets(const pattern_term *t, head_range heads);

/* Which key heads, of G that divide H, need the same keys because their query heads have the same terms: class_of[G],
 * numbered as they first appear. Returns how many classes there are; -1 if memory ran out. */
int pattern_sum_classes(const pattern_sum *s, int kv_heads, int *class_of);

/* How many terms heads have, all together. */
int64_t pattern_sum_head_terms(const pattern_sum *s);

/* Pairs of all heads together, each as often as it counts; -1 if memory ran out. */
int64_t pattern_sum_pairs(const pattern_sum *s, const mask *m, range queries, range keys);

#endif
