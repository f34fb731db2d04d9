/* longspan plan with a linear --attention. */
#ifndef CLI_PLAN_LINEAR_H
#define CLI_PLAN_LINEAR_H

#include "runtime/cli/files.h"
#include "runtime/cli/options.h"

/* Collective. The problem is that of the options, or of an input. */
exit_status plan_linear(session *s, const options *o);
exit_status plan_linear_file(session *s, const options *o, const input_file *input);

#endif
