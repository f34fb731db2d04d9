/* The pattern longnet:SEGMENT,.../STEP,...: dilated attention. */
#ifndef PARTITION_LONGNET_H
#define PARTITION_LONGNET_H

#include "partition/patterns.h"

extern const pattern_terms longnet_terms;

/* NULL, or what is wrong with the numbers. */
const char *longnet_fault(const pattern_choice *choice);

#endif
