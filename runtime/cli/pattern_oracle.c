#include "runtime/cli/pattern_oracle.h"

#include "partition/patterns.h"

#include <stdlib.h>
#include <string.h>

typedef struct pattern_oracle definition;

struct pattern_oracle {
    const longspan_problem *problem;
    pattern_query place, *query; /* query: &place */
    pattern_choice choice;
    int64_t numbers[3];
    uint64_t *keys;  /* [M] bits: those that any head sees */
    uint64_t *again; /* [M] bits: those that count once more */
    bool *blocks;    /* of keys, where the pattern is of blocks: [block_count], or [H, block_count] */
    int64_t block_count;
    bool by_head; /* [H, ...] */
};

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

static bool head_sees_block(const definition *d, int head, int64_t key)
{
    return d->blocks[(d->by_head ? head * d->block_count : 0) + key / d->numbers[0]];
}

static bool sees_block(const definition *d, int64_t p, int64_t j)
{
    const int heads = d->by_head ? d->problem->heads : 1;
    (void)p;
    for (int head = 0; head < heads; head++)
        if (head_sees_block(d, head, j + d->query->begin)) return true;
    return false;
}

/* Dilated attention: how many branches have both tokens in one segment, a multiple of their step apart; only those that
 * head `head`, or any for -1, begins to keep at the offset of its number. */
static int branches_with(const definition *d, int head, int64_t p, int64_t j)
{
    const int branches = d->choice.second;
    int count = 0;
    for (int k = 0; k < branches && p >= 0; k++) {
        const int64_t segment = d->choice.items[k].begin, step = d->choice.items[branches + k].begin;
        const int64_t kept = p % segment % step; /* the offset with which this token is kept */
        if (p / segment != j / segment || j % segment % step != kept) continue;
        count += head < 0 ? kept < d->problem->heads : head % step == kept;
    }
    return count;
}

static bool sees_longnet(const definition *d, int64_t p, int64_t j)
{
    return branches_with(d, -1, p, j) > 0;
}

static const struct {
    const char *name;
    bool (*sees)(const definition *d, int64_t p, int64_t j);
} definitions[] = {
    {"sinks", sees_sinks}, {"dilated", sees_dilated}, {"bigbird", sees_block}, {"strided", sees_strided},
    {"fixed", sees_fixed}, {"blocks", sees_block},    {"random", sees_block},  {"longnet", sees_longnet},
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

/* A global query sees all keys, once; others their window and, once more, the global keys. */
static void allow_global_twice(const definition *d, int64_t p, int64_t most)
{
    bool global = false;
    for (int i = 2; i < d->choice.count; i++)
        global = global || (p >= d->choice.items[i].begin && p < d->choice.items[i].end);
    if (global) {
        allow(d, 0, most, most, d->keys);
        return;
    }
    allow(d, p - d->numbers[0], p + d->numbers[1], most, d->keys);
    for (int i = 2; i < d->choice.count; i++)
        allow(d, d->choice.items[i].begin, d->choice.items[i].end - 1, most, d->again);
    for (int64_t word = 0; word <= d->problem->keys / 64; word++) {
        const uint64_t window = d->keys[word], columns = d->again[word];
        d->keys[word] = window | columns;
        d->again[word] = window & columns;
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

/* The blocks that one list has for a row. */
static void set_listed(const definition *d, const int64_t *offsets, int64_t row, bool *blocks)
{
    const longspan_problem *p = d->problem;
    for (int64_t i = offsets[row]; i < offsets[row + 1]; i++)
        if (p->block_keys[i] < d->block_count) blocks[p->block_keys[i]] = true;
}

static bool set_blocks(definition *d)
{
    const longspan_problem *p = d->problem;
    const char *name = d->choice.kind->name;
    const bool bigbird = strcmp(name, "bigbird") == 0, random = strcmp(name, "random") == 0, drawn = bigbird || random;
    if (!drawn && strcmp(name, "blocks") != 0) return true;
    const int64_t size = d->numbers[0], row = d->query->query / size;
    const int64_t offsets = p->queries / size + (p->queries % size != 0) + 1;
    d->by_head = !drawn && p->block_offset_count > offsets;
    d->block_count = p->keys / size + (p->keys % size != 0);
    const int lists = d->by_head ? p->heads : 1;
    d->blocks = calloc((size_t)(lists * d->block_count) + 1, sizeof *d->blocks);
    if (!d->blocks) return false;
    if (bigbird) draw_blocks(d, row, d->block_count);
    if (random) draw_each(d, row, d->block_count);
    for (int i = 0; !drawn && i < lists; i++)
        set_listed(d, p->block_offsets + i * offsets, row, d->blocks + i * d->block_count);
    return true;
}

/* The keys that any head sees, and those that count once more. */
static void set_keys(const definition *d)
{
    const int64_t most = d->query->end - d->query->begin - 1, p = d->query->position;
    const char *name = d->choice.kind->name;
    if (strcmp(name, "global") == 0) allow_global(d, p, most, d->keys);
    if (strcmp(name, "global-twice") == 0) allow_global_twice(d, p, most);
    if (strcmp(name, "vertical-slash") == 0) allow_vertical_slash(d, p, most, d->keys);
    for (size_t i = 0; i < sizeof definitions / sizeof definitions[0]; i++) {
        if (strcmp(definitions[i].name, name) != 0) continue;
        for (int64_t j = 0; j <= most; j++)
            if (definitions[i].sees(d, p, j)) allow(d, j, j, most, d->keys);
    }
}

pattern_oracle *pattern_oracle_create(const longspan_problem *problem, const pattern_query *query)
{
    char why[PATTERN_WHY_SIZE];
    const size_t words = (size_t)problem->keys / 64 + 1;
    definition *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->problem = problem;
    d->place = *query;
    d->query = &d->place;
    d->keys = calloc(words, sizeof *d->keys);
    d->again = calloc(words, sizeof *d->again);
    if (d->keys && d->again && pattern_choice_parse(problem->pattern, &d->choice, why)) {
        for (int i = 0; i < 3 && i < d->choice.count; i++) d->numbers[i] = d->choice.items[i].begin;
        if (set_blocks(d)) {
            set_keys(d);
            return d;
        }
    }
    pattern_oracle_destroy(d);
    return NULL;
}

void pattern_oracle_destroy(pattern_oracle *o)
{
    if (!o) return;
    free(o->keys);
    free(o->again);
    free(o->blocks);
    free(o);
}

static bool bit(const uint64_t *keys, int64_t key)
{
    return keys[key / 64] >> (key % 64) & 1;
}

static bool is_longnet(const pattern_oracle *o)
{
    return strcmp(o->choice.kind->name, "longnet") == 0;
}

bool pattern_oracle_sees(const pattern_oracle *o, int64_t key)
{
    return bit(o->keys, key);
}

int pattern_oracle_times(const pattern_oracle *o, int head, int64_t key)
{
    if (!bit(o->keys, key)) return 0;
    if (is_longnet(o)) return branches_with(o, head, o->place.position, key - o->place.begin);
    if (o->by_head) return head_sees_block(o, head, key);
    return 1 + bit(o->again, key);
}

int pattern_oracle_most(const pattern_oracle *o)
{
    if (is_longnet(o)) return o->choice.second;
    return strcmp(o->choice.kind->name, "global-twice") == 0 ? 2 : 1;
}
