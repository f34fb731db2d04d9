/* PATH.part with its datasets at known offsets, so that ranks can write rows without HDF5. */
#if defined(__linux__)
#define _GNU_SOURCE /* fallocate: posix_fallocate writes to every block where the file system cannot allocate */
#endif
#include "io/hdf5_image.h"
#include "io/hdf5_support.h"
#include "io/output_file.h"
#include "io/output_part.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static int fail_hdf5(const char *part, const char *what, const char *name, io_error *error)
{
    char reason[256];
    hdf5_reason(reason, sizeof reason);
    return io_fail(error, "%s: %s%s cannot be created: %s", part, what, name, reason);
}

size_t output_type_size(output_type type)
{
    if (type == OUTPUT_INT32) return 4;
    return type == OUTPUT_INT64 || type == OUTPUT_FLOAT64 ? 8 : io_type_size((io_type)type);
}

static hid_t create_type(output_type type)
{
    if (type == OUTPUT_INT64) return H5Tcopy(H5T_NATIVE_INT64);
    if (type == OUTPUT_INT32) return H5Tcopy(H5T_NATIVE_INT32);
    return type == OUTPUT_FLOAT64 ? H5Tcopy(H5T_NATIVE_DOUBLE) : tensor_type_create((io_type)type);
}

static int create_dataset(hid_t file, const char *part, output_dataset *dataset, io_error *error)
{
    hsize_t extents[OUTPUT_MAX_RANK];
    int64_t bytes = (int64_t)output_type_size(dataset->type);
    if (dataset->rank < 1 || dataset->rank > OUTPUT_MAX_RANK) {
        return io_fail(error, "%s: %s needs 1 to %d axes, not %d", part, dataset->name, OUTPUT_MAX_RANK, dataset->rank);
    }
    for (int i = 0; i < dataset->rank; i++) {
        extents[i] = (hsize_t)dataset->extent[i];
        if (dataset->extent[i] <= 0 || __builtin_mul_overflow(bytes, dataset->extent[i], &bytes)) {
            return io_fail(error, "%s: %s cannot have the extent %" PRId64 " on axis %d", part, dataset->name,
                           dataset->extent[i], i);
        }
    }
    hid_t type = create_type(dataset->type), space = H5Screate_simple(dataset->rank, extents, NULL);
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE), id = H5I_INVALID_HID;
    if (type >= 0 && space >= 0 && H5Pset_layout(properties, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER) >= 0 &&
        H5Pset_obj_track_times(properties, false) >= 0) { /* equal contents, equal bytes */
        id = H5Dcreate2(file, dataset->name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    }
    int result = 0;
    haddr_t offset = HADDR_UNDEF;
    if (id < 0) {
        result = fail_hdf5(part, "dataset ", dataset->name, error);
    } else {
        offset = H5Dget_offset(id);
        if (offset == HADDR_UNDEF) result = fail_hdf5(part, "space for dataset ", dataset->name, error);
        if (H5Dclose(id) < 0 && result == 0) result = fail_hdf5(part, "dataset ", dataset->name, error);
    }
    if (properties >= 0) H5Pclose(properties);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (result == 0) dataset->offset = offset;
    return result;
}

/* Variable-length UTF-8, which h5py reads as str. */
static hid_t create_text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && H5Tset_size(type, H5T_VARIABLE) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0) return type;
    if (type >= 0) H5Tclose(type);
    return H5I_INVALID_HID;
}

static int create_attribute(hid_t file, const char *part, const output_attribute *attribute, io_error *error)
{
    hid_t type = H5I_INVALID_HID;
    const void *value = NULL;
    switch (attribute->kind) {
    case ATTRIBUTE_TEXT:
        type = create_text_type();
        value = &attribute->text;
        break;
    case ATTRIBUTE_INTEGER:
        type = H5Tcopy(H5T_NATIVE_INT64);
        value = &attribute->integer;
        break;
    case ATTRIBUTE_NUMBER:
        type = H5Tcopy(H5T_NATIVE_DOUBLE);
        value = &attribute->number;
        break;
    }
    hid_t space = H5Screate(H5S_SCALAR), id = H5I_INVALID_HID;
    if (type >= 0 && space >= 0) id = H5Acreate2(file, attribute->name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int result = 0;
    if (id < 0 || H5Awrite(id, type, value) < 0) {
        result = fail_hdf5(part, "attribute ", attribute->name, error);
    }
    if (id >= 0 && H5Aclose(id) < 0 && result == 0) {
        result = fail_hdf5(part, "attribute ", attribute->name, error);
    }
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return result;
}

/* All that HDF5 has to say about the file, as an image of it. */
static int create_image(const char *part, output_dataset *datasets, int dataset_count,
                        const output_attribute *attributes, int attribute_count, hdf5_image *image, io_error *error)
{
    hdf5_start();
    hid_t file = hdf5_image_create(part, image);
    if (file < 0) return fail_hdf5(part, "the file", "", error);
    int result = 0;
    for (int i = 0; i < attribute_count && result == 0; i++) {
        result = create_attribute(file, part, &attributes[i], error);
    }
    for (int i = 0; i < dataset_count && result == 0; i++) {
        result = create_dataset(file, part, &datasets[i], error);
    }
    if (H5Fclose(file) < 0 && result == 0) result = fail_hdf5(part, "the file", "", error);
    if (image->incomplete && result == 0) result = io_fail(error, "%s: not enough memory for its metadata", part);
    return result;
}

/* Gives the file its full length and, where the file system can, all its blocks: a full disk is found before the work.
 */
static int reserve(int descriptor, const char *part, uint64_t bytes, io_error *error)
{
    if (bytes > INT64_MAX) return io_fail(error, "%s: %" PRIu64 " bytes are more than a file can hold", part, bytes);
    int result;
    do result = ftruncate(descriptor, (off_t)bytes);
    while (result != 0 && errno == EINTR);
#if defined(__linux__)
    while (result == 0 && fallocate(descriptor, 0, 0, (off_t)bytes) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) break;
        if (errno != EINTR) result = -1;
    }
#endif
    if (result == 0) return 0;
    return io_fail(error, "%s: cannot be given its %" PRIu64 " bytes: %s%s", part, bytes, strerror(errno),
                   output_hint(errno));
}

int output_create(const char *path, output_dataset *datasets, int dataset_count, const output_attribute *attributes,
                  int attribute_count, io_error *error)
{
    output_writer writer;
    if (output_part_path(path, writer.path, error) != 0 ||
        output_claim_part(writer.path, &writer.descriptor, error) != 0) {
        return -1;
    }
    hdf5_image image = {0};
    int result = create_image(writer.path, datasets, dataset_count, attributes, attribute_count, &image, error);
    if (result == 0) result = reserve(writer.descriptor, writer.path, image.length, error);
    for (int i = 0; i < image.count && result == 0; i++) {
        const image_piece *piece = &image.pieces[i];
        result = output_write(&writer, piece->offset, piece->bytes, piece->size, error);
    }
    hdf5_image_free(&image);
    if (close(writer.descriptor) != 0 && errno != EINTR && result == 0) {
        result = io_fail(error, "%s: cannot be written: %s%s", writer.path, strerror(errno), output_hint(errno));
    }
    if (result != 0) unlink(writer.path);
    return result;
}
