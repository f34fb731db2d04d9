/* Datasets of one axis that go with q, k and v: packed documents, lengths of the keys, values of a head. */
#include "io/hdf5_support.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* What a dataset must be. */
typedef struct {
    const char *name;
    bool integers; /* of any integer type, read as int64; else float32 */
    int64_t least; /* values, and at most as many as `most` */
    int64_t most;
    int heads;        /* H, where there may be an axis of heads before it; else 0 */
    char extent[128]; /* the same in words: "two offsets at least" */
} vector_wanted;

static int check_type(const tensor_file *file, const vector_wanted *wanted, hid_t dataset, io_error *error)
{
    hid_t type = H5Dget_type(dataset);
    const H5T_class_t class = H5Tget_class(type);
    const bool float32 = class == H5T_FLOAT && H5Tget_size(type) == sizeof(float);
    char what[64];
    tensor_type_describe(type, what, sizeof what);
    H5Tclose(type);
    if (wanted->integers && class != H5T_INTEGER)
        return io_fail(error, "%s: %s is not of an integer type", file->path, wanted->name);
    if (!wanted->integers && !float32)
        return io_fail(error, "%s: %s is %s; float32 is needed", file->path, wanted->name, what);
    return 0;
}

static int read_values(const tensor_file *file, const vector_wanted *wanted, hid_t dataset, void **values_p,
                       int64_t *count_p, io_error *error)
{
    const size_t size = wanted->integers ? sizeof(int64_t) : sizeof(float);
    const hid_t memory = wanted->integers ? H5T_NATIVE_INT64 : H5T_NATIVE_FLOAT;
    const hsize_t start[TENSOR_MOST_AXES] = {0};
    hsize_t extents[TENSOR_MOST_AXES];
    int64_t bytes;
    int rank;
    if (check_type(file, wanted, dataset, error) != 0 ||
        tensor_dataset_extents(file, wanted->name, dataset, &rank, extents, error) != 0)
        return -1;
    const bool of_heads = wanted->heads > 0 && rank == 2 && extents[0] == (hsize_t)wanted->heads;
    const hsize_t along = rank > 0 ? extents[rank - 1] : 0;
    if ((rank != 1 && !of_heads) || along < (hsize_t)wanted->least || along > (hsize_t)wanted->most)
        return io_fail(error, "%s: %s needs one axis with %s%s", file->path, wanted->name, wanted->extent,
                       wanted->heads > 0 ? ", or the heads of /q before it" : "");
    if (tensor_dataset_check(file, wanted->name, dataset, rank, extents, error) != 0) return -1;
    void *values = tensor_dataset_bytes(rank, extents, size, &bytes) ? malloc((size_t)bytes) : NULL;
    if (!values)
        return io_fail(error, "%s: not enough memory for the %" PRIu64 " values of %s", file->path, (uint64_t)along,
                       wanted->name);
    if (tensor_dataset_read(file, wanted->name, dataset, memory, rank, start, extents, values, error) != 0) {
        free(values);
        return -1;
    }
    *values_p = values;
    *count_p = bytes / (int64_t)size;
    return 0;
}

/* *values_p is malloc'ed; NULL and 0 when the dataset is absent or wrong. */
static int read_vector(const tensor_file *file, const vector_wanted *wanted, void **values_p, int64_t *count_p,
                       io_error *error)
{
    hid_t dataset;
    *values_p = NULL;
    *count_p = 0;
    if (!tensor_file_has(file, wanted->name)) return 0;
    if (tensor_dataset_open(file, wanted->name, &dataset, error) != 0) return -1;
    const int result = read_values(file, wanted, dataset, values_p, count_p, error);
    H5Dclose(dataset);
    return result;
}

static int check_documents(const tensor_file *file, const int64_t *offsets, int64_t count, int64_t tokens,
                           io_error *error)
{
    if (offsets[0] != 0)
        return io_fail(error, "%s: /documents begins with %" PRId64 "; 0 is needed", file->path, offsets[0]);
    for (int64_t i = 0; i < count; i++) {
        if (offsets[i + 1] < offsets[i])
            return io_fail(error, "%s: /documents descends from %" PRId64 " to %" PRId64 " at entry %" PRId64,
                           file->path, offsets[i], offsets[i + 1], i + 1);
    }
    if (offsets[count] != tokens)
        return io_fail(error, "%s: /documents ends with %" PRId64 "; the %" PRId64 " tokens are needed", file->path,
                       offsets[count], tokens);
    return 0;
}

int tensor_file_documents(const tensor_file *file, int64_t tokens, int64_t **offsets_p, int64_t *count_p,
                          io_error *error)
{
    vector_wanted wanted = {.name = "/documents", .integers = true, .least = 2, .most = INT64_MAX};
    snprintf(wanted.extent, sizeof wanted.extent, "at least two offsets, 0 and %" PRId64, tokens);
    void *values;
    int64_t count;
    *offsets_p = NULL;
    *count_p = 0;
    if (read_vector(file, &wanted, &values, &count, error) != 0) return -1;
    if (values && check_documents(file, values, count - 1, tokens, error) != 0) {
        free(values);
        return -1;
    }
    *offsets_p = values;
    *count_p = values ? count - 1 : 0;
    return 0;
}

