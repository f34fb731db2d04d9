/* What a thread of the linear kernels works with: the unit, and its share of linear_call.workspace. Every array starts
 * on 64 bytes, rows are padded to whole vectors of any ISA. C is LINEAR_CHUNK, n <= C the tokens of a chunk. */
#ifndef KERNELS_LINEAR_WORKSPACE_H
#define KERNELS_LINEAR_WORKSPACE_H

#include "kernels/linear.h"
#include "kernels/workspace.h"

enum {
    LINEAR_SUB_BLOCK = 16,
    LINEAR_KEY_ROW = LINEAR_CHUNK + LINEAR_SUB_BLOCK, /* of an array with the tokens along its rows; the sub-block
                                                         before a row is read and not used */
};

typedef struct {
    int64_t batch;
    int head, first_column, columns;
} linear_unit;

linear_unit linear_unit_find(const linear_shape *shape, int64_t unit);
int linear_columns_most(const linear_shape *shape);
double *linear_transition(const linear_shape *shape, const linear_unit *unit, double *state);

typedef struct {
    float *q, *k;          /* [C][D]: rows as they are before their features, of maps other than none */
    float *rows;           /* [2n][F]: a, then b */
    float *decayed;        /* [2n][F]: the same, decayed from the beginning of their sub-block; of vector decays */
    float *log_decay;      /* [C][F]: g log2(e); of vector decays */
    float *keys;           /* [F][key row]: b; scores are taken against these */
    float *state_keys;     /* [F][key row]: b of based, of which `keys` has x; else the same as keys */
    float *late_keys;      /* [F][key row]: b decayed to the end of the chunk; of vector decays. x of favor */
    float *queries;        /* [F][key row]: a; of vector decays */
    float *alpha;          /* [F][key row]: e^g; of vector decays */
    float *scores;         /* [2C][C]: P, then L of the delta rule */
    float *values;         /* [C][columns]: w, then w' */
    float *read;           /* [2n][columns]: what a, then b read of the state; then o */
    float *state, *change; /* [F][columns]: S in floats; what the chunk adds */
    double *sums, *totals; /* [F]: log2-decays, summed over a sub-block, and from where the state was */
    float *factors;        /* [F]: 2 to the power of such sums */
    double *weights;       /* [C][C]: decays between tokens; of scalar decays */
    double *from_start;    /* [C]: decays from the chunk's beginning */
    double *middle;        /* a state */
    float *beta;           /* [C] */
} linear_space;

/* Columns of state and values while a unit is worked on: under the delta rule its transition's too. */
static inline int linear_columns_worked(const linear_shape *shape, int columns)
{
    return columns + (shape->variant->erases && shape->summarises ? shape->dim : 0);
}

static inline void *linear_space_take(char *base, size_t *at, size_t count, size_t size)
{
    void *array = base ? base + *at : NULL;
    *at += rounded_up(count * size, 64);
    return array;
}

/* Rows with the tokens along them, behind a sub-block. */
static inline float *linear_space_take_keys(char *base, size_t *at, size_t rows)
{
    float *array = linear_space_take(base, at, LINEAR_SUB_BLOCK + rows * LINEAR_KEY_ROW, sizeof(float));
    return array ? array + LINEAR_SUB_BLOCK : NULL;
}

/* Lays out a share that begins at base; its bytes. NULL: only those. */
static inline size_t linear_space_place(const linear_shape *shape, char *base, linear_space *space)
{
    const size_t chunk = LINEAR_CHUNK, dim = rounded_up((size_t)shape->dim, 16);
    const size_t features = rounded_up((size_t)linear_feature_dim(shape), 16);
    const size_t columns = odd_lines((size_t)linear_columns_worked(shape, linear_columns_most(shape)));
    const bool of_features = shape->variant->decay == LINEAR_DECAY_FEATURE;
    const size_t vectors = of_features ? features : 0, erased = shape->variant->erases ? 2 : 1;
    const bool expanded = shape->variant->map == LINEAR_MAP_BASED;
    size_t at = 0;
    space->q = linear_space_take(base, &at, chunk * dim, sizeof(float));
    space->k = linear_space_take(base, &at, chunk * dim, sizeof(float));
    space->rows = linear_space_take(base, &at, 2 * chunk * features, sizeof(float));
    space->decayed = linear_space_take(base, &at, 2 * chunk * vectors, sizeof(float));
    space->log_decay = linear_space_take(base, &at, chunk * vectors, sizeof(float));
    space->keys = linear_space_take_keys(base, &at, expanded ? dim : features);
    space->state_keys = expanded ? linear_space_take_keys(base, &at, features) : space->keys;
    space->late_keys = linear_space_take_keys(base, &at, shape->variant->map == LINEAR_MAP_FAVOR ? dim : vectors);
    space->queries = linear_space_take_keys(base, &at, vectors);
    space->alpha = linear_space_take_keys(base, &at, vectors);
    space->scores = linear_space_take(base, &at, erased * chunk * chunk, sizeof(float));
    space->values = linear_space_take(base, &at, chunk * columns, sizeof(float));
    space->read = linear_space_take(base, &at, erased * chunk * columns, sizeof(float));
    space->state = linear_space_take(base, &at, features * columns, sizeof(float));
    space->change = linear_space_take(base, &at, features * columns, sizeof(float));
    space->sums = linear_space_take(base, &at, features, sizeof(double));
    space->totals = linear_space_take(base, &at, features, sizeof(double));
    space->factors = linear_space_take(base, &at, features, sizeof(float));
    space->weights = linear_space_take(base, &at, chunk * chunk, sizeof(double));
    space->from_start = linear_space_take(base, &at, chunk, sizeof(double));
    space->middle = linear_space_take(base, &at, linear_state_size(shape), sizeof(double));
    space->beta = linear_space_take(base, &at, chunk, sizeof(float));
    return at;
}

#endif
