/* Predictions against times worked out by hand, for schedules of a few steps that are written here. */
#include "partition/prediction.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* D = E = 4, float32, B = 1. */
static const cost_sizes sizes = {
    .row_bytes = {[ROWS_KEYS] = 32, [ROWS_QUERIES] = 16, [ROWS_STATES] = 24},
    .output_bytes = 20,
    .flops_per_pair = 16,
    .batch = 1,
    .tensor_bytes = {[ROWS_KEYS] = {16, 16}, [ROWS_QUERIES] = {16}, [ROWS_STATES] = {16, 4, 4}},
};

/* Nothing takes time but what a test turns on. */
static const prediction_machine idle = {
    .memory_bandwidth = 1e30,
    .node = {.bandwidth = 1e30},
    .network = {.bandwidth = 1e30},
    .lanes = 1,
};

static schedule_problem full_problem(int64_t tokens, int ranks)
{
    const layout l = {.kind = LAYOUT_CONTIGUOUS, .tokens = tokens, .grain = 1, .ranks = ranks};
    return (schedule_problem){.mask = mask_full(tokens, tokens),
                              .query_layout = l,
                              .key_layout = l,
                              .heads = 1,
                              .kv_heads = 1,
                              .node_ranks = ranks};
}

static schedule_problem causal_problem(int64_t tokens, int ranks)
{
    schedule_problem p = full_problem(tokens, ranks);
    p.mask.causal = true;
    return p;
}

static const strategy *find(const char *name)
{
    int rows, columns;
    const strategy *found = strategy_find(name, &rows, &columns);
    assert_non_null(found);
    return found;
}

static prediction predict(const strategy *way, const schedule_problem *p, const prediction_machine *machine)
{
    prediction made;
    assert_int_equal(prediction_make(way, p, &sizes, machine, &made), 0);
    return made;
}

static void assert_seconds(double seconds, double expected)
{
    if (fabs(seconds - expected) <= 1e-9 * (1 + expected)) return;
    print_error("%.12g s, not %.12g s\n", seconds, expected);
    fail();
}

static const char *accepts(const schedule_problem *problem)
{
    (void)problem;
    return NULL;
}

static schedule_fold fold_of_shards(const schedule_problem *p, int query_origin, int key_origin)
{
    return (schedule_fold){.heads = {0, 1},
                           .query_origin = query_origin,
                           .query_rows = layout_piece(&p->query_layout, query_origin, 0),
                           .query_slot = SLOT_HOME,
                           .state_slot = SLOT_HOME,
                           .key_origin = key_origin,
                           .key_rows = layout_piece(&p->key_layout, key_origin, 0),
                           .holder = query_origin,
                           .key_slot = SLOT_HOME};
}

/* Full attention of 256 tokens on two ranks under the ring: two folds of 128 x 128 scores, and one exchange of 128 rows
 * of 32 bytes behind the first. */
static void a_ring_of_two_takes_two_folds_where_the_link_is_fast(void **state)
{
    (void)state;
    const schedule_problem p = full_problem(256, 2);
    prediction_machine m = idle;
    m.score_seconds = 2;
    m.product_seconds = 1;
    const prediction made = predict(find("ring"), &p, &m);
    assert_seconds(made.seconds, 2.0 * 128 * 128 * (2 + 8 * 1));
    assert_seconds(made.compute, made.seconds);
    assert_int_equal(made.bound, BOUND_COMPUTE);
    assert_int_equal(made.steps, 2);
    assert_int_equal(made.bytes_sent, 128 * 32);
    assert_int_equal(made.ranks_seen, 2);
}

static void a_slow_link_takes_its_latency_and_its_bytes(void **state)
{
    (void)state;
    const schedule_problem p = full_problem(256, 2);
    prediction_machine m = idle;
    m.node = (prediction_link){.latency = 5, .bandwidth = 16};
    const prediction made = predict(find("ring"), &p, &m);
    assert_seconds(made.seconds, 2 * 5 + 128 * 32 / 16.0);
    assert_seconds(made.waiting, made.seconds);
    assert_int_equal(made.bound, BOUND_TRANSFER);
}

