/* Sparse patterns by their definitions, a pair at a time. Shares no code with what it checks. */
#ifndef TESTS_PARTITION_BRUTE_PATTERN_H
#define TESTS_PARTITION_BRUTE_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

enum { BRUTE_BRANCHES = 3 };

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
    BRUTE_HEAD_BLOCKS,    /* the same with a list of each of `heads` */
    BRUTE_GLOBAL_TWICE,   /* as BRUTE_GLOBAL */
    BRUTE_LONGNET,        /* segments `numbers`, `steps`, of `branches` */
    BRUTE_PATTERNS
} brute_name;

typedef struct {
    brute_name name;
    int64_t numbers[3], steps[BRUTE_BRANCHES];
    int branches;
    bool first[512], second[512];
    int heads;
    const int64_t *offsets, *columns; /* [rows + 1], or [heads, rows + 1] */
    int64_t offsets_of_head;          /* rows + 1 */
} brute_pattern;

/* How often a head of the query at position p sees the key at position j, counted from the start of its document.
 * `keys`: of the document. Blocks: of queries and keys by their tokens. */
int brute_times(const brute_pattern *x, int head, int64_t p, int64_t j, int64_t keys);

/* Are its positions those of tokens, whatever documents there are? */
bool brute_is_of_blocks(const brute_pattern *x);
/* Does it refuse documents? */
bool brute_is_alone(brute_name name);

/* Its text, as --pattern takes it. */
void brute_pattern_text(const brute_pattern *x, char *text, int size);

/* A pattern of this name with small numbers, for `keys` tokens and at most BRUTE_HEADS heads; `offsets` and `columns`
 * are the caller's, with room for BRUTE_OFFSETS and BRUTE_COLUMNS numbers. */
enum { BRUTE_HEADS = 8, BRUTE_OFFSETS = BRUTE_HEADS * 513, BRUTE_COLUMNS = BRUTE_HEADS * 8192 };
void brute_pattern_draw(brute_pattern *x, brute_name name, int heads, int64_t queries, int64_t keys, uint64_t seed,
                        int64_t *offsets, int64_t *columns);

#endif
