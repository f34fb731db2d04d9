/* Arrays that grow by one item at a time. */
#ifndef PARTITION_GROWN_H
#define PARTITION_GROWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Room for one more item in an array that is always grown by this function: its capacity is the power of two at or
 * above its count, so that it need not be stored. Returns the array, perhaps moved, or NULL with the old one intact. */
static inline void *grown(void *items, int64_t count, size_t size)
{
    const bool full = (count & (count - 1)) == 0;
    if (!full) return items;
    const size_t capacity = count == 0 ? 1 : 2 * (size_t)count;
    return realloc(items, capacity * size);
}

#endif
