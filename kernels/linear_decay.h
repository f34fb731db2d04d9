/* Decays within a chunk, and the scores that they weigh. Included by linear_chunked.h. Exponents are of sums over
 * tokens from an earlier to a later one, never of a difference of such sums: -inf is a log-decay like any other. */
#ifndef KERNELS_LINEAR_DECAY_H
#define KERNELS_LINEAR_DECAY_H

#include "kernels/linear_features.h"

static bool decays_are_of_features(const linear_task *task)
{
    return task->variant->decay == LINEAR_DECAY_FEATURE;
}

static double log_decay_of(const linear_task *task, int64_t token)
{
    const linear_call *call = task->call;
    switch (task->variant->decay) {
    case LINEAR_DECAY_RETENTION:
        return log1p(-exp2(-5.0 - task->unit.head));
    case LINEAR_DECAY_HEAD:
        return (double)call->log_decay[task->unit.head];
    case LINEAR_DECAY_TOKEN:
        return (double)call->log_decay[(task->unit.batch * call->tokens + token) * call->shape.heads + task->unit.head];
    case LINEAR_DECAY_NONE:
    case LINEAR_DECAY_FEATURE:
        break;
    }
    return 0;
}

/* Scalar decays: weights_ij = prod over (j, i] of e^g, from_start_i = prod over [0, i]. Whether none is NaN. */
static bool weights_prepare(linear_task *task, int64_t token, int n)
{
    const bool constant = task->variant->decay != LINEAR_DECAY_TOKEN;
    const int64_t first = token;
    const int rows = constant ? LINEAR_CHUNK : n;
    double *restrict weights = task->space.weights;
    bool finite = true;
    task->log_total = constant ? n * log_decay_of(task, first) : 0;
    if (constant && task->weights_known) return true;
    for (int i = 0; i < rows; i++) {
        const double g = log_decay_of(task, constant ? first : first + i), alpha = exp(g);
        finite = finite && g == g;
        if (!constant) task->log_total += g;
        const double *before = weights + (i > 0 ? i - 1 : 0) * LINEAR_CHUNK;
        for (int j = 0; j < i; j++) weights[i * LINEAR_CHUNK + j] = before[j] * alpha;
        for (int j = i; j < LINEAR_CHUNK; j++) weights[i * LINEAR_CHUNK + j] = j == i;
        task->space.from_start[i] = (i > 0 ? task->space.from_start[i - 1] : 1) * alpha;
    }
    task->weights_known = constant && finite;
    return finite;
}

static bool log_decays_load(const linear_task *task, int64_t token, int n)
{
    const linear_call *call = task->call;
    const int features = task->features;
    bool finite = true;
    for (int i = 0; i < n; i++) {
        const int64_t at = (task->unit.batch * call->tokens + token + i) * call->shape.heads + task->unit.head;
        const float *restrict given = call->log_decay + at * features;
        float *restrict row = task->space.log_decay + i * task->row;
        int nans = 0;
        for (int f = 0; f < features; f++) {
            row[f] = given[f] * LOG2_E;
            nans |= given[f] != given[f];
        }
        for (int f = features; f < task->row; f++) row[f] = 0;
        finite = finite && !nans;
    }
    return finite;
}

/* space.decayed of tokens [begin, end), a sub-block: rows of a decayed from its beginning. Rows of the delta rule's b
 * too; rows that read before they write are not decayed by their own token. */
static void queries_decay(const linear_task *task, int n, int begin, int end)
{
    const linear_space *space = &task->space;
    const int64_t second = (int64_t)n * task->row;
    const bool before = task->variant->reads_before, erases = task->variant->erases;
    for (int f = 0; f < task->row; f += LANES) {
        vector sum = splat(0);
        for (int i = begin; i < end; i++) {
            const int64_t at = (int64_t)i * task->row + f;
            const vector g = *(const vector *)(space->log_decay + at);
            const vector factor = before ? exp2_any(sum) : exp2_any(sum + g);
            sum += g;
            *(vector *)(space->decayed + at) = *(const vector *)(space->rows + at) * factor;
            if (erases)
                *(vector *)(space->decayed + second + at) = *(const vector *)(space->rows + second + at) * factor;
        }
    }
}

