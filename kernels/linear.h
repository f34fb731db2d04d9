/* The linear family: attention whose past is a state of fixed size, one engine for all members.
 *
 * For a head h, its features a_t of query t and b_t of key t (both [F]), its values w_t [W] and a transition A_t of the
 * state S [F, W],
 *
 *     S_t = A_t S_(t-1) + b_t w_t^T         S_t = A_t S_(t-1) + beta_t b_t w_t^T   where the variant has a beta
 *     o_t = S_t^T a_t                       o_t = S_(t-1)^T a_t + (a_t . (u o b_t)) w_t   where it reads before it writes
 *
 * with one of
 *
 *     A_t = exp(g_t) I                      g_t = 0, a constant of the head, or one number a token
 *     A_t = Diag(exp(g_t))                  one number a token and feature
 *     A_t = (I - beta_t b_t b_t^T) Diag(exp(g_t))   the delta rule: decays first (if at all), then erases
 *
 * A log-decay g is any number from -inf (forgets all that came before, exactly) to 0; above 0 states grow. Where a
 * document begins the state is that of nothing seen.
 *
 * What features and values are, and what becomes of o, is the variant's: linear_variants.c has the table with each
 * one's source. Normalised variants have a last value column of ones, W = E + 1, whose output is the denominator.
 *
 * Every member is affine in its state, so a run of tokens is summarised by its transition A = A_n ... A_1 and by the S
 * that it makes of nothing: S_out = A S_in + S. Summaries form a monoid, not a commutative one: `fold` makes one,
 * `compose` joins two, `apply` takes in late what a run did not know at its beginning. States are float64: a sum over
 * millions of tokens keeps single precision, and a decay of 1 - 2^-20 is not rounded 10^6 times.
 *
 * Chunked form (C = LINEAR_CHUNK tokens on the grid of the sequence, products by tiles in registers): with G the running sum of g
 * within the chunk and S the state at its beginning,
 *
 *     P_ij = sum_f a_if b_jf exp(G_if - G_jf), j <= i;     o = (a o e^G) S + P w';     S' = e^(G_C) o S + (b o e^(G_C - G))^T w'
 *
 * w' = w, or for the delta rule the solution of (I + beta L) w' = beta (w - (b o e^G) S), L_ij = sum_f b_if b_jf
 * exp(G_if - G_jf), j < i. Exponents are only ever formed forwards, from an earlier token to a later one, so that they
 * do not grow: e^(-G) overflows where decays are strong.
 *
 * A unit is one head of one batch item and a block of its value columns: what a thread works on, and what travels
 * between ranks as one. Which units there are depends on the shape alone, not on threads or ranks. A unit's bits depend
 * on its tokens, the grid and the state it begins with, on nothing else.
 *
 * Axes: B batch, T local tokens, H heads of out, D head size of q and k, E of v, F features, W value columns.
 * This layer computes and cannot fail. Sources of the forms: Yang et al., arXiv 2312.06635 (chunks, vector decays) and
 * arXiv 2406.06484 (delta rule); Dao & Gu, arXiv 2405.21060 (scalar decays). Held by tests/kernels/test_linear*.c. */
#ifndef KERNELS_LINEAR_H
#define KERNELS_LINEAR_H

#include "kernels/number.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LINEAR_CHUNK = 64, LINEAR_FEATURES_MAX = 8192 };

typedef enum {
    LINEAR_MAP_NONE,      /* a = scale q, b = k */
    LINEAR_MAP_ELU,       /* elu(x) + 1 */
    LINEAR_MAP_TAYLOR,    /* [1, x / |x|] */
    LINEAR_MAP_FAVOR,     /* exp(w_i . x - |x|^2 / 2) / sqrt(m), x times sqrt(scale), i < m */
    LINEAR_MAP_BASED,     /* [1, x, x (x) x / sqrt(2)], x times sqrt(scale) */
    LINEAR_MAP_EFFICIENT, /* softmax over the features of q; of k, over the sequence */
} linear_map;

typedef enum {
    LINEAR_DECAY_NONE,
    LINEAR_DECAY_RETENTION, /* of head h log(1 - 2^(-5 - h)) */
    LINEAR_DECAY_HEAD,      /* log_decay [H] */
    LINEAR_DECAY_TOKEN,     /* log_decay [N, H] */
    LINEAR_DECAY_FEATURE,   /* log_decay [N, H, D] */
} linear_decay;

/* A member of the family. */
typedef struct {
    const char *name; /* as in --attention */
    const char *summary, *source;
    linear_map map;
    linear_decay decay;
    bool has_beta;     /* beta [N, H] */
    bool erases;       /* the delta rule */
    bool reads_before; /* and then has a bonus u [H, D] */
    bool normalised;   /* out = o[0..E) / (o[E] + epsilon), 0 where that is 0; of taylor epsilon times the sum of q / |q| */
    bool two_sided;    /* also without a causal mask: every token reads the state of all */
    bool scaled;       /* the default scale is 1 / sqrt(D), not 1 */
    double epsilon;
} linear_variant;

extern const linear_variant *const linear_variants[];
extern const int linear_variant_count;
const linear_variant *linear_variant_find(const char *name); /* NULL if there is none */

