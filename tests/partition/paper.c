#include "tests/partition/paper.h"

#include <stdlib.h>
#include <string.h>

static int64_t **tokens_of_rows(const token_map *map, int ranks)
{
    int64_t **token = test_allocate((size_t)ranks, sizeof *token);
    for (int rank = 0; rank < ranks; rank++) token[rank] = test_allocate((size_t)map->held[rank], sizeof **token);
    for (int64_t i = 0; i < map->tokens; i++) token[map->owner[i]][map->row[i]] = i;
    return token;
}

pair_table *pair_table_create(const schedule_problem *problem)
{
    pair_table *t = test_allocate(1, sizeof *t);
    token_map_make(&t->queries, &problem->query_layout);
    token_map_make(&t->keys, &problem->key_layout);
    t->ranks = problem->key_layout.ranks;
    t->query_token = tokens_of_rows(&t->queries, t->ranks);
    t->key_token = tokens_of_rows(&t->keys, t->ranks);
    t->words = (int)((t->keys.tokens + 63) / 64);
    t->allowed = test_allocate((size_t)(t->queries.tokens * t->words), sizeof *t->allowed);
    int64_t *document_of = documents_of_tokens(&problem->mask);
    for (int64_t i = 0; i < t->queries.tokens; i++)
        for (int64_t j = 0; j < t->keys.tokens; j++)
            if (brute_sees(&problem->mask, document_of, i, j))
                t->allowed[i * t->words + j / 64] |= (uint64_t)1 << (j % 64);
    free(document_of);
    return t;
}

void pair_table_destroy(pair_table *t)
{
    for (int rank = 0; rank < t->ranks; rank++) {
        free(t->query_token[rank]);
        free(t->key_token[rank]);
    }
    free(t->query_token);
    free(t->key_token);
    token_map_free(&t->queries);
    token_map_free(&t->keys);
    free(t->allowed);
    free(t);
}

static size_t cells_of(const paper_slot *s)
{
    return (size_t)s->rows * (size_t)heads_count(s->heads);
}

static size_t bytes_of(const paper_slot *s, int words)
{
    const size_t of_state = s->kind == ROWS_STATES ? sizeof *s->run + (size_t)words * sizeof *s->seen : 0;
    return cells_of(s) * (sizeof *s->token + of_state);
}

/* Gives a slot its arrays from `at` on, and its marks from `marks` on. */
static void slot_take(paper_slot *s, int words, char **at, unsigned char **marks)
{
    const size_t cells = cells_of(s);
    s->token = (int64_t *)(void *)*at;
    *at += bytes_of(s, words);
    if (s->kind == ROWS_STATES) {
        s->run = s->token + cells;
        s->seen = (uint64_t *)(void *)(s->run + cells);
    }
    s->marks = *marks;
    *marks += cells;
    for (size_t i = 0; i < cells; i++) s->token[i] = HOLDS_NOTHING;
}

static void fill_home(paper_rank *p, const pair_table *pairs, int rank, rows_kind kind)
{
    paper_slot *home = &p->home[kind];
    for (int64_t row = 0; row < home->rows; row++) {
        const int64_t token = pair_table_token(pairs, kind, rank, row);
        for (int head = 0; head < home->heads.end; head++) {
            home->token[paper_cell(home, row, head)] = token;
            if (kind != ROWS_STATES) p->had[kind][token * home->heads.end + head] = 1;
        }
    }
}

void paper_rank_make(paper_rank *p, const pair_table *pairs, const schedule_problem *problem, const schedule *s)
{
    size_t bytes = 0, cells = 0, kept[2];
    p->slot_count = s->slot_count;
    p->slots = test_allocate((size_t)s->slot_count, sizeof *p->slots);
    for (int kind = 0; kind < ROWS_KINDS; kind++) {
        const int heads = kind == ROWS_KEYS ? problem->kv_heads : problem->heads;
        const token_map *map = pair_table_map(pairs, (rows_kind)kind);
        p->home[kind] = (paper_slot){.kind = (rows_kind)kind, .rows = map->held[s->rank], .heads = heads_all(heads)};
        bytes += bytes_of(&p->home[kind], pairs->words);
        cells += cells_of(&p->home[kind]);
        if (kind != ROWS_STATES) kept[kind] = (size_t)map->tokens * (size_t)heads;
    }
    for (int i = 0; i < s->slot_count; i++) {
        p->slots[i] = (paper_slot){.kind = s->slots[i].kind, .rows = s->slots[i].rows, .heads = s->slots[i].heads};
        bytes += bytes_of(&p->slots[i], pairs->words);
        cells += cells_of(&p->slots[i]);
    }
    p->memory = test_allocate(bytes + cells + 2 * (kept[0] + kept[1]), 1);
    char *at = p->memory;
    unsigned char *marks = (unsigned char *)p->memory + bytes;
    for (int kind = 0; kind < ROWS_KINDS; kind++) slot_take(&p->home[kind], pairs->words, &at, &marks);
    for (int i = 0; i < s->slot_count; i++) slot_take(&p->slots[i], pairs->words, &at, &marks);
    for (int kind = 0; kind < 2; kind++) {
        p->had[kind] = marks;
        p->useful[kind] = marks + kept[kind];
        marks += 2 * kept[kind];
    }
    for (int kind = 0; kind < ROWS_KINDS; kind++) fill_home(p, pairs, s->rank, (rows_kind)kind);
}

void paper_rank_free(paper_rank *p)
{
    free(p->slots);
    free(p->memory);
}
