/* One attention problem on this rank: the context, the plan and the local arrays. What attend and bench share. */
#ifndef CLI_JOB_H
#define CLI_JOB_H

#include "kernels/attention.h"
#include "runtime/cli/files.h"
#include "runtime/cli/options.h"
#include "runtime/plan.h"
#include "runtime/trace.h"

typedef struct {
    longspan_problem problem; /* every default filled in, as the plan has it */
    const attention_kernel *kernel;
    int threads;
    longspan_context *context;
    longspan_plan *plan;
    longspan_selection *selection; /* NULL but where queries have lists of blocks */
    bool selection_is_chosen;      /* by q and k, not given */
    double selection_pairs;        /* (query, key) pairs that one head sees by them, mean over heads */
    longspan_range *query_ranges, *key_ranges;
    int64_t query_range_count, key_range_count;
    void *q, *k, *v, *out; /* [B, T, heads, dim]; from malloc, so pages appear as they are written */
    bool plan_has_keys;    /* k and v are the plan's own */
    float *lse;
    trace *trace; /* NULL without --trace */
} job;

/* Not collective. The shape of a problem, its mask and scores being the defaults but for the arrays of the input, to
 * which *problem_p then refers: from options (8 heads of 64 unless given), or from an input. */
void job_problem_from_input(const input_file *input, longspan_problem *problem_p);
void job_problem_from_options(const options *o, longspan_problem *problem_p);

/* Not collective. What options say of a problem beside its shape: mask, pattern, scores, strategy and layout, to whose
 * text *problem_p then refers. */
void job_problem_choose(const options *o, longspan_problem *problem_p);

/* Not collective. The list of blocks of the input at `path`, where the problem's pattern is of blocks. Fails with IO where
 * the input has one that nobody asks for. */
longspan_status job_problem_set_blocks(const char *path, const input_file *input, longspan_problem *problem, failure *f);

/* Not collective. The kernel that --isa names, NULL with the reason in *f if this CPU cannot run it. */
const attention_kernel *job_kernel(const char *isa, failure *f);

/* Collective. The kernel, the threads, the trace and the context; the rest is empty. Warns about how the ranks were
 * launched. `progress` may be NULL. Fails as session_agree does: false, *f agreed on and printed. *job_p is to be closed
 * in either case. */
bool job_open_context(const session *s, const options *o, void (*progress)(void *progress_data, double fraction),
                      void *progress_data, job *job_p, failure *f);
/* Collective, after it. Checks, plans and allocates. Fails likewise. */
bool job_plan(const session *s, const longspan_problem *problem, job *j, failure *f);
/* What linear attention, which plans for itself, has too. job_check: true if the library's call succeeded, else false, *f
 * set from it and printed; what it failed with is agreed on. job_planned, not collective: the command waits as long as
 * the library, which knows what the plan takes. job_allocate, not collective: memory for rows of a tensor, NULL with the
 * reason in *f. */
bool job_check(const session *s, const job *j, longspan_status status, failure *f);
void job_planned(const session *s, const job *j);
void *job_allocate(const char *name, int64_t rows, int heads, int dim, size_t size, failure *f);

/* Not collective. Rank 0 warns, in a line, where what was chosen needs more bytes a rank than it may use (0: no limit),
 * which comes only where nothing that the options leave open needs less. */
void job_warn_of_memory(const session *s, const char *strategy, const char *layout, int64_t needed, int64_t allowed);
/* Not collective. (query, key) pairs that the mask lets one head see, mean over batch items. Closed form. */
double job_pairs(const job *j);

/* Collective. {0} allowed. */
void job_close(job *j);

#endif
