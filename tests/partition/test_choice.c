/* The ranking of strategies and layouts: complete, in order, and right where the answer is plain. */
#include "partition/choice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* D = E = 64, float32. */
static const cost_sizes sizes = {
    .row_bytes = {[ROWS_KEYS] = 512, [ROWS_QUERIES] = 256, [ROWS_STATES] = 264},
    .output_bytes = 260,
    .flops_per_pair = 256,
    .batch = 1,
    .tensor_bytes = {[ROWS_KEYS] = {256, 256}, [ROWS_QUERIES] = {256}, [ROWS_STATES] = {256, 4, 4}},
};

/* A CPU core of 50 Gflop/s, 4 GB/s within a node, 1 GB/s between nodes. */
static const prediction_machine machine = {
    .score_seconds = 1e-9,
    .product_seconds = 4e-11,
    .few_seconds = {4e-10, 5e-10, 9e-10},
    .memory_bandwidth = 1e10,
    .step_seconds = 5e-6,
    .barrier_seconds = 2e-6,
    .node = {.latency = 2e-6, .bandwidth = 4e9, .busy = 1},
    .network = {.latency = 1e-5, .bandwidth = 1e9, .busy = 0.2},
    .lanes = 24,
};

typedef struct {
    choice *all;
    int count;
} ranking;

static schedule_problem make_problem(int64_t queries, int64_t keys, int heads, int kv_heads, int ranks, int node_ranks)
{
    return (schedule_problem){.mask = mask_full(queries, keys),
                              .query_layout = {.tokens = queries, .grain = 1, .ranks = ranks},
                              .key_layout = {.tokens = keys, .grain = 1, .ranks = ranks},
                              .heads = heads,
                              .kv_heads = kv_heads,
                              .node_ranks = node_ranks};
}

static ranking rank_all(const schedule_problem *p, const choice_wish *wish, int64_t memory_bytes)
{
    ranking r;
    assert_int_equal(choice_rank(p, wish, &sizes, &machine, memory_bytes, &r.all, &r.count), 0);
    assert_in_range(r.count, 1, 1000);
    return r;
}

static const strategy *find(const char *name)
{
    int rows, columns;
    const strategy *found = strategy_find(name, &rows, &columns);
    assert_non_null(found);
    return found;
}

static bool uses(const choice *c, const char *name)
{
    return strcmp(c->strategy->name, name) == 0;
}

/* What has to hold of any ranking. */
static void check_order(const ranking *r, int64_t memory_bytes)
{
    const choice *first = &r->all[0];
    double least = first->prediction.seconds;
    int kind = 0;
    for (int i = 0; i < r->count; i++) {
        const choice *c = &r->all[i];
        const int kind_here = c->refusal ? 2 : c->fits ? 0 : 1;
        assert_true(kind_here >= kind);
        if (!c->refusal) {
            assert_null(c->strategy->refuse(&c->problem));
            assert_int_equal(c->fits, memory_bytes == 0 || c->prediction.memory_bytes <= memory_bytes);
            prediction again;
            assert_int_equal(prediction_make(c->strategy, &c->problem, &sizes, &machine, &again), 0);
            assert_true(again.seconds == c->prediction.seconds);
        }
        if (i > 1 && kind_here == 0) assert_true(c->prediction.seconds >= r->all[i - 1].prediction.seconds);
        if (i > 1 && kind_here == 1 && kind == 1)
            assert_true(c->prediction.memory_bytes >= r->all[i - 1].prediction.memory_bytes);
        if (kind_here == 0 && c->prediction.seconds < least) least = c->prediction.seconds;
        kind = kind_here;
    }
    if (!first->refusal && first->fits) assert_true(first->prediction.seconds <= 1.01 * least);
}

static void every_strategy_and_layout_is_ranked_once_or_refused(void **state)
{
    (void)state;
    const int64_t documents[] = {0, 5, 600, 700, 1000};
    for (int ranks = 1; ranks <= 8; ranks++) {
        for (int form = 0; form < 5; form++) {
            schedule_problem p = make_problem(1000, form == 4 ? 3000 : 1000, 6, 2, ranks, ranks % 2 ? 1 : ranks / 2);
            p.may_share = ranks > 2;
            p.mask.causal = form > 0;
            if (form == 2) p.mask.window_left = 64;
            if (form == 3) {
                p.mask.documents = documents;
                p.mask.document_count = 4;
            }
            const ranking r = rank_all(&p, &(choice_wish){0}, 0);
            check_order(&r, 0);
            for (int i = 0; i < strategy_count; i++)
                for (int kind = LAYOUT_CONTIGUOUS; kind <= LAYOUT_STRIPED; kind++) {
                    int found = 0;
                    for (int j = 0; j < r.count; j++)
                        found += r.all[j].strategy == strategies[i] && (int)r.all[j].layout == kind;
                    if (strcmp(strategies[i]->name, "hybrid") == 0) assert_in_range(found, 1, 4);
                    else assert_int_equal(found, strategies[i]->sparse ? 0 : 1);
                }
            assert_null(r.all[0].refusal);
            free(r.all);
        }
    }
}

