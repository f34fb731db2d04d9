#include "io/tensor_linear.h"

#include "io/hdf5_support.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DIM = 512 };

static const char *const names[LINEAR_DATASETS] = {
    [LINEAR_LOG_DECAY] = "/log_decay",
    [LINEAR_BETA] = "/beta",
    [LINEAR_BONUS] = "/bonus",
    [LINEAR_FEATURES] = "/features",
};
static const char state_name[] = "/state", reference_name[] = "/state_reference";

const char *linear_dataset_name(linear_dataset dataset)
{
    return names[dataset];
}

static int larger(int a, int b)
{
    return a > b ? a : b;
}

int linear_heads(const attention_shapes *shapes)
{
    return larger(shapes->q.heads, larger(shapes->k.heads, shapes->v.heads));
}

int tensor_file_linear(const tensor_file *file, attention_shapes *shapes_p, io_error *error)
{
    attention_shapes s;
    if (tensor_file_tensors(file, &s, error) != 0) return -1;
    const char *path = file->path;
    if (s.q.tokens != s.k.tokens)
        return io_fail(error,
                       "%s: /q has %" PRId64 " tokens, /k and /v have %" PRId64 "; linear attention needs as many",
                       path, s.q.tokens, s.k.tokens);
    const int heads = linear_heads(&s);
    if (heads % s.q.heads != 0 || heads % s.k.heads != 0 || heads % s.v.heads != 0)
        return io_fail(error, "%s: /q, /k and /v have %d, %d and %d heads; each must divide the largest", path,
                       s.q.heads, s.k.heads, s.v.heads);
    *shapes_p = s;
    return 0;
}

/* A dataset of one type and shape. */
typedef struct {
    const char *name, *attention;
    size_t size; /* of a value: float32 or float64 */
    int rank;
    hsize_t extents[TENSOR_MOST_AXES]; /* 0: any from 1 to `most` */
    hsize_t most;
    const char *meaning; /* of the extents: "a value for each token and head" */
} exactly;

static const char *float_name(size_t size)
{
    return size == sizeof(float) ? "float32" : "float64";
}

static hid_t memory_type(size_t size)
{
    return size == sizeof(float) ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE;
}

/* "float32 [64, 4], a value for each token and head" */
static void describe_wanted(const exactly *w, char *text, size_t size)
{
    size_t length = (size_t)snprintf(text, size, "%s [", float_name(w->size));
    for (int i = 0; i < w->rank && length < size; i++) {
        const char *comma = i ? ", " : "";
        if (w->extents[i])
            length += (size_t)snprintf(text + length, size - length, "%s%" PRIu64, comma, (uint64_t)w->extents[i]);
        else length += (size_t)snprintf(text + length, size - length, "%s1 to %" PRIu64, comma, (uint64_t)w->most);
    }
    if (length < size) snprintf(text + length, size - length, "], %s", w->meaning);
}

static bool has_type(hid_t dataset, size_t size)
{
    hid_t type = H5Dget_type(dataset), memory = H5I_INVALID_HID;
    const bool float64 = H5Tget_class(type) == H5T_FLOAT && H5Tget_size(type) == sizeof(double);
    H5Tclose(type);
    if (size == sizeof(double)) return float64;
    io_type recognised;
    if (tensor_type_recognise(dataset, &recognised, &memory) != 0) return false;
    H5Tclose(memory);
    return recognised == IO_FLOAT32;
}

static bool has_extents(const exactly *w, int rank, const hsize_t *extents)
{
    if (rank != w->rank) return false;
    for (int i = 0; i < rank; i++) {
        if (w->extents[i] ? extents[i] != w->extents[i] : extents[i] > w->most) return false;
    }
    return true;
}

