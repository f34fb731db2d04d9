/* Exact softmax attention, one run of keys at a time.
 *
 * For a query row i of query head h, with g = h / (H / G) its key/value head and S_i the keys it may see,
 *
 *     s_ij  = cap(scale * sum_d q'[i,h,d] k'[j,g,d]) - slope_h |p_i - p_j|                 j in S_i
 *     lse_i = log sum_j exp(s_ij)                             out: natural logarithm
 *     out_i = sum_j exp(s_ij - lse_i) v[j,g,:]
 *
 * where cap(s) = softcap tanh(s / softcap), or s without a cap; p are positions in the sequence; q', k' are q, k rotated
 * by their positions (RoPE), or q, k themselves; or the sum is that of attention_relative: see attention_scores.
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

/* Keys are numbered by their caller: as in the sequence, or, where a shard holds every P-th block of it, as rows of the
 * shard. Key blocks lie on the grid of multiples of this many keys in that numbering, wherever a segment starts: a
 * row's bits depend on the grid and on the order of segments, not on the rank count. */
enum { ATTENTION_KEY_BLOCK = 64 };

/* Pooled keys that are scored together. */
enum { BLOCK_SCORES_TILE = 32 };

/* Query rows of a key head that are few: reading its keys takes longer than folding them. */
enum { ATTENTION_FEW_ROWS = 16 };

/* Partial results of T tokens: o [T, R, E], m [T, R] (base 2), l [T, R], contiguous float32, R >= H rows a token, of
 * which a call's heads are the first (a call for some heads points past the others). The caller's. */
typedef struct {
    float *o, *m, *l;
    int token_rows; /* R; 0 means H */
} attention_state;

/* Keys [begin, end) of the caller's numbering and their values, at any place in memory. k points at key `begin` of head
 * 0; strides count elements; the last axis is contiguous. */
typedef struct {
    const void *k, *v;
    int64_t k_token_stride, k_head_stride;
    int64_t v_token_stride, v_head_stride;
    int64_t begin, end;
    bool look_inside; /* false: every row of the span sees every key of the segment */
    /* Position in the sequence of each key of the segment, ascending; NULL: keys are numbered by position. Read only
     * where scores depend on positions. */
    const int64_t *positions;
} attention_segment;

/* A learned bias of relative positions (Transformer-XL, Dai et al., arXiv 1901.02860, section 3.3, with the projected
 * embedding of an offset as row r; of windows: FastConformer, arXiv 2305.05084). Where -right <= p_i - p_j <= left,
 * scale * q.k becomes
 *
 *     scale * ((q[i,h,:] + u[h,:]) . k[j,g,:] + (q[i,h,:] + w[h,:]) . r[h, p_i - p_j, :])
 *
 * and it stays what it is elsewhere. Which of the two is decided pair by pair, so that a row's bits are its own. A span's
 * keys are folded segment by segment, of a segment first those before the offsets of the table, then those inside, then
 * those after. Not with RoPE, and COMPUTE_FP32 alone. All arrays are the caller's. */
typedef struct {
    int left, right;    /* >= 0; C = left + right + 1 offsets */
    const float *u, *w; /* [H, D] */
    const float *table; /* [H, attention_relative_table_floats]: what attention_relative_prepare makes of r */
    void *workspace;    /* attention_relative_workspace_size() bytes, 64-byte aligned, like the call's */
} attention_relative;

/* What a score is besides scale * q.k. All zero: nothing. */
typedef struct {
    float softcap;       /* s becomes softcap * tanh(s / softcap); 0: as it is (Gemma 2, arXiv 2408.00118, section 2) */
    const float *slopes; /* [H] ALiBi: minus slope * |p_i - p_j|, after the cap; NULL: none (arXiv 2108.12409) */
    /* RoPE (arXiv 2104.09864): of the first rope_dim elements of q and k (even; 0: none), pair c of rope_dim / 2 turns
     * by the angle p * rope_frequencies[c]. Pair c is elements (c, c + rope_dim / 2), or (2c, 2c + 1) if interleaved. */
    int rope_dim;
    bool rope_interleaved;
    const double *rope_frequencies;
    const attention_relative *relative; /* NULL: none */
} attention_scores;

