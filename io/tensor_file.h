/* Reading activations: format version 1 (README.md, "File format"). Nothing in a file is trusted: every shape, type
 * and attribute is checked before anything is allocated. No MPI: each rank opens the file for itself, read-only,
 * and reads its own rows. All functions return 0, or -1 with a line in *error. Not collective. */
#ifndef IO_TENSOR_FILE_H
#define IO_TENSOR_FILE_H

#include "io/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { IO_FLOAT32 = 0, IO_FLOAT16 = 1, IO_BFLOAT16 = 2 } io_type;

/* For a program that uses MPI, to be called before MPI_Init. A parallel HDF5 that starts after it hangs its own
 * shutdown on MPI_Finalize, H5dont_atexit or not, and there crashes on a file that it could not close. */
void io_start(void);

size_t io_type_size(io_type type);
const char *io_type_name(io_type type); /* "float32", "float16", "bfloat16" */
bool io_type_from_name(const char *name, io_type *type_p);

/* A dataset of shape [N, heads, dim], or [B, N, heads, dim] when `batched` (then B = batch; else batch is 1). */
typedef struct {
    bool batched;
    int64_t batch, tokens;
    int heads, dim;
    io_type type;
} tensor_shape;

typedef struct tensor_file tensor_file; /* an open input */

int tensor_file_open(const char *path, tensor_file **file_p, io_error *error);
void tensor_file_close(tensor_file **file_p); /* sets the handle to NULL; NULL handle allowed */

bool tensor_file_has(const tensor_file *file, const char *dataset);

/* Checks that `dataset` exists, is a supported type of rank 3 or 4, and that no extent is 0 or overflows; and that the
 * stored bytes are really there (a truncated file is an error here, not on reading). bfloat16 is the HDF5 float type
 * (1, 8, 7 bits, bias 127), or opaque(2) or uint16 with the attribute dtype = "bfloat16". Either byte order. */
int tensor_file_shape(const tensor_file *file, const char *dataset, tensor_shape *shape_p, io_error *error);

/* Shapes of /q, /k, /v together: same type, batch and batching; k and v of the same tokens; D equal in q and k;
 * 1 <= D, E <= 512. */
typedef struct {
    tensor_shape q, k, v;
} attention_shapes;
int tensor_file_tensors(const tensor_file *file, attention_shapes *shapes_p, io_error *error);
/* The same, and k and v of the same heads, H % G == 0: what softmax attention needs. */
int tensor_file_attention(const tensor_file *file, attention_shapes *shapes_p, io_error *error);

/* Rows [begin, end) of batch item `b` as stored values of the shape's type in native byte order:
 * (end - begin) * heads * dim elements into `target`. A shape whose dim is 0 stands for [N, heads] or [B, N, heads]. */
int tensor_file_read(const tensor_file *file, const char *dataset, const tensor_shape *shape, int64_t b, int64_t begin,
                     int64_t end, void *target, io_error *error);

/* Optional datasets of one axis (tensor_vectors.c). Arrays are malloc'ed; NULL when the dataset is absent, or wrong.
 *   /documents     any integer type: count + 1 token offsets, ascending from 0 to `tokens`
 *   /key_lengths   any integer type, [B]: 0 <= length <= keys
 *   /block_offsets, /block_keys   any integer type, both or none: a CSR, or [H, blocks + 1] offsets of one a head,
 * which follow each other; offsets ascending from 0 to the number of /block_keys; none is negative /alibi_slopes,
 * /sinks   float32 [H], finite; -inf too where a value `may_be_none`: a head without a sink */
int tensor_file_documents(const tensor_file *file, int64_t tokens, int64_t **offsets_p, int64_t *count_p,
                          io_error *error);
int tensor_file_key_lengths(const tensor_file *file, int64_t batch, int64_t keys, int64_t **lengths_p, io_error *error);
int tensor_file_head_values(const tensor_file *file, const char *dataset, int heads, bool may_be_none, float **values_p,
                            io_error *error);

/* Relative keys (tensor_relative.c): /relative_keys float32 [count, H, D], and /relative_bias_u and /relative_bias_w float32
 * [H, D], both or none, which need it; all finite. NULL and 0 where absent. */
typedef struct {
    float *keys, *bias_u, *bias_w;
    int64_t count;
} relative_extras;
int tensor_file_relative(const tensor_file *file, const attention_shapes *shapes, relative_extras *relative_p,
                         io_error *error);
void relative_extras_free(relative_extras *relative); /* {0} allowed */

/* All of them. */
typedef struct {
    int64_t *documents; /* document_count + 1 offsets */
    int64_t document_count;
    int64_t *key_lengths;
    float *alibi_slopes, *sinks;
    int64_t *block_offsets, *block_keys;
    int64_t block_offset_count, block_key_count; /* offsets of all lists together */
    int block_lists;                             /* 0 without any, 1 for all heads, or H */
    relative_extras relative;
} attention_extras;
int tensor_file_extras(const tensor_file *file, const attention_shapes *shapes, attention_extras *extras_p,
                       io_error *error);
void attention_extras_free(attention_extras *extras); /* {0} allowed */

/* /selected_blocks [N, lists, most], any integer type: for each query lists of blocks of keys, -1 behind the last. The
 * shape is checked here, with `tokens` queries; what the lists say is checked by those who take them. Values that int32
 * does not hold are read as its nearest. */
typedef struct {
    int64_t tokens;
    int lists;
    int64_t most;
} selection_shape;
int tensor_file_selection(const tensor_file *file, int64_t tokens, selection_shape *shape_p, io_error *error);
/* Rows [begin, end), (end - begin) * lists * most values. */
int tensor_file_read_selection(const tensor_file *file, const selection_shape *shape, int64_t begin, int64_t end,
                               int32_t *target, io_error *error);

/* Rows [begin, end) of a number a row of /out, as /threshold, of batch item b: [N, H] or [B, N, H] float32, checked
 * against the given extents. */
int tensor_file_read_row_values(const tensor_file *file, const char *dataset, const tensor_shape *out_shape, int64_t b,
                                int64_t begin, int64_t end, float *target, io_error *error);
/* Those of /lse. */
int tensor_file_read_lse(const tensor_file *file, const tensor_shape *out_shape, int64_t b, int64_t begin, int64_t end,
                         float *target, io_error *error);

/* Attributes of the root group. A missing one, or one of another type, is an error. text is cut to size - 1. */
int tensor_file_attribute_text(const tensor_file *file, const char *name, char *text, size_t size, io_error *error);
int tensor_file_attribute_integer(const tensor_file *file, const char *name, int64_t *value_p, io_error *error);
int tensor_file_attribute_number(const tensor_file *file, const char *name, double *value_p, io_error *error);
bool tensor_file_has_attribute(const tensor_file *file, const char *name);

/* Calls `visit` with the name and a one-line description ("float32 [1024, 8, 64], contiguous") of each dataset of the
 * root group, then of each attribute ("mask = causal"). For `longspan info FILE`. */
int tensor_file_list(const tensor_file *file, void (*visit)(void *data, const char *line), void *data, io_error *error);

#endif
