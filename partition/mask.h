/* Which keys a query sees, as a question about ranges.
 *
 * Query i of N and key j of M. The position of query i among the keys is p = i + (M - N): aligned at the bottom right,
 * so the last query stands at the last key. Packed documents count both from their own start, as if each were alone.
 * The parts combine by "and", but that a prefix widens causal:
 *   full       every key
 *   causal     j <= p, or j < prefix
 *   window     p - left <= j <= p + right
 *   chunked    floor(p / chunk) - chunks_left <= floor(j / chunk) <= floor(p / chunk) + chunks_right
 *   documents  offsets 0 = c_0 <= c_1 <= ... <= c_n = N; query and key lie in the same document (needs N == M; empty
 *              documents are allowed)
 * The keys a row sees form one range (mask_row), and both of its borders never fall as i grows: everything here and in
 * the strategies rests on that. Lengths of key padding differ between batch items and are not part of the mask: they
 * cut every row's range at the end (runtime/plan.h).
 * Sources: prefix, Raffel et al., arXiv 1910.10683, section 3.2.1; window, Beltagy et al., arXiv 2004.05150; chunked,
 * as in Zhang et al., streaming Transformer transducers, arXiv 2010.11395. */
#ifndef PARTITION_MASK_H
#define PARTITION_MASK_H

#include "partition/range.h"

enum { MASK_UNLIMITED = -1 };

typedef struct {
    int64_t queries, keys; /* N, M */
    bool causal;
    int64_t window_left, window_right; /* >= 0, or MASK_UNLIMITED */
    int64_t prefix;                    /* >= 0; 0: none; without causal it changes nothing */
    int64_t chunk;                     /* tokens of a chunk; 0: none */
    int64_t chunks_left, chunks_right; /* >= 0, or MASK_UNLIMITED */
    const int64_t *documents;          /* document_count + 1 offsets, the caller's; NULL for one document */
    int64_t document_count;
} mask;

/* N queries against M keys, nothing hidden. */
mask mask_full(int64_t queries, int64_t keys);

typedef enum { MASK_NOTHING, MASK_EVERYTHING, MASK_LOOK_INSIDE } mask_answer;

/* Does any, or every, query of a range see a key of a range? Exact: never LOOK_INSIDE where one of the other two is
 * true. Empty ranges see nothing. O(log documents). */
mask_answer mask_ask(const mask *m, range queries, range keys);

/* The keys that query i sees; empty if none. O(log documents). */
range mask_row(const mask *m, int64_t query);

/* The smallest range that holds every key that a query of the range sees; empty if none. O(log documents). */
range mask_keys(const mask *m, range queries);

/* The queries that see any key of a range: one range too, and exactly these; empty if none. O(log documents). */
range mask_queries(const mask *m, range keys);

/* Number of (query, key) pairs seen in a range of queries against a range of keys. A closed form for each document that
 * both ranges touch, with chunks for each chunk of queries; no overflow where mask_fault finds none. */
int64_t mask_pairs(const mask *m, range queries, range keys);

/* NULL, or why these fields are no mask (a static string). Lengths end at N M = 2^62. */
const char *mask_fault(const mask *m);
/* The same of the documents alone. */
const char *mask_documents_fault(const mask *m);

#endif
