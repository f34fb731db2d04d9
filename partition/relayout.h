/* Moving the rows of a tensor from one layout to another: an operation with a schedule of its own. For each rank, the
 * runs of rows that it sends to and receives from each other rank, and copies to itself, one message a pair of ranks
 * and run; both sides list the messages between two ranks in the same order (of tokens). */
#ifndef PARTITION_RELAYOUT_H
#define PARTITION_RELAYOUT_H

#include "partition/layout.h"

/* `count` runs of `length` rows: run i begins at row from + i * from_step on the sender, to + i * to_step on the
 * receiver. Stripes make many runs of few rows: they travel together, as one message. */
typedef struct {
    int sender, receiver; /* one of them this rank, or both */
    int64_t from, to;
    int64_t count, length;
    int64_t from_step, to_step;
} relayout_move;

typedef struct {
    relayout_move *moves;
    int64_t move_count;
    int64_t rows_sent, rows_received; /* of other ranks */
} relayout;

/* Layouts of as many tokens and ranks. 0, or -1 if memory ran out. */
int relayout_plan(const layout *from, const layout *to, int rank, relayout *relayout_p);
void relayout_free(relayout *r);

#endif
