/* longspan verify: rows of a result, recomputed in float64 from its input.
 *
 * A sample of query rows is recomputed with the oracle of kernels/reference.h, all heads. The keys are dealt out to the
 * ranks in pieces, round-robin; each rank folds its pieces into (lse, out) of every sampled row in float64, and a
 * reduction joins the ranks. So k and v are read once over all ranks, and memory does not grow with the sequence.
 *
 * The bound. Let u = 2^-24, p_j the probabilities of a row, n the keys it sees, a = max_j scale sum_d |q_d k_jd|,
 * w_e = sum_j p_j |v_je|. In float32 a score carries an error of at most u (lambda sqrt(D) + 4) a at the scale of
 * exp's argument: D products summed, a constant folded into q, the row's maximum subtracted. exp itself and the last
 * rescaling add a constant number of u; the sums over n keys add lambda sqrt(n) u of their value. lambda sqrt(n) in
 * place of n for n roundings in a row: Higham & Mary, "A new approach to probabilistic rounding error analysis", SIAM
 * J. Sci. Comput. 41(5), 2019, theorem 2.4; lambda = 2. So each weight, and the sum of the weights, is off by at most c
 * u with
 *
 *     c = 32 + 2 sqrt(n) + (2 sqrt(D) + 4) a,
 *
 * and the quotient, rounded to the type of out with unit roundoff u_out, by
 *
 *     |out_e - reference_e| <= u_out |reference_e| + 2 c u w_e + t,      |lse - reference| <= c u + 4 u |reference|,
 *
 * t being the underflow of out's type. u_out is 2^-24, 2^-11, 2^-8 for float32, float16, bfloat16. */
#include "kernels/number.h"
#include "kernels/reference.h"
#include "runtime/cli/command.h"
#include "runtime/cli/result_file.h"
#include "runtime/launch.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const options_spec spec = {
    .usage = "verify IN.h5 OUT.h5 [OPTIONS]",
    .summary =
        "Recomputes sampled rows of OUT, all heads, in float64 from IN, and compares. The mask and the scale are\n"
        "those that OUT's attributes name. Prints PASSED, or FAILED and exits with 3. One row is drawn from each of\n"
        "--rows equal stretches of the sequence (64 unless given, all rows where there are fewer).",
    .example = "mpirun -np 4 longspan verify in.h5 out.h5 --rows 256",
    .least_arguments = 2,
    .most_arguments = 2,
    .takes = TAKES_ROWS | TAKES_SEED | TAKES_THREADS,
};

enum {
    LEAST_ROWS = 64,
    PIECE_DOUBLES = 1 << 22,
    GROUP_DOUBLES = 1 << 21,
    MOST_PIECE_KEYS = 16384,
    MOST_ROWS = 1 << 30
};

static const double unit = 0x1p-24;

/* A group of sampled rows of one batch item, and the running result of each (row, head). */
typedef struct {
    const int64_t *token; /* [rows], ascending */
    range *seen;          /* [rows] keys */
    int rows, heads, dim, value_dim;
    double *q;       /* [rows, H, D] */
    double *lse;     /* [rows, H] */
    double *largest; /* [rows, H] max over keys of scale sum_d |q_d k_d| */
    double *out;     /* [rows, H, 2E]: sum_j p_j v_j, then sum_j p_j |v_j| */
} sample;

/* The worst errors found so far; rank 0 only. */
typedef struct {
    double fraction; /* of the bound; infinite where one is finite and the other is not */
    double error, bound;
    int64_t batch, token;
    int head;
} worst_case;

typedef struct {
    worst_case out, lse;
    int64_t values, over; /* values compared; beyond their bound */
    double square_error, square_reference;
} verdict;

/* What all groups share. */
typedef struct {
    const session *s;
    const result_file *result;
    int threads;
    int64_t piece; /* keys */
    void *raw;     /* one piece of k or v, or the rows of q or out, as stored */
    float *narrow;
    double *k, *v;   /* [piece, G, D], [piece, G, E] */
    double *weights; /* [threads, piece] */
    double *partial; /* [threads, E] */
} workshop;

/* A token from each of `rows` equal stretches of the B N tokens. */
static int64_t sample_row(uint64_t seed, int64_t index, int64_t rows, int64_t total)
{
    const int64_t begin = total / rows * index + total % rows * index / rows;
    const int64_t end = total / rows * (index + 1) + total % rows * (index + 1) / rows;
    /* splitmix64 (Steele, Lea & Flood, OOPSLA 2014) of the seed and the index */
    uint64_t x = seed * UINT64_C(0xD1342543DE82EF95) + (uint64_t)index * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return begin + (int64_t)((x ^ (x >> 31)) % (uint64_t)(end - begin));
}

