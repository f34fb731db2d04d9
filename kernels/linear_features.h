/* Rows of a chunk, from memory to features. Included by linear_chunked.h. Features of rows: space.rows has a of n
 * tokens, then b; space.keys (and state_keys) b with the tokens along its rows. */
#ifndef KERNELS_LINEAR_FEATURES_H
#define KERNELS_LINEAR_FEATURES_H

#include "kernels/attention_peak.h"
#include "kernels/attention_vector.h"
#include "kernels/linear_workspace.h"
#include "kernels/product.h"
#include "kernels/transpose.h"

#include <cblas.h>

/* A unit in work. Rows of features, of x and of columns are `row`, `dim_row` and `column_row` floats apart. */
typedef struct {
    const linear_call *call;
    const linear_variant *variant;
    linear_space space;
    linear_unit unit;
    int features, row, dim_row;
    int columns, worked, column_row; /* of the state; with those of the transition */
    double *state, *transition;      /* transition: NULL where there is none to be kept */
    bool weights_known;              /* decays that are the same for all tokens are computed once */
    double log_total;                /* of scalar decays: sum over the chunk */
} linear_task;

static const float LOG2_E = 1.44269504f;

/* 2^x, to infinity too. */
INLINE vector exp2_any(vector x)
{
    const integers huge = x >= 128;
    return blend(huge, splat(INFINITY), exp2_vector(blend(huge, splat(0), x)));
}

/* Rows of `count` elements from `column` on, of tokens [token, token + n), times `factor`; zeros up to `stride`.
 * Whether all are finite. */
static bool rows_load(const linear_task *task, const void *array, int heads, int width, int64_t token, int n,
                      int column, int count, float factor, float *restrict rows, int stride)
{
    const linear_call *call = task->call;
    const int64_t head = task->unit.head / (call->shape.heads / heads);
    vector zero = splat(0);
    for (int i = 0; i < n; i++) {
        float *row = rows + i * stride;
        const int64_t at = ((task->unit.batch * call->tokens + token + i) * heads + head) * width + column;
        row_widen(call->type, array, at, count, row);
        for (int c = count; c < stride; c++) row[c] = 0;
        for (int c = 0; c < stride; c += LANES) {
            vector *x = (vector *)(row + c);
            *x *= factor;
            zero += *x * 0;
        }
    }
    bool finite = true;
    for (int lane = 0; lane < LANES; lane++) finite = finite && zero[lane] == 0;
    return finite;
}

