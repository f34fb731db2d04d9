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

enum { LARGEST = 61, MOST_RANKS = 9, ROUNDS = 250, SEED = 13, MOST_COLUMNS = 8192 };

/* A problem with its pairs, a schedule a rank, and what each rank's slot holds. */
typedef struct {
    schedule_problem problem;
    const strategy *fetch;
    pattern *pattern;
    document_set documents;
    char text[1024];
    bool wanted[LARGEST][LARGEST];
    int met[LARGEST][LARGEST];
    schedule *schedules[MOST_RANKS];
    token_map queries, keys;
} trial;

static int64_t token_of(const token_map *map, int rank, int64_t row)
{
    for (int64_t token = 0; token < map->tokens; token++)
        if (map->owner[token] == rank && map->row[token] == row) return token;
    return -1;
}

/* The tokens in a rank's slot, from its receives; -1 where nothing came. */
static void receive_all(const trial *t, int rank, int64_t *slot)
{
    const schedule *s = t->schedules[rank];
    bool came[LARGEST] = {0};
    assert_int_equal(s->slot_count, 1);
    for (int64_t i = 0; i < s->slots[0].rows; i++) slot[i] = -1;
    for (int64_t i = 0; i < (s->step_count > 0 ? s->steps[0].transfer_count : 0); i++) {
        const schedule_transfer *r = &s->steps[0].transfers[i];
        if (r->direction != TRANSFER_RECEIVE) continue;
        assert_true(r->kind == ROWS_KEYS && r->slot == 0 && r->origin == r->peer && r->peer != rank);
        for (int64_t row = r->rows.begin; row < r->rows.end; row++) {
            const int64_t token = token_of(&t->keys, r->origin, row), at = r->slot_row + row - r->rows.begin;
            assert_true(token >= 0 && at < s->slots[0].rows && slot[at] < 0 && !came[token]);
            slot[at] = token;
            came[token] = true;
        }
    }
    for (int64_t i = 0; i < s->slots[0].rows; i++) assert_true(slot[i] >= 0);
    for (int64_t j = 0; j < t->keys.tokens; j++) {
        bool needed = false;
        for (int64_t i = 0; i < t->queries.tokens; i++)
            needed = needed || (t->queries.owner[i] == rank && t->wanted[i][j]);
        if (came[j] != (needed && t->keys.owner[j] != rank))
            fail_msg("%s: rank %d %s key %d", t->text, rank, came[j] ? "receives, but does not need," : "lacks",
                     (int)j);
    }
}

static void check_fold(trial *t, int rank, int64_t step, const schedule_fold *f, const int64_t *slot)
{
    const slice s = schedule_fold_slice(&t->problem, f);
    bool all = true;
    assert_true(f->sliced && f->query_origin == rank && f->holder == rank && f->query_slot == SLOT_HOME);
    assert_true(f->state_slot == SLOT_HOME && f->query_slot_row == f->query_rows.begin);
    assert_true((f->key_slot == SLOT_HOME) == (step == 0) && (f->key_origin == rank) == (step == 0));
    for (int64_t q = f->query_rows.begin; q < f->query_rows.end; q += f->query_stride) {
        const int64_t i = token_of(&t->queries, rank, q);
        int64_t at = f->key_slot_row;
        for (int64_t k = f->key_rows.begin; k < f->key_rows.end; k += f->key_stride, at += f->key_slot_stride) {
            const int64_t j = token_of(&t->keys, f->key_origin, k);
            const int64_t there = f->key_slot == SLOT_HOME ? token_of(&t->keys, rank, at) : slot[at];
            if (there != j) fail_msg("%s: rank %d takes key %d where %d lies", t->text, rank, (int)j, (int)there);
            const bool sees = j - i >= s.low && j - i < s.high;
            all = all && sees;
            t->met[i][j] += sees;
        }
    }
    if (all == f->look_inside) fail_msg("%s: rank %d: look_inside is %d", t->text, rank, f->look_inside);
}

static bool same_queries(const schedule_fold *a, const schedule_fold *b)
{
    return a->query_rows.begin == b->query_rows.begin && a->query_rows.end == b->query_rows.end &&
           a->query_stride == b->query_stride;
}

/* Folds of a turn have the same queries, stand together and see alike, or have none in common. */
static void check_turns(const trial *t, const schedule_step *step)
{
    int used[LARGEST] = {0}, run = 0, first_of_turn = 1;
    for (int64_t i = 0; i < step->fold_count; i++) {
        const schedule_fold *f = &step->folds[i], *before = i > 0 ? f - 1 : NULL;
        if (before && f->turn < before->turn) fail_msg("%s: turns do not ascend", t->text);
        if (!before || f->turn != before->turn) first_of_turn = run + 1;
        const bool joins = before && f->turn == before->turn && same_queries(f, before);
        if (joins && (f->low != before->low || f->high != before->high || f->key_stride != before->key_stride))
            fail_msg("%s: folds of the same queries see differently", t->text);
        run += !joins;
        for (int64_t q = f->query_rows.begin; q < f->query_rows.end; q += f->query_stride) {
            if (used[q] >= first_of_turn && used[q] != run) fail_msg("%s: a query is twice in a turn", t->text);
            used[q] = run;
        }
    }
}

