/* Problems of the linear family for tests: made from a seed, folded by a kernel, checked by the recurrence in double.
 */
#ifndef TESTS_KERNELS_LINEAR_PROBLEM_H
#define TESTS_KERNELS_LINEAR_PROBLEM_H

#include "kernels/linear.h"

typedef struct {
    const char *variant;
    int batch, heads, q_heads, k_heads, v_heads, dim, value_dim, features; /* 0: 1, of heads the same as heads; m 24 */
    int64_t tokens, first_token;
    int64_t pieces[8]; /* where pieces but the first begin; 0 at the end */
    kernel_type type, out_type;
    double decay;     /* log-decays are uniform in [decay, 0); 0: [-0.2, 0) */
    double resets;    /* this part of them is -inf */
    double key_scale; /* 0: 1 */
    bool summarises, two_sided;
    int threads;
    uint64_t seed;
} linear_problem_shape;

typedef struct {
    linear_problem_shape shape;
    linear_call call; /* of all tokens */
    void *q, *k, *v;
    float *log_decay, *beta, *bonus, *features;
    double *reference;
    int64_t *pieces;
    double *expected;       /* [B, T, H, E], of the recurrence */
    double *expected_state; /* [B, H, F, W] after the last token, exponents counted from 0 */
} linear_problem;

linear_problem linear_problem_create(const linear_problem_shape *shape, const linear_kernel *kernel);
/* expected and expected_state again, of inputs that have been changed. */
void linear_problem_expect(linear_problem *p);
void linear_problem_destroy(linear_problem *p);
/* The kernel that the command line names: the portable one if none. Ends the program where the CPU lacks it. */
const linear_kernel *linear_kernel_under_test(int argc, char **argv);
/* Of tokens [begin, end) of a batch of 1: arrays and pieces, in `pieces` (16). Same workspace. */
linear_call linear_problem_run(const linear_problem *p, int64_t begin, int64_t end, int64_t *pieces);
double *linear_states_create(const linear_problem *p);
float *linear_outputs_create(const linear_problem *p);
/* Root mean square of the difference over that of the expected. NaN expected must be NaN. */
double linear_problem_error(const linear_problem *p, const void *out);

#endif
