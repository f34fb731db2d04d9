/* Exact softmax attention, one run of keys at a time.
 *
 * For a query row i of query head h, with g = h / (H / G) its key/value head and S_i the keys it may see,
 *
 *     s_ij  = scale * sum_d q[i,h,d] k[j,g,d]                 j in S_i
 *     lse_i = log sum_j exp(s_ij)                             out: natural logarithm
 *     out_i = sum_j exp(s_ij - lse_i) v[j,g,:]
 *
 * The state of a row is (o, m, l): a reference m not below the row's largest score seen so far by more than
 * a fixed bound, l = sum_j 2^(t_ij - m) and o = sum_j 2^(t_ij - m) v_j with t_ij = s_ij log2(e). States form a monoid:
 * `fold` adds keys, `merge` joins two states, `finish` turns one into (out, lse). The identity, a row that has
 * seen nothing, is exactly (0, -inf, 0) and finishes as (0, -inf). The bound is 8: o overflows where the values of the
 * M keys are beyond FLT_MAX / (2^8 M), and t_ij where scores are beyond FLT_MAX.
 * Source: Milakov & Gimelshein, arXiv 1805.02867, section 3.1; Rabe & Staats, arXiv 2112.05682; the split into
 * partial states: Dao et al., FlashAttention, arXiv 2205.14135, section 3.1.
 *
 * Axes: T local query tokens, H query heads, G key/value heads (H % G == 0), D head size of q and k, E head size
 * of v and out; 1 <= D, E <= 512.
 *
 * This layer computes and cannot fail: no allocation, no I/O, no MPI. Callers have checked the arguments. */
#ifndef KERNELS_ATTENTION_H
#define KERNELS_ATTENTION_H

#include "kernels/number.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Key blocks lie on the grid of multiples of this many tokens, counted from key 0 of the sequence, wherever a
 * segment starts: a row's bits depend on the grid and on the order of segments, not on the rank count. */
enum { ATTENTION_KEY_BLOCK = 64 };

/* Partial results of T tokens: o [T, H, E], m [T, H] (base 2), l [T, H], contiguous float32. The caller's. */
typedef struct {
    float *o, *m, *l;
} attention_state;

/* Keys [begin, end) of the sequence and their values, at any place in memory. k points at key `begin` of head 0;
 * strides count elements; the last axis is contiguous. */
typedef struct {
    const void *k, *v;
    int64_t k_token_stride, k_head_stride;
    int64_t v_token_stride, v_head_stride;
    int64_t begin, end;
    bool look_inside; /* false: every row of the span sees every key of the segment */
} attention_segment;

/* Query tokens and the segments to fold into their state, in order. q points at the span's first token of head 0. */
typedef struct {
    const void *q;
    int64_t q_token_stride, q_head_stride;
    int64_t tokens;
    attention_state state;
    /* Token t sees the keys j with visible_begin[t] <= j < visible_end[t], in sequence positions (nothing when
     * begin >= end). Read only for segments with look_inside; may be NULL when there is none. */
    const int64_t *visible_begin, *visible_end;
    const attention_segment *segments;
    int segment_count;
} attention_span;

/* What all spans of a call share. */
typedef struct {
    kernel_type type;
    int heads, kv_heads, dim, value_dim;
    float scale;
    int threads;     /* OpenMP threads to use, >= 1 */
    void *workspace; /* attention_workspace_size() bytes, 64-byte aligned; contents need not be kept between calls */
    /* Called with poll_data by the calling thread between tiles, at most about 100 us apart, also while it waits
     * for the others; `fraction` of the call's tasks are finished. NULL for none. */
    void (*poll)(void *poll_data, double fraction);
    void *poll_data;
} attention_call;

/* One implementation of the fold. A row's resulting bits depend on the row, its keys and the order of its
 * segments; not on the other rows of the call, the span's bounds, or the thread count. Spans of one call must not
 * share state. NaN in a query row gives NaN in that row alone; NaN or Inf in a key or value reaches exactly the
 * rows that see it. Sets flush-to-zero on its threads while it runs and restores it. */
typedef struct {
    const char *name;  /* as in --isa */
    unsigned features; /* CPU_* bits it needs, kernels/cpu.h */
    void (*fold)(const attention_call *call, const attention_span *spans, int64_t span_count);
    double (*peak)(double seconds); /* float32 multiply-add flop/s of one thread on this ISA, measured for `seconds` */
} attention_kernel;

/* All implementations compiled in, fastest last; the first is portable and runs anywhere. */
extern const attention_kernel *const attention_kernels[];
extern const int attention_kernel_count;

/* The kernel called `name`, or for "auto" the fastest whose features this CPU has. NULL if there is none of the
 * name; a kernel that this CPU cannot run is returned only for its name: compare features with cpu_features(). */
const attention_kernel *attention_kernel_find(const char *name);

/* Bytes of workspace that any kernel needs for a call of this shape. */
size_t attention_workspace_size(int threads, int dim, int value_dim);

/* state = identity for `rows` = T * H rows. */
void attention_state_clear(attention_state state, int64_t rows, int value_dim);

/* into = into (+) from, for `rows` = T * H rows; `from` is left as it was. Associative and commutative up to
 * rounding; never overflows, whatever the gap between the two m. */
void attention_state_merge(attention_state into, attention_state from, int64_t rows, int value_dim);

/* out [rows, E] in out_type and, unless NULL, lse [rows] float32, natural logarithm. Threads over rows. */
void attention_state_finish(attention_state state, int64_t rows, int value_dim, kernel_type out_type, void *out,
                            float *lse, int threads);

#endif
