#include "partition/pattern.h"

#include "partition/grown.h"

#include <stdlib.h>

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

pattern *pattern_create(int64_t queries, int64_t keys)
{
    pattern *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->queries = queries;
    p->keys = keys;
    return p;
}

void pattern_destroy(pattern *p)
{
    if (!p) return;
    for (int i = 0; i < p->layer_count; i++) free(p->layers[i].slices);
    free(p->layers);
    free(p->blocks.offsets);
    free(p->blocks.columns);
    free(p);
}

/* Slices. */

/* Takes a layer a slice: has none of its slices a query of this one? It may say no where it could. */
static bool layer_takes(const pattern_layer *layer, const slice *s)
{
    if (s->queries.begin >= layer->end) return true;
    return s->query_stride > 1 && s->query_stride == layer->stride && s->queries.begin >= layer->floor &&
           s->queries.begin % s->query_stride > layer->residue;
}

static int layer_append(pattern_layer *layer, const slice *s)
{
    slice *slices = grown(layer->slices, layer->count, sizeof *slices);
    if (!slices) return -1;
    layer->slices = slices;
    if (s->queries.begin >= layer->end) layer->floor = layer->end;
    else layer->ascending = false;
    layer->stride = s->query_stride;
    layer->residue = s->queries.begin % s->query_stride;
    if (s->queries.end > layer->end) layer->end = s->queries.end;
    slices[layer->count++] = *s;
    return 0;
}

int pattern_add_disjoint(pattern *p, const slice *s)
{
    const slice in = slice_within(s, (range){0, p->queries}, (range){0, p->keys});
    if (slice_is_empty(&in)) return 0;
    for (int i = 0; i < p->layer_count; i++)
        if (layer_takes(&p->layers[i], &in)) return layer_append(&p->layers[i], &in);
    pattern_layer *layers = grown(p->layers, p->layer_count, sizeof *layers);
    if (!layers) return -1;
    p->layers = layers;
    layers[p->layer_count] = (pattern_layer){.ascending = true};
    return layer_append(&layers[p->layer_count++], &in);
}

void pattern_begin_part(pattern *p)
{
    for (int i = 0; i < p->layer_count; i++) p->layers[i].part = p->layers[i].count;
}

typedef struct {
    slice *slices;
    int64_t count;
} slice_array;

static int array_append(slice_array *a, const slice *s)
{
    slice *slices = grown(a->slices, a->count, sizeof *slices);
    if (!slices) return -1;
    a->slices = slices;
    slices[a->count++] = *s;
    return 0;
}

/* Takes a slice away from all slices of an array. */
static int array_without(slice_array *a, const slice *s)
{
    slice_array rest = {0};
    for (int64_t i = 0; i < a->count; i++) {
        slice parts[SLICE_MOST_PARTS];
        const int count = slice_without(&a->slices[i], s, parts);
        int result = count == SLICE_MIXED ? PATTERN_MIXED : 0;
        for (int j = 0; j < count && result == 0; j++) result = array_append(&rest, &parts[j]);
        if (result == 0) continue;
        free(rest.slices);
        return result;
    }
    free(a->slices);
    *a = rest;
    return 0;
}

int pattern_add(pattern *p, const slice *s)
{
    slice_array rest = {0};
    const slice in = slice_within(s, (range){0, p->queries}, (range){0, p->keys});
    int result = slice_is_empty(&in) ? 0 : array_append(&rest, &in);
    for (int i = 0; i < p->layer_count && result == 0; i++)
        for (int64_t j = p->layers[i].part; j < p->layers[i].count && result == 0 && rest.count > 0; j++)
            result = array_without(&rest, &p->layers[i].slices[j]);
    for (int64_t i = 0; i < rest.count && result == 0; i++) result = pattern_add_disjoint(p, &rest.slices[i]);
    free(rest.slices);
    return result;
}

/* Blocks. */

static int64_t block_count(int64_t tokens, int64_t size)
{
    return tokens / size + (tokens % size != 0);
}

static range block_tokens(int64_t first, int64_t last, int64_t size, int64_t tokens)
{
    return (range){first * size, last + 1 > tokens / size ? tokens : (last + 1) * size};
}

/* The end of the columns of a row that follow each other from column i on. */
static int64_t run_of_blocks(const block_list *b, int64_t row, int64_t i)
{
    int64_t end = i + 1;
    while (end < b->offsets[row + 1] && b->columns[end] == b->columns[end - 1] + 1) end++;
    return end;
}

int pattern_make_blocks(pattern *p, int64_t size, int64_t most)
{
    block_list *b = &p->blocks;
    *b = (block_list){size, block_count(p->queries, size), block_count(p->keys, size), NULL, NULL};
    b->offsets = calloc((size_t)b->query_blocks + 1, sizeof *b->offsets);
    b->columns = calloc(most > 0 ? (size_t)most : 1, sizeof *b->columns);
    return b->offsets && b->columns ? 0 : -1;
}

