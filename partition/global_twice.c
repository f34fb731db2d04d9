/* A window and global tokens, as `global`, but a global key inside the window counts twice, as in
 * RelPositionMultiHeadAttentionLongformer of NVIDIA NeMo. That puts the scores of the global keys beside those of the
 * window, takes nothing out of either, and has one softmax over both. The rows of global queries are overwritten there
 * with attention to all keys, each once. Not here: its own projections of global queries, keys and values, and that the
 * scores of global keys have no relative-position bias.
 *
 * Term 0: the window, and the rows of global queries; term 1: the columns of global keys, of all other queries. */
#include "partition/global_twice.h"

#include <string.h>

/* The tokens AT of one document of a choice, as ranges of its keys: ascending, with gaps between them. Returns how
 * many. */
static int merge_tokens(const pattern_choice *c, int first, range keys, range merged[PATTERN_MOST_ITEMS])
{
    int count = 0;
    for (int i = first; i < c->count; i++) {
        const range given = {keys.begin + c->items[i].begin, keys.begin + c->items[i].end};
        range tokens = range_intersect(given, keys);
        int at = 0, kept = 0;
        if (range_is_empty(tokens)) continue;
        for (int j = 0; j < count; j++) {
            if (merged[j].begin <= tokens.end && tokens.begin <= merged[j].end) tokens = range_hull(tokens, merged[j]);
            else merged[kept++] = merged[j];
        }
        while (at < kept && merged[at].begin < tokens.begin) at++;
        memmove(merged + at + 1, merged + at, (size_t)(kept - at) * sizeof *merged);
        merged[at] = tokens;
        count = kept + 1;
    }
    return count;
}

static int count_terms(const pattern_choice *c, int heads)
{
    (void)c, (void)heads;
    return 2;
}

static void heads_of_term(const pattern_choice *c, int heads, int term, int *first_p, int *step_p)
{
    (void)c, (void)heads, (void)term;
    *first_p = 0;
    *step_p = 1;
}

static int make_term(pattern *p, const pattern_choice *c, int heads, int term, range queries, range keys, int64_t shift)
{
    range at[PATTERN_MOST_ITEMS];
    const int count = merge_tokens(c, 2, keys, at);
    int result = 0;
    (void)heads;
    if (term == 0) {
        const slice window = slice_band(queries, keys, shift - pattern_number(c, 0), shift + pattern_number(c, 1) + 1);
        result = pattern_add(p, &window);
    }
    for (int i = 0; i < count && result == 0 && term == 0; i++) {
        const slice row = slice_full(range_intersect(queries, (range){at[i].begin - shift, at[i].end - shift}), keys);
        result = pattern_add(p, &row);
    }
    for (int i = 0; i <= count && term == 1; i++) {
        const range between = {i > 0 ? at[i - 1].end - shift : queries.begin,
                               i < count ? at[i].begin - shift : queries.end};
        for (int j = 0; j < count && result == 0; j++) {
            const slice column = slice_full(range_intersect(queries, between), at[j]);
            result = pattern_add_disjoint(p, &column);
        }
    }
    return result;
}

const pattern_terms global_twice_terms = {count_terms, heads_of_term, make_term};
