/* Longspan: exact attention over sequences that are sharded over MPI ranks.
 *
 *     out[b,i,h,:] = sum_j exp(s_ij - lse[b,i,h]) v[b,j,g,:],
 *     s_ij         = cap(scale * q[b,i,h,:] . k[b,j,g,:]) - slope_h |p_i - j|,
 *     lse[b,i,h]   = log(exp(sink_h) + sum_j exp(s_ij)),   j over the keys that query i may see,  g = h / (H / G),
 *
 * with p_i = i + (M - N) the position of query i among the keys, cap(s) = softcap tanh(s / softcap), and q and k turned
 * by their positions first where RoPE is asked for. Cap, slopes, sinks and RoPE are left out unless they are given. With
 * relative keys r and biases u, w (Transformer-XL, arXiv 1901.02860, section 3.3; of windows: FastConformer, arXiv
 * 2305.05084) q . k is
 *
 *     (q[b,i,h,:] + u[h,:]) . k[b,j,g,:] + (q[b,i,h,:] + w[h,:]) . r[LEFT - (p_i - j),h,:]    -RIGHT <= p_i - j <= LEFT
 *
 * within the window's sides, and as above beyond them, which only global tokens reach. With `alpha`, alpha-entmax in
 * place of softmax: see longspan_problem.
 *
 * Plan and execute, as in FFTW: everything that can fail does so while planning; execute neither allocates nor
 * decides.
 *
 * Axes: B batch, N global query tokens, M global key tokens, T local tokens, H query heads, G key/value heads
 * (H % G == 0), D head size of q and k, E head size of v and out, P ranks. Tokens and element counts are int64_t,
 * bytes size_t, ranks and heads int.
 *
 * Every function that is marked collective must be called by all ranks of the context's communicator, in the same
 * order. A collective call returns the same status on every rank: a failure on one is agreed on by all before anyone
 * returns. A failure of MPI itself aborts. Outputs have the suffix _p and are set only on success. */
#ifndef LONGSPAN_H
#define LONGSPAN_H

#include <mpi.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LONGSPAN_API __attribute__((visibility("default")))
#else
#define LONGSPAN_API
#endif

typedef enum {
    LONGSPAN_OK = 0,
    LONGSPAN_ERROR_ARGUMENT = 1,    /* an argument is out of range, or two do not go together */
    LONGSPAN_ERROR_MISMATCH = 2,    /* an argument differs between ranks */
    LONGSPAN_ERROR_UNSUPPORTED = 3, /* a combination that is refused; the text names both parts */
    LONGSPAN_ERROR_MEMORY = 4,
    LONGSPAN_ERROR_IO = 5,
    LONGSPAN_ERROR_VERIFICATION = 6,
    LONGSPAN_ERROR_INTERNAL = 7,
} longspan_status;

typedef enum { LONGSPAN_FLOAT32 = 0, LONGSPAN_FLOAT16 = 1, LONGSPAN_BFLOAT16 = 2 } longspan_type;

typedef struct {
    int64_t begin, end; /* global tokens [begin, end) */
} longspan_range;

typedef struct longspan_context longspan_context;
typedef struct longspan_plan longspan_plan;
typedef struct longspan_selection longspan_selection;

/* From rank to rank, as "auto" and predictions see it. */
typedef struct {
    double latency;   /* s before a message moves */
    double bandwidth; /* byte/s that a rank receives while it sends as many; 0: the built-in link */
    double busy;      /* 0 to 1: of a transfer's time, what the folding thread spends on it */
} longspan_link;

/* What "auto" and predictions know of the machine; `longspan bench exchange` measures it. Rates are of one thread while
 * all CPUs of its node do the same. A number of 0 stands for the built-in one. Nothing but time depends on them. */
typedef struct {
    /* By arithmetic: fp32, bf16x6, bf16x3, bf16. Seconds that a score takes beside its products, and that one of its D + E
     * multiply-adds takes, where many rows share a key. */
    double score_seconds[4], product_seconds[4];
    /* By longspan_type, for 1, 4, 16 rows (tokens times query heads a key head) that share a key: seconds for one of the
     * D + E elements of a key and its value, which come from memory. */
    double few_seconds[3][3];
    double memory_bandwidth; /* byte/s read and written by one thread, of arrays larger than the caches */
    double barrier_seconds;  /* the ranks of a node wait for each other */
    longspan_link node, network;
    double memory_bytes; /* that "auto" lets a rank use; 0: as many as it likes */
} longspan_machine;

