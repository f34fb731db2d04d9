/* Attention problems for the tests of the kernels: made from a seed, folded by a kernel, checked by the oracle. */
#ifndef TESTS_KERNELS_PROBLEM_H
#define TESTS_KERNELS_PROBLEM_H

#include "kernels/attention.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    MASK_FULL,
    MASK_CAUSAL,       /* aligned at the last key */
    MASK_RANDOM,       /* any range a token, some empty */
    MASK_EMPTY,        /* every second token sees nothing */
    MASK_FIRST_HIDDEN, /* the first half of the keys is seen by nobody */
    MASK_COUNT
} problem_mask;

typedef enum {
    LAYOUT_TOKEN_MAJOR,
    LAYOUT_HEAD_MAJOR,
    LAYOUT_GAPS, /* token-major, each row in a longer one */
    LAYOUT_COUNT
} problem_layout;

typedef enum {
    PLACES_NUMBERED, /* a key's number is its position; query t is at that of key t + keys - tokens */
    PLACES_STRIPED,  /* stripes of 5 tokens, every third of the sequence's, from position 2^31 - 500 on */
    PLACES_COUNT
} problem_places;

typedef struct {
    kernel_type type;
    int heads, kv_heads, dim, value_dim;
    int64_t tokens, keys;
    int64_t window;    /* > 0: MASK_CAUSAL sees so many keys before its own, no more */
    int64_t first_key; /* sequence position of the first key */
    float query_scale; /* queries are normal deviates times this */
    problem_mask mask;
    problem_layout layout;
    float softcap;
    bool sloped;  /* slopes 2^(-8 (h + 1) / H), arXiv 2108.12409, section 3 */
    int rope_dim; /* frequencies 10000^(-2c / rope_dim) */
    bool rope_interleaved;
    bool relative; /* a table of offsets -relative_right to relative_left, u and w, all normal deviates */
    int relative_left, relative_right;
    problem_places places;
    uint64_t seed;
} problem_shape;

typedef struct {
    void *data;
    int64_t token_stride, head_stride;
} problem_array;

typedef struct {
    problem_shape shape;
    float scale; /* 1 / sqrt(D) */
    problem_array q, k, v;
    int64_t *visible_begin, *visible_end;
    int64_t *query_positions, *key_positions;
    float *slopes;
    double *rope_frequencies;
    float *relative_keys, *relative_u, *relative_w; /* [C, H, D], [H, D] */
    attention_relative relative;                    /* but for its workspace */
} problem;

/* How a fold is cut up; zeros mean one thread, one span, one segment, no poll. */
typedef struct {
    int threads;
    int64_t span_tokens, segment_keys;
    int lists; /* > 0: a span for each so many lists of rows of a key head, the first of a few rows */
    bool chained; /* of each list two thirds of its rows against each segment, spans that follow each other; or */
    bool apart;   /* these spans in calls of their own */
    bool look_inside; /* also where the mask hides nothing */
    void (*poll)(void *data, double fraction);
    void *poll_data;
    void (*mark)(void *mark_data, int thread, bool begin); /* with poll_data */
} fold_cut;

/* Deviates from a 64-bit state: uniform in [0, 1), normal. */
double random_uniform(uint64_t *state);
double random_normal(uint64_t *state);

problem problem_create(const problem_shape *shape);
void problem_destroy(problem *p);

double problem_get(const problem *p, const problem_array *array, int64_t token, int head, int element);
void problem_set(const problem *p, const problem_array *array, int64_t token, int head, int element, float value);

bool problem_sees(const problem *p, int64_t token, int64_t key);

/* out [E] and *lse of one row, from the oracle. */
void problem_reference(const problem *p, int64_t token, int head, double *out, double *lse);

attention_state state_create(int64_t rows, int value_dim);
void state_destroy(attention_state *state);
bool states_equal(attention_state a, attention_state b, int64_t rows, int value_dim);

/* Adds all keys of the problem to the state. */
void problem_fold(const problem *p, const attention_kernel *kernel, const fold_cut *cut, attention_state state);
/* Adds the keys of indices [begin, end). */
void problem_fold_keys(const problem *p, const attention_kernel *kernel, const fold_cut *cut, int64_t begin,
                       int64_t end, attention_state state);
/* A fresh state with all keys folded. */
attention_state problem_state(const problem *p, const attention_kernel *kernel, const fold_cut *cut);

/* Fails the test unless `state` finishes as the oracle says, on about `rows` rows spread over the problem: relative RMS
 * error of out within `bound`, lse within `lse_bound` absolutely and relatively, empty rows exactly (0, -inf). */
void problem_check(const problem *p, attention_state state, int64_t rows, double bound, double lse_bound);

/* One line that names the shape and its seed. */
void problem_print(const problem *p);

/* The fold on AMX tiles, and by AVX512_BF16, with the products in plain code (tests/kernels/bf16_emulated.c): for any x86-64
 * with AVX2, or any CPU elsewhere; and for AVX-512. */
extern const attention_kernel attention_amx_emulated, attention_dots_emulated;
#if defined(__x86_64__)
extern const attention_kernel attention_amx_emulated_avx512, attention_dots_emulated_avx512;
#endif

/* The arithmetic of problem_fold, set by kernel_under_test; fp32 until then. */
extern attention_compute compute_under_test;

/* `bound`, or what the arithmetic under test costs in accuracy if that is more, for scores score_scale times larger. */
double compute_bound(float score_scale, double bound);

/* The kernel that the program's first argument names, "portable" without one, with the arithmetic of the second;
 * "amx-emulated" and "avx512_bf16-emulated" are the emulation for the widest vectors that this CPU has. Exits with 77, which ctest reports as
 * skipped, if this CPU cannot run it. */
const attention_kernel *kernel_under_test(int argc, char **argv);

#endif
