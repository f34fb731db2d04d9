/* --attention: what goes with which kind of attention. An option that has no meaning for the kind is refused, and the
 * line names both. */
#ifndef CLI_ATTENTION_OPTION_H
#define CLI_ATTENTION_OPTION_H

#include "runtime/cli/options.h"

/* Not collective but to be called alike on every rank, once all options are read. Fills in the mask of a linear
 * variant, causal unless given. EXIT_DONE, or EXIT_USAGE and rank 0 has said why. */
exit_status attention_option_check(const session *s, options *o);

/* The names that --attention takes besides softmax; NULL at the end. */
const char *attention_option_listed(int index);

#endif
