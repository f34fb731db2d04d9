/* The strategies there are. A new one is its file and its name here, in the declaration and in the table. */
#include "partition/schedule.h"

#include <string.h>

extern const strategy strategy_ring, strategy_gather;

const strategy *const strategies[] = {&strategy_ring, &strategy_gather};

const int strategy_count = (int)(sizeof strategies / sizeof strategies[0]);

const strategy *strategy_find(const char *name)
{
    for (int i = 0; i < strategy_count; i++)
        if (strcmp(strategies[i]->name, name) == 0) return strategies[i];
    return NULL;
}
