/* longspan verify: rows of a result, recomputed in float64 from its input.
 *
 * A sample of query rows is recomputed by row_oracle.h, all heads, and compared under the bound that it derives. The
 * keys are dealt out to the ranks in pieces, round-robin; each rank folds its pieces into the sum of every sampled row
 * and head, and a reduction joins the ranks. So k and v are read once over all ranks, and memory does not grow with the
 * sequence. t, what is lost where values of out's type underflow, is added to the bound of out. */
#include "runtime/cli/command.h"
#include "runtime/cli/result_file.h"
#include "runtime/cli/row_oracle.h"
#include "runtime/cli/verify.h"
#include "runtime/cli/verify_selection.h"
#include "runtime/launch.h"
#include "runtime/patience.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const options_spec spec = {
    .usage = "verify IN.h5 OUT.h5 [OPTIONS]",
    .summary =
        "Recomputes sampled rows of OUT, all heads, in float64 from IN, and compares. The mask and the scores are\n"
        "those that OUT's attributes name; blocks that q and k choose are chosen again. Prints PASSED, or FAILED and\n"
        "exits with 3. One row is drawn from each of --rows equal stretches of the sequence (64 unless given, all rows\n"
        "where there are fewer). Of a linear --attention, which OUT names: some value columns of some heads, over all\n"
        "tokens of the documents that the rows are in.",
    .example = "mpirun -np 4 longspan verify in.h5 out.h5 --rows 256",
    .least_arguments = 2,
    .most_arguments = 2,
    .takes = TAKES_ROWS | TAKES_SEED | TAKES_THREADS | TAKES_STALL_LIMIT,
};

enum {
    LEAST_ROWS = 64,
    PIECE_DOUBLES = 1 << 22,
    GROUP_DOUBLES = 1 << 21,
    MOST_PIECE_KEYS = 16384,
    MOST_ROWS = 1 << 30
};

static const double unit = 0x1p-24;

/* A group of sampled rows of one batch item, and the running sum of each (row, head). */
typedef struct {
    const int64_t *token; /* [rows], ascending */
    oracle_row *row;      /* [rows] */
    int rows, heads, most; /* most: rows that there is room for */
    int64_t sum_size;
    double *q;   /* [rows, H, D], turned */
    double *sum; /* [rows, H, sum_size] */
} sample;

/* What all groups share. */
typedef struct {
    const session *s;
    const result_file *result;
    int threads;
    int64_t piece; /* keys */
    void *raw;     /* one piece of k or v, or the rows of q or out, as stored */
    float *narrow;
    double *k, *v;   /* [piece, G, D] turned, [piece, G, E] */
    double *scratch; /* [threads, 2 piece] */
    double *top;     /* [rows, H] */
    double *stored;  /* [H, E] of one row */
    float *stored_lse;
    verify_selection selected;
} workshop;

static void read_rows(workshop *w, const tensor_file *file, const char *dataset, const tensor_shape *shape, int64_t b,
                      int64_t begin, int64_t end, double *target, failure *f)
{
    verify_read_rows(&(verify_source){file, dataset, shape}, b, begin, end, w->raw, w->narrow, target, f);
}

/* Folds keys [begin, end), which are in w->k and w->v, into every (row, head) of the group. */
static void fold_piece(workshop *w, sample *g, int64_t begin, int64_t end)
{
    const longspan_problem *p = &w->result->problem;
    const int64_t k_stride = (int64_t)p->kv_heads * p->dim, v_stride = (int64_t)p->kv_heads * p->value_dim;
    const int shared = p->heads / p->kv_heads;
#pragma omp parallel for num_threads(w->threads) schedule(static)
    for (int64_t j = begin; j < end; j++) oracle_turn(p, j, p->kv_heads, w->k + (j - begin) * k_stride);
#pragma omp parallel for num_threads(w->threads) schedule(dynamic)
    for (int i = 0; i < g->rows * g->heads; i++) {
        const int head = i % g->heads, kv_head = head / shared;
        oracle_fold(&g->row[i / g->heads], head, g->q + (int64_t)i * p->dim, w->k + (int64_t)kv_head * p->dim, k_stride,
                    w->v + (int64_t)kv_head * p->value_dim, v_stride, begin, end,
                    w->scratch + omp_get_thread_num() * 2 * w->piece, g->sum + i * g->sum_size);
    }
}

