#include "partition/cost.h"
#include "partition/patterns.h"

#include "tests/partition/brute.h"
#include "tests/partition/brute_pattern.h"
#include "tests/partition/problems.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { LARGEST = 61, MOST_RANKS = 9, MOST_SLOTS = 2 * BRUTE_HEADS, ROUNDS = 200, SEED = 13 };

/* What the slots of a rank hold: tokens of keys, -1 where nothing came; and in which step a row was last read. */
typedef struct {
    int64_t token[MOST_SLOTS][LARGEST], read[MOST_SLOTS][LARGEST];
} rank_slots;

/* A problem with its pairs, a schedule a rank, and what each rank's slots hold. */
typedef struct {
    schedule_problem problem;
    const strategy *how;
    pattern_sum *pattern;
    document_set documents;
    char text[1024];
    int wanted[BRUTE_HEADS][LARGEST][LARGEST], met[BRUTE_HEADS][LARGEST][LARGEST];
    bool came[BRUTE_HEADS][LARGEST]; /* to the rank that is looked at */
    schedule *schedules[MOST_RANKS];
    rank_slots slots[MOST_RANKS];
    token_map queries, keys;
} trial;

static int64_t token_of(const token_map *map, int rank, int64_t row)
{
    for (int64_t token = 0; token < map->tokens; token++)
        if (map->owner[token] == rank && map->row[token] == row) return token;
    return -1;
}

static const schedule_step *step_of(const schedule *s, int64_t step)
{
    static const schedule_step idle;
    return step < s->step_count ? &s->steps[step] : &idle;
}

/* What a step receives lies in the slots from then on; nothing that it reads is overwritten. */
static void receive_step(trial *t, int rank, int64_t step)
{
    const schedule *s = t->schedules[rank];
    for (int64_t i = 0; i < step_of(s, step)->transfer_count; i++) {
        const schedule_transfer *r = &s->steps[step].transfers[i];
        if (r->direction != TRANSFER_RECEIVE) continue;
        assert_true(r->kind == ROWS_KEYS && r->slot >= 0 && r->slot < s->slot_count && r->origin == r->peer);
        const schedule_slot *slot = &s->slots[r->slot];
        assert_true(r->peer != rank && slot->heads.begin == r->heads.begin && slot->heads.end == r->heads.end);
        for (int64_t row = r->rows.begin; row < r->rows.end; row++) {
            const int64_t token = token_of(&t->keys, r->origin, row), at = r->slot_row + row - r->rows.begin;
            assert_true(token >= 0 && at >= 0 && at < slot->rows);
            if (t->slots[rank].read[r->slot][at] == step) fail_msg("%s: a row is read and received", t->text);
            t->slots[rank].token[r->slot][at] = token;
            for (int g = r->heads.begin; g < r->heads.end; g++) {
                if (t->came[g][token]) fail_msg("%s: rank %d receives key %d again", t->text, rank, (int)token);
                t->came[g][token] = true;
            }
        }
    }
}

/* Exactly what queries of a rank see with some head of a key head, and what it does not hold itself. */
static void check_received(const trial *t, int rank)
{
    const int group = t->problem.heads / t->problem.kv_heads;
    for (int g = 0; g < t->problem.kv_heads; g++)
        for (int64_t j = 0; j < t->keys.tokens; j++) {
            bool needed = false;
            for (int h = g * group; h < (g + 1) * group; h++)
                for (int64_t i = 0; i < t->queries.tokens; i++)
                    needed = needed || (t->queries.owner[i] == rank && t->wanted[h][i][j] > 0);
            if (t->came[g][j] != (needed && t->keys.owner[j] != rank))
                fail_msg("%s: rank %d %s key %d, head %d", t->text, rank,
                         t->came[g][j] ? "receives, but does not need," : "lacks", (int)j, g);
        }
}

/* The token in a slot where a fold takes a key. */
static int64_t read_key(trial *t, int rank, int64_t step, const schedule_fold *f, int64_t at)
{
    if (f->key_slot == SLOT_HOME) return token_of(&t->keys, rank, at);
    const schedule_slot *slot = &t->schedules[rank]->slots[f->key_slot];
    const head_range needed = heads_of_keys(&t->problem, f->heads);
    assert_true(at >= 0 && at < slot->rows);
    if (needed.begin < slot->heads.begin || needed.end > slot->heads.end)
        fail_msg("%s: rank %d folds heads that its slot has not", t->text, rank);
    t->slots[rank].read[f->key_slot][at] = step;
    return t->slots[rank].token[f->key_slot][at];
}

