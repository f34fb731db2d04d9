/* Schedules of selections, on paper: random lists of blocks, token by token. */
#include "partition/selected.h"

#include "tests/partition/brute.h"
#include "tests/partition/problems.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LARGEST = 53, MOST_RANKS = 8, MOST_HEADS = 6, MOST_BLOCKS = 5, ROUNDS = 400, SEED = 29 };

/* A problem, what each rank has chosen of it, and what came of it. */
typedef struct {
    schedule_problem problem;
    document_set documents;
    int64_t *document_of;
    token_map queries, keys;
    int32_t blocks[LARGEST][MOST_HEADS][MOST_BLOCKS]; /* of every query */
    int lists, most;
    int64_t size;
    int32_t mine[MOST_RANKS][LARGEST * MOST_HEADS * MOST_BLOCKS]; /* as each rank has them */
    selection selections[MOST_RANKS];
    schedule_problem problems[MOST_RANKS]; /* each with its rank's selection */
    schedule *schedules[MOST_RANKS];
    bool wanted[LARGEST][MOST_HEADS][LARGEST];
    int met[LARGEST][MOST_HEADS][LARGEST];
    char text[1024];
} trial;

static int64_t token_of(const token_map *map, int rank, int64_t row)
{
    for (int64_t token = 0; token < map->tokens; token++)
        if (map->owner[token] == rank && map->row[token] == row) return token;
    return -1;
}

static int list_of_head(const trial *t, int head)
{
    if (t->lists == 1) return 0;
    return t->lists == t->problem.kv_heads ? head / (t->problem.heads / t->problem.kv_heads) : head;
}

/* Ascending blocks, some lists empty, some full. */
static void draw_lists(trial *t, uint64_t *random)
{
    const int64_t count = (t->problem.mask.keys - 1) / t->size + 1;
    for (int64_t q = 0; q < t->problem.mask.queries; q++)
        for (int l = 0; l < t->lists; l++) {
            int chosen = 0;
            for (int64_t b = 0; b < count && chosen < t->most; b++)
                if (random_between(random, 0, 2) == 0) t->blocks[q][l][chosen++] = (int32_t)b;
            while (chosen < t->most) t->blocks[q][l][chosen++] = -1;
        }
    for (int64_t q = 0; q < t->problem.mask.queries; q++)
        for (int h = 0; h < t->problem.heads; h++)
            for (int64_t k = 0; k < t->problem.mask.keys; k++)
                for (int i = 0; i < t->most; i++)
                    if (t->blocks[q][list_of_head(t, h)][i] == k / t->size)
                        t->wanted[q][h][k] = brute_sees(&t->problem.mask, t->document_of, q, k);
}

static void draw_problem(trial *t, uint64_t *random)
{
    static const int heads[][2] = {{1, 1}, {4, 2}, {6, 3}, {6, 2}, {3, 1}, {4, 4}};
    const int *shape = heads[random_between(random, 0, 5)];
    const int ranks = (int)random_between(random, 1, MOST_RANKS);
    const int64_t queries = random_between(random, 1, LARGEST), keys = random_between(random, 1, LARGEST);
    const int64_t grain = random_between(random, 1, 4), kind = random_between(random, 0, 3);
    t->problem = problem_of(LAYOUT_CONTIGUOUS, queries, kind == 3 ? queries : keys, grain, ranks, kind != 0);
    t->problem.heads = shape[0];
    t->problem.kv_heads = shape[1];
    if (kind == 2) t->problem.mask.window_left = random_between(random, 0, 9);
    if (kind == 3 && document_set_get(queries, 3 + random_between(random, 0, 3), &t->documents)) {
        t->problem.mask.documents = t->documents.offsets;
        t->problem.mask.document_count = t->documents.count;
    }
    const int lists[] = {1, shape[1], shape[0]};
    t->lists = lists[random_between(random, 0, 2)];
    t->most = (int)random_between(random, 1, MOST_BLOCKS);
    t->size = random_between(random, 1, 11);
    t->document_of = documents_of_tokens(&t->problem.mask);
    token_map_make(&t->queries, &t->problem.query_layout);
    token_map_make(&t->keys, &t->problem.key_layout);
    problem_describe(&t->problem, "selected", t->text, sizeof t->text);
}

