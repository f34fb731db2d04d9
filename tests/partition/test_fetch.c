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

enum {
    LARGEST = 61,
    MOST_ROWS = 2 * LARGEST,
    MOST_RANKS = 9,
    MOST_SLOTS = 2 * BRUTE_HEADS + 3,
    ROUNDS = 200,
    SEED = 13
};

/* What the slots of a rank hold: tokens of keys or queries, -1 where nothing came; and in which step a row was last
 * read or written. */
typedef struct {
    int64_t token[MOST_SLOTS][MOST_ROWS], read[MOST_SLOTS][MOST_ROWS], written[MOST_SLOTS][MOST_ROWS];
} rank_slots;

/* How often the state of a query, in a slot, has met each key. */
typedef struct {
    int met[MOST_ROWS][BRUTE_HEADS][LARGEST];
} paper_states;

/* A problem with its pairs, a schedule a rank, and what each rank's slots hold. */
typedef struct {
    schedule_problem problem;
    const strategy *how;
    pattern_sum *pattern;
    document_set documents;
    char text[1024];
    int wanted[BRUTE_HEADS][LARGEST][LARGEST], met[BRUTE_HEADS][LARGEST][LARGEST];
    bool came[MOST_RANKS][BRUTE_HEADS][LARGEST], used[MOST_RANKS][BRUTE_HEADS][LARGEST];
    bool visits;      /* some query travels */
    int64_t received; /* rows of one head, of all kinds */
    schedule *schedules[MOST_RANKS];
    rank_slots slots[MOST_RANKS];
    paper_states states[MOST_RANKS][MOST_SLOTS - 2 * BRUTE_HEADS];
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

/* Slots of states are among the last of a rank. */
static paper_states *states_of(trial *t, int rank, int slot)
{
    const int at = slot - t->schedules[rank]->slot_count + MOST_SLOTS - 2 * BRUTE_HEADS;
    assert_true(at >= 0 && t->schedules[rank]->slots[slot].kind == ROWS_STATES);
    return &t->states[rank][at];
}

static int64_t token_of_transfer(const trial *t, const schedule_transfer *x, int64_t row)
{
    return token_of(x->kind == ROWS_KEYS ? &t->keys : &t->queries, x->origin, row);
}

static void receive_key(trial *t, int rank, const schedule_transfer *r, int64_t token)
{
    for (int g = r->heads.begin; g < r->heads.end; g++) {
        if (t->came[rank][g][token]) fail_msg("%s: rank %d receives key %d again", t->text, rank, (int)token);
        t->came[rank][g][token] = true;
    }
}

/* A state that travels: what its slot at the sender holds, which this step does not touch. */
static void receive_state(trial *t, int rank, int64_t step, const schedule_transfer *r, const schedule_transfer *sent,
                          int64_t i)
{
    const int64_t from = sent->slot_row + i;
    assert_true(sent->slot >= 0 &&
                t->slots[r->peer].token[sent->slot][from] == token_of_transfer(t, r, r->rows.begin + i));
    if (t->slots[r->peer].written[sent->slot][from] == step) fail_msg("%s: a state is sent and folded", t->text);
    memcpy(states_of(t, rank, r->slot)->met[r->slot_row + i], states_of(t, r->peer, sent->slot)->met[from],
           sizeof t->states[0][0].met[0]);
}

/* What a step receives lies in the slots from then on; nothing that it reads is overwritten. */
static void receive(trial *t, int rank, int64_t step, const schedule_transfer *r, const schedule_transfer *sent)
{
    const schedule *s = t->schedules[rank];
    assert_true(r->slot >= 0 && r->slot < s->slot_count);
    const schedule_slot *slot = &s->slots[r->slot];
    assert_true(slot->kind == r->kind && slot->heads.begin == r->heads.begin && slot->heads.end == r->heads.end);
    for (int64_t row = r->rows.begin; row < r->rows.end; row++) {
        const int64_t token = token_of_transfer(t, r, row), at = r->slot_row + row - r->rows.begin;
        assert_true(token >= 0 && at >= 0 && at < slot->rows && at < MOST_ROWS);
        if (t->slots[rank].read[r->slot][at] == step) fail_msg("%s: a row is read and received", t->text);
        if (t->slots[rank].written[r->slot][at] == step) fail_msg("%s: a row is received twice", t->text);
        t->slots[rank].token[r->slot][at] = token;
        t->slots[rank].written[r->slot][at] = step;
        t->received += heads_count(r->heads);
        t->visits = t->visits || r->kind != ROWS_KEYS;
        if (r->kind == ROWS_KEYS) receive_key(t, rank, r, token);
        if (r->kind == ROWS_STATES) receive_state(t, rank, step, r, sent, row - r->rows.begin);
    }
}

/* Keys that came are used, and without visits all come that are seen. Returns rows of one head that are needed. */
static int64_t check_received(const trial *t, int rank)
{
    const int group = t->problem.heads / t->problem.kv_heads;
    int64_t rows = 0;
    for (int g = 0; g < t->problem.kv_heads; g++)
        for (int64_t j = 0; j < t->keys.tokens; j++) {
            bool needed = false;
            for (int h = g * group; h < (g + 1) * group; h++)
                for (int64_t i = 0; i < t->queries.tokens; i++)
                    needed = needed || (t->queries.owner[i] == rank && t->wanted[h][i][j] > 0);
            needed = needed && t->keys.owner[j] != rank;
            rows += needed;
            if (t->came[rank][g][j] != (t->visits ? t->used[rank][g][j] : needed))
                fail_msg("%s: rank %d %s key %d, head %d", t->text, rank,
                         t->came[rank][g][j] ? "receives, but does not need," : "lacks", (int)j, g);
        }
    return rows;
}

/* The token in a slot where a fold takes a row. */
static int64_t read_row(trial *t, int rank, int64_t step, int slot, rows_kind kind, head_range needed, int64_t at)
{
    if (slot == SLOT_HOME) return token_of(kind == ROWS_KEYS ? &t->keys : &t->queries, rank, at);
    const schedule_slot *s = &t->schedules[rank]->slots[slot];
    assert_true(s->kind == kind && at >= 0 && at < s->rows);
    if (needed.begin < s->heads.begin || needed.end > s->heads.end)
        fail_msg("%s: rank %d folds heads that its slot has not", t->text, rank);
    t->slots[rank].read[slot][at] = step;
    return t->slots[rank].token[slot][at];
}

/* What the state that a fold of query row `index` goes into has met. */
static int *met_of(trial *t, int rank, int64_t step, const schedule_fold *f, int64_t index, int head, int64_t query)
{
    if (f->state_slot == SLOT_HOME) return t->met[head][query];
    const int64_t at = f->state_slot_row + index;
    assert_true(at < t->schedules[rank]->slots[f->state_slot].rows);
    t->slots[rank].written[f->state_slot][at] = step;
    t->slots[rank].token[f->state_slot][at] = query;
    return states_of(t, rank, f->state_slot)->met[at][head];
}

static void check_fold(trial *t, int rank, int64_t step, const schedule_fold *f)
{
    const slice s = schedule_fold_slice(&t->problem, f);
    const head_range key_heads = heads_of_keys(&t->problem, f->heads);
    bool all = true;
    assert_true(f->sliced && f->holder == rank && (f->query_slot == SLOT_HOME) == (f->query_origin == rank));
    assert_true((f->state_slot == SLOT_HOME) == (f->query_slot == SLOT_HOME));
    assert_true(f->query_slot != SLOT_HOME || f->query_slot_row == f->query_rows.begin);
    assert_true((f->key_slot == SLOT_HOME) == (f->key_origin == rank));
    assert_true(f->heads.begin >= 0 && f->heads.begin < f->heads.end && f->heads.end <= t->problem.heads);
    for (int64_t q = f->query_rows.begin; q < f->query_rows.end; q += f->query_stride) {
        const int64_t i = token_of(&t->queries, f->query_origin, q), index = q - f->query_rows.begin;
        if (read_row(t, rank, step, f->query_slot, ROWS_QUERIES, f->heads, f->query_slot_row + index) != i)
            fail_msg("%s: rank %d folds another query than %d", t->text, rank, (int)i);
        int64_t at = f->key_slot_row;
        for (int64_t k = f->key_rows.begin; k < f->key_rows.end; k += f->key_stride, at += f->key_slot_stride) {
            const int64_t j = token_of(&t->keys, f->key_origin, k);
            const int64_t there = read_row(t, rank, step, f->key_slot, ROWS_KEYS, key_heads, at);
            if (there != j) fail_msg("%s: rank %d takes key %d where %d lies", t->text, rank, (int)j, (int)there);
            const bool sees = j - i >= s.low && j - i < s.high;
            all = all && sees;
            for (int h = f->heads.begin; h < f->heads.end && sees; h++) {
                met_of(t, rank, step, f, index, h, i)[j]++;
                if (f->key_slot != SLOT_HOME) t->used[rank][h * t->problem.kv_heads / t->problem.heads][j] = true;
            }
        }
    }
    if (all == f->look_inside) fail_msg("%s: rank %d: look_inside is %d", t->text, rank, f->look_inside);
}

static void clear(trial *t, int rank, int64_t step, const schedule_clear *c)
{
    paper_states *states = states_of(t, rank, c->slot);
    for (int64_t row = c->slot_rows.begin; row < c->slot_rows.end; row++) {
        memset(states->met[row], 0, sizeof states->met[row]);
        t->slots[rank].written[c->slot][row] = step;
    }
}

static void merge(trial *t, int rank, int64_t step, const schedule_merge *m)
{
    const paper_states *states = states_of(t, rank, m->from_slot);
    assert_true(m->to_slot == SLOT_HOME && m->heads.begin == 0 && m->heads.end == t->problem.heads);
    for (int64_t row = 0; row < m->count; row++) {
        const int64_t from = m->from_row + row, query = token_of(&t->queries, rank, m->to_row + row);
        if (t->slots[rank].token[m->from_slot][from] != query) fail_msg("%s: merges another query", t->text);
        t->slots[rank].read[m->from_slot][from] = step;
        for (int h = 0; h < t->problem.heads; h++)
            for (int64_t j = 0; j < t->keys.tokens; j++) t->met[h][query][j] += states->met[from][h][j];
    }
}

static bool same_heads(const schedule_fold *a, const schedule_fold *b)
{
    return a->heads.begin == b->heads.begin && a->heads.end == b->heads.end;
}

static bool same_queries(const schedule_fold *a, const schedule_fold *b)
{
    return a->query_origin == b->query_origin && a->query_rows.begin == b->query_rows.begin &&
           a->query_rows.end == b->query_rows.end && a->query_stride == b->query_stride;
}

/* Folds of the same heads and turn have the same queries, stand together and see alike, or have none in common. */
static void check_turns(const trial *t, const schedule_step *step)
{
    int used[MOST_RANKS][LARGEST] = {{0}}, run = 0, first_of_turn = 1;
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
            int *before_q = &used[f->query_origin][q];
            if (*before_q >= first_of_turn && *before_q != run) fail_msg("%s: a query is twice in a turn", t->text);
            *before_q = run;
        }
    }
}

