/* The schedules of all strategies, run on paper: layouts, masks, lengths, ranks, heads, nodes. */
#include "partition/columns.h"

#include "tests/partition/problems.h"
#include "tests/partition/schedule_checker.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_RANKS = 8, RANDOM_SEED = 29, RANDOM_PROBLEMS = 2000 };

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG, LAYOUT_STRIPED};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static int64_t checked, refused; /* sets of schedules; problems that a strategy must refuse and does */

static bool is(const strategy *how, const char *name)
{
    return strcmp(how->name, name) == 0;
}

/* What strategies refuse of problems without a fault. */
static bool must_refuse(const strategy *how, const schedule_problem *p)
{
    const int ranks = p->key_layout.ranks;
    if (ranks == 1) return false;
    if (is(how, "double-ring")) return p->node_ranks == 1;
    if (is(how, "shared")) return !p->may_share;
    if (is(how, "hybrid")) return p->columns > 0 ? ranks % p->columns != 0 : p->node_ranks == 1;
    return false;
}

static void check_strategy(const pair_table *pairs, const schedule_problem *p, const strategy *how)
{
    schedule *schedules[MOST_RANKS];
    char fault[256], text[1024];
    const char *refusal = how->refuse(p);
    if ((refusal != NULL) != must_refuse(how, p)) {
        problem_describe(p, how->name, text, sizeof text);
        fail_msg("%s: %s", text, refusal ? refusal : "not refused");
    }
    if (refusal) {
        refused++;
        return;
    }
    plan_all(p, how, schedules);
    if (!schedules_are_right(pairs, p, schedules, fault, sizeof fault)) {
        problem_describe(p, how->name, text, sizeof text);
        fail_msg("%s: %s", text, fault);
    }
    destroy_all(p, schedules);
    checked++;
}

/* Every strategy, for every way to put the ranks on nodes or in columns that matters to it. */
static void check_problem(const schedule_problem *base)
{
    pair_table *pairs = pair_table_create(base);
    for (int i = 0; i < strategy_count; i++) {
        const strategy *how = strategies[i];
        if (how->sparse) continue; /* test_fetch.c */
        const bool by_nodes = is(how, "double-ring") || is(how, "shared"), by_columns = is(how, "hybrid");
        for (int size = 1; size <= base->key_layout.ranks; size++) {
            schedule_problem p = *base;
            if (base->key_layout.ranks % size != 0) continue;
            if (by_nodes) p.node_ranks = size;
            if (by_columns) p.columns = size;
            p.may_share = true;
            check_strategy(pairs, &p, how);
            if (!by_nodes && !by_columns) break;
        }
    }
    pair_table_destroy(pairs);
}

/* Numbers of heads take turns: the products are large, and heads do not interact with what else is tried. */
static void give_heads(schedule_problem *p, int64_t turn)
{
    static const int heads[][2] = {{2, 1}, {1, 1}, {4, 2}, {3, 3}, {6, 2}, {5, 1}};
    const size_t which = (size_t)turn % (sizeof heads / sizeof heads[0]);
    p->heads = heads[which][0];
    p->kv_heads = heads[which][1];
}

static void check_with_documents(schedule_problem p, const document_set *set)
{
    p.mask.documents = set->offsets;
    p.mask.document_count = set->count;
    check_problem(&p);
}

static void every_pair_is_folded_once_for_all_small_lengths_and_ranks(void **state)
{
    (void)state;
    int64_t turn = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (int64_t grain = 1; grain <= 3; grain++)
                for (int64_t tokens = 0; tokens <= 20; tokens += 1 + (ranks > 5))
                    for (int causal = 0; causal < 2; causal++) {
                        schedule_problem p = problem_of(kinds[kind], tokens, tokens, grain, ranks, causal);
                        give_heads(&p, turn++);
                        check_problem(&p);
                    }
}

static void every_pair_is_folded_once_under_every_mask(void **state)
{
    (void)state;
    static const int64_t lengths[][2] = {{13, 13}, {7, 16}, {15, 6}};
    enum { LENGTHS = sizeof lengths / sizeof lengths[0] };
    int64_t turn = 0;
    mask m;
    for (int64_t index = 0; mask_case_get(1, 1, index, &m); index++)
        for (int kind = 0; kind < KINDS; kind++)
            for (int ranks = 1; ranks <= MOST_RANKS; ranks++, turn++) {
                const int64_t *length = lengths[turn % LENGTHS];
                schedule_problem p = problem_of(kinds[kind], length[0], length[1], 1 + turn % 2, ranks, false);
                assert_true(mask_case_get(length[0], length[1], index, &p.mask));
                give_heads(&p, turn / LENGTHS);
                check_problem(&p);
            }
}