/* How a process computes. Fill with longspan_options_default, then change what differs. `threads` may differ between
 * ranks; the rest must be equal, but that only rank 0's `machine` counts. */
typedef struct {
    int threads;          /* OpenMP threads; 0: OMP_NUM_THREADS if set, else the CPUs this rank may use */
    const char *isa;      /* "auto", or the name of a kernel: "portable", "avx2", "avx512", "avx512_bf16", "amx" */
    const char *compute;  /* "auto": the fastest arithmetic that loses nothing of the type's precision, and "fp32" where
                             N H / G <= 16, since memory bounds that; or "fp32", "bf16x6", "bf16x3", "bf16", which the
                             kernel must offer */
    int share_memory;     /* 1: ranks of a node may read each other's keys in place; 0: never. Default 1 */
    /* NULL: built in. Rank 0's counts for all. Copied. */
    const longspan_machine *machine;
    /* How long a rank waits in any collective call for ranks that have not come, and for its transfers while none
     * completes, before it aborts the job; 0: for ever. Default 600. Since a rank may compute through a whole execute
     * while others wait, it is longer, once there are plans, by 4 times what the longest of them should take. */
    double stall_seconds;
    /* Called on rank 0 now and then while a plan executes, with the fraction done; NULL for none. */
    void (*progress)(void *progress_data, double fraction);
    void *progress_data;
} longspan_options;

/* What is to be computed. Fill with longspan_problem_default, then set the sizes. Must be equal on all ranks. */
typedef struct {
    int64_t batch;          /* B, default 1 */
    int64_t queries, keys;  /* N, M; keys = 0 means N */
    int heads, kv_heads;    /* H, G; kv_heads = 0 means H */
    int dim, value_dim;     /* D, E, 1 to 512; value_dim = 0 means D */
    longspan_type type;     /* of q, k, v */
    longspan_type out_type; /* of out */

    /* The mask: a key must pass all of these. Positions and chunks count from the start of the document. Arrays here
     * and below are copied. */
    int causal;                        /* key j <= p_i, or j < prefix */
    int64_t prefix;                    /* the first `prefix` keys pass `causal` for every query; needs causal */
    int64_t window_left, window_right; /* p_i - left <= j <= p_i + right; -1 (default): no limit on that side */
    int64_t chunk;                     /* > 0: with c = floor(p_i / chunk), c - left <= floor(j / chunk) <= c + right */
    int64_t chunks_left, chunks_right; /* -1 (default): no limit on that side; need chunk */
    const int64_t *documents; /* packed documents: document_count + 1 ascending offsets, 0 to N (needs N == M) */
    int64_t document_count;
    /* A sparse pattern, which a key must pass too: "sinks:4,1023", "global:256,256,0", "blocks:64", ... (README lists
     * them); NULL: none. Its tokens count from the start of each document. Needs strategy "fetch" or
     * "fetch-ring" and layout "contiguous", of which "auto" then takes one. */
    const char *pattern;
    /* For "blocks:SIZE": block i of SIZE queries sees the blocks of SIZE keys block_keys[block_offsets[i]] up to
     * block_keys[block_offsets[i + 1]], ascending. ceil(N / SIZE) + 1 offsets, or so many for each head, [H, ...], into
     * the same block_keys, head after head. Blocks count from the first token. */
    const int64_t *block_offsets, *block_keys;
    int64_t block_offset_count, block_key_count;
    /* For "selected:SIZE" and "moba:BLOCK,TOPK": which blocks each query sees. Made for a problem that is equal but for
     * this; may be destroyed once there is a plan. */
    const longspan_selection *selection;
    const int64_t *key_lengths; /* [B]: only keys j < key_lengths[b] exist for batch item b; NULL: all M */

    /* The score. */
    double scale;              /* 0 means 1 / sqrt(D) */
    double softcap;            /* 0: none */
    const float *alibi_slopes; /* [H]; NULL: none */
    const float *sinks;        /* [H]: a score that every query of head h also sees, with value 0; NULL: none */
    /* [LEFT + RIGHT + 1, H, D], relative_count rows; NULL and 0: none. Row c is of the offset p_i - j = LEFT - c, the
     * furthest past first, as NeMo has them, and projected. LEFT and RIGHT are the sides of the window, both finite: of
     * window_left and window_right (0 where that has no limit but `causal` has, without a prefix), or of the pattern
     * "global:LEFT,RIGHT,...". Not with RoPE or slopes, and no `compute` but "fp32", which "auto" then is. */
    const float *relative_keys;
    int64_t relative_count;
    const float *relative_bias_u, *relative_bias_w; /* [H, D], of content and of position; both, or NULL: 0 */
    int rope_dim;         /* even, <= D: so many elements of q and k turn, by p rope_base^(-2c / rope_dim) for pair c;
                             0: none */
    double rope_base;     /* default 10000 */
    int rope_interleaved; /* pair c is elements 2c and 2c + 1; else c and c + rope_dim / 2 */

    /* alpha-entmax instead of softmax, 1 < alpha <= 2 (2: sparsemax; arXiv 1602.02068, 1905.05702): with z_ij =
     * (alpha - 1) s_ij weights p_ij = max(z_ij - tau_i, 0)^(1 / (alpha - 1)), most of them exactly 0, and tau_i such
     * that they sum to 1. Exact. Keys travel once, then values do. Computed in fp32; no sinks. 0: softmax. */
    double alpha;
    /* With alpha: keys that are kept of a query and head, 8 B each, until tau is known; default 128, rounded up to a
     * multiple of 16. Queries with more keys of nonzero weight, at any time, are as exact, but where there are any all
     * ranks take some more passes over the keys. */
    int support;

    const char *strategy; /* "auto", or the name of one: "ring", "gather", "heads", "hybrid:4x8", ... */
    const char *layout;   /* "auto", "contiguous", "zigzag", "striped", "striped:BLOCK" */
} longspan_problem;

