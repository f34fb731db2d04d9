/* Collective reading and writing of activations: io/ on every rank, agreement between the steps.
 *
 * Functions marked collective return the same status on every rank, with the agreed failure in *f; rank 0 does what
 * only one rank may do. Rows are given as the token ranges of a rank (longspan_plan_rows). */
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include "io/output_file.h"
#include "io/tensor_file.h"
#include "io/tensor_linear.h"
#include "kernels/linear.h"
#include "runtime/agreement.h"

#include <stdbool.h>

/* An attention input, open on every rank. */
typedef struct {
    tensor_file *file;
    attention_shapes shapes;
    attention_extras extras; /* of linear attention the documents only */
    linear_extras linear;    /* of linear attention */
} input_file;

/* Collective. An input of softmax attention (variant NULL) or of a linear variant; one of the other kind is refused.
 * Rank 0 opens and checks first, so that a bad file is one error, not P; then every rank opens. */
longspan_status input_file_open(MPI_Comm comm, const char *path, const linear_variant *variant, input_file *input_p,
                                failure *f);
/* Not collective. Opens and checks on this rank alone: -1 with a line in *error. To be closed in either case. */
int input_file_open_here(const char *path, const linear_variant *variant, input_file *input, io_error *error);
/* Not collective; {0} allowed. */
void input_file_close(input_file *input);

/* Collective. This rank's rows of a dataset, [B, T, heads, dim] with the ranges one after the other. */
longspan_status input_file_read(MPI_Comm comm, const input_file *input, const char *dataset, const tensor_shape *shape,
                                const longspan_range *ranges, int64_t range_count, void *target, failure *f);

/* An output on its way: PATH.part until committed. */
typedef struct {
    const char *path; /* the caller's */
    bool force;
    output_dataset *datasets; /* the caller's; offsets filled in on every rank */
    int dataset_count;
    output_writer writer;
} output_file;

/* Collective. Refuses an existing path unless forced; to be called before any work is done. */
longspan_status output_file_check(MPI_Comm comm, const char *path, bool force, failure *f);
/* Collective. Refuses an output that is the same file as an input, also by another name: --force must not destroy it.
 */
longspan_status output_file_check_distinct(MPI_Comm comm, const char *path, const char *input, failure *f);
/* Collective. Rank 0 creates PATH.part, every rank opens it. On failure nothing is left behind. */
longspan_status output_file_begin(MPI_Comm comm, const char *path, bool force, output_dataset *datasets,
                                  int dataset_count, const output_attribute *attributes, int attribute_count,
                                  output_file *output_p, failure *f);
/* Not collective. Rows of dataset `index` in batch item order as above, source [B, T, ...]; `batched` says whether the
 * dataset's first axis is B. A failure is kept in *f. */
void output_file_write(const output_file *output, int index, bool batched, const longspan_range *ranges,
                       int64_t range_count, const void *source, failure *f);
/* Not collective. The same for `count` elements from element `first` on of dataset `index`, wherever rows begin. */
void output_file_write_run(const output_file *output, int index, int64_t first, int64_t count, const void *source,
                           failure *f);
/* Collective. fsyncs on every rank; publishes if every rank's *f is OK, else discards. The agreed failure names the
 * rank that raised it; once it has returned LONGSPAN_OK the output is complete and in its place. Where only the last
 * step failed, giving the complete file its name, it stays as PATH.part, and the failure says so. */
longspan_status output_file_commit(MPI_Comm comm, output_file *output, failure *f);

/* Collective. Rank 0 writes a small whole file, which it alone has to have in memory; its outcome is everyone's. *f of
 * the other ranks must be OK; that of rank 0 may tell that there is nothing to write. */
longspan_status output_file_write_text(MPI_Comm comm, const char *path, const char *text, size_t bytes, bool force,
                                       failure *f);

#endif
