/* What two layouts of the same tokens have in common, pair of ranks by pair of ranks.
 *
 * A rank's tokens are intervals (contiguous and zigzag: its chunks) or a comb (striped: teeth of `grain` tokens, one
 * every P * grain tokens). So those that a sender and a receiver share are
 *   interval and interval   one run of tokens;
 *   comb and interval       a cut tooth, whole teeth, and a cut tooth: three moves at most;
 *   comb and comb           what their teeth share in the first L = P * lcm(grains) tokens, again every L tokens: one
 *                           move for each run of these, which are fewer than the two grains together, and one for a
 *                           run cut by the end.
 * Rows ascend with tokens on both sides, and the runs of a move are a fixed number of tokens apart, a multiple of a
 * comb's period or within an interval: their rows are a fixed number apart too. */
#include "partition/relayout.h"

#include <stdlib.h>

/* The moves of one pair of ranks are added one after the other. */
typedef struct {
    const layout *from, *to;
    int sender, receiver;
    relayout *moves; /* so far, of all pairs */
} pair;

/* Adds `count` runs of tokens, the first of them `tokens`, the others each `step` tokens after the one before. */
static int add_runs(const pair *p, range tokens, int64_t count, int64_t step)
{
    if (range_is_empty(tokens) || count == 0) return 0;
    relayout_move move = {.sender = p->sender,
                          .receiver = p->receiver,
                          .from = layout_local_row(p->from, tokens.begin),
                          .to = layout_local_row(p->to, tokens.begin),
                          .count = count,
                          .length = range_length(tokens)};
    if (count > 1) {
        move.from_step = layout_local_row(p->from, tokens.begin + step) - move.from;
        move.to_step = layout_local_row(p->to, tokens.begin + step) - move.to;
    }
    if (move.from_step == move.length && move.to_step == move.length) { /* runs that follow each other are one */
        move.length *= move.count;
        move.count = 1;
        move.from_step = move.to_step = 0;
    }
    relayout *r = p->moves;
    /* Room doubles at each power of two. */
    if ((r->move_count & (r->move_count - 1)) == 0) {
        const size_t capacity = r->move_count == 0 ? 1 : 2 * (size_t)r->move_count;
        relayout_move *moves = realloc(r->moves, capacity * sizeof *moves);
        if (!moves) return -1;
        r->moves = moves;
    }
    r->moves[r->move_count++] = move;
    return 0;
}

static range interval(const layout *l, int rank, int index)
{
    return layout_chunk(l, layout_rank_chunk(l, rank, index));
}

/* The tooth of a comb of that number; past the last one it is empty. */
static range tooth(const layout *l, int rank, int64_t number)
{
    return layout_chunk(l, layout_rank_chunk(l, rank, number));
}

/* Teeth of a comb that end at or before a token. */
static int64_t teeth_before(const layout *l, int rank, int64_t token)
{
    return layout_rows_before(l, rank, token) / l->grain;
}

/* A comb of `rank` and an interval of tokens. */
static int add_comb_and_interval(const pair *p, const layout *comb, int rank, range tokens)
{
    const int64_t rows = layout_rows_before(comb, rank, tokens.end) - layout_rows_before(comb, rank, tokens.begin);
    if (rows == 0) return 0;
    int64_t first = teeth_before(comb, rank, tokens.begin), end = teeth_before(comb, rank, tokens.end);
    const range head = range_intersect(tooth(comb, rank, first), tokens);
    const bool head_is_cut = range_length(head) < comb->grain;
    if (head_is_cut) {
        if (add_runs(p, head, 1, 0) != 0) return -1;
        first++;
    }
    if (end < first) return 0; /* the head was all */
    const int64_t whole = end - first;
    /* The period is a number of tokens, and so no overflow, where there are two teeth. */
    if (add_runs(p, tooth(comb, rank, first), whole, whole > 1 ? comb->ranks * comb->grain : 0) != 0) return -1;
    return add_runs(p, range_intersect(tooth(comb, rank, end), tokens), 1, 0);
}

static int add_intervals(const pair *p)
{
    for (int i = 0; i < layout_rank_chunk_count(p->from, p->sender); i++)
        for (int j = 0; j < layout_rank_chunk_count(p->to, p->receiver); j++) {
            const range shared = range_intersect(interval(p->from, p->sender, i), interval(p->to, p->receiver, j));
            if (add_runs(p, shared, 1, 0) != 0) return -1;
        }
    return 0;
}

