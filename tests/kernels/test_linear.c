/* fold of every variant against its recurrence, for the kernel that the argument names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/linear_problem.h"
#include "tests/kernels/problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const linear_kernel *kernel;
static double largest_error;

static void check(const linear_problem_shape *shape, double bound)
{
    linear_problem p = linear_problem_create(shape, kernel);
    double *states = linear_states_create(&p);
    float *out = linear_outputs_create(&p);
    kernel->fold(&p.call, 0, linear_units(&p.call.shape), states, out, NULL);
    const double error = linear_problem_error(&p, out);
    if (!(error <= bound))
        fail_msg("%s %s: relative RMS %.3g > %.3g; D %d, E %d, N %d, heads %d, seed %d", kernel->name, shape->variant,
                 error, bound, shape->dim, shape->value_dim, (int)shape->tokens, shape->heads, (int)shape->seed);
    if (error > largest_error && shape->out_type == KERNEL_FLOAT32) largest_error = error;
    free(states), free(out);
    linear_problem_destroy(&p);
}

static void every_variant_and_size_is_right(void **unused)
{
    (void)unused;
    static const int sizes[][2] = {{1, 1}, {3, 5}, {16, 16}, {64, 40}, {72, 72}, {128, 128}, {40, 130}};
    for (int i = 0; i < linear_variant_count; i++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            if (linear_variants[i]->map == LINEAR_MAP_BASED && sizes[s][0] > 40) continue;
            check(&(linear_problem_shape){.variant = linear_variants[i]->name,
                                          .heads = 2,
                                          .dim = sizes[s][0],
                                          .value_dim = sizes[s][1],
                                          .tokens = 150,
                                          .first_token = 7,
                                          .seed = s * 100 + (uint64_t)i},
                  1e-6);
        }
}

int main(int argc, char **argv)
{
    kernel = linear_kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_and_size_is_right),
    };
    const int failed = cmocka_run_group_tests_name("kernels.linear", tests, NULL, NULL);
    print_message("largest relative RMS %.3g\n", largest_error);
    return failed;
}
