#include "runtime/cli/kernel_sample.h"

#include "runtime/cli/random.h"
#include "runtime/cli/report.h"
#include "runtime/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_DECODED = 16, PEAK_MILLISECONDS = 10, MEMORY_PASSES = 3, SEED = 1 };

bool kernel_shape_decodes(const kernel_shape *shape)
{
    return shape->tokens <= MOST_DECODED;
}

static int64_t visible_end(const kernel_shape *shape, int64_t token)
{
    return shape->causal ? token + 1 + shape->keys - shape->tokens : shape->keys;
}

static int64_t visible_begin(const kernel_shape *shape, int64_t token)
{
    const int64_t begin = visible_end(shape, token) - 1 - shape->window;
    return shape->window > 0 && begin > 0 ? begin : 0;
}

double kernel_shape_scores(const kernel_shape *shape)
{
    double scores = 0;
    for (int64_t t = 0; t < shape->tokens; t++)
        if (visible_end(shape, t) > 0) scores += (double)(visible_end(shape, t) - visible_begin(shape, t));
    return scores * shape->heads;
}

void kernel_shape_mask_name(const kernel_shape *shape, char name[KERNEL_SHAPE_MASK_SIZE])
{
    if (shape->window > 0) snprintf(name, KERNEL_SHAPE_MASK_SIZE, "window:%lld", (long long)shape->window);
    else snprintf(name, KERNEL_SHAPE_MASK_SIZE, "%s", shape->causal ? "causal" : "full");
}

double kernel_shape_flops(const kernel_shape *shape)
{
    return kernel_shape_scores(shape) * 2 * (shape->dim + shape->value_dim);
}

double kernel_shape_key_bytes(const kernel_shape *shape)
{
    return (double)shape->keys * shape->kv_heads * (shape->dim + shape->value_dim) * (double)number_size(shape->type);
}

static void *allocate(int64_t count, size_t size, failure *f)
{
    const size_t bytes = (size_t)count * size;
    void *memory = memory_allocate(bytes);
    if (!memory) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: %.1f MiB", (double)bytes / 1048576);
    return memory;
}

void kernel_data_create(const kernel_shape *shape, int threads, kernel_data *data_p, failure *f)
{
    const int64_t rows = shape->tokens * shape->heads, key_rows = shape->keys * shape->kv_heads;
    const size_t size = number_size(shape->type);
    kernel_data d = {
        .shape = *shape,
        .threads = threads,
        .q = allocate(rows * shape->dim, size, f),
        .k = allocate(key_rows * shape->dim, size, f),
        .v = allocate(key_rows * shape->value_dim, size, f),
        .out = allocate(rows * shape->value_dim, size, f),
        .lse = allocate(rows, sizeof(float), f),
        .state = {.o = allocate(rows * shape->value_dim, sizeof(float), f),
                  .m = allocate(rows, sizeof(float), f),
                  .l = allocate(rows, sizeof(float), f)},
        .visible_begin = allocate(shape->tokens, sizeof(int64_t), f),
        .visible_end = allocate(shape->tokens, sizeof(int64_t), f),
        .workspace = allocate(1, attention_workspace_size(threads, shape->dim, shape->value_dim), f),
    };
    *data_p = d;
    if (f->status != LONGSPAN_OK) return;
    const longspan_type type = (longspan_type)shape->type;
    random_normal(SEED, RANDOM_QUERY, 0, rows * shape->dim, type, d.q, threads);
    random_normal(SEED, RANDOM_KEY, 0, key_rows * shape->dim, type, d.k, threads);
    random_normal(SEED, RANDOM_VALUE, 0, key_rows * shape->value_dim, type, d.v, threads);
    for (int64_t t = 0; t < shape->tokens; t++) {
        d.visible_begin[t] = visible_begin(shape, t);
        d.visible_end[t] = visible_end(shape, t);
    }
}