static void check_fold(trial *t, int rank, int64_t step, const schedule_fold *f)
{
    const slice s = schedule_fold_slice(&t->problem, f);
    bool all = true;
    assert_true(f->sliced && f->query_origin == rank && f->holder == rank && f->query_slot == SLOT_HOME);
    assert_true(f->state_slot == SLOT_HOME && f->query_slot_row == f->query_rows.begin);
    assert_true((f->key_slot == SLOT_HOME) == (f->key_origin == rank));
    assert_true(f->heads.begin >= 0 && f->heads.begin < f->heads.end && f->heads.end <= t->problem.heads);
    for (int64_t q = f->query_rows.begin; q < f->query_rows.end; q += f->query_stride) {
        const int64_t i = token_of(&t->queries, rank, q);
        int64_t at = f->key_slot_row;
        for (int64_t k = f->key_rows.begin; k < f->key_rows.end; k += f->key_stride, at += f->key_slot_stride) {
            const int64_t j = token_of(&t->keys, f->key_origin, k), there = read_key(t, rank, step, f, at);
            if (there != j) fail_msg("%s: rank %d takes key %d where %d lies", t->text, rank, (int)j, (int)there);
            const bool sees = j - i >= s.low && j - i < s.high;
            all = all && sees;
            for (int h = f->heads.begin; h < f->heads.end; h++) t->met[h][i][j] += sees;
        }
    }
    if (all == f->look_inside) fail_msg("%s: rank %d: look_inside is %d", t->text, rank, f->look_inside);
}

static bool same_heads(const schedule_fold *a, const schedule_fold *b)
{
    return a->heads.begin == b->heads.begin && a->heads.end == b->heads.end;
}

static bool same_queries(const schedule_fold *a, const schedule_fold *b)
{
    return a->query_rows.begin == b->query_rows.begin && a->query_rows.end == b->query_rows.end &&
           a->query_stride == b->query_stride;
}

/* Folds of the same heads and turn have the same queries, stand together and see alike, or have none in common. */
static void check_turns(const trial *t, const schedule_step *step)
{
    int used[LARGEST] = {0}, run = 0, first_of_turn = 1;
    for (int64_t i = 0; i < step->fold_count; i++) {
        const schedule_fold *f = &step->folds[i], *before = i > 0 ? f - 1 : NULL;
        const bool same_call = before && same_heads(f, before) && f->turn == before->turn;
        if (before && same_heads(f, before) && f->turn < before->turn) fail_msg("%s: turns do not ascend", t->text);
        if (!same_call) first_of_turn = run + 1;
        const bool joins = same_call && same_queries(f, before);
        if (joins && (f->low != before->low || f->high != before->high || f->key_stride != before->key_stride))
            fail_msg("%s: folds of the same queries see differently", t->text);
        run += !joins;
        for (int64_t q = f->query_rows.begin; q < f->query_rows.end; q += f->query_stride) {
            if (used[q] >= first_of_turn && used[q] != run) fail_msg("%s: a query is twice in a turn", t->text);
            used[q] = run;
        }
    }
}

/* All that goes from a rank to another for some heads is one message. */
static void check_joined(const trial *t, const schedule_step *step)
{
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const schedule_transfer *x = &step->transfers[i];
        bool known = false, follows = false;
        for (int64_t j = 0; j < i; j++) {
            const schedule_transfer *y = &step->transfers[j];
            follows = y->direction == x->direction && y->peer == x->peer && y->heads.begin == x->heads.begin;
            known = known || follows;
        }
        if (x->joined != known || known != follows) fail_msg("%s: two messages for the same heads", t->text);
    }
}

/* The next transfer of a step in a direction with a peer, from *at on; NULL if there is none. */
static const schedule_transfer *next_of_peer(const schedule_step *step, transfer_direction direction, int peer,
                                             int64_t *at)
{
    while (*at < step->transfer_count) {
        const schedule_transfer *x = &step->transfers[(*at)++];
        if (x->direction == direction && x->peer == peer) return x;
    }
    return NULL;
}

