/* A sparse pattern: which keys a query sees where a mask alone (partition/mask.h) cannot say it, because they are more
 * than one run.
 *
 * Pairwise disjoint slices (partition/slice.h), or a block list: for each block of queries the blocks of keys that it
 * sees, as CSR. A pattern and a mask together mean "and"; the mask is asked where the pattern is looked at, so that a
 * pattern does not grow with documents and chunks.
 *
 * Slices lie in layers: no query is in two slices of one layer, so that a layer is one call of the kernel. A block list
 * is a layer of its own, the last. */
#ifndef PARTITION_PATTERN_H
#define PARTITION_PATTERN_H

#include "partition/slice.h"

/* Queries [i size, (i + 1) size) see keys [c size, (c + 1) size) for each c of columns[offsets[i]] up to
 * columns[offsets[i + 1]], ascending. The last blocks may be shorter. */
typedef struct {
    int64_t size; /* tokens of a block; 0: there is no list */
    int64_t query_blocks, key_blocks;
    int64_t *offsets, *columns;
} block_list;

typedef struct {
    slice *slices;
    int64_t count;
    int64_t part;   /* slices from here on belong to the part that is being built */
    bool ascending; /* each slice begins where the one before has ended */
    /* The last slices, if their queries are strided: of one stride, different residues, all from `floor` on. */
    int64_t end, floor, stride, residue;
} pattern_layer;

typedef struct {
    int64_t queries, keys; /* N, M */
    pattern_layer *layers;
    int layer_count;
    block_list blocks;
} pattern;

/* Building. These return 0, or -1 if memory ran out. */

pattern *pattern_create(int64_t queries, int64_t keys); /* of no pair; NULL if memory ran out */
void pattern_destroy(pattern *p);                       /* NULL is allowed */

enum { PATTERN_MIXED = 1 };
/* Adds those pairs of a slice that the slices of this part do not have yet: "or", no pair counted twice. PATTERN_MIXED,
 * with nothing added, if the strides do not allow that (slice_without): then the coarser ones are to be added first. */
int pattern_add(pattern *p, const slice *s);
/* Adds a slice that has no pair with any other in common. */
int pattern_add_disjoint(pattern *p, const slice *s);
/* What is added from here on has no pair with what there is: documents, one after the other. */
void pattern_begin_part(pattern *p);
/* Makes a list of blocks of that size, empty, with room for `most` columns, in a pattern that has none. */
int pattern_make_blocks(pattern *p, int64_t size, int64_t most);

/* Pairs of a and of b, but each once; pairs of both. NULL or -1 as above; PATTERN_MIXED where strides do not allow it.
 * Block lists of the same size make a block list, all others slices. */
int pattern_or(const pattern *a, const pattern *b, pattern **either_p);
int pattern_and(const pattern *a, const pattern *b, pattern **both_p);

/* Asking. A NULL pattern hides nothing: then all is as the mask says. */

/* Runs of keys that the same queries see: slices of the same strides, low and high, that differ in their keys and,
 * being tight (slice_within), perhaps in their first and last query; by ascending keys. */
typedef struct {
    int layer;
    const slice *runs;
    int64_t count;
    const slice *whole; /* the slice of the pattern that it is part of; NULL of a block list, and without a pattern */
} pattern_part;

/* Nonzero ends the visit and is what it returns. */
typedef int (*pattern_fn)(void *data, const pattern_part *part);

/* Everything of a pattern under a mask in a range of queries and a range of keys: parts with at least one pair, layer
 * by layer; two parts of a layer have no query in common. -1 if memory ran out. */
int pattern_visit(const pattern *p, const mask *m, range queries, range keys, pattern_fn fn, void *data);

/* Number of pairs; for the last -1 if memory ran out. */
int64_t pattern_pairs(const pattern *p, const mask *m, range queries, range keys);

/* Does any, or every, query of a range see a key of a range? Exact. */
mask_answer pattern_ask(const pattern *p, const mask *m, range queries, range keys);

#endif
