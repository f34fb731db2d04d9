/* One problem of linear attention on this rank: the plan and the local arrays. What attend and bench share, as job.h is
 * for softmax attention. */
#ifndef CLI_LINEAR_JOB_H
#define CLI_LINEAR_JOB_H

#include "runtime/cli/job.h"
#include "runtime/linear_problem.h"

typedef struct {
    job base;                        /* kernel, threads, context, trace, q, k, v and out; no plan */
    longspan_linear_problem problem; /* every default filled in; arrays are the input's */
    const linear_variant *variant;
    longspan_linear_plan *plan;
    longspan_range rows;                  /* of this rank */
    state_shape state;                    /* but for `batched`, which is the input's */
    float *log_decay;                     /* [B, T, H] or [B, T, H, D]; NULL where the variant has none */
    float *beta;                          /* [B, T, H], likewise */
    longspan_linear_state initial, final; /* arrays on the rank that has the first, the last token, where wanted */
    bool has_initial, has_final;
} linear_job;

/* Not collective. As job_problem_from_input and so on. */
void linear_problem_from_input(const input_file *input, const linear_variant *variant,
                               longspan_linear_problem *problem_p);
void linear_problem_from_options(const options *o, longspan_linear_problem *problem_p);
void linear_problem_choose(const options *o, longspan_linear_problem *problem_p);

/* Collective. Plans and allocates, with a first state and a last one where asked for. Fails as session_agree does;
 * *job_p is to be closed in either case. */
bool linear_job_open(const session *s, const options *o, const longspan_linear_problem *problem, bool has_initial,
                     bool has_final, void (*progress)(void *progress_data, double fraction), void *progress_data,
                     linear_job *job_p, failure *f);
/* Collective. {0} allowed. */
void linear_job_close(linear_job *j);

/* Collective. One execution. Fails as session_agree does. */
bool linear_job_execute(const session *s, linear_job *j, failure *f);

/* Not collective. "chain", ... */
const char *linear_job_strategy(const linear_job *j);

/* Doubles of a state's sums and of its reference, over all batch items. */
int64_t linear_state_sums(const linear_job *j);
int64_t linear_state_references(const linear_job *j);

#endif
