/* The fold of few rows a key head, bound by the memory that keys and values are read from: what a decode step is.
 *
 * With one row the blocked form would compute a whole sub-block of lanes. Here lanes are keys for the scores (keys are
 * transposed as they are read) and value columns for the sums, and every lane goes through the operations of the
 * blocked form in their order, so that a row has the same bits in both. That order asks for the blocks' maxima, one
 * after the other, before there are probabilities; so a round of blocks, as many as there is room for, goes through
 * four phases, each shared out by tickets among the threads of a team:
 *
 *     1. a ticket some blocks:    S = k q, and each row's largest
 *     2. a ticket a key head:     the references m of all blocks in order, and the factors by which o and l change
 *     3. a ticket some blocks:    P = 2^(S - m), their sum, and sum_j P v_j
 *     4. a ticket a row:          the blocks' sums into o and l, in order
 *
 * Several key heads go through a round together: where the rows of a token's heads lie side by side, one head alone
 * would have the memory read twice as much as it uses, or more.
 *
 * What a phase reads was written under tickets of phases before it, all finished. A thread without a ticket touches
 * nothing that is shared, which the workspaces of all are, its own too: a late one that loaded the queries of a round
 * that the others have left behind would overwrite what they keep there now. So queries are loaded under a thread's
 * first ticket of the round. Included by attention_blocked.h. Held by tests/kernels/test_fold_bits.c. */
#ifndef KERNELS_ATTENTION_FEW_H
#define KERNELS_ATTENTION_FEW_H

#include "kernels/attention_key_block.h"
#include "kernels/attention_relative.h"
#include "kernels/attention_row_scores.h"
#include "kernels/product.h"

#include <sched.h>

enum {
    FEW_ROWS = ATTENTION_FEW_ROWS, /* that one thread takes this way */
    FEW_ROWS_MOST = 64,            /* that threads take together, where the blocked form has not a task for each */
    FEW_VECTORS_MOST = FEW_ROWS_MOST / LANES,
    FEW_TILE = 4, /* rows of a register tile */
    KEY_VECTORS = ATTENTION_KEY_BLOCK / LANES,
    FEW_TICKET_BLOCKS = 4, /* of FEW_ROWS or fewer */
    FEW_FETCH_ROWS = 24, /* between a row and the one that is fetched into the cache beside it */
    FEW_SPINS = 2000,    /* before a thread that waits gives its core away */
};

_Static_assert((int)FEW_ROWS_MOST <= 2 * (int)WORKSPACE_SUB_LANES, "any shape has room for the rows of a task");
_Static_assert((int)FEW_TILE <= (int)PRODUCT_ROWS, "rows fit in a tile of products");
_Static_assert(KEY_VECTORS % 4 == 0 && FEW_ROWS_MOST % LANES == 0, "vectors fill blocks");

/* Tickets drawn and finished since the team was made; those of a phase follow those of the phase before. */
typedef struct {
    atomic_int_least64_t drawn, finished;
} few_team;

/* What a block leaves of one key head for later phases, in the workspace of one of the team's threads. */
typedef struct {
    float *scores;                              /* [row][key of the block], then probabilities */
    float *o;                                   /* [row][E padded] */
    float *largest, *reference, *rescale, *sum; /* [few_lanes] */
} few_slot;

/* A thread's view of the task. */
typedef struct {
    fold_task *task;
    few_team *team;
    int64_t ticket;          /* the first of the phase */
    int first_share, shares; /* threads whose workspaces hold the slots */
    int slots_of_share;
    int first_head, heads; /* of keys */
    size_t width;          /* value columns, padded */
    size_t v_stride;       /* floats from one copied row of values to the next */
    float *q;              /* [key head][row][D], times scale * log2(e) */
    bool queries_loaded;
    const attention_segment *segment;
    int64_t first_block; /* of the round, counted on the grid */
    int blocks;
} few_fold;

/* The rows, filled up to whole vectors of any ISA. */
static int few_lanes(const few_fold *few)
{
    return (few->task->rows + 15) / 16 * 16;
}

static int few_ticket_blocks(const few_fold *few)
{
    return few->task->rows > FEW_ROWS ? 1 : FEW_TICKET_BLOCKS;
}

static size_t few_slot_floats(const few_fold *few)
{
    return (size_t)few->task->rows * (ATTENTION_KEY_BLOCK + few->width) + 4 * (size_t)few_lanes(few);
}

/* Floats of a thread's share for its queries; its slots follow. */
static size_t few_query_floats(const few_fold *few)
{
    return rounded_up((size_t)few->heads * (size_t)few->task->rows * (size_t)few->task->call->dim, 16);
}

