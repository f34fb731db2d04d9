#include "tests/partition/brute.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void *test_allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (!memory) {
        fprintf(stderr, "the test ran out of memory\n");
        exit(1);
    }
    return memory;
}

/* Chunk c of a zigzag layout, found by walking the ranks up and then down. */
static int owner_of_chunk(const layout *l, int64_t chunk)
{
    int64_t c = 0;
    for (int rank = 0; rank < l->ranks; rank++)
        if (c++ == chunk) return rank;
    for (int rank = l->ranks - 1; rank >= 0; rank--)
        if (c++ == chunk) return rank;
    abort();
}

static void deal(token_map *map, int64_t token, int owner, int64_t chunk)
{
    map->owner[token] = owner;
    map->chunk[token] = chunk;
    map->row[token] = map->held[owner]++;
}

/* Blocks of tokens are dealt to the ranks like cards. */
static void deal_stripes(token_map *map, const layout *l)
{
    int64_t chunk = 0, in_chunk = 0;
    int owner = 0;
    for (int64_t token = 0; token < l->tokens; token++) {
        if (in_chunk == l->grain) {
            in_chunk = 0;
            chunk++;
            owner = owner + 1 == l->ranks ? 0 : owner + 1;
        }
        deal(map, token, owner, chunk);
        in_chunk++;
    }
}

/* Grains are dealt to the chunks from the last one on, then the tokens to the chunks in order. */
static void deal_chunks(token_map *map, const layout *l)
{
    const int64_t chunks = l->kind == LAYOUT_ZIGZAG ? 2 * (int64_t)l->ranks : l->ranks;
    int64_t *grains = test_allocate((size_t)chunks, sizeof *grains);
    const int64_t whole = (l->tokens + l->grain - 1) / l->grain;
    for (int64_t g = 0; g < whole; g++) grains[chunks - 1 - g % chunks]++;
    int64_t token = 0;
    for (int64_t c = 0; c < chunks; c++) {
        const int owner = owner_of_chunk(l, c);
        for (int64_t i = 0; i < grains[c] * l->grain && token < l->tokens; i++, token++) deal(map, token, owner, c);
    }
    free(grains);
}

void token_map_make(token_map *map_p, const layout *l)
{
    token_map map = {.tokens = l->tokens};
    map.owner = test_allocate((size_t)l->tokens, sizeof *map.owner);
    map.chunk = test_allocate((size_t)l->tokens, sizeof *map.chunk);
    map.row = test_allocate((size_t)l->tokens, sizeof *map.row);
    map.held = test_allocate((size_t)l->ranks, sizeof *map.held);
    if (l->kind == LAYOUT_STRIPED) deal_stripes(&map, l);
    else deal_chunks(&map, l);
    *map_p = map;
}

void token_map_free(token_map *map)
{
    free(map->owner);
    free(map->chunk);
    free(map->row);
    free(map->held);
}

int64_t *documents_of_tokens(const mask *m)
{
    if (!m->documents) return NULL;
    int64_t *document_of = test_allocate((size_t)m->queries, sizeof *document_of);
    for (int64_t d = 0; d < m->document_count; d++)
        for (int64_t i = m->documents[d]; i < m->documents[d + 1]; i++) document_of[i] = d;
    return document_of;
}

bool brute_sees(const mask *m, const int64_t *document_of, int64_t i, int64_t j)
{
    if (document_of && document_of[i] != document_of[j]) return false;
    const int64_t start = document_of ? m->documents[document_of[i]] : 0;
    const int64_t p = document_of ? i - start : i + (m->keys - m->queries), key = j - start;
    if (m->causal && key > p && key >= m->prefix) return false;
    if (m->window_left >= 0 && p - key > m->window_left) return false;
    if (m->window_right >= 0 && key - p > m->window_right) return false;
    if (m->chunk > 0) {
        const double of_query = floor((double)p / (double)m->chunk), of_key = floor((double)key / (double)m->chunk);
        if (m->chunks_left >= 0 && of_query - of_key > (double)m->chunks_left) return false;
        if (m->chunks_right >= 0 && of_key - of_query > (double)m->chunks_right) return false;
    }
    return true;
}
