#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/cpu.h"
#include "kernels/linear_reference.h"
#include "tests/kernels/linear_problem.h"
#include "tests/kernels/problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *numbers_create(kernel_type type, int64_t count, double scale, uint64_t *seed)
{
    float *floats = malloc((size_t)(count + 1) * sizeof *floats);
    void *numbers = malloc((size_t)(count + 1) * number_size(type));
    for (int64_t i = 0; i < count; i++) floats[i] = (float)(scale * random_normal(seed));
    number_narrow(type, floats, numbers, count);
    free(floats);
    return numbers;
}

/* Keys of the delta rule have about unit length, or the state grows. */
static double key_scale(const linear_problem_shape *shape, const linear_variant *variant)
{
    const double scale = shape->key_scale == 0 ? 1 : shape->key_scale;
    return variant->erases ? scale / sqrt(shape->dim) : scale;
}

static int64_t decay_count(const linear_problem *p)
{
    const linear_shape *shape = &p->call.shape;
    const int64_t all = shape->batch * p->call.tokens * shape->heads;
    switch (shape->variant->decay) {
    case LINEAR_DECAY_HEAD:
        return shape->heads;
    case LINEAR_DECAY_TOKEN:
        return all;
    case LINEAR_DECAY_FEATURE:
        return all * shape->dim;
    default:
        return 0;
    }
}

static void inputs_create(linear_problem *p, uint64_t *seed)
{
    const linear_problem_shape *shape = &p->shape;
    linear_call *call = &p->call;
    const linear_shape *s = &call->shape;
    const linear_variant *variant = s->variant;
    const int64_t tokens = s->batch * shape->tokens;
    call->q = p->q = numbers_create(shape->type, tokens * s->q_heads * s->dim, 1, seed);
    call->k = p->k = numbers_create(shape->type, tokens * s->k_heads * s->dim, key_scale(shape, variant), seed);
    call->v = p->v = numbers_create(shape->type, tokens * s->v_heads * s->value_dim, 1, seed);
    call->features = p->features = numbers_create(KERNEL_FLOAT32, (int64_t)s->features * s->dim, 1, seed);
    call->bonus = p->bonus = numbers_create(KERNEL_FLOAT32, (int64_t)s->heads * s->dim, 1, seed);
    call->beta = p->beta = malloc((size_t)(tokens * s->heads + 1) * sizeof *p->beta);
    for (int64_t i = 0; i < tokens * s->heads; i++) p->beta[i] = (float)random_uniform(seed);
    const int64_t decays = decay_count(p);
    call->log_decay = p->log_decay = malloc((size_t)(decays + 1) * sizeof *p->log_decay);
    for (int64_t i = 0; i < decays; i++) {
        p->log_decay[i] = (float)((shape->decay == 0 ? -0.2 : shape->decay) * random_uniform(seed));
        if (random_uniform(seed) < shape->resets) p->log_decay[i] = -INFINITY;
    }
}

static void widen_row(const linear_problem *p, const void *array, int heads, int width, int64_t token, int head,
                      float *row)
{
    const int64_t at = (token * heads + head / (p->call.shape.heads / heads)) * width;
    number_widen(p->shape.type, (const char *)array + (size_t)at * number_size(p->shape.type), row, width);
}

/* Token t of head h of batch item b, as the oracle takes it. */
static linear_reference_token token_of(const linear_problem *p, int64_t b, int h, int64_t t, float *q, float *k,
                                       float *v)
{
    const linear_shape *s = &p->call.shape;
    const int64_t token = b * p->call.tokens + t, row = token * s->heads + h;
    widen_row(p, p->q, s->q_heads, s->dim, token, h, q);
    widen_row(p, p->k, s->k_heads, s->dim, token, h, k);
    widen_row(p, p->v, s->v_heads, s->value_dim, token, h, v);
    const linear_decay decay = s->variant->decay;
    return (linear_reference_token){.q = q,
                                    .k = k,
                                    .v = v,
                                    .log_decay = decay == LINEAR_DECAY_HEAD      ? p->log_decay + h
                                                 : decay == LINEAR_DECAY_TOKEN   ? p->log_decay + row
                                                 : decay == LINEAR_DECAY_FEATURE ? p->log_decay + row * s->dim
                                                                                 : NULL,
                                    .beta = (double)p->beta[row],
                                    .bonus = p->bonus + (int64_t)h * s->dim};
}