/* Sets *extents_p to the dataset's, at most TENSOR_MOST_AXES of them. */
static int check_dataset(const tensor_file *file, const exactly *w, hid_t dataset, hsize_t *extents, io_error *error)
{
    char wanted[256], found[256], type_text[64];
    int rank;
    if (tensor_dataset_extents(file, w->name, dataset, &rank, extents, error) != 0) return -1;
    if (has_type(dataset, w->size) && has_extents(w, rank, extents))
        return tensor_dataset_check(file, w->name, dataset, rank, extents, error);
    hid_t type = H5Dget_type(dataset);
    tensor_type_describe(type, type_text, sizeof type_text);
    H5Tclose(type);
    tensor_dataset_describe(dataset, found, sizeof found);
    describe_wanted(w, wanted, sizeof wanted);
    return io_fail(error, "%s: %s is %s %s; --attention %s needs %s", file->path, w->name, type_text, found,
                   w->attention, wanted);
}

static int open_dataset(const tensor_file *file, const exactly *w, hid_t *dataset_p, hsize_t *extents, io_error *error)
{
    char wanted[256];
    if (!tensor_file_has(file, w->name)) {
        describe_wanted(w, wanted, sizeof wanted);
        return io_fail(error, "%s: there is no dataset %s; --attention %s needs it: %s", file->path, w->name,
                       w->attention, wanted);
    }
    hid_t dataset = H5I_INVALID_HID;
    if (tensor_dataset_open(file, w->name, &dataset, error) != 0) return -1;
    if (check_dataset(file, w, dataset, extents, error) != 0) {
        H5Dclose(dataset);
        return -1;
    }
    *dataset_p = dataset;
    return 0;
}

static int check_only(const tensor_file *file, const exactly *w, io_error *error)
{
    hid_t dataset = H5I_INVALID_HID;
    hsize_t extents[TENSOR_MOST_AXES] = {0};
    if (open_dataset(file, w, &dataset, extents, error) != 0) return -1;
    H5Dclose(dataset);
    return 0;
}

/* The whole of it into `target`, which has the extents that are wanted. */
static int read_into(const tensor_file *file, const exactly *w, void *target, io_error *error)
{
    static const hsize_t start[TENSOR_MOST_AXES];
    hid_t dataset = H5I_INVALID_HID;
    hsize_t extents[TENSOR_MOST_AXES] = {0};
    if (open_dataset(file, w, &dataset, extents, error) != 0) return -1;
    const int result =
        tensor_dataset_read(file, w->name, dataset, memory_type(w->size), w->rank, start, extents, target, error);
    H5Dclose(dataset);
    return result;
}

/* float32 values, finite, or -inf where that `may_be`; malloc'ed, with the extents that they turn out to have. */
static int read_values(const tensor_file *file, const exactly *w, bool infinity_may_be, float **values_p,
                       hsize_t *extents, io_error *error)
{
    static const hsize_t start[TENSOR_MOST_AXES];
    hid_t dataset = H5I_INVALID_HID;
    int64_t bytes;
    if (open_dataset(file, w, &dataset, extents, error) != 0) return -1;
    float *values = tensor_dataset_bytes(w->rank, extents, sizeof *values, &bytes) ? malloc((size_t)bytes) : NULL;
    int result =
        values ? tensor_dataset_read(file, w->name, dataset, H5T_NATIVE_FLOAT, w->rank, start, extents, values, error)
               : io_fail(error, "%s: not enough memory for the values of %s", file->path, w->name);
    H5Dclose(dataset);
    const int64_t count = result == 0 ? bytes / (int64_t)sizeof *values : 0;
    for (int64_t i = 0; i < count && result == 0; i++) {
        if (isfinite(values[i]) || (infinity_may_be && values[i] == -INFINITY)) continue;
        result = io_fail(error, "%s: value %" PRId64 " of %s is %g; finite values are needed%s", file->path, i, w->name,
                         (double)values[i], infinity_may_be ? ", or -inf" : "");
    }
    if (result != 0) free(values);
    else *values_p = values;
    return result;
}

