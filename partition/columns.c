/* Heads dealt to the ranks of a group, keys around a ring of groups.
 *
 * P = R C ranks are R groups of C neighbours; rank (g, c) is g C + c. Within a group, every rank takes some of the
 * heads and all of the group's queries for them. The groups form a ring of keys, in which (g, c) talks to (g + d, c)
 * and carries the key heads of column c. Let rank (g, c) be c for short:
 *
 *     step 0       sends each rank of its group the queries and keys of that rank's heads, receives those of its own
 *                  heads from each, and folds its own queries against its own keys;
 *     step 1 + h   h = 0 .. R - 1: folds the group's queries against the keys of group g - d h, passes these on to the
 *                  next group and receives those of group g - d (h + 1), into slot h % 2 of two;
 *     step R + 1   sends the partial results, which are complete, back to the queries' owners;
 *     step R + 2   joins what came to its own.
 *
 * With C = 1 there is nobody to exchange heads with, and all begins a step earlier. What is a rank's own stays where it
 * lies: its own queries and keys are read at home, its own partial results are made there. Of queries only rows travel
 * that see any key at all; of keys, in each hop, only those that some rank of a group ahead needs, and in step 0 those
 * that anybody needs. A key head whose query heads are dealt to several ranks goes to each of them. */
#include "partition/columns.h"

#include "partition/parcel.h"

#include <stdlib.h>

/* A rank folds the queries of all ranks of its group against the keys of all, pair by pair. */
enum { MOST_COLUMNS = 256 };

typedef struct {
    const schedule_problem *problem;
    schedule *s;
    group_ring ring;
    int group, column;
    head_range *heads; /* [C] of each column */
    parcel *queries;   /* [C] of the group's ranks, this column's heads */
    parcel *states;    /* [C] of these queries */
    parcel *keys;      /* [C] of the group whose keys this rank holds */
    int query_slot, state_slot;
    int returned_slots[2]; /* of the heads below this column's, and of those above */
    int gathered_slot, ring_slots[2];
    int64_t first_hop; /* step of hop 0 */
} board;

void columns_deal_heads(int heads, int kv_heads, int columns, head_range *runs)
{
    const int group = heads / kv_heads, small = heads / columns;
    int larger = heads % columns, begin = 0;
    for (int column = 0; column < columns; column++) {
        const int left = columns - column;
        /* Spread evenly, column c would get one more where floor((c + 1) H / C) moves by one more. */
        int64_t even_end = ((int64_t)column + 1) * heads / columns;
        bool one_more = begin + small < even_end;
        if ((begin + small + 1) % group == 0) one_more = true;
        else if ((begin + small) % group == 0) one_more = false;
        if (larger == 0) one_more = false;
        if (larger == left) one_more = true;
        runs[column] = (head_range){begin, begin + small + one_more};
        begin = runs[column].end;
        larger -= one_more;
    }
}

int columns_busiest(const schedule_problem *problem, int columns, int rank)
{
    head_range runs[MOST_COLUMNS];
    int busiest = 0;
    columns_deal_heads(problem->heads, problem->kv_heads, columns, runs);
    for (int column = 1; column < columns; column++)
        if (heads_count(runs[column]) > heads_count(runs[busiest])) busiest = column;
    return rank / columns * columns + busiest;
}

const char *columns_fault(int columns)
{
    if (columns <= MOST_COLUMNS) return NULL;
    return "more than 256 ranks would share the heads, and each fold every pair of their shards; say hybrid:RxC";
}

static int rank_of(const board *b, int group, int column)
{
    return group * b->ring.size + column;
}

static bool is_idle(head_range heads)
{
    return heads_count(heads) == 0;
}

/* The queries of a rank that see any key. */
static parcel seeing_queries(const board *b, int rank, head_range heads)
{
    parcel p = parcel_of_queries_that_see(b->problem, rank, 0, b->problem->key_layout.ranks - 1);
    p.heads = heads;
    return p;
}

/* The keys of a rank of `group` that are on their way over hop `hops`. */
static parcel travelling_keys(const board *b, int group, int column, int hops, head_range heads)
{
    parcel p = parcel_of_keys_ahead(b->problem, &b->ring, group, hops, rank_of(b, group, column));
    p.heads = heads;
    return p;
}