static void ranks_of_different_nodes_use_the_network(void **state)
{
    (void)state;
    schedule_problem p = full_problem(256, 2);
    p.node_ranks = 1;
    prediction_machine m = idle;
    m.network = (prediction_link){.latency = 3, .bandwidth = 32};
    assert_seconds(predict(find("ring"), &p, &m).seconds, 2 * 3 + 128 * 32 / 32.0);
}

static void a_transfer_hides_behind_work_but_for_what_the_folding_thread_does(void **state)
{
    (void)state;
    const schedule_problem p = full_problem(256, 2);
    const double fold = 128.0 * 128 * 8, transfer = 0.5 * fold;
    prediction_machine m = idle;
    m.product_seconds = 1;
    m.node.bandwidth = 128 * 32 / transfer;
    assert_seconds(predict(find("ring"), &p, &m).seconds, 2 * fold);
    m.node.busy = 0.25;
    assert_seconds(predict(find("ring"), &p, &m).seconds, 2 * fold + 0.25 * transfer);
    m.node.bandwidth = 128 * 32 / (4 * fold);
    m.node.busy = 0.5; /* 1 + 0.5 * 4 fold is less than the transfer's 4 */
    assert_seconds(predict(find("ring"), &p, &m).seconds, 4 * fold + fold);
}

/* Rank 1 of two under a causal mask folds its own triangle, then all keys of rank 0; rank 0 only its own triangle.
 * Tiles of 4 rows compute whole squares on the diagonal. */
static void a_causal_border_is_folded_in_whole_tiles(void **state)
{
    (void)state;
    const schedule_problem p = causal_problem(256, 2);
    prediction_machine m = idle;
    m.score_seconds = 1;
    assert_seconds(predict(find("ring"), &p, &m).seconds, 128 * 129 / 2 + 128 * 128);
    m.lanes = 4;
    assert_seconds(predict(find("ring"), &p, &m).seconds, 4.0 * 4 * (32 * 33 / 2) + 128 * 128);
    assert_int_equal(predict(find("ring"), &p, &m).busiest, 1);
}

/* Where there are too many tiles to look at each, those that are looked at stand for the rest: exact on a diagonal. */
static void many_tiles_cost_what_a_few_of_them_do(void **state)
{
    (void)state;
    const schedule_problem p = causal_problem(1 << 16, 1);
    prediction_machine m = idle;
    m.score_seconds = 1;
    m.lanes = 32;
    const double tiles = (1 << 16) / 32.0;
    assert_seconds(predict(find("ring"), &p, &m).seconds, 32.0 * 32 * tiles * (tiles + 1) / 2);
}

static int plan_decode(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, 1);
    assert_non_null(s);
    assert_int_equal(schedule_add_fold(s, 0, fold_of_shards(problem, 0, 0)), 0);
    *schedule_p = s;
    return 0;
}

