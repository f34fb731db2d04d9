/* Patterns whose blocks are drawn at random, by numbers that depend on the seed and the block alone. */
#include "partition/drawn_blocks.h"

#include <string.h>

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* splitmix64 (Steele, Lea & Flood, OOPSLA 2014): number `turn` of a sequence. */
static uint64_t splitmix(uint64_t seed, uint64_t turn)
{
    uint64_t z = seed + (turn + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Puts a block into an ascending row unless it is there. */
static bool insert_block(int64_t *row, int64_t *count, int64_t block)
{
    int64_t at = *count;
    while (at > 0 && row[at - 1] > block) at--;
    if (at > 0 && row[at - 1] == block) return false;
    memmove(row + at + 1, row + at, (size_t)(*count - at) * sizeof *row);
    row[at] = block;
    (*count)++;
    return true;
}

/* Block i sees blocks 0, i - 1, i, i + 1, the last, and RANDOM others: of the numbers splitmix(splitmix(SEED, i), 0),
 * ... modulo the number of blocks the first so many that are not among those before. Zaheer et al., "Big Bird", arXiv
 * 2007.14062, section 2; the blocks as in its appendix D. They do not depend on the number of ranks. */
int drawn_blocks_bigbird(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    (void)queries, (void)keys, (void)shift;
    const int64_t size = pattern_number(c, 0), blocks = p->keys / size + (p->keys % size != 0);
    const int64_t random = smaller(pattern_number(c, 1), blocks), most = smaller(5 + random, blocks);
    const uint64_t seed = c->count > 2 ? (uint64_t)c->items[2].begin : 1;
    if (blocks > INT64_MAX / 16 / (most + 1) || pattern_make_blocks(p, size, blocks * most) != 0) return -1;
    for (int64_t i = 0; i < blocks; i++) {
        int64_t *row = p->blocks.columns + p->blocks.offsets[i], count = 0, drawn = 0;
        const int64_t always[] = {0, i - 1, i, i + 1, blocks - 1};
        for (int j = 0; j < 5; j++)
            if (always[j] >= 0 && always[j] < blocks) insert_block(row, &count, always[j]);
        for (uint64_t turn = 0; drawn < random && count < blocks; turn++)
            drawn +=
                insert_block(row, &count, (int64_t)(splitmix(splitmix(seed, (uint64_t)i), turn) % (uint64_t)blocks));
        p->blocks.offsets[i + 1] = p->blocks.offsets[i] + count;
    }
    return 0;
}

/* Block i of queries sees block j of keys where number j of the sequence of number i of SEED's is below PERCENT modulo
 * 100. */
static bool is_drawn(uint64_t seed, int64_t i, int64_t j, int64_t percent)
{
    return splitmix(splitmix(seed, (uint64_t)i), (uint64_t)j) % 100 < (uint64_t)percent;
}

int drawn_blocks_random(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    (void)queries, (void)keys, (void)shift;
    const int64_t size = pattern_number(c, 0), percent = pattern_number(c, 1),
                  blocks = p->keys / size + (p->keys % size != 0);
    const uint64_t seed = c->count > 2 ? (uint64_t)c->items[2].begin : 1;
    int64_t count = 0;
    for (int64_t i = 0; i < blocks; i++)
        for (int64_t j = 0; j < blocks; j++) count += is_drawn(seed, i, j, percent);
    if (pattern_make_blocks(p, size, count) != 0) return -1;
    count = 0;
    for (int64_t i = 0; i < blocks; i++) {
        for (int64_t j = 0; j < blocks; j++)
            if (is_drawn(seed, i, j, percent)) p->blocks.columns[count++] = j;
        p->blocks.offsets[i + 1] = count;
    }
    return 0;
}