/* All that goes from a rank to another is one message. */
static void check_joined(const trial *t, const schedule *s)
{
    for (int64_t i = 0; i < (s->step_count > 0 ? s->steps[0].transfer_count : 0); i++) {
        const schedule_transfer *x = &s->steps[0].transfers[i];
        bool known = false;
        for (int64_t j = 0; j < i; j++)
            known = known || (x[j - i].direction == x->direction && x[j - i].peer == x->peer);
        const bool follows = i > 0 && x[-1].direction == x->direction && x[-1].peer == x->peer;
        if (x->joined != known || (known && !follows)) fail_msg("%s: rank %d sends two messages", t->text, s->rank);
    }
}

static void check_twins(const trial *t, int from, int to)
{
    int64_t i = 0, j = 0;
    const schedule *a = t->schedules[from], *b = t->schedules[to];
    for (;;) {
        const schedule_transfer *sent = NULL, *received = NULL;
        while (!sent && a->step_count > 0 && i < a->steps[0].transfer_count) {
            const schedule_transfer *x = &a->steps[0].transfers[i++];
            if (x->direction == TRANSFER_SEND && x->peer == to) sent = x;
        }
        while (!received && b->step_count > 0 && j < b->steps[0].transfer_count) {
            const schedule_transfer *x = &b->steps[0].transfers[j++];
            if (x->direction == TRANSFER_RECEIVE && x->peer == from) received = x;
        }
        if (!sent && !received) return;
        if (!sent || !received || sent->rows.begin != received->rows.begin || sent->rows.end != received->rows.end)
            fail_msg("%s: ranks %d and %d do not agree on what is sent", t->text, from, to);
        assert_true(sent->slot == SLOT_HOME && sent->slot_row == sent->rows.begin && sent->origin == from);
    }
}

static void check_trial(trial *t)
{
    const int ranks = t->problem.key_layout.ranks;
    int64_t slot[LARGEST];
    memset(t->met, 0, sizeof t->met);
    assert_null(t->fetch->refuse(&t->problem));
    token_map_make(&t->queries, &t->problem.query_layout);
    token_map_make(&t->keys, &t->problem.key_layout);
    plan_all(&t->problem, t->fetch, t->schedules);
    for (int rank = 0; rank < ranks; rank++) {
        const schedule *s = t->schedules[rank];
        receive_all(t, rank, slot);
        check_joined(t, s);
        for (int64_t step = 0; step < s->step_count; step++) {
            assert_true(step == 0 || s->steps[step].transfer_count == 0);
            for (int64_t i = 0; i < s->steps[step].fold_count; i++)
                check_fold(t, rank, step, &s->steps[step].folds[i], slot);
            check_turns(t, &s->steps[step]);
        }
        for (int to = 0; to < ranks; to++)
            if (to != rank) check_twins(t, rank, to);
    }
    for (int64_t i = 0; i < t->queries.tokens; i++)
        for (int64_t j = 0; j < t->keys.tokens; j++)
            if (t->met[i][j] != t->wanted[i][j])
                fail_msg("%s: query %d meets key %d %d times", t->text, (int)i, (int)j, t->met[i][j]);
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
            const bool apart = document_of && b->name != BRUTE_BLOCKS;
            const int64_t start = apart ? m->documents[document_of[i]] : 0;
            const int64_t keys = apart ? m->documents[document_of[i] + 1] - start : m->keys;
            const int64_t p = apart || b->name == BRUTE_BLOCKS ? i - start : i + m->keys - m->queries;
            t->wanted[i][j] = brute_sees(m, document_of, i, j) && brute_in_pattern(b, p, j - start, keys);
        }
    free(document_of);
}

static const strategy *find_fetch(void)
{
    int rows, columns;
    const strategy *found = strategy_find("fetch", &rows, &columns);
    assert_non_null(found);
    return found;
}

