/* Exact alpha-entmax attention: weights that are exactly zero outside of a support that the scores themselves decide.
 *
 * For a query row i and the keys S_i that it may see, with scores s_ij as softmax attention has them
 * (kernels/attention.h) and 1 < alpha <= 2,
 *
 *     z_ij  = (alpha - 1) s_ij                                              j in S_i
 *     p_ij  = max(z_ij - tau_i, 0)^r,   r = 1 / (alpha - 1),   tau_i such that sum_j p_ij = 1
 *     out_i = sum_j p_ij v_j
 *
 * alpha = 2 is sparsemax, alpha towards 1 softmax. The threshold tau is in units of z. A row that sees nothing, or only
 * scores of -inf, has out 0 and tau -inf. A score that is NaN or +inf makes its row NaN, out and tau; a value of weight
 * zero is not looked at, so that NaN and Inf in a value reach the rows in whose support it is, and no others.
 * Sources: Martins & Astudillo, arXiv 1602.02068, section 2 (alpha = 2); Peters, Niculae & Martins, arXiv 1905.05702,
 * section 3 and appendix A.
 *
 * How it is found in one pass over the keys, in any order. A key enters the support at tau < z; tau >= max_j z_ij - 1,
 * since one weight is at most 1; and tau of some keys is at most tau of more keys, since each adds weight. So a row
 * keeps the keys above the bound that the keys before have set, and drops what the bound passes as it rises: in the end
 * it has a list that holds its support, from which tau follows, and the values of other keys are never touched.
 *
 * A list has room for a fixed number of keys. A row whose support is longer is full, and takes more passes over the
 * keys instead of more memory: each sums f = sum_j (z_ij - t)_+^r at a t <= tau, and t moves by the Newton step of
 * f^(1/r) = 1. That function is convex and falls, being an r-norm of the distances above t, so that t rises to tau from
 * below and never passes it, at last quadratically; for r = 1 it is linear by pieces and the steps end (Michelot 1986).
 * Meanwhile a list is begun anew above t, and should it be long enough now, the row takes that. In the last pass the
 * scores of full rows are computed once more, and weigh the values in passing.
 *
 * This layer computes and cannot fail. Held by tests/runtime/test_entmax.c. */
#ifndef KERNELS_ENTMAX_H
#define KERNELS_ENTMAX_H

#include "kernels/attention.h"

/* Nearer to 1 it is softmax in all digits of float32 that matter. */
static const double entmax_least_alpha = 1.001;

/* Keys of a list unless said otherwise, and at most. */
enum { ENTMAX_DEFAULT_SUPPORT = 128, ENTMAX_MOST_SUPPORT = 1 << 20 };

typedef enum {
    ENTMAX_OPEN,   /* takes keys */
    ENTMAX_FULL,   /* its list has overflowed in this pass */
    ENTMAX_LISTED, /* tau is known, the list is the support */
    ENTMAX_DENSE,  /* tau is known, there is no list */
    ENTMAX_NAN,
} entmax_stage;

/* A multiple of this is the room for a list, so that lists are whole vectors. */
enum { ENTMAX_LIST_UNIT = 16 };

/* What is known of rows (batch item, token, query head); the caller's, the lists on 64 bytes. */
typedef struct {
    int64_t count;
    int room;          /* keys of a list, a multiple of ENTMAX_LIST_UNIT */
    float *weights;    /* [count, room] z; of listed rows p */
    uint32_t *keys;    /* [count, room] tokens */
    int32_t *lengths;  /* [count] of the lists */
    uint8_t *stages;   /* [count] entmax_stage */
    float *bounds;     /* [count] z <= bound is not in the support; +inf where a score was */
    double *sums;      /* [count, 2] of (z - t)_+^r and of (z - t)_+^(r - 1) */
    float *high, *low; /* [count] t, at last tau: high + low */
} entmax_rows;

/* What the spans of a call share. `attention` is as in a fold, its scale, cap and slopes times (alpha - 1) ln 2, so
 * that the scores in base 2 that it stands for are z. A span's state.m points into rows->high and says with it which
 * rows the span's are; state.o is [T, R, E] as in a fold, state.l points into rows->low. Keys are the same whatever the order of
 * calls if those that are not numbered by token have positions. */
typedef struct {
    const attention_call *attention;
    entmax_rows *rows;
    double exponent; /* r */
    bool sums;       /* collect: also the sums, at the t of the rows */
} entmax_call;

/* One implementation. A row's bits depend on the row, its keys and the order of its segments; not on the other rows of
 * the call, the span's bounds or the thread count. Spans of a call must not share rows. */
typedef struct {
    const char *name; /* as of attention_kernel */
    unsigned features;
    /* Takes keys into open rows. Reads no values: value_dim of `attention` is 0. */
    void (*collect)(const entmax_call *call, const attention_span *spans, int64_t span_count);
    /* o += p v of the listed keys of listed rows. Reads neither queries nor keys. */
    void (*gather)(const entmax_call *call, const attention_span *spans, int64_t span_count);
    /* o += p v of all keys of dense rows. */
    void (*fold)(const entmax_call *call, const attention_span *spans, int64_t span_count);
} entmax_kernel;

/* The implementation for the ISA of an attention kernel; of a matrix unit that for the vectors beside it. */
const entmax_kernel *entmax_kernel_find(const char *name);

/* All rows open, nothing seen. */
void entmax_rows_clear(entmax_rows *rows);

/* Rows by what they still need. */
typedef struct {
    int64_t open, dense;
} entmax_counts;

/* After a pass over all keys: tau of open rows from their lists, of full ones, where the pass had sums, a step nearer.
 * What is still full is open again for another pass, which is to sum. Threads over rows. */
entmax_counts entmax_rows_settle(const entmax_call *call);

/* o [count, E] to out in out_type, and tau [count] unless NULL; NaN rows become NaN. Threads over rows. */
void entmax_rows_finish(const entmax_rows *rows, const float *o, int value_dim, kernel_type out_type, void *out,
                        float *threshold, int threads);

#endif
