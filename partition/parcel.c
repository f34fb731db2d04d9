/* Parcels of rows, and which rows somebody needs. */
#include "partition/parcel.h"

static const layout *layout_of(const schedule_problem *problem, rows_kind kind)
{
    return kind == ROWS_KEYS ? &problem->key_layout : &problem->query_layout;
}

static int heads_of(const schedule_problem *problem, rows_kind kind)
{
    return kind == ROWS_KEYS ? problem->kv_heads : problem->heads;
}

/* A parcel at home on its owner, without rows. */
static parcel parcel_without_rows(const schedule_problem *problem, rows_kind kind, int origin)
{
    return (parcel){.kind = kind, .origin = origin, .heads = heads_all(heads_of(problem, kind)), .slot = SLOT_HOME};
}

static void parcel_set_rows(parcel *p, int piece, range rows)
{
    p->rows[piece] = range_hull(rows, (range){0, 0});
    p->slot_row[piece] = p->rows[piece].begin;
}

parcel parcel_home(const schedule_problem *problem, rows_kind kind, int rank)
{
    const layout *l = layout_of(problem, kind);
    parcel p = parcel_without_rows(problem, kind, rank);
    for (int piece = 0; piece < layout_piece_count(l); piece++)
        parcel_set_rows(&p, piece, layout_piece(l, rank, piece));
    return p;
}

int64_t parcel_rows(const parcel *p)
{
    int64_t rows = 0;
    for (int piece = 0; piece < MOST_PIECES; piece++) rows += range_length(p->rows[piece]);
    return rows;
}

parcel parcel_part(const parcel *from, const parcel *what)
{
    parcel part = *from;
    part.heads = what->heads;
    for (int piece = 0; piece < MOST_PIECES; piece++) {
        part.rows[piece] = what->rows[piece];
        part.slot_row[piece] += what->rows[piece].begin - from->rows[piece].begin;
    }
    return part;
}

parcel parcel_hull(const parcel *a, const parcel *b)
{
    parcel both = *a;
    for (int piece = 0; piece < MOST_PIECES; piece++)
        parcel_set_rows(&both, piece, range_hull(a->rows[piece], b->rows[piece]));
    return both;
}

parcel parcel_as_states(const parcel *queries)
{
    parcel states = *queries;
    states.kind = ROWS_STATES;
    return states;
}

void parcel_place(parcel *p, int slot, int64_t *end_p)
{
    p->slot = slot;
    for (int piece = 0; piece < MOST_PIECES; piece++) {
        p->slot_row[piece] = *end_p;
        *end_p += range_length(p->rows[piece]);
    }
}

static int add_transfers(schedule *s, int64_t step, const parcel *p, transfer_direction direction, int peer)
{
    for (int piece = 0; piece < MOST_PIECES; piece++) {
        if (range_is_empty(p->rows[piece])) continue;
        const schedule_transfer transfer = {.direction = direction,
                                            .peer = peer,
                                            .kind = p->kind,
                                            .origin = p->origin,
                                            .rows = p->rows[piece],
                                            .heads = p->heads,
                                            .slot = p->slot,
                                            .slot_row = p->slot_row[piece]};
        if (schedule_add_transfer(s, step, transfer) != 0) return -1;
    }
    return 0;
}

int parcel_send(schedule *s, int64_t step, const parcel *p, int peer)
{
    return add_transfers(s, step, p, TRANSFER_SEND, peer);
}

int parcel_receive(schedule *s, int64_t step, const parcel *p, int peer)
{
    return add_transfers(s, step, p, TRANSFER_RECEIVE, peer);
}

int parcel_fold_piece(schedule *s, int64_t step, const schedule_problem *problem, const parcel *queries,
                      const parcel *states, int piece, const parcel *keys, int holder, head_range heads)
{
    for (int key_piece = 0; key_piece < MOST_PIECES; key_piece++) {
        const range query_rows = queries->rows[piece];
        const range seen = mask_keys(&problem->mask, layout_hull(&problem->query_layout, queries->origin, query_rows));
        const range key_rows = layout_rows_within(&problem->key_layout, keys->origin, keys->rows[key_piece], seen);
        const mask_answer answer = schedule_ask(problem, queries->origin, query_rows, keys->origin, key_rows);
        if (answer == MASK_NOTHING) continue;
        const schedule_fold fold = {.heads = heads,
                                    .query_origin = queries->origin,
                                    .query_rows = query_rows,
                                    .query_slot = queries->slot,
                                    .query_slot_row = queries->slot_row[piece],
                                    .state_slot = states->slot,
                                    .state_slot_row = states->slot_row[piece],
                                    .key_origin = keys->origin,
                                    .key_rows = key_rows,
                                    .holder = holder,
                                    .key_slot = keys->slot,
                                    .key_slot_row =
                                        keys->slot_row[key_piece] + key_rows.begin - keys->rows[key_piece].begin,
                                    .look_inside = answer == MASK_LOOK_INSIDE};
        if (schedule_add_fold(s, step, fold) != 0) return -1;
    }
    return 0;
}

int parcel_fold(schedule *s, int64_t step, const schedule_problem *problem, const parcel *queries, const parcel *states,
                const parcel *keys, head_range heads)
{
    for (int piece = 0; piece < MOST_PIECES; piece++)
        if (parcel_fold_piece(s, step, problem, queries, states, piece, keys, s->rank, heads) != 0) return -1;
    return 0;
}

