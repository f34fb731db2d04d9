/* Attention whose heads are dealt to the ranks of a group, and whose keys go round a ring of groups: what the
 * strategies heads and hybrid have in common. */
#ifndef PARTITION_COLUMNS_H
#define PARTITION_COLUMNS_H

#include "partition/schedule.h"

/* The schedule of `rank` with groups of `columns` consecutive ranks; P is a multiple of it. As strategy.plan. */
int columns_plan(const schedule_problem *problem, int columns, int rank, schedule **schedule_p);

/* The query heads of every rank of a group, in runs[columns]: contiguous, in order, floor(H / columns) or one more, so
 * that H < columns leaves ranks without any. Which get one more is chosen so that runs rather end where the query heads
 * of a key head end: a key head whose query heads are dealt to two ranks has to travel to both. */
void columns_deal_heads(int heads, int kv_heads, int columns, head_range *runs);

/* The first rank of `rank`'s group that has as many heads as any; for columns without a fault. */
int columns_busiest(const schedule_problem *problem, int columns, int rank);
/* NULL, or why groups of so many ranks are too large (a static string). */
const char *columns_fault(int columns);

#endif