static void few_queries_load(few_fold *few)
{
    const fold_task *task = few->task;
    for (int i = 0; i < few->heads * task->rows; i++) {
        few->task->kv_head = few->first_head + i / task->rows;
        query_load(task, i % task->rows, key_bias(task), few->q + (size_t)i * (size_t)task->call->dim);
    }
    few->queries_loaded = true;
}

/* Item `index` of a round: key head index % heads of block index / heads. */
static few_slot few_slot_of(const few_fold *few, int index)
{
    const attention_call *call = few->task->call;
    const int share = few->first_share + index / few->slots_of_share;
    float *next = workspace_of_thread(call, share).q + few_query_floats(few);
    few_slot slot;
    next += (size_t)(index % few->slots_of_share) * few_slot_floats(few);
    const size_t lanes = (size_t)few_lanes(few);
    slot.largest = next;
    slot.reference = next + lanes;
    slot.rescale = next + 2 * lanes;
    slot.sum = next + 3 * lanes;
    slot.scores = next + 4 * lanes;
    slot.o = slot.scores + (size_t)few->task->rows * ATTENTION_KEY_BLOCK;
    return slot;
}

/* Keys of an item's block: those of the grid's that the segment has. */
static key_block few_block(const few_fold *few, int index)
{
    const attention_segment *segment = few->segment;
    const int64_t from = (few->first_block + index / few->heads) * ATTENTION_KEY_BLOCK, to = from + ATTENTION_KEY_BLOCK;
    const int64_t begin = from > segment->begin ? from : segment->begin;
    return (key_block){
        .segment = segment, .begin = begin, .keys = (int)((to < segment->end ? to : segment->end) - begin)};
}

/* Keys of the block that a row sees. */
static void few_seen(const few_fold *few, const key_block *block, int row, int *first, int *last)
{
    *first = 0;
    *last = block->keys;
    if (!few->segment->look_inside) return;
    *first = within_block(few->task->space.visible_begin[row], block);
    *last = within_block(few->task->space.visible_end[row], block);
}

/* The thread's task is that of an item's key head; returns its queries. */
static const float *few_head_choose(const few_fold *few, int index)
{
    const int head = index % few->heads;
    few->task->kv_head = few->first_head + head;
    return few->q + (size_t)(head * few->task->rows) * (size_t)few->task->call->dim;
}

/* Counts a block as the flop that take as long as reading it does. */
static void few_poll(const few_fold *few, const key_block *block)
{
    const attention_call *call = few->task->call;
    const int64_t flop = (int64_t)block->keys * (few->task->rows + 8) * (call->dim + call->value_dim);
    poll_after(few->task, flop * LANES / 8);
}

/* Widens `count` rows from `key` of the segment on, and asks for the rows a little further on. */
static void few_rows_copy(const few_fold *few, bool values, int64_t key, int count, size_t stride, float *copy)
{
    const attention_call *call = few->task->call;
    const attention_segment *segment = few->segment;
    const void *source = values ? segment->v : segment->k;
    const int dim = values ? call->value_dim : call->dim;
    const int64_t token_stride = values ? segment->v_token_stride : segment->k_token_stride;
    const int64_t head_stride = values ? segment->v_head_stride : segment->k_head_stride;
    const int64_t offset = (key - segment->begin) * token_stride + few->task->kv_head * head_stride;
    const memory_rows rows = rows_in_memory(source, offset, token_stride, dim, call->type);
    for (int j = 0; j < count; j++) {
        if (key + j + FEW_FETCH_ROWS < segment->end) row_fetch(&rows, j + FEW_FETCH_ROWS);
        row_widen(call->type, source, offset + j * token_stride, dim, copy + (size_t)j * stride);
    }
}

/* The block's keys as [vector of keys][D][lane] in the thread's space for keys. What lies behind the last key is left
 * as it is: nobody sees it. */
static void few_keys_load(const few_fold *few, const key_block *block)
{
    const fold_task *task = few->task;
    const int dim = task->call->dim;
    float *rows = task->space.scores;
    for (int j = 0; j < block->keys; j += 4) {
        const int count = block->keys - j < 4 ? block->keys - j : 4;
        few_rows_copy(few, false, block->begin + j, count, (size_t)dim, rows);
        for (int i = 0; i < count && (task->rotary || task->call->scores.slopes); i++) {
            const int64_t position = key_position(few->segment, block->begin + j + i);
            task->space.key_positions[j + i] = (int32_t)(uint32_t)position;
            if (task->rotary) rotary_turn(task->rotary, position, rows + i * dim);
        }
        transpose(rows, dim, count, dim, task->space.k + (size_t)(j / LANES * dim * LANES + j % LANES), LANES);
    }
}

