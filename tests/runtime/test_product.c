/* Every mask and every score under every strategy and layout, odd lengths, against the float64 oracle. The default run
 * goes through all masks x strategies x layouts, and all scores x strategies x layouts, with the other parts in turn;
 * with the argument "all", through the whole product, but for types and threads, which are in turn in either. What is
 * refused is counted and must be what must be, and names the strategy and what it does not go with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/runtime/product.h"

static bool everything;
static int ranks;

typedef struct {
    int right, refused;
} tally;

/* Relative RMS of out and largest error of lse. Of 16 bits, out is rounded, and the arithmetic may be the type's,
 * which rounds queries and keys that are turned. */
static const double bars[PRODUCT_TYPES][2] = {{1e-6, 2e-6}, {0x1p-11 + 1e-6, 0x1p-11}, {0x1.8p-8, 0x1p-6}};

static bool names_both(const char *text, const char *strategy, const char *other)
{
    char name[64];
    snprintf(name, sizeof name, "strategy '%s'", strategy);
    return strstr(text, name) && strstr(text, other);
}

static void run_point(test_problem *t, const product_point *point, tally *counts)
{
    char text[256];
    product_set(t, point, text);
    const test_result r = run_problem(t);
    const char *refusal = product_refusal(point->strategy, ranks);
    const double *bar = bars[point->type];
    if (r.status == LONGSPAN_ERROR_UNSUPPORTED && refusal) {
        if (!names_both(r.text, t->problem.strategy, refusal))
            fail_msg("%s: '%s' is not in: %s", text, refusal, r.text);
        counts->refused++;
        return;
    }
    if (r.status != LONGSPAN_OK || !(r.relative_rms <= bar[0]) || !(r.worst_lse <= bar[1]) || r.mismatches ||
        r.bytes_sent != r.bytes_received)
        fail_msg(
            "%s on %d ranks (seed %llu): status %d %s, relative RMS %.3g, lse %.3g, %lld mismatches, %lld bytes sent, "
            "%lld received",
            text, ranks, (unsigned long long)t->seed, r.status, r.text, r.relative_rms, r.worst_lse,
            (long long)r.mismatches, (long long)r.bytes_sent, (long long)r.bytes_received);
    counts->right++;
}

/* All points of a strategy and a layout, or those of the default run. */
static void run_layout(test_problem *t, int strategy, int layout, tally *counts)
{
    int turn = strategy * PRODUCT_LAYOUTS + layout;
    if (everything) {
        for (int i = 0; i < PRODUCT_MASKS * PRODUCT_SCORES * PRODUCT_SHAPES; i++) {
            const product_point point = {i / PRODUCT_SHAPES / PRODUCT_SCORES, i / PRODUCT_SHAPES % PRODUCT_SCORES,
                                         strategy, layout, i % PRODUCT_SHAPES,
                                         (longspan_type)(i % PRODUCT_TYPES)};
            run_point(t, &point, counts);
        }
        return;
    }
    for (int mask = 0; mask < PRODUCT_MASKS; mask++, turn++)
        run_point(t,
                  &(product_point){mask, turn % PRODUCT_SCORES, strategy, layout, turn % PRODUCT_SHAPES,
                                   (longspan_type)(turn % PRODUCT_TYPES)},
                  counts);
    for (int scores = 0; scores < PRODUCT_SCORES; scores++, turn += 2)
        run_point(t,
                  &(product_point){turn % PRODUCT_MASKS, scores, strategy, layout, turn % PRODUCT_SHAPES,
                                   (longspan_type)(turn % PRODUCT_TYPES)},
                  counts);
}

static void every_mask_and_score_is_right_under_every_strategy_and_layout(void **state)
{
    (void)state;
    tally counts = {0};
    int refusing = 0;
    for (int strategy = 0; strategy < PRODUCT_STRATEGIES; strategy++) {
        refusing += product_refuses(strategy, ranks);
        for (int layout = 0; layout < PRODUCT_LAYOUTS; layout++) {
            /* Threads of more ranks would wait for each other's CPUs. */
            test_problem t = product_open(strategy, ranks, ranks <= 2 ? 1 + (strategy + layout) % 2 : 1);
            assert_non_null(t.context);
            run_layout(&t, strategy, layout, &counts);
            longspan_context_destroy(&t.context);
        }
    }
    const int points = PRODUCT_LAYOUTS *
                       (everything ? PRODUCT_MASKS * PRODUCT_SCORES * PRODUCT_SHAPES : PRODUCT_MASKS + PRODUCT_SCORES);
    printf("%d points right, %d refused\n", counts.right, counts.refused);
    assert_int_equal(counts.refused, refusing * points);
    assert_int_equal(counts.right, (PRODUCT_STRATEGIES - refusing) * points);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mask_and_score_is_right_under_every_strategy_and_layout),
    };
    everything = argc > 1 && strcmp(argv[1], "all") == 0;
    mpi_group_begin(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