static bool group_sees(const sample *g, int64_t begin, int64_t end)
{
    for (int r = 0; r < g->rows; r++)
        for (int64_t key = begin; key < end; key++)
            if (oracle_any_sees(&g->row[r], key)) return true;
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
        if (!group_sees(g, begin, end) || turn++ % w->s->ranks != w->s->rank) continue;
        read_rows(w, input->file, "/k", &input->shapes.k, b, begin, end, w->k, f);
        read_rows(w, input->file, "/v", &input->shapes.v, b, begin, end, w->v, f);
        if (f->status == LONGSPAN_OK) fold_piece(w, g, begin, end);
    }
}

/* Collective. Joins the ranks' sums; the whole is then on rank 0. As a fold joins the keys before it, but with the
 * largest lse known to all beforehand, so that a plain sum over the ranks remains. */
static void join_ranks(const session *s, sample *g, double *top)
{
    const int n = g->rows * g->heads;
    for (int i = 0; i < n; i++) {
        const double lse = g->sum[i * g->sum_size + ORACLE_LSE];
        top[i] = isnan(lse) ? -INFINITY : lse; /* the weight carries the NaN */
    }
    wait_allreduce(MPI_IN_PLACE, top, n, MPI_DOUBLE, MPI_MAX, s->comm);
    for (int i = 0; i < n; i++) {
        double *sum = g->sum + i * g->sum_size;
        const double weight = sum[ORACLE_LSE] == -INFINITY ? 0 : exp(sum[ORACLE_LSE] - top[i]);
        for (int64_t e = ORACLE_LSE + 1; e < g->sum_size; e++) sum[e] *= weight;
        sum[ORACLE_LSE] = weight;
    }
    const bool root = s->rank == 0;
    wait_reduce(root ? MPI_IN_PLACE : g->sum, g->sum, n * (int)g->sum_size, MPI_DOUBLE, MPI_SUM, 0, s->comm);
    if (!root) return;
    for (int i = 0; i < n; i++) {
        double *sum = g->sum + i * g->sum_size;
        const double weight = sum[ORACLE_LSE];
        sum[ORACLE_LSE] = weight == 0 ? -INFINITY : top[i] + log(weight);
        if (weight == 0) continue; /* a row without keys: 0, as it began */
        for (int64_t e = ORACLE_LSE + 1; e < g->sum_size; e++) sum[e] /= weight;
    }
}

/* Rank 0: out and lse of row r of the group, which are in w->stored, against what was recomputed. */
static void compare_row(const workshop *w, const sample *g, int r, int64_t b, verdict *all)
{
    const type_limits limits = verify_limits_of(w->result->out.type);
    const int value_dim = w->result->problem.value_dim;
    for (int h = 0; h < g->heads; h++) {
        const double *sum = g->sum + (r * g->heads + h) * g->sum_size;
        const double *reference = sum + ORACLE_OUT, *spread = reference + value_dim;
        worst_case here = {.batch = b, .token = g->token[r], .head = h};
        here.bound = sum[ORACLE_SPREAD] + 4 * unit * fabs(sum[ORACLE_LSE]);
        verify_compare(all, &all->lse, here, w->stored_lse[h], sum[ORACLE_LSE], INFINITY);
        for (int e = 0; e < value_dim; e++) {
            const double value = w->stored[(int64_t)h * value_dim + e];
            here.bound = (limits.roundoff + sum[ORACLE_SPREAD]) * fabs(reference[e]) + spread[e] + limits.tiny;
            verify_compare_out(all, here, value, reference[e], &limits);
        }
    }
}

