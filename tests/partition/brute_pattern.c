#include "tests/partition/brute_pattern.h"

#include <stdio.h>
#include <string.h>

static bool in_window(int64_t p, int64_t j, int64_t left, int64_t right)
{
    return j >= p - left && j <= p + right;
}

/* The numbers of the generator that Vigna's splitmix64.c (2015, public domain) is, from a state. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static bool in_bigbird(int64_t row, int64_t column, int64_t blocks, int64_t random, uint64_t seed)
{
    bool seen[512] = {0};
    int64_t left = blocks;
    for (int64_t c = 0; c < blocks; c++)
        if (c == 0 || c == blocks - 1 || (c >= row - 1 && c <= row + 1)) seen[c] = true, left--;
    uint64_t of_rows = seed + (uint64_t)row * 0x9e3779b97f4a7c15, state = draw(&of_rows);
    while (random > 0 && left > 0) {
        const int64_t c = (int64_t)(draw(&state) % (uint64_t)blocks);
        if (seen[c]) continue;
        seen[c] = true;
        random--;
        left--;
    }
    return seen[column];
}

static bool in_random(int64_t row, int64_t column, int64_t percent, uint64_t seed)
{
    uint64_t of_rows = seed + (uint64_t)row * 0x9e3779b97f4a7c15;
    uint64_t state = draw(&of_rows) + (uint64_t)column * 0x9e3779b97f4a7c15;
    return draw(&state) % 100 < (uint64_t)percent;
}

static bool is_global(const brute_pattern *x, int64_t position)
{
    return position >= 0 && position < 512 && x->first[position];
}

static bool in_blocks(const brute_pattern *x, const int64_t *offsets, int64_t p, int64_t j)
{
    const int64_t size = x->numbers[0];
    for (int64_t i = offsets[p / size]; i < offsets[p / size + 1]; i++)
        if (x->columns[i] == j / size) return true;
    return false;
}

/* Branches that keep both tokens of one segment. */
static int in_branches(const brute_pattern *x, int head, int64_t p, int64_t j)
{
    int times = 0;
    for (int k = 0; k < x->branches && p >= 0; k++) {
        const int64_t w = x->numbers[k], r = x->steps[k], o = head % r;
        times += p / w == j / w && p % w >= o && j % w >= o && (p % w - o) % r == 0 && (j % w - o) % r == 0;
    }
    return times;
}

bool brute_is_of_blocks(const brute_pattern *x)
{
    return x->name == BRUTE_BLOCKS || x->name == BRUTE_HEAD_BLOCKS;
}

bool brute_is_alone(brute_name name)
{
    return name == BRUTE_BIGBIRD || name == BRUTE_RANDOM || name == BRUTE_VERTICAL_SLASH;
}

int brute_times(const brute_pattern *x, int head, int64_t p, int64_t j, int64_t keys)
{
    const int64_t *n = x->numbers;
    switch (x->name) {
    case BRUTE_HEAD_BLOCKS:
        return in_blocks(x, x->offsets + head * x->offsets_of_head, p, j);
    case BRUTE_GLOBAL_TWICE:
        return is_global(x, p) ? 1 : in_window(p, j, n[0], n[1]) + is_global(x, j);
    case BRUTE_LONGNET:
        return in_branches(x, head, p, j);
    case BRUTE_SINKS:
        return j <= p && (j < n[0] || p - j <= n[1]);
    case BRUTE_GLOBAL:
        return in_window(p, j, n[0], n[1]) || is_global(x, p) || is_global(x, j);
    case BRUTE_DILATED:
        for (int64_t m = -n[1]; m <= n[2]; m++)
            if (j == p + m * n[0]) return true;
        return false;
    case BRUTE_BIGBIRD:
        return in_bigbird(p / n[0], j / n[0], (keys + n[0] - 1) / n[0], n[1], (uint64_t)n[2]);
    case BRUTE_RANDOM:
        return in_random(p / n[0], j / n[0], n[1], (uint64_t)n[2]);
    case BRUTE_STRIDED:
        return j <= p && (p - j <= n[0] || (p - j) % n[0] == 0);
    case BRUTE_FIXED:
        if (j > p) return false;
        return j / n[0] == p / n[0] || j % n[0] >= n[0] - n[1];
    case BRUTE_VERTICAL_SLASH:
        return j <= p && (x->first[j] || x->second[p - j]);
    case BRUTE_BLOCKS:
        return in_blocks(x, x->offsets, p, j);
    default:
        return false;
    }
}

/* The set as items: some alone, some as runs, some runs in two items. */
static int put_set(const bool set[512], char *text, int size)
{
    int used = 0;
    for (int i = 0; i < 512; i++) {
        int last = i;
        if (!set[i]) continue;
        while (last + 1 < 512 && set[last + 1] && (last > i || i % 3 > 0)) last++;
        if (last == i) used += snprintf(text + used, (size_t)(size - used), "%s%d", used ? "," : "", i);
        else used += snprintf(text + used, (size_t)(size - used), "%s%d-%d", used ? "," : "", i, last);
        i = last;
    }
    return used;
}