/* All rows of a kind that go from a rank to another for some heads are one message. */
static void check_joined(const trial *t, const schedule_step *step)
{
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const schedule_transfer *x = &step->transfers[i];
        bool known = false, follows = false;
        for (int64_t j = 0; j < i; j++) {
            const schedule_transfer *y = &step->transfers[j];
            follows = y->direction == x->direction && y->peer == x->peer && y->heads.begin == x->heads.begin &&
                      y->kind == x->kind;
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

/* What a rank sends to another in a step is what that receives. */
static void exchange(trial *t, int from, int to, int64_t step)
{
    int64_t i = 0, j = 0;
    for (;;) {
        const schedule_transfer *sent = next_of_peer(step_of(t->schedules[from], step), TRANSFER_SEND, to, &i);
        const schedule_transfer *received = next_of_peer(step_of(t->schedules[to], step), TRANSFER_RECEIVE, from, &j);
        if (!sent && !received) return;
        if (!sent || !received || sent->rows.begin != received->rows.begin || sent->rows.end != received->rows.end ||
            sent->heads.begin != received->heads.begin || sent->heads.end != received->heads.end ||
            sent->joined != received->joined || sent->kind != received->kind || sent->origin != received->origin)
            fail_msg("%s: ranks %d and %d do not agree on what is sent", t->text, from, to);
        const bool home = sent->slot == SLOT_HOME && sent->slot_row == sent->rows.begin && sent->origin == from;
        assert_true(home == (sent->kind != ROWS_STATES));
        receive(t, to, step, received, sent);
    }
}

static void run_step(trial *t, int ranks, int64_t step)
{
    for (int rank = 0; rank < ranks; rank++) {
        const schedule_step *at = step_of(t->schedules[rank], step);
        check_joined(t, at);
        check_turns(t, at);
        for (int64_t i = 0; i < at->clear_count; i++) clear(t, rank, step, &at->clears[i]);
        for (int64_t i = 0; i < at->fold_count; i++) check_fold(t, rank, step, &at->folds[i]);
        for (int64_t i = 0; i < at->merge_count; i++) merge(t, rank, step, &at->merges[i]);
    }
    for (int from = 0; from < ranks; from++)
        for (int to = 0; to < ranks; to++)
            if (from != to) exchange(t, from, to, step);
}

static void check_slots(const trial *t, int rank)
{
    const schedule *s = t->schedules[rank];
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
    memset(t->came, 0, sizeof t->came);
    memset(t->used, 0, sizeof t->used);
    memset(t->slots, -1, sizeof t->slots);
    t->visits = false;
    t->received = 0;
    int64_t needed = 0;
    for (int64_t step = 0; step < ranks + 4; step++) run_step(t, ranks, step);
    for (int rank = 0; rank < ranks; rank++) {
        assert_true(t->schedules[rank]->slot_count <= MOST_SLOTS && t->schedules[rank]->step_count <= ranks + 4);
        check_slots(t, rank);
        needed += check_received(t, rank);
    }
    if (t->received > needed || (!t->visits && t->received != needed))
        fail_msg("%s: %d rows are received, where %d are needed", t->text, (int)t->received, (int)needed);
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
    const int64_t keys = random_next(state) % 4 == 0 && name != BRUTE_BIGBIRD && name != BRUTE_RANDOM ? random_between(state, 1, LARGEST) : n;
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
    const pattern_blocks blocks = {lists,   rows,   (keys + size - 1) / size, offsets[lists * (rows + 1) - 1],
                                   offsets, columns};
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
    int checked = 0, visits = 0;
    for (int round = 0; round < ROUNDS * BRUTE_PATTERNS; round++) {
        if (!make_trial(&t, (brute_name)(round % BRUTE_PATTERNS), &state)) continue;
        static const char *const names[] = {"fetch", "fetch-ring"};
        for (int i = 0; i < 2; i++) {
            t.how = find_strategy(names[i]);
            check_trial(&t);
            visits += t.visits;
        }
        pattern_sum_destroy(t.pattern);
        checked++;
    }
    assert_true(checked > ROUNDS * BRUTE_PATTERNS * 3 / 4 && visits > ROUNDS / 4);
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

/* Four global queries in the shard of one rank go to the others, and their states come back. */
static void queries_that_see_everything_go_to_the_keys(void **unused)
{
    (void)unused;
    const int ranks = 16;
    pattern_sum *pattern;
    schedule_problem p = large_problem(16384, ranks, "global:100,100,5000-5003", &pattern);
    p.mask.causal = false;
    for (int rank = 0; rank < ranks; rank++) {
        int64_t rows[ROWS_KINDS] = {0};
        schedule *s;
        assert_int_equal(find_strategy("fetch")->plan(&p, rank, &s), 0);
        for (int64_t step = 0; step < s->step_count; step++)
            for (int64_t i = 0; i < s->steps[step].transfer_count; i++)
                if (s->steps[step].transfers[i].direction == TRANSFER_RECEIVE)
                    rows[s->steps[step].transfers[i].kind] += range_length(s->steps[step].transfers[i].rows);
        const bool owner = rank == 4, end = rank == 0 || rank == ranks - 1;
        assert_int_equal(rows[ROWS_KEYS], (end ? 100 : 200) + (owner ? 0 : 4));
        assert_int_equal(rows[ROWS_QUERIES], owner ? 0 : 4);
        assert_int_equal(rows[ROWS_STATES], owner ? 4 * (ranks - 1) : 0);
        schedule_destroy(s);
    }
    pattern_sum_destroy(pattern);
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
                                        "random:512,10",
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
        cmocka_unit_test(queries_that_see_everything_go_to_the_keys),
        cmocka_unit_test(a_ring_holds_what_is_needed_of_two_ranks),
        cmocka_unit_test(plans_for_4096_ranks_are_made),
        cmocka_unit_test(what_fetch_cannot_do_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