int parcel_merge(schedule *s, int64_t step, const parcel *states, const parcel *into, head_range heads)
{
    if (heads_count(heads) <= 0) return 0;
    for (int piece = 0; piece < MOST_PIECES; piece++) {
        if (range_is_empty(states->rows[piece])) continue;
        const int64_t offset = states->rows[piece].begin - into->rows[piece].begin;
        const schedule_merge merge = {.count = range_length(states->rows[piece]),
                                      .heads = heads,
                                      .from_slot = states->slot,
                                      .to_slot = into->slot,
                                      .from_row = states->slot_row[piece],
                                      .to_row = into->slot_row[piece] + offset};
        if (schedule_add_merge(s, step, merge) != 0) return -1;
    }
    return 0;
}

void slot_hold(schedule *s, int slot, int64_t rows)
{
    if (s->slots[slot].rows < rows) s->slots[slot].rows = rows;
}

/* Tokens from the first to the last of a piece of ranks [first, last]. */
static range tokens_of_run(const layout *l, int first, int last, int piece)
{
    if (l->kind == LAYOUT_STRIPED) {
        if (first == last) return layout_hull(l, first, layout_piece(l, first, piece));
        /* Every stripe but the first few is followed by one of each rank: what this adds is less than P blocks. */
        return (range){layout_chunk(l, first).begin, l->tokens};
    }
    const bool descending = piece > 0; /* the late chunks of a zigzag layout */
    const int64_t a = layout_rank_chunk(l, descending ? last : first, piece);
    const int64_t b = layout_rank_chunk(l, descending ? first : last, piece);
    return (range){layout_chunk(l, a).begin, layout_chunk(l, b).end};
}

parcel parcel_of_queries_that_see(const schedule_problem *problem, int query_origin, int first_holder, int last_holder)
{
    const layout *queries = &problem->query_layout, *keys = &problem->key_layout;
    parcel p = parcel_without_rows(problem, ROWS_QUERIES, query_origin);
    for (int piece = 0; piece < layout_piece_count(queries); piece++) {
        const range rows = layout_piece(queries, query_origin, piece);
        range seeing = {0, 0};
        for (int key_piece = 0; key_piece < layout_piece_count(keys) && !range_is_empty(rows); key_piece++) {
            const range tokens = tokens_of_run(keys, first_holder, last_holder, key_piece);
            if (range_is_empty(tokens)) continue;
            const range seers = mask_queries(&problem->mask, tokens);
            if (range_is_empty(seers)) continue;
            seeing = range_hull(seeing, layout_rows_within(queries, query_origin, rows, seers));
        }
        parcel_set_rows(&p, piece, seeing);
    }
    return p;
}

parcel parcel_of_keys_seen_by(const schedule_problem *problem, int first_reader, int last_reader, int key_origin)
{
    parcel p = parcel_without_rows(problem, ROWS_KEYS, key_origin);
    for (int piece = 0; piece < layout_piece_count(&problem->key_layout); piece++)
        parcel_set_rows(&p, piece, schedule_needed_rows(problem, first_reader, last_reader, key_origin, piece));
    return p;
}

int ring_direction(const schedule_problem *problem)
{
    return problem->key_layout.kind == LAYOUT_ZIGZAG ? -1 : 1;
}

int group_ahead(const group_ring *ring, int group, int64_t hops)
{
    const int64_t rest = (group + ring->direction * hops) % ring->groups;
    return (int)(rest < 0 ? rest + ring->groups : rest);
}

static int first_rank(const group_ring *ring, int group)
{
    return ring->first + group * ring->size;
}

parcel parcel_of_keys_ahead(const schedule_problem *problem, const group_ring *ring, int group, int hops,
                            int key_origin)
{
    if (hops >= ring->groups) return parcel_without_rows(problem, ROWS_KEYS, key_origin);
    /* The groups ahead are one run around the ring, which may pass the last group: then two runs of ranks. The last
     * group ahead, groups - 1 hops away, is the next one against the direction. */
    const int nearest = group_ahead(ring, group, hops), farthest = group_ahead(ring, group, ring->groups - 1);
    const int low = first_rank(ring, ring->direction > 0 ? nearest : farthest);
    const int high = first_rank(ring, (ring->direction > 0 ? farthest : nearest) + 1) - 1;
    if (low <= high) return parcel_of_keys_seen_by(problem, low, high, key_origin);
    const parcel first = parcel_of_keys_seen_by(problem, ring->first, high, key_origin);
    const parcel last = parcel_of_keys_seen_by(problem, low, first_rank(ring, ring->groups) - 1, key_origin);
    return parcel_hull(&first, &last);
}

parcel parcel_on_ring(const schedule_problem *problem, const group_ring *ring, int begin, int hops, int key_origin,
                      const int slots[2])
{
    if (hops == 0) return parcel_home(problem, ROWS_KEYS, key_origin);
    parcel p = parcel_of_keys_ahead(problem, ring, begin, hops, key_origin);
    int64_t end = 0;
    parcel_place(&p, slots[(hops - 1) % 2], &end);
    return p;
}

int parcel_pass_on(schedule *s, int64_t step, const schedule_problem *problem, const group_ring *ring, int begin,
                   int hops, const parcel *held, int to, const parcel *next, int from)
{
    const parcel leaving = parcel_of_keys_ahead(problem, ring, begin, hops + 1, held->origin);
    const parcel sent = parcel_part(held, &leaving);
    if (parcel_send(s, step, &sent, to) != 0) return -1;
    slot_hold(s, next->slot, parcel_rows(next));
    return parcel_receive(s, step, next, from);
}

int schedule_finish(schedule *s, int result, schedule **schedule_p)
{
    if (result != 0) {
        schedule_destroy(s);
        return result;
    }
    schedule_sort_folds(s);
    schedule_drop_idle_tail(s);
    *schedule_p = s;
    return 0;
}
