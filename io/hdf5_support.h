/* What the readers and writers of HDF5 files share. Internal to io/. */
#ifndef IO_HDF5_SUPPORT_H
#define IO_HDF5_SUPPORT_H

#include "io/tensor_file.h"

#include <hdf5.h>

struct tensor_file {
    hid_t id;
    char *path;
};

/* To be called before any other HDF5 function: no error stack on stderr, and no work in an exit handler, where a close
 * that failed would be tried again behind the program's back. */
void hdf5_start(void);

/* The innermost description of the last HDF5 call, which failed: "truncated file: eof = 96, ...". */
void hdf5_reason(char *text, size_t size);

typedef enum { HDF5_TEXT_READ, HDF5_TEXT_MISSING, HDF5_TEXT_OTHER } hdf5_text_result;

/* A string attribute of an object, fixed or variable length, cut to size - 1 bytes. OTHER: not one string. */
hdf5_text_result hdf5_attribute_text(hid_t object, const char *name, char *text, size_t size);

/* Makes text printable on one line: control characters become '?'. */
void hdf5_make_printable(char *text);

/* The type of a dataset, and the memory type that reads it as native-order values without changing them. 0, or -1 if
 * it is none of the three. *memory_p is to be closed with H5Tclose. */
int tensor_type_recognise(hid_t dataset, io_type *type_p, hid_t *memory_p);

/* A new file type of `type` in native byte order, to be closed with H5Tclose; negative if HDF5 failed. */
hid_t tensor_type_create(io_type type);

enum { TENSOR_MOST_AXES = 4 };

/* Opens a dataset; the line says whether it is missing, a link that leads nowhere, or something else. To be closed with
 * H5Dclose. */
int tensor_dataset_open(const tensor_file *file, const char *name, hid_t *dataset_p, io_error *error);

/* *rank_p axes, and their extents where they are at most TENSOR_MOST_AXES; an axis of length 0 is an error. */
int tensor_dataset_extents(const tensor_file *file, const char *name, hid_t dataset, int *rank_p, hsize_t *extents,
                           io_error *error);

/* The extents of any dataset: "[1024, 8, 64]". */
void tensor_dataset_describe(hid_t dataset, char *text, size_t size);

/* Bytes of `rank` extents of `size` bytes an element; false if they do not fit an int64_t. */
bool tensor_dataset_bytes(int rank, const hsize_t *extents, size_t size, int64_t *bytes_p);

/* Are all the bytes that a dataset's extents promise really stored? HDF5 itself reads what is missing as zeros. */
int tensor_dataset_check(const tensor_file *file, const char *name, hid_t dataset, int rank, const hsize_t *extents,
                         io_error *error);

/* Reads the slab start[i] .. start[i] + count[i] of every axis. */
int tensor_dataset_read(const tensor_file *file, const char *name, hid_t dataset, hid_t memory, int rank,
                        const hsize_t *start, const hsize_t *count, void *target, io_error *error);

/* "float64", "uint16", "opaque of 2 bytes", "compound", ... */
void tensor_type_describe(hid_t type, char *text, size_t size);

#endif