static void few_rows_cost_the_keys_that_they_read(void **state)
{
    (void)state;
    const strategy way = {.name = "decode by hand", .refuse = accepts, .plan = plan_decode};
    prediction_machine m = idle;
    m.score_seconds = 8;
    m.product_seconds = 1;
    m.few_seconds[0] = 10;
    m.few_seconds[1] = 16;
    m.few_seconds[2] = 40;
    const struct {
        int64_t tokens;
        int heads, kv_heads;
        double an_element;
    } cases[] = {
        {1, 1, 1, 10}, {1, 3, 3, 10},  {2, 1, 1, 12}, {1, 4, 1, 16},
        {2, 4, 2, 16}, {10, 1, 1, 28}, {4, 8, 2, 40}, {16, 1, 1, 40},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        schedule_problem p = full_problem(0, 1);
        p.mask = mask_full(cases[i].tokens, 1000);
        p.query_layout.tokens = cases[i].tokens;
        p.key_layout.tokens = 1000;
        p.heads = cases[i].heads;
        p.kv_heads = cases[i].kv_heads;
        schedule_fold fold = fold_of_shards(&p, 0, 0);
        fold.heads = heads_all(p.heads);
        bool reading;
        assert_seconds(prediction_fold_seconds(&p, &sizes, &m, &fold, &reading),
                       1000.0 * cases[i].kv_heads * 8 * cases[i].an_element);
        assert_true(reading);
    }
    schedule_problem p = full_problem(0, 1);
    p.mask = mask_full(40, 1000);
    p.query_layout.tokens = 40;
    p.key_layout.tokens = 1000;
    schedule_fold fold = fold_of_shards(&p, 0, 0);
    bool reading;
    assert_seconds(prediction_fold_seconds(&p, &sizes, &m, &fold, &reading), 40 * 1000.0 * (8 + 8));
    assert_false(reading);
    m.few_seconds[2] = 100; /* an element takes no less for 40 rows than for 16 */
    assert_seconds(prediction_fold_seconds(&p, &sizes, &m, &fold, &reading), 1000.0 * 8 * 100);
    assert_true(reading);
    m.few_seconds[2] = 40;

    p = full_problem(8, 1);
    const prediction made = predict(&way, &p, &m);
    assert_seconds(made.memory, 8 * 8 * (16 + 4.0 / 12 * 24));
    assert_int_equal(made.bound, BOUND_MEMORY);
}

/* Rank 0 folds 3 times as long as rank 1, in step 0; then rank 1 sends to rank 2, and rank 2 to nobody. */
static int plan_chain(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, 2);
    int slot;
    assert_non_null(s);
    const range shard = layout_piece(&problem->key_layout, rank, 0);
    for (int i = 0; rank == 0 && i < 3; i++)
        assert_int_equal(schedule_add_fold(s, 0, fold_of_shards(problem, rank, rank)), 0);
    if (rank == 1) assert_int_equal(schedule_add_fold(s, 0, fold_of_shards(problem, rank, rank)), 0);
    assert_int_equal(schedule_add_slot(s, ROWS_KEYS, heads_all(1), range_length(shard), &slot), 0);
    const schedule_transfer sent = {
        .direction = TRANSFER_SEND, .peer = 2, .origin = 1, .rows = shard, .heads = {0, 1}, .slot = SLOT_HOME};
    schedule_transfer received = sent;
    received.direction = TRANSFER_RECEIVE;
    received.peer = 1;
    received.slot = slot;
    if (rank == 1) assert_int_equal(schedule_add_transfer(s, 1, sent), 0);
    if (rank == 2) assert_int_equal(schedule_add_transfer(s, 1, received), 0);
    *schedule_p = s;
    return 0;
}

static void a_rank_waits_for_those_it_depends_on_and_for_no_others(void **state)
{
    (void)state;
    const strategy way = {.name = "a chain by hand", .refuse = accepts, .plan = plan_chain};
    const schedule_problem p = full_problem(3 * 100, 3);
    const double fold = 100.0 * 100;
    prediction_machine m = idle;
    m.score_seconds = 1;
    m.node.bandwidth = 100 * 32 / (0.5 * fold);
    assert_seconds(predict(&way, &p, &m).seconds, 3 * fold); /* rank 0; rank 2 waits 1.5 folds */
    m.node.bandwidth = 100 * 32 / (5 * fold);
    const prediction made = predict(&way, &p, &m);
    assert_seconds(made.seconds, fold + 5 * fold); /* rank 2, or rank 1, which takes as long */
    assert_int_not_equal(made.busiest, 1);
}

static int plan_sharing(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, 2);
    assert_non_null(s);
    s->shares_memory = true;
    for (int64_t step = 0; step < 2; step++)
        if ((rank + step) % 2 == 0)
            assert_int_equal(schedule_add_fold(s, step, fold_of_shards(problem, rank, rank)), 0);
    *schedule_p = s;
    return 0;
}