void brute_pattern_text(const brute_pattern *x, char *text, int size)
{
    static const char *const names[] = {"sinks", "global",         "dilated", "bigbird", "random",       "strided",
                                        "fixed", "vertical-slash", "blocks",  "blocks",  "global-twice", "longnet"};
    static const int counts[] = {2, 2, 3, 3, 3, 1, 2, 0, 1, 1, 2, 0};
    int used = snprintf(text, (size_t)size, "%s:", names[x->name]);
    for (int i = 0; i < counts[x->name]; i++)
        used += snprintf(text + used, (size_t)(size - used), "%s%lld", i ? "," : "", (long long)x->numbers[i]);
    for (int k = 0; k < 2 * x->branches; k++)
        used += snprintf(text + used, (size_t)(size - used), "%s%lld",
                         k == 0             ? ""
                         : k == x->branches ? "/"
                                            : ",",
                         (long long)(k < x->branches ? x->numbers[k] : x->steps[k - x->branches]));
    if (x->name == BRUTE_GLOBAL || x->name == BRUTE_GLOBAL_TWICE) {
        text[used++] = ',';
        used += put_set(x->first, text + used, size - used);
    }
    if (x->name == BRUTE_VERTICAL_SLASH) {
        used += put_set(x->first, text + used, size - used);
        text[used++] = '/';
        put_set(x->second, text + used, size - used);
    }
}

static int64_t between(uint64_t *state, int64_t low, int64_t high)
{
    return low + (int64_t)(draw(state) % (uint64_t)(high - low + 1));
}

static void draw_set(uint64_t *state, int64_t tokens, bool set[512])
{
    const int64_t most = tokens < 512 ? tokens : 512;
    for (int64_t i = between(state, 1, 4); i > 0; i--) {
        const int64_t token = between(state, 0, most - 1);
        set[token] = true;
        if (token + 1 < most && between(state, 0, 1)) set[token + 1] = true;
    }
}

/* A list of blocks from column `used` on; returns where it ends. */
static int64_t draw_list(uint64_t *state, int64_t rows, int64_t width, int64_t used, int64_t *offsets, int64_t *columns)
{
    const int64_t rare = between(state, 1, 4), most = used + 8192;
    offsets[0] = used;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t c = 0; c < width && used < most; c++)
            if (between(state, 0, rare) == 0) columns[used++] = c;
        offsets[i + 1] = used;
    }
    return used;
}

/* Now and then a head has the list of the one before it. */
static int64_t repeat_list(int64_t rows, int64_t used, int64_t *offsets, int64_t *columns)
{
    const int64_t *before = offsets - rows - 1, count = used - before[0];
    for (int64_t i = 0; i <= rows; i++) offsets[i] = before[i] + count;
    for (int64_t i = 0; i < count; i++) columns[used + i] = columns[before[0] + i];
    return used + count;
}

static void draw_lists(brute_pattern *x, uint64_t *state, int64_t queries, int64_t keys, int64_t *offsets,
                       int64_t *columns)
{
    const int64_t size = x->numbers[0], rows = (queries + size - 1) / size, width = (keys + size - 1) / size;
    const int lists = x->name == BRUTE_HEAD_BLOCKS ? x->heads : 1;
    int64_t used = 0;
    x->offsets_of_head = rows + 1;
    for (int h = 0; h < lists; h++, offsets += rows + 1)
        used = h > 0 && between(state, 0, 2) == 0 ? repeat_list(rows, used, offsets, columns)
                                                  : draw_list(state, rows, width, used, offsets, columns);
}

void brute_pattern_draw(brute_pattern *x, brute_name name, int heads, int64_t queries, int64_t keys, uint64_t seed,
                        int64_t *offsets, int64_t *columns)
{
    uint64_t state = seed * 31 + (uint64_t)name;
    *x = (brute_pattern){.name = name, .heads = heads, .offsets = offsets, .columns = columns};
    const bool of_blocks = name == BRUTE_BIGBIRD || name == BRUTE_RANDOM || brute_is_of_blocks(x);
    for (int i = 0; i < 3; i++) x->numbers[i] = between(&state, 0, between(&state, 1, keys));
    if (name == BRUTE_DILATED || name == BRUTE_STRIDED || name == BRUTE_FIXED)
        x->numbers[0] = between(&state, 1, between(&state, 1, keys));
    if (name == BRUTE_FIXED) x->numbers[1] = between(&state, 0, x->numbers[0]);
    if (of_blocks) x->numbers[0] = between(&state, 1, keys / 5 + 1);
    if (name == BRUTE_RANDOM) x->numbers[1] = between(&state, 0, 100);
    if (name == BRUTE_BIGBIRD) x->numbers[1] = between(&state, 0, 3);
    if (name == BRUTE_GLOBAL || name == BRUTE_GLOBAL_TWICE || name == BRUTE_VERTICAL_SLASH)
        draw_set(&state, keys, x->first);
    if (name == BRUTE_VERTICAL_SLASH) draw_set(&state, keys, x->second);
    if (name == BRUTE_LONGNET) x->branches = (int)between(&state, 1, BRUTE_BRANCHES);
    for (int k = 0; k < x->branches; k++) {
        x->numbers[k] = between(&state, 1, keys + 3);
        x->steps[k] = between(&state, 1, between(&state, 1, 7));
    }
    if (brute_is_of_blocks(x)) draw_lists(x, &state, queries, keys, offsets, columns);
}
