/* The selection of MoBA: every query sees its own block, and those of the blocks before whose mean key scores highest.
 * Lu et al., "MoBA: Mixture of Block Attention for Long-Context LLMs", arXiv 2502.13189, section 2.2, equations (4) to
 * (6), and the causality of section 2.2.2: no later block, and the own one always, which counts as one of TOPK.
 *
 *     s_b = q_i . mean(k_j : j in block b)          for blocks b before that of p_i, in float64 of the float32 mean
 *
 * The TOPK - 1 largest of each query head, of equal ones the first; a NaN ranks as -inf.
 *
 * The choice does not depend on the rank count: a block's sum is taken in float64 token by token, where it straddles
 * shards it goes on from rank to rank; the means are then gathered, [M / BLOCK, G, D] floats. */
#include "runtime/moba.h"

#include "runtime/patience.h"
#include "runtime/problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_TOKENS = 16 };

typedef struct {
    longspan_context *context;
    const longspan_problem *problem;
    int64_t size, most, blocks; /* of all keys */
    layout keys;
    range own;     /* keys of this rank */
    float *means;  /* [blocks, G, D] */
    float *lanes;  /* [G][D][stride]: the same, as the kernel takes them */
    int64_t stride;
} moba;

longspan_status moba_check(const longspan_problem *p, failure *f)
{
    const char *part = NULL;
    if (!p->causal)
        return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern 'moba' needs a causal mask: it looks at blocks before");
    if (p->prefix > 0) part = "a prefix";
    if (p->window_left >= 0 || p->window_right >= 0) part = "a window";
    if (p->chunk > 0) part = "chunks";
    if (p->documents) part = "packed documents";
    if (p->rope_dim > 0) part = "RoPE: turn q and k before, it chooses by them as they are";
    if (part) failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern 'moba' with %s", part);
    return f->status;
}

static size_t width(const moba *x)
{
    return (size_t)x->problem->kv_heads * (size_t)x->problem->dim;
}

/* The rank that holds a token. */
static int owner(const moba *x, int64_t token)
{
    return (int)layout_chunk_of_token(&x->keys, token);
}

/* Blocks whose last key a rank holds. */
static range blocks_ending_on(const moba *x, int rank)
{
    const range keys = layout_chunk(&x->keys, rank);
    const int64_t end = keys.end == x->problem->keys ? x->blocks : keys.end / x->size;
    return range_is_empty(keys) ? (range){0, 0} : (range){keys.begin / x->size, end};
}

/* Collective. Sums of this rank's blocks, and what goes on to the next rank. `sum` [G, D], `row` [G, D]. */
static void sum_blocks(const moba *x, const void *k, double *sum, float *row)
{
    const size_t n = width(x), size = number_size((kernel_type)x->problem->type);
    const MPI_Comm comm = x->context->comm;
    MPI_Status status;
    if (range_is_empty(x->own)) return;
    memset(sum, 0, n * sizeof *sum);
    if (x->own.begin % x->size != 0) wait_receive(sum, (int)n, MPI_DOUBLE, owner(x, x->own.begin - 1), comm, &status);
    for (int64_t token = x->own.begin; token < x->own.end; token++) {
        const int64_t next = token + 1, block = token / x->size;
        number_widen((kernel_type)x->problem->type, (const char *)k + (size_t)(token - x->own.begin) * n * size, row,
                     (int64_t)n);
        for (size_t i = 0; i < n; i++) sum[i] += (double)row[i];
        if (next % x->size != 0 && next != x->problem->keys) continue;
        for (size_t i = 0; i < n; i++)
            x->means[(size_t)block * n + i] = (float)(sum[i] / (double)(next - block * x->size));
        memset(sum, 0, n * sizeof *sum);
    }
    if (x->own.end % x->size != 0 && x->own.end != x->problem->keys)
        wait_send(sum, (int)n, MPI_DOUBLE, owner(x, x->own.end), comm);
}

/* Collective. Every rank gets the means of all blocks. */
static void gather_means(const moba *x, int *counts, int *places)
{
    MPI_Datatype mean;
    for (int rank = 0; rank < x->context->ranks; rank++) {
        const range blocks = blocks_ending_on(x, rank);
        counts[rank] = (int)range_length(blocks);
        places[rank] = (int)blocks.begin;
    }
    MPI_Type_contiguous((int)width(x), MPI_FLOAT, &mean);
    MPI_Type_commit(&mean);
    wait_allgatherv_in_place(x->means, counts, places, mean, x->context->comm);
    MPI_Type_free(&mean);
}

static void lay_out(const moba *x)
{
    const int heads = x->problem->kv_heads, dim = x->problem->dim;
    for (int g = 0; g < heads; g++)
        for (int64_t b = 0; b < x->blocks; b++)
            for (int d = 0; d < dim; d++)
                x->lanes[(g * dim + d) * x->stride + b] = x->means[(b * heads + g) * dim + d];
}

/* The `most` blocks of the highest scores, of equal ones the first, in ascending order into `chosen`; how many. `best`
 * is room for as many. */
