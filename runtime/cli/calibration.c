#include "runtime/cli/calibration.h"

#include "partition/prediction.h"
#include "runtime/cli/exchange_sample.h"
#include "runtime/cli/kernel_sample.h"
#include "runtime/cli/report.h"
#include "runtime/launch.h"
#include "runtime/node.h"
#include "runtime/patience.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLES = 5,
    MANY_ROWS = 1536,
    MANY_KEYS = 2048,
    FEW_DIM = 128,
    FEW_HEADS = 2,    /* of keys, whose rows lie side by side, as they do in use */
    FEW_KEYS = 32768, /* 64 MiB of float32 keys and values: from memory */
    MEMORY_BYTES = 64 << 20,
    OVERLAP_MESSAGE = 16 << 20,
};

static const double peak_seconds = 0.02;
static const int64_t message_bytes[CALIBRATION_POINTS] = {8,        64,        512,     4 << 10, 16 << 10,
                                                          64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20};

/* Collective. */
static double mean_over_ranks(MPI_Comm comm, double value)
{
    return report_reduce(comm, value).mean;
}

/* Folds. */

typedef struct {
    const attention_kernel *kernel;
    attention_compute compute;
    const kernel_data *data;
    int threads;
    void (*poll)(void *data, double fraction);
    void *poll_data;
} fold_sample;

/* Seconds of one fold of all queries against all keys, into an empty state. */
static double fold_seconds(const fold_sample *x)
{
    const kernel_shape *s = &x->data->shape;
    const attention_segment keys = {.k = x->data->k,
                                    .v = x->data->v,
                                    .k_token_stride = (int64_t)s->kv_heads * s->dim,
                                    .k_head_stride = s->dim,
                                    .v_token_stride = (int64_t)s->kv_heads * s->value_dim,
                                    .v_head_stride = s->value_dim,
                                    .end = s->keys};
    const attention_span queries = {.q = x->data->q,
                                    .q_token_stride = (int64_t)s->heads * s->dim,
                                    .q_head_stride = s->dim,
                                    .tokens = s->tokens,
                                    .state = x->data->state,
                                    .segments = &keys,
                                    .segment_count = 1};
    const attention_call call = {.type = s->type,
                                 .heads = s->heads,
                                 .kv_heads = s->kv_heads,
                                 .dim = s->dim,
                                 .value_dim = s->value_dim,
                                 .scale = (float)(1 / sqrt(s->dim)),
                                 .compute = x->compute,
                                 .threads = x->threads,
                                 .workspace = x->data->workspace,
                                 .poll = x->poll,
                                 .poll_data = x->poll_data};
    attention_state_clear(x->data->state, s->tokens * s->heads, s->value_dim);
    const double started = MPI_Wtime();
    x->kernel->fold(&call, &queries, 1);
    return MPI_Wtime() - started;
}

/* Collective. The mean over ranks of each one's median, of folds that all begin together. */
static double fold_seconds_of_all(const session *s, const fold_sample *x)
{
    double seconds[SAMPLES];
    fold_seconds(x);
    for (int i = 0; i < SAMPLES; i++) {
        wait_barrier(s->comm);
        seconds[i] = fold_seconds(x);
    }
    return mean_over_ranks(s->comm, median_of(seconds, SAMPLES));
}

/* Collective. The fold of a shape on all ranks; 0 with the failure in *f if memory ran out. */
static double measure_shape(const session *s, const attention_kernel *kernel, attention_compute compute, int threads,
                            const kernel_shape *shape, failure *f)
{
    kernel_data data;
    double seconds = 0;
    kernel_data_create(shape, threads, &data, f);
    if (session_agree(s, f))
        seconds = fold_seconds_of_all(
            s, &(fold_sample){.kernel = kernel, .compute = compute, .data = &data, .threads = threads});
    kernel_data_destroy(&data);
    return seconds;
}

static kernel_shape plain_shape(kernel_type type, int dim, int64_t tokens, int64_t keys)
{
    return (kernel_shape){.type = type,
                          .heads = 1,
                          .kv_heads = 1,
                          .dim = dim,
                          .value_dim = dim,
                          .tokens = tokens,
                          .keys = keys,
                          .score_scale = 1};
}

/* The input for which an arithmetic is meant. */
static kernel_type type_of_compute(attention_compute compute)
{
    if (compute == COMPUTE_BF16) return KERNEL_BFLOAT16;
    return compute == COMPUTE_BF16X3 ? KERNEL_FLOAT16 : KERNEL_FLOAT32;
}