/* Sizes of a problem; the same on all ranks. Head h of H reads head h / (H / n) of an array with n heads, n dividing H. */
typedef struct {
    const linear_variant *variant;
    int64_t batch;
    int heads, q_heads, k_heads, v_heads; /* H; each of the others divides it */
    int dim, value_dim;                   /* D, E: 1 to 512 */
    int features;                         /* m of favor; else 0 */
    bool summarises; /* states carry their transition; then the delta rule has one column block a head */
} linear_shape;

int linear_feature_dim(const linear_shape *shape);    /* F */
int linear_width(const linear_shape *shape);          /* W */
int linear_column_blocks(const linear_shape *shape);  /* of a head; 1 of normalised variants */
int64_t linear_units(const linear_shape *shape);      /* unit ((b H) + h) column_blocks + block */
/* Block `block` of a head is columns [first, first + the number returned) of W. */
int linear_block_columns(const linear_shape *shape, int block, int *first_p);
/* Doubles of a unit's state: [F, columns of the block], then, if the shape summarises, the transition: log-decays [1] or
 * [F], or [F, F] under the delta rule; without decay [1] as well, 0 or what forgets. All units of a shape have room for
 * as many. */
size_t linear_state_size(const linear_shape *shape);
/* Whether two rows of references (below) are needed: of how many doubles a head; 0 for most variants. */
int linear_reference_dim(const linear_shape *shape);

/* One rank's tokens and what is to be done with them. Arrays are contiguous and the caller's; NULL where the variant has
 * no use for one. */
typedef struct {
    linear_shape shape;
    kernel_type type;          /* of q, k, v */
    kernel_type out_type;
    float scale;
    const void *q, *k, *v;     /* [B, T, q_heads, D], [B, T, k_heads, D], [B, T, v_heads, E] */
    const float *log_decay;    /* [H], [B, T, H] or [B, T, H, D] */
    const float *beta;         /* [B, T, H] */
    const float *bonus;        /* [H, D] */
    const float *features;     /* [m, D]: rows w_i of favor */
    const double *reference;   /* [B, H, reference_dim]: keys' largest exponents, over all ranks: linear_references */
    int64_t tokens;            /* T */
    int64_t first_token;       /* of the sequence: chunks lie on its grid */
    /* Documents: piece p is local tokens [pieces[p], pieces[p + 1]), pieces[0] = 0, the last T, none empty. The first may
     * go on from an earlier rank, the last on to a later one. */
    const int64_t *pieces;
    int64_t piece_count;       /* 0 where T is 0 */
    int threads;               /* OpenMP threads */
    void *workspace;           /* linear_workspace_size() bytes, 64-byte aligned */
    void (*poll)(void *poll_data, double fraction); /* as attention_call has it */
    void *poll_data;
    void (*mark)(void *mark_data, int thread, bool begin); /* likewise */
    void *mark_data;
} linear_call;

/* One implementation. States: `states` points at that of unit 0, units linear_state_size() doubles apart. */
typedef struct {
    const char *name;  /* as in --isa */
    unsigned features; /* CPU_* bits it needs */

    /* [B, H, reference_dim] = max over this rank's tokens; -inf where there are none. */
    void (*references)(const linear_call *call, double *largest);

    /* Units [begin, end) over all pieces. Each begins with its state in `states`, the first piece's, and leaves there
     * the last piece's: the caller clears what begins with nothing. Outputs are finished and go to out [B, T, H, E],
     * or, if out is NULL, go unfinished to partial [B, T, H, partial_width], to be finished later. With both NULL only
     * the state is made, of the same bits, in less than half the time where nothing is erased. */
    void (*fold)(const linear_call *call, int64_t begin, int64_t end, double *states, void *out, float *partial);

    /* Adds to partial of the first piece what its tokens read of the state that it turns out to begin with. Not of
     * efficient, whose a depend on that state. */
    void (*apply)(const linear_call *call, int64_t begin, int64_t end, const double *states, float *partial);

    /* out = finished partial, of units [begin, end). */
    void (*finish)(const linear_call *call, int64_t begin, int64_t end, const float *partial, void *out);

    /* Without a causal mask. head, tail = sums over the first and the last piece (the same where there is one). */
    void (*sum)(const linear_call *call, int64_t begin, int64_t end, double *head, double *tail);
    /* out of all tokens, whose documents' states are head for the first piece and tail for the last; of pieces between
     * them they are summed again. */
    void (*read)(const linear_call *call, int64_t begin, int64_t end, const double *head, const double *tail, void *out);
} linear_kernel;

extern const linear_kernel *const linear_kernels[];
extern const int linear_kernel_count;
/* As attention_kernel_find; "amx" and "avx512_bf16" find the AVX-512 one. */
const linear_kernel *linear_kernel_find(const char *name);

/* Floats of a row of partial: W, and under the delta rule, where states summarise, D more for what the row reads of a
 * state that it does not know yet. */
int linear_partial_width(const linear_shape *shape);

/* The state of nothing seen, of units [begin, end); its transition is the identity. */
void linear_state_clear(const linear_shape *shape, int64_t begin, int64_t end, double *states);
/* into = later o into: A = A_later A_into, S = A_later S_into + S_later. The shape summarises. Associative up to
 * rounding. */
void linear_state_compose(const linear_shape *shape, int64_t begin, int64_t end, double *into, const double *later);
/* into += from, of states without decay. */
void linear_state_add(const linear_shape *shape, int64_t begin, int64_t end, double *into, const double *from);

/* Bytes of workspace that any kernel needs. */
size_t linear_workspace_size(const linear_shape *shape, int threads);

#endif
