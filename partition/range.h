/* Half-open ranges of tokens: [begin, end), empty when begin >= end; and of heads. */
#ifndef PARTITION_RANGE_H
#define PARTITION_RANGE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int64_t begin, end;
} range;

/* Heads [begin, end). */
typedef struct {
    int begin, end;
} head_range;

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

static inline head_range heads_all(int heads)
{
    return (head_range){0, heads};
}

static inline int heads_count(head_range heads)
{
    return heads.end - heads.begin;
}

static inline head_range heads_intersect(head_range a, head_range b)
{
    return (head_range){a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

#endif