static void give_ranks_their_lists(trial *t)
{
    const size_t row = (size_t)(t->lists * t->most);
    for (int rank = 0; rank < t->problem.query_layout.ranks; rank++) {
        t->selections[rank] = (selection){.size = t->size, .lists = t->lists, .most = t->most, .blocks = t->mine[rank]};
        for (int64_t q = 0; q < t->queries.tokens; q++)
            for (int l = 0; l < t->lists && t->queries.owner[q] == rank; l++)
                memcpy(t->mine[rank] + (size_t)t->queries.row[q] * row + (size_t)(l * t->most), t->blocks[q][l],
                       (size_t)t->most * sizeof(int32_t));
        t->problems[rank] = t->problem;
        t->problems[rank].selection = &t->selections[rank];
    }
}

/* Every rank is told what the others need of it, in the order of ranks. */
static void exchange_needs(trial *t)
{
    const int ranks = t->problem.query_layout.ranks;
    for (int reader = 0; reader < ranks; reader++) {
        selection_run *runs;
        int64_t count;
        assert_int_equal(selected_needs(&t->problems[reader], reader, &runs, &count), 0);
        for (int64_t i = 0; i < count; i++) {
            assert_true(runs[i].peer >= 0 && runs[i].peer < ranks && runs[i].peer != reader);
            selection *of = &t->selections[runs[i].peer];
            of->asked = realloc(of->asked, ((size_t)of->asked_count + 1) * sizeof *of->asked);
            of->asked[of->asked_count] = runs[i];
            of->asked[of->asked_count++].peer = reader;
        }
        free(runs);
    }
}

static const schedule_transfer *next_of(const schedule *s, transfer_direction direction, int peer, int64_t *at)
{
    while (s->step_count > 0 && *at < s->steps[0].transfer_count) {
        const schedule_transfer *x = &s->steps[0].transfers[(*at)++];
        if (x->direction == direction && x->peer == peer) return x;
    }
    return NULL;
}

static void check_twins(const trial *t, int from, int to)
{
    int64_t sent = 0, received = 0;
    for (;;) {
        const schedule_transfer *s = next_of(t->schedules[from], TRANSFER_SEND, to, &sent);
        const schedule_transfer *r = next_of(t->schedules[to], TRANSFER_RECEIVE, from, &received);
        if (!s && !r) return;
        assert_true(s && r);
        assert_true(s->origin == from && r->origin == from && s->kind == ROWS_KEYS && r->kind == ROWS_KEYS);
        assert_true(s->rows.begin == r->rows.begin && s->rows.end == r->rows.end && s->joined == r->joined);
        assert_true(s->heads.begin == r->heads.begin && s->heads.end == r->heads.end);
        assert_true(s->slot == SLOT_HOME && s->slot_row == s->rows.begin && r->slot >= 0);
    }
}

/* A rank's need of a key for a key head: none; between two keys of the block that queries see; a query sees it. */
typedef enum { NOT_NEEDED, BETWEEN, NEEDED } need;

static need need_of(const trial *t, int rank, int kv_head, int64_t token)
{
    const int group = t->problem.heads / t->problem.kv_heads;
    const int first = t->lists == 1 ? 0 : kv_head * group, last = t->lists == 1 ? t->problem.heads : first + group;
    bool before = false, after = false, itself = false;
    for (int64_t q = 0; q < t->queries.tokens; q++)
        for (int h = first; h < last && t->queries.owner[q] == rank; h++)
            for (int64_t k = token / t->size * t->size; k < t->keys.tokens && k < (token / t->size + 1) * t->size;
                 k++) {
                before = before || (k <= token && t->wanted[q][h][k]);
                after = after || (k >= token && t->wanted[q][h][k]);
                itself = itself || (k == token && t->wanted[q][h][k]);
            }
    return itself ? NEEDED : before && after ? BETWEEN : NOT_NEEDED;
}

/* The tokens in a slot, a row and key head each; -1 where nothing came. Exactly what is needed comes, and once; of a
 * block under windows perhaps also what lies between. */
