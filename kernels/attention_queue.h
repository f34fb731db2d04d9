/* Which thread folds what, in every form of the fold. A task is a run of a span's query rows that share a key head, of
 * few rows those of all key heads. Threads draw from one counter what they fold: a task, or a part of a chain.
 *
 * A chain is a span and those that follow it, whose rows may be the same. It is cut by rows, not by spans: a part is
 * the rows of some tokens in all spans of the chain, and whoever draws it folds its tasks span after span. So parts
 * have no row in common, nobody waits, and the thread knows which keys and rows come next. */
#ifndef KERNELS_ATTENTION_QUEUE_H
#define KERNELS_ATTENTION_QUEUE_H

#include "kernels/attention.h"

#include <stdatomic.h>

enum {
    PART_ROWS = 2048,     /* of a key head, about: queries and states of 128 columns are 2 MiB */
    PART_LIST_ROWS = 512, /* of a span in a part, on average, at least: fewer cost more than what the cache saves */
};

/* What the threads of a call share. */
typedef struct {
    const attention_call *call;
    const attention_span *spans;
    int64_t span_count;
    int lanes, unit; /* of a task: at most, and what they are a multiple of but for the last rows */
    int few_rows;    /* rows of a key head of which one task takes all key heads */
    int parts;       /* of a chain */
    int64_t draws;
    int64_t pieces; /* that are counted when they are finished: tasks, and of chains the spans of each part */
    atomic_int_least64_t drawn, finished;
} task_queue;

/* Rows [first_row, first_row + rows) of key heads [kv_head, kv_head + heads) of a span. */
typedef struct {
    const attention_span *span;
    int kv_head, heads, rows;
    int64_t first_row;
} task_place;

/* Where a thread is. */
typedef struct {
    int64_t begin, end;                /* spans that it drew from last: a chain, or one */
    int64_t passed;                    /* draws of those after them */
    int part;                          /* of the chain */
    int64_t span, first_row, last_row; /* of the part: the next span, and what is left of the one before */
    int64_t unfinished;                /* pieces */
} task_cursor;

static inline int64_t span_rows(const attention_call *call, const attention_span *span)
{
    return attention_span_rows(span, call->heads / call->kv_heads);
}

static inline bool span_has_few_rows(const task_queue *queue, const attention_span *span)
{
    return span_rows(queue->call, span) <= queue->few_rows;
}

static inline int64_t span_tasks(const task_queue *queue, const attention_span *span)
{
    const int64_t rows = span_rows(queue->call, span);
    if (span_has_few_rows(queue, span)) return rows > 0;
    return (rows + queue->lanes - 1) / queue->lanes * attention_span_heads(span, queue->call->kv_heads);
}

/* The first span of the chain that ends before span `end`. */
static inline int64_t chain_begin(const task_queue *queue, int64_t end)
{
    int64_t begin = end - 1;
    while (begin > 0 && queue->spans[begin].follows) begin--;
    return begin;
}

static inline int64_t draws_of(const task_queue *queue, int64_t begin, int64_t end)
{
    return end - begin > 1 ? queue->parts : span_tasks(queue, &queue->spans[begin]);
}

static inline void draws_count(task_queue *queue)
{
    queue->draws = queue->pieces = 0;
    for (int64_t end = queue->span_count, begin; end > 0; end = begin) {
        begin = chain_begin(queue, end);
        const int64_t draws = draws_of(queue, begin, end);
        queue->draws += draws;
        queue->pieces += draws * (end - begin);
    }
}

/* Parts of a chain: so many that queries and states of each come from the cache for one key block after the other, and
 * that there are enough for all threads, as far as the spans have rows for them. False if there is no chain. */
static inline bool parts_choose(task_queue *queue)
{
    const int group = queue->call->heads / queue->call->kv_heads;
    int64_t chains = 0, followers = 0, listed = 0, rows = 0;
    for (int64_t s = 1; s < queue->span_count; s++) {
        const attention_span *span = &queue->spans[s];
        if (!span->follows) continue;
        if (s == 1 || !span[-1].follows) chains++;
        if (span->tokens * group > rows) rows = span->tokens * group;
        followers++;
        listed += span->listed_rows;
    }
    queue->parts = 1;
    if (chains == 0) return false;
    const int64_t mean = listed / followers, fits = rows / PART_ROWS, pays = mean / PART_LIST_ROWS;
    const int64_t enough = (4 * (int64_t)queue->call->threads - 1) / chains + 1, most = mean / ATTENTION_FEW_ROWS;
    int64_t parts = fits < pays ? fits : pays;
    if (queue->call->threads > 1 && parts < enough) parts = enough < most ? enough : most;
    if (parts > 1) queue->parts = (int)parts;
    return true;
}

/* The tasks of a call, of at most `most` lanes, a multiple of `unit`: as many as that, which reads each key block least
 * often, unless the threads would have too few tasks to share, then too few to have one each. */
