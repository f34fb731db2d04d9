#include "partition/schedule.h"

#include "tests/partition/brute.h"
#include "tests/partition/problems.h"
#include "tests/partition/schedule_checker.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum { LARGEST = 24, MOST_RANKS = 6, RANKS_LIMIT = 8 };

static const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG};

/* Every strategy's schedules of a problem. */
static void check_problem(const schedule_problem *p)
{
    for (int i = 0; i < strategy_count; i++) {
        schedule *schedules[RANKS_LIMIT];
        char fault[256];
        if (strategies[i]->refuse(p)) fail_msg("%s refuses: %s", strategies[i]->name, strategies[i]->refuse(p));
        plan_all(p, strategies[i], schedules);
        if (!schedules_are_right(p, schedules, may_forward(strategies[i]), fault, sizeof fault)) {
            char text[512];
            problem_describe(p, strategies[i]->name, text, sizeof text);
            fail_msg("%s: %s", text, fault);
        }
        destroy_all(p, schedules);
    }
}

static void check_with_documents(schedule_problem p, const document_set *set)
{
    p.mask.documents = set->offsets;
    p.mask.document_count = set->count;
    p.mask.causal = false;
    check_problem(&p);
    p.mask.causal = true;
    check_problem(&p);
}

static void every_pair_is_folded_once_for_all_small_lengths_and_ranks(void **state)
{
    (void)state;
    const int64_t grains[] = {1, 2, 3, 4, 7};
    for (size_t kind = 0; kind < 2; kind++)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++)
                for (int64_t tokens = 0; tokens <= LARGEST; tokens++)
                    for (int causal = 0; causal < 2; causal++) {
                        const schedule_problem p = problem_of(kinds[kind], tokens, tokens, grains[g], ranks, causal);
                        check_problem(&p);
                    }
}

static void every_pair_is_folded_once_when_lengths_differ(void **state)
{
    (void)state;
    const int64_t grains[] = {1, 2, 3, 4};
    for (size_t kind = 0; kind < 2; kind++)
        for (int ranks = 2; ranks <= MOST_RANKS; ranks++)
            for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++)
                for (int64_t queries = 0; queries <= LARGEST; queries++)
                    for (int64_t keys = 0; keys <= LARGEST; keys++)
                        for (int causal = 0; causal < 2; causal++) {
                            const schedule_problem p = problem_of(kinds[kind], queries, keys, grains[g], ranks, causal);
                            check_problem(&p);
                        }
}

static void every_pair_is_folded_once_when_documents_are_packed(void **state)
{
    (void)state;
    const int64_t grains[] = {1, 2, 3, 4};
    document_set set;
    for (size_t kind = 0; kind < 2; kind++)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++)
                for (int64_t tokens = 0; tokens <= LARGEST; tokens++)
                    for (int64_t index = 0; document_set_get(tokens, index, &set); index++)
                        check_with_documents(problem_of(kinds[kind], tokens, tokens, grains[g], ranks, false), &set);
}

static void layouts_of_queries_and_keys_need_not_be_alike(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < 2; kind++)
        for (int ranks = 1; ranks <= MOST_RANKS; ranks++)
            for (int64_t tokens = 1; tokens <= LARGEST; tokens++)
                for (int causal = 0; causal < 2; causal++) {
                    schedule_problem p = problem_of(kinds[kind], tokens, tokens, 1, ranks, causal);
                    p.key_layout.kind = kinds[1 - kind];
                    p.key_layout.grain = 2;
                    check_problem(&p);
                }
}

static void lengths_that_broke_others_are_right(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        for (int causal = 0; causal < 2; causal++) {
            const struct {
                int64_t tokens;
                int ranks;
            } cases[] = {{698, 4}, {31, 8}, {7, 2}, {3816, 4}, {1, 8}, {7, 8}, {8, 8}, {9, 8},
                         {15, 8},  {1, 2},  {3, 2}, {2, 3},    {5, 3}, {4, 5}, {6, 5}, {9, 5}};
            for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                const int64_t grain = layout_default_grain(kinds[kind], cases[i].tokens, cases[i].ranks);
                const schedule_problem by_default =
                    problem_of(kinds[kind], cases[i].tokens, cases[i].tokens, grain, cases[i].ranks, causal);
                check_problem(&by_default);
                const schedule_problem coarse =
                    problem_of(kinds[kind], cases[i].tokens, cases[i].tokens, 64, cases[i].ranks, causal);
                check_problem(&coarse);
            }
        }
    }
}

static void documents_that_broke_others_are_right(void **state)
{
    (void)state;
    const document_set sets[] = {
        {3, {0, 7, 14, 16}},
        {3, {0, 120, 1248, 4232}},
        {3, {0, 128, 1248, 4240}},
        {5, {0, 100, 100, 333, 697, 698}},
        {6, {0, 0, 500, 500, 500, 999, 1000}},
    };
    for (size_t kind = 0; kind < 2; kind++) {
        for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
            const int64_t tokens = sets[i].offsets[sets[i].count];
            for (int ranks = 4; ranks <= 8; ranks += 4) {
                const int64_t grain = layout_default_grain(kinds[kind], tokens, ranks);
                check_with_documents(problem_of(kinds[kind], tokens, tokens, grain, ranks, false), &sets[i]);
            }
        }
    }
}