/* S of `rows` rows and `vectors` vectors of keys. */
INLINE void few_tile_scores(int rows, int vectors, const float *q, const float *k, int dim, float *scores)
{
    const row_strides strides = {.q = dim, .vector = dim * LANES, .d = LANES, .out = ATTENTION_KEY_BLOCK};
    row_scores(rows, vectors, q, k, dim, strides, scores);
}

/* Bias, cap, slope and mask of a row's scores; returns the largest. */
static float few_row_scores(const few_fold *few, const key_block *block, int row, vector *scores)
{
    const fold_task *task = few->task;
    const integers *keys = (const integers *)task->space.key_positions;
    const float *slopes = task->call->scores.slopes;
    const float slope = slopes ? score_slope(slopes[query_head(task, row)]) : 0;
    const integers position = (slopes ? (int32_t)(uint32_t)query_position(task, row) : 0) - (integers){0};
    vector largest = splat(-INFINITY);
    union {
        integers vector;
        int32_t lane[LANES];
    } index;
    int first, last;
    few_seen(few, block, row, &first, &last);
    if (task->inside) relative_add_row(task, block, row, (float *)scores);
    for (int i = 0; i < LANES; i++) index.lane[i] = i;
    for (int x = 0; x < KEY_VECTORS; x++) {
        if (task->cap.cap != 0) scores[x] = score_capped(scores[x], task->cap);
        if (slopes) scores[x] = score_sloped(scores[x], splat(slope), position, keys[x]);
        const integers key = index.vector + x * LANES;
        scores[x] = blend((key >= first) & (key < last), scores[x], splat(-INFINITY));
        largest = larger(scores[x], largest);
    }
    float all = -INFINITY;
    for (int i = 0; i < LANES; i++) all = largest[i] > all ? largest[i] : all;
    return all + 0.0f;
}

/* Phase 1. */
static __attribute__((noinline)) void few_scores(const few_fold *few, int index)
{
    const int dim = few->task->call->dim, rows = few->task->rows;
    const key_block block = few_block(few, index);
    const few_slot slot = few_slot_of(few, index);
    const float *q = few_head_choose(few, index), *k = few->task->space.k;
    int r = 0;

    few_keys_load(few, &block);
    for (; r + FEW_TILE <= rows; r += FEW_TILE)
        for (int x = 0; x < KEY_VECTORS; x += 2)
            few_tile_scores(FEW_TILE, 2, q + r * dim, k + x * dim * LANES, dim,
                            slot.scores + r * ATTENTION_KEY_BLOCK + x * LANES);
    for (; r < rows; r++)
        for (int x = 0; x < KEY_VECTORS; x += 4)
            few_tile_scores(1, 4, q + r * dim, k + x * dim * LANES, dim,
                            slot.scores + r * ATTENTION_KEY_BLOCK + x * LANES);
    for (r = 0; r < few_lanes(few); r++)
        slot.largest[r] =
            r < rows ? few_row_scores(few, &block, r, (vector *)(slot.scores + r * ATTENTION_KEY_BLOCK)) : -INFINITY;
    few_poll(few, &block);
}

/* Phase 2. */
static void few_references(const few_fold *few, int head)
{
    const attention_state *state = &few->task->span->state;
    union {
        vector vectors[FEW_VECTORS_MOST];
        float row[FEW_ROWS_MOST];
    } m;
    const int lanes = few_lanes(few);
    few_head_choose(few, head);
    for (int r = 0; r < lanes; r++) m.row[r] = r < few->task->rows ? state->m[row_find(few->task, r).state] : -INFINITY;
    for (int b = 0; b < few->blocks; b++) {
        const few_slot slot = few_slot_of(few, b * few->heads + head);
        for (int x = 0; x < lanes / LANES; x++)
            ((vector *)slot.reference)[x] =
                reference_move(((const vector *)slot.largest)[x], &m.vectors[x], &((vector *)slot.rescale)[x]);
        poll_after(few->task, 64 * lanes);
    }
    for (int r = 0; r < few->task->rows; r++) state->m[row_find(few->task, r).state] = m.row[r];
}

/* Probabilities of a row in place; their sum, in the order of keys: those not seen are 0 and change nothing. */
static void few_row_probabilities(vector *scores, float reference)
{
    for (int x = 0; x < KEY_VECTORS; x++) scores[x] = exp2_vector(scores[x] - splat(reference));
}