static void every_pair_is_folded_once_when_lengths_differ(void **state)
{
    (void)state;
    int64_t turn = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int ranks = 2; ranks <= MOST_RANKS; ranks++)
            for (int64_t queries = 0; queries <= 18; queries += 3)
                for (int64_t keys = 0; keys <= 19; keys += 4)
                    for (int causal = 0; causal < 2; causal++) {
                        schedule_problem p = problem_of(kinds[kind], queries, keys, 1 + turn % 3, ranks, causal);
                        give_heads(&p, turn++);
                        check_problem(&p);
                    }
}

static void every_pair_is_folded_once_when_documents_are_packed(void **state)
{
    (void)state;
    int64_t turn = 0, masks = 0;
    mask m;
    document_set set;
    while (mask_case_get(1, 1, masks, &m)) masks++;
    for (int kind = 0; kind < KINDS; kind++)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (int64_t tokens = 0; tokens <= 23; tokens += tokens < 5 ? 1 : 6)
                for (int64_t index = 0; document_set_get(tokens, index, &set); index++, turn++) {
                    schedule_problem p = problem_of(kinds[kind], tokens, tokens, 1 + turn % 3, ranks, false);
                    assert_true(mask_case_get(tokens, tokens, turn * 7 % masks, &p.mask));
                    give_heads(&p, turn);
                    check_with_documents(p, &set);
                }
}

static void layouts_of_queries_and_keys_need_not_be_alike(void **state)
{
    (void)state;
    int64_t turn = 0;
    for (int of_queries = 0; of_queries < KINDS; of_queries++)
        for (int of_keys = 0; of_keys < KINDS; of_keys++)
            for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
                for (int64_t tokens = 1; tokens <= 21; tokens += 4)
                    for (int causal = 0; causal < 2; causal++) {
                        schedule_problem p = problem_of(kinds[of_queries], tokens, tokens, 1, ranks, causal);
                        p.key_layout.kind = kinds[of_keys];
                        p.key_layout.grain = 2;
                        if (turn % 3 == 0) p.mask.window_left = 3;
                        give_heads(&p, turn++);
                        check_problem(&p);
                    }
}

static layout layout_at_random(uint64_t *random, int64_t tokens, int ranks)
{
    return (layout){.kind = kinds[random_between(random, 0, KINDS - 1)],
                    .tokens = tokens,
                    .grain = random_between(random, 1, 5),
                    .ranks = ranks};
}

/* All that the tests above hold still while they vary something else. */
static void every_pair_is_folded_once_in_problems_drawn_at_random(void **state)
{
    (void)state;
    int64_t masks = 0;
    mask m;
    while (mask_case_get(1, 1, masks, &m)) masks++;
    uint64_t random = RANDOM_SEED;
    for (int i = 0; i < RANDOM_PROBLEMS; i++) {
        const int ranks = (int)random_between(&random, 1, MOST_RANKS);
        const int64_t queries = random_between(&random, 0, 70), any = random_between(&random, 0, 70);
        document_set set;
        const bool packed = document_set_get(queries, random_between(&random, 0, 8), &set) && any % 3 == 0;
        const int64_t keys = packed ? queries : any;
        schedule_problem p = {.query_layout = layout_at_random(&random, queries, ranks),
                              .key_layout = layout_at_random(&random, keys, ranks),
                              .kv_heads = (int)random_between(&random, 1, 4),
                              .node_ranks = 1};
        p.heads = p.kv_heads * (int)random_between(&random, 1, 3);
        assert_true(mask_case_get(queries, keys, random_between(&random, 0, masks - 1), &p.mask));
        if (packed) check_with_documents(p, &set);
        else check_problem(&p);
    }
}

static void heads_need_not_divide(void **state)
{
    (void)state;
    for (int kv_heads = 1; kv_heads <= 12; kv_heads++)
        for (int heads = kv_heads; heads <= 12; heads += kv_heads)
            for (int ranks = 1; ranks <= MOST_RANKS; ranks++) {
                schedule_problem p = problem_of(kinds[(heads + ranks) % KINDS], 9, 9, 1, ranks, heads % 2);
                p.heads = heads;
                p.kv_heads = kv_heads;
                check_problem(&p);
            }
}

/* Key heads that have to travel to two ranks, because a run of query heads ends among theirs. */
static int split_key_heads(const head_range *runs, int columns, int group)
{
    int split = 0;
    for (int column = 0; column < columns; column++)
        split += heads_count(runs[column]) > 0 && runs[column].end % group != 0;
    return split;
}

