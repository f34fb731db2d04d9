/* An HDF5 file in the making that HDF5 never writes to a disk: only what it would write, and where. Internal to io/.
 *
 * HDF5 1.10 cannot fail to close a file: when a write fails there, the file's identifier stays behind, and what ends
 * the library later (MPI_Finalize does, in its parallel build) follows it to freed memory. So HDF5 writes into memory,
 * where nothing fails, and the caller writes the pieces out, with an errno for every failure. Only metadata is kept:
 * the datasets are laid out and never filled, so an image of terabytes takes some kilobytes. */
#ifndef IO_HDF5_IMAGE_H
#define IO_HDF5_IMAGE_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t offset;
    size_t size;
    unsigned char *bytes;
} image_piece;

typedef struct {
    image_piece *pieces; /* in the order of writing: a later one replaces an earlier one where they overlap */
    int count, capacity;
    uint64_t length; /* of the file */
    bool incomplete; /* memory ran out */
} hdf5_image;

/* A new file called `name` (for messages only) whose writes go to *image, which must be zero and outlive the file.
 * Negative if HDF5 failed. After H5Fclose the image is complete. */
hid_t hdf5_image_create(const char *name, hdf5_image *image);
void hdf5_image_free(hdf5_image *image);

#endif
