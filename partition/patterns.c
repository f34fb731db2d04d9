/* The patterns there are. A new one is its function and a line in the table. */
#include "partition/patterns.h"

#include "partition/block_lists.h"
#include "partition/drawn_blocks.h"
#include "partition/global_twice.h"
#include "partition/longnet.h"

#include <stdio.h>

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t pattern_number(const pattern_choice *c, int index)
{
    return smaller(c->items[index].begin, (int64_t)1 << 59);
}

static int64_t number(const pattern_choice *c, int index)
{
    return pattern_number(c, index);
}

/* The first of the positions that are equal to `position` modulo a length, from -length + 1 on. */
static int64_t residue_of(int64_t position, int64_t length)
{
    return position % length + (position % length < 0 ? length : 0);
}

/* Windows beside something. */

/* {0 .. COUNT - 1} and {p - LEFT .. p}, no key after p. Xiao et al., "Efficient streaming language models with
 * attention sinks", arXiv 2309.17453, section 3.2. */
static int make_sinks(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    const slice window = slice_band(queries, keys, shift - number(c, 1), shift + 1);
    const range first = {keys.begin, keys.begin + number(c, 0)};
    const slice sinks = slice_band(queries, range_intersect(keys, first), -SLICE_FAR, shift + 1);
    const int result = pattern_add(p, &window);
    return result ? result : pattern_add(p, &sinks);
}

/* {p - LEFT .. p + RIGHT}; the tokens AT see all keys and are seen by all queries. Beltagy, Peters, Cohan,
 * "Longformer", arXiv 2004.05150, section 3.1. A key that is both in the window and global counts once. */
static int make_global(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    const slice window = slice_band(queries, keys, shift - number(c, 0), shift + number(c, 1) + 1);
    int result = pattern_add(p, &window);
    for (int i = 2; i < c->count && result == 0; i++) {
        const range tokens = {keys.begin + c->items[i].begin, keys.begin + c->items[i].end};
        const range at = {tokens.begin - shift, tokens.end - shift};
        const slice rows = slice_full(range_intersect(queries, at), keys);
        const slice columns = slice_full(queries, range_intersect(keys, tokens));
        result = pattern_add(p, &rows);
        if (result == 0) result = pattern_add(p, &columns);
    }
    return result;
}

/* {p + m STEP : -LEFT <= m <= RIGHT}. Beltagy, Peters, Cohan, arXiv 2004.05150, section 3.1, "dilated sliding window".
 */
static int make_dilated(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    const int64_t step = smaller(number(c, 0), p->queries + p->keys), most = (p->queries + p->keys) / step + 1;
    const int64_t left = smaller(number(c, 1), most), right = c->count > 2 ? smaller(number(c, 2), most) : 0;
    int result = 0;
    for (int64_t first = queries.begin; first < queries.begin + step && first < queries.end && result == 0; first++) {
        slice s = slice_band(queries, keys, shift - left * step, shift + right * step + 1);
        s.queries.begin = first;
        s.keys.begin += residue_of(first + shift - keys.begin, step);
        s.query_stride = s.key_stride = step;
        result = pattern_add_disjoint(p, &s);
    }
    return result;
}

/* Child et al., "Generating long sequences with sparse transformers", arXiv 1904.10509, section 4.2; both are of
 * autoregressive models: no key after p. */

/* {p - LENGTH .. p} and {j <= p : (p - j) mod LENGTH = 0}. */
static int make_strided(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    const int64_t length = smaller(number(c, 0), p->queries + p->keys);
    const slice window = slice_band(queries, keys, shift - length, shift + 1);
    int result = pattern_add(p, &window);
    for (int64_t first = queries.begin; first < queries.begin + length && first < queries.end && result == 0; first++) {
        slice s = slice_band(queries, keys, -SLICE_FAR, shift - length); /* what the window has not */
        s.queries.begin = first;
        s.keys.begin += residue_of(first + shift - keys.begin, length);
        s.query_stride = s.key_stride = length;
        result = pattern_add_disjoint(p, &s);
    }
    return result;
}

/* {j <= p : floor(j / LENGTH) = floor(p / LENGTH)} and {j <= p : j mod LENGTH >= LENGTH - LAST}. */
static int make_fixed(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    const int64_t length = number(c, 0), last = number(c, 1);
    const int64_t before = queries.begin + shift - keys.begin;        /* position of the first query */
    const int64_t begin = queries.begin - residue_of(before, length); /* query at the beginning of its stretch */
    int result = 0;
    for (int64_t own = begin; own < queries.end && result == 0; own += length) {
        const range of = range_intersect(queries, (range){own, own + length});
        const slice s =
            slice_band(of, range_intersect(keys, (range){own + shift, own + shift + length}), -SLICE_FAR, shift + 1);
        result = pattern_add_disjoint(p, &s);
    }
    for (int64_t column = length - last; column < length && column < range_length(keys); column++)
        for (int64_t own = begin; own < queries.end && result == 0; own += length) {
            slice s = slice_full(range_intersect(queries, (range){own, own + length}),
                                 range_intersect(keys, (range){keys.begin + column, own + shift}));
            s.key_stride = length;
            result = pattern_add_disjoint(p, &s);
        }
    return result;
}

