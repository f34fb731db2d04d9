/* The ways that states can travel. A new one is its file and its name here, in the declaration and in the table. */
#include "partition/linear_schedule.h"

#include <string.h>

extern const linear_strategy linear_strategy_chain, linear_strategy_gather, linear_strategy_scan,
    linear_strategy_allreduce;

const linear_strategy *const linear_strategies[] = {&linear_strategy_chain, &linear_strategy_gather,
                                                    &linear_strategy_scan, &linear_strategy_allreduce};

const int linear_strategy_count = (int)(sizeof linear_strategies / sizeof linear_strategies[0]);

const linear_strategy *linear_strategy_find(const char *name)
{
    for (int i = 0; i < linear_strategy_count; i++)
        if (strcmp(linear_strategies[i]->name, name) == 0) return linear_strategies[i];
    return NULL;
}
