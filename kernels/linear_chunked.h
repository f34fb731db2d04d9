/* The chunked form of the linear family, the same source for every ISA: kernels/linear.h has the equations. Included
 * with LANES defined. Products are kernels/product.h's; OpenBLAS, which is left one thread each, solves, and takes the
 * products whose rows are not padded. */
#ifndef KERNELS_LINEAR_CHUNKED_H
#define KERNELS_LINEAR_CHUNKED_H

#include "kernels/linear_chunk.h"

#include <omp.h>
#include <stdatomic.h>

/* Threads draw units, all of which are as heavy, from one counter; the calling thread polls between chunks. */
typedef struct {
    const linear_call *call;
    int64_t units, chunks;                /* chunks: of a unit, about */
    atomic_int_least64_t drawn, finished; /* units; chunks */
    atomic_int left;                      /* threads that have found no more */
} unit_queue;

static void poll_now(unit_queue *queue)
{
    const int64_t finished = atomic_load(&queue->finished), all = queue->units * queue->chunks;
    queue->call->poll(queue->call->poll_data, finished < all ? (double)finished / (double)all : 1);
}

static void chunk_finished(unit_queue *queue)
{
    atomic_fetch_add(&queue->finished, 1);
    if (queue->call->poll && omp_get_thread_num() == 0) poll_now(queue);
}

static linear_task task_create(const linear_call *call, int thread)
{
    const linear_shape *shape = &call->shape;
    linear_task task = {.call = call, .variant = shape->variant, .features = linear_feature_dim(shape)};
    linear_space space;
    const size_t bytes = linear_space_place(shape, NULL, &space);
    linear_space_place(shape, (char *)call->workspace + (size_t)thread * bytes, &task.space);
    task.row = (int)rounded_up((size_t)task.features, 16);
    task.dim_row = (int)rounded_up((size_t)shape->dim, 16);
    for (int f = 0; f < task.row; f++) task.space.sums[f] = task.space.totals[f] = 0;
    return task;
}

/* The task becomes that of another unit, whose state is among `states`. */
static void task_choose(linear_task *task, int64_t unit, double *states)
{
    const linear_shape *shape = &task->call->shape;
    task->unit = linear_unit_find(shape, unit);
    task->columns = task->unit.columns;
    task->worked = linear_columns_worked(shape, task->columns);
    task->column_row = (int)odd_lines((size_t)task->worked);
    task->state = states ? states + (size_t)unit * linear_state_size(shape) : NULL;
    task->transition = states && shape->summarises ? linear_transition(shape, &task->unit, task->state) : NULL;
    task->weights_known = false;
}

/* Tokens from `token` to the end of its chunk, or to `end` if that is before it. */
static int chunk_tokens(const linear_call *call, int64_t token, int64_t end)
{
    const int64_t to_grid = LINEAR_CHUNK - (call->first_token + token) % LINEAR_CHUNK;
    return (int)(end - token < to_grid ? end - token : to_grid);
}

static int64_t chunks_about(int64_t tokens)
{
    return (tokens + LINEAR_CHUNK - 1) / LINEAR_CHUNK;
}

/* A thread's share of a call begins; it ends where unit_draw finds no more. */
static linear_task share_begin(const linear_call *call)
{
    const int thread = omp_get_thread_num();
    if (call->mark) call->mark(call->mark_data, thread, true);
    return task_create(call, thread);
}

/* The next unit of [begin, begin + queue->units), or -1 when there is none; to the calling thread, when none is worked
 * on any more: till then it polls. */
static int64_t unit_draw(unit_queue *queue, int64_t begin)
{
    const int64_t drawn = atomic_fetch_add(&queue->drawn, 1);
    if (drawn < queue->units) return begin + drawn;
    if (queue->call->mark) queue->call->mark(queue->call->mark_data, omp_get_thread_num(), false);
    atomic_fetch_add(&queue->left, 1);
    while (queue->call->poll && omp_get_thread_num() == 0 && atomic_load(&queue->left) < omp_get_num_threads())
        poll_now(queue);
    return -1;
}

/* The state of nothing seen; a transition that forgets. */
static void piece_begin(linear_task *task)
{
    const int64_t size = (int64_t)task->features * task->columns, of_matrix = (int64_t)task->features * task->features;
    for (int64_t i = 0; i < size; i++) task->state[i] = 0;
    for (int64_t i = 0; i < of_matrix && transition_is_matrix(task); i++) task->transition[i] = 0;
    const int logs = !task->transition || task->variant->erases ? 0 : decays_are_of_features(task) ? task->features : 1;
    for (int f = 0; f < logs; f++) task->transition[f] = -INFINITY;
}

static void unit_fold(linear_task *task, unit_queue *queue, void *out, float *partial)
{
    const linear_call *call = task->call;
    for (int64_t p = 0; p < call->piece_count; p++) {
        if (p > 0) piece_begin(task);
        state_round(task);
        int n;
        for (int64_t token = call->pieces[p]; token < call->pieces[p + 1]; token += n) {
            n = chunk_tokens(call, token, call->pieces[p + 1]);
            chunk_fold(task, token, n, out, partial);
            chunk_finished(queue);
        }
    }
}