static void state_expect(linear_problem *p, int64_t b, int h, const double *state)
{
    const linear_shape *s = &p->call.shape;
    const int features = linear_feature_dim(s), width = linear_width(s);
    double *to = p->expected_state + (b * s->heads + h) * features * width;
    for (int f = 0; f < features; f++) {
        memcpy(to + f * width, state + f * s->value_dim, (size_t)s->value_dim * sizeof *to);
        if (s->variant->normalised) to[f * width + s->value_dim] = state[features * s->value_dim + f];
    }
}

static void head_expect(linear_problem *p, int64_t b, int h)
{
    const linear_call *call = &p->call;
    const linear_shape *s = &call->shape;
    float q[512], k[512], v[512];
    linear_reference head = {.variant = s->variant->name,
                             .dim = s->dim,
                             .columns = s->value_dim,
                             .head = h,
                             .features = s->features,
                             .projections = p->features,
                             .scale = (double)call->scale};
    const size_t size = linear_reference_size(&head);
    head.state = calloc(size, sizeof *head.state);
    for (int64_t piece = 0; piece < call->piece_count; piece++) {
        memset(head.state, 0, size * sizeof *head.state);
        for (int pass = 0; pass < (p->shape.two_sided ? 2 : 1); pass++)
            for (int64_t t = call->pieces[piece]; t < call->pieces[piece + 1]; t++) {
                const linear_reference_token token = token_of(p, b, h, t, q, k, v);
                double *out = p->expected + ((b * call->tokens + t) * s->heads + h) * s->value_dim;
                if (!p->shape.two_sided) linear_reference_step(&head, &token, out);
                else if (pass == 0) linear_reference_write(&head, &token);
                else linear_reference_read(&head, &token, out);
            }
    }
    state_expect(p, b, h, head.state);
    free(head.state);
}

void linear_problem_expect(linear_problem *p)
{
    for (int64_t b = 0; b < p->call.shape.batch; b++)
        for (int h = 0; h < p->call.shape.heads; h++) head_expect(p, b, h);
}

static linear_shape shape_of(const linear_problem_shape *shape)
{
    const linear_variant *variant = linear_variant_find(shape->variant);
    return (linear_shape){.variant = variant,
                          .batch = shape->batch ? shape->batch : 1,
                          .heads = shape->heads,
                          .q_heads = shape->q_heads ? shape->q_heads : shape->heads,
                          .k_heads = shape->k_heads ? shape->k_heads : shape->heads,
                          .v_heads = shape->v_heads ? shape->v_heads : shape->heads,
                          .dim = shape->dim,
                          .value_dim = shape->value_dim,
                          .features = variant->map != LINEAR_MAP_FAVOR ? 0
                                      : shape->features                ? shape->features
                                                                       : 24,
                          .summarises = shape->summarises};
}

linear_problem linear_problem_create(const linear_problem_shape *shape, const linear_kernel *kernel)
{
    uint64_t seed = shape->seed + 1;
    linear_problem p = {.shape = *shape};
    const int threads = shape->threads ? shape->threads : 1;
    p.call = (linear_call){.shape = shape_of(shape),
                           .type = shape->type,
                           .out_type = shape->out_type,
                           .tokens = shape->tokens,
                           .first_token = shape->first_token,
                           .threads = threads};
    const linear_shape *s = &p.call.shape;
    p.call.scale = s->variant->scaled ? 1 / sqrtf((float)s->dim) : 1;
    p.pieces = calloc(16, sizeof *p.pieces);
    for (int i = 0; shape->pieces[i] > 0; i++) p.pieces[++p.call.piece_count] = shape->pieces[i];
    if (shape->tokens > 0) p.pieces[++p.call.piece_count] = shape->tokens;
    p.call.pieces = p.pieces;
    inputs_create(&p, &seed);
    p.call.workspace = aligned_alloc(64, linear_workspace_size(s, threads));
    memset(p.call.workspace, 0xff, linear_workspace_size(s, threads)); /* NaN */
    const size_t heads = (size_t)(s->batch * s->heads);
    p.reference = calloc(heads * (size_t)linear_reference_dim(s) + 1, sizeof *p.reference);
    kernel->references(&p.call, p.reference);
    p.call.reference = p.reference;
    p.expected = calloc((size_t)p.call.tokens * heads * (size_t)s->value_dim + 1, sizeof *p.expected);
    p.expected_state = calloc(heads * (size_t)(linear_feature_dim(s) * linear_width(s)), sizeof *p.expected_state);
    linear_problem_expect(&p);
    return p;
}

