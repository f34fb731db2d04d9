/* Every shape that `longspan bench kernels` times, at a length that the oracle can follow, for the kernel that the
 * argument names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bench/kernel_shapes.h"
#include "tests/kernels/problem.h"

enum { MOST_TOKENS = 203, MOST_KEYS_OF_DECODING = 523, MOST_WINDOW = 71, ROWS = 24 };

static const attention_kernel *kernel;

/* Heads, sizes, type, mask and scores as in the list; lengths that end within a block. */
static problem_shape reduced(const kernel_shape *s, uint64_t seed)
{
    const int64_t most_keys = s->tokens < s->keys ? MOST_KEYS_OF_DECODING : MOST_TOKENS;
    return (problem_shape){.type = s->type,
                           .heads = s->heads,
                           .kv_heads = s->kv_heads,
                           .dim = s->dim,
                           .value_dim = s->value_dim,
                           .tokens = s->tokens < MOST_TOKENS ? s->tokens : MOST_TOKENS,
                           .keys = s->keys < most_keys ? s->keys : most_keys,
                           .query_scale = (float)s->score_scale,
                           .mask = s->causal ? MASK_CAUSAL : MASK_FULL,
                           .window = s->window < MOST_WINDOW ? s->window : MOST_WINDOW,
                           .seed = seed};
}

static void every_shape_of_the_benchmark_is_right_on_one_and_two_threads(void **unused)
{
    (void)unused;
    for (int i = 0; i < kernel_shape_count; i++) {
        const problem_shape shape = reduced(&kernel_shapes[i], 12000 + (uint64_t)i);
        const double bound = kernel_shapes[i].score_scale > 1 ? 6e-6 : 1e-6;
        problem p = problem_create(&shape);
        for (int threads = 1; threads <= 2; threads++) {
            attention_state state = problem_state(&p, kernel, &(fold_cut){.threads = threads});
            problem_check(&p, state, ROWS, bound, 1e-6);
            state_destroy(&state);
        }
        problem_destroy(&p);
    }
}

static void every_shape_can_be_run_and_none_is_there_twice(void **unused)
{
    (void)unused;
    assert_true(kernel_shape_count > 0);
    for (int i = 0; i < kernel_shape_count; i++) {
        const kernel_shape *s = &kernel_shapes[i];
        assert_in_range(s->dim, 1, 512);
        assert_in_range(s->value_dim, 1, 512);
        assert_true(s->kv_heads > 0 && s->heads > 0 && s->heads % s->kv_heads == 0);
        assert_true(s->tokens > 0 && s->keys >= s->tokens && s->score_scale > 0);
        assert_true(s->causal || s->window == 0);
        for (int j = 0; j < i; j++) {
            const kernel_shape *t = &kernel_shapes[j];
            const int same = s->type == t->type && s->heads == t->heads && s->kv_heads == t->kv_heads &&
                             s->dim == t->dim && s->value_dim == t->value_dim && s->tokens == t->tokens &&
                             s->keys == t->keys && s->causal == t->causal && s->window == t->window &&
                             s->score_scale == t->score_scale;
            if (same) fail_msg("lines %d and %d of the list are the same", j, i);
        }
    }
}

int main(int argc, char **argv)
{
    kernel = kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_can_be_run_and_none_is_there_twice),
        cmocka_unit_test(every_shape_of_the_benchmark_is_right_on_one_and_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
