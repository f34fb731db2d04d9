#include "io/tensor_file.h"

#include "io/hdf5_support.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_AXES = 4, MOST_DIM = 512 };

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

static int dataset_open(const tensor_file *file, const char *name, hid_t *dataset_p, io_error *error)
{
    if (!tensor_file_has(file, name)) return io_fail(error, "%s: there is no dataset %s", file->path, name);
    hid_t id = H5Oopen(file->id, name, H5P_DEFAULT);
    if (id < 0) {
        char reason[256];
        hdf5_reason(reason, sizeof reason);
        H5L_info_t link;
        if (H5Lget_info(file->id, name, &link, H5P_DEFAULT) >= 0 && link.type != H5L_TYPE_HARD) {
            return io_fail(error, "%s: %s is a link that leads nowhere: %s", file->path, name, reason);
        }
        return io_fail(error, "%s: %s cannot be opened: %s", file->path, name, reason);
    }
    if (H5Iget_type(id) != H5I_DATASET) {
        const char *what = H5Iget_type(id) == H5I_GROUP ? "group" : "named type";
        H5Oclose(id);
        return io_fail(error, "%s: %s is a %s, not a dataset", file->path, name, what);
    }
    *dataset_p = id;
    return 0;
}

/* Extents of at most MOST_AXES axes, none of them 0. */
static int dataset_extents(const tensor_file *file, const char *name, hid_t dataset, int *rank_p, hsize_t *extents,
                           io_error *error)
{
    hid_t space = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_type(space) == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space) : 0;
    if (rank >= 1 && rank <= MOST_AXES) H5Sget_simple_extent_dims(space, extents, NULL);
    H5Sclose(space);
    for (int i = 0; i < rank && rank <= MOST_AXES; i++) {
        if (extents[i] == 0) return io_fail(error, "%s: %s is empty: its axis %d has length 0", file->path, name, i);
    }
    *rank_p = rank;
    return 0;
}

/* Bytes of `rank` extents of `size` bytes an element; false if they do not fit an int64_t. */
static bool extents_bytes(int rank, const hsize_t *extents, size_t size, int64_t *bytes_p)
{
    int64_t bytes = (int64_t)size;
    for (int i = 0; i < rank; i++) {
        if (extents[i] > INT64_MAX || __builtin_mul_overflow(bytes, (int64_t)extents[i], &bytes)) return false;
    }
    *bytes_p = bytes;
    return true;
}

static int contiguous_check(const tensor_file *file, const char *name, hid_t dataset, hid_t properties, int64_t bytes,
                            io_error *error)
{
    if (H5Pget_external_count(properties) > 0) {
        return io_fail(error, "%s: %s keeps its values in other files; h5repack makes one file of them", file->path,
                       name);
    }
    haddr_t offset = H5Dget_offset(dataset);
    if (offset == HADDR_UNDEF) return io_fail(error, "%s: %s was created but never written", file->path, name);
    /* An external link can lead to a dataset in another file. */
    char path[PATH_MAX];
    struct stat status;
    if (H5Fget_name(dataset, path, sizeof path) < 0 || stat(path, &status) != 0) {
        return io_fail(error, "%s: the file that holds %s cannot be found", file->path, name);
    }
    if (H5Dget_storage_size(dataset) < (hsize_t)bytes || offset > (haddr_t)status.st_size ||
        (haddr_t)bytes > (haddr_t)status.st_size - offset) {
        return io_fail(error, "%s: %s claims %" PRId64 " bytes, but the file holds %" PRId64, file->path, name, bytes,
                       (int64_t)status.st_size);
    }
    return 0;
}

static int chunks_check(const tensor_file *file, const char *name, hid_t dataset, hid_t properties, int rank,
                        const hsize_t *extents, io_error *error)
{
    for (int i = 0; i < H5Pget_nfilters(properties); i++) {
        unsigned flags;
        size_t values = 0;
        char filter[64] = "";
        H5Z_filter_t id = H5Pget_filter2(properties, (unsigned)i, &flags, &values, NULL, sizeof filter, filter, NULL);
        if (H5Zfilter_avail(id) <= 0) {
            return io_fail(error,
                           "%s: %s is compressed with filter %d (%s), which this HDF5 library does not have; "
                           "h5repack -f GZIP=4 makes it readable",
                           file->path, name, (int)id, filter);
        }
    }
    hsize_t chunk[MOST_AXES], needed = 1, stored = 0;
    if (H5Pget_chunk(properties, rank, chunk) != rank) return io_fail(error, "%s: %s is damaged", file->path, name);
    for (int i = 0; i < rank; i++) {
        if (chunk[i] == 0 || __builtin_mul_overflow(needed, (extents[i] - 1) / chunk[i] + 1, &needed)) {
            return io_fail(error, "%s: the extents of %s are not credible", file->path, name);
        }
    }
    hid_t space = H5Dget_space(dataset);
    char reason[256] = "";
    /* HDF5 1.10 does not take H5S_ALL here. */
    if (H5Dget_num_chunks(dataset, space, &stored) < 0) hdf5_reason(reason, sizeof reason);
    H5Sclose(space);
    if (*reason) {
        return io_fail(error, "%s: the chunks of %s cannot be listed: %s", file->path, name, reason);
    }
    if (stored < needed) {
        return io_fail(error, "%s: %s was not written completely: it has %" PRIu64 " of %" PRIu64 " chunks", file->path,
                       name, (uint64_t)stored, (uint64_t)needed);
    }
    return 0;
}