static double squares(const float *x, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static void elu_row(float *row, int stride)
{
    for (int c = 0; c < stride; c += LANES) {
        vector *x = (vector *)(row + c);
        *x = blend(*x > 0, *x + 1, exp2_vector(blend(*x > 0, splat(0), *x) * LOG2_E));
    }
}

static void taylor_row(const float *x, int dim, float *row)
{
    const double norm = sqrt(squares(x, dim));
    const float factor = norm == 0 ? 0 : (float)(1 / norm);
    row[0] = 1;
    for (int d = 0; d < dim; d++) row[1 + d] = x[d] * factor;
}

static void based_row(const float *x, int dim, float *row)
{
    row[0] = 1;
    for (int d = 0; d < dim; d++) row[1 + d] = x[d];
    for (int d = 0; d < dim; d++) {
        const float factor = x[d] * 0.707106781f;
        float *restrict products = row + 1 + dim + (int64_t)d * dim;
        for (int e = 0; e < dim; e++) products[e] = factor * x[e];
    }
}

/* row = e^(row - largest), which the sum of is returned. */
static float softmax_row(float *row, int count, int stride)
{
    float largest = -INFINITY, sum = 0;
    for (int f = 0; f < count; f++) largest = row[f] > largest ? row[f] : largest;
    for (int f = 0; f < stride; f += LANES) {
        vector *x = (vector *)(row + f);
        *x = exp2_any((*x - largest) * LOG2_E);
    }
    for (int f = 0; f < count; f++) sum += row[f];
    return sum;
}

/* softmax(q) / z, z the sum of e^k of the tokens so far: the state's last column, and the keys b of the chunk unless
 * they are NULL. A feature of z = 0 is left out. */
static void efficient_queries(const linear_task *task, int n, float *rows, const float *keys)
{
    double *z = task->space.sums;
    for (int f = 0; f < task->features; f++) z[f] = task->state[(int64_t)f * task->columns + task->columns - 1];
    for (int i = 0; i < n; i++) {
        float *row = rows + i * task->row;
        const double sum = softmax_row(row, task->features, task->row);
        for (int f = 0; f < task->features; f++) {
            if (keys) z[f] += (double)keys[i * task->row + f];
            row[f] = z[f] == 0 ? 0 : (float)((double)row[f] / (sum * z[f]));
        }
    }
}

/* a = e^(w . x - largest) / sqrt(m) with the largest over the features: it cancels against the denominator, and so does
 * |x|^2 / 2. */
static void favor_queries(const linear_task *task, int n)
{
    const int dim = task->call->shape.dim;
    const float norm = 1 / sqrtf((float)task->features);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, task->features, dim, 1, task->space.q, task->dim_row,
                task->call->features, dim, 0, task->space.rows, task->row);
    for (int i = 0; i < n; i++) {
        float *row = task->space.rows + i * task->row;
        softmax_row(row, task->features, task->row);
        for (int f = 0; f < task->features; f++) row[f] *= norm;
    }
}

/* w . x - |x|^2 / 2 of the n rows x of space.k into space.keys, for all features. */
static void favor_exponents(const linear_task *task, int n)
{
    const int dim = task->call->shape.dim;
    float *x = task->space.late_keys, *halves = task->space.beta;
    transpose(task->space.k, task->dim_row, n, dim, x, LINEAR_KEY_ROW);
    for (int i = 0; i < n; i++) halves[i] = (float)(squares(task->space.k + i * task->dim_row, dim) / 2);
    product(task->features, n, dim, (product_factor){task->call->features, dim}, (product_factor){x, LINEAR_KEY_ROW}, false,
            false, task->space.keys, LINEAR_KEY_ROW);
    for (int f = 0; f < task->features; f++) {
        float *restrict row = task->space.keys + (int64_t)f * LINEAR_KEY_ROW;
        for (int i = 0; i < n; i++) row[i] -= halves[i];
    }
}

static const double *reference_of(const linear_task *task)
{
    const linear_shape *shape = &task->call->shape;
    return task->call->reference + (task->unit.batch * shape->heads + task->unit.head) * linear_reference_dim(shape);
}

static void favor_keys(const linear_task *task, int n)
{
    const float norm = 1 / sqrtf((float)task->features), reference = (float)*reference_of(task);
    favor_exponents(task, n);
    for (int f = 0; f < task->features; f++)
        for (int i = 0; i < LINEAR_CHUNK; i += LANES) {
            vector *x = (vector *)(task->space.keys + (int64_t)f * LINEAR_KEY_ROW + i);
            *x = exp2_any((*x - reference) * LOG2_E) * norm;
        }
}

static void efficient_keys(const linear_task *task, int n, float *rows)
{
    const double *reference = reference_of(task);
    for (int i = 0; i < n; i++) {
        float *row = rows + i * task->row;
        for (int f = 0; f < task->features; f++) row[f] -= (float)reference[f];
        for (int f = 0; f < task->row; f += LANES) {
            vector *x = (vector *)(row + f);
            *x = exp2_any(*x * LOG2_E);
        }
    }
}

/* What q or k is multiplied by before its features: products of two rows get the scale once. */
static float scale_of(const linear_task *task, bool keys)
{
    const linear_map map = task->variant->map;
    if (map == LINEAR_MAP_FAVOR || map == LINEAR_MAP_BASED) return sqrtf(task->call->scale);
    return keys ? 1 : task->call->scale;
}

