/* Every variant of the linear family by every strategy on every number of ranks gives what its recurrence gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/linear.h"
#include "partition/linear_schedule.h"
#include "runtime/context.h"
#include "tests/runtime/linear_case.h"
#include "tests/runtime/problem.h"

static const double tolerance = 1e-5;

static int my_rank, rank_count;
static longspan_context *world, *alone; /* of all ranks; of this one */
static int runs, refusals;

static linear_result run_all(const linear_data *d, const char *strategy)
{
    return linear_run_case(&(linear_run){.comm = MPI_COMM_WORLD, .context = world, .strategy = strategy}, d);
}

/* What one rank gives, on all. */
static linear_result run_alone(const linear_data *d)
{
    linear_result r = {.status = LONGSPAN_OK};
    const linear_run run = {.comm = MPI_COMM_SELF, .context = alone, .strategy = "chain"};
    if (my_rank == 0) r = linear_run_case(&run, d);
    MPI_Bcast(&r, sizeof r, MPI_BYTE, 0, MPI_COMM_WORLD);
    return r;
}

/* A strategy that must refuse: chain and scan need a causal mask, allreduce that there is none, and what is learnt late
 * efficient attention cannot take in under a causal mask. */
static bool must_refuse(const linear_data *d, const char *strategy)
{
    const bool causal = d->problem.causal != 0, chain = strcmp(strategy, "chain") == 0;
    if (strcmp(strategy, "allreduce") == 0) return causal || d->problem.documents;
    if (chain || strcmp(strategy, "scan") == 0)
        return !causal || (!chain && strcmp(d->problem.attention, "efficient") == 0);
    return causal && strcmp(d->problem.attention, "efficient") == 0;
}

static void assert_good(const linear_data *d, const char *what, const char *strategy, double bound)
{
    const linear_result r = run_all(d, strategy);
    runs++;
    if (strcmp(strategy, "auto") != 0 && must_refuse(d, strategy)) {
        refusals++;
        if (r.status != LONGSPAN_ERROR_UNSUPPORTED || !strstr(r.text, strategy))
            fail_msg("%s, %s: status %d, '%s'", d->problem.attention, strategy, r.status, r.text);
        return;
    }
    if (r.status != LONGSPAN_OK || r.mismatches > 0 || !(r.relative_rms <= bound))
        fail_msg("seed %llu: %s, %s, %s on %d ranks: status %d '%s', relative RMS %.3g, %lld mismatches",
                 (unsigned long long)d->source.seed, d->problem.attention, what, strategy, rank_count, r.status, r.text,
                 r.relative_rms, (long long)r.mismatches);
    if (getenv("LONGSPAN_TEST_NUMBERS"))
        print_message("%-12s %-12s %-10s P %d: relative RMS %.2e\n", d->problem.attention, what, strategy, rank_count,
                      r.relative_rms);
}

static void assert_all_good(const linear_data *d, const char *what, double bound)
{
    for (int i = 0; i < linear_strategy_count; i++) assert_good(d, what, linear_strategies[i]->name, bound);
}

static void check_case(const linear_case *c, const char *what, double bound)
{
    linear_data d = linear_data_make(c, MPI_COMM_WORLD);
    assert_all_good(&d, what, bound);
    linear_data_free(&d);
}

static void every_variant_is_right_where_lengths_do_not_divide(void **state)
{
    (void)state;
    for (int i = 0; i < linear_variant_count; i++) {
        const linear_case c = linear_case_make(linear_variants[i]->name, 701);
        linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
        assert_good(&d, "odd length", "auto", tolerance);
        assert_all_good(&d, "odd length", tolerance);
        linear_data_free(&d);
    }
}