/* Are all the bytes that a dataset's extents promise really stored? HDF5 itself reads what is missing as zeros. */
static int dataset_storage(const tensor_file *file, const char *name, hid_t dataset, int rank, const hsize_t *extents,
                           io_error *error)
{
    hid_t type = H5Dget_type(dataset);
    size_t size = H5Tget_size(type);
    H5Tclose(type);
    int64_t bytes;
    if (!extents_bytes(rank, extents, size, &bytes)) {
        return io_fail(error, "%s: the extents of %s are not credible: they overflow", file->path, name);
    }
    hid_t properties = H5Dget_create_plist(dataset);
    if (properties < 0) return io_fail(error, "%s: the storage of %s cannot be examined", file->path, name);
    int result = 0;
    switch (H5Pget_layout(properties)) {
    case H5D_COMPACT:
        break; /* lies in the object header, which HDF5 has read */
    case H5D_CONTIGUOUS:
        result = contiguous_check(file, name, dataset, properties, bytes, error);
        break;
    case H5D_CHUNKED:
        result = chunks_check(file, name, dataset, properties, rank, extents, error);
        break;
    default:
        result =
            io_fail(error, "%s: %s is a virtual dataset, of which parts can be missing in silence; copy it into one",
                    file->path, name);
    }
    H5Pclose(properties);
    return result;
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
    hsize_t extents[MOST_AXES];
    if (dataset_extents(file, name, dataset, &rank, extents, error) != 0) return -1;
    if (rank != 3 && rank != 4) {
        return io_fail(error, "%s: %s has %d axes; [tokens, heads, dim] or [batch, tokens, heads, dim] is needed",
                       file->path, name, rank);
    }
    if (dataset_storage(file, name, dataset, rank, extents, error) != 0) return -1;
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
    if (dataset_open(file, dataset, &id, error) != 0) return -1;
    int result = dataset_shape(file, dataset, id, shape_p, error);
    H5Dclose(id);
    return result;
}

int tensor_file_attention(const tensor_file *file, attention_shapes *shapes_p, io_error *error)
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
    if (k.heads != v.heads) return io_fail(error, "%s: /k has %d heads, /v has %d", path, k.heads, v.heads);
    if (q.dim != k.dim) return io_fail(error, "%s: /q has head size %d, /k has %d", path, q.dim, k.dim);
    if (q.heads % k.heads != 0) {
        return io_fail(error, "%s: the %d heads of /q are not a multiple of the %d of /k and /v", path, q.heads,
                       k.heads);
    }
    if (q.dim > MOST_DIM) {
        return io_fail(error, "%s: the head size %d of /q and /k is beyond %d", path, q.dim, MOST_DIM);
    }
    if (v.dim > MOST_DIM) return io_fail(error, "%s: the head size %d of /v is beyond %d", path, v.dim, MOST_DIM);
    *shapes_p = (attention_shapes){q, k, v};
    return 0;
}

