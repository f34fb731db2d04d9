/* Runs the schedules of all ranks on paper: a state is the list of token intervals that went into it, in order. */
#ifndef TESTS_PARTITION_LINEAR_CHECKER_H
#define TESTS_PARTITION_LINEAR_CHECKER_H

#include "partition/linear_schedule.h"

#include <stddef.h>

/* Who shares a document with whom, token by token. Of ranks without tokens all is 0 or false. */
enum { LINEAR_RANK_LIMIT = 16 };
typedef struct {
    range tokens[LINEAR_RANK_LIMIT];
    range first_document[LINEAR_RANK_LIMIT], last_document[LINEAR_RANK_LIMIT]; /* of a rank's first and last token */
    int contributors[LINEAR_RANK_LIMIT], readers[LINEAR_RANK_LIMIT];           /* how many */
    bool one_piece[LINEAR_RANK_LIMIT];
} linear_truth;

void linear_truth_find(const linear_schedule_problem *problem, linear_truth *truth_p);

/* Every rank's tokens are taken in once, with the state that they must begin with or read, of every unit; transfers have
 * their twins; nothing is used before it is there or overwritten while it travels; the states given and wanted are where
 * the schedule says. Else false, with one line about what is wrong. */
bool linear_schedules_are_right(const linear_schedule_problem *problem, linear_schedule *const *schedules, char *fault,
                                size_t size);

/* What `from` sends to `to` in all steps is what that one expects. Adds the messages to *messages_p. */
bool linear_twins_agree(const linear_schedule *from, const linear_schedule *to, int64_t *messages_p);

/* Units in all transfers of a direction. */
int64_t linear_units_moved(const linear_schedule *s, transfer_direction direction);

#endif
