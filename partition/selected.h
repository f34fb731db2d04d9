/* The strategy of a selection, partition/selected.c. */
#ifndef PARTITION_SELECTED_H
#define PARTITION_SELECTED_H

#include "partition/schedule.h"

/* Not in the table of strategies: only the rank itself can plan, since it alone knows its lists. */
extern const strategy strategy_selected;

/* What a rank needs of others, for the selection of the problem: by peer, class, tokens. The keys of a block from the
 * first to the last that any query sees which has chosen it; runs that touch are one. *runs_p is to be freed. 0, or -1
 * if memory ran out. */
int selected_needs(const schedule_problem *problem, int rank, selection_run **runs_p, int64_t *count_p);

#endif
