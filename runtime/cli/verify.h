/* What verify shares between softmax attention (cmd_verify.c), entmax (verify_entmax.c) and the linear family
 * (verify_linear.c). */
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

/* The worst error found so far. */
typedef struct {
    double fraction; /* of the bound; infinite where one is finite and the other is not */
    double error, bound;
    int64_t batch, token;
    int head;
} worst_case;

typedef struct {
    worst_case out, lse;
    int64_t values, over; /* values compared; beyond their bound */
    int64_t wrong_lists;  /* of blocks that q and k do not choose */
    double square_error, square_reference;
} verdict;

/* One value against its reference; `here` says where it is and what its bound is. An infinite lse must be met exactly;
 * where the reference of out is not finite the value must not be either: whether it is NaN or Inf depends on the order
 * of the sums. A reference beyond `most`, the largest value of the type, may have become Inf. */
void verify_compare(verdict *all, worst_case *worst, worst_case here, double value, double reference, double most);
void verify_print_worst(const char *name, const worst_case *c);

/* Collective. The same as verify_linear of a result of sparsemax or entmax. */
void verify_entmax(const session *s, const options *o, const result_file *result, int threads, int64_t rows,
                   failure *f);

/* Collective. Checks a linear result and prints the verdict; f->status is VERIFICATION where it failed, and a failure
 * to check is agreed on and printed. */
void verify_linear(const session *s, const options *o, const result_file *result, int threads, int64_t rows,
                   failure *f);

/* Collective. The same of native sparse attention. */
void verify_nsa(const session *s, const options *o, const result_file *result, int threads, int64_t rows, failure *f);

#endif