/* Vector decays of tokens [token, token + n): everything that is one sub-block's alone. Whether none is NaN. */
static bool vectors_prepare(const linear_task *task, int64_t token, int n)
{
    const linear_space *space = &task->space;
    const bool finite = log_decays_load(task, token, n);
    const int64_t second = (int64_t)n * task->row;
    float rows[LINEAR_SUB_BLOCK * LANES] __attribute__((aligned(64)));
    float alphas[LINEAR_SUB_BLOCK * LANES] __attribute__((aligned(64)));
    for (int begin = 0; begin < n; begin += LINEAR_SUB_BLOCK) {
        const int end = begin + LINEAR_SUB_BLOCK < n ? begin + LINEAR_SUB_BLOCK : n;
        queries_decay(task, n, begin, end);
        for (int f = 0; f < task->row; f += LANES) {
            vector sum = splat(0);
            for (int j = end - 1; j >= begin; j--) {
                const int64_t at = (int64_t)j * task->row + f;
                const vector g = *(const vector *)(space->log_decay + at);
                const int64_t local = (int64_t)(j - begin) * LANES;
                *(vector *)(rows + local) = *(const vector *)(space->rows + second + at) * exp2_any(sum);
                *(vector *)(alphas + local) = exp2_any(g);
                sum += g;
            }
            const int count = task->features - f < LANES ? task->features - f : LANES;
            const int64_t at = (int64_t)f * LINEAR_KEY_ROW + begin;
            if (count <= 0) continue;
            transpose(rows, LANES, end - begin, count, space->late_keys + at, LINEAR_KEY_ROW);
            transpose(alphas, LANES, end - begin, count, space->alpha + at, LINEAR_KEY_ROW);
        }
    }
    return finite;
}

/* Scores of a sub-block against its own tokens, into scores: row i, column i - d is in lane i of products[d], for which
 *   products[d] = sum_f a_i b_(i-d) prod of alpha over (i - d, i]        or [.., i) where it reads before it writes.
 * Lanes of which i - d is in another sub-block are computed and not used. Arrays begin at the sub-block. */
static void pairs_score(const linear_task *task, const float *restrict queries, const float *restrict keys,
                        const float *restrict alpha, int count, const float *bonus, float *restrict scores)
{
    const bool before = bonus != NULL;
    for (int part = 0; part < count; part += LANES) {
        vector products[LINEAR_SUB_BLOCK] = {{0}};
        for (int f = 0; f < task->features; f++) {
            const int64_t at = (int64_t)f * LINEAR_KEY_ROW + part;
            vector a = *(const loose_vector *)(queries + at);
            const vector itself = a * (before ? bonus[f] : 1);
            products[0] = multiply_add(itself, *(const loose_vector *)(keys + at), products[0]);
            if (!before) a *= *(const loose_vector *)(alpha + at);
            for (int d = 1; d < LINEAR_SUB_BLOCK; d++) {
                products[d] = multiply_add(a, *(const loose_vector *)(keys + at - d), products[d]);
                a *= *(const loose_vector *)(alpha + at - d);
            }
        }
        for (int i = part; i < count && i < part + LANES; i++)
            for (int d = 0; d <= i; d++) scores[i * LINEAR_CHUNK + i - d] = products[d][i - part];
    }
}

/* space.factors = 2^sums. */
static void factors_take(const linear_task *task, const double *restrict sums)
{
    float *restrict factors = task->space.factors;
    for (int f = 0; f < task->row; f++) factors[f] = (float)sums[f];
    for (int f = 0; f < task->row; f += LANES) *(vector *)(factors + f) = exp2_any(*(vector *)(factors + f));
}

/* space.decayed of tokens [begin, end) from the beginning of their sub-block back to where space.totals count from, to
 * which the sub-block's sums are then added. */
static void queries_decay_further(const linear_task *task, int n, int begin, int end)
{
    const linear_space *space = &task->space;
    const int forms = task->variant->erases ? 2 : 1;
    factors_take(task, space->totals);
    for (int form = 0; form < forms; form++)
        for (int i = begin; i < end; i++)
            for (int f = 0; f < task->row; f += LANES)
                *(vector *)(space->decayed + (int64_t)(form * n + i) * task->row + f) *=
                    *(const vector *)(space->factors + f);
    for (int f = 0; f < task->row; f++) space->sums[f] = 0;
    for (int i = begin; i < end; i++)
        for (int f = 0; f < task->row; f++) space->sums[f] += (double)space->log_decay[(int64_t)i * task->row + f];
    for (int f = 0; f < task->row; f++) space->totals[f] += space->sums[f];
}

