/* What every form of the fold does around its tasks. A task is a run of `lanes` of a span's query rows that share a
 * key head. Threads draw tasks from one counter. */
#ifndef KERNELS_ATTENTION_BF16_TASKS_H
#define KERNELS_ATTENTION_BF16_TASKS_H

#include "kernels/attention.h"

#include <stdatomic.h>

/* What the threads of a call share. */
typedef struct {
    const attention_call *call;
    const attention_span *spans;
    int64_t span_count, tasks;
    int lanes;
    atomic_int_least64_t drawn, finished;
} task_queue;

/* Where a thread is among the spans: tasks of those after `span` lie behind it. */
typedef struct {
    int64_t span, passed;
} task_cursor;

/* Rows [first_row, first_row + rows) of a key head of a span. */
typedef struct {
    const attention_span *span;
    int kv_head, rows;
    int64_t first_row;
} task_place;

static inline int64_t span_blocks(const attention_call *call, const attention_span *span, int lanes)
{
    return (attention_span_rows(span, call->heads / call->kv_heads) + lanes - 1) / lanes;
}

static inline int64_t span_tasks(const attention_call *call, const attention_span *span, int lanes)
{
    return span_blocks(call, span, lanes) * attention_span_heads(span, call->kv_heads);
}

static inline int64_t tasks_of(const attention_call *call, const attention_span *spans, int64_t span_count, int lanes)
{
    int64_t tasks = 0;
    for (int64_t s = 0; s < span_count; s++) tasks += span_tasks(call, &spans[s], lanes);
    return tasks;
}

/* The tasks of a call, of at most `most` lanes, a multiple of `unit`: as many as that, which reads each key block least
 * often, unless the threads would have too few tasks to share, then too few to have one each. */
static inline task_queue task_queue_of(const attention_call *call, const attention_span *spans, int64_t span_count,
                                       int most, int unit)
{
    int lanes = most;
    while (call->threads > 1 && lanes > unit) {
        const int64_t tasks = tasks_of(call, spans, span_count, lanes);
        if (tasks >= (lanes > 4 * unit ? 4 : 1) * (int64_t)call->threads) break;
        lanes = (lanes / unit + 1) / 2 * unit;
    }
    return (task_queue){.call = call,
                        .spans = spans,
                        .span_count = span_count,
                        .lanes = lanes,
                        .tasks = tasks_of(call, spans, span_count, lanes)};
}

static inline task_cursor task_cursor_first(const task_queue *queue)
{
    return (task_cursor){.span = queue->span_count - 1};
}

/* The next task: last span first, and of a span the last rows of all key heads first, which are the heaviest under a
 * causal mask. False when there is none. */
static inline bool task_draw(task_queue *queue, task_cursor *cursor, task_place *place_p)
{
    const attention_call *call = queue->call;
    const int64_t drawn = atomic_fetch_add(&queue->drawn, 1);
    if (drawn >= queue->tasks) return false;
    for (int64_t tasks; drawn - cursor->passed >= (tasks = span_tasks(call, &queue->spans[cursor->span], queue->lanes));
         cursor->span--)
        cursor->passed += tasks;
    const attention_span *span = &queue->spans[cursor->span];
    const int heads = attention_span_heads(span, call->kv_heads);
    const int64_t blocks = span_blocks(call, span, queue->lanes), t = drawn - cursor->passed;
    const int64_t first_row = (blocks - 1 - t / heads) * queue->lanes;
    const int64_t rows = attention_span_rows(span, call->heads / call->kv_heads) - first_row;
    *place_p = (task_place){.span = span,
                            .kv_head = (span->listed ? span->kv_head : 0) + (int)(t % heads),
                            .rows = rows < queue->lanes ? (int)rows : queue->lanes,
                            .first_row = first_row};
    return true;
}

static inline void task_queue_poll(task_queue *queue)
{
    queue->call->poll(queue->call->poll_data, (double)atomic_load(&queue->finished) / (double)queue->tasks);
}

#endif
