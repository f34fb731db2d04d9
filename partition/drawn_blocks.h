/* Patterns whose blocks are drawn at random: each a pattern_kind's make (partition/patterns.h). The same at any number of
 * ranks. */
#ifndef PARTITION_DRAWN_BLOCKS_H
#define PARTITION_DRAWN_BLOCKS_H

#include "partition/patterns.h"

int drawn_blocks_bigbird(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift);
int drawn_blocks_random(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift);

#endif
