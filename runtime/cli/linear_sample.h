/* One fold of a linear variant by one kernel, timed, and the loop token by token that it is measured against. */
#ifndef CLI_LINEAR_SAMPLE_H
#define CLI_LINEAR_SAMPLE_H

#include "kernels/linear.h"
#include "runtime/cli/linear_inputs.h"

/* The arrays of a problem on one process. */
typedef struct {
    longspan_linear_problem problem;
    linear_inputs made;
    linear_call call; /* but for `threads` */
    int64_t pieces[2];
    void *q, *k, *v, *out, *workspace;
    float *log_decay, *beta;
    double *reference, *states;
    int64_t loop_tokens; /* that the loop goes over: few, since it is slow */
    float *loop_scratch, *loop_out;
} linear_data;

/* Times in seconds, rates a second. */
typedef struct {
    double wall; /* of the fold of all tokens and heads */
    double peak; /* float32 multiply-add flop/s of as many threads, measured just before */
    double loop; /* of as many tokens and heads by the loop with the kernel's flags, on one thread; 0: not measured */
} linear_sample;

/* The values of `generate`; for samples of at most `threads` threads. The failure is kept in *f. To be destroyed in
 * either case. */
void linear_data_create(const longspan_linear_problem *problem, uint64_t seed, int threads, linear_data *data_p,
                        failure *f);
void linear_data_destroy(linear_data *data);

/* Collective, as report_peak is. The loop is run on one thread only. */
linear_sample linear_sample_take(MPI_Comm comm, linear_data *data, const linear_kernel *kernel, int threads);

/* Relative root mean square of the loop's outputs against the kernel's, of the tokens and the head that the last sample
 * went over: shows that the two compute the same. */
double linear_data_difference(const linear_data *data);

#endif
