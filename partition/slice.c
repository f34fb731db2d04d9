/* In a slice the first key of query i is max(keys.begin, i + low) and its last one below min(keys.end, i + high): both
 * rise with i, by at most as much as i does, so that consecutive rows leave no gap between them and everything is
 * answered at the ends of ranges. With equal strides s of queries and keys all differences j - i are congruent modulo
 * s; low and high are then moved inwards to ones that occur, and the same holds in units of s. */
#include "partition/slice.h"

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t ceil_divide(int64_t a, int64_t b)
{
    return -floor_divide(-a, b);
}

/* 0 <= result < b */
static int64_t modulo(int64_t a, int64_t b)
{
    return a - floor_divide(a, b) * b;
}

slice slice_full(range queries, range keys)
{
    return slice_band(queries, keys, -SLICE_FAR, SLICE_FAR);
}

slice slice_band(range queries, range keys, int64_t low, int64_t high)
{
    return (slice){queries, 1, keys, 1, larger(low, -SLICE_FAR), smaller(high, SLICE_FAR)};
}

slice_kind slice_kind_of(const slice *s)
{
    const bool below = s->low > -SLICE_FAR, above = s->high < SLICE_FAR;
    if (below && above) return SLICE_BAND;
    if (below) return SLICE_INVERSE_CAUSAL;
    return above ? SLICE_CAUSAL : SLICE_FULL;
}

bool slice_is_empty(const slice *s)
{
    return range_is_empty(s->queries) || range_is_empty(s->keys);
}

/* Those of begin, begin + stride, ... below `all.end` that lie in a range, from the first to past the last. */
static range strided_within(range all, int64_t stride, range in)
{
    int64_t begin = all.begin, end = smaller(all.end, in.end);
    if (in.begin > begin) begin += ceil_divide(in.begin - begin, stride) * stride;
    if (begin >= end) return (range){0, 0};
    return (range){begin, begin + (end - 1 - begin) / stride * stride + 1};
}

/* Moves low and high of a slice with equal strides to differences that occur. */
static void settle_band(slice *s)
{
    const int64_t stride = s->key_stride;
    if (stride == 1 || s->query_stride == 1) return;
    const int64_t occurs = modulo(s->keys.begin - s->queries.begin, stride);
    if (s->low > -SLICE_FAR) s->low += modulo(occurs - s->low, stride);
    if (s->high < SLICE_FAR) s->high -= modulo(s->high - 1 - occurs, stride);
}

slice slice_within(const slice *s, range queries, range keys)
{
    const slice none = {.query_stride = 1, .key_stride = 1};
    slice part = *s;
    part.queries = strided_within(s->queries, s->query_stride, queries);
    part.keys = strided_within(s->keys, s->key_stride, keys);
    if (slice_is_empty(&part)) return none;
    settle_band(&part);
    if (part.low >= part.high) return none;
    const range seeing = {part.keys.begin - part.high + 1, part.keys.end - part.low};
    part.queries = strided_within(part.queries, part.query_stride, seeing);
    if (range_is_empty(part.queries)) return none;
    const range seen = {part.queries.begin + part.low, part.queries.end - 1 + part.high};
    part.keys = strided_within(part.keys, part.key_stride, seen);
    return range_is_empty(part.keys) ? none : part;
}

range slice_row(const slice *s, int64_t query)
{
    return strided_within(s->keys, s->key_stride, (range){query + s->low, query + s->high});
}

bool slice_sees_all(const slice *s)
{
    return s->queries.end - 1 + s->low <= s->keys.begin && s->queries.begin + s->high >= s->keys.end;
}

static int64_t count_strided(range r, int64_t stride)
{
    return range_is_empty(r) ? 0 : (r.end - 1 - r.begin) / stride + 1;
}

int64_t slice_query_count(const slice *s)
{
    return count_strided(s->queries, s->query_stride);
}

int64_t slice_key_count(const slice *s)
{
    return count_strided(s->keys, s->key_stride);
}

/* Pairs (t, u), 0 <= t < rows, 0 <= u < keys, with stride u < t + distance: for each u, rows - 1 - stride u + distance
 * of them, but not less than none and not more than all. */