static void heads_are_dealt_evenly_and_along_key_heads(void **state)
{
    (void)state;
    enum { MOST_COLUMNS = 10 };
    for (int kv_heads = 1; kv_heads <= 12; kv_heads++)
        for (int heads = kv_heads; heads <= 36; heads += kv_heads)
            for (int columns = 1; columns <= MOST_COLUMNS; columns++) {
                head_range runs[MOST_COLUMNS], even[MOST_COLUMNS];
                columns_deal_heads(heads, kv_heads, columns, runs);
                for (int column = 0; column < columns; column++) {
                    even[column] = (head_range){column * heads / columns, (column + 1) * heads / columns};
                    assert_int_equal(runs[column].begin, column > 0 ? runs[column - 1].end : 0);
                    assert_in_range(heads_count(runs[column]), heads / columns, (heads + columns - 1) / columns);
                }
                assert_int_equal(runs[columns - 1].end, heads);
                const int split = split_key_heads(runs, columns, heads / kv_heads);
                assert_true(split <= split_key_heads(even, columns, heads / kv_heads));
                if (kv_heads % columns == 0) assert_int_equal(split, 0);
            }
}

static void lengths_that_broke_others_are_right(void **state)
{
    (void)state;
    const struct {
        int64_t tokens;
        int ranks;
    } cases[] = {{698, 4}, {31, 8}, {7, 2}, {1, 8}, {7, 8}, {8, 8}, {9, 8}, {15, 8},
                 {1, 2},   {3, 2},  {2, 3}, {5, 3}, {4, 5}, {6, 5}, {9, 5}, {62, 4}};
    for (int kind = 0; kind < KINDS; kind++)
        for (int causal = 0; causal < 2; causal++)
            for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                const int64_t tokens = cases[i].tokens;
                const int64_t grains[] = {layout_default_grain(kinds[kind], tokens, cases[i].ranks), 64};
                for (int g = 0; g < 2; g++) {
                    schedule_problem p = problem_of(kinds[kind], tokens, tokens, grains[g], cases[i].ranks, causal);
                    give_heads(&p, 0);
                    check_problem(&p);
                }
            }
}

static void documents_that_broke_others_are_right(void **state)
{
    (void)state;
    const document_set sets[] = {
        {3, {0, 7, 14, 16}},
        {5, {0, 100, 100, 333, 697, 698}},
        {6, {0, 0, 500, 500, 500, 999, 1000}},
        {3, {0, 128, 1248, 4240}},
    };
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
            const int64_t tokens = sets[i].offsets[sets[i].count];
            const int ranks = tokens > 4000 ? 4 : 8;
            const int64_t grain = layout_default_grain(kinds[kind], tokens, ranks);
            schedule_problem p = problem_of(kinds[kind], tokens, tokens, grain, ranks, kind != 2);
            p.heads = p.kv_heads = 1;
            check_with_documents(p, &sets[i]);
        }
    }
}

static void a_single_rank_sends_nothing_and_folds_once_a_piece(void **state)
{
    (void)state;
    const schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, 100, 100, 1, 1, true);
    for (int i = 0; i < strategy_count; i++) {
        schedule *s = NULL;
        if (strategies[i]->sparse) continue;
        assert_null(strategies[i]->refuse(&p));
        assert_int_equal(strategies[i]->plan(&p, 0, &s), 0);
        assert_int_equal(s->step_count, 1);
        assert_int_equal(s->steps[0].fold_count, 1);
        assert_int_equal(s->steps[0].transfer_count, 0);
        for (int slot = 0; slot < s->slot_count; slot++) assert_int_equal(s->slots[slot].rows, 0);
        schedule_destroy(s);
    }
}

/* Where heads are dealt out, they have to travel whatever the documents are. */
static void documents_inside_the_ranks_need_no_transfer(void **state)
{
    (void)state;
    const document_set set = {8, {0, 4, 8, 12, 16, 20, 24, 28, 32}};
    schedule_problem p = problem_of(LAYOUT_ZIGZAG, 32, 32, 1, 4, true);
    p.mask.documents = set.offsets;
    p.mask.document_count = set.count;
    p.may_share = true;
    p.node_ranks = 2;
    for (int i = 0; i < strategy_count; i++) {
        if (is(strategies[i], "heads") || is(strategies[i], "hybrid") || strategies[i]->sparse) continue;
        for (int rank = 0; rank < 4; rank++) {
            schedule *s = NULL;
            assert_int_equal(strategies[i]->plan(&p, rank, &s), 0);
            assert_int_equal(s->step_count, 1);
            assert_int_equal(s->steps[0].transfer_count, 0);
            assert_int_equal(s->steps[0].fold_count, 2);
            schedule_destroy(s);
        }
    }
}

