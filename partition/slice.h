/* A slice of a sparse pattern: some queries against some keys, such that the keys a query sees in it are one run, which
 * is what the fold kernel understands.
 *
 * Query i and key j are a pair of the slice when
 *     i is one of queries.begin, queries.begin + query_stride, ... below queries.end,
 *     j is one of keys.begin,    keys.begin    + key_stride,   ... below keys.end,
 *     low <= j - i < high.
 * With low and high far away that is full, with only high given causal, with only low given inverse causal, with both a
 * band. The query stride is 1 or the key stride: then the keys that a run of the slice's queries sees are again one run
 * of the slice's keys, and what a rank needs of a slice is one range. All answers are closed forms: O(1).
 *
 * A mask (partition/mask.h) is a few slices: each of its documents, chunks, and sides of the end of its prefix one. */
#ifndef PARTITION_SLICE_H
#define PARTITION_SLICE_H

#include "partition/mask.h"

/* Further than any two tokens, and sums of a few still fit. */
#define SLICE_FAR ((int64_t)1 << 60)

typedef struct {
    range queries;
    int64_t query_stride; /* 1, or the key stride */
    range keys;
    int64_t key_stride; /* >= 1 */
    int64_t low, high;  /* within +-SLICE_FAR */
} slice;

typedef enum { SLICE_FULL, SLICE_CAUSAL, SLICE_INVERSE_CAUSAL, SLICE_BAND } slice_kind;

/* Every query of a range against every key of another; or those pairs with low <= j - i < high. */
slice slice_full(range queries, range keys);
slice slice_band(range queries, range keys, int64_t low, int64_t high);

slice_kind slice_kind_of(const slice *s);

/* Has it no query or no key? */
bool slice_is_empty(const slice *s);

/* The part of a slice in a range of queries and a range of keys, its ranges tight: from the first query that sees a key
 * there to the last, one more than it is the end; the same of keys. Empty if there is no pair. Where only the keys are
 * strided, queries between that see none may be counted among those that see one. */
slice slice_within(const slice *s, range queries, range keys);

/* The keys of a slice that a query of it sees, as tokens from the first to past the last, of which every key_stride-th
 * is meant; empty if none. */
range slice_row(const slice *s, int64_t query);

/* Does every query of a slice see every key of it? */
bool slice_sees_all(const slice *s);

/* How many queries, keys, pairs. */
int64_t slice_query_count(const slice *s);
int64_t slice_key_count(const slice *s);
int64_t slice_pairs(const slice *s);

/* Called with the parts of something; nonzero ends that and is what it returns. */
typedef int (*slice_fn)(void *data, const slice *part);

/* The parts of a slice that a mask leaves, disjoint, in the order of their queries, no query in two of them. */
int slice_under_mask(const slice *s, const mask *m, slice_fn emit, void *data);

/* Set algebra. That of slices with different strides is a slice only where the strided queries and keys of one lie
 * wholly among those of the other or wholly beside them; else SLICE_MIXED and nothing is set. */
enum { SLICE_MOST_PARTS = 6, SLICE_MIXED = -1 };

/* a and b: 1 with the intersection in *both_p, 0 if it is empty. Where strides differ those of one must divide those of
 * the other. */
int slice_and(const slice *a, const slice *b, slice *both_p);

/* a without b: how many disjoint parts it has, in parts[]. b's strides must divide a's. */
int slice_without(const slice *a, const slice *b, slice parts[SLICE_MOST_PARTS]);

#endif
