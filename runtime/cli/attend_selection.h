/* What attend does, and in part bench, before it plans where queries have lists of blocks. */
#ifndef CLI_ATTEND_SELECTION_H
#define CLI_ATTEND_SELECTION_H

#include "runtime/cli/job.h"

/* Not collective. Does the problem's pattern ask for a selection? Fails with IO where the input at `path` has lists
 * that nobody asks for. */
bool attend_selects(const char *path, const input_file *input, const longspan_problem *problem, failure *f);

/* Collective, with the job's context open. Reads the lists of this rank's queries, or job->q and job->k by which they
 * are chosen, and makes job->selection, to which problem->selection then refers. Fails as session_agree does. */
bool attend_select(const session *s, const input_file *input, longspan_problem *problem, job *j, failure *f);

/* Not collective. The dataset of the lists that were chosen, to be written with a result of `tokens` queries. */
output_dataset attend_selection_dataset(const longspan_selection *selection, int64_t tokens);

/* Collective, with a plan. The pairs that lists and mask let one head see, mean over heads. */
double attend_selection_pairs(const session *s, const job *j);

#endif
