/* A result of `attend` and the input it was computed from: what verify and map start with.
 *
 * attend writes /out and /lse and these attributes of the root group:
 *   format_version  1
 *   program         "longspan VERSION"
 *   input           path of the input relative to the result's folder, so that the two can be moved together
 *   input_absolute  the same, absolute, for a result that was moved alone
 *   mask            "full", "causal", "documents" or "causal+documents"; the offsets are the input's /documents
 *   scale           number
 *   strategy, layout, compute, isa, ranks, threads   how it was computed */
#ifndef CLI_RESULT_FILE_H
#define CLI_RESULT_FILE_H

#include "partition/mask.h"
#include "runtime/cli/files.h"
#include "runtime/cli/session.h"

typedef struct {
    tensor_file *file;
    tensor_shape out; /* heads H, dim E */
    mask mask;        /* documents point into the input */
    double scale;
    input_file input;
    char *input_path; /* where the input was found */
} result_file;

/* Collective. Opens the result and its input (input_path, or NULL for the one that the attributes name) on every rank,
 * and checks that they fit. Fails as session_agree does. Close in either case. */
bool result_file_open(const session *s, const char *path, const char *input_path, result_file *result_p, failure *f);
/* Not collective; {0} allowed. */
void result_file_close(result_file *result);

/* Not collective. The attributes input and input_absolute of a result to be written to `path`: malloc'ed. Returns 0, or
 * -1 with the failure in *f. */
int result_file_name_input(const char *path, const char *input_path, char **relative_p, char **absolute_p, failure *f);

#endif
