#include "io/hdf5_image.h"

#if H5_VERSION_GE(1, 14, 0)
#include <H5FDdevelop.h>
#endif
#include <stdlib.h>
#include <string.h>

/* What H5Pset_driver carries to the driver's open. */
typedef struct {
    hdf5_image *image;
} driver_info;

/* HDF5 keeps its own fields at the start of a driver's file. */
typedef struct {
    H5FD_t shared;
    hdf5_image *image;
} image_file;

static H5FD_t *image_open(const char *name, unsigned flags, hid_t access, haddr_t most)
{
    (void)name, (void)flags, (void)most;
    const driver_info *info = H5Pget_driver_info(access);
    image_file *file = info ? calloc(1, sizeof *file) : NULL;
    if (!file) return NULL;
    file->image = info->image;
    return &file->shared;
}

static herr_t image_close(H5FD_t *file)
{
    free(file);
    return 0;
}

static herr_t image_query(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA;
    return 0;
}

static haddr_t image_length(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const image_file *)file)->image->length;
}

static herr_t image_set_length(H5FD_t *file, H5FD_mem_t type, haddr_t length)
{
    (void)type;
    ((image_file *)file)->image->length = length;
    return 0;
}

static herr_t image_read(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t offset, size_t size, void *target)
{
    (void)type, (void)transfer;
    const hdf5_image *image = ((const image_file *)file)->image;
    memset(target, 0, size);
    for (int i = 0; i < image->count; i++) {
        const image_piece *piece = &image->pieces[i];
        uint64_t begin = piece->offset > offset ? piece->offset : offset;
        uint64_t piece_end = piece->offset + piece->size;
        uint64_t end = piece_end < offset + size ? piece_end : offset + size;
        if (begin >= end) continue;
        memcpy((unsigned char *)target + (begin - offset), piece->bytes + (begin - piece->offset), end - begin);
    }
    return 0;
}

static bool image_reserve(hdf5_image *image)
{
    if (image->count < image->capacity) return true;
    int capacity = image->capacity > 0 ? 2 * image->capacity : 16;
    image_piece *pieces = realloc(image->pieces, (size_t)capacity * sizeof *pieces);
    if (!pieces) return false;
    image->pieces = pieces;
    image->capacity = capacity;
    return true;
}

/* Never fails towards HDF5. */
static herr_t image_write(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t offset, size_t size,
                          const void *source)
{
    (void)type, (void)transfer;
    hdf5_image *image = ((image_file *)file)->image;
    unsigned char *bytes = image_reserve(image) ? malloc(size) : NULL;
    if (!bytes) {
        image->incomplete = true;
        return 0;
    }
    memcpy(bytes, source, size);
    image->pieces[image->count++] = (image_piece){offset, size, bytes};
    return 0;
}

static const H5FD_class_t driver = {
#if H5_VERSION_GE(1, 14, 0)
    .version = H5FD_CLASS_VERSION,
    .value = 511, /* 256 to 511 need no registration with the HDF Group */
#endif
    .name = "longspan image",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(driver_info),
    .open = image_open,
    .close = image_close,
    .query = image_query,
    .get_eoa = image_length,
    .set_eoa = image_set_length,
    .get_eof = image_length,
    .read = image_read,
    .write = image_write,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

hid_t hdf5_image_create(const char *name, hdf5_image *image)
{
    const driver_info info = {image};
    hid_t file = H5I_INVALID_HID, id = H5FDregister(&driver), access = H5Pcreate(H5P_FILE_ACCESS);
    if (id >= 0 && access >= 0 && H5Pset_driver(access, id, &info) >= 0) {
        file = H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    }
    if (access >= 0) H5Pclose(access);
    if (id >= 0) H5FDunregister(id); /* the file holds a reference of its own */
    return file;
}

void hdf5_image_free(hdf5_image *image)
{
    for (int i = 0; i < image->count; i++) free(image->pieces[i].bytes);
    free(image->pieces);
    *image = (hdf5_image){0};
}
