/* The selection of MoBA, "moba:BLOCK,TOPK". */
#ifndef RUNTIME_MOBA_H
#define RUNTIME_MOBA_H

#include "runtime/selection.h"

/* Not collective. What it goes with. */
longspan_status moba_check(const longspan_problem *problem, failure *f);

/* Collective. Lists for every query head, by this rank's q [T, H, D] and k [T, G, D]. NULL with the agreed failure in
 * *f. Sends a mean of each block to every rank. */
longspan_selection *moba_select(longspan_context *context, const longspan_problem *problem,
                                const pattern_choice *choice, const void *q, const void *k, failure *f);

#endif
