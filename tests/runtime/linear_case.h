/* Runs a problem of the linear family through the public interface on all ranks and holds it against the recurrence in
 * float64, one token after the other. Every rank makes the whole problem from a seed, and checks its own rows. */
#ifndef TESTS_LINEAR_CASE_H
#define TESTS_LINEAR_CASE_H

#include "runtime/longspan.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    longspan_linear_problem problem; /* arrays that the variant needs are filled in by linear_data_make */
    uint64_t seed;
    bool hard_decays; /* log-decays of -5 a token and below, and -inf; else near 0 */
    int columns;      /* of v that the oracle looks at; 0: all */
} linear_case;

/* The whole of a case, [B, N, heads, ...], and what it should give. */
typedef struct {
    linear_case source;
    longspan_linear_problem problem; /* every default filled in, and arrays that are the data's own */
    int heads;                       /* H */
    void *q, *k, *v;                 /* of the problem's type */
    float *wide_q, *wide_k, *wide_v; /* the same numbers */
    float *log_decay, *beta, *head_log_decay, *bonus, *features;
    double *out;  /* [B, N, H, columns] */
    double *sums; /* [B, H, F, W], exponents counted from 0, as the last document leaves them; causal, all columns */
} linear_data;

/* H = 4 heads of v, 2 of q and k, B = 2, D = 12, E = 10. */
linear_case linear_case_make(const char *attention, int64_t tokens);
/* Collective over comm, whose ranks share the oracle's work by heads. */
linear_data linear_data_make(const linear_case *c, MPI_Comm comm);
void linear_data_free(linear_data *d);

/* What to run of the data, and how. */
typedef struct {
    MPI_Comm comm;
    longspan_context *context; /* of comm */
    const char *strategy;
    int64_t begin, end; /* tokens; {0, 0}: all */
    const longspan_linear_state *initial;
    longspan_linear_state *final; /* afterwards on all ranks */
} linear_run;

/* Equal on every rank, since reduced. */
typedef struct {
    longspan_status status;
    char text[256];         /* of the failure */
    double relative_rms;    /* of out, over all rows of all ranks */
    int64_t mismatches;     /* elements where one of out and the oracle is NaN or Inf and the other is not alike */
    uint64_t fingerprint;   /* of all bits of out, whatever the rank count */
    longspan_timing timing; /* this rank's */
} linear_result;

/* Collective over run->comm. */
linear_result linear_run_case(const linear_run *run, const linear_data *d);

/* Not collective. F, W, R of a state as the definitions have them, and room for one. */
void linear_case_shape(const linear_data *d, int *features_p, int *width_p, int *reference_p);
longspan_linear_state linear_case_state(const linear_data *d);
void linear_case_state_free(longspan_linear_state *state);
/* Of a state after the last token, against the oracle's. */
double linear_state_rms(const linear_data *d, const longspan_linear_state *state);

#endif
