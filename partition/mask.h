/* Which keys a query sees, as a question about ranges.
 *
 * Query i of N and key j of M. The parts combine by "and":
 *   full       every key
 *   causal     j <= i + (M - N): aligned at the bottom right, so the last query sees the last key
 *   documents  packed documents: offsets 0 = c_0 <= c_1 <= ... <= c_n = N; query and key lie in the same document
 *              (needs N == M; empty documents are allowed)
 * The keys a row sees form one range (mask_row). */
#ifndef PARTITION_MASK_H
#define PARTITION_MASK_H

#include "partition/range.h"

typedef struct {
    int64_t queries, keys; /* N, M */
    bool causal;
    const int64_t *documents; /* document_count + 1 offsets, the caller's; NULL for one document */
    int64_t document_count;
} mask;

typedef enum { MASK_NOTHING, MASK_EVERYTHING, MASK_LOOK_INSIDE } mask_answer;

/* Does any, or every, query of a range see a key of a range? Exact: never LOOK_INSIDE where one of the other two is
 * true. Empty ranges see nothing. O(log documents). */
mask_answer mask_ask(const mask *m, range queries, range keys);

/* The keys that query i sees; empty if none. O(log documents). */
range mask_row(const mask *m, int64_t query);

/* The queries that see any key of a range: one range too, and exactly these; empty if none. O(log documents). */
range mask_queries(const mask *m, range keys);

/* Number of (query, key) pairs seen in a range of queries against a range of keys. Closed form a document; no
 * overflow up to N = M = 2^31. */
int64_t mask_pairs(const mask *m, range queries, range keys);

#endif