/* {j <= p : j is one of the columns} and {p - d : d is one of the diagonals}. Jiang et al., "MInference 1.0", arXiv
 * 2407.02490, section 3.2. */
static int make_vertical_slash(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    int result = 0;
    for (int i = c->second; i < c->count && result == 0; i++) {
        const slice s = slice_band(queries, keys, shift - c->items[i].end + 1, shift - c->items[i].begin + 1);
        result = pattern_add(p, &s);
    }
    for (int i = 0; i < c->second && result == 0; i++) {
        const range tokens = {keys.begin + c->items[i].begin, keys.begin + c->items[i].end};
        const slice s = slice_band(queries, range_intersect(keys, tokens), -SLICE_FAR, shift + 1);
        result = pattern_add(p, &s);
    }
    return result;
}

/* Blocks of SIZE tokens that are given as arrays; pattern_make puts them in. */
static int make_blocks(pattern *p, const pattern_choice *c, range queries, range keys, int64_t shift)
{
    (void)p, (void)c, (void)queries, (void)keys, (void)shift;
    return 0;
}

/* What is wrong with numbers. */

static const char *fault_of_step(const pattern_choice *c)
{
    return number(c, 0) < 1 ? "a step is at least 1" : NULL;
}

static const char *fault_of_length(const pattern_choice *c)
{
    return number(c, 0) < 1 ? "a length is at least 1" : NULL;
}

static const char *fault_of_fixed(const pattern_choice *c)
{
    if (number(c, 1) > number(c, 0)) return "more tokens are seen by all than a stretch has";
    return fault_of_length(c);
}

static const char *fault_of_blocks(const pattern_choice *c)
{
    return number(c, 0) < 1 ? "a block has at least 1 token" : NULL;
}

static const char *fault_of_random(const pattern_choice *c)
{
    return number(c, 1) > 100 ? "a chance is at most 100 in 100" : fault_of_blocks(c);
}

enum { RUNS = 0, ANY = 0 };

static const char *fault_of_moba(const pattern_choice *c)
{
    return c->items[0].begin < 1 || c->items[1].begin < 1 ? "BLOCK and TOPK are at least 1" : NULL;
}

static const char *fault_of_nsa(const pattern_choice *c)
{
    const int64_t length = c->items[0].begin, stride = c->items[1].begin, block = c->items[2].begin;
    if (stride < 1 || length < stride || length % stride != 0) return "LENGTH is a multiple of STRIDE";
    if (block < length || block % stride != 0) return "BLOCK is a multiple of STRIDE, and at least LENGTH";
    if (c->items[3].begin < 3) return "TOP is at least 3: the first block, the own one and the one before it";
    return c->items[4].begin < 1 ? "WINDOW is at least 1" : NULL;
}

/* clang-format off */
const pattern_kind pattern_kinds[] = {
    {"sinks", "sinks:COUNT,LEFT", "the first COUNT keys, and the LEFT before the query (StreamingLLM)",
     2, 2, 2, JOINS_DOCUMENTS, make_sinks, NULL, NULL},
    {"global", "global:LEFT,RIGHT,AT,...", "a window; tokens AT see all and are seen by all (Longformer)",
     3, ANY, 2, JOINS_DOCUMENTS, make_global, NULL, NULL},
    {"global-twice", "global-twice:LEFT,RIGHT,AT,...", "the same, but tokens AT in the window count twice (NeMo)",
     3, ANY, 2, JOINS_DOCUMENTS, NULL, &global_twice_terms, NULL},
    {"dilated", "dilated:STEP,LEFT[,RIGHT]", "every STEP-th key, LEFT before the query, RIGHT after it (Longformer)",
     2, 3, 3, JOINS_DOCUMENTS, make_dilated, NULL, fault_of_step},
    {"bigbird", "bigbird:BLOCK,RANDOM[,SEED]", "the first, last, own, next, and RANDOM other blocks (Big Bird)",
     2, 3, 3, 0, drawn_blocks_bigbird, NULL, fault_of_blocks},
    {"random", "random:BLOCK,PERCENT[,SEED]", "each block with a chance of PERCENT in 100, for scaling studies",
     2, 3, 3, 0, drawn_blocks_random, NULL, fault_of_random},
    {"strided", "strided:LENGTH", "the LENGTH keys before, and every LENGTH-th (Sparse Transformer)",
     1, 1, 1, JOINS_DOCUMENTS, make_strided, NULL, fault_of_length},
    {"fixed", "fixed:LENGTH,LAST", "the own LENGTH tokens, and the LAST of each before (Sparse Transformer)",
     2, 2, 2, JOINS_DOCUMENTS, make_fixed, NULL, fault_of_fixed},
    {"vertical-slash", "vertical-slash:J,.../D,...", "the keys J, and those D before the query (MInference)",
     2, ANY, RUNS, TWO_LISTS, make_vertical_slash, NULL, NULL},
    {"longnet", "longnet:SEGMENT,.../STEP,...", "every STEP-th token of a SEGMENT, turned by head; a sum (LongNet)",
     2, ANY, PATTERN_MOST_ITEMS, TWO_LISTS | JOINS_DOCUMENTS, NULL, &longnet_terms, longnet_fault},
    {"blocks", "blocks:SIZE", "the blocks of keys that are listed for the query's block",
     1, 1, 1, JOINS_DOCUMENTS, make_blocks, NULL, fault_of_blocks},
    {"selected", "selected:SIZE", "the blocks of SIZE keys that are listed for each query (top-k)",
     1, 1, 1, BLOCKS_ARE_SELECTED, NULL, NULL, fault_of_blocks},
    {"moba", "moba:BLOCK,TOPK", "the own block and those before of the TOPK - 1 best mean keys (MoBA)",
     2, 2, 2, BLOCKS_ARE_SELECTED, NULL, NULL, fault_of_moba},
    {"nsa", "nsa:LENGTH,STRIDE,BLOCK,TOP,WINDOW", "pooled keys, selected blocks and a window, gated (NSA)",
     5, 5, 5, BLOCKS_ARE_SELECTED, NULL, NULL, fault_of_nsa},
};
/* clang-format on */
const int pattern_kind_count = (int)(sizeof pattern_kinds / sizeof pattern_kinds[0]);