/* The arithmetic of the two products of a fold; sums, exponentials and states are float32 in each. A float32 x is
 * split into bfloat16 x1 + x2 + x3; BF16X6 keeps the six products of orders i + j <= 4 and is as exact as float32,
 * BF16X3 the three of i + j <= 3, BF16 the first alone (Henry, Tang, Heinecke, arXiv 1904.06376). */
typedef enum { COMPUTE_FP32, COMPUTE_BF16X6, COMPUTE_BF16X3, COMPUTE_BF16, COMPUTE_COUNT } attention_compute;

/* Query tokens and the segments to fold into their state, in order. q points at the span's first token of head 0. */
typedef struct {
    const void *q;
    int64_t q_token_stride, q_head_stride;
    int64_t tokens;
    attention_state state;
    /* Token t sees the keys j with visible_begin[t] <= j < visible_end[t], in the numbering of keys (nothing when
     * begin >= end). Read only for segments with look_inside; may be NULL when there is none. */
    const int64_t *visible_begin, *visible_end;
    const int64_t *positions; /* [tokens] in the sequence of keys; read only where scores depend on positions */
    const attention_segment *segments;
    int segment_count;
    /* Not NULL: not all rows of the tokens, but `listed_rows` rows of key head `kv_head` alone, ascending: row r is query
     * head r % (H / G) of that key head at token r / (H / G) of the span. */
    const int64_t *listed;
    int64_t listed_rows;
    int kv_head;
    /* Of a list: its rows may be those of the span before it, which is of the same tokens and key head; a row's keys are
     * folded in the order of such spans. */
    bool follows;
} attention_span;

/* Query rows of each of its key heads, and how many these are. */
static inline int64_t attention_span_rows(const attention_span *span, int group)
{
    return span->listed ? span->listed_rows : span->tokens * group;
}

static inline int attention_span_heads(const attention_span *span, int kv_heads)
{
    return span->listed ? 1 : kv_heads;
}

/* Which row it is of the span's tokens, counted token * (H / G) + query head: row i of attention_span_rows. */
static inline int64_t attention_span_row(const attention_span *span, int64_t i)
{
    return span->listed ? span->listed[i] : i;
}

/* What all spans of a call share. */
typedef struct {
    kernel_type type;
    int heads, kv_heads, dim, value_dim;
    float scale;
    attention_scores scores;
    attention_compute compute; /* one of the kernel's */
    int threads;     /* OpenMP threads to use, >= 1 */
    void *workspace; /* attention_workspace_size() bytes, 64-byte aligned; contents need not be kept between calls */
    /* Called with poll_data by the calling thread between tiles, at most about 100 us apart, also while it waits
     * for the others, and once at the end if there was anything to fold; `fraction` of the call's tasks are finished.
     * NULL for none. */
    void (*poll)(void *poll_data, double fraction);
    void *poll_data;
    /* Called with mark_data by each thread, numbered from 0 to threads - 1, when it begins and when it ends its share of
     * the call, once each; not at all by a call that has no tasks. NULL for none. */
    void (*mark)(void *mark_data, int thread, bool begin);
    void *mark_data;
} attention_call;

/* One implementation of the fold. A row's resulting bits depend on the row, its keys and the order of its
 * segments; not on the other rows of the call, the span's bounds, or the thread count. Spans of one call must not
 * share state, but with those that they follow. NaN in a query row gives NaN in that row alone; NaN or Inf in a key or
 * value reaches exactly the rows that see it. Sets flush-to-zero on its threads while it runs and restores it. */