/* Rows [begin, end) of a dataset as doubles. */
static void read_rows(workshop *w, const tensor_file *file, const char *dataset, const tensor_shape *shape, int64_t b,
                      int64_t begin, int64_t end, double *target, failure *f)
{
    const int64_t count = (end - begin) * shape->heads * shape->dim;
    io_error error;
    if (f->status != LONGSPAN_OK) return;
    if (tensor_file_read(file, dataset, shape, b, begin, end, w->raw, &error)) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return;
    }
    number_widen((kernel_type)shape->type, w->raw, w->narrow, count);
    for (int64_t i = 0; i < count; i++) target[i] = w->narrow[i];
}

/* max over the keys of |scale| sum_d |q_d k_jd|. */
static double largest_magnitude(const double *q, const double *k, int64_t k_stride, int64_t keys, int dim, double scale)
{
    double largest = 0;
    for (int64_t j = 0; j < keys; j++) {
        double sum = 0;
        for (int d = 0; d < dim; d++) sum += fabs(q[d] * k[j * k_stride + d]);
        largest = fmax(largest, sum);
    }
    return fabs(scale) * largest;
}

/* Joins the result of a piece to that of the keys before it: with both normalised, out = w out + w' out' where
 * w = exp(lse - lse_all). A NaN lse, from a NaN score, makes everything NaN. */
static void join_piece(double *lse, double *out, double piece_lse, const double *piece_out, const double *weights,
                       const double *v, int64_t v_stride, int64_t keys, int value_dim)
{
    if (piece_lse == -INFINITY) return;
    const double top = *lse > piece_lse ? *lse : piece_lse;
    const double joined = top + log(exp(*lse - top) + exp(piece_lse - top));
    const double before = exp(*lse - joined), now = exp(piece_lse - joined);
    for (int e = 0; e < value_dim; e++) {
        double magnitude = 0;
        for (int64_t j = 0; j < keys; j++) magnitude += weights[j] * fabs(v[j * v_stride + e]);
        out[e] = before * out[e] + now * piece_out[e];
        out[value_dim + e] = before * out[value_dim + e] + now * magnitude;
    }
    *lse = joined;
}

/* Folds keys [begin, end), which are in w->k and w->v, into every (row, head) of the group. */
static void fold_piece(workshop *w, sample *g, int64_t begin, int64_t end)
{
    const tensor_shape *k = &w->result->input.shapes.k, *v = &w->result->input.shapes.v;
    const int64_t k_stride = (int64_t)k->heads * k->dim, v_stride = (int64_t)v->heads * v->dim;
    const int shared = g->heads / k->heads;
    const double scale = w->result->scale;
#pragma omp parallel for num_threads(w->threads) schedule(dynamic)
    for (int i = 0; i < g->rows * g->heads; i++) {
        const int thread = omp_get_thread_num();
        const range seen = range_intersect(g->seen[i / g->heads], (range){begin, end});
        if (range_is_empty(seen)) continue;
        const int64_t first = seen.begin - begin, count = range_length(seen);
        const int kv_head = i % g->heads / shared;
        const double *q = g->q + (int64_t)i * g->dim;
        const double *keys = w->k + first * k_stride + (int64_t)kv_head * k->dim;
        const double *values = w->v + first * v_stride + (int64_t)kv_head * v->dim;
        double *weights = w->weights + thread * w->piece, *partial = w->partial + (int64_t)thread * g->value_dim;
        double lse;
        attention_reference(q, keys, k_stride, values, v_stride, count, 0, count, g->dim, g->value_dim, scale, NULL,
                            partial, &lse, weights);
        join_piece(&g->lse[i], g->out + (int64_t)i * 2 * g->value_dim, lse, partial, weights, values, v_stride, count,
                   g->value_dim);
        g->largest[i] = fmax(g->largest[i], largest_magnitude(q, keys, k_stride, count, g->dim, scale));
    }
}

static bool group_sees(const sample *g, range keys)
{
    for (int r = 0; r < g->rows; r++)
        if (!range_is_empty(range_intersect(g->seen[r], keys))) return true;
    return false;
}