static int64_t pairs_below(int64_t rows, int64_t keys, int64_t stride, int64_t distance)
{
    const int64_t most = rows - 1 + distance;
    const int64_t all =
        most < rows ? 0 : smaller(keys, (most - rows) / stride + 1); /* u that every t is counted with */
    const int64_t some = most <= 0 ? 0 : smaller(keys, (most - 1) / stride + 1);
    int64_t pairs = all * rows;
    if (some > all) {
        const int64_t terms = some - all, first_and_last = 2 * most - stride * (all + some - 1);
        pairs += terms % 2 == 0 ? terms / 2 * first_and_last : terms * (first_and_last / 2);
    }
    return pairs;
}

int64_t slice_pairs(const slice *s)
{
    const int64_t rows = slice_query_count(s), keys = slice_key_count(s);
    if (rows == 0 || keys == 0 || s->low >= s->high) return 0;
    const int64_t apart = s->queries.begin - s->keys.begin;
    int64_t ahead = apart + s->high, behind = apart + s->low, stride = s->key_stride;
    if (s->query_stride > 1) {
        ahead = ceil_divide(ahead, stride);
        behind = ceil_divide(behind, stride);
        stride = 1;
    }
    return pairs_below(rows, keys, stride, ahead) - pairs_below(rows, keys, stride, behind);
}

/* Masks. */

/* A document, or all there is. */
typedef struct {
    range queries, keys;
    int64_t shift; /* the position of query i of it stands at key i + shift */
} part;

static int64_t reach(int64_t distance)
{
    return distance == MASK_UNLIMITED ? SLICE_FAR : smaller(distance, SLICE_FAR);
}

/* Position of a query among the keys of its document, and back. */
static int64_t position(const part *d, int64_t query)
{
    return query + d->shift - d->keys.begin;
}

static int emit_within(const slice *s, range queries, range keys, slice_fn emit, void *data)
{
    const slice piece = slice_within(s, queries, keys);
    return slice_is_empty(&piece) ? 0 : emit(data, &piece);
}

/* The queries `queries` of a document, whose positions are all before the end of the prefix or all after it, against
 * the keys that their chunk allows. */
static int under_borders(const slice *s, const mask *m, const part *d, range queries, range keys, slice_fn emit,
                         void *data)
{
    slice bounded = *s;
    if (range_is_empty(queries)) return 0;
    bounded.low = larger(s->low, d->shift - reach(m->window_left));
    bounded.high = smaller(s->high, larger(d->shift + reach(m->window_right) + 1, -SLICE_FAR));
    if (m->causal && position(d, queries.begin) < m->prefix)
        keys = range_intersect(keys, (range){d->keys.begin, d->keys.begin + m->prefix});
    else if (m->causal) bounded.high = smaller(bounded.high, d->shift + 1);
    return emit_within(&bounded, queries, keys, emit, data);
}

/* The queries of a chunk. */
static int under_prefix(const slice *s, const mask *m, const part *d, range queries, range keys, slice_fn emit,
                        void *data)
{
    if (!m->causal || m->prefix == 0) return under_borders(s, m, d, queries, keys, emit, data);
    const int64_t end = m->prefix + d->keys.begin - d->shift; /* the first query after the prefix */
    const range inside = range_intersect(queries, (range){queries.begin, end});
    const range after = range_intersect(queries, (range){end, queries.end});
    const int result = under_borders(s, m, d, inside, keys, emit, data);
    return result ? result : under_borders(s, m, d, after, keys, emit, data);
}

static int under_chunks(const slice *s, const mask *m, const part *d, slice_fn emit, void *data)
{
    const slice in = slice_within(s, d->queries, d->keys);
    if (m->chunk == 0 || slice_is_empty(&in)) return under_prefix(s, m, d, in.queries, d->keys, emit, data);
    const int64_t size = smaller(m->chunk, SLICE_FAR / 4);
    const int64_t first = floor_divide(position(d, in.queries.begin), size);
    const int64_t last = floor_divide(position(d, in.queries.end - 1), size);
    for (int64_t c = first; c <= last; c++) {
        const int64_t own = d->keys.begin + c * size; /* the key at the chunk's begin */
        const range queries = range_intersect(in.queries, (range){own - d->shift, own - d->shift + size});
        range keys = d->keys;
        if (m->chunks_left != MASK_UNLIMITED && m->chunks_left < SLICE_FAR / size)
            keys.begin = larger(keys.begin, own - m->chunks_left * size);
        if (m->chunks_right != MASK_UNLIMITED && m->chunks_right < SLICE_FAR / size)
            keys.end = smaller(keys.end, own + (m->chunks_right + 1) * size);
        const int result = under_prefix(s, m, d, queries, keys, emit, data);
        if (result) return result;
    }
    return 0;
}

