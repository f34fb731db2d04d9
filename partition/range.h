/* Half-open ranges of tokens: [begin, end), empty when begin >= end. */
#ifndef PARTITION_RANGE_H
#define PARTITION_RANGE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int64_t begin, end;
} range;

static inline int64_t range_length(range r)
{
    return r.begin < r.end ? r.end - r.begin : 0;
}

static inline bool range_is_empty(range r)
{
    return r.begin >= r.end;
}

static inline range range_intersect(range a, range b)
{
    return (range){a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

/* The smallest range that holds both; an empty one adds nothing. */
static inline range range_hull(range a, range b)
{
    if (range_is_empty(a)) return b;
    if (range_is_empty(b)) return a;
    return (range){a.begin < b.begin ? a.begin : b.begin, a.end > b.end ? a.end : b.end};
}

#endif