static int64_t choose_blocks(const double *scores, int64_t count, int64_t most, int32_t *best, int32_t *chosen)
{
    int64_t held = 0;
    for (int64_t b = 0; b < count && most > 0; b++) {
        const double score = isnan(scores[b]) ? -INFINITY : scores[b];
        int64_t at = held;
        while (at > 0 && score > (isnan(scores[best[at - 1]]) ? -INFINITY : scores[best[at - 1]])) at--;
        if (at == most) continue;
        if (held < most) held++;
        memmove(best + at + 1, best + at, (size_t)(held - 1 - at) * sizeof *best);
        best[at] = (int32_t)b;
    }
    for (int64_t i = 0; i < held; i++) {
        int64_t at = i;
        for (; at > 0 && chosen[at - 1] > best[i]; at--) chosen[at] = chosen[at - 1];
        chosen[at] = best[i];
    }
    return held;
}

/* Room of one thread. */
typedef struct {
    float *q;       /* [CHUNK_TOKENS, group, D] */
    double *scores; /* [CHUNK_TOKENS, group, stride] */
    int32_t *best;
} workplace;

/* The lists of up to CHUNK_TOKENS queries from row `first` on, for the query heads of a key head. */
static void choose_chunk(const moba *x, const void *q, int64_t token, int64_t first, int tokens, int head,
                         const workplace *w, int32_t *lists)
{
    const longspan_problem *p = x->problem;
    const int group = p->heads / p->kv_heads, dim = p->dim;
    const size_t size = number_size((kernel_type)p->type);
    const int64_t shift = p->keys - p->queries, last = token + first + tokens - 1 + shift;
    for (int t = 0; t < tokens; t++)
        number_widen((kernel_type)p->type,
                     (const char *)q + (size_t)(((first + t) * p->heads + head * group) * dim) * size,
                     w->q + (int64_t)t * group * dim, (int64_t)group * dim);
    if (last >= 0)
        x->context->kernel->block_scores(w->q, tokens * group, x->lanes + (int64_t)head * dim * x->stride, x->stride, dim,
                                         last / x->size, w->scores, x->stride);
    for (int r = 0; r < tokens * group; r++) {
        const int64_t row = first + r / group, position = token + row + shift;
        int32_t *list = lists + (row * p->heads + head * group + r % group) * x->most;
        int64_t count = 0;
        if (position >= 0) {
            const int64_t own = position / x->size;
            count = choose_blocks(w->scores + r * x->stride, own, x->most - 1, w->best, list);
            list[count++] = (int32_t)own;
        }
        while (count < x->most) list[count++] = -1;
    }
}

/* Lists of all local queries. False if memory ran out. */
static bool choose_all(const moba *x, const void *q, range queries, int32_t *lists)
{
    const longspan_problem *p = x->problem;
    const int64_t rows = CHUNK_TOKENS * (p->heads / p->kv_heads);
    const int64_t chunks = (range_length(queries) + CHUNK_TOKENS - 1) / CHUNK_TOKENS;
    bool enough = true;
#pragma omp parallel num_threads(x->context->threads)
    {
        workplace w = {malloc((size_t)(rows * p->dim) * sizeof *w.q), malloc((size_t)(rows * x->stride) * sizeof *w.scores),
                       malloc((size_t)(x->most + 1) * sizeof *w.best)};
        const bool mine = w.q && w.scores && w.best;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < chunks * p->kv_heads; i++) {
            const int64_t chunk = chunks - 1 - i / p->kv_heads, first = chunk * CHUNK_TOKENS;
            const int64_t left = range_length(queries) - first;
            if (mine)
                choose_chunk(x, q, queries.begin, first, left < CHUNK_TOKENS ? (int)left : CHUNK_TOKENS,
                             (int)(i % p->kv_heads), &w, lists);
        }
#pragma omp critical
        enough = enough && mine;
        free(w.q);
        free(w.scores);
        free(w.best);
    }
    return enough;
}

longspan_selection *moba_select(longspan_context *context, const longspan_problem *problem, const pattern_choice *choice,
                                const void *q, const void *k, failure *f)
{
    const int64_t size = choice->items[0].begin < problem->keys ? choice->items[0].begin : problem->keys;
    moba x = {.context = context, .problem = problem, .size = size, .keys = selection_layout(context, problem->keys)};
    x.own = layout_chunk(&x.keys, context->rank);
    x.blocks = (problem->keys - 1) / size + 1;
    x.most = choice->items[1].begin < x.blocks ? choice->items[1].begin : x.blocks;
    x.stride = (x.blocks + BLOCK_SCORES_TILE - 1) / BLOCK_SCORES_TILE * BLOCK_SCORES_TILE;
    const size_t n = width(&x);
    double *sum = malloc(n * sizeof *sum);
    float *row = malloc(n * sizeof *row);
    int *counts = calloc(2 * (size_t)context->ranks, sizeof *counts);
    x.means = calloc((size_t)x.blocks * n, sizeof *x.means);
    x.lanes = calloc((size_t)x.stride * n, sizeof *x.lanes);
    longspan_selection *s = selection_make(context, problem, choice->items[0].begin, problem->heads, x.most, f);
    if (!sum || !row || !counts || !x.means || !x.lanes)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the means of %lld blocks of keys", (long long)x.blocks);
    if (context_agree(context, f) == LONGSPAN_OK) {
        const layout queries = selection_layout(context, problem->queries);
        sum_blocks(&x, k, sum, row);
        gather_means(&x, counts, counts + context->ranks);
        lay_out(&x);
        if (!choose_all(&x, q, layout_chunk(&queries, context->rank), s->chosen.blocks))
            failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the scores of %lld blocks of keys", (long long)x.blocks);
        context_agree(context, f);
    }
    free(sum);
    free(row);
    free(counts);
    free(x.means);
    free(x.lanes);
    if (f->status != LONGSPAN_OK) longspan_selection_destroy(&s);
    return s;
}