typedef enum { LONGSPAN_QUERIES, LONGSPAN_KEYS } longspan_axis;

/* What one execute did on this rank. Times in seconds. */
typedef struct {
    double total;    /* from entry to return */
    double compute;  /* folding, and merging where partial results travel */
    double wait;     /* waiting for transfers after the folds of a step, and for the node where memory is shared */
    double finish;   /* turning states into out and lse */
    double transfer; /* sum over steps of the time from start to completion of its transfers */
    double flops;    /* 2 (D + E), with relative keys 2 (2 D + E), with alpha 2 D, for each (query, key) pair seen, of each
                        head and batch item */
    int64_t bytes_sent, bytes_received, messages_sent;
    int64_t steps;
} longspan_timing;

/* Not collective. Defaults for every field. */
LONGSPAN_API void longspan_options_default(longspan_options *options_p);
LONGSPAN_API void longspan_problem_default(longspan_problem *problem_p);

/* Collective over comm, which is duplicated: the caller keeps its own. MPI must be initialised with
 * MPI_THREAD_FUNNELED or more, and all calls be made by the thread that initialised it. Destroy with
 * longspan_context_destroy. On failure *context_p is NULL and the text of the error is lost: only ARGUMENT (unknown or
 * unusable isa, threads < 0), MISMATCH and MEMORY are possible. */
LONGSPAN_API longspan_status longspan_context_create(MPI_Comm comm, const longspan_options *options,
                                                     longspan_context **context_p);
/* Collective. Sets the handle to NULL; a NULL handle is allowed. */
LONGSPAN_API void longspan_context_destroy(longspan_context **context_p);

/* Not collective. The text of the last error, the same on every rank, and the rank that raised it. "" and -1 if none.
 * Owned by the context, valid until its next collective call. */
LONGSPAN_API const char *longspan_context_error(const longspan_context *context);
LONGSPAN_API int longspan_context_error_rank(const longspan_context *context);
/* Not collective. A few words for a status. */
LONGSPAN_API const char *longspan_status_string(longspan_status status);
LONGSPAN_API const char *longspan_version(void);

/* A selection: for every query the blocks of SIZE keys that it sees, if the mask lets it see them; blocks count from the
 * first token. It is made before the plan, for a problem with a pattern whose blocks are selected, and every rank has
 * the lists of its own queries alone. B = 1, without key_lengths.
 *
 * Not collective. The tokens of an axis that this rank has under a selection, and under the plan that takes it. */
LONGSPAN_API longspan_range longspan_selection_tokens(const longspan_context *context, const longspan_problem *problem,
                                                      longspan_axis axis);
/* Collective. Blocks that were selected elsewhere, of the pattern "selected:SIZE": blocks [T, lists, most] of this rank's
 * queries, each list ascending, with -1 behind its last block. lists, the same on all ranks as `most` is, is 1 (for all
 * heads), G or H. Copied; a rank without queries may pass NULL. Errors: ARGUMENT, MISMATCH, UNSUPPORTED, MEMORY. */
