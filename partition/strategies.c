/* The strategies there are. A new one is its file and its name here, in the declaration and in the table. */
#include "partition/schedule.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

extern const strategy strategy_ring, strategy_gather, strategy_double_ring, strategy_shared, strategy_heads,
    strategy_hybrid, strategy_queries, strategy_decode, strategy_fetch, strategy_fetch_ring;

const strategy *const strategies[] = {&strategy_ring,  &strategy_gather,    &strategy_double_ring, &strategy_shared,
                                      &strategy_heads, &strategy_hybrid,    &strategy_queries,     &strategy_decode,
                                      &strategy_fetch, &strategy_fetch_ring};

const int strategy_count = (int)(sizeof strategies / sizeof strategies[0]);

/* A whole number of at least 1; *end_p is what follows it. */
static bool read_count(const char *text, const char **end_p, int *count_p)
{
    if (*text < '0' || *text > '9') return false;
    char *end = NULL;
    errno = 0;
    const long count = strtol(text, &end, 10);
    if (errno != 0 || count < 1 || count > INT_MAX) return false;
    *count_p = (int)count;
    *end_p = end;
    return true;
}

/* "RxC", and nothing after it. */
static bool read_grid(const char *text, int *rows_p, int *columns_p)
{
    const char *x, *end;
    int rows, columns;
    if (!read_count(text, &x, &rows) || *x != 'x' || !read_count(x + 1, &end, &columns) || *end != '\0') return false;
    *rows_p = rows;
    *columns_p = columns;
    return true;
}

const strategy *strategy_find(const char *name, int *rows_p, int *columns_p)
{
    *rows_p = *columns_p = 0;
    const char *colon = strchr(name, ':');
    const size_t length = colon ? (size_t)(colon - name) : strlen(name);
    for (int i = 0; i < strategy_count; i++) {
        const strategy *found = strategies[i];
        if (strlen(found->name) != length || strncmp(found->name, name, length) != 0) continue;
        if (colon && (strcmp(found->name, "hybrid") != 0 || !read_grid(colon + 1, rows_p, columns_p))) return NULL;
        return found;
    }
    return NULL;
}