/* This rank's share of the keys: every P-th of the pieces that a row of the group sees. */
static void fold_share(workshop *w, sample *g, int64_t b, failure *f)
{
    const input_file *input = &w->result->input;
    const int64_t keys = input->shapes.k.tokens;
    int64_t turn = 0;
    for (int64_t begin = 0; begin < keys && f->status == LONGSPAN_OK; begin += w->piece) {
        const int64_t end = begin + w->piece < keys ? begin + w->piece : keys;
        if (!group_sees(g, (range){begin, end}) || turn++ % w->s->ranks != w->s->rank) continue;
        read_rows(w, input->file, "/k", &input->shapes.k, b, begin, end, w->k, f);
        read_rows(w, input->file, "/v", &input->shapes.v, b, begin, end, w->v, f);
        if (f->status == LONGSPAN_OK) fold_piece(w, g, begin, end);
    }
}

/* Collective. Joins the ranks' results; the whole is then on rank 0. As in join_piece, but with the largest lse known
 * to all beforehand, so that a sum remains: out = sum_r w_r out_r / sum_r w_r, w_r = exp(lse_r - top). */
static void join_ranks(const session *s, sample *g, double *top, double *weight)
{
    const int n = g->rows * g->heads, values = 2 * g->value_dim;
    for (int i = 0; i < n; i++) top[i] = isnan(g->lse[i]) ? -INFINITY : g->lse[i]; /* the weight carries the NaN */
    MPI_Allreduce(MPI_IN_PLACE, top, n, MPI_DOUBLE, MPI_MAX, s->comm);
    for (int i = 0; i < n; i++) {
        weight[i] = g->lse[i] == -INFINITY ? 0 : exp(g->lse[i] - top[i]);
        for (int e = 0; e < values; e++) g->out[(int64_t)i * values + e] *= weight[i];
    }
    const bool root = s->rank == 0;
    MPI_Reduce(root ? MPI_IN_PLACE : weight, weight, n, MPI_DOUBLE, MPI_SUM, 0, s->comm);
    MPI_Reduce(root ? MPI_IN_PLACE : g->out, g->out, n * values, MPI_DOUBLE, MPI_SUM, 0, s->comm);
    MPI_Reduce(root ? MPI_IN_PLACE : g->largest, g->largest, n, MPI_DOUBLE, MPI_MAX, 0, s->comm);
    if (!root) return;
    for (int i = 0; i < n; i++) {
        g->lse[i] = weight[i] == 0 ? -INFINITY : top[i] + log(weight[i]);
        if (weight[i] == 0) continue; /* a row without keys: 0, as it began */
        for (int e = 0; e < values; e++) g->out[(int64_t)i * values + e] /= weight[i];
    }
}

/* One value against its reference; `here` says where it is and what its bound is. An infinite lse must be met exactly;
 * where the reference of out is not finite the value must not be either: whether it is NaN or Inf depends on the order
 * of the sums. A reference beyond `most`, the largest value of the type, may have become Inf. */
static void compare(verdict *all, worst_case *worst, worst_case here, double value, double reference, double most)
{
    const bool overflowed = isinf(value) && fabs(reference) + here.bound >= most && (value > 0) == (reference > 0);
    bool same = value == reference || (isfinite(reference) && overflowed);
    if (isnan(reference) || (isinf(reference) && isfinite(most))) same = !isfinite(value);
    here.error = same ? 0 : fabs(value - reference);
    here.fraction = same ? 0 : here.error / here.bound;
    if (!(here.fraction <= 1)) all->over++;
    if (isnan(here.fraction)) here.error = here.fraction = INFINITY;
    if (worst->token < 0 || here.fraction > worst->fraction) *worst = here;
    all->values++;
}

/* Constants of out's type: unit roundoff, largest finite value, and what is lost where values underflow (float32 and
 * bfloat16: the kernels flush subnormals, which a small l can magnify). */
typedef struct {
    double roundoff, most, tiny;
} type_limits;

static type_limits limits_of(io_type type)
{
    if (type == IO_FLOAT16) return (type_limits){0x1p-11, 65504, 0x1p-24};
    if (type == IO_BFLOAT16) return (type_limits){0x1p-8, 0x1.FEp127, 0x1p-110};
    return (type_limits){0x1p-24, 0x1.FFFFFEp127, 0x1p-110};
}