LONGSPAN_API longspan_status longspan_selection_create(longspan_context *context, const longspan_problem *problem,
                                                       int lists, int64_t most, const int32_t *blocks,
                                                       longspan_selection **selection_p);
/* Collective. Blocks that q [T, H, D] and k [T, G, D] of this rank choose, as they are, by the pattern "moba:BLOCK,TOPK":
 * for each query head the block of p_i and, of those before it, the TOPK - 1 with the largest q . mean(k), of equal ones
 * the first (arXiv 2502.13189). The same choice at any rank count. Needs `causal` alone. Sends 4 G D bytes a block to
 * every rank. Errors as above. */
LONGSPAN_API longspan_status longspan_selection_choose(longspan_context *context, const longspan_problem *problem,
                                                       const void *q, const void *k, longspan_selection **selection_p);
/* Not collective. The lists of this rank, [T, lists, most], as above. The selection's own. */
LONGSPAN_API const int32_t *longspan_selection_blocks(const longspan_selection *selection, int *lists_p,
                                                      int64_t *most_p);
/* Not collective. Sets the handle to NULL; a NULL handle is allowed. */
LONGSPAN_API void longspan_selection_destroy(longspan_selection **selection_p);

/* Native sparse attention (arXiv 2502.11089), of a problem with the pattern "nsa:LENGTH,STRIDE,BLOCK,TOP,WINDOW" (the
 * paper's l, d, l', n, w) and `causal` alone:
 *
 *     out_i = g_i0 attention(q_i, pooled) + g_i1 attention(q_i, TOP blocks) + g_i2 attention(q_i, the last WINDOW keys)
 *
 * of each head. Pooled keys and values are means of LENGTH rows, one every STRIDE, seen once they are complete; a query
 * with none of them gets 0 for the first term. The heads of a key head select alike: the first block of BLOCK keys, the
 * own one and the one before it, and those that the pooled blocks weigh most, of equal ones the first; the same at any
 * rank count. LENGTH and BLOCK are multiples of STRIDE, LENGTH <= BLOCK, TOP >= 3. Tokens of a rank as in
 * longspan_selection_tokens. */
typedef struct longspan_nsa longspan_nsa;
/* Collective. Selects by q [T, H, D] and k [T, G, D] of this rank, which stay the caller's, and plans. Memory: 4 T H (3 E +
 * 2) bytes for three results, and the pooled rows of all ranks, 4 G (D + E) (2 M / STRIDE). Errors: ARGUMENT, MISMATCH,
 * UNSUPPORTED, MEMORY. */
LONGSPAN_API longspan_status longspan_nsa_create(longspan_context *context, const longspan_problem *problem,
                                                 const void *q, const void *k, longspan_nsa **nsa_p);
/* Collective. q and k as they were in create, v [T, G, E], gates [T, H, 3], out [T, H, E] of out_type. May be called again
 * and again. Error: ARGUMENT (a NULL array on a rank that has tokens). */
LONGSPAN_API longspan_status longspan_nsa_execute(longspan_nsa *nsa, const void *q, const void *k, const void *v,
                                                  const float *gates, void *out);
/* Not collective. The blocks that were selected, a list a key head; the handle's own. */
LONGSPAN_API const longspan_selection *longspan_nsa_selection(const longspan_nsa *nsa);
/* Not collective. What the last execute did on this rank; `wait` has the pooling of v, whose bytes are not counted. */
LONGSPAN_API void longspan_nsa_timing(const longspan_nsa *nsa, longspan_timing *timing_p);
/* Collective. Sets the handle to NULL; a NULL handle is allowed. */
LONGSPAN_API void longspan_nsa_destroy(longspan_nsa **nsa_p);

/* Collective. Allocates all that execute needs: the state of the local queries, 4 B T H (E + 2) bytes, with alpha 8 B T H
 * (support + 4) more, and the buffers of the strategy, two shards of k and v under the ring. Errors: ARGUMENT (also a
 * `compute` of the context that its
 * kernel does not offer), MISMATCH, UNSUPPORTED, MEMORY (also of shared memory). */
LONGSPAN_API longspan_status longspan_plan_create(longspan_context *context, const longspan_problem *problem,
                                                  longspan_plan **plan_p);
/* Collective. Sets the handle to NULL; a NULL handle is allowed. */
LONGSPAN_API void longspan_plan_destroy(longspan_plan **plan_p);

/* Not collective. The token ranges that this rank owns, ascending; local arrays hold their rows one after the other.
 * Writes at most `capacity` ranges and sets *count_p to how many there are; ranges may be NULL when capacity is 0. */
