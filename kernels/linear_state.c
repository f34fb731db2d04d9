/* Sizes of the states of the linear family and their monoid, kernels/linear.h. */
#include "kernels/float_environment.h"
#include "kernels/linear.h"
#include "kernels/linear_workspace.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

enum { UNITS_WANTED = 16, COLUMNS_LEAST = 32, COLUMNS_AT_A_TIME = 16, ERASED_MAX = 512 };

int linear_feature_dim(const linear_shape *shape)
{
    switch (shape->variant->map) {
    case LINEAR_MAP_TAYLOR:
        return 1 + shape->dim;
    case LINEAR_MAP_FAVOR:
        return shape->features;
    case LINEAR_MAP_BASED:
        return 1 + shape->dim + shape->dim * shape->dim;
    case LINEAR_MAP_NONE:
    case LINEAR_MAP_ELU:
    case LINEAR_MAP_EFFICIENT:
        break;
    }
    return shape->dim;
}

int linear_width(const linear_shape *shape)
{
    return shape->value_dim + shape->variant->normalised;
}

/* Columns of every block of a head but the last. A block repeats the work of features and scores, so there are no more
 * blocks than a few threads want; those of a normalised variant would not have the denominator. */
static int block_columns(const linear_shape *shape)
{
    const int width = linear_width(shape);
    if (shape->variant->normalised || (shape->variant->erases && shape->summarises)) return width;
    const int64_t heads = shape->batch * shape->heads;
    const int64_t most = width / COLUMNS_LEAST, wanted = heads > 0 ? (UNITS_WANTED + heads - 1) / heads : 1;
    const int64_t blocks = wanted < most ? wanted : most;
    return blocks <= 1 ? width : (int)rounded_up((size_t)((width + blocks - 1) / blocks), 16);
}

int linear_column_blocks(const linear_shape *shape)
{
    const int columns = block_columns(shape);
    return (linear_width(shape) + columns - 1) / columns;
}

int64_t linear_units(const linear_shape *shape)
{
    return shape->batch * shape->heads * linear_column_blocks(shape);
}

linear_unit linear_unit_find(const linear_shape *shape, int64_t unit)
{
    const int blocks = linear_column_blocks(shape), columns = block_columns(shape), width = linear_width(shape);
    const int first = (int)(unit % blocks) * columns;
    const int64_t head = unit / blocks;
    return (linear_unit){.batch = head / shape->heads,
                         .head = (int)(head % shape->heads),
                         .first_column = first,
                         .columns = width - first < columns ? width - first : columns};
}

int linear_block_columns(const linear_shape *shape, int block, int *first_p)
{
    const linear_unit unit = linear_unit_find(shape, block);
    *first_p = unit.first_column;
    return unit.columns;
}

int linear_columns_most(const linear_shape *shape)
{
    return block_columns(shape);
}

static size_t transition_size(const linear_shape *shape)
{
    const size_t features = (size_t)linear_feature_dim(shape);
    if (!shape->summarises) return 0;
    if (shape->variant->erases) return features * features;
    return shape->variant->decay == LINEAR_DECAY_FEATURE ? features : 1;
}

size_t linear_state_size(const linear_shape *shape)
{
    return (size_t)linear_feature_dim(shape) * (size_t)block_columns(shape) + transition_size(shape);
}

int linear_reference_dim(const linear_shape *shape)
{
    if (shape->variant->map == LINEAR_MAP_FAVOR) return 1;
    return shape->variant->map == LINEAR_MAP_EFFICIENT ? shape->dim : 0;
}

int linear_partial_width(const linear_shape *shape)
{
    return linear_width(shape) + (shape->variant->erases && shape->summarises ? shape->dim : 0);
}

double *linear_transition(const linear_shape *shape, const linear_unit *unit, double *state)
{
    return state + (size_t)linear_feature_dim(shape) * (size_t)unit->columns;
}

void linear_state_clear(const linear_shape *shape, int64_t begin, int64_t end, double *states)
{
    const size_t size = linear_state_size(shape), features = (size_t)linear_feature_dim(shape);
    for (int64_t u = begin; u < end; u++) {
        double *state = states + (size_t)u * size;
        memset(state, 0, size * sizeof *state);
        if (!shape->summarises || !shape->variant->erases) continue;
        const linear_unit unit = linear_unit_find(shape, u);
        double *transition = linear_transition(shape, &unit, state);
        for (size_t f = 0; f < features; f++) transition[f * (features + 1)] = 1;
    }
}

/* into [F, columns] = matrix [F, F] into (+ added, where there is one), some columns at a time: each goes through a
 * copy. */
static void matrix_multiply(int features, int columns, const double *matrix, double *into, const double *added)
{
    double copy[ERASED_MAX * COLUMNS_AT_A_TIME];
    for (int c = 0; c < columns; c += COLUMNS_AT_A_TIME) {
        const int count = columns - c < COLUMNS_AT_A_TIME ? columns - c : COLUMNS_AT_A_TIME;
        const size_t bytes = (size_t)count * sizeof(double);
        for (int f = 0; f < features; f++) {
            memcpy(copy + f * COLUMNS_AT_A_TIME, into + (size_t)f * (size_t)columns + c, bytes);
            if (added) memcpy(into + (size_t)f * (size_t)columns + c, added + (size_t)f * (size_t)columns + c, bytes);
        }
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, features, count, features, 1, matrix, features, copy,
                    COLUMNS_AT_A_TIME, added != NULL, into + c, columns);
    }
}

static void decays_compose(const linear_shape *shape, int features, int columns, double *into, const double *later)
{
    const size_t matrix = (size_t)features * (size_t)columns;
    const bool of_features = shape->variant->decay == LINEAR_DECAY_FEATURE;
    for (int f = 0; f < features; f++) {
        const double factor = exp(later[matrix + (size_t)(of_features ? f : 0)]);
        double *row = into + (size_t)f * (size_t)columns;
        const double *row_later = later + (size_t)f * (size_t)columns;
        /* What is forgotten is so whatever it was, Inf and NaN too. */
        for (int c = 0; c < columns; c++) row[c] = (factor == 0 ? 0 : factor * row[c]) + row_later[c];
    }
    for (size_t i = 0; i < transition_size(shape); i++) into[matrix + i] += later[matrix + i];
}

void linear_state_compose(const linear_shape *shape, int64_t begin, int64_t end, double *into, const double *later)
{
    const size_t size = linear_state_size(shape);
    const int features = linear_feature_dim(shape);
    const float_environment environment = environment_enter();
    for (int64_t u = begin; u < end; u++) {
        const linear_unit unit = linear_unit_find(shape, u);
        const size_t matrix = (size_t)features * (size_t)unit.columns;
        double *to = into + (size_t)u * size;
        const double *from = later + (size_t)u * size;
        if (!shape->variant->erases) {
            decays_compose(shape, features, unit.columns, to, from);
            continue;
        }
        matrix_multiply(features, unit.columns, from + matrix, to, from);
        matrix_multiply(features, features, from + matrix, to + matrix, NULL);
    }
    environment_leave(environment);
}

void linear_state_add(const linear_shape *shape, int64_t begin, int64_t end, double *into, const double *from)
{
    const size_t size = linear_state_size(shape), features = (size_t)linear_feature_dim(shape);
    const float_environment environment = environment_enter();
    for (int64_t u = begin; u < end; u++) {
        const size_t count = features * (size_t)linear_unit_find(shape, u).columns;
        double *to = into + (size_t)u * size;
        for (size_t i = 0; i < count; i++) to[i] += from[(size_t)u * size + i];
    }
    environment_leave(environment);
}