/* Patterns. */

/* The pairs of a term in one document, or in all there is. */
static int make_part(pattern *p, const pattern_choice *choice, int heads, int term, range queries, range keys,
                     int64_t shift)
{
    const pattern_kind *kind = choice->kind;
    return kind->terms ? kind->terms->make(p, choice, heads, term, queries, keys, shift)
                       : kind->make(p, choice, queries, keys, shift);
}

static int make_parts(pattern *p, const pattern_choice *choice, int heads, int term, const mask *m)
{
    if (!m->documents || !(choice->kind->flags & JOINS_DOCUMENTS))
        return make_part(p, choice, heads, term, (range){0, m->queries}, (range){0, m->keys}, m->keys - m->queries);
    int result = 0;
    for (int64_t i = 0; i < m->document_count && result == 0; i++) {
        const range tokens = {m->documents[i], m->documents[i + 1]};
        pattern_begin_part(p);
        if (!range_is_empty(tokens)) result = make_part(p, choice, heads, term, tokens, tokens, 0);
    }
    return result;
}

static int make_terms(pattern_sum *s, const pattern_choice *choice, const mask *m)
{
    const pattern_terms *terms = choice->kind->terms;
    const int count = terms ? terms->count(choice, s->heads) : 1;
    for (int term = 0; term < count; term++) {
        int first = 0, step = 1;
        if (terms) terms->heads(choice, s->heads, term, &first, &step);
        if (pattern_sum_begin_term(s, m->queries, m->keys) != 0 || pattern_sum_give(s, term, first, step) != 0)
            return -1;
        const int result = make_parts(s->terms[term].pattern, choice, s->heads, term, m);
        if (result != 0) return result;
    }
    return 0;
}

int pattern_make(const pattern_choice *choice, const mask *m, int heads, const pattern_blocks *blocks,
                 pattern_sum **pattern_p, char why[PATTERN_WHY_SIZE])
{
    const pattern_kind *kind = choice->kind;
    if (m->documents && !(kind->flags & JOINS_DOCUMENTS)) {
        snprintf(why, PATTERN_WHY_SIZE, "pattern '%s' with packed documents: its tokens are those of one sequence",
                 kind->name);
        return 1;
    }
    if ((kind->make == drawn_blocks_bigbird || kind->make == drawn_blocks_random) && m->queries != m->keys) {
        snprintf(why, PATTERN_WHY_SIZE, "pattern '%s' needs as many keys as queries", kind->name);
        return 1;
    }
    if (kind->make != make_blocks && blocks && blocks->offsets) {
        snprintf(why, PATTERN_WHY_SIZE, "pattern '%s' with a list of blocks: it has its own", kind->name);
        return 1;
    }
    pattern_sum *s = pattern_sum_create(heads);
    const char *fault = NULL;
    if (!s) return -1;
    const int result = kind->make == make_blocks ? block_lists_take(s, m, number(choice, 0), blocks, &fault)
                                                 : make_terms(s, choice, m);
    if (fault) snprintf(why, PATTERN_WHY_SIZE, "pattern 'blocks:%lld': %s", (long long)number(choice, 0), fault);
    if (result == 0) *pattern_p = s;
    else pattern_sum_destroy(s);
    return result;
}
