/* Scores of pooled keys: what a plain loop gives, to the bit, whatever else is computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "tests/kernels/problem.h"

enum { MOST_ROWS = 9, MOST_DIM = 70, MOST_KEYS = 101, STRIDE = 160 };

static const attention_kernel *kernel;

static void scores_are_those_of_a_plain_loop(void **unused)
{
    (void)unused;
    static float q[MOST_ROWS * MOST_DIM], k[MOST_DIM * STRIDE];
    static double scores[MOST_ROWS * STRIDE];
    uint64_t random = 31;
    for (size_t i = 0; i < sizeof q / sizeof *q; i++) q[i] = (float)random_normal(&random);
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) k[i] = (float)random_normal(&random);
    for (int rows = 1; rows <= MOST_ROWS; rows++)
        for (int dim = 1; dim <= MOST_DIM; dim += 23)
            for (int64_t count = 1; count <= MOST_KEYS; count += 25) {
                kernel->block_scores(q, rows, k, STRIDE, dim, count, scores, STRIDE);
                for (int r = 0; r < rows; r++)
                    for (int64_t c = 0; c < count; c++) {
                        double sum = 0;
                        for (int d = 0; d < dim; d++) sum += (double)q[r * dim + d] * (double)k[d * STRIDE + c];
                        assert_true(scores[r * STRIDE + c] == sum);
                    }
            }
}

int main(int argc, char **argv)
{
    kernel = kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(scores_are_those_of_a_plain_loop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
