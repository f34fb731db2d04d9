/* A cut of tokens into chunks, and of chunks onto ranks, in closed form.
 *
 * Contiguous and zigzag: with C chunks, the N tokens are W = ceil(N / grain) grains, the last one possibly short. Each
 * chunk gets floor(W / C) grains and the last W mod C chunks one more. The extra grains go to the last chunks, not the
 * first, because the last one also carries the short grain: given to the first, a short last chunk would be smaller
 * than the largest by more than one grain.
 *
 * Striped: chunk c is tokens [c grain, (c + 1) grain) and lies on rank c mod P, as its chunk number floor(c / P). */
#include "partition/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[] = {
    [LAYOUT_CONTIGUOUS] = "contiguous", [LAYOUT_ZIGZAG] = "zigzag", [LAYOUT_STRIPED] = "striped"};

enum { LARGEST_DEFAULT_GRAIN = 64, GRAINS_PER_CHUNK = 4 };

/* Equal parts that the tokens are cut into: chunks, but for a striped layout, where it is ranks. */
static int64_t part_count(const layout *l)
{
    return l->kind == LAYOUT_ZIGZAG ? 2 * (int64_t)l->ranks : l->ranks;
}

int64_t layout_default_grain(layout_kind kind, int64_t tokens, int ranks)
{
    const layout l = {.kind = kind, .tokens = tokens, .grain = 1, .ranks = ranks};
    int64_t grain = LARGEST_DEFAULT_GRAIN;
    while (grain > 1 && tokens / grain < GRAINS_PER_CHUNK * part_count(&l)) grain /= 2;
    return grain;
}

const char *layout_name(layout_kind kind)
{
    return names[kind];
}

/* A whole number of at least 1, and nothing after it. */
static bool read_block(const char *text, int64_t *block_p)
{
    if (*text < '0' || *text > '9') return false;
    char *end = NULL;
    errno = 0;
    const long long block = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || block < 1) return false;
    *block_p = block;
    return true;
}

bool layout_from_name(const char *name, layout_kind *kind_p, int64_t *block_p)
{
    int64_t block = 0;
    const char *colon = strchr(name, ':');
    const size_t length = colon ? (size_t)(colon - name) : strlen(name);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) != length || strncmp(name, names[i], length) != 0) continue;
        if (colon && (i != LAYOUT_STRIPED || !read_block(colon + 1, &block))) return false;
        *kind_p = (layout_kind)i;
        *block_p = block;
        return true;
    }
    return false;
}

/* ceil(N / grain) */
static int64_t grain_count(const layout *l)
{
    return l->tokens / l->grain + (l->tokens % l->grain != 0);
}

int64_t layout_chunk_count(const layout *l)
{
    return l->kind == LAYOUT_STRIPED ? grain_count(l) : part_count(l);
}

/* The chunks are `small` of `grains` grains, then the rest of grains + 1. */
typedef struct {
    int64_t grains, small;
} cut;

static cut cut_of(const layout *l)
{
    if (l->kind == LAYOUT_STRIPED) return (cut){.grains = 1, .small = grain_count(l)};
    const int64_t chunks = part_count(l), whole = grain_count(l);
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
    if (l->kind == LAYOUT_STRIPED) return (int)(chunk % l->ranks);
    if (chunk < l->ranks) return (int)chunk;
    return (int)(2 * (int64_t)l->ranks - 1 - chunk);
}

/* Chunks of a rank in a striped layout among the first `chunks`. */
static int64_t stripes_of_rank(const layout *l, int rank, int64_t chunks)
{
    return chunks > rank ? (chunks - rank - 1) / l->ranks + 1 : 0;
}

int64_t layout_rank_chunk_count(const layout *l, int rank)
{
    if (l->kind == LAYOUT_STRIPED) return stripes_of_rank(l, rank, layout_chunk_count(l));
    return l->kind == LAYOUT_ZIGZAG ? 2 : 1;
}

int64_t layout_rank_chunk(const layout *l, int rank, int64_t index)
{
    if (l->kind == LAYOUT_STRIPED) return rank + index * l->ranks;
    return index == 0 ? rank : 2 * (int64_t)l->ranks - 1 - rank;
}

int64_t layout_chunk_row(const layout *l, int64_t chunk)
{
    if (l->kind == LAYOUT_STRIPED) return chunk / l->ranks * l->grain;
    return chunk < l->ranks ? 0 : range_length(layout_chunk(l, 2 * (int64_t)l->ranks - 1 - chunk));
}

int64_t layout_rank_tokens(const layout *l, int rank)
{
    return layout_rows_before(l, rank, l->tokens);
}

int64_t layout_local_row(const layout *l, int64_t token)
{
    const int64_t chunk = layout_chunk_of_token(l, token);
    return layout_chunk_row(l, chunk) + token - layout_chunk(l, chunk).begin;
}

int64_t layout_token(const layout *l, int rank, int64_t row)
{
    if (l->kind == LAYOUT_STRIPED) return layout_rank_chunk(l, rank, row / l->grain) * l->grain + row % l->grain;
    const range first = layout_chunk(l, rank);
    if (row < range_length(first)) return first.begin + row;
    return layout_chunk(l, layout_rank_chunk(l, rank, 1)).begin + row - range_length(first);
}

int64_t layout_rows_before(const layout *l, int rank, int64_t token)
{
    const range before = range_intersect((range){0, token}, (range){0, l->tokens});
    if (range_is_empty(before)) return 0;
    if (l->kind == LAYOUT_STRIPED) {
        const int64_t chunk = before.end / l->grain;
        return stripes_of_rank(l, rank, chunk) * l->grain + (chunk % l->ranks == rank ? before.end % l->grain : 0);
    }
    int64_t rows = 0;
    for (int64_t i = 0; i < layout_rank_chunk_count(l, rank); i++)
        rows += range_length(range_intersect(before, layout_chunk(l, layout_rank_chunk(l, rank, i))));
    return rows;
}

bool layouts_equal(const layout *a, const layout *b)
{
    return a->kind == b->kind && a->tokens == b->tokens && a->grain == b->grain && a->ranks == b->ranks;
}

int layout_piece_count(const layout *l)
{
    return l->kind == LAYOUT_ZIGZAG ? 2 : 1;
}

range layout_piece(const layout *l, int rank, int index)
{
    if (l->kind != LAYOUT_ZIGZAG) return (range){0, layout_rank_tokens(l, rank)};
    const int64_t chunk = layout_rank_chunk(l, rank, index), row = layout_chunk_row(l, chunk);
    return (range){row, row + range_length(layout_chunk(l, chunk))};
}

range layout_hull(const layout *l, int rank, range rows)
{
    if (range_is_empty(rows)) return (range){0, 0};
    return (range){layout_token(l, rank, rows.begin), layout_token(l, rank, rows.end - 1) + 1};
}

range layout_rows_within(const layout *l, int rank, range rows, range tokens)
{
    return range_intersect(rows,
                           (range){layout_rows_before(l, rank, tokens.begin), layout_rows_before(l, rank, tokens.end)});
}
