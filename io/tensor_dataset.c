/* A dataset as it is stored: whether it is there, how large it is, and whether all its bytes are. */
#include "io/hdf5_support.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int tensor_dataset_open(const tensor_file *file, const char *name, hid_t *dataset_p, io_error *error)
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

/* Extents of at most TENSOR_MOST_AXES axes, none of them 0. */
int tensor_dataset_extents(const tensor_file *file, const char *name, hid_t dataset, int *rank_p, hsize_t *extents,
                           io_error *error)
{
    hid_t space = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_type(space) == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space) : 0;
    if (rank >= 1 && rank <= TENSOR_MOST_AXES) H5Sget_simple_extent_dims(space, extents, NULL);
    H5Sclose(space);
    for (int i = 0; i < rank && rank <= TENSOR_MOST_AXES; i++) {
        if (extents[i] == 0) return io_fail(error, "%s: %s is empty: its axis %d has length 0", file->path, name, i);
    }
    *rank_p = rank;
    return 0;
}

void tensor_dataset_describe(hid_t dataset, char *text, size_t size)
{
    hsize_t extents[H5S_MAX_RANK];
    hid_t space = H5Dget_space(dataset);
    int rank = H5Sget_simple_extent_dims(space, extents, NULL);
    size_t length = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < rank && length < size; i++) {
        length += (size_t)snprintf(text + length, size - length, "%s%" PRIu64, i ? ", " : "", (uint64_t)extents[i]);
    }
    if (length < size) snprintf(text + length, size - length, "]");
    H5Sclose(space);
}

/* Bytes of `rank` extents of `size` bytes an element; false if they do not fit an int64_t. */
bool tensor_dataset_bytes(int rank, const hsize_t *extents, size_t size, int64_t *bytes_p)
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
    hsize_t chunk[TENSOR_MOST_AXES], needed = 1, stored = 0;
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
int tensor_dataset_check(const tensor_file *file, const char *name, hid_t dataset, int rank, const hsize_t *extents,
                         io_error *error)
{
    hid_t type = H5Dget_type(dataset);
    size_t size = H5Tget_size(type);
    H5Tclose(type);
    int64_t bytes;
    if (!tensor_dataset_bytes(rank, extents, size, &bytes)) {
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
/* Reads the slab start[i] .. start[i] + count[i] of every axis. */
int tensor_dataset_read(const tensor_file *file, const char *name, hid_t dataset, hid_t memory, int rank,
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
