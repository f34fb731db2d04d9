/* The bytes that a rank sends for linear attention, counted as they are posted, are those of the closed form that the
 * strategy promises (partition/linear_<strategy>.c), written down here once more, and do not depend on the tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/linear.h"
#include "tests/runtime/linear_case.h"
#include "tests/runtime/problem.h"

static int rank, ranks;
static longspan_context *context;

/* States. */
static int64_t chain_sends(void)
{
    return rank < ranks - 1;
}

static int64_t gather_sends(void)
{
    return ranks - 1 - rank;
}

static int64_t scan_sends(void)
{
    int64_t rounds = 0;
    for (int distance = 1; distance <= ranks - 1 - rank; distance *= 2) rounds++;
    return rounds;
}

static int64_t two_sided_gather_sends(void)
{
    return ranks - 1;
}

static int64_t allreduce_sends(void)
{
    int rounds = 0;
    while (2 << rounds <= ranks) rounds++;
    const int paired = 2 * (ranks - (1 << rounds));
    return rank >= paired ? rounds : rank % 2 ? rounds + 1 : 1;
}

typedef struct {
    const char *strategy;
    int causal;
    bool summaries; /* travel with their transitions */
    int64_t (*sends)(void);
} traffic_case;

static const traffic_case cases[] = {
    {"chain", 1, false, chain_sends},
    {"gather", 1, true, gather_sends},
    {"scan", 1, true, scan_sends},
    {"gather", 0, false, two_sided_gather_sends},
    {"allreduce", 0, false, allreduce_sends},
};

/* Of a state of all heads; and of all transitions. */
static int64_t state_bytes(const linear_data *d, bool summary)
{
    const linear_variant *variant = linear_variant_find(d->problem.attention);
    int features, width, reference;
    linear_case_shape(d, &features, &width, &reference);
    const int64_t transition = variant->erases                          ? features * features
                               : variant->decay == LINEAR_DECAY_FEATURE ? features
                                                                        : 1;
    return 8 * d->problem.batch * d->heads * (features * width + (summary ? transition : 0));
}

static void assert_traffic(const traffic_case *t, const char *attention, int64_t tokens)
{
    linear_case c = linear_case_make(attention, tokens);
    c.problem.causal = t->causal;
    linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
    const linear_result r =
        linear_run_case(&(linear_run){.comm = MPI_COMM_WORLD, .context = context, .strategy = t->strategy}, &d);
    const int64_t expected = t->sends() * state_bytes(&d, t->summaries);
    int wrong_rank = r.status != LONGSPAN_OK || r.timing.bytes_sent != expected ? rank : -1;
    int64_t sums[2] = {r.timing.bytes_sent, r.timing.bytes_received};
    if (wrong_rank >= 0)
        fprintf(stderr, "rank %d of %d: %s, %s, %lld tokens: %lld bytes sent, %lld expected; '%s'\n", rank, ranks,
                attention, t->strategy, (long long)tokens, (long long)r.timing.bytes_sent, (long long)expected, r.text);
    MPI_Allreduce(MPI_IN_PLACE, &wrong_rank, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    assert_int_equal(wrong_rank, -1);
    assert_int_equal(sums[0], sums[1]);
    linear_data_free(&d);
}

static void every_rank_sends_what_its_strategy_promises_whatever_the_tokens(void **state)
{
    (void)state;
    static const char *const names[] = {"elu", "based", "retention", "ssd", "gla", "kda"};
    int seen = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
            if (!cases[i].causal && !linear_variant_find(names[n])->two_sided) continue;
            assert_traffic(&cases[i], names[n], (int64_t)ranks * LINEAR_CHUNK);
            assert_traffic(&cases[i], names[n], (int64_t)ranks * LINEAR_CHUNK * 2 + 17);
            seen++;
        }
    assert_int_equal(seen, 3 * 6 + 2 * 2);
}

/* Nothing travels past the boundary of a document that begins with a shard. */
static void nothing_is_sent_across_documents(void **state)
{
    (void)state;
    static const char *const strategies[] = {"chain", "gather", "scan"};
    int64_t documents[65];
    linear_case c = linear_case_make("gated-delta", (int64_t)ranks * LINEAR_CHUNK);
    for (int r = 0; r <= ranks; r++) documents[r] = (int64_t)r * LINEAR_CHUNK;
    c.problem.documents = documents;
    c.problem.document_count = ranks;
    linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
    for (int i = 0; i < 3; i++) {
        const linear_result r =
            linear_run_case(&(linear_run){.comm = MPI_COMM_WORLD, .context = context, .strategy = strategies[i]}, &d);
        int64_t bytes = r.timing.bytes_sent + r.timing.bytes_received;
        MPI_Allreduce(MPI_IN_PLACE, &bytes, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
        assert_int_equal(r.status, LONGSPAN_OK);
        assert_true(r.relative_rms <= 1e-5);
        assert_int_equal(bytes, 0);
    }
    linear_data_free(&d);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rank_sends_what_its_strategy_promises_whatever_the_tokens),
        cmocka_unit_test(nothing_is_sent_across_documents),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    longspan_context_create(MPI_COMM_WORLD, NULL, &context);
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    longspan_context_destroy(&context);
    return mpi_group_end(failures);
}
