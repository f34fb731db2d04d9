/* A result of `attend` and the input it was computed from: what verify and map start with.
 *
 * attend writes /out and /lse and these attributes of the root group:
 *   format_version  1
 *   program         "longspan VERSION"
 *   input           path of the input relative to the result's folder, so that the two can be moved together
 *   input_absolute  the same, absolute, for a result that was moved alone
 *   mask            as mask_option.h has it; documents and key_lengths are the input's
 *   pattern         as --pattern takes it; of "blocks:SIZE" the list is the input's; absent without one
 *   scale           number
 *   softcap         number; absent without a cap
 *   rope_dim, rope_base, rope_style   integer, number, "half" or "interleaved"; absent without RoPE
 *   alibi, sinks, relative    1 where the input's /alibi_slopes, /sinks, /relative_keys apply; else absent
 *   attention       "softmax", "sparsemax", "entmax:ALPHA", or the name of a linear variant; absent: softmax
 *   initial_state   1 where a linear result went on from the input's /state; else absent
 *   strategy, layout, compute, isa, ranks, threads   how it was computed
 * A linear result has no /lse, and of the attributes of scores only the scale; one of sparsemax or entmax has
 * /threshold in place of /lse. */
#ifndef CLI_RESULT_FILE_H
#define CLI_RESULT_FILE_H

#include "partition/patterns.h"
#include "runtime/cli/files.h"
#include "runtime/cli/mask_option.h"
#include "runtime/cli/row_oracle.h"
#include "runtime/cli/session.h"

typedef struct {
    tensor_file *file;
    tensor_shape out;             /* heads H, dim E */
    const linear_variant *linear; /* NULL: softmax or entmax, and then `problem` counts, else linear_problem */
    double alpha;                 /* of entmax, as in `problem`; 0 for the others */
    longspan_linear_problem linear_problem;
    bool has_initial; /* it went on from the input's /state */
    /* What was computed: sizes, mask and scores, every default filled in; arrays point into the input. */
    longspan_problem problem;
    oracle_arithmetic arithmetic;
    input_file input;
    char pattern[PATTERN_TEXT_SIZE]; /* "" for none */
    const tensor_file *selection_file; /* that holds the blocks which queries see, of selection_size keys; NULL: none */
    selection_shape selection;
    int64_t selection_size;
    bool is_nsa;              /* native sparse attention: no /lse */
    bool selection_is_chosen; /* by q and k: selection_most blocks a query, or all where there are fewer */
    int64_t selection_most;
    char *input_path; /* where the input was found */
} result_file;

/* Collective. Opens the result and its input (input_path, or NULL for the one that the attributes name) on every rank,
 * and checks that they fit. Fails as session_agree does. Close in either case. */
bool result_file_open(const session *s, const char *path, const char *input_path, result_file *result_p, failure *f);
/* Not collective; {0} allowed. */
void result_file_close(result_file *result);

/* Not collective. The attributes from `mask` to `sinks` of a result of this problem; returns how many, at most
 * RESULT_PROBLEM_ATTRIBUTES. `mask_name` is room for one of them. */
enum { RESULT_PROBLEM_ATTRIBUTES = 10 };
int result_file_describe(const longspan_problem *problem, char mask_name[MASK_NAME_SIZE],
                         output_attribute attributes[RESULT_PROBLEM_ATTRIBUTES]);

/* The same of a linear result, `attention` among them. */
int result_file_describe_linear(const longspan_linear_problem *problem, bool has_initial,
                                output_attribute attributes[RESULT_PROBLEM_ATTRIBUTES]);

/* Not collective. The attributes input and input_absolute of a result to be written to `path`: malloc'ed. Returns 0, or
 * -1 with the failure in *f. */
int result_file_name_input(const char *path, const char *input_path, char **relative_p, char **absolute_p, failure *f);

#endif
