/* A folder of a test's own, removed at its end, and HDF5 files made straight with HDF5, sharing no code with io/. */
#ifndef TESTS_IO_SCRATCH_H
#define TESTS_IO_SCRATCH_H

#include "io/error.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As cmocka group fixtures: the folder is made under $TMPDIR or /tmp. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

const char *scratch_folder(void);
/* The path of a file in the folder. The text lives until the sixteenth call after this one. */
const char *scratch_path(const char *name);
/* Writes a file of these bytes and returns its path. */
const char *scratch_file(const char *name, const void *bytes, size_t size);
/* Reads a whole file; malloc'ed, zero-terminated. Fails the test if it cannot. */
char *scratch_read(const char *path, size_t *size_p);
bool scratch_exists(const char *path);
/* Number of entries in the folder. */
int scratch_count(void);

/* Fails the test unless the line names `path` and says `needle`, and is one line. */
void assert_refusal(const io_error *error, const char *path, const char *needle);

typedef enum { STORE_CONTIGUOUS, STORE_COMPACT, STORE_CHUNKED, STORE_COMPRESSED } storage;

/* A dataset of `type` whose values are given as `memory` elements; data NULL writes nothing. */
void hdf5_dataset(hid_t file, const char *name, hid_t type, hid_t memory, int rank, const hsize_t *extents, storage how,
                  const void *data);
/* A custom float like the types of format version 1, by the numbers of operations and of h5py. */
hid_t hdf5_half(bool bfloat16, H5T_order_t order);
void hdf5_text_attribute(hid_t object, const char *name, const char *text, bool variable);

#endif
