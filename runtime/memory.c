#define _DEFAULT_SOURCE /* madvise */

#include "runtime/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    LINE = 64,
    HUGE_PAGE = 2 << 20, /* of x86-64, and of other architectures with pages of 4 KiB */
    LARGE = 2 * HUGE_PAGE,
};

void *memory_allocate(size_t bytes)
{
    const size_t unit = bytes < LARGE ? LINE : HUGE_PAGE;
    if (bytes > SIZE_MAX - unit) return NULL;
    const size_t rounded = bytes / unit * unit + unit;
    void *memory = aligned_alloc(unit, rounded);
#ifdef MADV_HUGEPAGE
    if (memory && unit == HUGE_PAGE) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
    return memory;
}