/* Columns of a row of both lists, or of either; one past the last is where they end. */
static int64_t join_rows(const block_list *a, const block_list *b, int64_t row, bool both, int64_t *columns)
{
    int64_t i = a->offsets[row], j = b->offsets[row], count = 0;
    const int64_t i_end = a->offsets[row + 1], j_end = b->offsets[row + 1];
    while (i < i_end || j < j_end) {
        const int64_t x = i < i_end ? a->columns[i] : INT64_MAX, y = j < j_end ? b->columns[j] : INT64_MAX;
        if (x == y || !both) columns[count++] = smaller(x, y);
        i += x <= y;
        j += y <= x;
    }
    return count;
}

static int join_blocks(const block_list *a, const block_list *b, bool both, pattern *p)
{
    const int64_t rows = a->query_blocks;
    if (pattern_make_blocks(p, a->size, a->offsets[rows] + b->offsets[rows]) != 0) return -1;
    for (int64_t row = 0; row < rows; row++)
        p->blocks.offsets[row + 1] =
            p->blocks.offsets[row] + join_rows(a, b, row, both, p->blocks.columns + p->blocks.offsets[row]);
    return 0;
}

/* Set algebra. */

/* Slices can be taken away from those whose strides are multiples of theirs: the dense ones come first. */
static int add_of_stride(const pattern *from, int turn, pattern *p)
{
    int result = 0;
    for (int i = 0; i < from->layer_count; i++)
        for (int64_t j = 0; j < from->layers[i].count && result == 0; j++) {
            const slice *s = &from->layers[i].slices[j];
            if ((s->key_stride > 1) + (s->query_stride > 1) == turn) result = pattern_add(p, s);
        }
    return result;
}

static int add_either(const pattern *a, const pattern *b, pattern *p)
{
    int result = 0;
    for (int turn = 0; turn < 3 && result == 0; turn++) {
        result = add_of_stride(a, turn, p);
        if (result == 0) result = add_of_stride(b, turn, p);
    }
    return result;
}

static int add_common(const pattern *a, const pattern *b, pattern *p)
{
    for (int i = 0; i < a->layer_count; i++)
        for (int64_t j = 0; j < a->layers[i].count; j++)
            for (int k = 0; k < b->layer_count; k++)
                for (int64_t l = 0; l < b->layers[k].count; l++) {
                    slice both;
                    const int common = slice_and(&a->layers[i].slices[j], &b->layers[k].slices[l], &both);
                    if (common == SLICE_MIXED) return PATTERN_MIXED;
                    if (common > 0 && pattern_add_disjoint(p, &both) != 0) return -1;
                }
    return 0;
}

/* A pattern without its block list, which has become slices. */
static int make_sliced(const pattern *from, pattern *p)
{
    const block_list *b = &from->blocks;
    for (int i = 0; i < from->layer_count; i++)
        for (int64_t j = 0; j < from->layers[i].count; j++)
            if (pattern_add_disjoint(p, &from->layers[i].slices[j]) != 0) return -1;
    for (int64_t row = 0; row < b->query_blocks; row++)
        for (int64_t i = b->offsets[row], end; i < b->offsets[row + 1]; i = end) {
            end = run_of_blocks(b, row, i);
            const slice s = slice_full(block_tokens(row, row, b->size, from->queries),
                                       block_tokens(b->columns[i], b->columns[end - 1], b->size, from->keys));
            if (pattern_add_disjoint(p, &s) != 0) return -1;
        }
    return 0;
}

static int join_slices(const pattern *a, const pattern *b, bool both, pattern *p)
{
    pattern *x = pattern_create(a->queries, a->keys), *y = pattern_create(b->queries, b->keys);
    int result = x && y && make_sliced(a, x) == 0 && make_sliced(b, y) == 0 ? 0 : -1;
    if (result == 0) result = both ? add_common(x, y, p) : add_either(x, y, p);
    pattern_destroy(x);
    pattern_destroy(y);
    return result;
}

static int join(const pattern *a, const pattern *b, bool both, pattern **joined_p)
{
    const bool lists = a->blocks.size > 0 && a->blocks.size == b->blocks.size && a->layer_count + b->layer_count == 0;
    pattern *p = pattern_create(a->queries, a->keys);
    if (!p) return -1;
    const int result = lists ? join_blocks(&a->blocks, &b->blocks, both, p) : join_slices(a, b, both, p);
    if (result == 0) *joined_p = p;
    else pattern_destroy(p);
    return result;
}

int pattern_or(const pattern *a, const pattern *b, pattern **either_p)
{
    return join(a, b, false, either_p);
}

int pattern_and(const pattern *a, const pattern *b, pattern **both_p)
{
    return join(a, b, true, both_p);
}

/* Visits. */

typedef struct {
    const pattern *p;
    const mask *m;
    range queries, keys;
    pattern_fn fn;
    void *data;
    int layer;
    const slice *whole; /* of a layer, that is being looked at */
    slice *runs; /* room for those of a row of blocks */
    int64_t row; /* of blocks */
} visit;