/* A dataset with a row a token: [N, H], or [N, H, D] where dim is not 0. */
static int check_rows(const tensor_file *file, const attention_shapes *shapes, const linear_wanted *wanted,
                      linear_dataset dataset, int dim, tensor_shape *shape_p, io_error *error)
{
    const tensor_shape shape = {.batched = shapes->q.batched,
                                .batch = shapes->q.batch,
                                .tokens = shapes->q.tokens,
                                .heads = linear_heads(shapes),
                                .dim = dim};
    exactly w = {.name = names[dataset],
                 .attention = wanted->attention,
                 .size = sizeof(float),
                 .meaning =
                     dim ? "a value for each token, head and element of a key" : "a value for each token and head"};
    if (shape.batched) w.extents[w.rank++] = (hsize_t)shape.batch;
    w.extents[w.rank++] = (hsize_t)shape.tokens;
    w.extents[w.rank++] = (hsize_t)shape.heads;
    if (dim) w.extents[w.rank++] = (hsize_t)dim;
    if (check_only(file, &w, error) != 0) return -1;
    *shape_p = shape;
    return 0;
}

static int read_log_decay(const tensor_file *file, const attention_shapes *shapes, const linear_wanted *wanted,
                          linear_extras *e, io_error *error)
{
    hsize_t extents[TENSOR_MOST_AXES] = {0};
    const exactly heads = {.name = names[LINEAR_LOG_DECAY],
                           .attention = wanted->attention,
                           .size = sizeof(float),
                           .rank = 1,
                           .extents = {(hsize_t)linear_heads(shapes)},
                           .meaning = "a value for each head"};
    if (wanted->log_decay_axes == 1) return read_values(file, &heads, true, &e->head_log_decay, extents, error);
    return check_rows(file, shapes, wanted, LINEAR_LOG_DECAY, wanted->log_decay_axes == 3 ? shapes->q.dim : 0,
                      &e->log_decay, error);
}

static int read_bonus(const tensor_file *file, const attention_shapes *shapes, const linear_wanted *wanted,
                      linear_extras *e, io_error *error)
{
    hsize_t extents[TENSOR_MOST_AXES] = {0};
    const exactly w = {.name = names[LINEAR_BONUS],
                       .attention = wanted->attention,
                       .size = sizeof(float),
                       .rank = 2,
                       .extents = {(hsize_t)linear_heads(shapes), (hsize_t)shapes->q.dim},
                       .meaning = "a value for each head and element of a key"};
    return read_values(file, &w, false, &e->bonus, extents, error);
}

static int read_features(const tensor_file *file, const attention_shapes *shapes, const linear_wanted *wanted,
                         linear_extras *e, io_error *error)
{
    hsize_t extents[TENSOR_MOST_AXES] = {0};
    const exactly w = {.name = names[LINEAR_FEATURES],
                       .attention = wanted->attention,
                       .size = sizeof(float),
                       .rank = 2,
                       .extents = {0, (hsize_t)shapes->q.dim},
                       .most = (hsize_t)wanted->most_features,
                       .meaning = "rows that q and k are projected on"};
    if (read_values(file, &w, false, &e->features, extents, error) != 0) return -1;
    e->feature_count = (int)extents[0];
    return 0;
}

static int read_extras(const tensor_file *file, const attention_shapes *shapes, const linear_wanted *wanted,
                       linear_extras *e, io_error *error)
{
    if (wanted->needs[LINEAR_LOG_DECAY] && read_log_decay(file, shapes, wanted, e, error) != 0) return -1;
    if (wanted->needs[LINEAR_BETA] && check_rows(file, shapes, wanted, LINEAR_BETA, 0, &e->beta, error) != 0) return -1;
    if (wanted->needs[LINEAR_BONUS] && read_bonus(file, shapes, wanted, e, error) != 0) return -1;
    if (wanted->needs[LINEAR_FEATURES] && read_features(file, shapes, wanted, e, error) != 0) return -1;
    return 0;
}

