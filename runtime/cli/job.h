/* One attention problem on this rank: the context, the plan and the local arrays. What attend and bench share. */
#ifndef CLI_JOB_H
#define CLI_JOB_H

#include "io/tensor_file.h"
#include "kernels/attention.h"
#include "runtime/cli/options.h"

typedef struct {
    longspan_problem problem; /* every default filled in, as the plan has it */
    const attention_kernel *kernel;
    int threads;
    longspan_context *context;
    longspan_plan *plan;
    longspan_range *query_ranges, *key_ranges;
    int64_t query_range_count, key_range_count;
    void *q, *k, *v, *out; /* [B, T, heads, dim]; from malloc, so pages appear as they are written */
    float *lse;
} job;

/* Not collective. The problem that options describe; its shape from the options (8 heads of 64 unless given), or from a
 * file's shapes. *problem_p refers to strings of the options and to `documents`. */
void job_problem_from_options(const options *o, longspan_problem *problem_p);
void job_problem_from_shapes(const options *o, const attention_shapes *shapes, const int64_t *documents,
                             int64_t document_count, longspan_problem *problem_p);

/* "full", "causal", "documents", "causal+documents": as the attribute `mask` of a result says it. */
const char *job_mask_name(const longspan_problem *problem);

/* Not collective. The kernel that --isa names, NULL with the reason in *f if this CPU cannot run it. */
const attention_kernel *job_kernel(const char *isa, failure *f);

/* Collective. Checks, plans and allocates; warns about how the ranks were launched. `progress` may be NULL. Fails as
 * session_agree does: false, *f agreed on and printed. *job_p is to be closed in either case. */
bool job_open(const session *s, const options *o, const longspan_problem *problem,
              void (*progress)(void *progress_data, double fraction), void *progress_data, job *job_p, failure *f);
/* Collective. {0} allowed. */
void job_close(job *j);

#endif