static int64_t greatest_common_divisor(int64_t a, int64_t b)
{
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* P * lcm(grains), or more than there are tokens. */
static int64_t common_period(const layout *a, const layout *b)
{
    const int64_t factor = b->grain / greatest_common_divisor(a->grain, b->grain);
    const int64_t limit = a->tokens / a->ranks / a->grain;
    return factor > limit ? a->tokens + 1 : a->ranks * a->grain * factor;
}

/* A run of the first period, again in each of the following ones; the last one may be cut by the end. */
static int add_periodic(const pair *p, range tokens, int64_t period)
{
    const int64_t all = p->from->tokens;
    const int64_t count = (all - tokens.end) / period + 1;
    if (add_runs(p, tokens, count, period) != 0) return -1;
    if (count > (all - tokens.begin - 1) / period) return 0;
    return add_runs(p, (range){tokens.begin + count * period, all}, 1, 0);
}

static int add_combs(const pair *p)
{
    const int64_t period = common_period(p->from, p->to);
    const int64_t sender_teeth = layout_rank_chunk_count(p->from, p->sender);
    const int64_t receiver_teeth = layout_rank_chunk_count(p->to, p->receiver);
    for (int64_t i = 0; i < sender_teeth && tooth(p->from, p->sender, i).begin < period; i++) {
        const range sent = tooth(p->from, p->sender, i);
        for (int64_t j = teeth_before(p->to, p->receiver, sent.begin); j < receiver_teeth; j++) {
            const range received = tooth(p->to, p->receiver, j);
            if (received.begin >= sent.end) break;
            const range shared = range_intersect(sent, received);
            if (!range_is_empty(shared) && add_periodic(p, shared, period) != 0) return -1;
        }
    }
    return 0;
}

static int add_pair(const layout *from, const layout *to, int sender, int receiver, relayout *moves)
{
    const pair p = {.from = from, .to = to, .sender = sender, .receiver = receiver, .moves = moves};
    if (from->kind == LAYOUT_STRIPED && to->kind == LAYOUT_STRIPED) return add_combs(&p);
    if (from->kind != LAYOUT_STRIPED && to->kind != LAYOUT_STRIPED) return add_intervals(&p);
    const bool comb_sends = from->kind == LAYOUT_STRIPED;
    const layout *comb = comb_sends ? from : to, *other = comb_sends ? to : from;
    const int comb_rank = comb_sends ? sender : receiver, other_rank = comb_sends ? receiver : sender;
    for (int i = 0; i < layout_rank_chunk_count(other, other_rank); i++)
        if (add_comb_and_interval(&p, comb, comb_rank, interval(other, other_rank, i)) != 0) return -1;
    return 0;
}

/* By pair of ranks, then by rows of the sender: by tokens. */
static int compare_moves(const void *a, const void *b)
{
    const relayout_move *x = a, *y = b;
    if (x->sender != y->sender) return x->sender < y->sender ? -1 : 1;
    if (x->receiver != y->receiver) return x->receiver < y->receiver ? -1 : 1;
    return (x->from > y->from) - (x->from < y->from);
}

int relayout_plan(const layout *from, const layout *to, int rank, relayout *relayout_p)
{
    relayout r = {0};
    for (int peer = 0; peer < from->ranks; peer++) {
        if (add_pair(from, to, rank, peer, &r) != 0 || (peer != rank && add_pair(from, to, peer, rank, &r) != 0)) {
            relayout_free(&r);
            return -1;
        }
    }
    if (r.move_count > 1) qsort(r.moves, (size_t)r.move_count, sizeof *r.moves, compare_moves);
    for (int64_t i = 0; i < r.move_count; i++) {
        const relayout_move *move = &r.moves[i];
        if (move->sender == move->receiver) continue;
        if (move->sender == rank) r.rows_sent += move->count * move->length;
        else r.rows_received += move->count * move->length;
    }
    *relayout_p = r;
    return 0;
}

void relayout_free(relayout *r)
{
    free(r->moves);
    *r = (relayout){0};
}