/* Rank 0: out and lse of the group's rows against what was recomputed. */
static void compare_group(workshop *w, const sample *g, int64_t b, double *stored, float *stored_lse, verdict *all,
                          failure *f)
{
    const result_file *result = w->result;
    const type_limits limits = limits_of(result->out.type);
    for (int r = 0; r < g->rows && f->status == LONGSPAN_OK; r++) {
        io_error error;
        const int64_t token = g->token[r];
        read_rows(w, result->file, "/out", &result->out, b, token, token + 1, stored, f);
        if (f->status != LONGSPAN_OK) return;
        if (tensor_file_read_lse(result->file, &result->out, b, token, token + 1, stored_lse, &error)) {
            failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
            return;
        }
        for (int h = 0; h < g->heads; h++) {
            const int i = r * g->heads + h;
            const double keys = (double)range_length(g->seen[r]);
            const double c = 32 + 2 * sqrt(keys) + (2 * sqrt(g->dim) + 4) * g->largest[i];
            const double *reference = g->out + (int64_t)i * 2 * g->value_dim, *magnitude = reference + g->value_dim;
            worst_case here = {.bound = c * unit + 4 * unit * fabs(g->lse[i]), .batch = b, .token = token, .head = h};
            compare(all, &all->lse, here, stored_lse[h], g->lse[i], INFINITY);
            for (int e = 0; e < g->value_dim; e++) {
                const double value = stored[(int64_t)h * g->value_dim + e];
                here.bound = limits.roundoff * fabs(reference[e]) + 2 * c * unit * magnitude[e] + limits.tiny;
                compare(all, &all->out, here, value, reference[e], limits.most);
                if (!isfinite(reference[e]) || !isfinite(value)) continue;
                all->square_error += (value - reference[e]) * (value - reference[e]);
                all->square_reference += reference[e] * reference[e];
            }
        }
    }
}

/* Collective. Recomputes and compares rows `token` of batch item b. */
static bool verify_group(workshop *w, sample *g, int64_t b, double *top, double *weight, double *stored,
                         float *stored_lse, verdict *all, failure *f)
{
    const result_file *result = w->result;
    const tensor_shape *q = &result->input.shapes.q;
    const int n = g->rows * g->heads;
    const int64_t width = (int64_t)q->heads * q->dim;
    for (int i = 0; i < n; i++) {
        g->lse[i] = -INFINITY;
        g->largest[i] = 0;
    }
    memset(g->out, 0, (size_t)n * 2 * (size_t)g->value_dim * sizeof *g->out);
    for (int r = 0; r < g->rows; r++) {
        g->seen[r] = mask_row(&result->mask, g->token[r]);
        read_rows(w, result->input.file, "/q", q, b, g->token[r], g->token[r] + 1, g->q + r * width, f);
    }
    fold_share(w, g, b, f);
    if (!session_agree(w->s, f)) return false;
    join_ranks(w->s, g, top, weight);
    if (w->s->rank == 0) compare_group(w, g, b, stored, stored_lse, all, f);
    return session_agree(w->s, f);
}

static double *doubles(int64_t count, failure *f)
{
    double *memory = malloc((size_t)count * sizeof *memory);
    if (!memory)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: %.1f MiB for the recomputation",
                    (double)count * sizeof *memory / 1048576);
    return memory;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Collective. All sampled rows, group by group. */
static void verify_rows(const session *s, const result_file *result, int threads, uint64_t seed, int64_t rows,
                        verdict *all, failure *f)
{
    const tensor_shape *q = &result->input.shapes.q, *k = &result->input.shapes.k, *v = &result->input.shapes.v;
    const int64_t total = q->batch * q->tokens, heads = q->heads, dim = q->dim, value_dim = v->dim;
    const int64_t widest = dim > value_dim ? dim : value_dim;
    int64_t most = smaller(GROUP_DOUBLES / (heads * (dim + 2 * value_dim)), rows);
    if (most < 1) most = 1;
    workshop w = {.s = s, .result = result, .threads = threads};
    w.piece = smaller(PIECE_DOUBLES / (k->heads * (dim + value_dim)), smaller(MOST_PIECE_KEYS, k->tokens));
    if (w.piece < 1) w.piece = 1;

    const int64_t stored_most = (w.piece * k->heads > heads ? w.piece * k->heads : heads) * widest;
    w.raw = doubles((stored_most + 1) / 2, f); /* float32 at most */
    w.narrow = w.raw ? (float *)doubles((stored_most + 1) / 2, f) : NULL;
    w.k = doubles(w.piece * k->heads * dim, f);
    w.v = doubles(w.piece * k->heads * value_dim, f);
    w.weights = doubles(threads * w.piece, f);
    w.partial = doubles(threads * value_dim, f);
    sample g = {.heads = (int)heads, .dim = (int)dim, .value_dim = (int)value_dim};
    int64_t *tokens = malloc((size_t)most * sizeof *tokens);
    g.seen = malloc((size_t)most * sizeof *g.seen);
    g.q = doubles(most * heads * dim, f);
    g.lse = doubles(most * heads, f);
    g.largest = doubles(most * heads, f);
    g.out = doubles(most * heads * 2 * value_dim, f);
    double *top = doubles(most * heads, f), *weight = doubles(most * heads, f), *stored = doubles(heads * value_dim, f);
    float *stored_lse = malloc((size_t)heads * sizeof *stored_lse);
    if (!tokens || !g.seen || !stored_lse) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the sampled rows");
    if (!session_agree(s, f)) goto done;

    g.token = tokens;
    int64_t next = 0;
    while (next < rows) {
        const int64_t b = sample_row(seed, next, rows, total) / q->tokens;
        g.rows = 0;
        while (next < rows && g.rows < most) {
            const int64_t row = sample_row(seed, next, rows, total);
            if (row / q->tokens != b) break;
            tokens[g.rows++] = row % q->tokens;
            next++;
        }
        if (!verify_group(&w, &g, b, top, weight, stored, stored_lse, all, f)) goto done;
    }
done:
    free(w.raw);
    free(w.narrow);
    free(w.k);
    free(w.v);
    free(w.weights);
    free(w.partial);
    free(tokens);
    free(g.seen);
    free(g.q);
    free(g.lse);
    free(g.largest);
    free(g.out);
    free(top);
    free(weight);
    free(stored);
    free(stored_lse);
}