/* The heads that other columns below (0) or above (1) this one have. */
static head_range heads_beside(const board *b, int side)
{
    const head_range mine = b->heads[b->column];
    return side == 0 ? (head_range){0, mine.begin} : (head_range){mine.end, b->problem->heads};
}

static int add_slots(board *b)
{
    const head_range mine = b->heads[b->column], keys = heads_of_keys(b->problem, mine);
    for (int side = 0; side < 2; side++)
        if (schedule_add_slot(b->s, ROWS_STATES, heads_beside(b, side), 0, &b->returned_slots[side]) != 0) return -1;
    if (is_idle(mine)) return 0;
    if (schedule_add_slot(b->s, ROWS_QUERIES, mine, 0, &b->query_slot) != 0) return -1;
    if (schedule_add_slot(b->s, ROWS_STATES, mine, 0, &b->state_slot) != 0) return -1;
    if (schedule_add_slot(b->s, ROWS_KEYS, keys, 0, &b->gathered_slot) != 0) return -1;
    for (int i = 0; i < 2; i++)
        if (schedule_add_slot(b->s, ROWS_KEYS, keys, 0, &b->ring_slots[i]) != 0) return -1;
    return 0;
}

/* Where the queries, states and keys of this group lie on this rank. */
static void place_group(board *b)
{
    const head_range mine = b->heads[b->column], key_heads = heads_of_keys(b->problem, mine);
    int64_t query_end = 0, state_end = 0, key_end = 0;
    for (int column = 0; column < b->ring.size; column++) {
        const int rank = rank_of(b, b->group, column);
        b->queries[column] = seeing_queries(b, rank, mine);
        b->states[column] = parcel_as_states(&b->queries[column]);
        b->keys[column] = travelling_keys(b, b->group, column, 0, key_heads);
        if (column == b->column) continue;
        parcel_place(&b->queries[column], b->query_slot, &query_end);
        parcel_place(&b->states[column], b->state_slot, &state_end);
        parcel_place(&b->keys[column], b->gathered_slot, &key_end);
    }
    slot_hold(b->s, b->query_slot, query_end);
    slot_hold(b->s, b->state_slot, state_end);
    slot_hold(b->s, b->gathered_slot, key_end);
}

/* Queries and keys within the group, each rank beginning with its neighbour. */
static int plan_dealing(const board *b)
{
    const int rank = b->s->rank;
    for (int i = 1; i < b->ring.size; i++) {
        const int column = (b->column + i) % b->ring.size, peer = rank_of(b, b->group, column);
        const head_range theirs = b->heads[column];
        if (!is_idle(theirs)) {
            const parcel queries = seeing_queries(b, rank, theirs);
            const parcel keys = travelling_keys(b, b->group, b->column, 0, heads_of_keys(b->problem, theirs));
            if (parcel_send(b->s, 0, &queries, peer) != 0 || parcel_send(b->s, 0, &keys, peer) != 0) return -1;
        }
        if (is_idle(b->heads[b->column])) continue;
        if (parcel_receive(b->s, 0, &b->queries[column], peer) != 0) return -1;
        if (parcel_receive(b->s, 0, &b->keys[column], peer) != 0) return -1;
    }
    return 0;
}

/* All queries of the group against the keys held after some hops; in hop 0 one's own meet in step 0. */
static int plan_folds(const board *b, int hops)
{
    const head_range heads = b->heads[b->column];
    for (int column = 0; column < b->ring.size; column++) {
        for (int of = 0; of < b->ring.size; of++) {
            const bool own = hops == 0 && column == b->column && of == b->column;
            const int64_t step = own ? 0 : b->first_hop + hops;
            if (parcel_fold(b->s, step, b->problem, &b->queries[column], &b->states[column], &b->keys[of], heads) != 0)
                return -1;
        }
    }
    return 0;
}

