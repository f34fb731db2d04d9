/* Both borders of what a row sees, mask_row(i).begin and .end, never fall as i grows. Hence the queries that see any
 * key of a range are one range too, every query of a range sees every key of another exactly when its last query sees
 * the first key and its first query the last one, and all questions are answered at the ends. */
#include "partition/mask.h"

/* The document of `token`: the last one that begins at or before it and is not empty. */
static int64_t document_index(const mask *m, int64_t token)
{
    int64_t low = 0, high = m->document_count; /* c_low <= token < c_high */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (m->documents[middle] <= token) low = middle;
        else high = middle;
    }
    return low;
}

static range document(const mask *m, int64_t index)
{
    return (range){m->documents[index], m->documents[index + 1]};
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

range mask_row(const mask *m, int64_t query)
{
    range keys = {0, m->keys};
    if (m->documents) keys = document(m, document_index(m, query));
    if (m->causal) keys.end = smaller(keys.end, query + (m->keys - m->queries) + 1);
    return keys;
}

range mask_queries(const mask *m, range keys)
{
    range queries = {0, m->queries};
    if (range_is_empty(keys)) return (range){0, 0};
    if (m->documents) {
        queries.begin = document(m, document_index(m, keys.begin)).begin;
        queries.end = document(m, document_index(m, keys.end - 1)).end;
    }
    if (m->causal) queries.begin = larger(queries.begin, keys.begin - (m->keys - m->queries));
    return queries;
}

mask_answer mask_ask(const mask *m, range queries, range keys)
{
    if (range_is_empty(queries) || range_is_empty(keys)) return MASK_NOTHING;
    if (range_is_empty(range_intersect(queries, mask_queries(m, keys)))) return MASK_NOTHING;
    if (mask_row(m, queries.end - 1).begin <= keys.begin && mask_row(m, queries.begin).end >= keys.end)
        return MASK_EVERYTHING;
    return MASK_LOOK_INSIDE;
}

/* Pairs within one document, or without documents. Query i sees i + shift + 1 - keys.begin of the keys, where that lies
 * between 0 and all of them: nothing, then an arithmetic series, then every key. */
static int64_t pairs_of_document(const mask *m, range queries, range keys)
{
    const int64_t all = range_length(keys);
    if (all == 0 || range_is_empty(queries)) return 0;
    if (!m->causal) return range_length(queries) * all;
    const int64_t shift = m->keys - m->queries;
    const range series = range_intersect(queries, (range){keys.begin - shift, keys.end - shift - 1});
    const range full = range_intersect(queries, (range){keys.end - shift - 1, m->queries});
    int64_t pairs = range_length(full) * all;
    if (!range_is_empty(series)) {
        const int64_t first = series.begin + shift + 1 - keys.begin, last = series.end + shift - keys.begin;
        /* At most all^2 + all before the division. */
        pairs += range_length(series) * (first + last) / 2;
    }
    return pairs;
}

int64_t mask_pairs(const mask *m, range queries, range keys)
{
    if (!m->documents) return pairs_of_document(m, queries, keys);
    if (range_is_empty(queries) || range_is_empty(keys)) return 0;
    const int64_t end = smaller(queries.end, keys.end);
    int64_t pairs = 0;
    for (int64_t d = document_index(m, larger(queries.begin, keys.begin));
         d < m->document_count && m->documents[d] < end; d++) {
        const range inside = document(m, d);
        pairs += pairs_of_document(m, range_intersect(queries, inside), range_intersect(keys, inside));
    }
    return pairs;
}