static void where_memory_is_shared_the_ranks_of_a_node_wait_after_each_step(void **state)
{
    (void)state;
    const strategy way = {.name = "in turn", .refuse = accepts, .plan = plan_sharing};
    schedule_problem p = full_problem(400, 4);
    prediction_machine m = idle;
    m.score_seconds = 1;
    m.barrier_seconds = 7;
    assert_seconds(predict(&way, &p, &m).seconds, 2 * (100.0 * 100 + 7));
    p.node_ranks = 1;
    assert_seconds(predict(&way, &p, &m).seconds, 100.0 * 100 + 2 * 7);
}

static void states_cost_their_bytes_over_the_memory_bandwidth(void **state)
{
    (void)state;
    const schedule_problem p = full_problem(256, 1);
    prediction_machine m = idle;
    m.memory_bandwidth = 2;
    /* cleared, and read to become out; in the fold q is read, the state read and written */
    assert_seconds(predict(find("ring"), &p, &m).seconds, 256 * (2 * 24 + 20 + 16 + 2 * 24) / 2.0);
}

/* Rows 0, 1, ..., 99 of 256 against all keys. */
static int plan_listed(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    schedule *s = schedule_create(rank, 1);
    assert_non_null(s);
    s->listed = malloc(100 * sizeof *s->listed);
    assert_non_null(s->listed);
    for (int64_t i = 0; i < 100; i++) s->listed[i] = i;
    schedule_fold fold = fold_of_shards(problem, rank, rank);
    fold.listed = s->listed;
    fold.listed_rows = 100;
    assert_int_equal(schedule_add_fold(s, 0, fold), 0);
    *schedule_p = s;
    return 0;
}

static void listed_rows_pass_through_memory_while_others_are_folded(void **state)
{
    (void)state;
    const strategy way = {.name = "listed", .refuse = accepts, .plan = plan_listed};
    const schedule_problem p = full_problem(256, 1);
    const double ends = 256 * (2 * 24 + 20), rows = 100 * (16 + 2 * 24), scores = 100.0 * 256;
    prediction_machine m = idle;
    m.score_seconds = 1;
    m.memory_bandwidth = 2; /* less time than the scores take */
    prediction made = predict(&way, &p, &m);
    assert_seconds(made.seconds, scores + ends / 2);
    assert_seconds(made.compute, scores);
    m.memory_bandwidth = 0.125; /* more */
    made = predict(&way, &p, &m);
    assert_seconds(made.seconds, (rows + ends) / 0.125);
    assert_seconds(made.compute, scores);
}

static void a_slower_machine_and_a_larger_problem_never_take_less(void **state)
{
    (void)state;
    const prediction_machine m = {.score_seconds = 1e-9,
                                  .product_seconds = 2e-11,
                                  .few_seconds = {1e-10, 2e-10, 5e-10},
                                  .memory_bandwidth = 1e10,
                                  .step_seconds = 1e-6,
                                  .barrier_seconds = 1e-6,
                                  .node = {.latency = 1e-6, .bandwidth = 1e9, .busy = 0.5},
                                  .network = {.latency = 1e-5, .bandwidth = 1e8, .busy = 0.1},
                                  .lanes = 24};
    prediction_machine slower[7] = {m, m, m, m, m, m, m};
    slower[0].score_seconds *= 2;
    slower[1].product_seconds *= 2;
    slower[2].memory_bandwidth /= 2;
    slower[3].node.bandwidth /= 2;
    slower[4].network.latency *= 2;
    slower[5].node.busy *= 2;
    slower[6].few_seconds[0] *= 2;
    for (int way = 0; way < strategy_count; way++) {
        for (int ranks = 1; ranks <= 8; ranks++) {
            for (int causal = 0; causal < 2; causal++) {
                schedule_problem p = full_problem(777, ranks), larger = full_problem(2000, ranks);
                p.mask.causal = larger.mask.causal = causal;
                p.node_ranks = larger.node_ranks = ranks % 2 ? 1 : ranks / 2;
                if (strategies[way]->refuse(&p)) continue;
                const double seconds = predict(strategies[way], &p, &m).seconds;
                assert_true(seconds > 0 && isfinite(seconds));
                for (int i = 0; i < 7; i++)
                    assert_true(predict(strategies[way], &p, &slower[i]).seconds >= seconds * (1 - 1e-12));
                assert_true(predict(strategies[way], &larger, &m).seconds >= seconds);
            }
        }
    }
}