static void receive(const trial *t, int rank, int64_t slots[MOST_HEADS][LARGEST][MOST_HEADS])
{
    const schedule *s = t->schedules[rank];
    bool came[LARGEST][MOST_HEADS] = {0};
    memset(slots, -1, sizeof(int64_t) * MOST_HEADS * LARGEST * MOST_HEADS);
    for (int64_t i = 0; s->step_count > 0 && i < s->steps[0].transfer_count; i++) {
        const schedule_transfer *r = &s->steps[0].transfers[i];
        if (r->direction != TRANSFER_RECEIVE) continue;
        assert_true(r->slot_row >= 0 && r->slot_row + range_length(r->rows) <= s->slots[r->slot].rows);
        assert_true(r->heads.begin >= s->slots[r->slot].heads.begin && r->heads.end <= s->slots[r->slot].heads.end);
        for (int64_t row = r->rows.begin; row < r->rows.end; row++)
            for (int g = r->heads.begin; g < r->heads.end; g++) {
                const int64_t token = token_of(&t->keys, r->origin, row);
                int64_t *cell = &slots[r->slot][r->slot_row + row - r->rows.begin][g];
                assert_true(token >= 0 && *cell < 0 && !came[token][g]);
                *cell = token;
                came[token][g] = true;
            }
    }
    for (int64_t k = 0; k < t->keys.tokens; k++)
        for (int g = 0; g < t->problem.kv_heads; g++) {
            const need n = t->keys.owner[k] == rank ? NOT_NEEDED : need_of(t, rank, g, k);
            if (n == BETWEEN && (t->problem.mask.window_left >= 0 || t->problem.mask.documents)) continue;
            if (came[k][g] != (n == NEEDED))
                fail_msg("%s: rank %d, key %lld, key head %d: came %d", t->text, rank, (long long)k, g, came[k][g]);
        }
}

/* Meets the pairs of a fold; a row's keys ascend over all folds. */
static int64_t meet(trial *t, int rank, int64_t step, const schedule_fold *f,
                    int64_t slots[MOST_HEADS][LARGEST][MOST_HEADS])
{
    const int group = t->problem.heads / t->problem.kv_heads;
    int64_t pairs = 0;
    bool all = true;
    assert_true(f->listed && f->query_origin == rank && f->query_slot == SLOT_HOME && f->state_slot == SLOT_HOME);
    assert_true(step > 0 || f->key_slot == SLOT_HOME);
    assert_true(f->heads.begin % group == 0 && f->heads.end == f->heads.begin + group);
    for (int64_t i = 1; i < f->listed_rows; i++) assert_true(f->listed[i - 1] < f->listed[i]);
    for (int g = f->heads.begin / group; g < f->heads.end / group; g++)
        for (int64_t i = 0; i < f->listed_rows; i++)
            for (int64_t row = f->key_rows.begin; row < f->key_rows.end; row++) {
                const int64_t q = token_of(&t->queries, rank, f->query_rows.begin + f->listed[i] / group);
                const int64_t k = token_of(&t->keys, f->key_origin, row),
                              at = f->key_slot_row + row - f->key_rows.begin;
                const int h = g * group + (int)(f->listed[i] % group);
                assert_true(q >= 0 && k >= 0);
                if (f->key_slot == SLOT_HOME) assert_true(f->key_origin == rank && at == row);
                else assert_true(slots[f->key_slot][at][g] == k);
                const bool sees = brute_sees(&t->problem.mask, t->document_of, q, k);
                all = all && sees;
                if (!sees) continue;
                for (int64_t later = k; later < t->keys.tokens; later++)
                    if (t->met[q][h][later]) fail_msg("%s: query %lld meets keys out of order", t->text, (long long)q);
                t->met[q][h][k]++;
                pairs++;
            }
    if (!all && !f->look_inside) fail_msg("%s: a fold does not look inside", t->text);
    assert_int_equal(schedule_fold_all_pairs(&t->problem, f), pairs);
    assert_true(pairs > 0 || f->look_inside);
    return pairs;
}

static void check_rank(trial *t, int rank)
{
    static int64_t slots[MOST_HEADS][LARGEST][MOST_HEADS];
    const schedule *s = t->schedules[rank];
    receive(t, rank, slots);
    for (int64_t step = 0; step < s->step_count; step++)
        for (int64_t i = 0; i < s->steps[step].fold_count; i++) {
            const schedule_fold *f = &s->steps[step].folds[i];
            if (i > 0) assert_true(f[-1].heads.begin <= f->heads.begin);
            meet(t, rank, step, f, slots);
        }
}

