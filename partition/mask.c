/* All parts of a mask say of position p, among the keys of its document, that it sees from some key on and up to some
 * key; each of these borders never falls as p grows, so neither do their maximum and their minimum. Hence
 *   - the keys of a row are one range;
 *   - the queries that see any key of a range are one range: those whose row ends after its first key and begins
 *     before its last;
 *   - every query of a range sees every key of another exactly when its last query sees the first key and its first
 *     query the last one;
 *   - a position p >= 0 sees itself, so that the rows of consecutive queries leave no gap between them, and only
 *     positions before the first key (N > M) can see nothing.
 * Each part is symmetric enough to be turned round: p sees up to j exactly when j is seen from p on. All questions are
 * answered at the ends of ranges. */
#include "partition/mask.h"

#include <stddef.h>

/* Lengths end at LONGEST; FAR is beyond any distance between two positions, and sums of a few still fit. */
static const int64_t LONGEST = (int64_t)1 << 60, FAR = (int64_t)1 << 61, MOST_PAIRS = (int64_t)1 << 62;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t clamped(int64_t x, int64_t low, int64_t high)
{
    return smaller(larger(x, low), high);
}

mask mask_full(int64_t queries, int64_t keys)
{
    return (mask){
        .queries = queries,
        .keys = keys,
        .window_left = MASK_UNLIMITED,
        .window_right = MASK_UNLIMITED,
        .chunks_left = MASK_UNLIMITED,
        .chunks_right = MASK_UNLIMITED,
    };
}

/* A document, or all there is: it is masked as if it were alone. */
typedef struct {
    int64_t begin; /* of its queries and of its keys */
    int64_t queries, keys;
    int64_t shift; /* position of its first query among its keys */
} part;

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

static part document(const mask *m, int64_t index)
{
    const int64_t length = m->documents[index + 1] - m->documents[index];
    return (part){.begin = m->documents[index], .queries = length, .keys = length};
}

static part part_of(const mask *m, int64_t token)
{
    if (m->documents) return document(m, document_index(m, token));
    return (part){.queries = m->queries, .keys = m->keys, .shift = m->keys - m->queries};
}

/* How many positions a window, or a number of whole chunks, reaches. */
static int64_t window_reach(int64_t window)
{
    return window == MASK_UNLIMITED ? FAR : smaller(window, FAR);
}

static int64_t chunk_size(const mask *m)
{
    return smaller(m->chunk, FAR);
}

static int64_t chunks_reach(const mask *m, int64_t chunks)
{
    return chunks == MASK_UNLIMITED || chunks > FAR / chunk_size(m) ? FAR : chunks * chunk_size(m);
}

/* First position of the chunk of p, which may be negative. */
static int64_t chunk_begin(const mask *m, int64_t p)
{
    const int64_t rest = p % chunk_size(m);
    return p - (rest < 0 ? rest + chunk_size(m) : rest);
}

/* The keys that position p of a part sees; {0, 0} if none. */
static range row_at(const mask *m, const part *d, int64_t p)
{
    range r = {larger(0, p - window_reach(m->window_left)), smaller(d->keys, p + 1 + window_reach(m->window_right))};
    if (m->causal) r.end = smaller(r.end, larger(p + 1, m->prefix));
    if (m->chunk > 0) {
        const int64_t own = chunk_begin(m, p);
        r.begin = larger(r.begin, own - chunks_reach(m, m->chunks_left));
        r.end = smaller(r.end, own + chunk_size(m) + chunks_reach(m, m->chunks_right));
    }
    r.end = larger(r.end, 0);
    return r;
}

/* The first position whose row ends after key j of its part. */
static int64_t first_seeing(const mask *m, int64_t j)
{
    int64_t p = j - window_reach(m->window_right);
    if (m->causal && j >= m->prefix) p = larger(p, j);
    if (m->chunk > 0) p = larger(p, chunk_begin(m, j) - chunks_reach(m, m->chunks_right));
    return p;
}

/* The last position whose row begins at or before key j of its part. */
static int64_t last_seeing(const mask *m, int64_t j)
{
    int64_t p = j + window_reach(m->window_left);
    if (m->chunk > 0) p = smaller(p, chunk_begin(m, j) + chunk_size(m) - 1 + chunks_reach(m, m->chunks_left));
    return p;
}

range mask_row(const mask *m, int64_t query)
{
    const part d = part_of(m, query);
    const range row = row_at(m, &d, query - d.begin + d.shift);
    return (range){d.begin + row.begin, d.begin + row.end};
}

range mask_keys(const mask *m, range queries)
{
    if (range_is_empty(queries)) return (range){0, 0};
    /* A row that sees nothing is {0, 0}, and rows after it up to the first that sees something begin at 0 too. */
    const range keys = {mask_row(m, queries.begin).begin, mask_row(m, queries.end - 1).end};
    return range_is_empty(keys) ? (range){0, 0} : keys;
}

range mask_queries(const mask *m, range keys)
{
    if (range_is_empty(keys)) return (range){0, 0};
    const part first = part_of(m, keys.begin), last = part_of(m, keys.end - 1);
    const int64_t begin = first_seeing(m, keys.begin - first.begin) - first.shift;
    const int64_t end = last_seeing(m, keys.end - 1 - last.begin) - last.shift + 1;
    const range queries = {first.begin + larger(begin, 0), last.begin + smaller(end, last.queries)};
    return range_is_empty(queries) ? (range){0, 0} : queries;
}

mask_answer mask_ask(const mask *m, range queries, range keys)
{
    if (range_is_empty(queries) || range_is_empty(keys)) return MASK_NOTHING;
    if (range_is_empty(range_intersect(queries, mask_queries(m, keys)))) return MASK_NOTHING;
    if (mask_row(m, queries.end - 1).begin <= keys.begin && mask_row(m, queries.begin).end >= keys.end)
        return MASK_EVERYTHING;
    return MASK_LOOK_INSIDE;
}