static void malformed_problems_are_refused_with_a_reason(void **state)
{
    (void)state;
    const int64_t late[] = {1, 8}, early[] = {0, 7}, falling[] = {0, 5, 3, 8}, good[] = {0, 3, 3, 8};
    schedule_problem right = problem_of(LAYOUT_ZIGZAG, 8, 8, 1, 2, true);
    right.node_ranks = 2;
    right.may_share = true;
    for (int i = 0; i < strategy_count; i++) {
        if (strategies[i]->sparse) continue;
        assert_null(strategies[i]->refuse(&right));
        schedule_problem p = right;
        p.key_layout.ranks = 3;
        assert_non_null(strategies[i]->refuse(&p));
        p = right;
        p.mask.keys = 9;
        assert_non_null(strategies[i]->refuse(&p));
        p = right;
        p.kv_heads = 3;
        assert_non_null(strategies[i]->refuse(&p));
        p = right;
        p.node_ranks = 3;
        assert_non_null(strategies[i]->refuse(&p));
        p = right;
        p.mask.document_count = 1;
        p.mask.documents = late;
        assert_non_null(strategies[i]->refuse(&p));
        p.mask.documents = early;
        assert_non_null(strategies[i]->refuse(&p));
        p.mask.document_count = 3;
        p.mask.documents = falling;
        assert_non_null(strategies[i]->refuse(&p));
        p.mask.documents = good;
        assert_null(strategies[i]->refuse(&p));
        p = problem_of(LAYOUT_ZIGZAG, 8, 9, 1, 2, true);
        p.mask.documents = good;
        p.mask.document_count = 3;
        assert_non_null(strategies[i]->refuse(&p));
    }
}

static const strategy *find(const char *name)
{
    int rows, columns;
    return strategy_find(name, &rows, &columns);
}

static void what_a_strategy_cannot_honour_it_refuses(void **state)
{
    (void)state;
    schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, 64, 64, 1, 6, true);
    assert_string_equal(find("double-ring")->refuse(&p),
                        "double-ring needs several ranks on every node, as many on each and in order; say ring");
    assert_string_equal(find("shared")->refuse(&p),
                        "shared needs ranks that can read each other's memory, as many on every node; say ring");
    assert_string_equal(
        find("hybrid")->refuse(&p),
        "hybrid does not know how many ranks are to share the heads, nodes do not tell; say hybrid:RxC");
    p.columns = 4;
    assert_string_equal(find("hybrid")->refuse(&p),
                        "hybrid:RxC needs R x C ranks: the ranks are no multiple of the columns");
    p.columns = 3;
    assert_null(find("hybrid")->refuse(&p));
    p.columns = 0;
    p.node_ranks = 6;
    for (int i = 0; i < strategy_count; i++)
        assert_true((strategies[i]->refuse(&p) != NULL) == (is(strategies[i], "shared") || strategies[i]->sparse));
    p = problem_of(LAYOUT_CONTIGUOUS, 4096, 4096, 1, 2048, true);
    assert_non_null(find("heads")->refuse(&p));
    p.columns = 2048;
    assert_non_null(find("hybrid")->refuse(&p));
    p.columns = 16;
    assert_null(find("hybrid")->refuse(&p));
}

static void the_table_lists_every_strategy_in_order(void **state)
{
    (void)state;
    static const char *const names[] = {"ring",   "gather",  "double-ring", "shared", "heads",
                                        "hybrid", "queries", "decode",      "fetch",  "fetch-ring"};
    assert_int_equal(strategy_count, sizeof names / sizeof names[0]);
    for (int i = 0; i < strategy_count; i++) assert_string_equal(strategies[i]->name, names[i]);
}

/* Not a property of strategies, but of the tests above: that they did what they say. */
static void the_tests_before_have_tried_as_much_as_they_say(void **state)
{
    (void)state;
    print_message("%" PRId64 " sets of schedules checked, %" PRId64 " problems refused as they must be\n", checked,
                  refused);
    assert_true(checked > 0 && refused > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_is_folded_once_for_all_small_lengths_and_ranks),
        cmocka_unit_test(every_pair_is_folded_once_under_every_mask),
        cmocka_unit_test(every_pair_is_folded_once_when_lengths_differ),
        cmocka_unit_test(every_pair_is_folded_once_when_documents_are_packed),
        cmocka_unit_test(layouts_of_queries_and_keys_need_not_be_alike),
        cmocka_unit_test(every_pair_is_folded_once_in_problems_drawn_at_random),
        cmocka_unit_test(heads_need_not_divide),
        cmocka_unit_test(heads_are_dealt_evenly_and_along_key_heads),
        cmocka_unit_test(lengths_that_broke_others_are_right),
        cmocka_unit_test(documents_that_broke_others_are_right),
        cmocka_unit_test(a_single_rank_sends_nothing_and_folds_once_a_piece),
        cmocka_unit_test(documents_inside_the_ranks_need_no_transfer),
        cmocka_unit_test(malformed_problems_are_refused_with_a_reason),
        cmocka_unit_test(what_a_strategy_cannot_honour_it_refuses),
        cmocka_unit_test(the_table_lists_every_strategy_in_order),
        cmocka_unit_test(the_tests_before_have_tried_as_much_as_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