/* The last document that begins at or before a token. */
static int64_t document_of(const mask *m, int64_t token)
{
    int64_t low = 0, high = m->document_count;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (m->documents[middle] <= token) low = middle;
        else high = middle;
    }
    return low;
}

int slice_under_mask(const slice *s, const mask *m, slice_fn emit, void *data)
{
    const range seeing = mask_queries(m, s->keys);
    const slice in = slice_within(s, range_intersect(seeing, (range){0, m->queries}), (range){0, m->keys});
    if (slice_is_empty(&in)) return 0;
    if (!m->documents) {
        const part all = {{0, m->queries}, {0, m->keys}, m->keys - m->queries};
        return under_chunks(&in, m, &all, emit, data);
    }
    for (int64_t i = document_of(m, in.queries.begin); i < m->document_count && m->documents[i] < in.queries.end; i++) {
        const range tokens = {m->documents[i], m->documents[i + 1]};
        const part d = {tokens, tokens, 0};
        if (range_is_empty(tokens)) continue;
        const int result = under_chunks(&in, m, &d, emit, data);
        if (result) return result;
    }
    return 0;
}

/* Set algebra. */

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b != 0) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

typedef enum { AMONG, BESIDE, MIXED } relation;

/* Where the tokens first, first + stride, ... lie in relation to those of `of`. */
static relation relate(int64_t first, int64_t stride, int64_t of_first, int64_t of_stride)
{
    const int64_t divisor = common_divisor(stride, of_stride);
    if (modulo(first - of_first, divisor) != 0) return BESIDE;
    return divisor == of_stride ? AMONG : MIXED;
}

/* Of the tokens of a in relation to those of b. */
static relation relate_slices(const slice *a, const slice *b)
{
    const relation queries = relate(a->queries.begin, a->query_stride, b->queries.begin, b->query_stride);
    const relation keys = relate(a->keys.begin, a->key_stride, b->keys.begin, b->key_stride);
    if (queries == BESIDE || keys == BESIDE) return BESIDE;
    return queries == MIXED || keys == MIXED ? MIXED : AMONG;
}

static slice banded(const slice *s, int64_t low, int64_t high)
{
    slice part = *s;
    part.low = larger(s->low, low);
    part.high = smaller(s->high, high);
    return part;
}

int slice_and(const slice *a, const slice *b, slice *both_p)
{
    const slice in = slice_within(a, b->queries, b->keys), of = slice_within(b, a->queries, a->keys);
    if (slice_is_empty(&in) || slice_is_empty(&of)) return 0;
    relation how = relate_slices(&in, &of);
    const slice *finer = &in, *other = &of;
    if (how == MIXED) {
        how = relate_slices(&of, &in);
        finer = &of;
        other = &in;
    }
    if (how == BESIDE) return 0;
    if (how == MIXED) return SLICE_MIXED;
    const slice band = banded(finer, other->low, other->high);
    const slice both = slice_within(&band, other->queries, other->keys);
    if (slice_is_empty(&both)) return 0;
    *both_p = both;
    return 1;
}

static void add_part(const slice *s, range queries, range keys, slice *parts, int *count)
{
    const slice part = slice_within(s, queries, keys);
    if (!slice_is_empty(&part)) parts[(*count)++] = part;
}

int slice_without(const slice *a, const slice *b, slice parts[SLICE_MOST_PARTS])
{
    const range all = {-SLICE_FAR, SLICE_FAR}, q = b->queries, k = b->keys;
    const slice of = slice_within(a, q, k);
    int count = 0;
    if (slice_is_empty(a)) return 0;
    const relation how = slice_is_empty(&of) || slice_is_empty(b) || b->low >= b->high ? BESIDE : relate_slices(a, b);
    if (how == MIXED) return SLICE_MIXED;
    if (how == BESIDE) {
        add_part(a, all, all, parts, &count);
        return count;
    }
    add_part(a, (range){all.begin, q.begin}, all, parts, &count);
    add_part(a, q, (range){all.begin, k.begin}, parts, &count);
    const slice before = banded(a, -SLICE_FAR, b->low), after = banded(a, b->high, SLICE_FAR);
    if (b->low > -SLICE_FAR) add_part(&before, q, k, parts, &count);
    if (b->high < SLICE_FAR) add_part(&after, q, k, parts, &count);
    add_part(a, q, (range){k.end, all.end}, parts, &count);
    add_part(a, (range){q.end, all.end}, all, parts, &count);
    return count;
}
