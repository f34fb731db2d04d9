/* A selection: for every query the blocks of keys that it sees, chosen before the plan is made, by content or by
 * whoever made a file (top-k). A query sees the keys of its blocks that the mask lets it see.
 *
 * Lists are long, so every rank has those of its own queries alone. What others want of its keys it has been told
 * (runtime/selection_needs.c). Contiguous layouts, one batch item. */
#ifndef PARTITION_SELECTION_H
#define PARTITION_SELECTION_H

#include "partition/range.h"

/* A run of tokens that one rank needs of another, for the key heads of a class. */
typedef struct {
    int peer;  /* who has them, or who needs them */
    int class; /* 0 where all heads share a list; else the key head */
    range tokens;
} selection_run;

typedef struct {
    int64_t size;         /* tokens of a block, counted from the first token; the last block may be shorter */
    int lists;            /* a query: 1 for all its heads, or one a key head, or one a query head */
    int64_t most;         /* blocks of a list, K */
    int32_t *blocks;      /* [T, lists, K]: ascending; -1 behind the last */
    selection_run *asked; /* what other ranks need of this rank's keys: by peer, class, tokens */
    int64_t asked_count;
} selection;

#endif
