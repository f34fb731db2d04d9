/* What verify knows of selected blocks: which keys they let a row see and, where q and k chose them, whether they are
 * the right ones. */
#ifndef CLI_VERIFY_SELECTION_H
#define CLI_VERIFY_SELECTION_H

#include "runtime/cli/result_file.h"

/* Means of the blocks of keys, where blocks were chosen by them. {0}: nothing to check. */
typedef struct {
    double *means; /* [blocks, G, D] */
    int64_t blocks, most;
} verify_selection;

/* Collective. Reads k once over all ranks where the result's pattern asks for it. Fails as session_agree does. To be
 * freed in either case. */
bool verify_selection_open(const session *s, const result_file *result, verify_selection *v, failure *f);
void verify_selection_free(verify_selection *v);

/* Not collective. The keys that a sampled row sees become those of its lists, which are read from the file that holds
 * them. By the row's q [H, D] a list is wrong, and is added to *wrong_p, unless it has the own block and as many of
 * those before it as it should, none of which scores less than one that it has not, by more than rounding the means to
 * float32 can account for: u sum_d |q_d mean_d|, u = 2^-24, of each. -1 with the reason in *f. */
int verify_selection_row(const verify_selection *v, const result_file *result, int64_t token, const double *q,
                         oracle_row *row, int64_t *wrong_p, failure *f);

#endif