static void chunked_fold(const linear_call *call, int64_t begin, int64_t end, double *states, void *out, float *partial)
{
    unit_queue queue = {.call = call, .units = end - begin, .chunks = chunks_about(call->tokens)};
    if (call->tokens == 0) return;
#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        linear_task task = share_begin(call);
        for (int64_t unit; (unit = unit_draw(&queue, begin)) >= 0;) {
            task_choose(&task, unit, states);
            unit_fold(&task, &queue, out, partial);
        }
        environment_leave(environment);
    }
}

/* Under the delta rule a row of partial has a M behind o, the transition M from the run's beginning to the token. */
static void matrix_apply(const linear_task *task, int64_t token, int n, float *partial)
{
    const linear_shape *shape = &task->call->shape;
    const int width = linear_partial_width(shape);
    const int64_t row = (task->unit.batch * task->call->tokens + token) * shape->heads + task->unit.head;
    float *rows = partial + row * width;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, task->columns, task->features, 1,
                rows + linear_width(shape), shape->heads * width, task->space.state, task->column_row, 1,
                rows + task->unit.first_column, shape->heads * width);
}

/* space.read = (a o e^G) S, G from the run's beginning on: *log_sum and space.totals are its sums. */
static void decayed_read(linear_task *task, int64_t token, int n, double *log_sum)
{
    const bool vectors = decays_are_of_features(task);
    queries_prepare(task, token, n, true);
    if (vectors) {
        log_decays_load(task, token, n);
        for (int begin = 0; begin < n; begin += LINEAR_SUB_BLOCK) {
            const int end = begin + LINEAR_SUB_BLOCK < n ? begin + LINEAR_SUB_BLOCK : n;
            queries_decay(task, n, begin, end);
            queries_decay_further(task, n, begin, end);
        }
    }
    product(n, task->columns, task->features,
            (product_factor){vectors ? task->space.decayed : task->space.rows, task->row},
            (product_factor){task->space.state, task->column_row}, false, false, task->space.read, task->column_row);
    for (int i = 0; i < n && !vectors; i++) {
        *log_sum += log_decay_of(task, token + i);
        const float factor = (float)exp(*log_sum);
        for (int c = 0; c < task->columns; c++) task->space.read[(int64_t)i * task->column_row + c] *= factor;
    }
}

static void partial_add(const linear_task *task, int64_t token, int n, float *partial)
{
    const linear_shape *shape = &task->call->shape;
    for (int i = 0; i < n; i++) {
        const int64_t row = (task->unit.batch * task->call->tokens + token + i) * shape->heads + task->unit.head;
        float *restrict to = partial + row * linear_partial_width(shape) + task->unit.first_column;
        const float *restrict read = task->space.read + (int64_t)i * task->column_row;
        for (int c = 0; c < task->columns; c++) to[c] += read[c];
    }
}

static void unit_apply(linear_task *task, unit_queue *queue, float *partial)
{
    const linear_call *call = task->call;
    double log_sum = 0;
    int n;
    task->worked = task->columns;
    for (int f = 0; f < task->row; f++) task->space.totals[f] = 0;
    for (int f = 0; f < task->features; f++)
        for (int c = 0; c < task->columns; c++)
            task->space.state[(int64_t)f * task->column_row + c] = (float)task->state[(int64_t)f * task->columns + c];
    for (int64_t token = 0; token < call->pieces[1]; token += n) {
        n = chunk_tokens(call, token, call->pieces[1]);
        if (task->variant->erases) matrix_apply(task, token, n, partial);
        else {
            decayed_read(task, token, n, &log_sum);
            partial_add(task, token, n, partial);
        }
        chunk_finished(queue);
    }
}

static void chunked_apply(const linear_call *call, int64_t begin, int64_t end, const double *states, float *partial)
{
    unit_queue queue = {.call = call, .units = end - begin};
    if (call->tokens == 0) return;
    queue.chunks = chunks_about(call->pieces[1]);
#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        linear_task task = share_begin(call);
        for (int64_t unit; (unit = unit_draw(&queue, begin)) >= 0;) {
            task_choose(&task, unit, (double *)states); /* which is only read */
            unit_apply(&task, &queue, partial);
        }
        environment_leave(environment);
    }
}

static void unit_finish(linear_task *task, unit_queue *queue, const float *partial, void *out)
{
    const linear_call *call = task->call;
    const linear_shape *shape = &call->shape;
    int n;
    for (int64_t token = 0; token < call->tokens; token += n) {
        n = chunk_tokens(call, token, call->tokens);
        for (int i = 0; i < n; i++) {
            const int64_t row = (task->unit.batch * call->tokens + token + i) * shape->heads + task->unit.head;
            memcpy(task->space.read + (int64_t)i * task->column_row,
                   partial + row * linear_partial_width(shape) + task->unit.first_column,
                   (size_t)task->columns * sizeof *partial);
        }
        outputs_write(task, token, n, out, NULL);
        chunk_finished(queue);
    }
}

static void chunked_finish(const linear_call *call, int64_t begin, int64_t end, const float *partial, void *out)
{
    unit_queue queue = {.call = call, .units = end - begin, .chunks = chunks_about(call->tokens)};
    if (call->tokens == 0) return;
#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        linear_task task = share_begin(call);
        for (int64_t unit; (unit = unit_draw(&queue, begin)) >= 0;) {
            task_choose(&task, unit, NULL);
            unit_finish(&task, &queue, partial, out);
        }
        environment_leave(environment);
    }
}

#include "kernels/linear_two_sided.h"

#endif