typedef struct {
    const char *name;  /* as in --isa */
    unsigned features; /* CPU_* bits it needs, kernels/cpu.h */
    unsigned pays_with; /* and those without which it is no faster than the one before */
    /* Speed of the products of each arithmetic over those of COMPUTE_FP32, about; 0 where it does not offer it. */
    double gain[COMPUTE_COUNT];
    void (*fold)(const attention_call *call, const attention_span *spans, int64_t span_count);
    /* scores[r][c] = q[r] . k[:, c] in float64 (kernels/block_scores.h), of `rows` rows [D] and `count` pooled keys, whose
     * element d is at k + d * stride. Strides are multiples of BLOCK_SCORES_TILE at or above `count`, and all up to them
     * may be read and written. */
    void (*block_scores)(const float *q, int rows, const float *k, int64_t stride, int dim, int64_t count,
                         double *scores, int64_t score_stride);
    double (*peak)(double seconds); /* float32 multiply-add flop/s of one thread on this ISA, measured for `seconds` */
    double (*bf16_peak)(double seconds); /* the same of products of bfloat16; NULL where it does not offer COMPUTE_BF16 */
} attention_kernel;

static inline bool attention_kernel_offers(const attention_kernel *kernel, attention_compute compute)
{
    return kernel->gain[compute] > 0;
}

/* All implementations compiled in, fastest last; the first is portable and runs anywhere. */
extern const attention_kernel *const attention_kernels[];
extern const int attention_kernel_count;

/* The kernel called `name`, or for "auto" the fastest whose features this CPU has and that pays on it. NULL if there is none of the
 * name; a kernel that this CPU cannot run is returned only for its name: see cpu_features_missing().
 * For "auto" the system is asked for AMX. */
const attention_kernel *attention_kernel_find(const char *name);

/* "fp32", "bf16x6", "bf16x3", "bf16", as in --compute. False if there is none of the name. */
const char *attention_compute_name(attention_compute compute);
bool attention_compute_from_name(const char *name, attention_compute *compute_p);

/* The fastest arithmetic of the kernel that loses nothing of the type's precision, for `rows` = T * H / G query rows a key
 * head: for float32 BF16X6, for float16 BF16X3, for bfloat16 BF16, each where the kernel offers it (BF16, which rounds the
 * weights too, where it gains twice the speed: on AMX), else FP32; and FP32
 * for ATTENTION_FEW_ROWS or fewer, which it alone shares out among threads by keys. */
attention_compute attention_compute_best(const attention_kernel *kernel, kernel_type type, int64_t rows);

/* Bytes of workspace that any kernel needs for a call of this shape, whatever its arithmetic. */
size_t attention_workspace_size(int threads, int dim, int value_dim);

/* Floats of the table of a head, for C offsets, a multiple of 16. */
size_t attention_relative_table_floats(int offsets, int dim);
/* r [C, H, D], row c of offset p_i - p_j = left - c, into table [H, attention_relative_table_floats]. */
void attention_relative_prepare(const float *r, int offsets, int heads, int dim, float *table);
/* Bytes for a call of this shape, beside attention_workspace_size. */
size_t attention_relative_workspace_size(int threads, int dim, int value_dim, int offsets);

/* state = identity for `rows` = T * H rows. */
void attention_state_clear(attention_state state, int64_t rows, int value_dim);

/* into = into (+) from, for `rows` = T * H rows; `from` is left as it was. Associative and commutative up to
 * rounding; never overflows, whatever the gap between the two m. A NaN in o stays, also where l is 0. Flushes to zero
 * like a fold, and so does attention_state_finish: denormals of float32 are 0, those of float16 are not. */
void attention_state_merge(attention_state into, attention_state from, int64_t rows, int value_dim);

/* A learned sink a head (arXiv 2309.17453; 2508.10925): a key of score sinks[h] and value 0 that every row sees, joined to
 * `rows` = T * H rows. Once a row, before finish. */
void attention_state_add_sinks(attention_state state, int64_t rows, int heads, int value_dim, const float *sinks);

/* out [rows, E] in out_type and, unless NULL, lse [rows] float32, natural logarithm. Threads over rows. */
void attention_state_finish(attention_state state, int64_t rows, int value_dim, kernel_type out_type, void *out,
                            float *lse, int threads);

#endif