static void compare_group(workshop *w, const sample *g, int64_t b, verdict *all, failure *f)
{
    const result_file *result = w->result;
    for (int r = 0; r < g->rows && f->status == LONGSPAN_OK; r++) {
        io_error error;
        const int64_t token = g->token[r];
        read_rows(w, result->file, "/out", &result->out, b, token, token + 1, w->stored, f);
        if (f->status != LONGSPAN_OK) return;
        if (tensor_file_read_lse(result->file, &result->out, b, token, token + 1, w->stored_lse, &error)) {
            failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
            return;
        }
        compare_row(w, g, r, b, all);
    }
}

/* Collective. Recomputes and compares the group's rows of batch item b. */
static bool verify_group(workshop *w, sample *g, int64_t b, verdict *all, failure *f)
{
    const longspan_problem *p = &w->result->problem;
    const int64_t width = (int64_t)p->heads * p->dim, before = p->keys - p->queries;
    for (int r = 0; r < g->rows; r++) {
        const int64_t token = g->token[r];
        double *q = g->q + r * width;
        oracle_row_free(&g->row[r]);
        g->row[r] = oracle_row_make(p, w->result->arithmetic, b, token);
        if (p->pattern && !g->row[r].allowed) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the pattern");
        read_rows(w, w->result->input.file, "/q", &w->result->input.shapes.q, b, token, token + 1, q, f);
        oracle_turn(p, token + before, p->heads, q);
        if (w->result->selection_file && f->status == LONGSPAN_OK)
            verify_selection_row(&w->selected, w->result, token, q, &g->row[r], &all->wrong_lists, f);
        for (int h = 0; h < g->heads; h++) /* a sink counts once, whatever the rank count */
            oracle_sum_start(&g->row[r], h, p->sinks && w->s->rank == 0, g->sum + (r * g->heads + h) * g->sum_size);
    }
    fold_share(w, g, b, f);
    if (!session_agree(w->s, f)) return false;
    join_ranks(w->s, g, w->top);
    if (w->s->rank == 0) compare_group(w, g, b, all, f);
    return session_agree(w->s, f);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Collective. Buffers for groups of at most `most` rows. */
static bool workshop_open(workshop *w, sample *g, int64_t most, int64_t **tokens_p, failure *f)
{
    const longspan_problem *p = &w->result->problem;
    const int64_t heads = p->heads, widest = p->dim > p->value_dim ? p->dim : p->value_dim;
    w->piece = smaller(PIECE_DOUBLES / (p->kv_heads * (p->dim + p->value_dim)), smaller(MOST_PIECE_KEYS, p->keys));
    if (w->piece < 1) w->piece = 1;
    const int64_t in_piece = w->piece * p->kv_heads;
    const int64_t stored_most = (in_piece > heads ? in_piece : heads) * widest;
    w->raw = verify_room(stored_most, sizeof(float), f); /* float32 at most */
    w->narrow = verify_room(stored_most, sizeof *w->narrow, f);
    w->k = verify_room(in_piece * p->dim, sizeof(double), f);
    w->v = verify_room(in_piece * p->value_dim, sizeof(double), f);
    w->scratch = verify_room(w->threads * 2 * w->piece, sizeof(double), f);
    w->top = verify_room(most * heads, sizeof(double), f);
    w->stored = verify_room(heads * p->value_dim, sizeof(double), f);
    w->stored_lse = malloc((size_t)heads * sizeof *w->stored_lse);
    *g = (sample){.heads = p->heads, .sum_size = oracle_sum_size(p)};
    g->token = *tokens_p = malloc((size_t)most * sizeof *g->token);
    g->row = calloc((size_t)most, sizeof *g->row);
    g->most = g->row ? (int)most : 0;
    g->q = verify_room(most * heads * p->dim, sizeof(double), f);
    g->sum = verify_room(most * heads * g->sum_size, sizeof(double), f);
    if (!g->token || !g->row || !w->stored_lse)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the sampled rows");
    return session_agree(w->s, f);
}

static void workshop_close(workshop *w, sample *g, int64_t *tokens)
{
    free(w->raw);
    free(w->narrow);
    free(w->k);
    free(w->v);
    free(w->scratch);
    free(w->top);
    free(w->stored);
    free(w->stored_lse);
    free(tokens);
    for (int r = 0; r < g->most; r++) oracle_row_free(&g->row[r]);
    free(g->row);
    free(g->q);
    free(g->sum);
}

/* Collective. All sampled rows, group by group. */
static void verify_rows(const session *s, const result_file *result, int threads, uint64_t seed, int64_t rows,
                        verdict *all, failure *f)
{
    const longspan_problem *p = &result->problem;
    const int64_t total = p->batch * p->queries;
    int64_t most = smaller(GROUP_DOUBLES / (p->heads * (p->dim + oracle_sum_size(p))), rows), *tokens, next = 0;
    if (most < 1) most = 1;
    workshop w = {.s = s, .result = result, .threads = threads};
    sample g;
    bool going_on = workshop_open(&w, &g, most, &tokens, f) && verify_selection_open(s, result, &w.selected, f);
    while (going_on && next < rows) {
        const int64_t b = verify_sample_row(seed, next, rows, total) / p->queries;
        g.rows = 0;
        while (next < rows && g.rows < most) {
            const int64_t row = verify_sample_row(seed, next, rows, total);
            if (row / p->queries != b) break;
            tokens[g.rows++] = row % p->queries;
            next++;
        }
        going_on = verify_group(&w, &g, b, all, f);
    }
    verify_selection_free(&w.selected);
    workshop_close(&w, &g, tokens);
}

static void print_verdict(const options *o, const result_file *result, int64_t rows, const verdict *all)
{
    verify_print_head(o, &result->input.shapes.q, rows, all);
    verify_print_worst("lse", &all->lse);
    if (result->selection_is_chosen)
        printf("  %lld of %lld lists of blocks are not those of the best scores\n", (long long)all->wrong_lists,
               (long long)rows * result->problem.heads);
    verify_print_sums(all);
    printf(
        "  bound: |out - ref| <= u_out |ref| + sum_j p_j e_j (|v_j| + |ref|), |lse - ref| <= sum_j p_j e_j + 4 u "
        "|ref|,\n"
        "         e_j = u (32 + 2 sqrt(keys seen) + (2 sqrt(D) + 4) scale sum_d |q_d k_jd|), u = 2^-24, u_out %.3g;\n"
        "         e_j grows with softcap, RoPE, ALiBi and narrower arithmetic: runtime/cli/row_oracle.h\n",
        verify_limits_of(result->out.type).roundoff);
}

static void verify(session *s, const options *o, failure *f)
{
    result_file result = {0};
    if (!result_file_open(s, o->arguments[1], o->arguments[0], &result, f)) goto done;
    const int sharing = launch_sharing_ranks(s->comm);
    const int threads = o->threads ? o->threads : launch_default_threads(sharing);
    const int64_t total = result.out.batch * result.out.tokens;
    const int64_t rows = smaller(o->rows ? o->rows : LEAST_ROWS, total);
    if (result.linear) {
        verify_linear(s, o, &result, threads, rows, f);
        goto done;
    }
    if (result.alpha != 0) {
        verify_entmax(s, o, &result, threads, rows, f);
        goto done;
    }
    if (result.is_nsa) {
        verify_nsa(s, o, &result, threads, rows, f);
        goto done;
    }
    verdict all = verify_nothing();
    verify_rows(s, &result, threads, o->seed, rows, &all, f);
    if (f->status != LONGSPAN_OK) goto done;
    wait_bcast(&all, sizeof all, MPI_BYTE, 0, s->comm);
    if (s->rank == 0) print_verdict(o, &result, rows, &all);
    if (verify_failed(&all)) f->status = LONGSPAN_ERROR_VERIFICATION;
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