static void check_twins(const trial *t, int from, int to, int64_t step)
{
    int64_t i = 0, j = 0;
    for (;;) {
        const schedule_transfer *sent = next_of_peer(step_of(t->schedules[from], step), TRANSFER_SEND, to, &i);
        const schedule_transfer *received = next_of_peer(step_of(t->schedules[to], step), TRANSFER_RECEIVE, from, &j);
        if (!sent && !received) return;
        if (!sent || !received || sent->rows.begin != received->rows.begin || sent->rows.end != received->rows.end ||
            sent->heads.begin != received->heads.begin || sent->heads.end != received->heads.end ||
            sent->joined != received->joined)
            fail_msg("%s: ranks %d and %d do not agree on what is sent", t->text, from, to);
        assert_true(sent->slot == SLOT_HOME && sent->slot_row == sent->rows.begin && sent->origin == from);
    }
}

static void check_rank(trial *t, int rank)
{
    const schedule *s = t->schedules[rank];
    assert_true(s->slot_count <= MOST_SLOTS);
    memset(t->came, 0, sizeof t->came);
    memset(&t->slots[rank], -1, sizeof t->slots[rank]);
    for (int64_t step = 0; step < s->step_count; step++) {
        check_joined(t, &s->steps[step]);
        check_turns(t, &s->steps[step]);
        for (int64_t i = 0; i < s->steps[step].fold_count; i++) check_fold(t, rank, step, &s->steps[step].folds[i]);
        receive_step(t, rank, step);
    }
    check_received(t, rank);
    for (int i = 0; i < s->slot_count; i++)
        for (int64_t row = 0; row < s->slots[i].rows; row++)
            if (t->slots[rank].token[i][row] < 0) fail_msg("%s: a slot is larger than what it holds", t->text);
}

static void check_trial(trial *t)
{
    const int ranks = t->problem.key_layout.ranks;
    memset(t->met, 0, sizeof t->met);
    assert_null(t->how->refuse(&t->problem));
    token_map_make(&t->queries, &t->problem.query_layout);
    token_map_make(&t->keys, &t->problem.key_layout);
    plan_all(&t->problem, t->how, t->schedules);
    for (int rank = 0; rank < ranks; rank++) {
        check_rank(t, rank);
        for (int to = 0; to < ranks; to++)
            for (int64_t step = 0; to != rank && step < ranks + 2; step++) check_twins(t, rank, to, step);
    }
    for (int h = 0; h < t->problem.heads; h++)
        for (int64_t i = 0; i < t->queries.tokens; i++)
            for (int64_t j = 0; j < t->keys.tokens; j++)
                if (t->met[h][i][j] != t->wanted[h][i][j])
                    fail_msg("%s: query %d, head %d, meets key %d %d times, not %d", t->text, (int)i, h, (int)j,
                             t->met[h][i][j], t->wanted[h][i][j]);
    destroy_all(&t->problem, t->schedules);
    token_map_free(&t->queries);
    token_map_free(&t->keys);
}

static void set_wanted(trial *t, const brute_pattern *b)
{
    const mask *m = &t->problem.mask;
    int64_t *document_of = documents_of_tokens(m);
    for (int64_t i = 0; i < m->queries; i++)
        for (int64_t j = 0; j < m->keys; j++) {
            const bool apart = document_of && !brute_is_of_blocks(b), sees = brute_sees(m, document_of, i, j);
            const int64_t start = apart ? m->documents[document_of[i]] : 0;
            const int64_t keys = apart ? m->documents[document_of[i] + 1] - start : m->keys;
            const int64_t p = apart || brute_is_of_blocks(b) ? i - start : i + m->keys - m->queries;
            for (int h = 0; h < t->problem.heads; h++)
                t->wanted[h][i][j] = sees ? brute_times(b, h, p, j - start, keys) : 0;
        }
    free(document_of);
}

static const strategy *find_strategy(const char *name)
{
    int rows, columns;
    const strategy *found = strategy_find(name, &rows, &columns);
    assert_non_null(found);
    return found;
}

