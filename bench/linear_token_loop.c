#include "bench/linear_token_loop.h"

#include <math.h>
#include <string.h>

/* A head as it goes through the tokens. */
typedef struct {
    const linear_call *call;
    int head, features, width;
    float *state;               /* [F, W] */
    float *query, *key, *decay; /* [F] */
    float *value, *read;        /* [W] */
} walk;

static const float *vector_at(const walk *w, const void *array, int64_t t, int own, int dim)
{
    return (const float *)array + (t * own + w->head / (w->call->shape.heads / own)) * dim;
}

/* phi(x), x being a query, which the scale is for, or a key. */
static void map_features(const walk *w, const float *x, bool is_query, float *to)
{
    const linear_shape *shape = &w->call->shape;
    const int dim = shape->dim;
    const float root = sqrtf(w->call->scale), scale = is_query ? w->call->scale : 1;
    float square = 0, sum = 0;
    for (int d = 0; d < dim; d++) square += x[d] * x[d];
    switch (shape->variant->map) {
    case LINEAR_MAP_NONE:
        for (int d = 0; d < dim; d++) to[d] = scale * x[d];
        break;
    case LINEAR_MAP_ELU:
        for (int d = 0; d < dim; d++) to[d] = x[d] > 0 ? scale * x[d] + 1 : expf(scale * x[d]);
        break;
    case LINEAR_MAP_TAYLOR:
        to[0] = 1;
        for (int d = 0; d < dim; d++) to[1 + d] = x[d] / sqrtf(square);
        break;
    case LINEAR_MAP_FAVOR:
        for (int i = 0; i < shape->features; i++) {
            const float *row = w->call->features + (int64_t)i * dim;
            float product = 0;
            for (int d = 0; d < dim; d++) product += row[d] * x[d];
            to[i] = expf(root * product - 0.5f * w->call->scale * square) / sqrtf((float)shape->features);
        }
        break;
    case LINEAR_MAP_BASED:
        to[0] = 1;
        for (int d = 0; d < dim; d++) {
            to[1 + d] = root * x[d];
            for (int e = 0; e < dim; e++) to[1 + dim + d * dim + e] = w->call->scale * x[d] * x[e] * 0.70710678f;
        }
        break;
    case LINEAR_MAP_EFFICIENT:
        for (int d = 0; d < dim; d++) sum += to[d] = expf(scale * x[d]);
        break;
    }
    if (shape->variant->map == LINEAR_MAP_EFFICIENT && is_query)
        for (int d = 0; d < dim; d++) to[d] /= sum;
}

static void find_decay(const walk *w, int64_t t)
{
    const linear_call *call = w->call;
    const linear_shape *shape = &call->shape;
    float all = 1;
    switch (shape->variant->decay) {
    case LINEAR_DECAY_FEATURE:
        for (int f = 0; f < w->features; f++)
            w->decay[f] = expf(call->log_decay[(t * shape->heads + w->head) * shape->dim + f]);
        return;
    case LINEAR_DECAY_RETENTION:
        all = 1 - exp2f(-5 - (float)w->head);
        break;
    case LINEAR_DECAY_HEAD:
        all = expf(call->log_decay[w->head]);
        break;
    case LINEAR_DECAY_TOKEN:
        all = expf(call->log_decay[t * shape->heads + w->head]);
        break;
    case LINEAR_DECAY_NONE:
        break;
    }
    for (int f = 0; f < w->features; f++) w->decay[f] = all;
}

/* S = A S + b w^T and o = S^T a, in one pass over the state. Efficient attention divides by a sum of each feature. */
static void update(const walk *w)
{
    const int width = w->width;
    const bool each = w->call->shape.variant->map == LINEAR_MAP_EFFICIENT;
    float *restrict read = w->read;
    const float *restrict value = w->value;
    memset(read, 0, (size_t)width * sizeof *read);
    for (int f = 0; f < w->features; f++) {
        float *restrict row = w->state + (int64_t)f * width;
        const float decay = w->decay[f], key = w->key[f];
        const float query = each ? w->query[f] / (row[width - 1] + key) : w->query[f];
        for (int e = 0; e < width; e++) {
            row[e] = decay * row[e] + key * value[e];
            read[e] += query * row[e];
        }
    }
}

/* o = S^T a + (a . (u o b)) w, then S = A S + b w^T. */
static void update_after(const walk *w)
{
    const int width = w->width;
    const float *bonus = w->call->bonus + (int64_t)w->head * w->call->shape.dim;
    float *restrict read = w->read;
    const float *restrict value = w->value;
    float own = 0;
    for (int f = 0; f < w->features; f++) own += w->query[f] * bonus[f] * w->key[f];
    for (int e = 0; e < width; e++) read[e] = own * value[e];
    for (int f = 0; f < w->features; f++) {
        float *restrict row = w->state + (int64_t)f * width;
        const float decay = w->decay[f], key = w->key[f], query = w->query[f];
        for (int e = 0; e < width; e++) {
            read[e] += query * row[e];
            row[e] = decay * row[e] + key * value[e];
        }
    }
}

/* The delta rule: value = beta (w - (decayed S)^T b), which a first pass over the state finds. */
static void erase(const walk *w, float beta)
{
    const int width = w->width;
    float *restrict read = w->read;
    memset(read, 0, (size_t)width * sizeof *read);
    for (int f = 0; f < w->features; f++) {
        const float *restrict row = w->state + (int64_t)f * width;
        const float factor = w->decay[f] * w->key[f];
        for (int e = 0; e < width; e++) read[e] += factor * row[e];
    }
    for (int e = 0; e < width; e++) w->value[e] = beta * (w->value[e] - read[e]);
}

static void take_token(const walk *w, int64_t t, float *out)
{
    const linear_call *call = w->call;
    const linear_shape *shape = &call->shape;
    const linear_variant *variant = shape->variant;
    const float *v = vector_at(w, call->v, t, shape->v_heads, shape->value_dim);
    const float beta = variant->has_beta ? call->beta[t * shape->heads + w->head] : 1;
    map_features(w, vector_at(w, call->q, t, shape->q_heads, shape->dim), true, w->query);
    map_features(w, vector_at(w, call->k, t, shape->k_heads, shape->dim), false, w->key);
    find_decay(w, t);
    for (int e = 0; e < shape->value_dim; e++) w->value[e] = variant->erases ? v[e] : beta * v[e];
    if (variant->normalised) w->value[shape->value_dim] = 1;
    if (variant->erases) erase(w, beta);
    (variant->reads_before ? update_after : update)(w);
    const float whole = variant->normalised ? w->read[shape->value_dim] + (float)variant->epsilon : 1;
    for (int e = 0; e < shape->value_dim; e++) out[e] = w->read[e] / whole;
}

void LINEAR_TOKEN_LOOP(const linear_call *call, int head, int64_t tokens, float *scratch, float *out)
{
    walk w = {.call = call,
              .head = head,
              .features = linear_feature_dim(&call->shape),
              .width = linear_width(&call->shape),
              .state = scratch};
    w.query = w.state + (int64_t)w.features * w.width;
    w.key = w.query + w.features;
    w.decay = w.key + w.features;
    w.value = w.decay + w.features;
    w.read = w.value + w.width;
    memset(w.state, 0, (size_t)w.features * (size_t)w.width * sizeof *w.state);
    for (int64_t t = 0; t < tokens; t++) take_token(&w, t, out + t * call->shape.value_dim);
}
