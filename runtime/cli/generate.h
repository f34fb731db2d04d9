/* What generate shares between softmax attention (cmd_generate.c) and the linear family (generate_linear.c). */
#ifndef CLI_GENERATE_H
#define CLI_GENERATE_H

#include "io/output_file.h"
#include "runtime/cli/options.h"

enum { GENERATE_PIECE_BYTES = 16 << 20 };

/* Dataset `name` of [tokens, heads, dim], where dim is 0 of [tokens, heads], with B in front if --batch was given:
 * returns how many elements it has, -1 if more than 2^58. */
int64_t generate_describe(const options *o, const char *name, longspan_type type, int64_t tokens, int heads, int dim,
                          output_dataset *dataset);

/* Collective. The whole of generate with a linear --attention. */
exit_status generate_linear(session *s, const options *o);

#endif
