/* Schedules for more ranks than can be run on paper: that a rank and its peers agree, and what planning costs. */
#include "partition/choice.h"
#include "tests/partition/problems.h"
#include "tests/partition/schedule_checker.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { RANKS = 4096, NODE = 8, PEERS = 2, SHARERS = 256 };

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG, LAYOUT_STRIPED};

/* What one sends to the other, in all steps, is what that one expects. Returns the number of messages. */
static int64_t assert_twins(const schedule *from, const schedule *to)
{
    int64_t messages = 0;
    for (int64_t i = 0; i < from->step_count || i < to->step_count; i++) {
        const schedule_step *sending = i < from->step_count ? &from->steps[i] : NULL;
        const schedule_step *receiving = i < to->step_count ? &to->steps[i] : NULL;
        int64_t sent = 0, received = 0;
        for (;; messages++) {
            const schedule_transfer *a = next_transfer(sending, TRANSFER_SEND, to->rank, &sent);
            const schedule_transfer *b = next_transfer(receiving, TRANSFER_RECEIVE, from->rank, &received);
            if (!a && !b) break;
            if (!a || !b) fail_msg("step %" PRId64 ": ranks %d and %d do not agree", i, from->rank, to->rank);
            if (!transfers_match(a, b)) fail_msg("step %" PRId64 ": ranks %d and %d differ", i, from->rank, to->rank);
        }
    }
    return messages;
}

/* Seconds of this process, at most, to plan; sanitizers slow it down. */
#ifdef LONGSPAN_SANITIZED
static const double planning_limit = 20;
#else
static const double planning_limit = 1;
#endif

static schedule *plan(const schedule_problem *p, const strategy *how, int rank, double *milliseconds_p)
{
    schedule *s = NULL;
    struct timespec begin, end;
    timespec_get(&begin, TIME_UTC);
    assert_int_equal(how->plan(p, rank, &s), 0);
    timespec_get(&end, TIME_UTC);
    *milliseconds_p = (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) * 1e-6;
    return s;
}

/* Ranks that this one exchanges with: the first and the last that its schedule names. */
static int choose_peers(const schedule *s, int peers[PEERS])
{
    int64_t all = 0, at = 0;
    int count = 0;
    for (int64_t i = 0; i < s->step_count; i++) all += s->steps[i].transfer_count;
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t j = 0; j < s->steps[i].transfer_count; j++, at++)
            if (count < PEERS && at == count * (all - 1) / (PEERS - 1)) peers[count++] = s->steps[i].transfers[j].peer;
    return count;
}

static void check_peers(const schedule_problem *p, const strategy *how, const char *mask_name)
{
    static const int ranks_tried[] = {2047, 4095};
    double slowest = 0;
    int64_t messages = 0;
    for (size_t i = 0; i < sizeof ranks_tried / sizeof ranks_tried[0]; i++) {
        double milliseconds;
        int peers[PEERS];
        schedule *s = plan(p, how, ranks_tried[i], &milliseconds);
        if (milliseconds > slowest) slowest = milliseconds;
        const int count = choose_peers(s, peers);
        for (int j = 0; j < count; j++) {
            schedule *peer = plan(p, how, peers[j], &milliseconds);
            messages += assert_twins(s, peer) + assert_twins(peer, s);
            schedule_destroy(peer);
        }
        schedule_destroy(s);
    }
    assert_true(messages > 0);
    print_message("%-11s %-10s %-16s a rank of %d planned in at most %.1f ms\n", how->name,
                  layout_name(p->key_layout.kind), mask_name, p->key_layout.ranks, slowest);
}

static void check_strategies(schedule_problem p, const char *mask_name)
{
    for (int i = 0; i < strategy_count; i++) {
        if (strategies[i]->sparse) continue; /* test_fetch.c */
        if (strcmp(strategies[i]->name, "heads") == 0) {
            assert_non_null(strategies[i]->refuse(&p));
            continue;
        }
        assert_null(strategies[i]->refuse(&p));
        check_peers(&p, strategies[i], mask_name);
    }
}

