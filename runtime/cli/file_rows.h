/* A plan's rows from and to a file.
 *
 * A striped layout gives each rank many short runs of rows. A file is read and written in long runs instead: each rank
 * takes a contiguous part, and the ranks pass rows on to whom they belong (longspan_relayout). */
#ifndef CLI_FILE_ROWS_H
#define CLI_FILE_ROWS_H

#include "runtime/cli/job.h"

/* Collective. This rank's rows of a dataset of the input, as the plan has them, into target [B, T, heads, dim]. Fails
 * as session_agree does. */
bool file_rows_read(const session *s, const job *j, longspan_axis axis, const input_file *input, const char *dataset,
                    const tensor_shape *shape, void *target, failure *f);

/* Collective. This rank's rows of queries, source [B, T, row_bytes], into dataset `index`; see output_file_write. A
 * failure is kept in *f, to be agreed on by output_file_commit. */
void file_rows_write(const session *s, const job *j, const output_file *output, int index, bool batched,
                     size_t row_bytes, const void *source, failure *f);

#endif