INLINE void few_tile_sums(int rows, const float *restrict p, float *restrict sum)
{
    float total[FEW_TILE] = {0};
    for (int j = 0; j < ATTENTION_KEY_BLOCK; j++)
        for (int r = 0; r < rows; r++) total[r] += p[r * ATTENTION_KEY_BLOCK + j];
    for (int r = 0; r < rows; r++) sum[r] = total[r];
}

/* sum_j P v_j over keys [first, last): all value columns of `rows` rows that see the same. */
INLINE void few_rows_values(int rows, const float *p, const float *v, size_t v_stride, size_t width, int first,
                            int last, float *o)
{
    const int64_t row = (int64_t)v_stride, o_row = (int64_t)width;
    const int keys = last - first;
    size_t e = 0;
    p += first;
    v += (size_t)first * v_stride;
    for (; rows == 1 && e + 4 * LANES <= width; e += 4 * LANES)
        product_tile(rows, 4, p, ATTENTION_KEY_BLOCK, v + e, row, keys, false, o + e, o_row);
    for (; e + 2 * LANES <= width; e += 2 * LANES)
        product_tile(rows, 2, p, ATTENTION_KEY_BLOCK, v + e, row, keys, false, o + e, o_row);
    for (; e < width; e += LANES) product_tile(rows, 1, p, ATTENTION_KEY_BLOCK, v + e, row, keys, false, o + e, o_row);
}

static bool few_see_the_same(const few_fold *few, const key_block *block, int row, int rows)
{
    int first, last, other_first, other_last;
    few_seen(few, block, row, &first, &last);
    for (int r = row + 1; r < row + rows; r++) {
        few_seen(few, block, r, &other_first, &other_last);
        if (other_first != first || other_last != last) return false;
    }
    return true;
}

/* Phase 3. */
static __attribute__((noinline)) void few_values(const few_fold *few, int index)
{
    const int rows = few->task->rows, value_dim = few->task->call->value_dim;
    const key_block block = few_block(few, index);
    const few_slot slot = few_slot_of(few, index);
    float *v = few->task->space.v;

    few_head_choose(few, index);
    few_rows_copy(few, true, block.begin, block.keys, few->v_stride, v);
    for (int j = 0; j < block.keys; j++)
        for (size_t e = (size_t)value_dim; e < few->width; e++) v[(size_t)j * few->v_stride + e] = 0;
    for (int r = 0; r < rows; r++)
        few_row_probabilities((vector *)(slot.scores + r * ATTENTION_KEY_BLOCK), slot.reference[r]);
    for (int r = 0, count; r < rows; r += count) {
        const float *p = slot.scores + r * ATTENTION_KEY_BLOCK;
        float *o = slot.o + (size_t)r * few->width;
        int first, last;
        count = r + FEW_TILE <= rows && few_see_the_same(few, &block, r, FEW_TILE) ? FEW_TILE : 1;
        few_seen(few, &block, r, &first, &last);
        if (count == 1) {
            few_tile_sums(1, p, slot.sum + r);
            few_rows_values(1, p, v, few->v_stride, few->width, first, last, o);
        } else {
            few_tile_sums(FEW_TILE, p, slot.sum + r);
            few_rows_values(FEW_TILE, p, v, few->v_stride, few->width, first, last, o);
        }
    }
    few_poll(few, &block);
}

/* Phase 4: row index / heads of key head index % heads. */
static void few_accumulate(const few_fold *few, int index)
{
    const int row = index / few->heads, head = index % few->heads;
    const int value_dim = few->task->call->value_dim;
    const attention_state *state = &few->task->span->state;
    few_head_choose(few, head);
    const int64_t at = row_find(few->task, row).state;
    vector o[512 / LANES], l = splat(state->l[at]);
    float *columns = (float *)o;
    for (int e = 0; e < value_dim; e++) columns[e] = state->o[at * value_dim + e];
    for (size_t e = (size_t)value_dim; e < few->width; e++) columns[e] = 0;
    for (int b = 0; b < few->blocks; b++) {
        const few_slot slot = few_slot_of(few, b * few->heads + head);
        const vector rescale = splat(slot.rescale[row]);
        const vector *sum = (const vector *)(slot.o + (size_t)row * few->width);
        l = multiply_add(l, rescale, splat(slot.sum[row]));
        for (size_t x = 0; x < few->width / LANES; x++) o[x] = multiply_add(o[x], rescale, sum[x]);
        poll_after(few->task, 16 * value_dim);
    }
    state->l[at] = l[0];
    for (int e = 0; e < value_dim; e++) state->o[at * value_dim + e] = columns[e] + 0.0f;
}

