/* Writing results so that nothing is lost in silence.
 *
 * One rank creates PATH.part with every dataset contiguous, allocated and not filled, and closes it; every rank then
 * writes its rows straight to the datasets' offsets with pwrite and fsyncs; when all ranks agree that they
 * succeeded, one rank publishes (fsync, rename), otherwise it discards. Why not HDF5's MPI-IO driver: on a full disk
 * OMPIO reports success, and one rank's EIO can leave the others in a barrier inside HDF5 for ever.
 *
 * The life of an output, with who does it:
 *   one rank    output_check     before any work: refuses an existing PATH unless forced, and a folder that cannot be
 *                                written
 *   one rank    output_create    PATH.part with its datasets; fills in dataset.offset, to be sent to the other ranks
 *   every rank  output_open, output_write..., output_close    close fsyncs: its result counts
 *   one rank    output_publish or output_discard
 * output_create and output_check refuse a PATH.part that another process has open by output_open (an advisory lock,
 * where the file system has them); one that a killed run left is replaced. No MPI here: the agreement between the steps
 * is the runtime's. All functions return 0, or -1 with a line in *error. */
#ifndef IO_OUTPUT_FILE_H
#define IO_OUTPUT_FILE_H

#include "io/error.h"
#include "io/tensor_file.h"

#include <stdio.h>

enum { OUTPUT_MAX_RANK = 4, OUTPUT_MAX_PIECE = 64 << 20 /* bytes of one pwrite, at most */ };

/* The first three as io_type. */
typedef enum {
    OUTPUT_FLOAT32,
    OUTPUT_FLOAT16,
    OUTPUT_BFLOAT16,
    OUTPUT_INT64,
    OUTPUT_FLOAT64,
    OUTPUT_INT32
} output_type;

size_t output_type_size(output_type type);

typedef struct {
    const char *name; /* "/out" */
    output_type type;
    int rank;
    int64_t extent[OUTPUT_MAX_RANK];
    uint64_t offset; /* byte offset in the file; set by output_create */
} output_dataset;

typedef enum { ATTRIBUTE_TEXT, ATTRIBUTE_INTEGER, ATTRIBUTE_NUMBER } attribute_kind;
typedef struct {
    const char *name;
    attribute_kind kind;
    const char *text;
    int64_t integer;
    double number;
} output_attribute;

int output_check(const char *path, bool force, io_error *error);
/* Extents are at least 1. Reserves the file's blocks where the file system can, so that a full disk fails here. Removes
 * PATH.part when it fails. */
int output_create(const char *path, output_dataset *datasets, int dataset_count, const output_attribute *attributes,
                  int attribute_count, io_error *error);
/* Atomic; without force never replaces a file. When the name cannot be given, PATH.part is left, complete, and the line
 * says so; when fsync fails it is removed. No output_discard afterwards. */
int output_publish(const char *path, bool force, io_error *error);
void output_discard(const char *path); /* removes PATH.part */

typedef struct {
    int descriptor;
    char path[4096]; /* of the .part file, for messages */
} output_writer;

int output_open(const char *path, output_writer *writer_p, io_error *error);
/* `bytes` bytes of `data` at byte `offset` of the file. */
int output_write(const output_writer *writer, uint64_t offset, const void *data, size_t bytes, io_error *error);
int output_close(output_writer *writer, io_error *error); /* fsync and close */

/* A text file of any size, written bit by bit through *stream_p: PATH.part until output_stream_end, which fsyncs and
 * renames it, or, where it is not `complete` or cannot be, leaves nothing. By one rank; ends with *writer and *stream
 * closed. */
int output_stream_begin(const char *path, bool force, output_writer *writer_p, FILE **stream_p, io_error *error);
int output_stream_end(const char *path, bool force, bool complete, output_writer *writer, FILE *stream,
                      io_error *error);

/* A small whole file (SVG, JSON report): written to PATH.part, fsynced and renamed. */
int output_text_file(const char *path, const char *text, size_t bytes, bool force, io_error *error);

#endif