static void ranks_and_their_peers_agree_among_4096(void **state)
{
    (void)state;
    const int64_t tokens = (1 << 20) + 37, documents = 3000;
    int64_t *offsets = test_allocate((size_t)documents + 1, sizeof *offsets);
    for (int64_t d = 0; d <= documents; d++) offsets[d] = d * (d + 1) / 2 * tokens / (documents * (documents + 1) / 2);
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        schedule_problem p = problem_of(kinds[kind], tokens, tokens, 16, RANKS, true);
        p.heads = 32;
        p.kv_heads = 8;
        p.node_ranks = NODE;
        p.may_share = true;
        check_strategies(p, "causal");
        p.mask.window_left = 1000;
        check_strategies(p, "window");
        p.mask.window_left = MASK_UNLIMITED;
        p.mask.documents = offsets;
        p.mask.document_count = documents;
        check_strategies(p, "causal documents");
    }
    free(offsets);
}

/* As many ranks as share heads at all. */
static void a_rank_of_many_that_share_heads_agrees_with_its_peers(void **state)
{
    (void)state;
    schedule_problem p = problem_of(LAYOUT_ZIGZAG, 100003, 100003, 16, SHARERS, true);
    p.heads = SHARERS;
    p.kv_heads = 8;
    const strategy *heads = NULL;
    for (int i = 0; i < strategy_count; i++)
        if (strcmp(strategies[i]->name, "heads") == 0) heads = strategies[i];
    assert_non_null(heads);
    double slowest = 0;
    for (int rank = 0; rank < SHARERS; rank += SHARERS - 1) {
        double milliseconds, other;
        schedule *s = plan(&p, heads, rank, &milliseconds), *peer = plan(&p, heads, SHARERS / 2, &other);
        assert_int_equal(assert_twins(s, peer), 2 + 2 + 2);
        if (milliseconds > slowest) slowest = milliseconds;
        schedule_destroy(s);
        schedule_destroy(peer);
    }
    print_message("heads: a rank of %d planned in at most %.1f ms\n", SHARERS, slowest);
}

/* Sizes of D = E = 128, bfloat16, and a machine of no great speed: what a choice costs does not depend on them. */
static const cost_sizes sizes = {
    .row_bytes = {[ROWS_KEYS] = 512, [ROWS_QUERIES] = 256, [ROWS_STATES] = 520},
    .output_bytes = 260,
    .flops_per_pair = 512,
    .batch = 1,
    .tensor_bytes = {[ROWS_KEYS] = {256, 256}, [ROWS_QUERIES] = {256}, [ROWS_STATES] = {512, 4, 4}},
};
static const prediction_machine machine = {
    .score_seconds = 1e-9,
    .product_seconds = 1e-11,
    .memory_bandwidth = 8e9,
    .node = {.latency = 1e-6, .bandwidth = 4e9},
    .network = {.latency = 3e-6, .bandwidth = 1e10},
    .lanes = 24,
};

/* What one rank does to plan: all strategies are ranked, and the schedule is made of each that might be taken. */
static void a_rank_of_4096_plans_in_less_than_a_second_of_its_cpu(void **state)
{
    (void)state;
    const int64_t tokens = (1 << 20) + 37, windows[] = {MASK_UNLIMITED, 1000};
    for (int i = 0; i < 2; i++) {
        schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, tokens, tokens, 1, RANKS, true);
        p.heads = 32;
        p.kv_heads = 8;
        p.node_ranks = NODE;
        p.may_share = true;
        p.mask.window_left = windows[i];
        choice *choices;
        int count;
        const clock_t begin = clock();
        assert_int_equal(choice_rank(&p, &(choice_wish){0}, &sizes, &machine, 0, &choices, &count), 0);
        const double choosing = (double)(clock() - begin) / CLOCKS_PER_SEC;
        double slowest = 0;
        for (int j = 0; j < count && !choices[j].refusal; j++) {
            schedule *s;
            const clock_t before = clock();
            assert_int_equal(choices[j].strategy->plan(&choices[j].problem, RANKS - 1, &s), 0);
            const double planning = (double)(clock() - before) / CLOCKS_PER_SEC;
            if (planning > slowest) slowest = planning;
            schedule_destroy(s);
        }
        free(choices);
        print_message("%s: a rank of %d chose in %.3f s and planned in at most %.3f s\n", i ? "window" : "causal", RANKS,
                      choosing, slowest);
        if (!(choosing + slowest < planning_limit)) fail_msg("%.3f s and %.3f s of CPU time", choosing, slowest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_and_their_peers_agree_among_4096),
        cmocka_unit_test(a_rank_of_4096_plans_in_less_than_a_second_of_its_cpu),
        cmocka_unit_test(a_rank_of_many_that_share_heads_agrees_with_its_peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