/* Sends on what it holds after some hops, receives what it is to hold after the next, and makes that b->keys. */
static int plan_hop(board *b, int hops)
{
    const int64_t step = b->first_hop + hops;
    const int held_group = group_ahead(&b->ring, b->group, -hops);
    const int next_group = group_ahead(&b->ring, b->group, -(int64_t)hops - 1);
    const int to = rank_of(b, group_ahead(&b->ring, b->group, 1), b->column);
    const int from = rank_of(b, group_ahead(&b->ring, b->group, -1), b->column);
    const int slot = b->ring_slots[hops % 2];
    const head_range key_heads = b->keys[b->column].heads;
    int64_t end = 0;
    for (int column = 0; column < b->ring.size; column++) {
        const parcel leaving = travelling_keys(b, held_group, column, hops + 1, key_heads);
        const parcel sent = parcel_part(&b->keys[column], &leaving);
        if (parcel_send(b->s, step, &sent, to) != 0) return -1;
        b->keys[column] = travelling_keys(b, next_group, column, hops + 1, key_heads);
        parcel_place(&b->keys[column], slot, &end);
        if (parcel_receive(b->s, step, &b->keys[column], from) != 0) return -1;
    }
    slot_hold(b->s, slot, end);
    return 0;
}

/* Partial results go back to the owners of their queries. */
static int plan_sends_back(const board *b, int64_t step)
{
    for (int i = 1; i < b->ring.size; i++) {
        const int column = (b->column + i) % b->ring.size;
        if (parcel_send(b->s, step, &b->states[column], rank_of(b, b->group, column)) != 0) return -1;
    }
    return 0;
}

/* The results of this rank's queries come home from the columns on one side. */
static int plan_return(const board *b, int64_t step, int side)
{
    const head_range heads = heads_beside(b, side);
    if (is_idle(heads)) return 0;
    const parcel own = seeing_queries(b, b->s->rank, heads);
    const parcel home = parcel_home(b->problem, ROWS_STATES, b->s->rank);
    parcel returned = parcel_as_states(&own);
    int64_t end = 0;
    parcel_place(&returned, b->returned_slots[side], &end);
    slot_hold(b->s, returned.slot, end);
    for (int column = 0; column < b->ring.size; column++) {
        if (column == b->column || is_idle(b->heads[column]) || (column < b->column) != (side == 0)) continue;
        parcel part = returned;
        part.heads = b->heads[column];
        if (parcel_receive(b->s, step, &part, rank_of(b, b->group, column)) != 0) return -1;
    }
    return parcel_merge(b->s, step + 1, &returned, &home, heads);
}

static int plan_board(board *b)
{
    if (!b->heads || !b->queries || !b->states || !b->keys) return -1;
    columns_deal_heads(b->problem->heads, b->problem->kv_heads, b->ring.size, b->heads);
    const bool idle = is_idle(b->heads[b->column]);
    if (add_slots(b) != 0) return -1;
    if (!idle) place_group(b);
    if (plan_dealing(b) != 0) return -1;
    if (!idle && b->ring.size > 1) {
        const schedule_clear clear = {b->state_slot, {0, b->s->slots[b->state_slot].rows}};
        if (!range_is_empty(clear.slot_rows) && schedule_add_clear(b->s, b->first_hop, clear) != 0) return -1;
    }
    for (int hops = 0; hops < b->ring.groups && !idle; hops++) {
        if (plan_folds(b, hops) != 0) return -1;
        if (hops + 1 < b->ring.groups && plan_hop(b, hops) != 0) return -1;
    }
    const int64_t step = b->first_hop + b->ring.groups;
    if (!idle && plan_sends_back(b, step) != 0) return -1;
    return plan_return(b, step, 0) != 0 || plan_return(b, step, 1) != 0 ? -1 : 0;
}

int columns_plan(const schedule_problem *problem, int columns, int rank, schedule **schedule_p)
{
    const int groups = problem->key_layout.ranks / columns;
    const int64_t first_hop = columns > 1;
    board b = {.problem = problem,
               .s = schedule_create(rank, first_hop + groups + 2),
               .ring = {.first = 0, .size = columns, .groups = groups, .direction = ring_direction(problem)},
               .group = rank / columns,
               .column = rank % columns,
               .first_hop = first_hop};
    if (!b.s) return -1;
    b.heads = calloc((size_t)columns, sizeof *b.heads);
    b.queries = calloc((size_t)columns, sizeof *b.queries);
    b.states = calloc((size_t)columns, sizeof *b.states);
    b.keys = calloc((size_t)columns, sizeof *b.keys);
    const int result = plan_board(&b);
    free(b.heads);
    free(b.queries);
    free(b.states);
    free(b.keys);
    return schedule_finish(b.s, result, schedule_p);
}