static void what_is_wished_is_all_that_is_ranked(void **state)
{
    (void)state;
    schedule_problem p = make_problem(5000, 5000, 8, 8, 6, 1);
    p.mask.causal = true;
    choice_wish wish = {.strategy = find("gather")};
    ranking r = rank_all(&p, &wish, 0);
    assert_int_equal(r.count, 3);
    for (int i = 0; i < r.count; i++) assert_ptr_equal(r.all[i].strategy, wish.strategy);
    assert_int_not_equal(r.all[0].layout, LAYOUT_CONTIGUOUS);
    free(r.all);

    wish = (choice_wish){.layout_given = true, .layout = LAYOUT_STRIPED, .block = 7};
    r = rank_all(&p, &wish, 0);
    for (int i = 0; i < r.count; i++) {
        assert_int_equal(r.all[i].problem.key_layout.kind, LAYOUT_STRIPED);
        assert_int_equal(r.all[i].problem.query_layout.grain, 7);
    }
    free(r.all);

    wish = (choice_wish){.strategy = find("hybrid"), .rows = 2, .columns = 3, .layout_given = true};
    r = rank_all(&p, &wish, 0);
    assert_int_equal(r.count, 1);
    assert_int_equal(r.all[0].problem.columns, 3);
    assert_int_equal(r.all[0].rows, 2);
    free(r.all);
}

/* Of one head, that is: whole heads are equal work wherever their rows were. */
static void a_causal_mask_is_not_laid_out_contiguously(void **state)
{
    (void)state;
    for (int ranks = 2; ranks <= 300; ranks *= 3) {
        schedule_problem p = make_problem(1 << 18, 1 << 18, 1, 1, ranks, 1);
        p.mask.causal = true;
        const ranking r = rank_all(&p, &(choice_wish){0}, 0);
        assert_int_not_equal(r.all[0].layout, LAYOUT_CONTIGUOUS);
        free(r.all);
    }
}

static void a_full_mask_and_a_window_are_laid_out_contiguously(void **state)
{
    (void)state;
    for (int form = 0; form < 2; form++) {
        schedule_problem p = make_problem(1 << 18, 1 << 18, 8, 8, 8, 1);
        if (form == 1) p.mask.causal = true;
        if (form == 1) p.mask.window_left = 512;
        const ranking r = rank_all(&p, &(choice_wish){0}, 0);
        assert_int_equal(r.all[0].layout, LAYOUT_CONTIGUOUS);
        free(r.all);
    }
}

/* One query against many keys that lie on other nodes: it goes to the keys. */
static void few_queries_move_and_many_keys_stay(void **state)
{
    (void)state;
    const int64_t queries[] = {1, 4, 16};
    for (int i = 0; i < 3; i++) {
        schedule_problem p = make_problem(queries[i], 1 << 18, 8, 8, 8, 1);
        const ranking r = rank_all(&p, &(choice_wish){0}, 0);
        const choice *first = &r.all[0];
        assert_true(uses(first, "queries") || uses(first, "decode"));
        assert_true(first->prediction.bytes_sent < (1 << 20));
        free(r.all);
    }
}

static void what_does_not_fit_is_not_used_while_something_fits(void **state)
{
    (void)state;
    schedule_problem p = make_problem(1 << 16, 1 << 16, 2, 2, 16, 1);
    const choice_wish wish = {.layout_given = true, .layout = LAYOUT_CONTIGUOUS};
    const int64_t keys = (1 << 16) * (int64_t)2 * 512; /* bytes of all keys and values */
    ranking r = rank_all(&p, &wish, 0);
    const int64_t wanted = r.all[0].prediction.memory_bytes;
    int64_t least = wanted;
    for (int i = 0; i < r.count; i++)
        if (!r.all[i].refusal && r.all[i].prediction.memory_bytes < least) least = r.all[i].prediction.memory_bytes;
    free(r.all);

    r = rank_all(&p, &wish, keys);
    check_order(&r, keys);
    for (int i = 0; i < r.count; i++)
        if (uses(&r.all[i], "gather")) assert_false(r.all[i].fits); /* all keys, and its queries */
    assert_false(uses(&r.all[0], "gather"));
    free(r.all);

    r = rank_all(&p, &wish, least - 1);
    check_order(&r, least - 1);
    assert_false(r.all[0].fits);
    assert_int_equal(r.all[0].prediction.memory_bytes, least);
    free(r.all);
}

static void thousands_of_ranks_are_ranked_by_a_few_of_their_schedules(void **state)
{
    (void)state;
    schedule_problem p = make_problem(1 << 20, 1 << 20, 32, 8, 4096, 8);
    p.mask.causal = true;
    const ranking r = rank_all(&p, &(choice_wish){0}, 0);
    check_order(&r, 0);
    for (int i = 0; i < r.count; i++)
        if (!r.all[i].refusal) assert_in_range(r.all[i].prediction.ranks_seen, 1, PREDICTION_ALL_RANKS);
    assert_int_not_equal(r.all[0].layout, LAYOUT_CONTIGUOUS);
    free(r.all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_and_layout_is_ranked_once_or_refused),
        cmocka_unit_test(what_is_wished_is_all_that_is_ranked),
        cmocka_unit_test(a_causal_mask_is_not_laid_out_contiguously),
        cmocka_unit_test(a_full_mask_and_a_window_are_laid_out_contiguously),
        cmocka_unit_test(few_queries_move_and_many_keys_stay),
        cmocka_unit_test(what_does_not_fit_is_not_used_while_something_fits),
        cmocka_unit_test(thousands_of_ranks_are_ranked_by_a_few_of_their_schedules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
