/* Lists of blocks that come as arrays, as terms of a pattern. */
#ifndef PARTITION_BLOCK_LISTS_H
#define PARTITION_BLOCK_LISTS_H

#include "partition/patterns.h"

/* Adds the lists, each once, of blocks of `size` tokens; `b` may be NULL. 0; -1 if memory ran out; 1 with the reason in
 * *fault_p (a static string) if they are no lists for these lengths and heads. */
int block_lists_take(pattern_sum *s, const mask *m, int64_t size, const pattern_blocks *b, const char **fault_p);

#endif
