#include "tests/partition/schedule_checker.h"

#include "tests/partition/brute.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { STORES = SCHEDULE_MAX_SLOTS + 1, NO_TOKEN = -1 };

/* The memory of one rank: the home shard, then the slots. */
typedef struct {
    int64_t rows[STORES];
    int64_t *token[STORES];   /* what a row holds */
    bool *read[STORES];       /* in this step */
    int64_t *arrives[STORES]; /* in this step; NO_TOKEN for nothing */
    int64_t used[STORES];
    bool *had; /* [M] the rank owns the key or has received it */
} memory;

typedef struct {
    const schedule_problem *problem;
    schedule *const *schedules;
    bool forwards;
    int ranks;
    token_map queries, keys;
    int64_t *document_of;
    unsigned char *folded; /* [N, M] times a pair was folded */
    memory *memories;
    char *fault;
    size_t size;
} checker;

static bool complain(const checker *c, int rank, int64_t step, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool complain(const checker *c, int rank, int64_t step, const char *format, ...)
{
    const int used = snprintf(c->fault, c->size, "rank %d, step %" PRId64 ": ", rank, step);
    va_list arguments;
    va_start(arguments, format);
    if (used >= 0 && (size_t)used < c->size) vsnprintf(c->fault + used, c->size - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

static bool sees(const checker *c, int64_t i, int64_t j)
{
    return brute_sees(&c->problem->mask, c->document_of, i, j);
}

static bool rank_sees_any(const checker *c, int rank, range keys)
{
    for (int64_t i = 0; i < c->queries.tokens; i++) {
        if (c->queries.owner[i] != rank) continue;
        for (int64_t j = keys.begin; j < keys.end; j++)
            if (sees(c, i, j)) return true;
    }
    return false;
}

/* Is a claim about rows one that can be true at all? */
static bool claim_is_sane(const checker *c, int rank, int64_t step, const char *what, range keys, int slot, int64_t row)
{
    if (keys.begin < 0 || keys.begin >= keys.end || keys.end > c->keys.tokens)
        return complain(c, rank, step, "%s of keys [%" PRId64 ",%" PRId64 ")", what, keys.begin, keys.end);
    if (slot < SLOT_HOME || slot >= SCHEDULE_MAX_SLOTS) return complain(c, rank, step, "%s in slot %d", what, slot);
    const int64_t rows = c->memories[rank].rows[slot + 1];
    if (row < 0 || row + (keys.end - keys.begin) > rows)
        return complain(c, rank, step, "%s in rows from %" PRId64 " of slot %d, which has %" PRId64, what, row, slot,
                        rows);
    return true;
}

static bool check_read(const checker *c, int rank, int64_t step, const char *what, range keys, int slot, int64_t row)
{
    if (!claim_is_sane(c, rank, step, what, keys, slot, row)) return false;
    memory *m = &c->memories[rank];
    for (int64_t j = keys.begin; j < keys.end; j++) {
        const int64_t at = row + j - keys.begin;
        if (m->token[slot + 1][at] != j)
            return complain(c, rank, step, "%s takes row %" PRId64 " of slot %d for key %" PRId64 ", it holds %" PRId64,
                            what, at, slot, j, m->token[slot + 1][at]);
        m->read[slot + 1][at] = true;
    }
    return true;
}

static bool check_fold(const checker *c, int rank, int64_t step, const schedule_fold *f)
{
    if (!check_read(c, rank, step, "a fold", f->keys, f->slot, f->row)) return false;
    if (f->queries.begin < 0 || f->queries.begin >= f->queries.end || f->queries.end > c->queries.tokens)
        return complain(c, rank, step, "a fold of queries [%" PRId64 ",%" PRId64 ")", f->queries.begin, f->queries.end);
    bool some = false, all = true;
    for (int64_t i = f->queries.begin; i < f->queries.end; i++) {
        if (c->queries.owner[i] != rank) return complain(c, rank, step, "folds query %" PRId64 " of another rank", i);
        if (c->queries.chunk[i] != c->queries.chunk[f->queries.begin])
            return complain(c, rank, step, "a fold spans two chunks at query %" PRId64, i);
        for (int64_t j = f->keys.begin; j < f->keys.end; j++) {
            if (!sees(c, i, j)) {
                all = false;
                continue;
            }
            some = true;
            if (++c->folded[i * c->keys.tokens + j] > 1)
                return complain(c, rank, step, "query %" PRId64 " meets key %" PRId64 " again", i, j);
        }
    }
    if (!some) return complain(c, rank, step, "a fold from query %" PRId64 " sees nothing", f->queries.begin);
    if (all == f->look_inside)
        return complain(c, rank, step,
                        "queries from %" PRId64 " see %s of the keys from %" PRId64 ", look_inside is %d",
                        f->queries.begin, all ? "all" : "not all", f->keys.begin, (int)f->look_inside);
    return true;
}

static bool check_receive(const checker *c, int rank, int64_t step, const schedule_transfer *t)
{
    if (!claim_is_sane(c, rank, step, "a receive", t->keys, t->slot, t->row)) return false;
    if (t->slot == SLOT_HOME) return complain(c, rank, step, "a receive into the home shard");
    memory *m = &c->memories[rank];
    for (int64_t j = t->keys.begin; j < t->keys.end; j++) {
        const int64_t at = t->row + j - t->keys.begin;
        if (m->arrives[t->slot + 1][at] != NO_TOKEN)
            return complain(c, rank, step, "row %" PRId64 " of slot %d is written twice", at, t->slot);
        if (m->had[j]) return complain(c, rank, step, "receives key %" PRId64 " again", j);
        m->had[j] = true;
        m->arrives[t->slot + 1][at] = j;
    }
    if (m->used[t->slot + 1] < t->row + (t->keys.end - t->keys.begin))
        m->used[t->slot + 1] = t->row + (t->keys.end - t->keys.begin);
    if (rank_sees_any(c, rank, t->keys)) return true;
    for (int64_t later = step + 1; c->forwards && later < c->schedules[rank]->step_count; later++) {
        const schedule_step *at = &c->schedules[rank]->steps[later];
        for (int64_t i = 0; i < at->transfer_count; i++) {
            const schedule_transfer *o = &at->transfers[i];
            if (o->direction == TRANSFER_SEND && o->keys.begin == t->keys.begin && o->keys.end == t->keys.end)
                return true;
        }
    }
    return complain(c, rank, step, "nobody needs the keys [%" PRId64 ",%" PRId64 ") it receives", t->keys.begin,
                    t->keys.end);
}

static bool folds_stand_together(const checker *c, int rank, int64_t step)
{
    const schedule_step *at = &c->schedules[rank]->steps[step];
    for (int64_t i = 2; i < at->fold_count; i++) {
        if (at->folds[i].queries.begin == at->folds[i - 1].queries.begin) continue;
        for (int64_t before = 0; before < i - 1; before++)
            if (at->folds[before].queries.begin == at->folds[i].queries.begin)
                return complain(c, rank, step, "folds of query %" PRId64 " are scattered", at->folds[i].queries.begin);
    }
    return true;
}

/* The next transfer of `rank` in a step, from *at on, that has this direction and peer. */
static const schedule_transfer *next_transfer(const checker *c, int rank, int64_t step, transfer_direction direction,
                                              int peer, int64_t *at)
{
    if (step >= c->schedules[rank]->step_count) return NULL;
    const schedule_step *s = &c->schedules[rank]->steps[step];
    while (*at < s->transfer_count) {
        const schedule_transfer *t = &s->transfers[(*at)++];
        if (t->direction == direction && t->peer == peer) return t;
    }
    return NULL;
}

static bool check_twins(const checker *c, int from, int to, int64_t step)
{
    int64_t sent = 0, received = 0;
    for (;;) {
        const schedule_transfer *s = next_transfer(c, from, step, TRANSFER_SEND, to, &sent);
        const schedule_transfer *r = next_transfer(c, to, step, TRANSFER_RECEIVE, from, &received);
        if (!s && !r) return true;
        if (!s) return complain(c, to, step, "waits for a message that rank %d does not send", from);
        if (!r) return complain(c, from, step, "sends a message that rank %d does not expect", to);
        if (s->keys.begin != r->keys.begin || s->keys.end != r->keys.end)
            return complain(c, from, step, "sends the keys from %" PRId64 " where rank %d expects those from %" PRId64,
                            s->keys.begin, to, r->keys.begin);
    }
}

static bool check_rank_step(const checker *c, int rank, int64_t step)
{
    const schedule_step *at = &c->schedules[rank]->steps[step];
    for (int64_t i = 0; i < at->fold_count; i++)
        if (!check_fold(c, rank, step, &at->folds[i])) return false;
    if (!folds_stand_together(c, rank, step)) return false;
    for (int64_t i = 0; i < at->transfer_count; i++) {
        const schedule_transfer *t = &at->transfers[i];
        if (t->peer < 0 || t->peer >= c->ranks || t->peer == rank)
            return complain(c, rank, step, "a transfer with rank %d", t->peer);
        const bool right = t->direction == TRANSFER_SEND ? check_read(c, rank, step, "a send", t->keys, t->slot, t->row)
                                                         : check_receive(c, rank, step, t);
        if (!right) return false;
    }
    return true;
}

/* The step ends: what was received is there. */
static bool settle(const checker *c, int rank, int64_t step)
{
    memory *m = &c->memories[rank];
    for (int store = 0; store < STORES; store++) {
        for (int64_t row = 0; row < m->rows[store]; row++) {
            if (m->arrives[store][row] != NO_TOKEN) {
                if (m->read[store][row])
                    return complain(c, rank, step, "row %" PRId64 " of slot %d is read and written", row, store - 1);
                m->token[store][row] = m->arrives[store][row];
            }
            m->arrives[store][row] = NO_TOKEN;
            m->read[store][row] = false;
        }
    }
    return true;
}

static bool check_end(const checker *c)
{
    for (int rank = 0; rank < c->ranks; rank++) {
        const schedule *s = c->schedules[rank];
        for (int slot = 0; slot < SCHEDULE_MAX_SLOTS; slot++)
            if (s->slot_tokens[slot] != c->memories[rank].used[slot + 1])
                return complain(c, rank, s->step_count, "slot %d has %" PRId64 " rows and uses %" PRId64, slot,
                                s->slot_tokens[slot], c->memories[rank].used[slot + 1]);
    }
    for (int64_t i = 0; i < c->queries.tokens; i++)
        for (int64_t j = 0; j < c->keys.tokens; j++)
            if (sees(c, i, j) && c->folded[i * c->keys.tokens + j] != 1)
                return complain(c, c->queries.owner[i], 0, "query %" PRId64 " never meets key %" PRId64, i, j);
    return true;
}

static bool check_all(const checker *c)
{
    int64_t steps = 0;
    for (int rank = 0; rank < c->ranks; rank++) {
        if (c->schedules[rank]->rank != rank) return complain(c, rank, 0, "a schedule of another rank");
        if (c->schedules[rank]->step_count > steps) steps = c->schedules[rank]->step_count;
    }
    for (int64_t step = 0; step < steps; step++) {
        for (int rank = 0; rank < c->ranks; rank++)
            if (step < c->schedules[rank]->step_count && !check_rank_step(c, rank, step)) return false;
        for (int rank = 0; rank < c->ranks; rank++)
            if (!settle(c, rank, step)) return false;
        for (int from = 0; from < c->ranks; from++)
            for (int to = 0; to < c->ranks; to++)
                if (!check_twins(c, from, to, step)) return false;
    }
    return check_end(c);
}

static void memory_make(checker *c, int rank)
{
    memory *m = &c->memories[rank];
    m->rows[0] = c->keys.held[rank];
    for (int slot = 0; slot < SCHEDULE_MAX_SLOTS; slot++) m->rows[slot + 1] = c->schedules[rank]->slot_tokens[slot];
    for (int store = 0; store < STORES; store++) {
        const size_t rows = (size_t)m->rows[store];
        m->token[store] = test_allocate(rows, sizeof *m->token[store]);
        m->arrives[store] = test_allocate(rows, sizeof *m->arrives[store]);
        m->read[store] = test_allocate(rows, sizeof *m->read[store]);
        for (size_t row = 0; row < rows; row++) m->token[store][row] = m->arrives[store][row] = NO_TOKEN;
    }
    m->had = test_allocate((size_t)c->keys.tokens, sizeof *m->had);
    for (int64_t j = 0; j < c->keys.tokens; j++) {
        if (c->keys.owner[j] != rank) continue;
        m->token[0][c->keys.row[j]] = j;
        m->had[j] = true;
    }
}

static void memory_free(memory *m)
{
    for (int store = 0; store < STORES; store++) {
        free(m->token[store]);
        free(m->arrives[store]);
        free(m->read[store]);
    }
    free(m->had);
}

bool schedules_are_right(const schedule_problem *problem, schedule *const *schedules, bool forwards, char *fault,
                         size_t size)
{
    checker c = {.problem = problem,
                 .schedules = schedules,
                 .forwards = forwards,
                 .ranks = problem->key_layout.ranks,
                 .fault = fault,
                 .size = size};
    token_map_make(&c.queries, &problem->query_layout);
    token_map_make(&c.keys, &problem->key_layout);
    c.document_of = documents_of_tokens(&problem->mask);
    c.folded = test_allocate((size_t)(c.queries.tokens * c.keys.tokens), 1);
    c.memories = test_allocate((size_t)c.ranks, sizeof *c.memories);
    for (int rank = 0; rank < c.ranks; rank++) memory_make(&c, rank);

    const bool right = check_all(&c);

    for (int rank = 0; rank < c.ranks; rank++) memory_free(&c.memories[rank]);
    free(c.memories);
    free(c.folded);
    free(c.document_of);
    token_map_free(&c.queries);
    token_map_free(&c.keys);
    return right;
}