/* Sum over positions p of clamped(p + offset, low, high) - low: zeros, then an arithmetic series, then constant. */
static int64_t sum_of_line(range positions, int64_t offset, int64_t low, int64_t high)
{
    if (low >= high) return 0;
    const range series = range_intersect(positions, (range){low - offset, high - offset});
    const range flat = range_intersect(positions, (range){high - offset, positions.end});
    int64_t sum = range_length(flat) * (high - low);
    if (!range_is_empty(series)) {
        const int64_t terms = range_length(series);
        const int64_t first_and_last = series.begin + series.end - 1 + 2 * (offset - low);
        /* One of them is even: halved first, the product stays below 2^62. */
        sum += terms % 2 == 0 ? terms / 2 * first_and_last : terms * (first_and_last / 2);
    }
    return sum;
}

/* Pairs of positions, each of which sees something, with keys [a, b), where chunks neither begin nor end: they allow
 * the keys `allowed`. Sum of where rows end less sum of where they begin, both cut to [a, b) and counted from a. */
static int64_t pairs_of_stretch(const mask *m, range positions, range keys, range allowed)
{
    if (range_is_empty(positions)) return 0;
    const int64_t a = keys.begin, b = keys.end;
    const int64_t floor = clamped(allowed.begin, a, b), ceiling = clamped(allowed.end, a, b);
    const int64_t begins =
        range_length(positions) * (floor - a) + sum_of_line(positions, -window_reach(m->window_left), floor, b);
    const int64_t ahead = 1 + window_reach(m->window_right);
    if (!m->causal) return sum_of_line(positions, ahead, a, ceiling) - begins;
    /* Before the end of the prefix rows end there, or where the window does; after it at themselves. */
    const range inside = range_intersect(positions, (range){positions.begin, m->prefix});
    const range after = range_intersect(positions, (range){m->prefix, positions.end});
    return sum_of_line(inside, ahead, a, smaller(ceiling, m->prefix)) + sum_of_line(after, 1, a, ceiling) - begins;
}

/* Pairs of queries and keys of a part, both counted from its begin. */
static int64_t pairs_of_part(const mask *m, const part *d, range queries, range keys)
{
    if (range_is_empty(queries) || range_is_empty(keys)) return 0;
    const range seeing = {first_seeing(m, keys.begin), last_seeing(m, keys.end - 1) + 1};
    const range positions = range_intersect((range){queries.begin + d->shift, queries.end + d->shift}, seeing);
    if (m->chunk == 0) return pairs_of_stretch(m, positions, keys, (range){0, d->keys});
    int64_t pairs = 0;
    range chunk = {positions.begin, positions.begin};
    while (chunk.begin < positions.end) {
        const int64_t own = chunk_begin(m, chunk.begin);
        chunk.end = smaller(own + chunk_size(m), positions.end);
        const range allowed = {own - chunks_reach(m, m->chunks_left),
                               own + chunk_size(m) + chunks_reach(m, m->chunks_right)};
        pairs += pairs_of_stretch(m, chunk, keys, range_intersect(allowed, (range){0, d->keys}));
        chunk.begin = chunk.end;
    }
    return pairs;
}

int64_t mask_pairs(const mask *m, range queries, range keys)
{
    if (range_is_empty(queries) || range_is_empty(keys)) return 0;
    if (!m->documents) {
        const part all = part_of(m, 0);
        return pairs_of_part(m, &all, queries, keys);
    }
    const int64_t end = smaller(queries.end, keys.end);
    int64_t pairs = 0;
    for (int64_t i = document_index(m, larger(queries.begin, keys.begin));
         i < m->document_count && m->documents[i] < end; i++) {
        const part d = document(m, i);
        const range inside = {d.begin, d.begin + d.keys};
        const range q = range_intersect(queries, inside), k = range_intersect(keys, inside);
        pairs += pairs_of_part(m, &d, (range){q.begin - d.begin, q.end - d.begin},
                               (range){k.begin - d.begin, k.end - d.begin});
    }
    return pairs;
}

const char *mask_documents_fault(const mask *m)
{
    if (!m->documents) return NULL;
    if (m->queries != m->keys) return "packed documents need as many keys as queries";
    if (m->document_count < 0 || m->documents[0] != 0 || m->documents[m->document_count] != m->queries)
        return "document offsets do not go from 0 to the number of tokens";
    for (int64_t i = 0; i < m->document_count; i++)
        if (m->documents[i] > m->documents[i + 1]) return "document offsets do not ascend";
    return NULL;
}

const char *mask_fault(const mask *m)
{
    if (m->queries < 0 || m->keys < 0) return "a length is negative";
    if (m->queries > LONGEST || m->keys > LONGEST) return "a length is more than 2^60 tokens";
    if (m->queries > 0 && m->keys > MOST_PAIRS / m->queries) return "there are more than 2^62 pairs of query and key";
    if (m->window_left < MASK_UNLIMITED || m->window_right < MASK_UNLIMITED) return "a window is negative";
    if (m->prefix < 0) return "the prefix is negative";
    if (m->chunk < 0) return "the chunk is negative";
    if (m->chunks_left < MASK_UNLIMITED || m->chunks_right < MASK_UNLIMITED) return "a number of chunks is negative";
    if (m->chunk == 0 && (m->chunks_left != MASK_UNLIMITED || m->chunks_right != MASK_UNLIMITED))
        return "chunks to the left or right are limited, but no size of a chunk is given";
    return mask_documents_fault(m);
}