static void a_sample_is_ascending_and_holds_the_heaviest_rank(void **state)
{
    (void)state;
    const int64_t documents[] = {0, 10, 20, 3000, 6000}; /* of two heavy documents, the second is the heavier */
    int ranks[PREDICTION_ALL_RANKS];
    for (int all = 1; all <= 16; all++) {
        const schedule_problem p = full_problem(6000, all);
        assert_int_equal(prediction_sample(find("ring"), &p, ranks), all);
        for (int i = 0; i < all; i++) assert_int_equal(ranks[i], i);
    }
    for (int all = 17; all < 300; all += 7) {
        schedule_problem p = full_problem(6000, all);
        p.mask.documents = documents;
        p.mask.document_count = 4;
        const int count = prediction_sample(find("ring"), &p, ranks);
        int64_t most = 0, seen = 0;
        assert_in_range(count, 3, PREDICTION_ALL_RANKS);
        for (int i = 0; i < count; i++) {
            assert_in_range(ranks[i], i > 0 ? ranks[i - 1] + 1 : 0, all - 1);
            const int64_t pairs = mask_pairs(&p.mask, layout_chunk(&p.query_layout, ranks[i]), (range){0, 6000});
            if (pairs > seen) seen = pairs;
        }
        for (int rank = 0; rank < all; rank++) {
            const int64_t pairs = mask_pairs(&p.mask, layout_chunk(&p.query_layout, rank), (range){0, 6000});
            if (pairs > most) most = pairs;
        }
        assert_int_equal(seen, most);
        assert_int_equal(ranks[0], 0);
        assert_int_equal(ranks[count - 1], all - 1);
    }
}

/* Of 40 ranks in groups of 8 with one head, 7 in each group have none. */
static void a_sample_of_ranks_that_heads_are_dealt_to_holds_one_that_has_most(void **state)
{
    (void)state;
    prediction_machine m = idle;
    m.score_seconds = 1;
    for (int heads = 1; heads <= 12; heads++) {
        schedule_problem p = full_problem(4000, 40);
        p.heads = p.kv_heads = heads;
        p.columns = 8;
        const double most = heads <= 8 ? 1 : 2;
        assert_seconds(predict(find("hybrid"), &p, &m).compute, 4000.0 / 5 * 4000 * most);
        assert_seconds(predict(find("heads"), &p, &m).compute, 4000.0 * 4000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ring_of_two_takes_two_folds_where_the_link_is_fast),
        cmocka_unit_test(a_slow_link_takes_its_latency_and_its_bytes),
        cmocka_unit_test(ranks_of_different_nodes_use_the_network),
        cmocka_unit_test(a_transfer_hides_behind_work_but_for_what_the_folding_thread_does),
        cmocka_unit_test(a_causal_border_is_folded_in_whole_tiles),
        cmocka_unit_test(many_tiles_cost_what_a_few_of_them_do),
        cmocka_unit_test(few_rows_cost_the_keys_that_they_read),
        cmocka_unit_test(a_rank_waits_for_those_it_depends_on_and_for_no_others),
        cmocka_unit_test(where_memory_is_shared_the_ranks_of_a_node_wait_after_each_step),
        cmocka_unit_test(states_cost_their_bytes_over_the_memory_bandwidth),
        cmocka_unit_test(listed_rows_pass_through_memory_while_others_are_folded),
        cmocka_unit_test(a_slower_machine_and_a_larger_problem_never_take_less),
        cmocka_unit_test(a_sample_is_ascending_and_holds_the_heaviest_rank),
        cmocka_unit_test(a_sample_of_ranks_that_heads_are_dealt_to_holds_one_that_has_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