static int64_t tokens_moved(const schedule *s, transfer_direction direction)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t t = 0; t < s->steps[i].transfer_count; t++)
            if (s->steps[i].transfers[t].direction == direction) tokens += range_length(s->steps[i].transfers[t].keys);
    return tokens;
}

/* With n = M / P keys a rank. Full: everybody sees P-1 other shards. Causal, contiguous: rank r receives the r shards
 * before its own, and passes on those and its own unless it is last. Causal, zigzag: the P-1 other early chunks go all
 * the way round; the late chunk of rank o passes ranks o-1, ..., 0, so that rank r receives P-1-r of them and sends
 * P-r, unless it is rank 0. */
static void ring_traffic_is_its_closed_form(void **state)
{
    (void)state;
    const int64_t n = 12;
    for (int ranks = 1; ranks <= 16; ranks++) {
        for (int rank = 0; rank < ranks; rank++) {
            const struct {
                layout_kind kind;
                bool causal;
                int64_t received, sent;
            } cases[] = {
                {LAYOUT_CONTIGUOUS, false, (ranks - 1) * n, (ranks - 1) * n},
                {LAYOUT_ZIGZAG, false, (ranks - 1) * n, (ranks - 1) * n},
                {LAYOUT_CONTIGUOUS, true, rank * n, rank < ranks - 1 ? (rank + 1) * n : 0},
                {LAYOUT_ZIGZAG, true, (ranks - 1) * n / 2 + (ranks - 1 - rank) * n / 2,
                 (ranks - 1) * n / 2 + (rank > 0 ? (ranks - rank) * n / 2 : 0)},
            };
            for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                const schedule_problem p = problem_of(cases[i].kind, ranks * n, ranks * n, 1, ranks, cases[i].causal);
                schedule *s = NULL;
                assert_int_equal(strategy_find("ring")->plan(&p, rank, &s), 0);
                assert_int_equal(tokens_moved(s, TRANSFER_RECEIVE), cases[i].received);
                assert_int_equal(tokens_moved(s, TRANSFER_SEND), cases[i].sent);
                schedule_destroy(s);
            }
        }
    }
}

/* What only a gather can do: no rank receives a key that none of its queries sees, so each receives the chunks it needs
 * and no more; and what is sent in total is what is received. */
static void gather_receives_what_is_needed_straight_from_the_owner(void **state)
{
    (void)state;
    const int ranks = 8;
    const int64_t n = 12;
    for (size_t kind = 0; kind < 2; kind++) {
        const schedule_problem p = problem_of(kinds[kind], ranks * n, ranks * n, 1, ranks, true);
        for (int rank = 0; rank < ranks; rank++) {
            schedule *s = NULL;
            assert_int_equal(strategy_find("gather")->plan(&p, rank, &s), 0);
            const int64_t expected = kinds[kind] == LAYOUT_ZIGZAG ? (2 * ranks - 2 - rank) * n / 2 : rank * n;
            assert_int_equal(tokens_moved(s, TRANSFER_RECEIVE), expected);
            assert_int_equal(s->slot_tokens[0], expected);
            for (int64_t t = 0; t < s->steps[0].transfer_count; t++) {
                const schedule_transfer *x = &s->steps[0].transfers[t];
                if (x->direction == TRANSFER_SEND) assert_int_equal(x->slot, SLOT_HOME);
                else
                    assert_int_equal(x->peer, layout_chunk_owner(&p.key_layout,
                                                                 layout_chunk_of_token(&p.key_layout, x->keys.begin)));
            }
            schedule_destroy(s);
        }
    }
}

static void a_single_rank_sends_nothing_and_folds_once_a_chunk(void **state)
{
    (void)state;
    const schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, 100, 100, 1, 1, true);
    for (int i = 0; i < strategy_count; i++) {
        schedule *s = NULL;
        assert_int_equal(strategies[i]->plan(&p, 0, &s), 0);
        assert_int_equal(s->step_count, 1);
        assert_int_equal(s->steps[0].fold_count, 1);
        assert_int_equal(s->steps[0].transfer_count, 0);
        assert_int_equal(s->slot_tokens[0] + s->slot_tokens[1], 0);
        schedule_destroy(s);
    }
}

