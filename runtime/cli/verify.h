/* What verify shares between softmax attention (cmd_verify.c), entmax (verify_entmax.c), native sparse attention
 * (verify_nsa.c) and the linear family (verify_linear.c). */
#ifndef CLI_VERIFY_H
#define CLI_VERIFY_H

#include "runtime/cli/options.h"
#include "runtime/cli/result_file.h"

/* A token from each of `rows` equal stretches of the B N tokens, ascending with `index`. */
int64_t verify_sample_row(uint64_t seed, int64_t index, int64_t rows, int64_t total);

/* Zeros, to be freed; NULL with the reason in *f. */
void *verify_room(int64_t count, size_t size, failure *f);

typedef struct {
    const tensor_file *file;
    const char *dataset;
    const tensor_shape *shape;
} verify_source;

/* Rows [begin, end) of batch item b as doubles; raw and narrow have room for as many float32. Nothing where *f has failed
 * before. */
void verify_read_rows(const verify_source *source, int64_t b, int64_t begin, int64_t end, void *raw, float *narrow,
                      double *target, failure *f);

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
    int64_t batch, token; /* token -1: nothing compared yet */
    int head;
} worst_case;

typedef struct {
    worst_case out, lse;
    int64_t values, over; /* values compared; beyond their bound */
    int64_t wrong_lists;  /* of blocks that q and k do not choose */
    double square_error, square_reference;
} verdict;

verdict verify_nothing(void);

/* One value against its reference; `here` says where it is and what its bound is. An infinite lse must be met exactly;
 * where the reference of out is not finite the value must not be either: whether it is NaN or Inf depends on the order
 * of the sums. A reference beyond `most`, the largest value of the type, may have become Inf. */
void verify_compare(verdict *all, worst_case *worst, worst_case here, double value, double reference, double most);
/* The same of a value of out, which counts in the RMS error too. */
void verify_compare_out(verdict *all, worst_case here, double value, double reference, const type_limits *limits);

/* Collective. The verdicts of all ranks as one, on every rank. Fails as session_agree does. */
bool verify_join(const session *s, verdict *all, failure *f);

bool verify_failed(const verdict *all);

/* The lines of a verdict: the first three, of q's rows; one a quantity; the last. */
void verify_print_head(const options *o, const tensor_shape *q, int64_t rows, const verdict *all);
void verify_print_worst(const char *name, const worst_case *c);
void verify_print_sums(const verdict *all);

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