/* A pattern under a mask on some ranks; false if the two do not go together. */
static bool make_trial(trial *t, brute_name name, uint64_t *state)
{
    static int64_t offsets[BRUTE_OFFSETS], columns[BRUTE_COLUMNS];
    const int64_t n = random_between(state, 1, LARGEST), grain = random_between(state, 1, 5);
    const int64_t keys = random_next(state) % 4 == 0 && name != BRUTE_BIGBIRD ? random_between(state, 1, LARGEST) : n;
    const int ranks = (int)random_between(state, 1, MOST_RANKS);
    t->problem = problem_of(LAYOUT_CONTIGUOUS, n, keys, grain, ranks, random_next(state) % 2);
    t->problem.kv_heads = (int)random_between(state, 1, 4);
    t->problem.heads = t->problem.kv_heads * (int)random_between(state, 1, BRUTE_HEADS / t->problem.kv_heads);
    mask *m = &t->problem.mask;
    if (random_next(state) % 4 == 0) m->window_left = random_between(state, 0, keys);
    if (random_next(state) % 4 == 0) m->chunk = random_between(state, 1, 9), m->chunks_left = 1;
    if (m->causal && random_next(state) % 4 == 0) m->prefix = random_between(state, 1, keys);
    if (n == keys && random_next(state) % 3 == 0 &&
        document_set_get(n, (int64_t)(random_next(state) % 9), &t->documents)) {
        m->documents = t->documents.offsets;
        m->document_count = t->documents.count;
    }
    brute_pattern b;
    pattern_choice choice;
    char text[512], why[PATTERN_WHY_SIZE], where[256];
    brute_pattern_draw(&b, name, t->problem.heads, n, keys, random_next(state), offsets, columns);
    brute_pattern_text(&b, text, sizeof text);
    assert_true(pattern_choice_parse(text, &choice, why));
    const int lists = name == BRUTE_HEAD_BLOCKS ? t->problem.heads : 1;
    const int64_t size = b.numbers[0] > 0 ? b.numbers[0] : 1, rows = (n + size - 1) / size;
    const pattern_blocks blocks = {
        lists, rows, (keys + size - 1) / size, offsets[lists * (rows + 1) - 1], offsets, columns};
    const pattern_blocks *given = brute_is_of_blocks(&b) ? &blocks : NULL;
    if (pattern_make(&choice, m, t->problem.heads, given, &t->pattern, why) != 0) return false;
    t->problem.pattern = t->pattern;
    problem_describe(&t->problem, "sparse", where, sizeof where);
    snprintf(t->text, sizeof t->text, "%s, %s", text, where);
    set_wanted(t, &b);
    return true;
}

static void every_pair_is_folded_as_often_as_it_counts_and_exactly_what_is_needed_is_received(void **unused)
{
    (void)unused;
    static trial t;
    uint64_t state = SEED;
    int checked = 0;
    for (int round = 0; round < ROUNDS * BRUTE_PATTERNS; round++) {
        if (!make_trial(&t, (brute_name)(round % BRUTE_PATTERNS), &state)) continue;
        static const char *const names[] = {"fetch", "fetch-ring"};
        for (int i = 0; i < 2; i++) {
            t.how = find_strategy(names[i]);
            check_trial(&t);
        }
        pattern_sum_destroy(t.pattern);
        checked++;
    }
    assert_true(checked > ROUNDS * BRUTE_PATTERNS * 3 / 4);
}

static schedule_problem large_problem(int64_t tokens, int ranks, const char *text, pattern_sum **pattern_p)
{
    pattern_choice choice;
    char why[PATTERN_WHY_SIZE];
    schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, tokens, tokens, 64, ranks, true);
    if (!pattern_choice_parse(text, &choice, why)) fail_msg("%s", why);
    if (pattern_make(&choice, &p.mask, p.heads, NULL, pattern_p, why) != 0) fail_msg("%s", why);
    p.pattern = *pattern_p;
    return p;
}

static int64_t rows_received(const schedule *s, int *messages_p)
{
    int64_t rows = 0;
    *messages_p = 0;
    for (int64_t step = 0; step < s->step_count; step++)
        for (int64_t i = 0; i < s->steps[step].transfer_count; i++)
            if (s->steps[step].transfers[i].direction == TRANSFER_RECEIVE) {
                rows += range_length(s->steps[step].transfers[i].rows);
                *messages_p += !s->steps[step].transfers[i].joined;
            }
    return rows;
}

