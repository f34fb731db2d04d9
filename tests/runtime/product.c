#include "tests/runtime/product.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Nodes are real (0), or as many ranks in a row as the number says; HALF: half of all, two at least. */
enum { HALF = -1 };
static const struct {
    const char *name;
    int node_ranks;
    bool share_nothing;
} strategy_cases[PRODUCT_STRATEGIES] = {
    {"ring", 0, true},       {"gather", 0, true},      {"heads", 0, true},          {"queries", 0, true},
    {"decode", 0, true},     {"hybrid:*x2", 0, true}, /* P / 2 rows, on an odd number of ranks one */
    {"hybrid:*x1", 0, true}, {"double-ring", 2, true}, {"double-ring", HALF, true}, {"shared", 0, false},
    {"shared", 2, false},    {"shared", HALF, false},  {"shared", 0, true}, /* which is --share off */
    {"auto", 0, true},
};

static int columns_of(int strategy)
{
    const char *columns = strchr(strategy_cases[strategy].name, '*');
    return columns ? columns[2] - '0' : 0;
}

static int node_ranks_of(int strategy, int ranks)
{
    const int wanted = strategy_cases[strategy].node_ranks;
    if (wanted != HALF) return wanted;
    return ranks >= 4 ? ranks / 2 : 2;
}

const char *product_refusal(int strategy, int ranks)
{
    const int columns = columns_of(strategy), node_ranks = node_ranks_of(strategy, ranks);
    const bool reads_in_place = strcmp(strategy_cases[strategy].name, "shared") == 0;
    if (columns > 0) return ranks % columns != 0 ? "ranks, but there are" : NULL;
    if (reads_in_place && strategy_cases[strategy].share_nothing && ranks > 1)
        return "--share off (longspan_options.share_memory)";
    /* Pretended nodes that do not come out even are none. */
    return node_ranks > 0 && ranks > 1 && ranks % node_ranks != 0 ? "on every node" : NULL;
}

static const char *strategy_name(int strategy, int ranks)
{
    static char names[PRODUCT_STRATEGIES][32];
    const int columns = columns_of(strategy);
    if (columns == 0) return strategy_cases[strategy].name;
    snprintf(names[strategy], sizeof names[strategy], "hybrid:%dx%d", ranks >= columns ? ranks / columns : 1, columns);
    return names[strategy];
}

test_problem product_open(int strategy, int ranks, int threads)
{
    test_problem t = make_problem(1, 1, 1, 16);
    longspan_status status;
    t.threads = threads;
    t.node_ranks = node_ranks_of(strategy, ranks);
    t.share_nothing = strategy_cases[strategy].share_nothing;
    t.problem.strategy = strategy_name(strategy, ranks);
    t.context = open_context(&t, &status);
    return t;
}

enum { DOCUMENTS = 8, KEY_LENGTHS = 11 };
static const char *const mask_names[PRODUCT_MASKS] = {
    "full",
    "causal",
    "window",
    "window to both sides",
    "window to the left",
    "prefix",
    "chunks",
    "chunks, causal",
    "documents",
    "documents, causal",
    "documents, all",
    "key lengths",
    "lengths, causal",
    "chunks behind",
    "window ahead",
};

static void set_mask(longspan_problem *p, int mask)
{
    static int64_t documents[6], lengths[2];
    const int64_t keys = p->keys;
    p->causal = mask == 1 || mask == 2 || mask == 5 || mask == 7 || mask == 9 || mask == 10 || mask == 12;
    if (mask == 2) p->window_left = 9;
    if (mask == 3) p->window_left = 5, p->window_right = 11;
    if (mask == 4) p->window_left = 7;
    if (mask == 5) p->prefix = keys / 3;
    if (mask == 6) p->chunk = 8, p->chunks_left = 1, p->chunks_right = 0;
    if (mask == 7) p->chunk = 5, p->chunks_left = 2, p->chunks_right = 1;
    if (mask == 10) p->prefix = 2, p->window_left = 12, p->window_right = 3, p->chunk = 9, p->chunks_left = 1;
    if (mask == 13) p->chunk = 6, p->chunks_right = 0;
    if (mask == 14) p->window_left = 0, p->window_right = 6;
    if (mask >= DOCUMENTS && mask < KEY_LENGTHS) {
        const int64_t n = p->queries, offsets[] = {0, n / 4, n / 4, n / 3, n - n / 5, n};
        memcpy(documents, offsets, sizeof offsets);
        p->documents = documents;
        p->document_count = 5;
    }
    if (mask == KEY_LENGTHS || mask == KEY_LENGTHS + 1) {
        lengths[0] = keys - keys / 4;
        lengths[1] = keys / 5;
        p->key_lengths = lengths;
        p->batch = 2;
    }
}

static const char *const score_names[PRODUCT_SCORES] = {
    "plain", "softcap", "ALiBi", "RoPE", "RoPE of a part, interleaved", "sinks", "all"};

static void set_scores(longspan_problem *p, int scores)
{
    static const float slopes[] = {0.5f, 0.25f, 0.03f, 1.5f, 0.0f, 0.125f}, sinks[] = {0.3f, -INFINITY, 2.5f, -4, 0, 1};
    const bool all = scores == 6;
    if (scores == 1 || all) p->softcap = 1.5;
    if (scores == 2 || all) p->alibi_slopes = slopes;
    if (scores == 3 || all) p->rope_dim = p->dim;
    if (scores == 4) p->rope_dim = 6, p->rope_interleaved = 1, p->rope_base = 500;
    if (scores == 5 || all) p->sinks = sinks;
}

static const char *const layouts[PRODUCT_LAYOUTS] = {"contiguous", "zigzag", "striped", "striped:3"};

const char *product_layout(int layout)
{
    return layouts[layout];
}

static const char *const type_names[PRODUCT_TYPES] = {"float32", "float16", "bfloat16"};

/* N, M, B, H, G, E. Documents are for N queries and keys. */
static const int shapes[PRODUCT_SHAPES][6] = {
    {37, 37, 1, 4, 2, 16}, {29, 67, 1, 3, 1, 8}, {101, 101, 1, 5, 5, 24}, {67, 29, 2, 6, 2, 16}, {5, 131, 1, 4, 1, 3},
};

void product_set(test_problem *t, const product_point *point, char text[256])
{
    const char *strategy = t->problem.strategy;
    const int *shape = shapes[point->shape];
    longspan_problem *p = &t->problem;
    longspan_problem_default(p);
    p->strategy = strategy;
    p->layout = layouts[point->layout];
    p->queries = shape[0];
    p->keys = point->mask >= DOCUMENTS && point->mask < KEY_LENGTHS ? shape[0] : shape[1];
    p->batch = shape[2];
    p->heads = shape[3];
    p->kv_heads = shape[4];
    p->dim = 16;
    p->value_dim = shape[5];
    p->type = p->out_type = point->type;
    set_mask(p, point->mask);
    set_scores(p, point->scores);
    t->own_arrays = point->shape % 2;
    snprintf(
        text, 256,
        "point {%d, %d, %d, %d, %d, %d}: %s, %s, strategy %s in nodes of %d, layout %s, %s, N=%lld M=%lld B=%lld H=%d "
        "G=%d, %d threads",
        point->mask, point->scores, point->strategy, point->layout, point->shape, (int)point->type,
        mask_names[point->mask], score_names[point->scores], strategy, t->node_ranks, p->layout,
        type_names[point->type], (long long)p->queries, (long long)p->keys, (long long)p->batch, p->heads, p->kv_heads,
        t->threads);
}