/* Reads the slab start[i] .. start[i] + count[i] of every axis. */
static int read_slab(const tensor_file *file, const char *name, hid_t dataset, hid_t memory, int rank,
                     const hsize_t *start, const hsize_t *count, void *target, io_error *error)
{
    hid_t stored_space = H5Dget_space(dataset), memory_space = H5Screate_simple(rank, count, NULL);
    int result = 0;
    if (stored_space < 0 || memory_space < 0 ||
        H5Sselect_hyperslab(stored_space, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
        H5Dread(dataset, memory, memory_space, stored_space, H5P_DEFAULT, target) < 0) {
        char reason[256];
        hdf5_reason(reason, sizeof reason);
        result = io_fail(error, "%s: %s cannot be read: %s", file->path, name, reason);
    }
    if (memory_space >= 0) H5Sclose(memory_space);
    if (stored_space >= 0) H5Sclose(stored_space);
    return result;
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
    if (dataset_open(file, dataset, &id, error) != 0) return -1;
    int result, rank;
    io_type type;
    hid_t memory = H5I_INVALID_HID;
    hsize_t extents[MOST_AXES];
    if (tensor_type_recognise(id, &type, &memory) != 0) {
        result = refuse_type(file, dataset, id, error);
        goto close_dataset;
    }
    result = dataset_extents(file, dataset, id, &rank, extents, error);
    if (result != 0) goto close_type;
    const hsize_t expected[] = {(hsize_t)shape->batch, (hsize_t)shape->tokens, (hsize_t)shape->heads,
                                (hsize_t)shape->dim};
    int skipped = shape->batched ? 0 : 1;
    if (type != shape->type || rank != MOST_AXES - skipped ||
        memcmp(extents, expected + skipped, (size_t)rank * sizeof *extents) != 0) {
        result = io_fail(error, "%s: %s is no longer what it was when it was opened", file->path, dataset);
        goto close_type;
    }
    const hsize_t start[] = {(hsize_t)b, (hsize_t)begin, 0, 0};
    const hsize_t count[] = {1, (hsize_t)(end - begin), (hsize_t)shape->heads, (hsize_t)shape->dim};
    result = read_slab(file, dataset, id, memory, rank, start + skipped, count + skipped, target, error);
close_type:
    H5Tclose(memory);
close_dataset:
    H5Dclose(id);
    return result;
}

int tensor_file_read_lse(const tensor_file *file, const tensor_shape *out_shape, int64_t b, int64_t begin, int64_t end,
                         float *target, io_error *error)
{
    if (check_rows(file, "/lse", out_shape, b, begin, end, error) != 0) return -1;
    hid_t id;
    if (dataset_open(file, "/lse", &id, error) != 0) return -1;
    int result, rank;
    io_type type = IO_FLOAT32;
    hid_t memory = H5I_INVALID_HID;
    hsize_t extents[MOST_AXES];
    if (tensor_type_recognise(id, &type, &memory) != 0 || type != IO_FLOAT32) {
        result = io_fail(error, "%s: /lse is not float32", file->path);
        goto close;
    }
    result = dataset_extents(file, "/lse", id, &rank, extents, error);
    if (result != 0) goto close;
    const hsize_t expected[] = {(hsize_t)out_shape->batch, (hsize_t)out_shape->tokens, (hsize_t)out_shape->heads};
    int skipped = out_shape->batched ? 0 : 1;
    if (rank != 3 - skipped || memcmp(extents, expected + skipped, (size_t)rank * sizeof *extents) != 0) {
        result = io_fail(error, "%s: the extents of /lse do not match those of /out", file->path);
        goto close;
    }
    result = dataset_storage(file, "/lse", id, rank, extents, error);
    if (result != 0 || begin == end) goto close;
    const hsize_t start[] = {(hsize_t)b, (hsize_t)begin, 0};
    const hsize_t count[] = {1, (hsize_t)(end - begin), (hsize_t)out_shape->heads};
    result = read_slab(file, "/lse", id, memory, rank, start + skipped, count + skipped, target, error);
close:
    if (memory >= 0) H5Tclose(memory);
    H5Dclose(id);
    return result;
}

static int check_documents(const tensor_file *file, const int64_t *offsets, int64_t count, int64_t tokens,
                           io_error *error)
{
    if (offsets[0] != 0) {
        return io_fail(error, "%s: /documents begins with %" PRId64 "; 0 is needed", file->path, offsets[0]);
    }
    for (int64_t i = 0; i < count; i++) {
        if (offsets[i + 1] < offsets[i]) {
            return io_fail(error, "%s: /documents descends from %" PRId64 " to %" PRId64 " at entry %" PRId64,
                           file->path, offsets[i], offsets[i + 1], i + 1);
        }
    }
    if (offsets[count] != tokens) {
        return io_fail(error, "%s: /documents ends with %" PRId64 "; the %" PRId64 " tokens are needed", file->path,
                       offsets[count], tokens);
    }
    return 0;
}

int tensor_file_documents(const tensor_file *file, int64_t tokens, int64_t **offsets_p, int64_t *count_p,
                          io_error *error)
{
    *offsets_p = NULL;
    *count_p = 0;
    if (!tensor_file_has(file, "/documents")) return 0;
    hid_t id;
    if (dataset_open(file, "/documents", &id, error) != 0) return -1;

    int64_t *offsets = NULL, bytes;
    int result, rank;
    hsize_t extents[MOST_AXES];
    hid_t type = H5Dget_type(id);
    H5T_class_t class = H5Tget_class(type);
    H5Tclose(type);
    if (class != H5T_INTEGER) {
        result = io_fail(error, "%s: /documents is not of an integer type", file->path);
        goto close;
    }
    result = dataset_extents(file, "/documents", id, &rank, extents, error);
    if (result != 0) goto close;
    if (rank != 1 || extents[0] < 2) {
        result = io_fail(error, "%s: /documents needs one axis with at least two offsets, 0 and %" PRId64, file->path,
                         tokens);
        goto close;
    }
    result = dataset_storage(file, "/documents", id, rank, extents, error);
    if (result != 0) goto close;
    offsets = extents_bytes(rank, extents, sizeof *offsets, &bytes) ? malloc((size_t)bytes) : NULL;
    if (!offsets) {
        result = io_fail(error, "%s: not enough memory for the %" PRIu64 " offsets of /documents", file->path,
                         (uint64_t)extents[0]);
        goto close;
    }
    const hsize_t start = 0;
    result = read_slab(file, "/documents", id, H5T_NATIVE_INT64, 1, &start, extents, offsets, error);
    if (result == 0) result = check_documents(file, offsets, (int64_t)extents[0] - 1, tokens, error);
    if (result == 0) {
        *offsets_p = offsets;
        *count_p = (int64_t)extents[0] - 1;
        offsets = NULL;
    }
close:
    free(offsets);
    H5Dclose(id);
    return result;
}
