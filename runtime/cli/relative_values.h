/* Relative keys that are made up: --relative of generate, bench and plan. */
#ifndef CLI_RELATIVE_VALUES_H
#define CLI_RELATIVE_VALUES_H

#include "runtime/cli/options.h"

/* keys [count, H, D], u and w [H, D]; NULL and 0 without --relative. */
typedef struct {
    float *keys, *u, *w;
    int64_t count;
} relative_values;

/* Not collective. Standard normal numbers that depend on the seed alone, for the offsets of --relative. To be freed. */
relative_values relative_values_make(const options *o, int heads, int dim, failure *f);
void relative_values_free(relative_values *values);

/* Makes them those of a problem, which then refers to them. */
void relative_values_apply(const relative_values *values, longspan_problem *p);

#endif
