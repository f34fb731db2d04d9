/* One fold of one shape by one kernel, timed. */
#ifndef CLI_KERNEL_SAMPLE_H
#define CLI_KERNEL_SAMPLE_H

#include "bench/kernel_shapes.h"
#include "kernels/attention.h"
#include "runtime/agreement.h"

/* The arrays of a shape; contiguous, token-major. */
typedef struct {
    kernel_shape shape;
    void *q, *k, *v, *out;
    float *lse;
    attention_state state;
    int64_t *visible_begin, *visible_end;
    void *workspace; /* for `threads` at most */
    int threads;
} kernel_data;

/* Times in seconds, rates a second. */
typedef struct {
    double wall;       /* of emptying the state and of the fold into it */
    double finish;     /* of turning the state into out and lse */
    double cpu;        /* that all threads of the fold used together in `wall` */
    double finish_cpu; /* in `finish` */
    double peak;       /* float32 multiply-add flop/s of as many threads, measured just before */
    double bf16_peak;  /* flop/s of products of bfloat16, likewise; 0 where the kernel has none */
    double memory;     /* bytes/s at which as many threads read k and v, the best of some passes just before; 0 unless
                          decoding */
} kernel_sample;

/* Random q, k and v (those of `generate` with its default seed), for samples of at most `threads` threads. The failure
 * is kept in *f. To be destroyed in either case. */
void kernel_data_create(const kernel_shape *shape, int threads, kernel_data *data_p, failure *f);
void kernel_data_destroy(kernel_data *data);

enum { KERNEL_SHAPE_MASK_SIZE = 32 };
/* As --mask has it. */
void kernel_shape_mask_name(const kernel_shape *shape, char name[KERNEL_SHAPE_MASK_SIZE]);

/* Few enough queries that reading the keys takes longer than folding them should. */
bool kernel_shape_decodes(const kernel_shape *shape);
/* Scores that a mask lets through, over all heads. */
double kernel_shape_scores(const kernel_shape *shape);
double kernel_shape_flops(const kernel_shape *shape);
/* Bytes of k and v. */
double kernel_shape_key_bytes(const kernel_shape *shape);

/* Whether the arithmetic makes sense of numbers of the type: BF16X6 keeps what only float32 has, and so on. */
bool kernel_shape_takes(const kernel_shape *shape, attention_compute compute);

/* Collective, as report_peak is. 1 <= threads <= data->threads; the kernel offers the arithmetic. */
kernel_sample kernel_sample_take(MPI_Comm comm, const kernel_data *data, const attention_kernel *kernel,
                                 attention_compute compute, int threads);

#endif