/* Two head sizes tell the time of a score from that of its products. */
static void measure_many_rows(const session *s, const attention_kernel *kernel, attention_compute compute,
                              calibration *c, failure *f)
{
    static const int dims[2] = {64, 128};
    const double scores = (double)MANY_ROWS * MANY_KEYS, speed = c->threads * c->cpu_share;
    calibration_rate *rate = &c->rates[c->rate_count++];
    double a_score[2] = {0};
    *rate = (calibration_rate){.compute = compute};
    for (int i = 0; i < 2 && f->status == LONGSPAN_OK; i++) {
        const kernel_shape shape = plain_shape(type_of_compute(compute), dims[i], MANY_ROWS, MANY_KEYS);
        const double seconds = measure_shape(s, kernel, compute, c->threads, &shape, f);
        if (f->status != LONGSPAN_OK) return;
        a_score[i] = seconds / scores;
        rate->flops[i] = s->ranks * 4.0 * dims[i] / a_score[i];
    }
    /* Noise may leave nothing for one of the two. */
    double product = (a_score[1] - a_score[0]) / (2 * (dims[1] - dims[0]));
    const double most = a_score[0] / (2 * dims[0]);
    if (product > 0.99 * most) product = 0.99 * most;
    if (product < 0.25 * most) product = 0.25 * most;
    c->machine.product_seconds[compute] = product * speed;
    c->machine.score_seconds[compute] = (a_score[0] - 2 * dims[0] * product) * speed;
}

static void measure_few_rows(const session *s, const attention_kernel *kernel, kernel_type type, calibration *c,
                             failure *f)
{
    for (int i = 0; i < PREDICTION_FEW && f->status == LONGSPAN_OK; i++) {
        kernel_shape shape = plain_shape(type, FEW_DIM, 1, FEW_KEYS);
        shape.kv_heads = FEW_HEADS;
        shape.heads = FEW_HEADS * (int)prediction_few_rows[i];
        const attention_compute compute = attention_compute_best(kernel, type, prediction_few_rows[i]);
        const double seconds = measure_shape(s, kernel, compute, c->threads, &shape, f);
        const double elements = (double)FEW_KEYS * FEW_HEADS * 2 * FEW_DIM;
        c->machine.few_seconds[type][i] = seconds / elements * c->threads * c->cpu_share;
    }
}

static void measure_folds(const session *s, const attention_kernel *kernel, calibration *c, failure *f)
{
    c->peak = report_peak(s->comm, kernel, c->threads, peak_seconds);
    for (attention_compute compute = COMPUTE_FP32; compute < COMPUTE_COUNT && f->status == LONGSPAN_OK; compute++)
        if (attention_kernel_offers(kernel, compute)) measure_many_rows(s, kernel, compute, c, f);
    for (kernel_type type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16 && f->status == LONGSPAN_OK; type++)
        measure_few_rows(s, kernel, type, c, f);
}

/* Memory and messages. */

/* Collective. Bytes read and written a second by one rank's threads, as all copy. */
static double copy_rate(const session *s, exchange_memory *memory, int threads)
{
    double seconds[SAMPLES];
    const int64_t share = memory->bytes / threads;
    for (int i = 0; i < SAMPLES; i++) {
        wait_barrier(s->comm);
        const double started = MPI_Wtime();
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int t = 0; t < threads; t++) memcpy(memory->received + t * share, memory->sent + t * share, (size_t)share);
        seconds[i] = MPI_Wtime() - started;
    }
    return 2.0 * (double)(share * threads) / mean_over_ranks(s->comm, median_of(seconds, SAMPLES));
}

/* Collective. The smallest message gives the latency, the largest what it moves beside. */
static void measure_curve(const session *s, const exchange_partners *p, exchange_memory *memory,
                          calibration_point *points, longspan_link *link_p)
{
    for (int i = 0; i < CALIBRATION_POINTS; i++) {
        const int64_t bytes = message_bytes[i];
        const int times = bytes <= 64 << 10 ? 200 : bytes <= 1 << 20 ? 16 : 2;
        exchange_seconds(p, memory, bytes, 1, 1);
        points[i].bytes = bytes;
        points[i].seconds = mean_over_ranks(s->comm, exchange_seconds(p, memory, bytes, times, SAMPLES));
    }
    const calibration_point *first = &points[0], *last = &points[CALIBRATION_POINTS - 1];
    const double moving = last->seconds > first->seconds ? last->seconds - first->seconds : last->seconds;
    link_p->latency = first->seconds;
    link_p->bandwidth = (double)last->bytes / moving;
}

