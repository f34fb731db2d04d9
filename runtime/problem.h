/* A problem as the user states it: its defaults, and what is wrong with it. */
#ifndef RUNTIME_PROBLEM_H
#define RUNTIME_PROBLEM_H

#include "partition/pattern.h"
#include "runtime/context.h"

/* Not collective. Puts a value where 0 or NULL stands for one; limits beyond any token become MASK_UNLIMITED or the
 * largest that means the same. Then each field is checked, alone and with the others: nothing else looks at a problem
 * before. */
longspan_status problem_complete(longspan_problem *p, failure *f);

/* Not collective. The sparse pattern of a complete problem, to be destroyed (partition/pattern.h); NULL where it has
 * none. */
longspan_status problem_pattern(const longspan_problem *p, pattern **pattern_p, failure *f);

/* Collective over the context. A failure on all, and the context's last error, unless all ranks have the same. */
longspan_status problem_check_equal(longspan_context *context, const longspan_problem *p, failure *f);

#endif
