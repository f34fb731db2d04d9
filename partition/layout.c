/* A cut of tokens into chunks, and of chunks onto ranks, in closed form.
 *
 * With C chunks, the N tokens are W = ceil(N / grain) grains, the last one possibly short. Each chunk gets
 * floor(W / C) grains and the last W mod C chunks one more. The extra grains go to the last chunks, not the first,
 * because the last one also carries the short grain: given to the first, a short last chunk would be smaller than the
 * largest by more than one grain. */
#include "partition/layout.h"

#include <string.h>

static const char *const names[] = {[LAYOUT_CONTIGUOUS] = "contiguous", [LAYOUT_ZIGZAG] = "zigzag"};

enum { LARGEST_DEFAULT_GRAIN = 64, GRAINS_PER_CHUNK = 4 };

int64_t layout_default_grain(layout_kind kind, int64_t tokens, int ranks)
{
    const layout l = {.kind = kind, .tokens = tokens, .grain = 1, .ranks = ranks};
    int64_t grain = LARGEST_DEFAULT_GRAIN;
    while (grain > 1 && tokens / grain < GRAINS_PER_CHUNK * layout_chunk_count(&l)) grain /= 2;
    return grain;
}

const char *layout_name(layout_kind kind)
{
    return names[kind];
}

bool layout_from_name(const char *name, layout_kind *kind_p)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *kind_p = (layout_kind)i;
            return true;
        }
    }
    return false;
}

int64_t layout_chunk_count(const layout *l)
{
    return l->kind == LAYOUT_ZIGZAG ? 2 * (int64_t)l->ranks : l->ranks;
}

/* The chunks are `small` of `grains` grains, then the rest of grains + 1. */
typedef struct {
    int64_t grains, small;
} cut;

static cut cut_of(const layout *l)
{
    const int64_t chunks = layout_chunk_count(l);
    const int64_t whole = l->tokens / l->grain + (l->tokens % l->grain != 0);
    return (cut){.grains = whole / chunks, .small = chunks - whole % chunks};
}

/* First token of a chunk; for one past the last chunk, N. */
static int64_t chunk_begin(const layout *l, cut c, int64_t chunk)
{
    const int64_t larger = chunk > c.small ? chunk - c.small : 0;
    const int64_t grains = chunk * c.grains + larger;
    /* Compared before the multiplication: grains * grain could overflow where the last grain is short. */
    return grains > l->tokens / l->grain ? l->tokens : grains * l->grain;
}

range layout_chunk(const layout *l, int64_t chunk)
{
    const cut c = cut_of(l);
    return (range){chunk_begin(l, c, chunk), chunk_begin(l, c, chunk + 1)};
}

int64_t layout_chunk_of_token(const layout *l, int64_t token)
{
    const cut c = cut_of(l);
    const int64_t grain = token / l->grain;
    const int64_t first_larger = c.small * c.grains;
    if (grain < first_larger) return grain / c.grains;
    return c.small + (grain - first_larger) / (c.grains + 1);
}

int layout_chunk_owner(const layout *l, int64_t chunk)
{
    if (chunk < l->ranks) return (int)chunk;
    return (int)(2 * (int64_t)l->ranks - 1 - chunk);
}

int64_t layout_rank_chunk_count(const layout *l, int rank)
{
    (void)rank;
    return l->kind == LAYOUT_ZIGZAG ? 2 : 1;
}

int64_t layout_rank_chunk(const layout *l, int rank, int64_t index)
{
    return index == 0 ? rank : 2 * (int64_t)l->ranks - 1 - rank;
}

int64_t layout_rank_tokens(const layout *l, int rank)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, rank); i++)
        tokens += range_length(layout_chunk(l, layout_rank_chunk(l, rank, i)));
    return tokens;
}

int64_t layout_chunk_row(const layout *l, int64_t chunk)
{
    const int rank = layout_chunk_owner(l, chunk);
    int64_t row = 0;
    for (int64_t i = 0; layout_rank_chunk(l, rank, i) != chunk; i++)
        row += range_length(layout_chunk(l, layout_rank_chunk(l, rank, i)));
    return row;
}

int64_t layout_local_row(const layout *l, int64_t token)
{
    const int64_t chunk = layout_chunk_of_token(l, token);
    return layout_chunk_row(l, chunk) + token - layout_chunk(l, chunk).begin;
}

int64_t layout_largest_rank_tokens(const layout *l)
{
    /* Sizes are two values a grain apart, but for the short grain: the largest rank is one of the ends, or the last one
     * whose chunks do not hold the short grain. */
    const int candidates[] = {0, l->ranks > 1 ? 1 : 0, l->ranks > 1 ? l->ranks - 2 : 0, l->ranks - 1};
    int64_t largest = 0;
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        const int64_t tokens = layout_rank_tokens(l, candidates[i]);
        if (tokens > largest) largest = tokens;
    }
    return largest;
}

/* The ranks of chunks [first, last], which are on one side of the middle of a zigzag layout. */
static rank_run run_of_chunks(const layout *l, int64_t first, int64_t last)
{
    const int a = layout_chunk_owner(l, first), b = layout_chunk_owner(l, last);
    return a < b ? (rank_run){a, b} : (rank_run){b, a};
}

int layout_ranks_holding(const layout *l, range tokens, rank_run runs[2])
{
    if (range_is_empty(tokens)) return 0;
    /* Empty chunks are the first ones, so that all chunks between two that hold tokens hold some. */
    const int64_t first = layout_chunk_of_token(l, tokens.begin), last = layout_chunk_of_token(l, tokens.end - 1);
    if (last < l->ranks || first >= l->ranks) {
        runs[0] = run_of_chunks(l, first, last);
        return 1;
    }
    runs[0] = run_of_chunks(l, first, l->ranks - 1);
    runs[1] = run_of_chunks(l, l->ranks, last);
    return 2;
}
