/* The selection of MoBA: every query sees its own block, and those of the blocks before whose mean key scores highest.
 * Lu et al., "MoBA: Mixture of Block Attention for Long-Context LLMs", arXiv 2502.13189, section 2.2, equations (4) to
 * (6), and the causality of section 2.2.2: no later block, and the own one always, which counts as one of TOPK.
 *
 *     s_b = q_i . mean(k_j : j in block b)          for blocks b before that of p_i, in float64 of the float32 mean
 *
 * The TOPK - 1 largest of each query head, of equal ones the first; a NaN ranks as -inf.
 *
 * The choice does not depend on the rank count: the means do not (runtime/block_means.h), and a score is a sum in a
 * fixed order. */
#include "runtime/moba.h"

#include "runtime/block_means.h"
#include "runtime/problem.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_TOKENS = 16 };

typedef struct {
    longspan_context *context;
    const longspan_problem *problem;
    int64_t size, most, stride;
    float *lanes; /* [G][D][stride]: the means of all blocks, as the kernel takes them */
} moba;

longspan_status moba_check(const longspan_problem *p, failure *f)
{
    const char *part = NULL;
    if (!p->causal)
        return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                           "pattern 'moba' needs a causal mask: it looks at blocks before");
    if (p->prefix > 0) part = "a prefix";
    if (p->window_left >= 0 || p->window_right >= 0) part = "a window";
    if (p->chunk > 0) part = "chunks";
    if (p->documents) part = "packed documents";
    if (p->rope_dim > 0) part = "RoPE: turn q and k before, it chooses by them as they are";
    if (part) failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern 'moba' with %s", part);
    return f->status;
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
        x->context->kernel->block_scores(w->q, tokens * group, x->lanes + (int64_t)head * dim * x->stride, x->stride,
                                         dim, last / x->size, w->scores, x->stride);
    for (int r = 0; r < tokens * group; r++) {
        const int64_t row = first + r / group, position = token + row + shift;
        int32_t *list = lists + (row * p->heads + head * group + r % group) * x->most;
        int64_t count = 0;
        if (position >= 0) {
            const int64_t own = position / x->size;
            count = selection_best(w->scores + r * x->stride, (range){0, own}, x->most - 1, w->best, list);
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
        workplace w = {malloc((size_t)(rows * p->dim) * sizeof *w.q),
                       malloc((size_t)(rows * x->stride) * sizeof *w.scores),
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

longspan_selection *moba_select(longspan_context *context, const longspan_problem *problem,
                                const pattern_choice *choice, const void *q, const void *k, failure *f)
{
    const int64_t size = choice->items[0].begin < problem->keys ? choice->items[0].begin : problem->keys;
    const int64_t width = (int64_t)problem->kv_heads * problem->dim;
    block_means pool;
    const bool room = block_means_create(&pool, context, problem->keys, size, width);
    const int64_t blocks = block_means_count(&pool);
    moba x = {.context = context, .problem = problem, .size = size, .stride = block_means_stride(blocks)};
    x.most = choice->items[1].begin < blocks ? choice->items[1].begin : blocks;
    float *means = calloc((size_t)(blocks * width), sizeof *means);
    x.lanes = calloc((size_t)(x.stride * width), sizeof *x.lanes);
    longspan_selection *s = selection_make(context, problem, choice->items[0].begin, problem->heads, x.most, f);
    if (!room || !means || !x.lanes)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the means of %lld blocks of keys", (long long)blocks);
    if (context_agree(context, f) == LONGSPAN_OK) {
        const layout queries = selection_layout(context, problem->queries);
        block_means_gather(&pool, (kernel_type)problem->type, k, means);
        block_means_lay_out(means, blocks, problem->kv_heads, problem->dim, x.lanes);
        if (!choose_all(&x, q, layout_chunk(&queries, context->rank), s->chosen.blocks))
            failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the scores of %lld blocks of keys", (long long)blocks);
        context_agree(context, f);
    }
    block_means_free(&pool);
    free(means);
    free(x.lanes);
    if (f->status != LONGSPAN_OK) longspan_selection_destroy(&s);
    return s;
}
