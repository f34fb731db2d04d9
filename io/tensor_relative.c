/* Relative keys and their biases, which go with q, k and v. */
#include "io/hdf5_support.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char keys_name[] = "/relative_keys", u_name[] = "/relative_bias_u", w_name[] = "/relative_bias_w";

static int check_type(const tensor_file *file, const char *name, hid_t dataset, io_error *error)
{
    char what[64];
    io_type recognised;
    hid_t memory = H5I_INVALID_HID;
    if (tensor_type_recognise(dataset, &recognised, &memory) == 0) {
        H5Tclose(memory);
        if (recognised == IO_FLOAT32) return 0;
    }
    hid_t type = H5Dget_type(dataset);
    tensor_type_describe(type, what, sizeof what);
    H5Tclose(type);
    return io_fail(error, "%s: %s is %s; float32 is needed", file->path, name, what);
}

static int check_finite(const tensor_file *file, const char *name, const float *values, int64_t count, io_error *error)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return io_fail(error, "%s: value %" PRId64 " of %s is %g; finite values are needed", file->path, i, name,
                           (double)values[i]);
    return 0;
}

/* An open dataset [rows, H, D], or without `rows_p` [H, D]. */
static int read_open(const tensor_file *file, const char *name, hid_t dataset, const tensor_shape *q, float **values_p,
                     int64_t *rows_p, io_error *error)
{
    const int axes = rows_p ? 3 : 2;
    const hsize_t start[TENSOR_MOST_AXES] = {0};
    hsize_t extents[TENSOR_MOST_AXES];
    char found[256];
    int64_t bytes;
    int rank;
    if (check_type(file, name, dataset, error) != 0 ||
        tensor_dataset_extents(file, name, dataset, &rank, extents, error) != 0)
        return -1;
    if (rank != axes || extents[axes - 2] != (hsize_t)q->heads || extents[axes - 1] != (hsize_t)q->dim) {
        tensor_dataset_describe(dataset, found, sizeof found);
        return io_fail(error, "%s: %s is %s; [%s%d, %d] is needed, for the %d heads of %d of /q", file->path, name,
                       found, rows_p ? "LEFT + RIGHT + 1, " : "", q->heads, q->dim, q->heads, q->dim);
    }
    if (tensor_dataset_check(file, name, dataset, rank, extents, error) != 0) return -1;
    float *values = tensor_dataset_bytes(rank, extents, sizeof *values, &bytes) ? malloc((size_t)bytes) : NULL;
    if (!values) return io_fail(error, "%s: not enough memory for %s", file->path, name);
    if (tensor_dataset_read(file, name, dataset, H5T_NATIVE_FLOAT, rank, start, extents, values, error) != 0 ||
        check_finite(file, name, values, bytes / (int64_t)sizeof *values, error) != 0) {
        free(values);
        return -1;
    }
    *values_p = values;
    if (rows_p) *rows_p = (int64_t)extents[0];
    return 0;
}

static int read_dataset(const tensor_file *file, const char *name, const tensor_shape *q, float **values_p,
                        int64_t *rows_p, io_error *error)
{
    hid_t dataset;
    if (!tensor_file_has(file, name)) return 0;
    if (tensor_dataset_open(file, name, &dataset, error) != 0) return -1;
    const int result = read_open(file, name, dataset, q, values_p, rows_p, error);
    H5Dclose(dataset);
    return result;
}

int tensor_file_relative(const tensor_file *file, const attention_shapes *shapes, relative_extras *relative_p,
                         io_error *error)
{
    relative_extras relative = {0};
    *relative_p = relative;
    const bool has_u = tensor_file_has(file, u_name), has_w = tensor_file_has(file, w_name);
    if (has_u != has_w)
        return io_fail(error, "%s: %s and %s go together, but one is missing", file->path, u_name, w_name);
    if (has_u && !tensor_file_has(file, keys_name))
        return io_fail(error, "%s: %s and %s have no meaning without %s", file->path, u_name, w_name, keys_name);
    if (read_dataset(file, keys_name, &shapes->q, &relative.keys, &relative.count, error) != 0 ||
        read_dataset(file, u_name, &shapes->q, &relative.bias_u, NULL, error) != 0 ||
        read_dataset(file, w_name, &shapes->q, &relative.bias_w, NULL, error) != 0) {
        relative_extras_free(&relative);
        return -1;
    }
    *relative_p = relative;
    return 0;
}

void relative_extras_free(relative_extras *relative)
{
    free(relative->keys);
    free(relative->bias_u);
    free(relative->bias_w);
    *relative = (relative_extras){0};
}