static int visit_slice(void *data, const slice *piece)
{
    const visit *v = data;
    const slice run = slice_within(piece, v->queries, v->keys);
    if (slice_is_empty(&run)) return 0;
    return v->fn(v->data, &(pattern_part){v->layer, &run, 1, v->whole});
}

static bool meet(range a, range b)
{
    return a.begin < b.end && b.begin < a.end;
}

static int visit_layer(visit *v, const pattern_layer *layer)
{
    int64_t first = 0;
    if (layer->ascending) {
        int64_t high = layer->count; /* the first slice that ends after the queries begin is in [first, high] */
        while (first < high) {
            const int64_t middle = first + (high - first) / 2;
            if (layer->slices[middle].queries.end <= v->queries.begin) first = middle + 1;
            else high = middle;
        }
    }
    for (int64_t i = first; i < layer->count; i++) {
        const slice *s = &layer->slices[i];
        if (layer->ascending && s->queries.begin >= v->queries.end) break;
        if (!meet(s->queries, v->queries) || !meet(s->keys, v->keys)) continue;
        const slice in = slice_within(s, v->queries, v->keys);
        if (slice_is_empty(&in)) continue;
        v->whole = s;
        const int result = slice_under_mask(&in, v->m, visit_slice, v);
        if (result) return result;
    }
    return 0;
}

/* The blocks of a row against those of its queries that the mask treats alike. */
static int visit_row(void *data, const slice *piece)
{
    visit *v = data;
    const block_list *b = &v->p->blocks;
    int64_t count = 0;
    for (int64_t i = b->offsets[v->row], next; i < b->offsets[v->row + 1]; i = next) {
        next = run_of_blocks(b, v->row, i);
        const range keys = block_tokens(b->columns[i], b->columns[next - 1], b->size, v->p->keys);
        const slice run = slice_within(piece, v->queries, range_intersect(keys, v->keys));
        if (!slice_is_empty(&run)) v->runs[count++] = run;
    }
    return count > 0 ? v->fn(v->data, &(pattern_part){v->layer, v->runs, count, NULL}) : 0;
}

static int visit_blocks(visit *v)
{
    const block_list *b = &v->p->blocks;
    const int64_t first = v->queries.begin / b->size, last = (v->queries.end - 1) / b->size;
    int64_t most = 0;
    int result = 0;
    for (int64_t row = first; row <= last; row++)
        if (b->offsets[row + 1] - b->offsets[row] > most) most = b->offsets[row + 1] - b->offsets[row];
    v->runs = malloc(((size_t)most + 1) * sizeof *v->runs);
    if (!v->runs) return -1;
    for (v->row = first; v->row <= last && result == 0; v->row++) {
        const range queries = block_tokens(v->row, v->row, b->size, v->p->queries);
        const slice all = slice_full(range_intersect(queries, v->queries), v->keys);
        if (b->offsets[v->row + 1] > b->offsets[v->row]) result = slice_under_mask(&all, v->m, visit_row, v);
    }
    free(v->runs);
    return result;
}

int pattern_visit(const pattern *p, const mask *m, range queries, range keys, pattern_fn fn, void *data)
{
    visit v = {.p = p, .m = m, .keys = range_intersect(keys, (range){0, m->keys}), .fn = fn, .data = data};
    v.queries = range_intersect(range_intersect(queries, (range){0, m->queries}), mask_queries(m, v.keys));
    if (range_is_empty(v.queries) || range_is_empty(v.keys)) return 0;
    if (!p) {
        const slice all = slice_full(v.queries, v.keys);
        return slice_under_mask(&all, m, visit_slice, &v);
    }
    for (v.layer = 0; v.layer < p->layer_count; v.layer++) {
        const int result = visit_layer(&v, &p->layers[v.layer]);
        if (result) return result;
    }
    return p->blocks.size > 0 ? visit_blocks(&v) : 0;
}

static int add_pairs(void *data, const pattern_part *part)
{
    int64_t *pairs = data;
    for (int64_t i = 0; i < part->count; i++) *pairs += slice_pairs(&part->runs[i]);
    return 0;
}

int64_t pattern_pairs(const pattern *p, const mask *m, range queries, range keys)
{
    int64_t pairs = 0;
    if (!p) return mask_pairs(m, queries, keys);
    return pattern_visit(p, m, queries, keys, add_pairs, &pairs) == 0 ? pairs : -1;
}

mask_answer pattern_ask(const pattern *p, const mask *m, range queries, range keys)
{
    if (!p) return mask_ask(m, queries, keys);
    const int64_t pairs = pattern_pairs(p, m, queries, keys);
    if (pairs == 0) return MASK_NOTHING;
    return pairs == range_length(queries) * range_length(keys) ? MASK_EVERYTHING : MASK_LOOK_INSIDE;
}
