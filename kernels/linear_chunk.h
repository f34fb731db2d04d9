/* A chunk: from features, decays and scores to outputs and the next state. Included by linear_chunked.h. */
#ifndef KERNELS_LINEAR_CHUNK_H
#define KERNELS_LINEAR_CHUNK_H

#include "kernels/linear_decay.h"

static const double LN_2 = 0.693147180559945309417232;

static bool transition_is_matrix(const linear_task *task)
{
    return task->variant->erases && task->transition != NULL;
}

/* space.state = the state, rounded to floats; the transition's columns behind its own. */
static void state_round(const linear_task *task)
{
    for (int f = 0; f < task->features; f++) {
        float *restrict row = task->space.state + (int64_t)f * task->column_row;
        const double *restrict state = task->state + (int64_t)f * task->columns;
        for (int c = 0; c < task->columns; c++) row[c] = (float)state[c];
        if (!transition_is_matrix(task)) continue;
        const double *restrict transition = task->transition + (int64_t)f * task->features;
        for (int c = 0; c < task->features; c++) row[task->columns + c] = (float)transition[c];
    }
}

/* wide = factor wide + change, and rounded. */
static void row_update(double *restrict wide, double factor, const float *restrict change, int count,
                       float *restrict rounded)
{
    for (int c = 0; c < count; c++) {
        wide[c] = factor * wide[c] + (double)change[c];
        rounded[c] = (float)wide[c];
    }
}

/* S' = e^(G_C) o S + (b o e^(G_C - G))^T w'. */
static void state_update(linear_task *task, int n)
{
    const linear_space *space = &task->space;
    const bool vectors = decays_are_of_features(task), matrix = transition_is_matrix(task);
    const bool scalars = !vectors && task->variant->decay != LINEAR_DECAY_NONE;
    const double *restrict to_end = space->weights + (n - 1) * LINEAR_CHUNK;
    float *keys = vectors ? space->late_keys : space->state_keys;
    for (int f = 0; f < task->features && scalars; f++) {
        float *restrict row = keys + (int64_t)f * LINEAR_KEY_ROW;
        for (int j = 0; j < n; j++) row[j] *= (float)to_end[j];
    }
    product(task->features, task->worked, n, (product_factor){keys, LINEAR_KEY_ROW},
            (product_factor){space->values, task->column_row}, false, false, space->change, task->column_row);
    double factor = scalars ? exp(task->log_total) : 1;
    for (int f = 0; f < task->features; f++) {
        if (vectors) factor = exp(space->totals[f] * LN_2);
        const int64_t at = (int64_t)f * task->column_row;
        row_update(task->state + (int64_t)f * task->columns, factor, space->change + at, task->columns,
                   space->state + at);
        if (matrix)
            row_update(task->transition + (int64_t)f * task->features, factor, space->change + at + task->columns,
                       task->features, space->state + at + task->columns);
    }
    if (matrix || !task->transition) return;
    if (scalars) *task->transition += task->log_total;
    for (int f = 0; f < task->features && vectors; f++) task->transition[f] += space->totals[f] * LN_2;
}

/* What n rows of a (form 0) or b (form 1) read of the state at the chunk's beginning. */
static void state_read(const linear_task *task, int form, int n)
{
    const linear_space *space = &task->space;
    const bool vectors = decays_are_of_features(task);
    const float *rows = (vectors ? space->decayed : space->rows) + (int64_t)form * n * task->row;
    float *read = space->read + (int64_t)form * n * task->column_row;
    product(n, task->worked, task->features, (product_factor){rows, task->row},
            (product_factor){space->state, task->column_row}, false, false, read, task->column_row);
    if (vectors || task->variant->decay == LINEAR_DECAY_NONE) return;
    for (int i = 0; i < n; i++) {
        float *restrict row = read + (int64_t)i * task->column_row;
        const float factor = (float)space->from_start[i];
        for (int c = 0; c < task->worked; c++) row[c] *= factor;
    }
}

/* (I + beta L) w' = beta (w - (b o e^G) S), in place of w. */
static void values_solve(const linear_task *task, int n)
{
    const linear_space *space = &task->space;
    for (int i = 0; i < n; i++) {
        const float beta = space->beta[i];
        float *restrict values = space->values + (int64_t)i * task->column_row;
        const float *restrict read = space->read + (int64_t)(n + i) * task->column_row;
        float *restrict scores = space->scores + (n + i) * LINEAR_CHUNK;
        for (int c = 0; c < task->worked; c++) values[c] = beta * (values[c] - read[c]);
        for (int j = 0; j < i; j++) scores[j] *= beta;
    }
    cblas_strsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasUnit, n, task->worked, 1,
                space->scores + n * LINEAR_CHUNK, LINEAR_CHUNK, space->values, task->column_row);
}

