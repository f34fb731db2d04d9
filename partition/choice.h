/* Which strategy and layout to use: all that can honour a problem, by predicted time. */
#ifndef PARTITION_CHOICE_H
#define PARTITION_CHOICE_H

#include "partition/prediction.h"

/* What is not left open. {0}: everything is. */
typedef struct {
    const strategy *strategy; /* NULL: any */
    int rows, columns;        /* of a hybrid that was named with them; else 0 */
    bool layout_given;
    layout_kind layout;
    int64_t block; /* of a striped layout; 0: the default */
} choice_wish;

typedef struct {
    const strategy *strategy;
    int rows, columns; /* of a hybrid, which is tried with several; else 0 */
    layout_kind layout;
    schedule_problem problem; /* with these layouts and columns; borrows the mask's documents */
    const char *refusal;      /* NULL, or why the strategy cannot be used: a static string */
    bool fits;                /* into `memory_bytes` */
    prediction prediction;    /* unless refused */
} choice;

/* All strategies and layouts that the wish allows, those for sparse patterns where the problem has one and else the
 * others unless one is named: first the one to use, then the others that fit by predicted time, then those that do not
 * fit by memory, at last those that are refused. Of those within a hundredth of the least time, the one to use has the
 * simplest layout (contiguous, zigzag, striped), then the least memory. The layouts and columns of *problem do not
 * matter, but that its query layout tells P. memory_bytes: of a rank; 0: no limit. Sets *choices_p (free it) and
 * *count_p >= 1. A pure function: the same on all ranks of equal arguments. 0, or -1 if memory ran out. O(1) schedules
 * for each choice, whatever P. */
int choice_rank(const schedule_problem *problem, const choice_wish *wish, const cost_sizes *sizes,
                const prediction_machine *machine, int64_t memory_bytes, choice **choices_p, int *count_p);

#endif