static inline task_queue task_queue_of(const attention_call *call, const attention_span *spans, int64_t span_count,
                                       int most, int unit, int few_rows)
{
    task_queue queue = {
        .call = call, .spans = spans, .span_count = span_count, .lanes = most, .unit = unit, .few_rows = few_rows};
    const bool chained = parts_choose(&queue);
    draws_count(&queue);
    while (call->threads > 1 && !chained && queue.lanes > unit &&
           queue.draws < (queue.lanes > 4 * unit ? 4 : 1) * (int64_t)call->threads) {
        queue.lanes = (queue.lanes / unit + 1) / 2 * unit;
        draws_count(&queue);
    }
    return queue;
}

static inline task_cursor task_cursor_first(const task_queue *queue)
{
    const int64_t end = queue->span_count, begin = end > 0 ? chain_begin(queue, end) : 0;
    return (task_cursor){.begin = begin, .end = end, .span = end};
}

/* The first of the span's listed rows that is not before row `row` of its tokens. */
static inline int64_t list_find(const attention_span *span, int64_t row)
{
    int64_t low = 0, high = span->listed_rows;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (span->listed[middle] < row) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The next task of the part that the thread folds; false when there is none. What is left of a span's rows is cut into
 * even tasks. */
static inline bool part_next(const task_queue *queue, task_cursor *cursor, task_place *place_p)
{
    while (cursor->first_row == cursor->last_row) {
        if (cursor->span == cursor->end) return false;
        const attention_span *span = &queue->spans[cursor->span++];
        const int64_t rows = span->tokens * (queue->call->heads / queue->call->kv_heads);
        cursor->first_row = list_find(span, rows * cursor->part / queue->parts);
        cursor->last_row = list_find(span, rows * (cursor->part + 1) / queue->parts);
        cursor->unfinished++;
    }
    const attention_span *span = &queue->spans[cursor->span - 1];
    const int64_t left = cursor->last_row - cursor->first_row, tasks = (left - 1) / queue->lanes + 1;
    const int64_t even = ((left - 1) / tasks / queue->unit + 1) * queue->unit, rows = even < left ? even : left;
    *place_p = (task_place){
        .span = span, .kv_head = span->kv_head, .heads = 1, .rows = (int)rows, .first_row = cursor->first_row};
    cursor->first_row += rows;
    return true;
}

/* The task after the one that was drawn last, if it is of the same part; else false. */
static inline bool task_after(const task_queue *queue, const task_cursor *cursor, task_place *place_p)
{
    task_cursor after = *cursor;
    return part_next(queue, &after, place_p);
}

/* All rows of a span, which are few. */
static inline task_place span_whole(const attention_call *call, const attention_span *span)
{
    return (task_place){.span = span,
                        .kv_head = span->listed ? span->kv_head : 0,
                        .heads = attention_span_heads(span, call->kv_heads),
                        .rows = (int)span_rows(call, span)};
}

/* Task t of a span: the last rows of every key head, then those before them. */
static inline task_place span_task(const task_queue *queue, const attention_span *span, int64_t t)
{
    const task_place whole = span_whole(queue->call, span);
    if (span_has_few_rows(queue, span)) return whole;
    const int64_t blocks = span_tasks(queue, span) / whole.heads;
    const int64_t first_row = (blocks - 1 - t / whole.heads) * queue->lanes,
                  left = span_rows(queue->call, span) - first_row;
    return (task_place){.span = span,
                        .kv_head = whole.kv_head + (int)(t % whole.heads),
                        .heads = 1,
                        .rows = left < queue->lanes ? (int)left : queue->lanes,
                        .first_row = first_row};
}

/* Counts what the thread has finished: all that it took up, or all but `under_way`. */
static inline void pieces_finish(task_queue *queue, task_cursor *cursor, int under_way)
{
    if (cursor->unfinished > under_way) atomic_fetch_add(&queue->finished, cursor->unfinished - under_way);
    cursor->unfinished = under_way;
}

/* The next task; what was drawn before is finished. Last span first, and of a span its last rows, which are the
 * heaviest under a causal mask. False when there is none. */
static inline bool task_draw(task_queue *queue, task_cursor *cursor, task_place *place_p)
{
    for (;;) {
        const bool more = part_next(queue, cursor, place_p);
        pieces_finish(queue, cursor, more);
        if (more) return true;

        const int64_t drawn = atomic_fetch_add(&queue->drawn, 1);
        if (drawn >= queue->draws) return false;
        for (int64_t draws; drawn - cursor->passed >= (draws = draws_of(queue, cursor->begin, cursor->end));) {
            cursor->passed += draws;
            cursor->end = cursor->begin;
            cursor->begin = chain_begin(queue, cursor->end);
        }
        const int64_t t = drawn - cursor->passed;
        if (cursor->end - cursor->begin == 1) {
            cursor->span = cursor->end;
            cursor->unfinished = 1;
            *place_p = span_task(queue, &queue->spans[cursor->begin], t);
            return true;
        }
        cursor->span = cursor->begin;
        cursor->part = (int)(queue->parts - 1 - t);
    }
}

/* Between tiles, on the thread that called the fold. */
static inline void task_queue_poll(task_queue *queue)
{
    queue->call->poll(queue->call->poll_data, (double)atomic_load(&queue->finished) / (double)queue->pieces);
}

/* Polls until all threads have finished, and once more. */
static inline void task_queue_wait(task_queue *queue)
{
    while (atomic_load(&queue->finished) < queue->pieces) task_queue_poll(queue);
    task_queue_poll(queue);
}

#endif