/* Denominators get their epsilon; Taylor's is added to every feature of the sum of keys but the first, which counts
 * them. */
static void denominators_secure(const linear_task *task, int n)
{
    const float epsilon = (float)task->variant->epsilon;
    if (epsilon == 0) return;
    for (int i = 0; i < n; i++) {
        const float *a = task->space.rows + (int64_t)i * task->row;
        float sum = 0;
        if (task->variant->map != LINEAR_MAP_TAYLOR) sum = 1;
        else
            for (int f = 1; f < task->features; f++) sum += a[f];
        task->space.read[(int64_t)i * task->column_row + task->columns - 1] += epsilon * sum;
    }
}

/* `count` outputs of a row: 0 where the denominator is. */
static void row_divide(float *restrict row, int count, float denominator)
{
    for (int c = 0; c < count; c++) row[c] = denominator == 0 ? 0 : row[c] / denominator;
}

/* Rows of space.read as outputs of tokens [token, token + n): finished into out, or else as they are into partial. */
static void outputs_write(const linear_task *task, int64_t token, int n, void *out, float *partial)
{
    const linear_call *call = task->call;
    const linear_shape *shape = &call->shape;
    const int count = task->columns - task->variant->normalised;
    const int partial_width = linear_partial_width(shape), width = linear_width(shape);
    for (int i = 0; i < n; i++) {
        float *read = task->space.read + (int64_t)i * task->column_row;
        const int64_t row = (task->unit.batch * call->tokens + token + i) * shape->heads + task->unit.head;
        if (out) {
            if (task->variant->normalised) row_divide(read, count, read[count]);
            const size_t at = (size_t)(row * shape->value_dim + task->unit.first_column);
            number_narrow(call->out_type, read, (char *)out + at * number_size(call->out_type), count);
            continue;
        }
        float *to = partial + row * partial_width;
        memcpy(to + task->unit.first_column, read, (size_t)task->columns * sizeof *to);
        if (transition_is_matrix(task)) memcpy(to + width, read + task->columns, (size_t)task->features * sizeof *to);
    }
}

/* b, w and decays of tokens [token, token + n), and a if it is wanted. Whether all that was given is finite, or -inf
 * where it may be: of a in any case, so that the state does not depend on who wants what. */
static bool chunk_prepare(linear_task *task, int64_t token, int n, bool reads)
{
    bool finite = keys_prepare(task, token, n);
    finite = values_prepare(task, token, n) && finite;
    if (reads) finite = queries_prepare(task, token, n, false) && finite;
    else finite = rows_raw(task, false, token, n, task->space.q, task->space.rows) && finite;
    for (int f = 0; f < task->row && decays_are_of_features(task); f++) task->space.totals[f] = 0;
    if (decays_are_of_features(task)) return vectors_prepare(task, token, n) && finite;
    if (task->variant->decay != LINEAR_DECAY_NONE) return weights_prepare(task, token, n) && finite;
    return finite;
}

/* Tokens [token, token + n) of one piece and one chunk of the grid. Beside a number that is not finite a product would
 * be with zeros, and a token see those after it: then the tokens are chunks of one. */
static void chunk_fold(linear_task *task, int64_t token, int n, void *out, float *partial)
{
    const linear_space *space = &task->space;
    const bool reads = out || partial;
    if (!chunk_prepare(task, token, n, reads) && n > 1) {
        for (int i = 0; i < n; i++) chunk_fold(task, token + i, 1, out, partial);
        return;
    }
    const int first_form = reads ? 0 : 1, forms = task->variant->erases ? 2 : 1;
    if (decays_are_of_features(task)) vector_scores(task, first_form, n);
    else plain_scores(task, first_form, n);
    for (int form = first_form; form < forms; form++) state_read(task, form, n);
    if (task->variant->erases) values_solve(task, n);
    if (reads) {
        product(n, task->worked, n, (product_factor){space->scores, LINEAR_CHUNK},
                (product_factor){space->values, task->column_row}, true, true, space->read, task->column_row);
        denominators_secure(task, n);
        outputs_write(task, token, n, out, partial);
    }
    state_update(task, n);
}

#endif
