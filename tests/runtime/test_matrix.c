/* The accuracy bar over its whole product: lengths x heads x masks x strategies in float32; the longest, where each
 * takes seconds, with the two strategies in turn. Slow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "tests/runtime/problem.h"

/* Prints the error of each case on rank 0, and asserts the bar. */
static void assert_within_bar(const test_problem *t)
{
    const longspan_problem *p = &t->problem;
    test_result r = run_problem(t);
    printf("N=%-5lld H=%d G=%d causal=%d documents=%lld %-6s relative RMS %.2e lse %.2e\n", (long long)p->queries,
           p->heads, p->kv_heads, p->causal, (long long)p->document_count, p->strategy, r.relative_rms, r.worst_lse);
    if (r.status != LONGSPAN_OK || !(r.relative_rms <= 1e-6) || !(r.worst_lse <= 2e-6) || r.mismatches)
        fail_msg("status %d, relative RMS %.3g, lse %.3g, %lld mismatches (seed %llu)", r.status, r.relative_rms,
                 r.worst_lse, (long long)r.mismatches, (unsigned long long)t->seed);
}

static void float32_is_within_its_bar_for_all_lengths_heads_and_masks(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 7, 31, 698, 3816, 10000};
    static const int heads[][2] = {{1, 1}, {3, 1}, {3, 3}, {8, 1}, {8, 8}};
    static const char *const strategies[] = {"ring", "gather"};
    for (int n = 0; n < 6; n++)
        for (int h = 0; h < 5; h++)
            for (int mask = 0; mask < 4; mask++)
                for (int s = 0; s < 2; s++) {
                    if (lengths[n] == 10000 && (h + mask) % 2 != s) continue;
                    int64_t length = lengths[n], documents[] = {0, length / 5, length / 5, length - length / 7, length};
                    test_problem t = make_problem(length, heads[h][0], heads[h][1], 64);
                    t.checked_rows = 10;
                    t.problem.causal = mask % 2;
                    t.problem.documents = mask / 2 ? documents : NULL;
                    t.problem.document_count = mask / 2 ? 4 : 0;
                    t.problem.strategy = strategies[s];
                    assert_within_bar(&t);
                }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(float32_is_within_its_bar_for_all_lengths_heads_and_masks)};
    return RUN_MPI_GROUP(argc, argv, tests);
}
