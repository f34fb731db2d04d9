/* One plan executed again and again: on other data, and by ranks that are late. What one execute leaves in buffers, or
 * overwrites before others have received or read it, must not show in the bits of the next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "runtime/context.h"
#include "tests/runtime/product.h"

static int rank, ranks;

enum { SEED_A = 20261120, SEED_B = 20261121 };

static float all_nan(tensor which, int64_t b, int64_t token, int head, int element, float made)
{
    (void)which, (void)b, (void)token, (void)head, (void)element, (void)made;
    return NAN;
}

static longspan_plan *plan_of(const test_problem *t)
{
    longspan_plan *plan = NULL;
    if (longspan_plan_create(t->context, &t->problem, &plan) != LONGSPAN_OK)
        fail_msg("%s", longspan_context_error(t->context));
    return plan;
}

/* A fresh plan's bits, which are right. */
static uint64_t bits_of(test_problem t, uint64_t seed, const char *text)
{
    t.seed = seed;
    const test_result r = run_problem(&t);
    if (r.status != LONGSPAN_OK || !(r.relative_rms <= 1e-6) || r.mismatches)
        fail_msg("%s on %d ranks: status %d %s, relative RMS %.3g, %lld mismatches (seed %llu)", text, ranks, r.status,
                 r.text, r.relative_rms, (long long)r.mismatches, (unsigned long long)seed);
    return r.fingerprint;
}

/* One more execute of the plan, which must give these bits. */
static void assert_bits(test_problem t, longspan_plan *plan, uint64_t seed, uint64_t bits, const char *text)
{
    t.seed = seed;
    t.checked_rows = CHECK_NO_ROWS;
    const test_result r = run_plan(&t, plan);
    if (r.status != LONGSPAN_OK || r.fingerprint != bits)
        fail_msg("%s on %d ranks: status %d, bits %llx where a fresh plan has %llx (seed %llu)", text, ranks, r.status,
                 (unsigned long long)r.fingerprint, (unsigned long long)bits, (unsigned long long)seed);
}

/* NaN in between: whatever is left of it makes NaN of what it meets. */
static void repeat_on_other_data(test_problem *t, const char *text)
{
    const uint64_t a = bits_of(*t, SEED_A, text), b = bits_of(*t, SEED_B, text);
    longspan_plan *plan = plan_of(t);
    assert_bits(*t, plan, SEED_A, a, text);
    test_problem nan = *t;
    nan.replace = all_nan;
    nan.checked_rows = 1;
    const test_result undefined = run_plan(&nan, plan);
    assert_int_equal(undefined.status, LONGSPAN_OK);
    assert_int_equal(undefined.mismatches, 0);
    assert_bits(*t, plan, SEED_B, b, text);
    assert_bits(*t, plan, SEED_A, a, text);
    longspan_plan_destroy(&plan);
}

static void the_same_plan_on_other_data_gives_a_fresh_plans_bits(void **state)
{
    (void)state;
    int refused = 0, refusing = 0, turn = 0;
    for (int strategy = 0; strategy < PRODUCT_STRATEGIES; strategy++) {
        test_problem t = product_open(strategy, ranks, 1);
        assert_non_null(t.context);
        refusing += product_refuses(strategy, ranks);
        for (int layout = 0; layout < PRODUCT_LAYOUTS; layout++, turn++) {
            char text[256];
            const product_point point = {turn % PRODUCT_MASKS, turn % PRODUCT_SCORES, strategy, layout,
                                         turn % PRODUCT_SHAPES, LONGSPAN_FLOAT32};
            product_set(&t, &point, text);
            if (!product_refuses(strategy, ranks)) repeat_on_other_data(&t, text);
            else refused += run_problem(&t).status == LONGSPAN_ERROR_UNSUPPORTED;
        }
        longspan_context_destroy(&t.context);
    }
    assert_int_equal(refused, refusing * PRODUCT_LAYOUTS);
}

/* A kernel that takes naps: before it folds, while the library would poll, and after it. */
static struct {
    const attention_kernel *real;
    uint64_t random;
    void (*poll)(void *data, double fraction);
    void *poll_data;
} late;

/* One of three times, 0 to 2 ms; one of fifty, 8 ms. */
static void nap(void)
{
    late.random = late.random * 6364136223846793005u + 1442695040888963407u;
    const long draw = (long)(late.random >> 33);
    long nanoseconds = draw % 3 == 0 ? draw % 2000000 : 0;
    if (draw % 50 == 1) nanoseconds = 8000000;
    if (nanoseconds > 0) nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL);
}

static void poll_late(void *data, double fraction)
{
    (void)data;
    nap();
    late.poll(late.poll_data, fraction);
}

static void fold_late(const attention_call *call, const attention_span *spans, int64_t span_count)
{
    attention_call slow = *call;
    late.poll = call->poll;
    late.poll_data = call->poll_data;
    slow.poll = poll_late;
    nap();
    late.real->fold(&slow, spans, span_count);
    nap();
}

/* Shards are too long to be sent before they are received (Open MPI: 4 KiB between ranks of a node), else a buffer
 * that is reused too early would have been copied before. */
static void repeat_late(test_problem *t, const char *text)
{
    enum { EXECUTES = 4 };
    const uint64_t bits[] = {bits_of(*t, SEED_A, text), bits_of(*t, SEED_B, text)};
    longspan_plan *plan = plan_of(t);
    attention_kernel napping = *t->context->kernel;
    napping.fold = fold_late;
    late.real = t->context->kernel;
    late.random = (uint64_t)(rank + 1);
    t->context->kernel = &napping;
    for (int i = 0; i < EXECUTES; i++) {
        nap();
        assert_bits(*t, plan, i % 2 ? SEED_B : SEED_A, bits[i % 2], text);
    }
    t->context->kernel = late.real;
    longspan_plan_destroy(&plan);
}

static void late_ranks_change_no_bits(void **state)
{
    (void)state;
    if (ranks == 1) skip();
    for (int strategy = 0; strategy < PRODUCT_STRATEGIES; strategy++) {
        if (product_refuses(strategy, ranks)) continue;
        const test_problem opened = product_open(strategy, ranks, 1);
        assert_non_null(opened.context);
        for (int layout = 0; layout < PRODUCT_LAYOUTS; layout++) {
            char text[64];
            test_problem t = opened;
            longspan_problem *p = &t.problem;
            p->queries = 403;
            p->heads = 4;
            p->kv_heads = 2;
            p->dim = 32;
            p->causal = layout % 2;
            p->layout = product_layout(layout);
            t.own_arrays = layout >= 2;
            t.checked_rows = 1;
            snprintf(text, sizeof text, "%s in nodes of %d, %s", p->strategy, t.node_ranks, p->layout);
            repeat_late(&t, text);
        }
        test_problem done = opened;
        longspan_context_destroy(&done.context);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_plan_on_other_data_gives_a_fresh_plans_bits),
        cmocka_unit_test(late_ranks_change_no_bits),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
