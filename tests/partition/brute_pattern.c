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

bool brute_in_pattern(const brute_pattern *x, int64_t p, int64_t j, int64_t keys)
{
    const int64_t *n = x->numbers;
    switch (x->name) {
    case BRUTE_SINKS:
        return j <= p && (j < n[0] || p - j <= n[1]);
    case BRUTE_GLOBAL:
        return in_window(p, j, n[0], n[1]) || (p >= 0 && p < 512 && x->first[p]) || (j < 512 && x->first[j]);
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
        for (int64_t i = x->offsets[p / n[0]]; i < x->offsets[p / n[0] + 1]; i++)
            if (x->columns[i] == j / n[0]) return true;
        return false;
    default:
        return false;
    }
}

/* The set as items: some alone, some as runs. */
static int put_set(const bool set[512], char *text, int size)
{
    int used = 0;
    for (int i = 0; i < 512; i++) {
        int last = i;
        if (!set[i]) continue;
        while (last + 1 < 512 && set[last + 1]) last++;
        if (last == i) used += snprintf(text + used, (size_t)(size - used), "%s%d", used ? "," : "", i);
        else used += snprintf(text + used, (size_t)(size - used), "%s%d-%d", used ? "," : "", i, last);
        i = last;
    }
    return used;
}

void brute_pattern_text(const brute_pattern *x, char *text, int size)
{
    static const char *const names[] = {"sinks",   "global", "dilated",        "bigbird", "random",
                                        "strided", "fixed",  "vertical-slash", "blocks"};
    static const int counts[] = {2, 2, 3, 3, 3, 1, 2, 0, 1};
    int used = snprintf(text, (size_t)size, "%s:", names[x->name]);
    for (int i = 0; i < counts[x->name]; i++)
        used += snprintf(text + used, (size_t)(size - used), "%s%lld", i ? "," : "", (long long)x->numbers[i]);
    if (x->name == BRUTE_GLOBAL) {
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
    for (int64_t i = between(state, 1, 4); i > 0; i--) set[between(state, 0, most - 1)] = true;
}

void brute_pattern_draw(brute_pattern *x, brute_name name, int64_t queries, int64_t keys, uint64_t seed,
                        int64_t *offsets, int64_t *columns)
{
    uint64_t state = seed * 31 + (uint64_t)name;
    *x = (brute_pattern){.name = name, .offsets = offsets, .columns = columns};
    for (int i = 0; i < 3; i++) x->numbers[i] = between(&state, 0, between(&state, 1, keys));
    if (name == BRUTE_DILATED || name == BRUTE_STRIDED || name == BRUTE_FIXED || name == BRUTE_BIGBIRD ||
        name == BRUTE_RANDOM || name == BRUTE_BLOCKS)
        x->numbers[0] = between(&state, 1, between(&state, 1, keys));
    if (name == BRUTE_FIXED) x->numbers[1] = between(&state, 0, x->numbers[0]);
    if (name == BRUTE_BIGBIRD || name == BRUTE_RANDOM || name == BRUTE_BLOCKS)
        x->numbers[0] = between(&state, 1, keys / 5 + 1);
    if (name == BRUTE_RANDOM) x->numbers[1] = between(&state, 0, 100);
    if (name == BRUTE_BIGBIRD) x->numbers[1] = between(&state, 0, 3);
    if (name == BRUTE_GLOBAL || name == BRUTE_VERTICAL_SLASH) draw_set(&state, keys, x->first);
    if (name == BRUTE_VERTICAL_SLASH) draw_set(&state, keys, x->second);
    if (name != BRUTE_BLOCKS) return;
    const int64_t size = x->numbers[0], rows = (queries + size - 1) / size, width = (keys + size - 1) / size;
    const int64_t rare = between(&state, 1, 4);
    offsets[0] = 0;
    for (int64_t i = 0; i < rows; i++) {
        offsets[i + 1] = offsets[i];
        for (int64_t c = 0; c < width && offsets[i + 1] < 8192; c++)
            if (between(&state, 0, rare) == 0) columns[offsets[i + 1]++] = c;
    }
}