void kernel_data_destroy(kernel_data *d)
{
    free(d->q);
    free(d->k);
    free(d->v);
    free(d->out);
    free(d->lse);
    free(d->state.o);
    free(d->state.m);
    free(d->state.l);
    free(d->visible_begin);
    free(d->visible_end);
    free(d->workspace);
    *d = (kernel_data){0};
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* CPU time of the threads of a team. OpenMP keeps them between regions of one size, so differences mean something; and
 * the process's other threads, MPI's, do not count. */
static double team_cpu_seconds(int threads)
{
    double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    {
        struct timespec used;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
        sum += (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
    }
    return sum;
}

/* The sum of an array's words but the last few, shared out among the threads of the region that calls this. Many sums
 * side by side, or the additions would wait for each other longer than the loads take. */
static uint64_t words_sum(const uint64_t *words, int64_t count)
{
    enum { SUMS = 16 };
    uint64_t sums[SUMS] = {0}, all = 0;
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < count / SUMS; i++)
        for (int j = 0; j < SUMS; j++) sums[j] += words[i * SUMS + j];
    for (int j = 0; j < SUMS; j++) all += sums[j];
    return all;
}

/* Both arrays; what comes out keeps the compiler from leaving the loads away. */
static uint64_t memory_read(const kernel_data *d, int threads)
{
    const kernel_shape *s = &d->shape;
    const int64_t row_bytes = s->kv_heads * (int64_t)number_size(s->type);
    const int64_t k_words = s->keys * row_bytes * s->dim / 8, v_words = s->keys * row_bytes * s->value_dim / 8;
    uint64_t sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    sum += words_sum(d->k, k_words) + words_sum(d->v, v_words);
    return sum;
}

static double memory_rate(const kernel_data *d, int threads)
{
    static volatile uint64_t kept;
    double best = INFINITY;
    for (int pass = 0; pass < MEMORY_PASSES; pass++) {
        const double started = seconds_now();
        kept = memory_read(d, threads);
        (void)kept;
        best = fmin(best, seconds_now() - started);
    }
    return kernel_shape_key_bytes(&d->shape) / best;
}

bool kernel_shape_takes(const kernel_shape *shape, attention_compute compute)
{
    switch (compute) {
    case COMPUTE_FP32:
        return true;
    case COMPUTE_BF16X6:
        return shape->type == KERNEL_FLOAT32;
    case COMPUTE_BF16X3:
        return shape->type == KERNEL_FLOAT32 || shape->type == KERNEL_FLOAT16;
    case COMPUTE_BF16:
        return shape->type == KERNEL_BFLOAT16;
    case COMPUTE_COUNT:
        break;
    }
    return false;
}

kernel_sample kernel_sample_take(MPI_Comm comm, const kernel_data *d, const attention_kernel *kernel,
                                 attention_compute compute, int threads)
{
    const kernel_shape *s = &d->shape;
    const int64_t rows = s->tokens * s->heads;
    const attention_segment keys = {.k = d->k,
                                    .v = d->v,
                                    .k_token_stride = (int64_t)s->kv_heads * s->dim,
                                    .k_head_stride = s->dim,
                                    .v_token_stride = (int64_t)s->kv_heads * s->value_dim,
                                    .v_head_stride = s->value_dim,
                                    .end = s->keys,
                                    .look_inside = s->causal};
    const attention_span queries = {.q = d->q,
                                    .q_token_stride = (int64_t)s->heads * s->dim,
                                    .q_head_stride = s->dim,
                                    .tokens = s->tokens,
                                    .state = d->state,
                                    .visible_begin = d->visible_begin,
                                    .visible_end = d->visible_end,
                                    .segments = &keys,
                                    .segment_count = 1};
    const attention_call call = {.type = s->type,
                                 .heads = s->heads,
                                 .kv_heads = s->kv_heads,
                                 .dim = s->dim,
                                 .value_dim = s->value_dim,
                                 .scale = (float)(s->score_scale / sqrt(s->dim)),
                                 .compute = compute,
                                 .threads = threads,
                                 .workspace = d->workspace};
    kernel_sample sample = {.peak = report_peak(comm, kernel, threads, PEAK_MILLISECONDS * 1e-3),
                            .bf16_peak = report_bf16_peak(comm, kernel, threads, PEAK_MILLISECONDS * 1e-3)};
    if (kernel_shape_decodes(s)) sample.memory = memory_rate(d, threads);

    const double cpu = team_cpu_seconds(threads), started = seconds_now();
    attention_state_clear(d->state, rows, s->value_dim);
    kernel->fold(&call, &queries, 1);
    sample.wall = seconds_now() - started;
    const double folded_cpu = team_cpu_seconds(threads), finishing = seconds_now();
    sample.cpu = folded_cpu - cpu;
    attention_state_finish(d->state, rows, s->value_dim, s->type, d->out, d->lse, threads);
    sample.finish = seconds_now() - finishing;
    sample.finish_cpu = team_cpu_seconds(threads) - folded_cpu;
    return sample;
}