void linear_problem_destroy(linear_problem *p)
{
    free(p->q), free(p->k), free(p->v), free(p->log_decay), free(p->beta), free(p->bonus), free(p->features);
    free(p->reference), free(p->expected), free(p->expected_state), free(p->pieces), free(p->call.workspace);
}

linear_call linear_problem_run(const linear_problem *p, int64_t begin, int64_t end, int64_t *pieces)
{
    linear_call call = p->call;
    const linear_shape *s = &call.shape;
    const size_t size = number_size(call.type), first = (size_t)begin;
    call.q = (const char *)p->q + first * (size_t)(s->q_heads * s->dim) * size;
    call.k = (const char *)p->k + first * (size_t)(s->k_heads * s->dim) * size;
    call.v = (const char *)p->v + first * (size_t)(s->v_heads * s->value_dim) * size;
    if (s->variant->decay == LINEAR_DECAY_TOKEN) call.log_decay = p->log_decay + begin * s->heads;
    if (s->variant->decay == LINEAR_DECAY_FEATURE) call.log_decay = p->log_decay + begin * s->heads * s->dim;
    call.beta = p->beta + begin * s->heads;
    call.tokens = end - begin;
    call.first_token = p->call.first_token + begin;
    call.piece_count = 0;
    pieces[0] = 0;
    for (int64_t i = 1; i <= p->call.piece_count; i++)
        if (p->pieces[i] > begin && p->pieces[i - 1] < end)
            pieces[++call.piece_count] = (p->pieces[i] < end ? p->pieces[i] : end) - begin;
    call.pieces = pieces;
    return call;
}

double *linear_states_create(const linear_problem *p)
{
    const linear_shape *s = &p->call.shape;
    double *states = malloc((size_t)linear_units(s) * linear_state_size(s) * sizeof *states);
    linear_state_clear(s, 0, linear_units(s), states);
    return states;
}

float *linear_outputs_create(const linear_problem *p)
{
    const linear_shape *s = &p->call.shape;
    const size_t rows = (size_t)(s->batch * p->call.tokens * s->heads);
    return calloc(rows * (size_t)linear_partial_width(s) + 1, sizeof(float));
}

double linear_problem_error(const linear_problem *p, const void *out)
{
    const linear_shape *s = &p->call.shape;
    const int64_t count = s->batch * p->call.tokens * s->heads * s->value_dim;
    double error = 0, all = 0;
    for (int64_t i = 0; i < count; i++) {
        float x;
        number_widen(p->call.out_type, (const char *)out + (size_t)i * number_size(p->call.out_type), &x, 1);
        const double expected = p->expected[i];
        if (isnan(expected) && isnan(x)) continue;
        error += ((double)x - expected) * ((double)x - expected);
        all += expected * expected;
    }
    return all > 0 ? sqrt(error / all) : sqrt(error);
}

const linear_kernel *linear_kernel_under_test(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "portable";
    const linear_kernel *kernel = linear_kernel_find(name);
    if (!kernel) {
        print_error("no kernel is called %s\n", name);
        exit(1);
    }
    if (kernel->features & ~cpu_features()) {
        print_message("this CPU cannot run %s\n", name);
        exit(77);
    }
    return kernel;
}