/* Rows of k or q as they are, into x where their features are another row, else into rows. */
static bool rows_raw(const linear_task *task, bool keys, int64_t token, int n, float *x, float *rows)
{
    const linear_shape *shape = &task->call->shape;
    const linear_map map = task->variant->map;
    const bool apart = map == LINEAR_MAP_TAYLOR || map == LINEAR_MAP_FAVOR || map == LINEAR_MAP_BASED;
    return rows_load(task, keys ? task->call->k : task->call->q, keys ? shape->k_heads : shape->q_heads, shape->dim,
                     token, n, 0, shape->dim, scale_of(task, keys), apart ? x : rows,
                     apart ? task->dim_row : task->row);
}

static void rows_map(const linear_task *task, int n, const float *x, float *rows)
{
    const int dim = task->call->shape.dim;
    for (int i = 0; i < n; i++) {
        float *row = rows + (int64_t)i * task->row;
        if (task->variant->map == LINEAR_MAP_ELU) elu_row(row, task->row);
        if (task->variant->map == LINEAR_MAP_TAYLOR) taylor_row(x + i * task->dim_row, dim, row);
        if (task->variant->map == LINEAR_MAP_BASED) based_row(x + i * task->dim_row, dim, row);
    }
}

/* b of tokens [token, token + n): rows behind those of a, and with the tokens along the rows. */
static bool keys_prepare(const linear_task *task, int64_t token, int n)
{
    const linear_space *space = &task->space;
    float *rows = space->rows + (int64_t)n * task->row;
    const bool finite = rows_raw(task, true, token, n, space->k, rows);
    if (task->variant->map == LINEAR_MAP_FAVOR) {
        favor_keys(task, n);
        return finite;
    }
    rows_map(task, n, space->k, rows);
    if (task->variant->map == LINEAR_MAP_EFFICIENT) efficient_keys(task, n, rows);
    transpose(rows, task->row, n, task->features, space->state_keys, LINEAR_KEY_ROW);
    if (space->state_keys != space->keys)
        transpose(space->k, task->dim_row, n, task->call->shape.dim, space->keys, LINEAR_KEY_ROW);
    return finite;
}

/* a of tokens [token, token + n). Without a causal mask (`all`) the state has all keys; else those of the chunk, which
 * are prepared already, are to come. */
static bool queries_prepare(const linear_task *task, int64_t token, int n, bool all)
{
    const linear_space *space = &task->space;
    const bool finite = rows_raw(task, false, token, n, space->q, space->rows);
    if (task->variant->map == LINEAR_MAP_FAVOR) favor_queries(task, n);
    else rows_map(task, n, space->q, space->rows);
    if (task->variant->map == LINEAR_MAP_EFFICIENT)
        efficient_queries(task, n, space->rows, all ? NULL : space->rows + (int64_t)n * task->row);
    return finite;
}

/* w of tokens [token, token + n): values, a column of ones if normalised, zeros for the transition's columns. */
static bool values_prepare(const linear_task *task, int64_t token, int n)
{
    const linear_call *call = task->call;
    const linear_shape *shape = &call->shape;
    const int count = task->columns - task->variant->normalised;
    const bool finite = rows_load(task, call->v, shape->v_heads, shape->value_dim, token, n, task->unit.first_column,
                                  count, 1, task->space.values, task->column_row);
    bool finite_beta = true;
    for (int i = 0; i < n; i++) {
        if (task->variant->normalised) task->space.values[i * task->column_row + count] = 1;
        if (!task->variant->has_beta) continue;
        task->space.beta[i] =
            call->beta[(task->unit.batch * call->tokens + token + i) * shape->heads + task->unit.head];
        finite_beta = finite_beta && isfinite(task->space.beta[i]);
        float *row = task->space.values + i * task->column_row;
        if (!task->variant->erases)
            for (int c = 0; c < task->columns; c++) row[c] *= task->space.beta[i];
    }
    return finite && finite_beta;
}

#endif
