/* A problem as the user states it: its defaults, and what is wrong with it. */
#ifndef RUNTIME_PROBLEM_H
#define RUNTIME_PROBLEM_H

#include "partition/pattern_sum.h"
#include "runtime/context.h"

/* Of any problem: pairs of tokens, and elements of all tensors together, stay in the range of int64_t. */
static const int64_t most_tokens = (int64_t)1 << 31;
static const double most_elements = 0x1p58;
enum { MOST_BATCH = 1 << 20, MOST_HEADS = 1 << 16, MOST_DIM = 512 };

/* Not collective. Puts a value where 0 or NULL stands for one; limits beyond any token become MASK_UNLIMITED or the
 * largest that means the same. Then each field is checked, alone and with the others: nothing else looks at a problem
 * before. */
longspan_status problem_complete(longspan_problem *p, failure *f);

/* Not collective. The sparse pattern of a complete problem, to be destroyed (partition/pattern_sum.h); NULL where it
 * has none. */
longspan_status problem_pattern(const longspan_problem *p, pattern_sum **pattern_p, failure *f);

/* Not collective. LEFT and RIGHT of the window that the relative keys of a problem with its defaults belong to. Fails with
 * UNSUPPORTED where there is no such window. */
longspan_status problem_relative_sides(const longspan_problem *p, int64_t *left_p, int64_t *right_p, failure *f);
/* Parts of problem_complete and problem_check_equal. */
void problem_check_relative(const longspan_problem *p, failure *f);
int64_t problem_hash_relative(const longspan_problem *p);

/* Collective over the context. A failure on all, and the context's last error, unless all ranks have the same. */
longspan_status problem_check_equal(longspan_context *context, const longspan_problem *p, failure *f);

/* Not collective; a complete problem. Multiply-adds that a (query, key) pair takes whatever the data: D + E, with
 * relative keys 2 D + E, or of alpha-entmax, which looks at few values, D. */
int problem_pair_elements(const longspan_problem *p);

/* What problems of all kinds share. Not collective. */
bool problem_type_is_known(longspan_type type);
/* Offsets of packed documents of `tokens` tokens. */
void problem_check_documents(const int64_t *documents, int64_t document_count, int64_t tokens, failure *f);
/* Stands for an array of `count` elements, at most `most`, where ranks must have the same; what has no sound count is
 * found later, by every rank. */
int64_t problem_hash_array(const void *values, size_t size, int64_t count, int64_t most);

#endif
