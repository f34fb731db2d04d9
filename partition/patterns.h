/* Sparse patterns by name: "sinks:4,1023". The text form of the command, of its files, and of longspan_problem.pattern.
 *
 *     NAME:ITEM,ITEM,...    an ITEM is a number, with the suffix k, M or G where wanted, or a run of tokens FIRST-LAST
 *
 * Tokens count from the start of each packed document, as if it were alone. */
#ifndef PARTITION_PATTERNS_H
#define PARTITION_PATTERNS_H

#include "partition/pattern_sum.h"

#include <stddef.h>
#include <stdint.h>

enum { PATTERN_MOST_ITEMS = 512, PATTERN_TEXT_SIZE = 4096, PATTERN_WHY_SIZE = 256 };

typedef struct pattern_kind pattern_kind;

/* A text, read. */
typedef struct {
    const pattern_kind *kind;
    int count;
    range items[PATTERN_MOST_ITEMS]; /* number n: [n, n + 1) */
    int second;                      /* the item after the first '/'; count if there is none */
} pattern_choice;

/* Blocks that come as arrays, the caller's: one list for all heads, or one a head, in one array of columns one after
 * the other. {0}: none. */
typedef struct {
    int lists;                               /* 1, or H */
    int64_t query_blocks, key_blocks, count; /* count: columns of all lists */
    const int64_t *offsets;                  /* [lists, query_blocks + 1] */
    const int64_t *columns;
} pattern_blocks;

enum {
    TWO_LISTS = 1,       /* one '/' stands between two items */
    JOINS_DOCUMENTS = 2, /* may be of packed documents */
    BLOCKS_ARE_SELECTED = 4, /* no pattern is made: queries have lists of blocks (partition/selection.h) */
};

/* Of a kind that is a sum of patterns: its terms, partition/pattern_sum.h. */
typedef struct {
    int (*count)(const pattern_choice *choice, int heads);
    /* A term is of the heads first, first + step, ... */
    void (*heads)(const pattern_choice *choice, int heads, int term, int *first_p, int *step_p);
    /* As make of a kind, of one term. */
    int (*make)(pattern *p, const pattern_choice *choice, int heads, int term, range queries, range keys,
                int64_t shift);
} pattern_terms;

struct pattern_kind {
    const char *name, *usage; /* "sinks", "sinks:COUNT,LEFT" */
    const char *summary;
    int least, most; /* items; most 0: as many as one likes */
    int numbers;     /* the first so many items are numbers; the others may be runs */
    unsigned flags;
    /* Adds the pairs of one document, or of all there is; query i stands at key i + shift. 0, or -1 without memory. */
    int (*make)(pattern *p, const pattern_choice *choice, range queries, range keys, int64_t shift);
    const pattern_terms *terms;                         /* instead of make, or NULL: one term of all heads */
    const char *(*fault)(const pattern_choice *choice); /* NULL, or what is wrong with the numbers */
};

extern const pattern_kind pattern_kinds[];
extern const int pattern_kind_count;

/* False, with the reason in `why`, if the text is no pattern. */
bool pattern_choice_parse(const char *text, pattern_choice *choice_p, char why[PATTERN_WHY_SIZE]);

/* The pattern of H heads for the lengths and documents of a mask, and for `blocks`, which "blocks:SIZE" needs; lists of
 * blocks that are equal become one term. 0; -1 if memory ran out; 1 with the reason in `why` if they do not go
 * together.
 */
int pattern_make(const pattern_choice *choice, const mask *m, int heads, const pattern_blocks *blocks,
                 pattern_sum **pattern_p, char why[PATTERN_WHY_SIZE]);

/* A number of a choice, but no further than any two tokens. */
int64_t pattern_number(const pattern_choice *c, int index);

#endif
