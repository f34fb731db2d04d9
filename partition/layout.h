/* Which rank holds which tokens.
 *
 * A layout cuts N tokens into chunks, in order, and gives each chunk to a rank. Chunk sizes differ by at most one
 * grain; every chunk but the last non-empty one begins and ends on a multiple of the grain; chunks, and ranks, may be
 * empty. Where sizes differ the later chunks are the larger, so the empty chunks come first.
 *   contiguous  P chunks, chunk c on rank c.
 *   zigzag      2P chunks, chunk c on rank min(c, 2P-1-c): rank r holds an early and a late chunk, so that causal
 *               attention is the same work on every rank (Zhu, "zigzag ring attention", 2024; Llama 3, arXiv
 *               2407.21783, section 3.3.2).
 * A rank's local rows are its chunks' tokens in ascending order. All functions are closed forms: nothing of
 * size P is stored. */
#ifndef PARTITION_LAYOUT_H
#define PARTITION_LAYOUT_H

#include "partition/range.h"

typedef enum { LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG } layout_kind;

typedef struct {
    layout_kind kind;
    int64_t tokens; /* N >= 0 */
    int64_t grain;  /* >= 1 */
    int ranks;      /* P >= 1 */
} layout;

/* The grain used when nobody asks for another: the largest power of two, at most 64 (the kernels' key block), that
 * leaves every chunk at least four grains, and at least 1. */
int64_t layout_default_grain(layout_kind kind, int64_t tokens, int ranks);

const char *layout_name(layout_kind kind);
bool layout_from_name(const char *name, layout_kind *kind_p);

int64_t layout_chunk_count(const layout *l);                   /* over all ranks */
range layout_chunk(const layout *l, int64_t chunk);            /* tokens of a chunk */
int64_t layout_chunk_of_token(const layout *l, int64_t token); /* 0 <= token < N */
int layout_chunk_owner(const layout *l, int64_t chunk);
/* Local row of a chunk's first token on its owner. */
int64_t layout_chunk_row(const layout *l, int64_t chunk);
int64_t layout_rank_chunk_count(const layout *l, int rank);          /* chunks of a rank, empty ones included */
int64_t layout_rank_chunk(const layout *l, int rank, int64_t index); /* global chunk number, ascending in index */
int64_t layout_rank_tokens(const layout *l, int rank);               /* T */
/* Local row of global token `token` on the rank that holds it. */
int64_t layout_local_row(const layout *l, int64_t token);
/* Most tokens that any rank holds. */
int64_t layout_largest_rank_tokens(const layout *l);

/* Ranks first, first + 1, ..., last. */
typedef struct {
    int first, last;
} rank_run;

/* The ranks that hold any of `tokens`, as runs that may overlap. Returns how many runs: 0 for no tokens, else 1 or 2.
 */
int layout_ranks_holding(const layout *l, range tokens, rank_run runs[2]);

#endif
