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

static linear_problem_shape some(int variant, uint64_t seed)
{
    return (linear_problem_shape){.variant = linear_variants[variant]->name,
                                  .heads = 2,
                                  .dim = 20,
                                  .value_dim = 36,
                                  .tokens = 210,
                                  .first_token = 37,
                                  .seed = seed + (uint64_t)variant};
}

static void strong_decays_and_resets_are_right(void **unused)
{
    (void)unused;
    static const double decays[] = {-1e-6, -1, -5, -20, -200};
    for (int i = 0; i < linear_variant_count; i++)
        for (size_t d = 0; d < sizeof decays / sizeof decays[0]; d++)
            for (int resets = 0; resets < 2 && linear_variants[i]->decay > LINEAR_DECAY_RETENTION; resets++) {
                linear_problem_shape shape = some(i, 1000 + 100 * d);
                shape.decay = decays[d];
                shape.resets = resets ? 0.1 : 0;
                check(&shape, 2e-6);
            }
}

static void documents_of_every_length_begin_with_nothing(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++)
        for (int summarises = 0; summarises < 2; summarises++) {
            linear_problem_shape shape = some(i, 2000);
            memcpy(shape.pieces, (int64_t[8]){1, 2, 3, 27, 28, 91, 170}, sizeof shape.pieces);
            shape.summarises = summarises;
            check(&shape, 2e-6);
        }
}

static void grouped_heads_read_their_head(void **unused)
{
    (void)unused;
    static const int heads[][4] = {{4, 4, 2, 1}, {4, 1, 4, 2}, {6, 2, 3, 6}, {6, 6, 1, 3}};
    for (int i = 0; i < linear_variant_count; i++)
        for (size_t g = 0; g < sizeof heads / sizeof heads[0]; g++) {
            linear_problem_shape shape = some(i, 3000);
            shape.heads = heads[g][0], shape.q_heads = heads[g][1], shape.k_heads = heads[g][2];
            shape.v_heads = heads[g][3], shape.batch = 2, shape.tokens = 70, shape.threads = 2;
            check(&shape, 2e-6);
        }
}

static void every_type_is_read_and_written(void **unused)
{
    (void)unused;
    static const double bounds[] = {[KERNEL_FLOAT32] = 2e-6, [KERNEL_FLOAT16] = 1e-3, [KERNEL_BFLOAT16] = 4e-3};
    for (int i = 0; i < linear_variant_count; i++)
        for (int type = 0; type <= KERNEL_BFLOAT16; type++)
            for (int out = 0; out <= KERNEL_BFLOAT16; out++) {
                linear_problem_shape shape = some(i, 4000);
                shape.type = (kernel_type)type, shape.out_type = (kernel_type)out, shape.tokens = 70;
                check(&shape, bounds[out]);
            }
}

/* One head of many columns: blocks, whose number is the shape's. */
static void few_heads_are_cut_into_blocks_of_columns(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++) {
        linear_problem_shape shape = some(i, 5000);
        shape.heads = 1, shape.value_dim = 300, shape.threads = 3;
        check(&shape, 2e-6);
    }
}

static void lengths_from_none_to_a_few_chunks_are_right(void **unused)
{
    (void)unused;
    static const int64_t lengths[] = {0, 1, 2, 15, 16, 17, 63, 64, 65, 129};
    for (int i = 0; i < linear_variant_count; i++)
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
            linear_problem_shape shape = some(i, 6000);
            shape.tokens = lengths[l], shape.first_token = (int64_t)l % 3 * 64;
            check(&shape, 2e-6);
        }
}

/* In x, of one token and its head. */
static void element_set(linear_problem *p, void *x, int width, int64_t token, float value)
{
    ((float *)x)[token * p->call.shape.heads * width + 1] = value;
}

static void what_is_not_finite_stays_where_the_recurrence_puts_it(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++)
        for (int which = 0; which < 3; which++) {
            linear_problem_shape shape = some(i, 7000);
            memcpy(shape.pieces, (int64_t[8]){100}, sizeof shape.pieces);
            linear_problem p = linear_problem_create(&shape, kernel);
            element_set(&p,
                        which == 0   ? p.q
                        : which == 1 ? p.k
                                     : p.v,
                        which == 2 ? shape.value_dim : shape.dim, 50, NAN);
            double *states = linear_states_create(&p);
            float *out = linear_outputs_create(&p);
            kernel->fold(&p.call, 0, linear_units(&p.call.shape), states, out, NULL);
            linear_problem_expect(&p);
            int64_t nans = 0;
            for (int64_t j = 0; j < shape.tokens * shape.heads * shape.value_dim; j++) {
                if (isnan(p.expected[j]) != isnan(out[j]))
                    fail_msg("%s, array %d: token %d", shape.variant, which,
                             (int)(j / (shape.heads * shape.value_dim)));
                nans += isnan(out[j]);
            }
            assert_true(nans > 0);
            assert_true(linear_problem_error(&p, out) < 2e-6);
            free(states), free(out);
            linear_problem_destroy(&p);
        }
}

/* Decays of 2^-20 a token, over 2^16 tokens, and none. */
static void long_sums_keep_single_precision(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++) {
        if (linear_variants[i]->map == LINEAR_MAP_BASED) continue;
        linear_problem_shape shape = some(i, 8000);
        shape.heads = 1, shape.dim = 8, shape.value_dim = 8, shape.features = 8;
        shape.tokens = 1 << 15, shape.decay = -0x1p-20;
        check(&shape, 3e-6);
    }
}

int main(int argc, char **argv)
{
    kernel = linear_kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_and_size_is_right),
        cmocka_unit_test(strong_decays_and_resets_are_right),
        cmocka_unit_test(documents_of_every_length_begin_with_nothing),
        cmocka_unit_test(grouped_heads_read_their_head),
        cmocka_unit_test(every_type_is_read_and_written),
        cmocka_unit_test(few_heads_are_cut_into_blocks_of_columns),
        cmocka_unit_test(lengths_from_none_to_a_few_chunks_are_right),
        cmocka_unit_test(what_is_not_finite_stays_where_the_recurrence_puts_it),
        cmocka_unit_test(long_sums_keep_single_precision),
    };
    const int failed = cmocka_run_group_tests_name("kernels.linear", tests, NULL, NULL);
    print_message("largest relative RMS %.3g\n", largest_error);
    return failed;
}
