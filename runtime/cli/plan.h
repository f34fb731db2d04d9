/* longspan plan: what the plans of softmax and of linear attention have in common. */
#ifndef CLI_PLAN_H
#define CLI_PLAN_H

#include "runtime/cli/files.h"
#include "runtime/cli/machine_file.h"
#include "runtime/cli/options.h"

#include <jansson.h>

/* Not collective: on rank 0. Plans a problem, of the type that the maker knows, and prints it. Returns the report if one is
 * wanted, else NULL; so it does with a failure in *f. */
typedef json_t *plan_maker(const session *s, const options *o, const void *problem, const machine_source *source,
                           failure *f);
/* Collective. Has rank 0 make a plan and writes its report. */
exit_status plan_by(session *s, const options *o, plan_maker *make, const void *problem);

/* With a linear --attention. Collective. The problem is that of the options, or of an input. */
exit_status plan_linear(session *s, const options *o);
exit_status plan_linear_file(session *s, const options *o, const input_file *input);

#endif