/* What the head of partition/fetch.c says, whatever N is. */
static void rows_received_are_the_halo_and_the_sinks(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        int64_t rows;
        int messages;
    } cases[] = {{"sinks:4,1000", 1004, 2}, {"sinks:0,1000", 1000, 1},         {"global:1000,0,5", 1001, 2},
                 {"dilated:8,100", 800, 1}, {"vertical-slash:7/0-99", 100, 2}, {"sinks:4,3000", 3004, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int64_t tokens = 1 << 16; tokens <= 1 << 20; tokens *= 4) {
            pattern_sum *pattern;
            int messages;
            const int ranks = (int)(tokens / 1024);
            const schedule_problem p = large_problem(tokens, ranks, cases[i].text, &pattern);
            schedule *s;
            assert_int_equal(find_strategy("fetch")->plan(&p, ranks - 3, &s), 0);
            if (rows_received(s, &messages) != cases[i].rows || messages != cases[i].messages)
                fail_msg("%s: %d rows in %d messages", cases[i].text, (int)rows_received(s, &messages), messages);
            schedule_destroy(s);
            pattern_sum_destroy(pattern);
        }
}

/* Two slots of what is needed of one rank, where fetch has one of what is needed of all. */
static void a_ring_holds_what_is_needed_of_two_ranks(void **unused)
{
    (void)unused;
    const int ranks = 8;
    pattern_sum *pattern;
    const schedule_problem p = large_problem(8192, ranks, "strided:64", &pattern);
    for (int rank = 0; rank < ranks; rank++) {
        schedule *all, *ring;
        int messages[2];
        assert_int_equal(find_strategy("fetch")->plan(&p, rank, &all), 0);
        assert_int_equal(find_strategy("fetch-ring")->plan(&p, rank, &ring), 0);
        assert_int_equal(rows_received(all, &messages[0]), rows_received(ring, &messages[1]));
        assert_int_equal(messages[0], messages[1]);
        assert_int_equal(all->slots[0].rows, 1024 * rank);
        assert_int_equal(ring->slot_count, 2);
        assert_int_equal(ring->slots[0].rows, rank > 0 ? 1024 : 0);
        assert_int_equal(ring->slots[1].rows, rank > 1 ? 1024 : 0);
        schedule_destroy(all);
        schedule_destroy(ring);
    }
    pattern_sum_destroy(pattern);
}

/* No time is asserted: what grows with P squared would not end. */
static void plans_for_4096_ranks_are_made(void **unused)
{
    (void)unused;
    static const char *const texts[] = {"sinks:4,4095",
                                        "global:256,256,0-3",
                                        "dilated:16,256",
                                        "bigbird:64,3",
                                        "strided:1024",
                                        "fixed:1024,8",
                                        "global-twice:256,256,0-3",
                                        "longnet:2k,8k,32k/1,4,16",
                                        "vertical-slash:0-7,5000,9000/0-1023,4096"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        pattern_sum *pattern;
        const schedule_problem p = large_problem(1 << 20, 4096, texts[i], &pattern);
        for (int rank = 0; rank < 4096; rank += 2047) {
            for (int ring = 0; ring < 2; ring++) {
                const char *name = ring ? "fetch-ring" : "fetch";
                schedule *s;
                const clock_t begin = clock();
                assert_int_equal(find_strategy(name)->plan(&p, rank, &s), 0);
                printf("%-44s %-10s rank %4d: %.3f s\n", texts[i], name, rank,
                       (double)(clock() - begin) / CLOCKS_PER_SEC);
                schedule_destroy(s);
            }
        }
        pattern_sum_destroy(pattern);
    }
}

static void what_fetch_cannot_do_is_refused(void **unused)
{
    (void)unused;
    pattern_sum *pattern;
    schedule_problem p = large_problem(64, 4, "sinks:1,2", &pattern);
    for (int i = 0; i < strategy_count; i++) {
        const char *why = strategies[i]->refuse(&p);
        if (strategies[i]->sparse) assert_null(why);
        else assert_true(why && (strstr(why, "pattern") || strstr(why, "node")));
    }
    p.query_layout.kind = p.key_layout.kind = LAYOUT_ZIGZAG;
    assert_non_null(strstr(find_strategy("fetch")->refuse(&p), "contiguous"));
    p = problem_of(LAYOUT_CONTIGUOUS, 64, 64, 1, 4, true);
    assert_non_null(strstr(find_strategy("fetch")->refuse(&p), "gather"));
    pattern_sum_destroy(pattern);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_is_folded_as_often_as_it_counts_and_exactly_what_is_needed_is_received),
        cmocka_unit_test(rows_received_are_the_halo_and_the_sinks),
        cmocka_unit_test(a_ring_holds_what_is_needed_of_two_ranks),
        cmocka_unit_test(plans_for_4096_ranks_are_made),
        cmocka_unit_test(what_fetch_cannot_do_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
