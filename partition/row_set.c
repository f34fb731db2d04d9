#include "partition/row_set.h"

#include <stdlib.h>
#include <string.h>

enum { WORD = 64 };

int row_set_reset(row_set *set, range tokens)
{
    const int64_t words = (range_length(tokens) + WORD - 1) / WORD;
    if (words > set->words) {
        uint64_t *bits = realloc(set->bits, (size_t)words * sizeof *bits);
        if (!bits) return -1;
        set->bits = bits;
        set->words = words;
    }
    if (words > 0) memset(set->bits, 0, (size_t)words * sizeof *set->bits);
    set->tokens = tokens;
    return 0;
}

void row_set_free(row_set *set)
{
    free(set->bits);
    *set = (row_set){0};
}

static void add_run(row_set *set, int64_t begin, int64_t end)
{
    while (begin < end) {
        const int64_t bit = begin % WORD, left = end - begin, count = left < WORD - bit ? left : WORD - bit;
        set->bits[begin / WORD] |= (count == WORD ? ~(uint64_t)0 : ((uint64_t)1 << count) - 1) << bit;
        begin += count;
    }
}

void row_set_add(row_set *set, range tokens, int64_t stride)
{
    const int64_t begin = tokens.begin - set->tokens.begin, end = tokens.end - set->tokens.begin;
    if (stride == 1) {
        add_run(set, begin, end);
        return;
    }
    for (int64_t row = begin; row < end; row += stride) set->bits[row / WORD] |= (uint64_t)1 << row % WORD;
}

int64_t row_set_count(const row_set *set)
{
    const int64_t words = (range_length(set->tokens) + WORD - 1) / WORD;
    int64_t count = 0;
    for (int64_t i = 0; i < words; i++) count += __builtin_popcountll(set->bits[i]);
    return count;
}

/* The first row from `row` on, or `end`, whose bit is `wanted`. */
static int64_t find(const row_set *set, int64_t row, int64_t end, bool wanted)
{
    const uint64_t flip = wanted ? 0 : ~(uint64_t)0;
    while (row < end) {
        const uint64_t rest = (set->bits[row / WORD] ^ flip) >> row % WORD;
        if (rest) {
            row += __builtin_ctzll(rest);
            return row < end ? row : end;
        }
        row += WORD - row % WORD;
    }
    return end;
}

bool row_set_next(const row_set *set, int64_t *at, range *run_p)
{
    const int64_t end = range_length(set->tokens);
    const int64_t begin = find(set, *at - set->tokens.begin, end, true);
    if (begin == end) return false;
    *at = set->tokens.begin + find(set, begin, end, false);
    *run_p = (range){set->tokens.begin + begin, *at};
    return true;
}
