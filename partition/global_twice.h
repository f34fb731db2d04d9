/* The pattern global-twice:LEFT,RIGHT,AT,...: a window and global tokens, which count twice where both have them. */
#ifndef PARTITION_GLOBAL_TWICE_H
#define PARTITION_GLOBAL_TWICE_H

#include "partition/patterns.h"

extern const pattern_terms global_twice_terms;

#endif
