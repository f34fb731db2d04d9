/* What partition/ computes in closed forms, done the slow and obvious way: a token, a pair at a time. Shares no code
 * with what it checks. */
#ifndef TESTS_PARTITION_BRUTE_H
#define TESTS_PARTITION_BRUTE_H

#include "partition/schedule.h"

#include <stddef.h>

/* Where each token of a layout lies. */
typedef struct {
    int64_t tokens;
    int *owner;     /* rank */
    int64_t *chunk; /* global chunk number */
    int64_t *row;   /* local row on the owner */
    int64_t *held;  /* [ranks] tokens a rank holds */
} token_map;

void token_map_make(token_map *map_p, const layout *l);
void token_map_free(token_map *map);

/* Document number of each token; NULL for one document. The caller frees it. */
int64_t *documents_of_tokens(const mask *m);

/* Does query i see key j? `document_of` as above. */
bool brute_sees(const mask *m, const int64_t *document_of, int64_t i, int64_t j);

void *test_allocate(size_t count, size_t size); /* zeroed; never returns NULL */

#endif
