/* A problem of the linear family as the user states it: its defaults, and what is wrong with it. */
#ifndef RUNTIME_LINEAR_PROBLEM_H
#define RUNTIME_LINEAR_PROBLEM_H

#include "kernels/linear.h"
#include "runtime/context.h"

/* Not collective. Puts a value where 0 or NULL stands for one, and checks each field, alone and with the others: nothing
 * else looks at a problem before. */
longspan_status linear_problem_complete(longspan_linear_problem *p, failure *f);

/* Collective over the context. A failure on all, and the context's last error, unless all ranks have the same. */
longspan_status linear_problem_check_equal(longspan_context *context, const longspan_linear_problem *p, failure *f);

/* Not collective. The largest of the head counts: H, of out. */
int linear_problem_heads(const longspan_linear_problem *p);

/* Not collective; a complete problem. `summarises` is the strategy's. */
linear_shape linear_problem_shape(const longspan_linear_problem *p, bool summarises);

#endif