LONGSPAN_API longspan_status longspan_plan_rows(const longspan_plan *plan, longspan_axis axis, longspan_range *ranges,
                                                int64_t capacity, int64_t *count_p);
/* Not collective. Arrays of the plan's own for this rank's k [B, T, G, D] and v [B, T, G, E], which execute reads in
 * place: under a strategy that shares memory among the ranks of a node, any other array costs a copy and its memory.
 * Valid until the plan is destroyed; no other rank writes them. Both NULL where the strategy has no use for that. */
LONGSPAN_API void longspan_plan_key_arrays(const longspan_plan *plan, void **k_p, void **v_p);
/* Not collective. T: the number of local tokens on an axis. */
LONGSPAN_API int64_t longspan_plan_tokens(const longspan_plan *plan, longspan_axis axis);

/* Collective. Local arrays, contiguous: q [B, T, H, D], k [B, T, G, D], v [B, T, G, E] of the problem's type (T of
 * queries and of keys), out [B, T, H, E] of out_type, lse [B, T, H] float32 (natural logarithm) or NULL. Inputs are not
 * changed and stay the caller's; out and lse must not overlap them. A rank without tokens may pass NULL. A query that
 * sees no key gives out 0 and lse -inf. May be called again and again. Error: ARGUMENT (a NULL array on a rank that has
 * tokens).
 * With alpha lse becomes tau, in units of z; -inf where a query sees no key. A value of weight 0 is not looked at: NaN
 * or Inf in it reaches the queries that give it weight, and no others. */
LONGSPAN_API longspan_status longspan_plan_execute(longspan_plan *plan, const void *q, const void *k, const void *v,
                                                   void *out, float *lse);
/* Not collective. What the last execute did on this rank. */
LONGSPAN_API void longspan_plan_timing(const longspan_plan *plan, longspan_timing *timing_p);

/* The linear family: a state of fixed size instead of keys and values, exact recurrences in chunks (kernels/linear.h has
 * the equations and what each variant asks for). Tokens are in a contiguous layout whose shards begin on multiples of
 * 64; ranks exchange states, so that the traffic does not depend on N.
 *
 * Axes as above; F features and W value columns of a state: longspan_linear_plan_state_shape. H is the largest of the
 * head counts, of which the others are divisors: head h reads head h / (H / n) of an array with n heads. */
typedef struct longspan_linear_plan longspan_linear_plan;

/* Fill with longspan_linear_problem_default, then set the sizes. Must be equal on all ranks. */
typedef struct {
    const char *attention;          /* the variant: "retention", "gated-delta", ...; longspan_linear_variant_name */
    int64_t batch, tokens;          /* B, default 1; N */
    int heads, k_heads, v_heads;    /* of q, k, v; 0 of k and v means as q */
    int dim, value_dim;             /* D, E, 1 to 512; value_dim = 0 means D */
    longspan_type type, out_type;   /* of q, k, v; of out */
    int causal;                     /* default 1; 0: every token reads the state of all, where the variant has that */
    const int64_t *documents;       /* packed documents, as in longspan_problem; each begins with nothing */
    int64_t document_count;
    double scale;                   /* 0: the variant's own, 1 / sqrt(D) or 1 */
    /* Of some variants, copied; NULL for the others, else an error. */
    const float *head_log_decay;    /* [H]: lightning */
    const float *bonus;             /* [H, D]: rwkv6 */
    const float *features;          /* [feature_count, D]: favor */
    int feature_count;
    const char *strategy;           /* "auto", "chain", "gather", "scan", "allreduce" */
} longspan_linear_problem;

/* A state between two parts of a stream. The reference is what the exponents of favor and efficient are counted from;
 * R = 0, and NULL, for the others. */
typedef struct {
    double *sums;      /* [B, H, F, W] */
    double *reference; /* [B, H, R] */
} longspan_linear_state;

/* This rank's arrays: q [B, T, heads, D], k [B, T, k_heads, D], v [B, T, v_heads, E] of the problem's type; log_decay
 * [B, T, H] or [B, T, H, D] and beta [B, T, H] where the variant has them, else NULL. */
typedef struct {
    const void *q, *k, *v;
    const float *log_decay, *beta;
    const longspan_linear_state *initial; /* read on the rank that has token 0; NULL: nothing seen. Causal only */
    longspan_linear_state *final;         /* written on the rank that has token N - 1; NULL: not wanted. Causal only */
} longspan_linear_arrays;