/* What would change the result if it had a meaning here. */
static int refuse_unwanted(const tensor_file *file, const linear_wanted *wanted, io_error *error)
{
    static const char *const of_softmax[] = {"/alibi_slopes",  "/sinks",      "/key_lengths",
                                             "/block_offsets", "/block_keys", "/relative_keys"};
    for (int i = 0; i < LINEAR_DATASETS; i++) {
        if (!wanted->needs[i] && tensor_file_has(file, names[i]))
            return io_fail(error, "%s: %s has no meaning for --attention %s, only for %s", file->path, names[i],
                           wanted->attention, wanted->users[i]);
    }
    for (size_t i = 0; i < sizeof of_softmax / sizeof of_softmax[0]; i++) {
        if (tensor_file_has(file, of_softmax[i]))
            return io_fail(error, "%s: %s has no meaning for --attention %s, only for softmax", file->path,
                           of_softmax[i], wanted->attention);
    }
    return 0;
}

int tensor_file_linear_extras(const tensor_file *file, const attention_shapes *shapes, const linear_wanted *wanted,
                              linear_extras *extras_p, io_error *error)
{
    linear_extras extras = {0};
    *extras_p = extras;
    if (refuse_unwanted(file, wanted, error) != 0 || read_extras(file, shapes, wanted, &extras, error) != 0) {
        linear_extras_free(&extras);
        return -1;
    }
    *extras_p = extras;
    return 0;
}

void linear_extras_free(linear_extras *extras)
{
    free(extras->head_log_decay);
    free(extras->bonus);
    free(extras->features);
    *extras = (linear_extras){0};
}

const char *tensor_file_has_linear(const tensor_file *file)
{
    for (int i = 0; i < LINEAR_DATASETS; i++)
        if (tensor_file_has(file, names[i])) return names[i];
    return NULL;
}

static exactly wanted_sums(const state_shape *shape, const char *attention)
{
    exactly w = {.name = state_name,
                 .attention = attention,
                 .size = sizeof(double),
                 .meaning = "a value for each head, feature and value column"};
    if (shape->batched) w.extents[w.rank++] = (hsize_t)shape->batch;
    w.extents[w.rank++] = (hsize_t)shape->heads;
    w.extents[w.rank++] = (hsize_t)shape->features;
    w.extents[w.rank++] = (hsize_t)shape->width;
    return w;
}

static exactly wanted_reference(const state_shape *shape, const char *attention)
{
    exactly w = {.name = reference_name,
                 .attention = attention,
                 .size = sizeof(double),
                 .meaning = "what the exponents of /state are counted from"};
    if (shape->batched) w.extents[w.rank++] = (hsize_t)shape->batch;
    w.extents[w.rank++] = (hsize_t)shape->heads;
    w.extents[w.rank++] = (hsize_t)shape->reference;
    return w;
}

bool tensor_file_has_state(const tensor_file *file)
{
    return tensor_file_has(file, state_name) || tensor_file_has(file, reference_name);
}

int tensor_file_state_check(const tensor_file *file, const state_shape *shape, const char *attention, io_error *error)
{
    const exactly sums = wanted_sums(shape, attention), reference = wanted_reference(shape, attention);
    if (check_only(file, &sums, error) != 0) return -1;
    if (shape->reference > 0) return check_only(file, &reference, error);
    if (!tensor_file_has(file, reference_name)) return 0;
    return io_fail(error, "%s: %s has no meaning for --attention %s, whose state has no exponents", file->path,
                   reference_name, attention);
}

int tensor_file_state_read(const tensor_file *file, const state_shape *shape, const char *attention, double *sums,
                           double *reference, io_error *error)
{
    const exactly all = wanted_sums(shape, attention), from = wanted_reference(shape, attention);
    if (tensor_file_state_check(file, shape, attention, error) != 0 || read_into(file, &all, sums, error) != 0)
        return -1;
    return shape->reference > 0 ? read_into(file, &from, reference, error) : 0;
}
