/* Memory of large arrays. */
#ifndef RUNTIME_MEMORY_H
#define RUNTIME_MEMORY_H

#include <stddef.h>

/* At least `bytes` bytes, uninitialised and aligned to 64, for free(); NULL if there are none. Of large arrays the
 * system is asked to use huge pages, since rows that are read here and there cost a look into its page tables each:
 * 2 to 7 % of attention over chosen blocks. It may decline, and memory is touched 2 MiB at a time where it does not. */
void *memory_allocate(size_t bytes);

#endif