/* Not collective. Names and a line about each variant, index from 0 up; NULL at the end. */
LONGSPAN_API const char *longspan_linear_variant_name(int index);
LONGSPAN_API const char *longspan_linear_variant_summary(int index);
LONGSPAN_API void longspan_linear_problem_default(longspan_linear_problem *problem_p);
/* Collective. As longspan_plan_create. Memory: 8 B H F W bytes for each state that the strategy holds, one under the chain,
 * and where outputs wait unfinished 4 B T H W bytes, under the delta rule 4 B T H (W + D). UNSUPPORTED also where the
 * context's `compute` is neither "auto" nor "fp32", which is all that the family has. */
LONGSPAN_API longspan_status longspan_linear_plan_create(longspan_context *context,
                                                         const longspan_linear_problem *problem,
                                                         longspan_linear_plan **plan_p);
/* Collective. Sets the handle to NULL; a NULL handle is allowed. */
LONGSPAN_API void longspan_linear_plan_destroy(longspan_linear_plan **plan_p);
/* Not collective. The tokens that this rank owns: one range, perhaps empty. */
LONGSPAN_API longspan_range longspan_linear_plan_rows(const longspan_linear_plan *plan);
/* Not collective. F, W and R of a state, and the rank that has its first and its last token. */
LONGSPAN_API void longspan_linear_plan_state_shape(const longspan_linear_plan *plan, int *features_p, int *width_p,
                                                   int *reference_p);
LONGSPAN_API int longspan_linear_plan_first_rank(const longspan_linear_plan *plan);
LONGSPAN_API int longspan_linear_plan_last_rank(const longspan_linear_plan *plan);
/* Collective. out [B, T, H, E] of out_type. Inputs are not changed and stay the caller's; a rank without tokens may pass
 * NULL. initial and final must be given on all ranks or on none; their arrays are looked at on the rank that reads or
 * writes them. May be called again and again. Errors: ARGUMENT (a NULL array on a rank that has tokens, one that the
 * variant has no use for), MISMATCH. */
LONGSPAN_API longspan_status longspan_linear_plan_execute(longspan_linear_plan *plan,
                                                          const longspan_linear_arrays *arrays, void *out);
/* Not collective. As longspan_plan_timing; flops are those of the chunked form, and bytes those of states: where R > 0 the
 * largest exponents [B, H, R] of all ranks are reduced besides. */
LONGSPAN_API void longspan_linear_plan_timing(const longspan_linear_plan *plan, longspan_timing *timing_p);

/* Moving the rows of any tensor from one layout to another, so that a file can be read and written in one order and
 * computed on in another. Must be equal on all ranks. */
typedef struct longspan_relayout longspan_relayout;

typedef struct {
    int64_t batch, tokens; /* B, N */
    size_t row_bytes;      /* of one token of one batch item */
    const char *from, *to; /* layouts: "contiguous", "zigzag", "striped", "striped:BLOCK" */
} longspan_relayout_problem;

typedef enum { LONGSPAN_FROM, LONGSPAN_TO } longspan_relayout_side;

/* Collective. Local tokens of a side are those that a plan of N tokens in that layout has. Errors: ARGUMENT, MISMATCH,
 * MEMORY. */
LONGSPAN_API longspan_status longspan_relayout_create(longspan_context *context,
                                                      const longspan_relayout_problem *problem,
                                                      longspan_relayout **relayout_p);
/* Collective. Sets the handle to NULL; a NULL handle is allowed. */
LONGSPAN_API void longspan_relayout_destroy(longspan_relayout **relayout_p);
/* Not collective. As longspan_plan_rows and longspan_plan_tokens, of one side. */
LONGSPAN_API longspan_status longspan_relayout_rows(const longspan_relayout *relayout, longspan_relayout_side side,
                                                    longspan_range *ranges, int64_t capacity, int64_t *count_p);
LONGSPAN_API int64_t longspan_relayout_tokens(const longspan_relayout *relayout, longspan_relayout_side side);
/* Collective. Local arrays, contiguous: in [B, T of FROM, row_bytes], out [B, T of TO, row_bytes], which must not
 * overlap. A rank without tokens on a side may pass NULL. Error: ARGUMENT (a NULL array on a rank that has tokens).
 * Every row that changes ranks is sent once. */
LONGSPAN_API longspan_status longspan_relayout_execute(longspan_relayout *relayout, const void *in, void *out);

#ifdef __cplusplus
}
#endif
#endif