/* First tokens of documents: cross shards, begin at them, are empty or of one token. At most 16 for 8 ranks. */
static int64_t make_documents(int64_t tokens, int64_t *documents)
{
    const layout l = {.kind = LAYOUT_CONTIGUOUS, .tokens = tokens, .grain = LINEAR_CHUNK, .ranks = rank_count};
    int64_t count = 0;
    documents[count++] = 0;
    documents[count++] = 0;
    documents[count++] = 1;
    for (int r = 1; r < rank_count; r += 2) {
        const int64_t begin = layout_chunk(&l, r).begin;
        if (begin <= documents[count - 1]) continue;
        documents[count++] = begin;
        if (r % 4 == 1) documents[count++] = begin;
        else documents[count++] = begin + 1;
    }
    if (documents[count - 1] < tokens - 40) documents[count++] = tokens - 31;
    documents[count++] = tokens;
    documents[count++] = tokens;
    return count - 1;
}

static void every_variant_keeps_documents_apart(void **state)
{
    (void)state;
    int64_t documents[32];
    for (int i = 0; i < linear_variant_count; i++) {
        linear_case c = linear_case_make(linear_variants[i]->name, 650);
        c.problem.document_count = make_documents(c.problem.tokens, documents);
        c.problem.documents = documents;
        check_case(&c, "documents", tolerance);
    }
}

static void strong_decays_and_resets_are_right(void **state)
{
    (void)state;
    for (int i = 0; i < linear_variant_count; i++) {
        linear_case c = linear_case_make(linear_variants[i]->name, 530);
        if (linear_variants[i]->decay == LINEAR_DECAY_NONE || linear_variants[i]->decay == LINEAR_DECAY_RETENTION)
            continue;
        c.hard_decays = true;
        check_case(&c, "strong", tolerance);
    }
}

static void every_token_sees_all_without_a_causal_mask(void **state)
{
    (void)state;
    int64_t documents[32];
    for (int i = 0; i < linear_variant_count; i++) {
        linear_case c = linear_case_make(linear_variants[i]->name, 655);
        if (!linear_variants[i]->two_sided) continue;
        c.problem.causal = 0;
        check_case(&c, "two-sided", tolerance);
        c.problem.document_count = make_documents(c.problem.tokens, documents);
        c.problem.documents = documents;
        check_case(&c, "two-sided documents", tolerance);
    }
}

static void fewer_tokens_than_ranks_are_right(void **state)
{
    (void)state;
    static const char *const names[] = {"efficient", "retention", "rwkv6", "gated-delta", "based"};
    static const int64_t lengths[] = {1, 3, 65};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
            const linear_case c = linear_case_make(names[i], lengths[n]);
            check_case(&c, "few tokens", tolerance);
        }
}

static void half_precision_in_and_out_is_right(void **state)
{
    (void)state;
    static const longspan_type types[] = {LONGSPAN_FLOAT16, LONGSPAN_BFLOAT16};
    static const char *const names[] = {"taylor", "favor", "lightning", "gla", "kda"};
    static const double roundoff[] = {[LONGSPAN_FLOAT16] = 0x1p-11, [LONGSPAN_BFLOAT16] = 0x1p-8};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t t = 0; t < 2; t++) {
            linear_case c = linear_case_make(names[i], 330);
            c.problem.type = types[t];
            check_case(&c, "half in", tolerance);
            c.problem.out_type = types[t];
            check_case(&c, "half in and out", roundoff[types[t]]);
        }
}

static void check_cut(const linear_data *d, int64_t cut, const char *strategy)
{
    longspan_linear_state middle = linear_case_state(d), end = linear_case_state(d);
    linear_run run = {MPI_COMM_WORLD, world, strategy, 0, cut, NULL, &middle};
    const linear_result first = linear_run_case(&run, d);
    run = (linear_run){MPI_COMM_WORLD, world, strategy, cut, d->problem.tokens, &middle, &end};
    const linear_result second = linear_run_case(&run, d);
    if (first.status || second.status || !(first.relative_rms <= tolerance) || !(second.relative_rms <= tolerance) ||
        !(linear_state_rms(d, &end) <= tolerance))
        fail_msg("%s, %s on %d ranks: '%s' '%s', relative RMS %.3g, then %.3g, of the state %.3g", d->problem.attention,
                 strategy, rank_count, first.text, second.text, first.relative_rms, second.relative_rms,
                 linear_state_rms(d, &end));
    linear_case_state_free(&middle);
    linear_case_state_free(&end);
}

