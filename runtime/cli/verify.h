/* What verify shares between softmax attention (cmd_verify.c) and the linear family (verify_linear.c). */
#ifndef CLI_VERIFY_H
#define CLI_VERIFY_H

#include "runtime/cli/options.h"
#include "runtime/cli/result_file.h"

/* A token from each of `rows` equal stretches of the B N tokens, ascending with `index`. */
int64_t verify_sample_row(uint64_t seed, int64_t index, int64_t rows, int64_t total);

/* Constants of out's type: unit roundoff, largest finite value, and what is lost where values underflow (float32 and
 * bfloat16: the kernels flush subnormals, which a small l can magnify). */
typedef struct {
    double roundoff, most, tiny;
} type_limits;
type_limits verify_limits_of(io_type type);

/* Collective. Checks a linear result and prints the verdict; f->status is VERIFICATION where it failed, and a failure
 * to check is agreed on and printed. */
void verify_linear(const session *s, const options *o, const result_file *result, int threads, int64_t rows,
                   failure *f);

/* Collective. The same of native sparse attention. */
void verify_nsa(const session *s, const options *o, const result_file *result, int threads, int64_t rows, failure *f);

#endif
