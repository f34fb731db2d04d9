/* Long sequences keep their precision: sums without decay over 2^20 tokens, decayed ones over 2^16. Slow. The oracle
 * looks at a few value columns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "partition/linear_schedule.h"
#include "tests/runtime/linear_case.h"
#include "tests/runtime/problem.h"

static int rank_count;
static longspan_context *context;

/* Every strategy that does not refuse; how many did. */
static int check(const char *attention, int64_t tokens, int causal)
{
    int good = 0;
    linear_case c = linear_case_make(attention, tokens);
    c.problem.batch = 1;
    c.problem.heads = c.problem.k_heads = 1;
    c.problem.v_heads = 2;
    c.problem.dim = 32;
    c.problem.value_dim = 16;
    c.problem.causal = causal;
    c.columns = 3;
    linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
    for (int i = 0; i < linear_strategy_count; i++) {
        const char *strategy = linear_strategies[i]->name;
        const linear_result r =
            linear_run_case(&(linear_run){.comm = MPI_COMM_WORLD, .context = context, .strategy = strategy}, &d);
        if (r.status == LONGSPAN_ERROR_UNSUPPORTED) continue;
        if (r.status != LONGSPAN_OK || r.mismatches > 0 || !(r.relative_rms <= 1e-5))
            fail_msg("%s, %s, %lld tokens on %d ranks: status %d '%s', relative RMS %.3g", attention, strategy,
                     (long long)tokens, rank_count, r.status, r.text, r.relative_rms);
        print_message("%-12s %-10s %8lld tokens, %d ranks: relative RMS %.2e\n", attention, strategy, (long long)tokens,
                      rank_count, r.relative_rms);
        good++;
    }
    linear_data_free(&d);
    return good;
}

static void undecayed_sums_over_a_million_tokens_keep_their_precision(void **state)
{
    (void)state;
    assert_int_equal(check("elu", (int64_t)1 << 20, 1), 3);
    assert_int_equal(check("elu", (int64_t)1 << 20, 0), 2);
    assert_int_equal(check("efficient", (int64_t)1 << 20, 1), 1);
}

static void decayed_states_over_65536_tokens_keep_their_precision(void **state)
{
    (void)state;
    static const char *const names[] = {"retention", "ssd", "gla", "rwkv6", "delta", "gated-delta", "kda"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_int_equal(check(names[i], 1 << 16, 1), 3);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(undecayed_sums_over_a_million_tokens_keep_their_precision),
        cmocka_unit_test(decayed_states_over_65536_tokens_keep_their_precision),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &rank_count);
    longspan_context_create(MPI_COMM_WORLD, NULL, &context);
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    longspan_context_destroy(&context);
    return mpi_group_end(failures);
}