static void run_trial(uint64_t *random)
{
    trial *t = test_allocate(1, sizeof *t);
    draw_problem(t, random);
    draw_lists(t, random);
    give_ranks_their_lists(t);
    exchange_needs(t);
    const int ranks = t->problem.query_layout.ranks;
    for (int rank = 0; rank < ranks; rank++) {
        assert_null(strategy_selected.refuse(&t->problems[rank]));
        assert_int_equal(strategy_selected.plan(&t->problems[rank], rank, &t->schedules[rank]), 0);
    }
    for (int from = 0; from < ranks; from++)
        for (int to = 0; to < ranks; to++) check_twins(t, from, to);
    for (int rank = 0; rank < ranks; rank++) check_rank(t, rank);
    for (int64_t q = 0; q < t->queries.tokens; q++)
        for (int h = 0; h < t->problem.heads; h++)
            for (int64_t k = 0; k < t->keys.tokens; k++)
                if (t->met[q][h][k] != t->wanted[q][h][k])
                    fail_msg("%s: size %lld, lists %d: query %lld, head %d meets key %lld %d times", t->text,
                             (long long)t->size, t->lists, (long long)q, h, (long long)k, t->met[q][h][k]);
    for (int rank = 0; rank < ranks; rank++) {
        schedule_destroy(t->schedules[rank]);
        free(t->selections[rank].asked);
    }
    token_map_free(&t->queries);
    token_map_free(&t->keys);
    free(t->document_of);
    free(t);
}

static void every_pair_is_folded_once_in_order_and_exactly_what_is_needed_is_received(void **unused)
{
    (void)unused;
    uint64_t random = SEED;
    for (int i = 0; i < ROUNDS; i++) run_trial(&random);
}

/* Under a causal mask the tokens of a block see part of it, but the last all of it, like those that follow. */
static void rows_that_see_all_of_a_block_need_not_look_inside(void **unused)
{
    (void)unused;
    enum { TOKENS = 96, HEADS = 4, GROUP = 2, SIZE = 32, BLOCKS = TOKENS / SIZE };
    int32_t *lists = test_allocate(TOKENS * HEADS * BLOCKS, sizeof *lists);
    selection chosen = {.size = SIZE, .lists = HEADS, .most = BLOCKS, .blocks = lists};
    schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, TOKENS, TOKENS, 1, 1, true);
    schedule *s;
    p.heads = HEADS;
    p.kv_heads = HEADS / GROUP;
    p.selection = &chosen;
    for (int64_t i = 0; i < TOKENS * HEADS * BLOCKS; i++) lists[i] = (int32_t)(i % BLOCKS);
    assert_int_equal(strategy_selected.plan(&p, 0, &s), 0);
    const schedule_fold *f = s->steps[0].folds;
    for (int g = 0; g < p.kv_heads; g++)
        for (int64_t block = 0; block < BLOCKS; block++)
            for (int whole = 0; whole < 2; whole++, f++) {
                const int64_t own = block * SIZE + SIZE - 1, first = whole ? own : block * SIZE,
                              last = whole ? TOKENS : own;
                assert_true(f->heads.begin == g * GROUP && f->key_rows.begin == block * SIZE);
                assert_int_equal(f->look_inside, !whole);
                assert_int_equal(f->listed[0], first * GROUP);
                assert_int_equal(f->listed_rows, (last - first) * GROUP);
            }
    assert_true(f == s->steps[0].folds + s->steps[0].fold_count);
    schedule_destroy(s);
    free(lists);
}

static void other_layouts_and_strategies_are_refused(void **unused)
{
    (void)unused;
    const selection chosen = {.size = 4, .lists = 1, .most = 1};
    schedule_problem p = problem_of(LAYOUT_ZIGZAG, 16, 16, 1, 2, true);
    assert_non_null(strstr(strategy_selected.refuse(&p), "selected"));
    p.selection = &chosen;
    assert_non_null(strstr(strategy_selected.refuse(&p), "contiguous"));
    p = problem_of(LAYOUT_CONTIGUOUS, 16, 16, 1, 2, true);
    p.selection = &chosen;
    for (int i = 0; i < strategy_count; i++) assert_non_null(strategies[i]->refuse(&p));
    assert_null(strategy_selected.refuse(&p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_is_folded_once_in_order_and_exactly_what_is_needed_is_received),
        cmocka_unit_test(rows_that_see_all_of_a_block_need_not_look_inside),
        cmocka_unit_test(other_layouts_and_strategies_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