static void check_cuts(const linear_case *c, int64_t cut)
{
    linear_data d = linear_data_make(c, MPI_COMM_WORLD);
    for (int s = 0; s < linear_strategy_count; s++)
        if (!must_refuse(&d, linear_strategies[s]->name)) check_cut(&d, cut, linear_strategies[s]->name);
    linear_data_free(&d);
}

/* The state after the first part is given to the second: outputs and the last state are those of the whole. */
static void a_stream_that_is_cut_in_two_goes_on(void **state)
{
    (void)state;
    for (int i = 0; i < linear_variant_count; i++) {
        const linear_case c = linear_case_make(linear_variants[i]->name, 601);
        check_cuts(&c, 287);
    }
}

/* As many as a head of 100 columns has; under the delta rule other numbers where states carry their transitions. */
static void states_of_several_blocks_of_columns_are_put_together(void **state)
{
    (void)state;
    static const char *const names[] = {"retention", "gla", "rwkv6", "gated-delta"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        linear_case c = linear_case_make(names[i], 420);
        c.problem.batch = 1;
        c.problem.v_heads = 2;
        c.problem.value_dim = 100;
        const linear_shape shape = {.variant = linear_variant_find(names[i]),
                                    .batch = 1,
                                    .heads = 2,
                                    .q_heads = 2,
                                    .k_heads = 2,
                                    .v_heads = 2,
                                    .dim = c.problem.dim,
                                    .value_dim = 100};
        assert_true(linear_column_blocks(&shape) > 1);
        check_cuts(&c, 203);
    }
}

static void a_stream_that_is_cut_on_the_grid_keeps_its_bits(void **state)
{
    (void)state;
    enum { TOKENS = 600, CUT = 5 * LINEAR_CHUNK };
    for (int i = 0; i < linear_variant_count; i++) {
        if (linear_variants[i]->map == LINEAR_MAP_FAVOR || linear_variants[i]->map == LINEAR_MAP_EFFICIENT) continue;
        const linear_case c = linear_case_make(linear_variants[i]->name, TOKENS);
        linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
        longspan_linear_state middle = linear_case_state(&d), end = linear_case_state(&d),
                              whole = linear_case_state(&d);
        linear_run run = {MPI_COMM_WORLD, world, "chain", 0, TOKENS, NULL, &whole};
        const linear_result one = linear_run_case(&run, &d);
        run.end = CUT, run.final = &middle;
        const linear_result first = linear_run_case(&run, &d);
        run = (linear_run){MPI_COMM_WORLD, world, "chain", CUT, TOKENS, &middle, &end};
        const linear_result second = linear_run_case(&run, &d);
        int features, width, reference;
        linear_case_shape(&d, &features, &width, &reference);
        const size_t bytes = (size_t)(d.problem.batch * d.heads * features * width) * sizeof(double);
        if (one.fingerprint != first.fingerprint + second.fingerprint || memcmp(whole.sums, end.sums, bytes) != 0)
            fail_msg("%s on %d ranks: other bits after a cut at token %d", d.problem.attention, rank_count, CUT);
        linear_case_state_free(&middle);
        linear_case_state_free(&end);
        linear_case_state_free(&whole);
        linear_data_free(&d);
    }
}

