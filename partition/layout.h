/* Which rank holds which tokens.
 *
 * A layout cuts N tokens into chunks, in order, and gives each chunk to a rank.
 *   contiguous  P chunks, chunk c on rank c.
 *   zigzag      2P chunks, chunk c on rank min(c, 2P-1-c): rank r holds an early and a late chunk, so that causal
 *               attention is the same work on every rank (Zhu, "zigzag ring attention", 2024; Llama 3, arXiv
 *               2407.21783, section 3.3.2).
 *   striped     ceil(N / grain) chunks of `grain` tokens, the last one possibly shorter, chunk c on rank c mod P: every
 *               rank sees all of the sequence (Brandon et al., "Striped Attention", arXiv 2311.09431).
 * In the first two, chunk sizes differ by at most one grain; every chunk but the last non-empty one begins and ends on
 * a multiple of the grain; chunks, and ranks, may be empty. Where sizes differ the later chunks are the larger, so the
 * empty chunks come first.
 *
 * A rank's local rows are its chunks' tokens in ascending order. What a schedule handles as a unit is a piece of a
 * rank's rows: a chunk of a contiguous or zigzag layout, all rows under a striped one. All functions are closed
 * forms: nothing of size P or N is stored. */
#ifndef PARTITION_LAYOUT_H
#define PARTITION_LAYOUT_H

#include "partition/range.h"

typedef enum { LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG, LAYOUT_STRIPED } layout_kind;

typedef struct {
    layout_kind kind;
    int64_t tokens; /* N >= 0 */
    int64_t grain;  /* >= 1; the block of a striped layout */
    int ranks;      /* P >= 1 */
} layout;

/* The grain used when nobody asks for another: the largest power of two, at most 64 (the kernels' key block), that
 * leaves every chunk (striped: every rank) at least four grains, and at least 1. */
int64_t layout_default_grain(layout_kind kind, int64_t tokens, int ranks);

const char *layout_name(layout_kind kind);
/* "contiguous", "zigzag", "striped", "striped:BLOCK"; *block_p is 0 where none is named. */
bool layout_from_name(const char *name, layout_kind *kind_p, int64_t *block_p);

/* Chunks. */
int64_t layout_chunk_count(const layout *l);                   /* over all ranks */
range layout_chunk(const layout *l, int64_t chunk);            /* tokens of a chunk */
int64_t layout_chunk_of_token(const layout *l, int64_t token); /* 0 <= token < N */
int layout_chunk_owner(const layout *l, int64_t chunk);
int64_t layout_chunk_row(const layout *l, int64_t chunk);            /* local row of its first token on its owner */
int64_t layout_rank_chunk_count(const layout *l, int rank);          /* chunks of a rank, empty ones included */
int64_t layout_rank_chunk(const layout *l, int rank, int64_t index); /* global chunk number, ascending in index */

/* Rows. */
int64_t layout_rank_tokens(const layout *l, int rank);                /* T: rows of a rank */
int64_t layout_local_row(const layout *l, int64_t token);             /* on the rank that holds it */
int64_t layout_token(const layout *l, int rank, int64_t row);         /* of a local row, 0 <= row < T */
int64_t layout_rows_before(const layout *l, int rank, int64_t token); /* rows of `rank` with tokens below `token` */
bool layouts_equal(const layout *a, const layout *b);

/* Pieces. */
int layout_piece_count(const layout *l);                  /* of every rank: 1 or 2 */
range layout_piece(const layout *l, int rank, int index); /* local rows, ascending in index; may be empty */
/* Tokens from the first to the last of local rows of a piece; exactly the tokens of the rows unless striped. */
range layout_hull(const layout *l, int rank, range rows);
/* Of local rows of a piece, those whose tokens lie in a range. */
range layout_rows_within(const layout *l, int rank, range rows, range tokens);

#endif