int tensor_file_key_lengths(const tensor_file *file, int64_t batch, int64_t keys, int64_t **lengths_p, io_error *error)
{
    vector_wanted wanted = {.name = "/key_lengths", .integers = true, .least = batch, .most = batch};
    snprintf(wanted.extent, sizeof wanted.extent, "a length for each of the %" PRId64 " batch items", batch);
    void *values;
    int64_t count;
    *lengths_p = NULL;
    if (read_vector(file, &wanted, &values, &count, error) != 0) return -1;
    const int64_t *lengths = values;
    for (int64_t b = 0; b < count; b++) {
        if (lengths[b] >= 0 && lengths[b] <= keys) continue;
        io_fail(error, "%s: /key_lengths[%" PRId64 "] is %" PRId64 ", not from 0 to the %" PRId64 " keys", file->path,
                b, lengths[b], keys);
        free(values);
        return -1;
    }
    *lengths_p = values;
    return 0;
}

static int check_blocks(const tensor_file *file, const attention_extras *extras, io_error *error)
{
    const int64_t *offsets = extras->block_offsets, *keys = extras->block_keys;
    const int64_t offset_count = extras->block_offset_count, key_count = extras->block_key_count;
    if (offsets[0] != 0 || offsets[offset_count - 1] != key_count)
        return io_fail(error,
                       "%s: /block_offsets goes from %" PRId64 " to %" PRId64 ", not from 0 to the %" PRId64
                       " of /block_keys",
                       file->path, offsets[0], offsets[offset_count - 1], key_count);
    for (int64_t i = 0; i + 1 < offset_count; i++)
        if (offsets[i + 1] < offsets[i])
            return io_fail(error, "%s: /block_offsets descends from %" PRId64 " to %" PRId64 " at entry %" PRId64,
                           file->path, offsets[i], offsets[i + 1], i + 1);
    for (int64_t i = 0; i < key_count; i++)
        if (keys[i] < 0)
            return io_fail(error, "%s: /block_keys[%" PRId64 "] is %" PRId64 ", negative", file->path, i, keys[i]);
    return 0;
}

/* Axes of a dataset that has been read. */
static int count_axes(const tensor_file *file, const char *name, io_error *error)
{
    hsize_t extents[TENSOR_MOST_AXES];
    hid_t dataset;
    int rank = 0;
    if (tensor_dataset_open(file, name, &dataset, error) != 0) return -1;
    const int result = tensor_dataset_extents(file, name, dataset, &rank, extents, error);
    H5Dclose(dataset);
    return result == 0 ? rank : -1;
}

/* Lists of blocks, into extras that have none; those are to be freed also after an error. */
static int read_blocks(const tensor_file *file, int heads, attention_extras *extras, io_error *error)
{
    const vector_wanted offsets_wanted = {.name = "/block_offsets",
                                          .integers = true,
                                          .least = 2,
                                          .most = INT64_MAX,
                                          .heads = heads,
                                          .extent = "two offsets at least"};
    const vector_wanted keys_wanted = {
        .name = "/block_keys", .integers = true, .least = 0, .most = INT64_MAX, .extent = "the numbers of blocks"};
    void *offsets, *keys;
    if (tensor_file_has(file, "/block_offsets") != tensor_file_has(file, "/block_keys"))
        return io_fail(error, "%s: /block_offsets and /block_keys go together, but one is missing", file->path);
    if (read_vector(file, &offsets_wanted, &offsets, &extras->block_offset_count, error) != 0) return -1;
    if (!offsets) return 0;
    extras->block_offsets = offsets;
    if (read_vector(file, &keys_wanted, &keys, &extras->block_key_count, error) != 0) return -1;
    extras->block_keys = keys;
    const int axes = count_axes(file, "/block_offsets", error);
    if (axes < 0) return -1;
    extras->block_lists = axes == 2 ? heads : 1;
    return check_blocks(file, extras, error);
}

int tensor_file_head_values(const tensor_file *file, const char *dataset, int heads, bool may_be_none, float **values_p,
                            io_error *error)
{
    vector_wanted wanted = {.name = dataset, .least = heads, .most = heads};
    snprintf(wanted.extent, sizeof wanted.extent, "a value for each of the %d heads of /q", heads);
    void *values;
    int64_t count;
    *values_p = NULL;
    if (read_vector(file, &wanted, &values, &count, error) != 0) return -1;
    const float *numbers = values;
    for (int64_t h = 0; h < count; h++) {
        if (isfinite(numbers[h]) || (may_be_none && numbers[h] == -INFINITY)) continue;
        io_fail(error, "%s: %s[%" PRId64 "] is %g; finite values are needed%s", file->path, dataset, h,
                (double)numbers[h], may_be_none ? ", or -inf for none" : "");
        free(values);
        return -1;
    }
    *values_p = values;
    return 0;
}

int tensor_file_extras(const tensor_file *file, const attention_shapes *shapes, attention_extras *extras_p,
                       io_error *error)
{
    attention_extras extras = {0};
    *extras_p = extras;
    if (tensor_file_documents(file, shapes->q.tokens, &extras.documents, &extras.document_count, error) != 0 ||
        tensor_file_key_lengths(file, shapes->q.batch, shapes->k.tokens, &extras.key_lengths, error) != 0 ||
        tensor_file_head_values(file, "/alibi_slopes", shapes->q.heads, false, &extras.alibi_slopes, error) != 0 ||
        tensor_file_head_values(file, "/sinks", shapes->q.heads, true, &extras.sinks, error) != 0 ||
        read_blocks(file, shapes->q.heads, &extras, error) != 0 ||
        tensor_file_relative(file, shapes, &extras.relative, error) != 0) {
        attention_extras_free(&extras);
        return -1;
    }
    *extras_p = extras;
    return 0;
}

void attention_extras_free(attention_extras *extras)
{
    free(extras->documents);
    free(extras->key_lengths);
    free(extras->alibi_slopes);
    free(extras->sinks);
    free(extras->block_offsets);
    free(extras->block_keys);
    relative_extras_free(&extras->relative);
    *extras = (attention_extras){0};
}