static void documents_inside_the_ranks_need_no_transfer(void **state)
{
    (void)state;
    const document_set set = {8, {0, 4, 8, 12, 16, 20, 24, 28, 32}};
    schedule_problem p = problem_of(LAYOUT_ZIGZAG, 32, 32, 1, 4, true);
    p.mask.documents = set.offsets;
    p.mask.document_count = set.count;
    for (int i = 0; i < strategy_count; i++) {
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
    const schedule_problem right = problem_of(LAYOUT_ZIGZAG, 8, 8, 1, 2, true);
    for (int i = 0; i < strategy_count; i++) {
        assert_null(strategies[i]->refuse(&right));
        schedule_problem p = right;
        p.key_layout.ranks = 3;
        assert_non_null(strategies[i]->refuse(&p));
        p = right;
        p.mask.keys = 9;
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

static void strategies_are_found_by_name(void **state)
{
    (void)state;
    assert_true(strategy_count >= 2);
    for (int i = 0; i < strategy_count; i++) assert_ptr_equal(strategy_find(strategies[i]->name), strategies[i]);
    assert_null(strategy_find("auto"));
    assert_null(strategy_find(""));
}

/* Transfers from one rank to another over all steps: the two lists must be the same. */
static void assert_twins(const schedule *from, const schedule *to)
{
    const int64_t steps = from->step_count > to->step_count ? from->step_count : to->step_count;
    for (int64_t step = 0; step < steps; step++) {
        range sent[4], received[4];
        int sent_count = 0, received_count = 0;
        for (int64_t t = 0; step < from->step_count && t < from->steps[step].transfer_count; t++) {
            const schedule_transfer *x = &from->steps[step].transfers[t];
            if (x->direction == TRANSFER_SEND && x->peer == to->rank && sent_count < 4) sent[sent_count++] = x->keys;
        }
        for (int64_t t = 0; step < to->step_count && t < to->steps[step].transfer_count; t++) {
            const schedule_transfer *x = &to->steps[step].transfers[t];
            if (x->direction == TRANSFER_RECEIVE && x->peer == from->rank && received_count < 4)
                received[received_count++] = x->keys;
        }
        assert_int_equal(sent_count, received_count);
        for (int i = 0; i < sent_count; i++) {
            assert_int_equal(sent[i].begin, received[i].begin);
            assert_int_equal(sent[i].end, received[i].end);
        }
    }
}

static void check_neighbours(const schedule_problem *p, const strategy *how, const char *mask_name)
{
    static const int first_of_pair[] = {0, 2047, 4095};
    for (size_t i = 0; i < sizeof first_of_pair / sizeof first_of_pair[0]; i++) {
        schedule *a = NULL, *b = NULL;
        struct timespec begin, end;
        timespec_get(&begin, TIME_UTC);
        assert_int_equal(how->plan(p, first_of_pair[i], &a), 0);
        timespec_get(&end, TIME_UTC);
        assert_int_equal(how->plan(p, (first_of_pair[i] + 1) % p->key_layout.ranks, &b), 0);
        print_message("%s, %s, %s, rank %d of %d: planned in %.1f ms\n", how->name,
                      p->key_layout.kind == LAYOUT_ZIGZAG ? "zigzag" : "contiguous", mask_name, first_of_pair[i],
                      p->key_layout.ranks,
                      (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) * 1e-6);
        assert_twins(a, b);
        assert_twins(b, a);
        schedule_destroy(a);
        schedule_destroy(b);
    }
}

static void neighbours_among_4096_ranks_agree(void **state)
{
    (void)state;
    const int64_t tokens = (1 << 20) + 37, documents = 3000;
    int64_t *offsets = test_allocate((size_t)documents + 1, sizeof *offsets);
    for (int64_t d = 0; d <= documents; d++) offsets[d] = d * (d + 1) / 2 * tokens / (documents * (documents + 1) / 2);
    for (size_t kind = 0; kind < 2; kind++) {
        for (int i = 0; i < strategy_count; i++) {
            schedule_problem p = problem_of(kinds[kind], tokens, tokens, 16, 4096, false);
            check_neighbours(&p, strategies[i], "full");
            p.mask.causal = true;
            check_neighbours(&p, strategies[i], "causal");
            p.mask.documents = offsets;
            p.mask.document_count = documents;
            check_neighbours(&p, strategies[i], "causal documents");
        }
    }
    free(offsets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_is_folded_once_for_all_small_lengths_and_ranks),
        cmocka_unit_test(every_pair_is_folded_once_when_lengths_differ),
        cmocka_unit_test(every_pair_is_folded_once_when_documents_are_packed),
        cmocka_unit_test(layouts_of_queries_and_keys_need_not_be_alike),
        cmocka_unit_test(lengths_that_broke_others_are_right),
        cmocka_unit_test(documents_that_broke_others_are_right),
        cmocka_unit_test(ring_traffic_is_its_closed_form),
        cmocka_unit_test(gather_receives_what_is_needed_straight_from_the_owner),
        cmocka_unit_test(a_single_rank_sends_nothing_and_folds_once_a_chunk),
        cmocka_unit_test(documents_inside_the_ranks_need_no_transfer),
        cmocka_unit_test(malformed_problems_are_refused_with_a_reason),
        cmocka_unit_test(strategies_are_found_by_name),
        cmocka_unit_test(neighbours_among_4096_ranks_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
