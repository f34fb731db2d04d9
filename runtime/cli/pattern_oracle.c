#include "runtime/cli/pattern_oracle.h"

#include "partition/patterns.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const longspan_problem *problem;
    const pattern_query *query;
    pattern_choice choice;
    int64_t numbers[3];
    bool *blocks; /* of keys, where the pattern is of blocks */
} definition;

/* Position p of the query, j of a key. */

static bool sees_sinks(const definition *d, int64_t p, int64_t j)
{
    return j <= p && (j < d->numbers[0] || p - j <= d->numbers[1]);
}

static bool sees_dilated(const definition *d, int64_t p, int64_t j)
{
    const int64_t step = d->numbers[0];
    if ((p - j) % step != 0) return false;
    return p >= j ? (p - j) / step <= d->numbers[1] : (j - p) / step <= d->numbers[2];
}

static bool sees_strided(const definition *d, int64_t p, int64_t j)
{
    return j <= p && (p - j <= d->numbers[0] || (p - j) % d->numbers[0] == 0);
}

static bool sees_fixed(const definition *d, int64_t p, int64_t j)
{
    const int64_t length = d->numbers[0];
    return j <= p && (j / length == p / length || j % length >= length - d->numbers[1]);
}

static bool sees_block(const definition *d, int64_t p, int64_t j)
{
    (void)p;
    return d->blocks[(j + d->query->begin) / d->numbers[0]];
}

static const struct {
    const char *name;
    bool (*sees)(const definition *d, int64_t p, int64_t j);
} definitions[] = {
    {"sinks", sees_sinks}, {"dilated", sees_dilated}, {"bigbird", sees_block}, {"strided", sees_strided},
    {"fixed", sees_fixed}, {"blocks", sees_block},    {"random", sees_block},
};

/* Patterns of listed tokens. */

/* Allows the keys at positions [first, last], as far as there are some up to position `most`. */
static void allow(const definition *d, int64_t first, int64_t last, int64_t most, uint64_t *keys)
{
    for (int64_t j = first > 0 ? first : 0; j <= last && j <= most; j++)
        keys[(d->query->begin + j) / 64] |= UINT64_C(1) << (d->query->begin + j) % 64;
}

static void allow_global(const definition *d, int64_t p, int64_t most, uint64_t *keys)
{
    allow(d, p - d->numbers[0], p + d->numbers[1], most, keys);
    for (int i = 2; i < d->choice.count; i++) {
        const range at = d->choice.items[i];
        allow(d, at.begin, at.end - 1, most, keys);
        if (p >= at.begin && p < at.end) allow(d, 0, most, most, keys);
    }
}

static void allow_vertical_slash(const definition *d, int64_t p, int64_t most, uint64_t *keys)
{
    if (p < most) most = p;
    for (int i = 0; i < d->choice.count; i++) {
        const range at = d->choice.items[i];
        if (i < d->choice.second) allow(d, at.begin, at.end - 1, most, keys);
        else allow(d, p - at.end + 1, p - at.begin, most, keys);
    }
}

/* Blocks. */

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The first, the last, the row's own and its neighbours, and others as splitmix64 draws them. */
static void draw_blocks(const definition *d, int64_t row, int64_t count)
{
    int64_t free_blocks = 0, wanted = d->numbers[1];
    for (int64_t i = 0; i < count; i++) {
        d->blocks[i] = i == 0 || i == count - 1 || (i >= row - 1 && i <= row + 1);
        free_blocks += !d->blocks[i];
    }
    uint64_t seed = (d->choice.count > 2 ? (uint64_t)d->numbers[2] : 1) + (uint64_t)row * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t state = next_random(&seed);
    for (; wanted > 0 && free_blocks > 0;) {
        const uint64_t drawn = next_random(&state) % (uint64_t)count;
        if (d->blocks[drawn]) continue;
        d->blocks[drawn] = true;
        wanted--;
        free_blocks--;
    }
}

/* Each with its chance: splitmix64 draws a number for it. */
static void draw_each(const definition *d, int64_t row, int64_t count)
{
    uint64_t seed = (d->choice.count > 2 ? (uint64_t)d->numbers[2] : 1) + (uint64_t)row * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t state = next_random(&seed);
    for (int64_t i = 0; i < count; i++) d->blocks[i] = (int64_t)(next_random(&state) % 100) < d->numbers[1];
}

static bool set_blocks(definition *d)
{
    const longspan_problem *p = d->problem;
    const char *name = d->choice.kind->name;
    const bool bigbird = strcmp(name, "bigbird") == 0, random = strcmp(name, "random") == 0;
    d->blocks = NULL;
    if (!bigbird && !random && strcmp(name, "blocks") != 0) return true;
    const int64_t size = d->numbers[0], row = d->query->query / size, count = p->keys / size + (p->keys % size != 0);
    d->blocks = calloc((size_t)count + 1, sizeof *d->blocks);
    if (!d->blocks) return false;
    if (bigbird) draw_blocks(d, row, count);
    if (random) draw_each(d, row, count);
    if (bigbird || random) return true;
    for (int64_t i = p->block_offsets[row]; i < p->block_offsets[row + 1]; i++)
        if (p->block_keys[i] < count) d->blocks[p->block_keys[i]] = true;
    return true;
}

uint64_t *pattern_oracle_keys(const longspan_problem *problem, const pattern_query *query)
{
    definition d = {.problem = problem, .query = query};
    char why[PATTERN_WHY_SIZE];
    uint64_t *keys = calloc((size_t)problem->keys / 64 + 1, sizeof *keys);
    if (!keys || !pattern_choice_parse(problem->pattern, &d.choice, why)) return keys;
    for (int i = 0; i < 3 && i < d.choice.count; i++) d.numbers[i] = d.choice.items[i].begin;
    if (!set_blocks(&d)) {
        free(keys);
        return NULL;
    }
    const int64_t most = query->end - query->begin - 1;
    if (strcmp(d.choice.kind->name, "global") == 0) allow_global(&d, query->position, most, keys);
    if (strcmp(d.choice.kind->name, "vertical-slash") == 0) allow_vertical_slash(&d, query->position, most, keys);
    for (size_t i = 0; i < sizeof definitions / sizeof definitions[0]; i++) {
        if (strcmp(definitions[i].name, d.choice.kind->name) != 0) continue;
        for (int64_t j = 0; j <= most; j++)
            if (definitions[i].sees(&d, query->position, j)) allow(&d, j, j, most, keys);
    }
    free(d.blocks);
    return keys;
}