/* A pattern under a mask on some ranks; false if the two do not go together. */
static bool make_trial(trial *t, brute_name name, uint64_t *state)
{
    static int64_t offsets[513], columns[MOST_COLUMNS];
    const int64_t n = random_between(state, 1, LARGEST), grain = random_between(state, 1, 5);
    const int64_t keys = random_next(state) % 4 == 0 && name != BRUTE_BIGBIRD && name != BRUTE_RANDOM ? random_between(state, 1, LARGEST) : n;
    const int ranks = (int)random_between(state, 1, MOST_RANKS);
    t->problem = problem_of(LAYOUT_CONTIGUOUS, n, keys, grain, ranks, random_next(state) % 2);
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
    brute_pattern_draw(&b, name, n, keys, random_next(state), offsets, columns);
    brute_pattern_text(&b, text, sizeof text);
    assert_true(pattern_choice_parse(text, &choice, why));
    const int64_t size = b.numbers[0] > 0 ? b.numbers[0] : 1, rows = (n + size - 1) / size;
    const pattern_blocks blocks = {rows, (keys + size - 1) / size, offsets[rows], offsets, columns};
    if (pattern_make(&choice, m, name == BRUTE_BLOCKS ? &blocks : NULL, &t->pattern, why) != 0) return false;
    t->problem.pattern = t->pattern;
    problem_describe(&t->problem, "fetch", where, sizeof where);
    snprintf(t->text, sizeof t->text, "%s, %s", text, where);
    set_wanted(t, &b);
    return true;
}

static void every_pair_is_folded_once_and_exactly_what_is_needed_is_received(void **unused)
{
    (void)unused;
    static trial t;
    uint64_t state = SEED;
    int checked = 0;
    t.fetch = find_fetch();
    for (int round = 0; round < ROUNDS * BRUTE_PATTERNS; round++) {
        if (!make_trial(&t, (brute_name)(round % BRUTE_PATTERNS), &state)) continue;
        check_trial(&t);
        pattern_destroy(t.pattern);
        checked++;
    }
    assert_true(checked > ROUNDS * BRUTE_PATTERNS * 3 / 4);
}

static schedule_problem large_problem(int64_t tokens, int ranks, const char *text, pattern **pattern_p)
{
    pattern_choice choice;
    char why[PATTERN_WHY_SIZE];
    schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, tokens, tokens, 64, ranks, true);
    if (!pattern_choice_parse(text, &choice, why)) fail_msg("%s", why);
    if (pattern_make(&choice, &p.mask, NULL, pattern_p, why) != 0) fail_msg("%s", why);
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
            pattern *pattern;
            int messages;
            const int ranks = (int)(tokens / 1024);
            const schedule_problem p = large_problem(tokens, ranks, cases[i].text, &pattern);
            schedule *s;
            assert_int_equal(find_fetch()->plan(&p, ranks - 3, &s), 0);
            if (rows_received(s, &messages) != cases[i].rows || messages != cases[i].messages)
                fail_msg("%s: %d rows in %d messages", cases[i].text, (int)rows_received(s, &messages), messages);
            schedule_destroy(s);
            pattern_destroy(pattern);
        }
}

/* No time is asserted: what grows with P squared would not end. */
static void plans_for_4096_ranks_are_made(void **unused)
{
    (void)unused;
    static const char *const texts[] = {"sinks:4,4095",
                                        "global:256,256,0-3",
                                        "dilated:16,256",
                                        "bigbird:64,3",
                                        "random:512,10",
                                        "strided:1024",
                                        "fixed:1024,8",
                                        "vertical-slash:0-7,5000,9000/0-1023,4096"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        pattern *pattern;
        const schedule_problem p = large_problem(1 << 20, 4096, texts[i], &pattern);
        for (int rank = 0; rank < 4096; rank += 2047) {
            schedule *s;
            const clock_t begin = clock();
            assert_int_equal(find_fetch()->plan(&p, rank, &s), 0);
            printf("%-44s rank %4d: %.3f s\n", texts[i], rank, (double)(clock() - begin) / CLOCKS_PER_SEC);
            schedule_destroy(s);
        }
        pattern_destroy(pattern);
    }
}

static void what_fetch_cannot_do_is_refused(void **unused)
{
    (void)unused;
    pattern *pattern;
    schedule_problem p = large_problem(64, 4, "sinks:1,2", &pattern);
    for (int i = 0; i < strategy_count; i++) {
        const bool is_fetch = strcmp(strategies[i]->name, "fetch") == 0;
        const char *why = strategies[i]->refuse(&p);
        if (is_fetch) assert_null(why);
        else assert_true(why && (strstr(why, "pattern") || strstr(why, "node")));
    }
    p.query_layout.kind = p.key_layout.kind = LAYOUT_ZIGZAG;
    assert_non_null(strstr(find_fetch()->refuse(&p), "contiguous"));
    p = problem_of(LAYOUT_CONTIGUOUS, 64, 64, 1, 4, true);
    assert_non_null(strstr(find_fetch()->refuse(&p), "gather"));
    pattern_destroy(pattern);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_is_folded_once_and_exactly_what_is_needed_is_received),
        cmocka_unit_test(rows_received_are_the_halo_and_the_sinks),
        cmocka_unit_test(plans_for_4096_ranks_are_made),
        cmocka_unit_test(what_fetch_cannot_do_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