/* Flops too are those of one rank: shards begin on the grid of the chunks. */
static void the_chain_has_the_bits_of_one_rank_and_no_strategy_loses_precision(void **state)
{
    (void)state;
    for (int i = 0; i < linear_variant_count; i++) {
        linear_case c = linear_case_make(linear_variants[i]->name, 900);
        linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
        const linear_result one = run_alone(&d);
        assert_int_equal(one.status, LONGSPAN_OK);
        for (int s = 0; s < linear_strategy_count; s++) {
            const char *strategy = linear_strategies[s]->name;
            if (must_refuse(&d, strategy)) continue;
            const linear_result all = run_all(&d, strategy);
            double flops = all.timing.flops;
            MPI_Allreduce(MPI_IN_PLACE, &flops, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
            if (strcmp(strategy, "chain") == 0 && all.fingerprint != one.fingerprint)
                fail_msg("%s: the chain has other bits on %d ranks than on one", d.problem.attention, rank_count);
            if (!(all.relative_rms <= 1.5 * one.relative_rms + 1e-7))
                fail_msg("%s, %s: relative RMS %.3g on %d ranks, %.3g on one", d.problem.attention, strategy,
                         all.relative_rms, rank_count, one.relative_rms);
            assert_true(fabs(flops - one.timing.flops) <= 1e-9 * flops);
        }
        linear_data_free(&d);
    }
}

/* On few ranks: the threads of many on few CPUs would wait for each other most of the time. */
static void threads_do_not_change_bits(void **state)
{
    (void)state;
    if (rank_count > 2) return;
    static const char *const names[] = {"elu", "efficient", "ssd", "kda"};
    longspan_context *threaded;
    longspan_options options;
    longspan_options_default(&options);
    options.threads = 2;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &threaded), LONGSPAN_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const linear_case c = linear_case_make(names[i], 400);
        linear_data d = linear_data_make(&c, MPI_COMM_WORLD);
        for (int s = 0; s < linear_strategy_count; s++) {
            linear_run run = {.comm = MPI_COMM_WORLD, .context = threaded, .strategy = linear_strategies[s]->name};
            const linear_result two = linear_run_case(&run, &d);
            run.context = world;
            const linear_result one = linear_run_case(&run, &d);
            assert_int_equal(two.status, one.status);
            if (two.fingerprint != one.fingerprint)
                fail_msg("%s, %s on %d ranks: other bits by two threads", names[i], run.strategy, rank_count);
        }
        linear_data_free(&d);
    }
    longspan_context_destroy(&threaded);
}

/* None is passed over in silence: allreduce refuses the 67 causal cases and the 5 with documents, gather and scan the 5
 * causal ones of efficient attention, chain and scan the 10 that are not causal. */
static void as_many_refuse_as_must(void **state)
{
    (void)state;
    assert_int_equal(refusals, 67 + 5 + 2 * 5 + 2 * 10);
    assert_int_equal(runs, 4 * (67 + 10) + linear_variant_count);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_is_right_where_lengths_do_not_divide),
        cmocka_unit_test(every_variant_keeps_documents_apart),
        cmocka_unit_test(strong_decays_and_resets_are_right),
        cmocka_unit_test(every_token_sees_all_without_a_causal_mask),
        cmocka_unit_test(fewer_tokens_than_ranks_are_right),
        cmocka_unit_test(half_precision_in_and_out_is_right),
        cmocka_unit_test(a_stream_that_is_cut_in_two_goes_on),
        cmocka_unit_test(states_of_several_blocks_of_columns_are_put_together),
        cmocka_unit_test(a_stream_that_is_cut_on_the_grid_keeps_its_bits),
        cmocka_unit_test(the_chain_has_the_bits_of_one_rank_and_no_strategy_loses_precision),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(as_many_refuse_as_must),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &rank_count);
    longspan_context_create(MPI_COMM_WORLD, NULL, &world);
    longspan_context_create(MPI_COMM_SELF, NULL, &alone);
    world->seat.cpu_share = 1; /* chains have leads, also where the ranks of this test share cores */
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    longspan_context_destroy(&world);
    longspan_context_destroy(&alone);
    return mpi_group_end(failures);
}
