#include "tests/partition/schedule_checker.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const pair_table *pairs;
    const schedule_problem *problem;
    schedule *const *schedules;
    bool exact; /* no layout is striped */
    paper_rank *ranks;
    int64_t step;
    int64_t run, first_run; /* number of the run of folds; of the first one of this step */
    uint64_t *keys, *seen;  /* [words] of one fold */
    char *fault;
    size_t size;
} checker;

/* Rows of an origin that are said to be in a slot of a rank. */
typedef struct {
    const char *what;
    int rank;
    rows_kind kind;
    int origin;
    range rows;
    head_range heads;
    int slot;
    int64_t slot_row;
} claim;

static bool complain(const checker *c, int rank, const char *format, ...) __attribute__((format(printf, 3, 4)));

static bool complain(const checker *c, int rank, const char *format, ...)
{
    const int used = snprintf(c->fault, c->size, "rank %d, step %" PRId64 ": ", rank, c->step);
    va_list arguments;
    va_start(arguments, format);
    if (used >= 0 && (size_t)used < c->size) vsnprintf(c->fault + used, c->size - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

static bool heads_are_within(head_range heads, head_range all)
{
    return heads.begin < heads.end && heads.begin >= all.begin && heads.end <= all.end;
}

/* The slot of that kind with room for the rows and heads; NULL, with a complaint, if there is none. */
static paper_slot *find_slot(const checker *c, int rank, const char *what, rows_kind kind, int slot, range rows,
                             head_range heads)
{
    paper_rank *p = &c->ranks[rank];
    if (slot < SLOT_HOME || slot >= p->slot_count) {
        complain(c, rank, "%s in slot %d", what, slot);
        return NULL;
    }
    paper_slot *s = paper_rank_slot(p, kind, slot);
    if (s->kind != kind) complain(c, rank, "%s in slot %d, which is of another kind", what, slot);
    else if (!heads_are_within(heads, s->heads))
        complain(c, rank, "%s of heads [%d,%d) in slot %d, which has [%d,%d)", what, heads.begin, heads.end, slot,
                 s->heads.begin, s->heads.end);
    else if (rows.begin < 0 || rows.begin >= rows.end || rows.end > s->rows)
        complain(c, rank, "%s in rows [%" PRId64 ",%" PRId64 ") of slot %d, which has %" PRId64, what, rows.begin,
                 rows.end, slot, s->rows);
    else return s;
    return NULL;
}

/* The slot, if the claim can be true at all. */
static paper_slot *slot_of_claim(const checker *c, const claim *x)
{
    const pair_table *pairs = c->pairs;
    const token_map *map = pair_table_map(pairs, x->kind);
    if (x->origin < 0 || x->origin >= pairs->ranks || x->rows.begin < 0 || x->rows.begin >= x->rows.end ||
        x->rows.end > map->held[x->origin]) {
        complain(c, x->rank, "%s of rows [%" PRId64 ",%" PRId64 ") of rank %d", x->what, x->rows.begin, x->rows.end,
                 x->origin);
        return NULL;
    }
    const layout *l = x->kind == ROWS_KEYS ? &c->problem->key_layout : &c->problem->query_layout;
    const int64_t first = pair_table_token(pairs, x->kind, x->origin, x->rows.begin);
    const int64_t last = pair_table_token(pairs, x->kind, x->origin, x->rows.end - 1);
    if (l->kind != LAYOUT_STRIPED && map->chunk[first] != map->chunk[last]) {
        complain(c, x->rank, "%s spans two pieces, tokens %" PRId64 " and %" PRId64, x->what, first, last);
        return NULL;
    }
    const range slot_rows = {x->slot_row, x->slot_row + range_length(x->rows)};
    return find_slot(c, x->rank, x->what, x->kind, x->slot, slot_rows, x->heads);
}

static void use_rows(paper_slot *s, int64_t end)
{
    if (s->used < end) s->used = end;
}

/* The slot, if the claim is true; marks what it names. */
static paper_slot *check_contents(const checker *c, const claim *x, unsigned char mark)
{
    paper_slot *s = slot_of_claim(c, x);
    if (!s) return NULL;
    for (int64_t row = x->rows.begin; row < x->rows.end; row++) {
        const int64_t token = pair_table_token(c->pairs, x->kind, x->origin, row);
        for (int head = x->heads.begin; head < x->heads.end; head++) {
            const int64_t cell = paper_cell(s, x->slot_row + row - x->rows.begin, head);
            const bool empty = s->kind == ROWS_STATES && s->token[cell] == HOLDS_EMPTY_STATE;
            if (s->token[cell] != token && !empty) {
                complain(c, x->rank,
                         "%s takes row %" PRId64 " of slot %d for token %" PRId64 ", head %d; it holds %" PRId64,
                         x->what, x->slot_row + row - x->rows.begin, x->slot, token, head, s->token[cell]);
                return NULL;
            }
            s->marks[cell] |= mark;
        }
    }
    if (x->slot != SLOT_HOME) use_rows(s, x->slot_row + range_length(x->rows));
    return s;
}

static claim claim_of_transfer(int rank, const schedule_transfer *t)
{
    return (claim){t->direction == TRANSFER_SEND ? "a send" : "a receive",
                   rank,
                   t->kind,
                   t->origin,
                   t->rows,
                   t->heads,
                   t->slot,
                   t->slot_row};
}

/* Marks rows of a parcel as of use, where they are keys or queries. */
static void note_use(const checker *c, const claim *x, int64_t row)
{
    if (x->kind == ROWS_STATES) return;
    const int all = c->ranks[x->rank].home[x->kind].heads.end;
    const int64_t token = pair_table_token(c->pairs, x->kind, x->origin, row);
    for (int head = x->heads.begin; head < x->heads.end; head++)
        c->ranks[x->rank].useful[x->kind][token * all + head] = 1;
}

static bool check_send(const checker *c, int rank, const schedule_transfer *t)
{
    const claim x = claim_of_transfer(rank, t);
    const paper_slot *s = check_contents(c, &x, CELL_SENT);
    if (!s) return false;
    for (int64_t row = t->rows.begin; row < t->rows.end; row++) note_use(c, &x, row);
    if (t->kind != ROWS_STATES || !c->exact) return true;
    for (int head = t->heads.begin; head < t->heads.end; head++) {
        const int64_t first = paper_cell(s, t->slot_row, head);
        const int64_t last = paper_cell(s, t->slot_row + range_length(t->rows) - 1, head);
        if (keys_empty(s->seen + first * c->pairs->words, c->pairs->words) ||
            keys_empty(s->seen + last * c->pairs->words, c->pairs->words))
            return complain(c, rank, "sends an empty state of a query of rank %d, head %d", t->origin, head);
    }
    return true;
}

static bool check_receive(const checker *c, int rank, const schedule_transfer *t)
{
    const claim x = claim_of_transfer(rank, t);
    paper_slot *s = slot_of_claim(c, &x);
    if (!s) return false;
    if (t->slot == SLOT_HOME) return complain(c, rank, "receives into the home shard");
    use_rows(s, t->slot_row + range_length(t->rows));
    for (int64_t row = t->rows.begin; row < t->rows.end; row++) {
        const int64_t token = pair_table_token(c->pairs, t->kind, t->origin, row);
        for (int head = t->heads.begin; head < t->heads.end; head++) {
            const int64_t cell = paper_cell(s, t->slot_row + row - t->rows.begin, head);
            if (s->marks[cell] & CELL_RECEIVED)
                return complain(c, rank, "two receives into slot %d, row %" PRId64, t->slot, t->slot_row);
            s->marks[cell] |= CELL_RECEIVED;
            if (t->kind == ROWS_STATES) continue;
            unsigned char *had = &c->ranks[rank].had[t->kind][token * c->ranks[rank].home[t->kind].heads.end + head];
            if (*had) return complain(c, rank, "receives token %" PRId64 ", head %d, again", token, head);
            *had = 1;
        }
    }
    return true;
}

static bool check_transfers(const checker *c, int rank, const schedule_step *at)
{
    for (int64_t i = 0; i < at->transfer_count; i++) {
        const schedule_transfer *t = &at->transfers[i];
        if (t->peer < 0 || t->peer >= c->pairs->ranks || t->peer == rank)
            return complain(c, rank, "a transfer with rank %d", t->peer);
        if (t->direction == TRANSFER_SEND ? !check_send(c, rank, t) : !check_receive(c, rank, t)) return false;
    }
    return true;
}

static bool check_clear(const checker *c, int rank, const schedule_clear *x)
{
    if (x->slot == SLOT_HOME) return complain(c, rank, "clears the home states");
    const head_range none = {0, 0};
    const bool exists = x->slot > SLOT_HOME && x->slot < c->ranks[rank].slot_count;
    paper_slot *s = find_slot(c, rank, "a clear", ROWS_STATES, x->slot, x->slot_rows,
                              exists ? c->ranks[rank].slots[x->slot].heads : none);
    if (!s) return false;
    for (int64_t cell = paper_cell(s, x->slot_rows.begin, s->heads.begin);
         cell < paper_cell(s, x->slot_rows.end, s->heads.begin); cell++) {
        s->token[cell] = HOLDS_EMPTY_STATE;
        s->marks[cell] |= CELL_WRITTEN;
        memset(s->seen + cell * c->pairs->words, 0, (size_t)c->pairs->words * sizeof *s->seen);
    }
    return true;
}

static bool folds_are_of_one_run(const schedule_fold *a, const schedule_fold *b)
{
    return a->heads.begin == b->heads.begin && a->heads.end == b->heads.end && a->query_origin == b->query_origin &&
           a->query_rows.begin == b->query_rows.begin && a->query_rows.end == b->query_rows.end &&
           a->query_slot == b->query_slot && a->query_slot_row == b->query_slot_row && a->state_slot == b->state_slot &&
           a->state_slot_row == b->state_slot_row;
}

static bool check_holder(const checker *c, int rank, const schedule_fold *f)
{
    if (f->holder == rank) return true;
    if (f->holder < 0 || f->holder >= c->pairs->ranks)
        return complain(c, rank, "a fold of keys held by rank %d", f->holder);
    if (!c->schedules[rank]->shares_memory)
        return complain(c, rank, "reads keys of rank %d without sharing memory", f->holder);
    if (!c->problem->may_share || f->holder / c->problem->node_ranks != rank / c->problem->node_ranks)
        return complain(c, rank, "reads keys of rank %d, which shares no memory with it", f->holder);
    return true;
}

/* One query row of a fold, whose keys are in c->keys, into its states. */
static bool fold_query(const checker *c, int rank, const schedule_fold *f, paper_slot *states, int64_t index,
                       const uint64_t *sees)
{
    const int64_t token = pair_table_token(c->pairs, ROWS_QUERIES, f->query_origin, f->query_rows.begin + index);
    for (int head = f->heads.begin; head < f->heads.end; head++) {
        const int64_t cell = paper_cell(states, f->state_slot_row + index, head);
        uint64_t *seen = states->seen + cell * c->pairs->words;
        if (keys_meet(seen, sees, c->pairs->words))
            return complain(c, rank, "query %" PRId64 ", head %d, meets a key of rank %d again", token, head,
                            f->key_origin);
        if (states->run[cell] != c->run && states->run[cell] >= c->first_run)
            return complain(c, rank, "folds into the state of query %" PRId64 ", head %d, are scattered", token, head);
        states->run[cell] = c->run;
        states->token[cell] = token;
        keys_add(seen, sees, c->pairs->words);
    }
    return true;
}

static bool check_fold(const checker *c, int rank, const schedule_fold *f)
{
    const int words = c->pairs->words;
    const head_range key_heads = heads_of_keys(c->problem, f->heads);
    if (!check_holder(c, rank, f)) return false;
    const claim query = {"a fold of queries", rank,     ROWS_QUERIES,  f->query_origin,
                         f->query_rows,       f->heads, f->query_slot, f->query_slot_row};
    const claim state = {"a fold into states", rank,     ROWS_STATES,   f->query_origin,
                         f->query_rows,        f->heads, f->state_slot, f->state_slot_row};
    const claim key = {"a fold of keys", f->holder, ROWS_KEYS,   f->key_origin,
                       f->key_rows,      key_heads, f->key_slot, f->key_slot_row};
    paper_slot *states = check_contents(c, &state, CELL_WRITTEN);
    if (!states || !check_contents(c, &query, CELL_READ) || !check_contents(c, &key, CELL_READ)) return false;

    memset(c->keys, 0, (size_t)words * sizeof *c->keys);
    memset(c->seen, 0, (size_t)words * sizeof *c->seen);
    for (int64_t row = f->key_rows.begin; row < f->key_rows.end; row++) {
        const int64_t token = pair_table_token(c->pairs, ROWS_KEYS, f->key_origin, row);
        c->keys[token / 64] |= (uint64_t)1 << (token % 64);
    }
    bool all = true;
    for (int64_t i = 0; i < range_length(f->query_rows); i++) {
        const int64_t token = pair_table_token(c->pairs, ROWS_QUERIES, f->query_origin, f->query_rows.begin + i);
        uint64_t *sees = c->seen + words;
        for (int w = 0; w < words; w++) sees[w] = c->keys[w] & c->pairs->allowed[token * words + w];
        if (!keys_within(c->keys, sees, words)) all = false;
        if (!keys_empty(sees, words)) note_use(c, &query, f->query_rows.begin + i);
        keys_add(c->seen, sees, words);
        if (!fold_query(c, rank, f, states, i, sees)) return false;
    }
    for (int64_t row = f->key_rows.begin; row < f->key_rows.end; row++) {
        const int64_t token = pair_table_token(c->pairs, ROWS_KEYS, f->key_origin, row);
        if (c->seen[token / 64] >> (token % 64) & 1) note_use(c, &key, row);
    }
    if (c->exact && keys_empty(c->seen, words))
        return complain(c, rank, "a fold of queries of rank %d and keys of rank %d sees nothing", f->query_origin,
                        f->key_origin);
    if (all ? c->exact && f->look_inside : !f->look_inside)
        return complain(c, rank, "queries of rank %d see %s of the keys of rank %d, look_inside is %d", f->query_origin,
                        all ? "all" : "not all", f->key_origin, (int)f->look_inside);
    return true;
}

static bool merge_cell(const checker *c, int rank, paper_slot *from, int64_t from_cell, paper_slot *to, int64_t to_cell)
{
    const int words = c->pairs->words;
    const int64_t token = from->token[from_cell], into = to->token[to_cell];
    uint64_t *a = from->seen + from_cell * words, *b = to->seen + to_cell * words;
    if (token == HOLDS_NOTHING || into == HOLDS_NOTHING) return complain(c, rank, "merges a state that is not there");
    if (token >= 0 && into >= 0 && token != into)
        return complain(c, rank, "merges the state of query %" PRId64 " into that of %" PRId64, token, into);
    if (keys_meet(a, b, words)) return complain(c, rank, "query %" PRId64 " meets a key again in a merge", token);
    if (from->marks[from_cell] & CELL_MERGED || to->marks[to_cell] & (CELL_MERGED | CELL_TAKEN))
        return complain(c, rank, "two merges of the state of query %" PRId64 " in one step", token);
    from->marks[from_cell] |= CELL_TAKEN;
    to->marks[to_cell] |= CELL_WRITTEN | CELL_MERGED;
    if (into == HOLDS_EMPTY_STATE) to->token[to_cell] = token;
    keys_add(b, a, words);
    return true;
}

static bool check_merge(const checker *c, int rank, const schedule_merge *x)
{
    const range from_rows = {x->from_row, x->from_row + x->count}, to_rows = {x->to_row, x->to_row + x->count};
    if (x->from_slot == SLOT_HOME || x->from_slot == x->to_slot)
        return complain(c, rank, "merges slot %d into slot %d", x->from_slot, x->to_slot);
    paper_slot *from = find_slot(c, rank, "a merge from", ROWS_STATES, x->from_slot, from_rows, x->heads);
    paper_slot *to = from ? find_slot(c, rank, "a merge to", ROWS_STATES, x->to_slot, to_rows, x->heads) : NULL;
    if (!to) return false;
    use_rows(from, from_rows.end);
    if (x->to_slot != SLOT_HOME) use_rows(to, to_rows.end);
    for (int64_t i = 0; i < x->count; i++)
        for (int head = x->heads.begin; head < x->heads.end; head++)
            if (!merge_cell(c, rank, from, paper_cell(from, x->from_row + i, head), to,
                            paper_cell(to, x->to_row + i, head)))
                return false;
    return true;
}

static bool check_work(checker *c, int rank, const schedule_step *at)
{
    for (int64_t i = 0; i < at->clear_count; i++)
        if (!check_clear(c, rank, &at->clears[i])) return false;
    c->first_run = c->run + 1;
    for (int64_t i = 0; i < at->fold_count; i++) {
        if (i == 0 || !folds_are_of_one_run(&at->folds[i - 1], &at->folds[i])) c->run++;
        if (!check_fold(c, rank, &at->folds[i])) return false;
    }
    for (int64_t i = 0; i < at->merge_count; i++)
        if (!check_merge(c, rank, &at->merges[i])) return false;
    return true;
}

/* The next transfer of a step, from *at on, that has this direction and peer. */
static const schedule_transfer *next_transfer(const schedule_step *s, transfer_direction direction, int peer,
                                              int64_t *at)
{
    while (s && *at < s->transfer_count) {
        const schedule_transfer *t = &s->transfers[(*at)++];
        if (t->direction == direction && t->peer == peer) return t;
    }
    return NULL;
}

static const schedule_step *step_of(const checker *c, int rank)
{
    const schedule *s = c->schedules[rank];
    return c->step < s->step_count ? &s->steps[c->step] : NULL;
}

static void deliver(const checker *c, int from, const schedule_transfer *sent, int to,
                    const schedule_transfer *received)
{
    const int words = c->pairs->words;
    const paper_slot *a = paper_rank_slot(&c->ranks[from], sent->kind, sent->slot);
    paper_slot *b = paper_rank_slot(&c->ranks[to], received->kind, received->slot);
    for (int64_t i = 0; i < range_length(sent->rows); i++) {
        for (int head = sent->heads.begin; head < sent->heads.end; head++) {
            const int64_t x = paper_cell(a, sent->slot_row + i, head), y = paper_cell(b, received->slot_row + i, head);
            b->token[y] = a->token[x];
            if (a->seen) memcpy(b->seen + y * words, a->seen + x * words, (size_t)words * sizeof *a->seen);
        }
    }
}

static bool check_twins(const checker *c, int from, int to)
{
    int64_t sent = 0, received = 0;
    for (;;) {
        const schedule_transfer *s = next_transfer(step_of(c, from), TRANSFER_SEND, to, &sent);
        const schedule_transfer *r = next_transfer(step_of(c, to), TRANSFER_RECEIVE, from, &received);
        if (!s && !r) return true;
        if (!s) return complain(c, to, "waits for a message that rank %d does not send", from);
        if (!r) return complain(c, from, "sends a message that rank %d does not expect", to);
        if (s->kind != r->kind || s->origin != r->origin || s->rows.begin != r->rows.begin ||
            s->rows.end != r->rows.end || s->heads.begin != r->heads.begin || s->heads.end != r->heads.end)
            return complain(c, from, "sends rows from %" PRId64 " of rank %d where rank %d expects others",
                            s->rows.begin, s->origin, to);
        deliver(c, from, s, to, r);
    }
}

static bool settle_slot(const checker *c, int rank, int slot, paper_slot *s)
{
    const int64_t cells = s->rows * heads_count(s->heads);
    for (int64_t cell = 0; cell < cells; cell++) {
        const unsigned char marks = s->marks[cell];
        if (marks & CELL_RECEIVED && marks != CELL_RECEIVED)
            return complain(c, rank, "cell %" PRId64 " of slot %d is received into and used", cell, slot);
        if (marks & CELL_SENT && marks & CELL_WRITTEN)
            return complain(c, rank, "cell %" PRId64 " of slot %d is sent and written", cell, slot);
        s->marks[cell] = 0;
    }
    return true;
}

static bool check_step(checker *c)
{
    const int ranks = c->pairs->ranks;
    for (int rank = 0; rank < ranks; rank++)
        if (step_of(c, rank) && !check_transfers(c, rank, step_of(c, rank))) return false;
    for (int rank = 0; rank < ranks; rank++)
        if (step_of(c, rank) && !check_work(c, rank, step_of(c, rank))) return false;
    for (int rank = 0; rank < ranks; rank++) {
        for (int kind = 0; kind < ROWS_KINDS; kind++)
            if (!settle_slot(c, rank, SLOT_HOME, &c->ranks[rank].home[kind])) return false;
        for (int slot = 0; slot < c->ranks[rank].slot_count; slot++)
            if (!settle_slot(c, rank, slot, &c->ranks[rank].slots[slot])) return false;
    }
    for (int from = 0; from < ranks; from++)
        for (int to = 0; to < ranks; to++)
            if (!check_twins(c, from, to)) return false;
    return true;
}

/* The first and the last row of what a rank received, each head. */
static bool check_use(const checker *c, int rank, const schedule_transfer *t)
{
    if (t->direction == TRANSFER_SEND || t->kind == ROWS_STATES) return true;
    const paper_rank *p = &c->ranks[rank];
    const int64_t tokens[] = {pair_table_token(c->pairs, t->kind, t->origin, t->rows.begin),
                              pair_table_token(c->pairs, t->kind, t->origin, t->rows.end - 1)};
    for (int i = 0; i < 2; i++)
        for (int head = t->heads.begin; head < t->heads.end; head++)
            if (!p->useful[t->kind][tokens[i] * p->home[t->kind].heads.end + head])
                return complain(c, rank, "has no use for token %" PRId64 ", head %d, of kind %d, which it received",
                                tokens[i], head, (int)t->kind);
    return true;
}

static bool check_economy(checker *c)
{
    for (int rank = 0; rank < c->pairs->ranks; rank++) {
        const schedule *s = c->schedules[rank];
        for (int slot = 0; slot < s->slot_count; slot++)
            if (c->ranks[rank].slots[slot].used != s->slots[slot].rows)
                return complain(c, rank, "slot %d has %" PRId64 " rows and uses %" PRId64, slot, s->slots[slot].rows,
                                c->ranks[rank].slots[slot].used);
        for (c->step = 0; c->step < s->step_count && c->exact; c->step++)
            for (int64_t i = 0; i < s->steps[c->step].transfer_count; i++)
                if (!check_use(c, rank, &s->steps[c->step].transfers[i])) return false;
    }
    return true;
}

static bool check_results(const checker *c)
{
    const int words = c->pairs->words;
    for (int rank = 0; rank < c->pairs->ranks; rank++) {
        const paper_slot *s = &c->ranks[rank].home[ROWS_STATES];
        for (int64_t row = 0; row < s->rows; row++) {
            const int64_t token = pair_table_token(c->pairs, ROWS_STATES, rank, row);
            for (int head = 0; head < s->heads.end; head++) {
                const uint64_t *seen = s->seen + paper_cell(s, row, head) * words;
                if (memcmp(seen, c->pairs->allowed + token * words, (size_t)words * sizeof *seen) != 0)
                    return complain(c, rank, "query %" PRId64 ", head %d, has not met just the keys it sees", token,
                                    head);
            }
        }
    }
    return true;
}

static bool check_all(checker *c)
{
    int64_t steps = 0;
    for (int rank = 0; rank < c->pairs->ranks; rank++) {
        const schedule *s = c->schedules[rank], *of_node = c->schedules[rank - rank % c->problem->node_ranks];
        if (s->rank != rank) return complain(c, rank, "a schedule of another rank");
        if (s->shares_memory != of_node->shares_memory)
            return complain(c, rank, "only some ranks of the node share memory");
        if (s->shares_memory && s->step_count != of_node->step_count)
            return complain(c, rank, "%" PRId64 " steps, where rank %d of its node has %" PRId64, s->step_count,
                            of_node->rank, of_node->step_count);
        if (s->step_count > steps) steps = s->step_count;
    }
    for (c->step = 0; c->step < steps; c->step++)
        if (!check_step(c)) return false;
    return check_results(c) && check_economy(c);
}

bool schedules_are_right(const pair_table *pairs, const schedule_problem *problem, schedule *const *schedules,
                         char *fault, size_t size)
{
    checker c = {.pairs = pairs,
                 .problem = problem,
                 .schedules = schedules,
                 .exact = problem->query_layout.kind != LAYOUT_STRIPED && problem->key_layout.kind != LAYOUT_STRIPED,
                 .run = 1,
                 .fault = fault,
                 .size = size};
    c.keys = test_allocate(3 * (size_t)pairs->words, sizeof *c.keys);
    c.seen = c.keys + pairs->words;
    c.ranks = test_allocate((size_t)pairs->ranks, sizeof *c.ranks);
    for (int rank = 0; rank < pairs->ranks; rank++) paper_rank_make(&c.ranks[rank], pairs, problem, schedules[rank]);

    const bool right = check_all(&c);

    for (int rank = 0; rank < pairs->ranks; rank++) paper_rank_free(&c.ranks[rank]);
    free(c.ranks);
    free(c.keys);
    return right;
}
