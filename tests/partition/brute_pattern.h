/* Sparse patterns by their definitions, a pair at a time. Shares no code with what it checks. */
#ifndef TESTS_PARTITION_BRUTE_PATTERN_H
#define TESTS_PARTITION_BRUTE_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

/* A pattern and its numbers, as its text has them. */
typedef enum {
    BRUTE_SINKS,          /* COUNT, LEFT */
    BRUTE_GLOBAL,         /* LEFT, RIGHT, and the token sets `first` */
    BRUTE_DILATED,        /* STEP, LEFT, RIGHT */
    BRUTE_BIGBIRD,        /* BLOCK, RANDOM, SEED */
    BRUTE_RANDOM,         /* BLOCK, PERCENT, SEED */
    BRUTE_STRIDED,        /* LENGTH */
    BRUTE_FIXED,          /* LENGTH, LAST */
    BRUTE_VERTICAL_SLASH, /* columns `first`, diagonals `second` */
    BRUTE_BLOCKS,         /* SIZE, and `offsets` and `columns` */
    BRUTE_PATTERNS
} brute_name;

typedef struct {
    brute_name name;
    int64_t numbers[3];
    bool first[512], second[512];
    const int64_t *offsets, *columns;
} brute_pattern;

/* Is a key at position j, counted from the start of its document, in the pattern's set of the query at position p?
 * `keys`: of the document. Blocks: of queries and keys by their tokens. */
bool brute_in_pattern(const brute_pattern *x, int64_t p, int64_t j, int64_t keys);

/* Its text, as --pattern takes it. */
void brute_pattern_text(const brute_pattern *x, char *text, int size);

/* A pattern of this name with small numbers, for `keys` tokens; `offsets` and `columns` are the caller's, with room for
 * 513 and 8192 numbers. */
void brute_pattern_draw(brute_pattern *x, brute_name name, int64_t queries, int64_t keys, uint64_t seed,
                        int64_t *offsets, int64_t *columns);

#endif