typedef struct {
    exchange_in_flight flight;
} polled;

static void poll(void *data, double fraction)
{
    (void)fraction;
    exchange_progress(&((polled *)data)->flight);
}

/* Collective. The part of a long exchange that folding threads spend on it: how much longer folds take with one. The
 * folds are to take longer than the exchange, or they would hide too little of it. */
static double busy_part(const session *s, const exchange_partners *p, exchange_memory *memory, const fold_sample *x)
{
    double alone[SAMPLES], together[SAMPLES];
    polled under_way = {.flight = {.pending = false}};
    fold_sample folding = *x;
    folding.poll = poll;
    folding.poll_data = &under_way;
    const double transfer = mean_over_ranks(s->comm, exchange_seconds(p, memory, OVERLAP_MESSAGE, 2, SAMPLES));
    const double fold = fold_seconds_of_all(s, x);
    const int folds = 1 + (int)(2 * transfer / fold); /* equal on all ranks, as both means are */
    for (int i = 0; i < 2 * SAMPLES; i++) {
        wait_barrier(p->comm);
        const double started = MPI_Wtime();
        if (i % 2) exchange_begin(p, memory, OVERLAP_MESSAGE, &under_way.flight);
        for (int j = 0; j < folds; j++) fold_seconds(&folding);
        if (i % 2) exchange_end(&under_way.flight);
        (i % 2 ? together : alone)[i / 2] = MPI_Wtime() - started;
    }
    const double more = median_of(together, SAMPLES) - median_of(alone, SAMPLES);
    const double part = mean_over_ranks(s->comm, more) / transfer;
    return part < 0 ? 0 : part > 1 ? 1 : part;
}

/* Collective. One kind of link, where there is one. */
static void measure_link(const session *s, const exchange_partners *p, exchange_memory *memory, const fold_sample *x,
                         calibration_point *points, longspan_link *link_p)
{
    measure_curve(s, p, memory, points, link_p);
    link_p->busy = busy_part(s, p, memory, x);
}

/* Collective. Ranks of each node, where all nodes have as many; else 1. */
static int regular_node_ranks(const session *s, MPI_Comm node)
{
    int here;
    MPI_Comm_size(node, &here);
    const report_statistics all = report_reduce(s->comm, here);
    return all.min == all.max ? here : 1;
}

static void measure_links(const session *s, const attention_kernel *kernel, calibration *c, failure *f)
{
    MPI_Comm node = node_split(s->comm);
    kernel_data data;
    exchange_memory memory;
    const kernel_shape shape = plain_shape(KERNEL_FLOAT32, FEW_DIM, MANY_ROWS / 2, MANY_KEYS / 2);
    kernel_data_create(&shape, c->threads, &data, f);
    exchange_memory_create(MEMORY_BYTES, &memory, f);
    if (session_agree(s, f)) {
        const fold_sample x = {.kernel = kernel, .compute = COMPUTE_FP32, .data = &data, .threads = c->threads};
        const int node_ranks = regular_node_ranks(s, node);
        const exchange_partners inside = exchange_within_node(node);
        const exchange_partners across = exchange_across_nodes(s->comm, node_ranks);
        c->nodes = s->ranks / node_ranks;
        c->machine.memory_bandwidth = copy_rate(s, &memory, c->threads) / c->threads / c->cpu_share;
        if (node_ranks > 1) {
            c->machine.barrier_seconds = mean_over_ranks(s->comm, barrier_seconds(node, 200, SAMPLES));
            measure_link(s, &inside, &memory, &x, c->node, &c->machine.node);
        }
        if (node_ranks < s->ranks) measure_link(s, &across, &memory, &x, c->network, &c->machine.network);
    }
    exchange_memory_destroy(&memory);
    kernel_data_destroy(&data);
    MPI_Comm_free(&node);
}

bool calibration_measure(const session *s, const attention_kernel *kernel, int threads, calibration *c, failure *f)
{
    const double contenders = (double)threads * launch_sharing_ranks(s->comm), cpus = launch_allowed_cpus();
    *c = (calibration){.kernel = kernel->name, .ranks = s->ranks, .threads = threads};
    c->cpu_share = mean_over_ranks(s->comm, contenders > cpus ? cpus / contenders : 1);
    measure_folds(s, kernel, c, f);
    if (f->status == LONGSPAN_OK) measure_links(s, kernel, c, f);
    return f->status == LONGSPAN_OK;
}
