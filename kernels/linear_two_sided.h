/* Without a causal mask, and the exponents that keys are counted from. The end of linear_chunked.h. */
#ifndef KERNELS_LINEAR_TWO_SIDED_H
#define KERNELS_LINEAR_TWO_SIDED_H

/* The task's state becomes the sum of tokens [begin, end). */
static void piece_sum(linear_task *task, unit_queue *queue, int64_t begin, int64_t end)
{
    int n;
    for (int64_t i = 0; i < (int64_t)task->features * task->columns; i++) task->state[i] = 0;
    for (int64_t token = begin; token < end; token += n) {
        n = chunk_tokens(task->call, token, end);
        keys_prepare(task, token, n);
        values_prepare(task, token, n);
        state_update(task, n);
        chunk_finished(queue);
    }
}

static void unit_sum(linear_task *task, unit_queue *queue, int64_t unit, double *head, double *tail)
{
    const linear_call *call = task->call;
    const int64_t last = call->piece_count - 1;
    task_choose(task, unit, head);
    piece_sum(task, queue, 0, last < 0 ? 0 : call->pieces[1]);
    const double *first = task->state;
    task_choose(task, unit, tail);
    if (last > 0) piece_sum(task, queue, call->pieces[last], call->pieces[last + 1]);
    else memcpy(task->state, first, (size_t)task->features * (size_t)task->columns * sizeof *first);
}

static void chunked_sum(const linear_call *call, int64_t begin, int64_t end, double *head, double *tail)
{
    const int64_t last = call->piece_count - 1;
    const int64_t tokens =
        last < 0 ? 0 : call->pieces[1] + (last > 0 ? call->pieces[last + 1] - call->pieces[last] : 0);
    unit_queue queue = {.call = call, .units = end - begin, .chunks = chunks_about(tokens)};
#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        linear_task task = share_begin(call);
        for (int64_t unit; (unit = unit_draw(&queue, begin)) >= 0;) unit_sum(&task, &queue, unit, head, tail);
        environment_leave(environment);
    }
}

static void piece_read(linear_task *task, unit_queue *queue, int64_t begin, int64_t end, void *out)
{
    int n;
    state_round(task);
    for (int64_t token = begin; token < end; token += n) {
        n = chunk_tokens(task->call, token, end);
        queries_prepare(task, token, n, true);
        state_read(task, 0, n);
        denominators_secure(task, n);
        outputs_write(task, token, n, out, NULL);
        chunk_finished(queue);
    }
}

static void unit_read(linear_task *task, unit_queue *queue, int64_t unit, const double *head, const double *tail,
                      void *out)
{
    const linear_call *call = task->call;
    const int64_t last = call->piece_count - 1;
    for (int64_t p = 0; p <= last; p++) {
        task_choose(task, unit, (double *)(p == 0 ? head : tail)); /* which are only read */
        if (p > 0 && p < last) {
            task->state = task->space.middle;
            piece_sum(task, queue, call->pieces[p], call->pieces[p + 1]);
        }
        piece_read(task, queue, call->pieces[p], call->pieces[p + 1], out);
    }
}

static void chunked_read(const linear_call *call, int64_t begin, int64_t end, const double *head, const double *tail,
                         void *out)
{
    unit_queue queue = {.call = call, .units = end - begin, .chunks = 2 * chunks_about(call->tokens)};
#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        linear_task task = share_begin(call);
        for (int64_t unit; (unit = unit_draw(&queue, begin)) >= 0;) unit_read(&task, &queue, unit, head, tail, out);
        environment_leave(environment);
    }
}

/* largest [reference_dim] of one head over [0, T). */
static void head_references(linear_task *task, unit_queue *queue, double *largest)
{
    const linear_call *call = task->call;
    const int count = linear_reference_dim(&call->shape);
    const bool favor = task->variant->map == LINEAR_MAP_FAVOR;
    int n;
    for (int r = 0; r < count; r++) largest[r] = -INFINITY;
    for (int64_t token = 0; token < call->tokens; token += n) {
        n = chunk_tokens(call, token, call->tokens);
        rows_raw(task, true, token, n, task->space.k, task->space.rows);
        if (favor) favor_exponents(task, n);
        const float *rows = favor ? task->space.keys : task->space.rows;
        for (int64_t f = 0; f < task->features; f++)
            for (int i = 0; i < n; i++) {
                const double x = (double)(favor ? rows[f * LINEAR_KEY_ROW + i] : rows[i * (int64_t)task->row + f]);
                double *to = largest + (favor ? 0 : f);
                *to = x > *to ? x : *to;
            }
        chunk_finished(queue);
    }
}

static void chunked_references(const linear_call *call, double *largest)
{
    const linear_shape *shape = &call->shape;
    const int count = linear_reference_dim(shape), blocks = linear_column_blocks(shape);
    unit_queue queue = {.call = call, .units = shape->batch * shape->heads, .chunks = chunks_about(call->tokens)};
    if (count == 0) return;
#pragma omp parallel num_threads(call->threads)
    {
        const float_environment environment = environment_enter();
        linear_task task = share_begin(call);
        for (int64_t head; (head = unit_draw(&queue, 0)) >= 0;) {
            task_choose(&task, head * blocks, NULL);
            head_references(&task, &queue, largest + head * count);
        }
        environment_leave(environment);
    }
}

#endif
