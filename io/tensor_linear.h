/* What linear attention reads: q, k and v with head counts of their own, the datasets that only some variants have, and
 * the state between two parts of a stream. As tensor_file.h: nothing is trusted, and all is checked before anything is
 * allocated; functions return 0, or -1 with a line in *error. This layer does not know the variants: the caller says
 * what one wants.
 *
 *   /log_decay         float32 [H], [N, H] or [N, H, D]   logarithms of decays
 *   /beta              float32 [N, H]                     how much of a token is written
 *   /bonus             float32 [H, D]                     what a token's own key counts for
 *   /features          float32 [m, D]                     projections, rows
 *   /state             float64 [H, F, W]                  what was seen before token 0; the result has that after N - 1
 *   /state_reference   float64 [H, R]                     what the state's exponents are counted from
 *
 * Those of N and those of a state have B in front where q, k and v have it. */
#ifndef IO_TENSOR_LINEAR_H
#define IO_TENSOR_LINEAR_H

#include "io/tensor_file.h"

typedef enum { LINEAR_LOG_DECAY, LINEAR_BETA, LINEAR_BONUS, LINEAR_FEATURES, LINEAR_DATASETS } linear_dataset;

/* What a variant wants of a file. */
typedef struct {
    const char *attention;            /* its name, for messages */
    bool needs[LINEAR_DATASETS];      /* the others are refused: without them the file would mean something else */
    char users[LINEAR_DATASETS][128]; /* the variants that need it: "delta, kda" */
    int log_decay_axes;               /* 1, 2 or 3, without B */
    int most_features;                /* of m */
} linear_wanted;

const char *linear_dataset_name(linear_dataset dataset); /* "/log_decay" */

/* Shapes of /q, /k and /v: same type, batch, batching and tokens; D equal in q and k; 1 <= D, E <= 512; each head count
 * a divisor of the largest, which is H. */
int tensor_file_linear(const tensor_file *file, attention_shapes *shapes_p, io_error *error);
int linear_heads(const attention_shapes *shapes); /* H */

/* Those that every rank has whole, malloc'ed, and the shapes of those that have a row a token: dim 0 where the dataset
 * ends with the axis of heads, heads 0 where there is none. */
typedef struct {
    tensor_shape log_decay, beta;
    float *head_log_decay; /* [H] */
    float *bonus;          /* [H, D] */
    float *features;       /* [feature_count, D] */
    int feature_count;
} linear_extras;
int tensor_file_linear_extras(const tensor_file *file, const attention_shapes *shapes, const linear_wanted *wanted,
                              linear_extras *extras_p, io_error *error);
void linear_extras_free(linear_extras *extras); /* {0} allowed */

/* Whether the file has a dataset that means something for linear attention only: its name, or NULL. */
const char *tensor_file_has_linear(const tensor_file *file);

typedef struct {
    bool batched;
    int64_t batch;
    int heads, features, width, reference; /* H, F, W, R; R 0: no /state_reference */
} state_shape;
bool tensor_file_has_state(const tensor_file *file);
int tensor_file_state_check(const tensor_file *file, const state_shape *shape, const char *attention, io_error *error);
/* Checks, and reads sums [B, H, F, W] and reference [B, H, R]. */
int tensor_file_state_read(const tensor_file *file, const state_shape *shape, const char *attention, double *sums,
                           double *reference, io_error *error);

#endif
