/* Runs a problem through the public interface on all ranks and holds it against the float64 oracle. */
#ifndef TESTS_PROBLEM_H
#define TESTS_PROBLEM_H

#include "runtime/longspan.h"

#include <stdbool.h>

/* Data are a function of (seed, tensor, batch item, token, head, element), so every rank can make any row. */
typedef enum { TENSOR_Q, TENSOR_K, TENSOR_V } tensor;

enum { CHECK_NO_ROWS = -1 };

typedef struct {
    MPI_Comm comm;
    longspan_problem problem;
    longspan_context *context; /* NULL: one made for the run */
    int threads;               /* 0: the default */
    const char *compute;       /* NULL: the default, which rounds what is of two bytes on some CPUs */
    bool share_nothing;        /* ranks do not share memory */
    int node_ranks;            /* as if so many ranks in a row were a node; 0: the real ones */
    bool own_arrays;           /* k and v are put into the plan's arrays, where it has some */
    uint64_t seed;
    /* [H, N, M]: how often a sparse pattern lets queries see keys that the mask leaves; NULL: once. */
    const unsigned char *times;
    int64_t checked_rows; /* rows of each rank to hold against the oracle; 0 for all, or CHECK_NO_ROWS */
    float q_factor;       /* multiplies q; 0 means 1 */
    /* Replaces a value of the made data; NULL for none. */
    float (*replace)(tensor t, int64_t b, int64_t token, int head, int element, float made);
} test_problem;

/* Equal on every rank, since reduced. */
typedef struct {
    longspan_status status;
    char text[256];      /* of the failure */
    double relative_rms; /* of out, over all checked rows of all ranks */
    double worst_lse;    /* largest |lse - reference| / max(1, |reference|) */
    double worst_ulps;   /* largest |out - reference| / (unit roundoff * |reference| + 2e-6 * rms of the reference) */
    int64_t
        mismatches; /* elements where one of out and reference is NaN, Inf or exactly 0 and the other is not alike */
    int64_t bytes_sent, bytes_received; /* over all ranks */
    double flops;                       /* over all ranks, as the plan counts them */
    uint64_t fingerprint;               /* of all bits of out and lse, whatever the rank count and layout */
} test_result;

/* Collective over t->comm. */
test_result run_problem(const test_problem *t);

/* One execute of a plan of t's problem, which may have had others before it. As soon as it has returned the inputs are
 * the caller's again: this one fills them with NaN. Collective over t->comm. */
test_result run_plan(const test_problem *t, longspan_plan *plan);

/* A problem over all ranks: N queries and keys, H heads, G key/value heads, head size D. */
test_problem make_problem(int64_t tokens, int heads, int kv_heads, int dim);

/* A context for t->context, to be destroyed by the caller; or NULL and *status_p. Collective over t->comm. */
longspan_context *open_context(const test_problem *t, longspan_status *status_p);

/* Mean 0, variance 1, a function of its arguments: the same number on every rank. */
double made_number(uint64_t seed, int which, int64_t b, int64_t token, int head, int element);
/* Every input bit reaches every output bit. */
uint64_t scramble(uint64_t x);
/* Both NaN, the same infinity, or both finite. */
bool alike(double a, double b);

/* Initialises MPI, runs the cmocka group on all ranks in step (every assertion is on reduced values), and returns the
 * number of failures. Only rank 0 prints what passed. */
#define RUN_MPI_GROUP(argc, argv, tests)                                                                               \
    (mpi_group_begin(&(argc), &(argv)), mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL)))
void mpi_group_begin(int *argc, char ***argv);
int mpi_group_end(int failures);

#endif
