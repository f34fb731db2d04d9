/* The memory of all ranks on paper: for every row and head of every slot, whose row it is and, of a state, which keys
 * have been folded into it. Nothing here knows what a schedule is meant to do. */
#ifndef TESTS_PARTITION_PAPER_H
#define TESTS_PARTITION_PAPER_H

#include "tests/partition/brute.h"

/* What a mask and two layouts allow, pair by pair: the same for all strategies. */
typedef struct {
    token_map queries, keys;
    int64_t **query_token, **key_token; /* [ranks][row] */
    int ranks;
    int words;         /* of a set of keys, 64 a word */
    uint64_t *allowed; /* [N][words] keys that a query sees */
} pair_table;

pair_table *pair_table_create(const schedule_problem *problem);
void pair_table_destroy(pair_table *t);

static inline const token_map *pair_table_map(const pair_table *t, rows_kind kind)
{
    return kind == ROWS_KEYS ? &t->keys : &t->queries;
}

static inline int64_t pair_table_token(const pair_table *t, rows_kind kind, int rank, int64_t row)
{
    return kind == ROWS_KEYS ? t->key_token[rank][row] : t->query_token[rank][row];
}

enum { HOLDS_NOTHING = -1, HOLDS_EMPTY_STATE = -2 };

/* What a step does to a cell. */
enum {
    CELL_SENT = 1,
    CELL_RECEIVED = 2,
    CELL_READ = 4,     /* by a fold */
    CELL_TAKEN = 8,    /* by a merge, as what it joins to another */
    CELL_WRITTEN = 16, /* by a clear, a fold or a merge */
    CELL_MERGED = 32   /* by a merge, as what it joins others to */
};

/* Cells are numbered row * heads + head. */
typedef struct {
    rows_kind kind;
    int64_t rows;
    head_range heads;
    int64_t *token;       /* of the keys or queries, or one of HOLDS_ */
    unsigned char *marks; /* CELL_, of this step */
    int64_t *run;         /* states: the last run of folds into the cell */
    uint64_t *seen;       /* states: [words] keys folded into the cell */
    int64_t used;         /* rows */
} paper_slot;

typedef struct {
    paper_slot home[ROWS_KINDS];
    paper_slot *slots;
    int slot_count;
    unsigned char *had[2], *useful[2]; /* of keys and queries: [token][head] */
    void *memory;
} paper_rank;

/* The memory before the first step. heads are those of keys and of queries. */
void paper_rank_make(paper_rank *p, const pair_table *pairs, const schedule_problem *problem, const schedule *s);
void paper_rank_free(paper_rank *p);

static inline paper_slot *paper_rank_slot(paper_rank *p, rows_kind kind, int slot)
{
    return slot == SLOT_HOME ? &p->home[kind] : &p->slots[slot];
}

static inline int64_t paper_cell(const paper_slot *s, int64_t row, int head)
{
    return row * heads_count(s->heads) + head - s->heads.begin;
}

/* Sets of keys. */
static inline bool keys_meet(const uint64_t *a, const uint64_t *b, int words)
{
    for (int w = 0; w < words; w++)
        if (a[w] & b[w]) return true;
    return false;
}

static inline bool keys_within(const uint64_t *a, const uint64_t *b, int words)
{
    for (int w = 0; w < words; w++)
        if (a[w] & ~b[w]) return false;
    return true;
}

static inline bool keys_empty(const uint64_t *a, int words)
{
    return !keys_meet(a, a, words);
}

static inline void keys_add(uint64_t *to, const uint64_t *a, int words)
{
    for (int w = 0; w < words; w++) to[w] |= a[w];
}

#endif