/* `count` items in tickets of `unit`; returns when all are done, whoever did them. */
static void few_phase(few_fold *few, int count, int unit, void (*item)(const few_fold *, int))
{
    few_team *team = few->team;
    const int64_t end = few->ticket + (count + unit - 1) / unit;
    int64_t drawn = atomic_load(&team->drawn);
    while (drawn < end) {
        if (!atomic_compare_exchange_weak(&team->drawn, &drawn, drawn + 1)) continue;
        if (!few->queries_loaded) few_queries_load(few);
        const int first = (int)(drawn - few->ticket) * unit;
        for (int i = first; i < first + unit && i < count; i++) item(few, i);
        atomic_fetch_add(&team->finished, 1);
        drawn = atomic_load(&team->drawn);
    }
    for (int spins = 1; atomic_load(&team->finished) < end; spins++) {
        if (few->task->poll_work) task_queue_poll(few->task->queue);
        else if (spins % FEW_SPINS == 0) sched_yield();
    }
    few->ticket = end;
}

static void few_segment_fold(few_fold *few)
{
    int64_t begin, end;
    keys_of_task(few->task, few->segment, &begin, &end);
    if (begin >= end) return;
    const int64_t grid_end = (end - 1) / ATTENTION_KEY_BLOCK + 1;
    const int most = few->slots_of_share * few->shares / few->heads;
    for (int64_t grid = begin / ATTENTION_KEY_BLOCK; grid < grid_end; grid += few->blocks) {
        few->first_block = grid;
        few->blocks = grid_end - grid < most ? (int)(grid_end - grid) : most;
        few_phase(few, few->blocks * few->heads, few_ticket_blocks(few) * few->heads, few_scores);
        few_phase(few, few->heads, 1, few_references);
        few_phase(few, few->blocks * few->heads, few_ticket_blocks(few) * few->heads, few_values);
        few_phase(few, few->task->rows * few->heads, 1, few_accumulate);
    }
}

/* The segment, part by part, alike on every thread. A thread keeps the queries of the part before until it draws a ticket
 * of this one. */
static void few_segment_fold_parts(few_fold *few)
{
    const attention_segment *segment = few->segment;
    attention_segment seen = *segment;
    seen.look_inside = true;
    few->segment = &seen;
    for (relative_part part = 0; part < RELATIVE_PARTS; part++) {
        if (!relative_visible_load(few->task, segment, part)) continue;
        const bool before = few->task->inside;
        few->task->inside = part == RELATIVE_INSIDE;
        if (few->task->inside != before) few->queries_loaded = false;
        few_segment_fold(few);
    }
    few->segment = segment;
}

/* As many of the heads as leave a share room for a ticket's blocks; one at least. */
static void few_heads_choose(few_fold *few, int heads)
{
    const attention_call *call = few->task->call;
    const size_t room =
        (size_t)workspace_lanes(call->dim, call->value_dim) * (size_t)(call->dim + value_dim_padded(call->value_dim));
    for (few->heads = heads;; few->heads = (few->heads + 1) / 2) {
        const size_t queries = few_query_floats(few);
        few->slots_of_share = queries < room ? (int)((room - queries) / few_slot_floats(few)) : 0;
        if (few->heads == 1 || few->slots_of_share >= few_ticket_blocks(few) * few->heads) return;
    }
}

/* Folds the rows of the task for key heads [head, head + heads) by the team's threads, each of which calls this with
 * its own view of the same task and its first ticket; returns the next one. The workspaces of `shares` threads from
 * first_share on are the team's. */
static int64_t few_run(fold_task *task, int head, int heads, few_team *team, int64_t ticket, int first_share,
                       int shares)
{
    few_fold few = {.task = task,
                    .team = team,
                    .ticket = ticket,
                    .first_share = first_share,
                    .shares = shares,
                    .width = rounded_up((size_t)task->call->value_dim, 16),
                    .v_stride = value_row_floats(task->call->value_dim),
                    .q = task->space.q};
    const bool in_parts = task->call->scores.relative != NULL;
    task->inside = false;
    if (!in_parts && span_looks_inside(task->span)) visible_load(task);
    for (few.first_head = head; few.first_head < head + heads; few.first_head += few.heads) {
        few_heads_choose(&few, head + heads - few.first_head);
        few.queries_loaded = false;
        for (int i = 0; i < task->span->segment_count; i++) {
            few.segment = &task->span->segments[i];
            if (in_parts) few_segment_fold_parts(&few);
            else few_segment_fold(&few);
        }
    }
    return few.ticket;
}

#endif
