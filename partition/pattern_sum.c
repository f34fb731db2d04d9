#include "partition/pattern_sum.h"

#include "partition/grown.h"

#include <stdlib.h>

pattern_sum *pattern_sum_create(int heads)
{
    pattern_sum *s = calloc(1, sizeof *s);
    if (s) s->heads = heads;
    return s;
}

void pattern_sum_destroy(pattern_sum *s)
{
    if (!s) return;
    for (int i = 0; i < s->count; i++) {
        pattern_destroy(s->terms[i].pattern);
        free(s->terms[i].runs);
    }
    free(s->terms);
    free(s);
}

int pattern_sum_begin_term(pattern_sum *s, int64_t queries, int64_t keys)
{
    pattern_term *terms = grown(s->terms, s->count, sizeof *terms);
    if (!terms) return -1;
    s->terms = terms;
    pattern *p = pattern_create(queries, keys);
    if (!p) return -1;
    terms[s->count++] = (pattern_term){.pattern = p};
    return 0;
}

int pattern_term_give(pattern_term *t, int head)
{
    if (t->run_count > 0 && t->runs[t->run_count - 1].end == head) {
        t->runs[t->run_count - 1].end++;
        return 0;
    }
    head_range *runs = grown(t->runs, t->run_count, sizeof *runs);
    if (!runs) return -1;
    t->runs = runs;
    runs[t->run_count++] = (head_range){head, head + 1};
    return 0;
}

int pattern_sum_give(pattern_sum *s, int term, int first, int step)
{
    for (int head = first; head < s->heads; head += step)
        if (pattern_term_give(&s->terms[term], head) != 0) return -1;
    return 0;
}

bool pattern_term_meets(const pattern_term *t, head_range heads)
{
    int low = 0, high = t->run_count; /* the first run that ends after the heads begin is in [low, high] */
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (t->runs[middle].end <= heads.begin) low = middle + 1;
        else high = middle;
    }
    return low < t->run_count && t->runs[low].begin < heads.end;
}

/* Every term splits each class into the key heads that have it and those that have it not. */
int pattern_sum_classes(const pattern_sum *s, int kv_heads, int *class_of)
{
    const int group = s->heads / kv_heads;
    int count = 1, *renumbered = calloc(2 * (size_t)kv_heads, sizeof *renumbered);
    if (!renumbered) return -1;
    for (int head = 0; head < kv_heads; head++) class_of[head] = 0;
    for (int i = 0; i < s->count; i++) {
        for (int j = 0; j < 2 * count; j++) renumbered[j] = -1;
        count = 0;
        for (int head = 0; head < kv_heads; head++) {
            const bool has = pattern_term_meets(&s->terms[i], (head_range){head * group, (head + 1) * group});
            int *number = &renumbered[2 * class_of[head] + has];
            if (*number < 0) *number = count++;
            class_of[head] = *number;
        }
    }
    free(renumbered);
    return count;
}

static int64_t heads_of_term(const pattern_term *t)
{
    int64_t heads = 0;
    for (int r = 0; r < t->run_count; r++) heads += heads_count(t->runs[r]);
    return heads;
}

int64_t pattern_sum_head_terms(const pattern_sum *s)
{
    int64_t sum = 0;
    for (int i = 0; i < s->count; i++) sum += heads_of_term(&s->terms[i]);
    return sum;
}

int64_t pattern_sum_pairs(const pattern_sum *s, const mask *m, range queries, range keys)
{
    int64_t sum = 0;
    for (int i = 0; i < s->count; i++) {
        const int64_t pairs = pattern_pairs(s->terms[i].pattern, m, queries, keys);
        if (pairs < 0) return -1;
        sum += pairs * heads_of_term(&s->terms[i]);
    }
    return sum;
}