/* Keys of tokens [0, end) are decayed by the sub-block that begins there. */
static void keys_decay(const linear_task *task, int end)
{
    factors_take(task, task->space.sums);
    for (int f = 0; f < task->features; f++) {
        float *restrict row = task->space.late_keys + (int64_t)f * LINEAR_KEY_ROW;
        for (int j = 0; j < end; j++) row[j] *= task->space.factors[f];
    }
}

static void scores_clear_after(float *scores, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) scores[i * LINEAR_CHUNK + j] = 0;
}

/* Scores of vector decays, of forms from `first_form` on: a, and under the delta rule b. Leaves late_keys decayed to the
 * chunk's end, and decayed from its beginning. */
static void vector_scores(const linear_task *task, int first_form, int n)
{
    const linear_space *space = &task->space;
    const int forms = task->variant->erases ? 2 : 1;
    const float *bonus =
        task->variant->reads_before ? task->call->bonus + (int64_t)task->unit.head * task->features : NULL;
    if (first_form == 0) transpose(space->rows, task->row, n, task->features, space->queries, LINEAR_KEY_ROW);
    for (int form = first_form; form < forms; form++) /* the queries of the pairs: a, then b */
        for (int begin = 0; begin < n; begin += LINEAR_SUB_BLOCK) {
            const int count = n - begin < LINEAR_SUB_BLOCK ? n - begin : LINEAR_SUB_BLOCK;
            const float *keys = space->keys + begin;
            pairs_score(task, form ? keys : space->queries + begin, keys, space->alpha + begin, count, bonus,
                        space->scores + (form * n + begin) * LINEAR_CHUNK + begin);
        }
    for (int begin = 0; begin < n; begin += LINEAR_SUB_BLOCK) {
        const int count = n - begin < LINEAR_SUB_BLOCK ? n - begin : LINEAR_SUB_BLOCK;
        for (int form = first_form; form < forms && begin > 0; form++)
            product(count, begin, task->features,
                    (product_factor){space->decayed + (int64_t)(form * n + begin) * task->row, task->row},
                    (product_factor){space->late_keys, LINEAR_KEY_ROW}, false, false,
                    space->scores + (form * n + begin) * LINEAR_CHUNK, LINEAR_CHUNK);
        queries_decay_further(task, n, begin, begin + count);
        keys_decay(task, begin);
    }
    scores_clear_after(space->scores, n);
}

/* The same without decay or with one number a token. */
static void plain_scores_of(const linear_task *task, int form, int n)
{
    const linear_space *space = &task->space;
    const bool expanded = space->keys != space->state_keys;
    const float *rows = expanded ? space->q : space->rows + (int64_t)form * n * task->row;
    const int row_floats = expanded ? task->dim_row : task->row;
    float *restrict scores = space->scores + form * n * LINEAR_CHUNK;
    for (int begin = 0; begin < n; begin += LINEAR_SUB_BLOCK) { /* up to the diagonal */
        const int count = n - begin < LINEAR_SUB_BLOCK ? n - begin : LINEAR_SUB_BLOCK;
        product(count, begin + count, expanded ? task->call->shape.dim : task->features,
                (product_factor){rows + (int64_t)begin * row_floats, row_floats},
                (product_factor){space->keys, LINEAR_KEY_ROW}, false, false, scores + begin * LINEAR_CHUNK, LINEAR_CHUNK);
    }
    for (int i = 0; i < n && expanded; i++)
        for (int j = 0; j <= i; j++) {
            const float s = scores[i * LINEAR_CHUNK + j];
            scores[i * LINEAR_CHUNK + j] = 1 + s + s * s / 2;
        }
    if (task->variant->decay == LINEAR_DECAY_NONE) {
        scores_clear_after(scores, n);
        return;
    }
    for (int i = 0; i < n; i++) {
        const double *restrict weights = space->weights + i * LINEAR_CHUNK;
        for (int j = 0; j < n; j++)
            scores[i * LINEAR_CHUNK + j] = j > i ? 0 : scores[i * LINEAR_CHUNK + j] * (float)weights[j];
    }
}

static void plain_scores(const linear_task *task, int first_form, int n)
{
    const int forms = task->variant->erases ? 2 : 1;
    for (int form = first_form; form < forms; form++) plain_scores_of(task, form, n);
}

#endif