static void print_worst(const char *name, const worst_case *c)
{
    printf("  %-4s  largest error %.3g of its bound: |error| %.3g, bound %.3g, at batch %lld, token %lld, head %d\n",
           name, c->fraction, c->error, c->bound, (long long)c->batch, (long long)c->token, c->head);
}

static void print_verdict(const options *o, const result_file *result, int64_t rows, const verdict *all)
{
    const tensor_shape *q = &result->input.shapes.q;
    const double rms =
        all->square_reference > 0 ? sqrt(all->square_error / all->square_reference) : sqrt(all->square_error);
    printf("%s: %s\n", o->arguments[1], all->over ? "FAILED" : "PASSED");
    printf("  %lld of %lld rows x %d heads recomputed in float64 from %s, seed %llu\n", (long long)rows,
           (long long)(q->batch * q->tokens), q->heads, o->arguments[0], (unsigned long long)o->seed);
    print_worst("out", &all->out);
    print_worst("lse", &all->lse);
    printf("  relative RMS error of out over these rows: %.3g\n", rms);
    if (all->over)
        printf("  %lld of %lld values are beyond their bound\n", (long long)all->over, (long long)all->values);
    printf("  bound: |out - ref| <= u_out |ref| + 2 c u sum_j p_j |v_j|, |lse - ref| <= c u + 4 u |ref|, u = 2^-24,\n"
           "         u_out %.3g, c = 32 + 2 sqrt(keys seen) + (2 sqrt(D) + 4) max_j scale sum_d |q_d k_jd|\n",
           limits_of(result->out.type).roundoff);
}

static void verify(session *s, const options *o, failure *f)
{
    result_file result = {0};
    if (!result_file_open(s, o->arguments[1], o->arguments[0], &result, f)) goto done;
    const int sharing = launch_sharing_ranks(s->comm);
    const int threads = o->threads ? o->threads : launch_default_threads(sharing);
    const int64_t total = result.out.batch * result.out.tokens;
    const int64_t rows = smaller(o->rows ? o->rows : LEAST_ROWS, total);
    verdict all = {.out.token = -1, .lse.token = -1};
    verify_rows(s, &result, threads, o->seed, rows, &all, f);
    if (f->status != LONGSPAN_OK) goto done;
    MPI_Bcast(&all, sizeof all, MPI_BYTE, 0, s->comm);
    if (s->rank == 0) print_verdict(o, &result, rows, &all);
    if (all.over) f->status = LONGSPAN_ERROR_VERIFICATION;
done:
    result_file_close(&result);
}

static exit_status run(session *s, options *o)
{
    failure f = {0};
    if (o->rows && (o->rows < LEAST_ROWS || o->rows > MOST_ROWS))
        return options_refuse(s, "--rows: from %d to %d", LEAST_ROWS, MOST_ROWS);
    verify(s, o, &f);
    return session_exit_status(&f);
}

const command command_verify = {
    .name = "verify",
    .arguments = "IN.h5 OUT.h5",
    .summary = "recompute sampled rows in float64 and compare",
    .spec = &spec,
    .run = run,
};
