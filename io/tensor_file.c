#include "io/tensor_file.h"

#include "io/hdf5_support.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_DIM = 512 };

int tensor_file_open(const char *path, tensor_file **file_p, io_error *error)
{
    hdf5_start();
    struct stat status;
    if (stat(path, &status) != 0) return io_fail(error, "%s: cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode)) return io_fail(error, "%s: is a folder, not an HDF5 file", path);
    if (!S_ISREG(status.st_mode)) return io_fail(error, "%s: is not a regular file", path);
    if (status.st_size == 0) return io_fail(error, "%s: is empty, not an HDF5 file", path);

    errno = 0;
    htri_t is_hdf5 = H5Fis_hdf5(path);
    if (is_hdf5 < 0 && errno == EACCES) return io_fail(error, "%s: cannot be read: %s", path, strerror(errno));
    if (is_hdf5 == 0) return io_fail(error, "%s: is not an HDF5 file", path);

    hid_t id = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (id < 0) {
        char reason[256];
        hdf5_reason(reason, sizeof reason);
        if (strstr(reason, "lock file")) {
            return io_fail(error,
                           "%s: cannot be opened: %s; if no program is writing it, its file system cannot lock: set "
                           "HDF5_USE_FILE_LOCKING=FALSE",
                           path, reason);
        }
        if (strstr(reason, "truncated")) {
            return io_fail(error, "%s: is incomplete (%s); copy or write it again", path, reason);
        }
        return io_fail(error, "%s: cannot be opened as HDF5: %s", path, reason);
    }
    tensor_file *file = calloc(1, sizeof *file);
    char *copy = file ? malloc(strlen(path) + 1) : NULL;
    if (!copy) {
        free(file);
        H5Fclose(id);
        return io_fail(error, "%s: not enough memory to open it", path);
    }
    strcpy(copy, path);
    file->id = id;
    file->path = copy;
    *file_p = file;
    return 0;
}

void tensor_file_close(tensor_file **file_p)
{
    if (!*file_p) return;
    H5Fclose((*file_p)->id);
    free((*file_p)->path);
    free(*file_p);
    *file_p = NULL;
}

bool tensor_file_has(const tensor_file *file, const char *dataset)
{
    return H5Lexists(file->id, dataset, H5P_DEFAULT) > 0;
}

static int refuse_type(const tensor_file *file, const char *name, hid_t dataset, io_error *error)
{
    char what[64];
    hid_t type = H5Dget_type(dataset);
    tensor_type_describe(type, what, sizeof what);
    H5T_class_t class = H5Tget_class(type);
    bool could_be_bfloat16 = (class == H5T_OPAQUE || class == H5T_INTEGER) && H5Tget_size(type) == 2;
    H5Tclose(type);
    return io_fail(error, "%s: %s is %s; float32, float16 or bfloat16 is needed%s", file->path, name, what,
                   could_be_bfloat16 ? " (if its values are bfloat16, give it the attribute dtype = \"bfloat16\")"
                                     : "");
}

static int dataset_shape(const tensor_file *file, const char *name, hid_t dataset, tensor_shape *shape_p,
                         io_error *error)
{
    tensor_shape shape = {0};
    hid_t memory;
    if (tensor_type_recognise(dataset, &shape.type, &memory) != 0) return refuse_type(file, name, dataset, error);
    H5Tclose(memory);

    int rank;
    hsize_t extents[TENSOR_MOST_AXES];
    if (tensor_dataset_extents(file, name, dataset, &rank, extents, error) != 0) return -1;
    if (rank != 3 && rank != 4) {
        return io_fail(error, "%s: %s has %d axes; [tokens, heads, dim] or [batch, tokens, heads, dim] is needed",
                       file->path, name, rank);
    }
    if (tensor_dataset_check(file, name, dataset, rank, extents, error) != 0) return -1;
    shape.batched = rank == 4;
    const hsize_t *row = extents + (rank - 3);
    if (row[1] > INT_MAX || row[2] > INT_MAX) {
        return io_fail(error, "%s: the extents of %s are not credible: heads or dim beyond %d", file->path, name,
                       INT_MAX);
    }
    shape.batch = shape.batched ? (int64_t)extents[0] : 1;
    shape.tokens = (int64_t)row[0];
    shape.heads = (int)row[1];
    shape.dim = (int)row[2];
    *shape_p = shape;
    return 0;
}

int tensor_file_shape(const tensor_file *file, const char *dataset, tensor_shape *shape_p, io_error *error)
{
    hid_t id;
    if (tensor_dataset_open(file, dataset, &id, error) != 0) return -1;
    int result = dataset_shape(file, dataset, id, shape_p, error);
    H5Dclose(id);
    return result;
}

int tensor_file_tensors(const tensor_file *file, attention_shapes *shapes_p, io_error *error)
{
    tensor_shape q, k, v;
    if (tensor_file_shape(file, "/q", &q, error) != 0 || tensor_file_shape(file, "/k", &k, error) != 0 ||
        tensor_file_shape(file, "/v", &v, error) != 0) {
        return -1;
    }
    const char *path = file->path;
    if (q.type != k.type || q.type != v.type) {
        return io_fail(error, "%s: /q is %s, /k is %s and /v is %s; one type is needed", path, io_type_name(q.type),
                       io_type_name(k.type), io_type_name(v.type));
    }
    if (q.batched != k.batched || q.batched != v.batched) {
        return io_fail(error, "%s: /q, /k and /v have %d, %d and %d axes; all need a batch axis, or none", path,
                       3 + q.batched, 3 + k.batched, 3 + v.batched);
    }
    if (q.batch != k.batch || q.batch != v.batch) {
        return io_fail(error, "%s: /q, /k and /v hold %" PRId64 ", %" PRId64 " and %" PRId64 " batch items", path,
                       q.batch, k.batch, v.batch);
    }
    if (k.tokens != v.tokens) {
        return io_fail(error, "%s: /k has %" PRId64 " tokens, /v has %" PRId64, path, k.tokens, v.tokens);
    }
    if (q.dim != k.dim) return io_fail(error, "%s: /q has head size %d, /k has %d", path, q.dim, k.dim);
    if (q.dim > MOST_DIM) {
        return io_fail(error, "%s: the head size %d of /q and /k is beyond %d", path, q.dim, MOST_DIM);
    }
    if (v.dim > MOST_DIM) return io_fail(error, "%s: the head size %d of /v is beyond %d", path, v.dim, MOST_DIM);
    *shapes_p = (attention_shapes){q, k, v};
    return 0;
}

int tensor_file_attention(const tensor_file *file, attention_shapes *shapes_p, io_error *error)
{
    attention_shapes s;
    if (tensor_file_tensors(file, &s, error) != 0) return -1;
    if (s.k.heads != s.v.heads)
        return io_fail(error, "%s: /k has %d heads, /v has %d", file->path, s.k.heads, s.v.heads);
    if (s.q.heads % s.k.heads != 0) {
        return io_fail(error, "%s: the %d heads of /q are not a multiple of the %d of /k and /v", file->path, s.q.heads,
                       s.k.heads);
    }
    *shapes_p = s;
    return 0;
}

static int check_rows(const tensor_file *file, const char *name, const tensor_shape *shape, int64_t b, int64_t begin,
                      int64_t end, io_error *error)
{
    if (b >= 0 && b < shape->batch && begin >= 0 && begin <= end && end <= shape->tokens) return 0;
    return io_fail(error, "%s: rows %" PRId64 " to %" PRId64 " of batch item %" PRId64 " are outside of %s", file->path,
                   begin, end, b, name);
}

int tensor_file_read(const tensor_file *file, const char *dataset, const tensor_shape *shape, int64_t b, int64_t begin,
                     int64_t end, void *target, io_error *error)
{
    if (check_rows(file, dataset, shape, b, begin, end, error) != 0) return -1;
    if (begin == end) return 0;
    hid_t id;
    if (tensor_dataset_open(file, dataset, &id, error) != 0) return -1;
    int result, rank;
    io_type type;
    hid_t memory = H5I_INVALID_HID;
    hsize_t extents[TENSOR_MOST_AXES];
    if (tensor_type_recognise(id, &type, &memory) != 0) {
        result = refuse_type(file, dataset, id, error);
        goto close_dataset;
    }
    result = tensor_dataset_extents(file, dataset, id, &rank, extents, error);
    if (result != 0) goto close_type;
    const hsize_t expected[] = {(hsize_t)shape->batch, (hsize_t)shape->tokens, (hsize_t)shape->heads,
                                (hsize_t)shape->dim};
    int skipped = shape->batched ? 0 : 1, axes = shape->dim > 0 ? 4 : 3;
    if (type != shape->type || rank != axes - skipped ||
        memcmp(extents, expected + skipped, (size_t)rank * sizeof *extents) != 0) {
        result = io_fail(error, "%s: %s is no longer what it was when it was opened", file->path, dataset);
        goto close_type;
    }
    const hsize_t start[] = {(hsize_t)b, (hsize_t)begin, 0, 0};
    const hsize_t count[] = {1, (hsize_t)(end - begin), (hsize_t)shape->heads, (hsize_t)shape->dim};
    result = tensor_dataset_read(file, dataset, id, memory, rank, start + skipped, count + skipped, target, error);
close_type:
    H5Tclose(memory);
close_dataset:
    H5Dclose(id);
    return result;
}

int tensor_file_read_row_values(const tensor_file *file, const char *dataset, const tensor_shape *out_shape, int64_t b,
                                int64_t begin, int64_t end, float *target, io_error *error)
{
    if (check_rows(file, dataset, out_shape, b, begin, end, error) != 0) return -1;
    hid_t id;
    if (tensor_dataset_open(file, dataset, &id, error) != 0) return -1;
    int result, rank;
    io_type type = IO_FLOAT32;
    hid_t memory = H5I_INVALID_HID;
    hsize_t extents[TENSOR_MOST_AXES];
    if (tensor_type_recognise(id, &type, &memory) != 0 || type != IO_FLOAT32) {
        result = io_fail(error, "%s: %s is not float32", file->path, dataset);
        goto close;
    }
    result = tensor_dataset_extents(file, dataset, id, &rank, extents, error);
    if (result != 0) goto close;
    const hsize_t expected[] = {(hsize_t)out_shape->batch, (hsize_t)out_shape->tokens, (hsize_t)out_shape->heads};
    int skipped = out_shape->batched ? 0 : 1;
    if (rank != 3 - skipped || memcmp(extents, expected + skipped, (size_t)rank * sizeof *extents) != 0) {
        result = io_fail(error, "%s: the extents of %s do not match those of /out", file->path, dataset);
        goto close;
    }
    result = tensor_dataset_check(file, dataset, id, rank, extents, error);
    if (result != 0 || begin == end) goto close;
    const hsize_t start[] = {(hsize_t)b, (hsize_t)begin, 0};
    const hsize_t count[] = {1, (hsize_t)(end - begin), (hsize_t)out_shape->heads};
    result = tensor_dataset_read(file, dataset, id, memory, rank, start + skipped, count + skipped, target, error);
close:
    if (memory >= 0) H5Tclose(memory);
    H5Dclose(id);
    return result;
}

int tensor_file_read_lse(const tensor_file *file, const tensor_shape *out_shape, int64_t b, int64_t begin, int64_t end,
                         float *target, io_error *error)
{
    return tensor_file_read_row_values(file, "/lse", out_shape, b, begin, end, target, error);
}
