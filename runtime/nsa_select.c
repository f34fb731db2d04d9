/* The blocks that native sparse attention selects: what the pooled blocks weigh in its first branch says which blocks
 * of keys matter. Of query i and query head h, with k~_c the pooled keys that i sees and l, d, l' of nsa_sizes,
 *
 *     p_c = softmax_c(scale q_i . k~_c)                                                equation (8)
 *     P_j = sum of p_c over the stretches of d keys that pooled block c and block j share    equation (9)
 *
 * summed over the query heads of a key head, equation (10), which therefore choose alike: the first block, the query's
 * own and the one before it always, as in section 4.1, and the largest P_j up to `top` blocks, of equal ones the first.
 * In float64, in a fixed order: the choice does not depend on the rank count. Yuan et al., arXiv 2502.11089, section
 * 3.3.2. */
#include "runtime/nsa.h"

#include <math.h>
#include <stdlib.h>

enum { CHUNK_TOKENS = 4 };

typedef struct {
    longspan_context *context;
    const longspan_problem *problem;
    const nsa_sizes *sizes;
    const void *q;
    const float *lanes;
    int64_t pooled, blocks, first_token, tokens;
    longspan_selection *selection;
} choice;

/* Room of one thread. */
typedef struct {
    float *q;       /* [CHUNK_TOKENS, group, D] */
    double *scores; /* [CHUNK_TOKENS, group, stride] */
    double *weight; /* [blocks] */
    int32_t *best;
} workplace;

static void workplace_free(workplace *w)
{
    free(w->q);
    free(w->scores);
    free(w->weight);
    free(w->best);
}

/* Adds the probabilities of `count` pooled blocks to what they overlap. */
static void add_weights(const choice *x, double *scores, int64_t count, double *weight)
{
    const int64_t parts = x->sizes->length / x->sizes->stride, stretches = x->sizes->block / x->sizes->stride;
    double largest = -INFINITY, sum = 0;
    for (int64_t c = 0; c < count; c++) {
        scores[c] *= x->problem->scale;
        if (scores[c] > largest) largest = scores[c];
    }
    for (int64_t c = 0; c < count; c++) sum += scores[c] = exp(scores[c] - largest);
    for (int64_t c = 0; c < count; c++)
        for (int64_t n = 0; n < parts; n++) weight[(c + n) / stretches] += scores[c] / sum;
}

/* The list of a token for a key head, by the scores of its query heads. */
static void choose_list(const choice *x, int64_t position, double *scores, const workplace *w, int32_t *list)
{
    const longspan_problem *p = x->problem;
    const int64_t own = position / x->sizes->block, most = x->selection->chosen.most;
    const int64_t stride = block_means_stride(x->pooled);
    int64_t count = 0;
    if (position >= 0) {
        for (int64_t j = 0; j <= own; j++) w->weight[j] = 0;
        for (int h = 0; h < p->heads / p->kv_heads; h++)
            add_weights(x, scores + h * stride, nsa_pooled_seen(x->sizes, p->keys, position), w->weight);
        w->weight[0] = w->weight[own] = w->weight[own > 0 ? own - 1 : 0] = INFINITY;
        count = selection_best(w->weight, (range){0, own + 1}, most, w->best, list);
    }
    while (count < most) list[count++] = -1;
}

static void choose_chunk(const choice *x, int64_t first, int tokens, int head, const workplace *w)
{
    const longspan_problem *p = x->problem;
    const int group = p->heads / p->kv_heads, dim = p->dim;
    const int64_t stride = block_means_stride(x->pooled), shift = x->first_token + p->keys - p->queries;
    const int64_t most = x->selection->chosen.most, size = (int64_t)number_size((kernel_type)p->type);
    for (int t = 0; t < tokens; t++)
        number_widen((kernel_type)p->type, (const char *)x->q + ((first + t) * p->heads + head * group) * dim * size,
                     w->q + (int64_t)t * group * dim, (int64_t)group * dim);
    x->context->kernel->block_scores(w->q, tokens * group, x->lanes + (int64_t)head * dim * stride, stride, dim,
                                     nsa_pooled_seen(x->sizes, p->keys, first + tokens - 1 + shift), w->scores, stride);
    for (int t = 0; t < tokens; t++)
        choose_list(x, first + t + shift, w->scores + t * group * stride, w,
                    x->selection->chosen.blocks + ((first + t) * p->kv_heads + head) * most);
}

static bool choose_all(const choice *x)
{
    const longspan_problem *p = x->problem;
    const size_t rows = CHUNK_TOKENS * (size_t)(p->heads / p->kv_heads), stride = (size_t)block_means_stride(x->pooled);
    const int64_t chunks = (x->tokens + CHUNK_TOKENS - 1) / CHUNK_TOKENS;
    bool enough = true;
#pragma omp parallel num_threads(x->context->threads)
    {
        workplace w = {malloc(rows * (size_t)p->dim * sizeof *w.q), malloc((rows * stride + 1) * sizeof *w.scores),
                       malloc((size_t)x->blocks * sizeof *w.weight),
                       malloc((size_t)(x->selection->chosen.most + 1) * sizeof *w.best)};
        const bool mine = w.q && w.scores && w.weight && w.best;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < chunks * p->kv_heads; i++) {
            const int64_t first = (chunks - 1 - i / p->kv_heads) * CHUNK_TOKENS, left = x->tokens - first;
            if (mine)
                choose_chunk(x, first, left < CHUNK_TOKENS ? (int)left : CHUNK_TOKENS, (int)(i % p->kv_heads), &w);
        }
#pragma omp critical
        enough = enough && mine;
        workplace_free(&w);
    }
    return enough;
}

longspan_selection *nsa_select(longspan_context *context, const longspan_problem *branch, const nsa_sizes *sizes,
                               const void *q, const float *lanes, failure *f)
{
    const longspan_range own = longspan_selection_tokens(context, branch, LONGSPAN_QUERIES);
    choice x = {.context = context,
                .problem = branch,
                .sizes = sizes,
                .q = q,
                .lanes = lanes,
                .pooled = nsa_pooled_count(sizes, branch->keys),
                .blocks = (branch->keys - 1) / sizes->block + 1,
                .first_token = own.begin,
                .tokens = own.end - own.begin};
    x.selection = selection_make(context, branch, sizes->block, branch->kv_heads,
                                 sizes->top < x.blocks ? sizes->top : x.blocks, f);
    if (x.selection && !choose_all(&x)) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the weights of %lld blocks of keys", (long long)x.blocks);
        longspan_selection_destroy(&x.selection);
    }
    return x.selection;
}
