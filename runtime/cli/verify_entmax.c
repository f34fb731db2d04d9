/* longspan verify of a result of sparsemax or alpha-entmax: sampled rows in float64 from the definition, all scores of
 * a row sorted. Ranks take rows in turn; of each it reads all keys and values that the row sees, and holds its scores:
 * 16 H M bytes a row, as many rows at a time as 256 MiB hold, one at least.
 *
 * The bound. With u = 2^-24 let z_j be off by at most d_j = (alpha - 1) e_j + 2 u |z_j|, e_j as in row_oracle.h, and d
 * the largest d_j of a key that can have weight, z_j > max z - 1 - 4 d_j. tau moves by no more than the z it depends
 * on: by d. So with r = 1 / (alpha - 1) and y_j = z_j - tau the weight y_j^r is between (y_j - d_j - d)_+^r and (y_j +
 * d_j + d)_+^r, and off by w_j, the further of the two. With n keys of weight, and u_out the unit roundoff of out's
 * type,
 *
 *     |out_e - reference_e| <= u_out |reference_e| + sum_j (w_j + u (8 + 4 r + 2 sqrt(n)) p_j) |v_je|,
 *     |tau - reference|     <= d + 2 u |reference|. */
#include "runtime/cli/verify.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP_BYTES = 1 << 28, PIECE_FLOATS = 1 << 21, BISECTIONS = 80 };

static const double unit = 0x1p-24;

/* One head of one sampled row. */
typedef struct {
    double *z, *error;   /* [M]; z -inf of keys that it does not see */
    double tau, spread;  /* d */
    double *out, *bound; /* [E] */
    int64_t support;
} head_row;

typedef struct {
    const session *s;
    const result_file *result;
    int threads;
    int64_t *token, rows, piece; /* of the group; keys at a time */
    oracle_row *row;
    head_row *head; /* [rows, H] */
    void *raw;
    float *narrow;
    double *q, *k;  /* [rows, H, D], [piece, G, D or E] */
    double *stored; /* [H, E] */
    float *stored_tau;
    verdict all;
} entmax_check;

static void read_rows(entmax_check *c, const tensor_file *file, const char *dataset, const tensor_shape *shape,
                      int64_t b, int64_t begin, int64_t end, double *target, failure *f)
{
    verify_read_rows(&(verify_source){file, dataset, shape}, b, begin, end, c->raw, c->narrow, target, f);
}

static bool group_sees(const entmax_check *c, int64_t begin, int64_t end)
{
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t key = begin; key < end; key++)
            if (oracle_any_sees(&c->row[r], key)) return true;
    return false;
}

/* z and d of keys [begin, end), which are in c->k. */
static void score_piece(entmax_check *c, int64_t begin, int64_t end)
{
    const longspan_problem *p = &c->result->problem;
    const int group = p->heads / p->kv_heads;
    for (int64_t j = begin; j < end; j++) oracle_turn(p, j, p->kv_heads, c->k + (j - begin) * p->kv_heads * p->dim);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t i = 0; i < c->rows * p->heads; i++) {
        const oracle_row *row = &c->row[i / p->heads];
        const int head = (int)(i % p->heads);
        head_row *h = &c->head[i];
        for (int64_t j = begin; j < end; j++) {
            const double *k = c->k + ((j - begin) * p->kv_heads + head / group) * p->dim;
            h->z[j] = -INFINITY;
            h->error[j] = 0;
            if (oracle_times(row, head, j) == 0) continue;
            h->z[j] = (p->alpha - 1) * oracle_score(row, head, c->q + i * p->dim, k, j, &h->error[j]);
            h->error[j] = (p->alpha - 1) * h->error[j] + 2 * unit * fabs(h->z[j]);
        }
    }
}

static int descending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* tau of `count` numbers in descending order; in distances from the first, of which the sum at -1 is 1 or more. */
static double threshold_of(const double *z, int64_t count, double exponent)
{
    double low = -1, high = 0;
    for (int i = 0; i < BISECTIONS; i++) {
        const double middle = low + (high - low) / 2;
        double sum = 0;
        for (int64_t j = 0; j < count && z[j] - z[0] > middle; j++) sum += pow(z[j] - z[0] - middle, exponent);
        if (sum >= 1) low = middle;
        else high = middle;
    }
    return z[0] + low;
}

/* tau, and what it may be off by. */
static void solve(head_row *h, int64_t keys, double exponent, double *sorted)
{
    int64_t count = 0;
    bool bad = false;
    h->spread = 0;
    for (int64_t j = 0; j < keys; j++) {
        bad = bad || isnan(h->z[j]) || h->z[j] == INFINITY;
        if (h->z[j] > -INFINITY) sorted[count++] = h->z[j];
    }
    h->tau = bad ? NAN : -INFINITY;
    if (bad || count == 0) return;
    qsort(sorted, (size_t)count, sizeof *sorted, descending);
    h->tau = threshold_of(sorted, count, exponent);
    for (int64_t j = 0; j < keys; j++)
        if (h->z[j] > sorted[0] - 1 - 4 * h->error[j] && h->error[j] > h->spread) h->spread = h->error[j];
    h->support = 0;
    for (int64_t j = 0; j < count && sorted[j] > h->tau; j++) h->support++;
}

static void solve_all(entmax_check *c, failure *f)
{
    const longspan_problem *p = &c->result->problem;
    double *sorted = verify_room(c->threads * p->keys, sizeof *sorted, f);
    if (!sorted) return;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t i = 0; i < c->rows * p->heads; i++)
        solve(&c->head[i], p->keys, 1 / (p->alpha - 1), sorted + omp_get_thread_num() * p->keys);
    free(sorted);
}

/* out and its bound take up the values of keys [begin, end), which are in c->k. */
static void weigh_piece(entmax_check *c, int64_t begin, int64_t end)
{
    const longspan_problem *p = &c->result->problem;
    const int group = p->heads / p->kv_heads;
    const double exponent = 1 / (p->alpha - 1);
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
    for (int64_t i = 0; i < c->rows * p->heads; i++) {
        head_row *h = &c->head[i];
        const int kv_head = (int)(i % p->heads) / group;
        const double relative = unit * (8 + 4 * exponent + 2 * sqrt((double)h->support));
        for (int64_t j = begin; j < end; j++) {
            const double *v = c->k + ((j - begin) * p->kv_heads + kv_head) * p->value_dim;
            const double y = h->z[j] - h->tau, off = h->error[j] + h->spread;
            if (!(y > -off)) continue;
            const double weight = y > 0 ? pow(y, exponent) : 0, most = pow(y + off, exponent);
            const double least = y > off ? pow(y - off, exponent) : 0;
            const double moved = (most - weight > weight - least ? most - weight : weight - least) + relative * weight;
            for (int e = 0; e < p->value_dim; e++) {
                if (weight > 0) h->out[e] += weight * v[e];
                h->bound[e] += moved * fabs(v[e]);
            }
        }
    }
}

/* A row of out and of tau against what was recomputed. */
static void compare_row(entmax_check *c, int64_t r, int64_t b)
{
    const longspan_problem *p = &c->result->problem;
    const type_limits limits = verify_limits_of(c->result->out.type);
    for (int head = 0; head < p->heads; head++) {
        const head_row *h = &c->head[r * p->heads + head];
        worst_case here = {.batch = b, .token = c->token[r], .head = head};
        here.bound = h->spread + 2 * unit * fabs(h->tau);
        verify_compare(&c->all, &c->all.lse, here, c->stored_tau[head], h->tau, INFINITY);
        for (int e = 0; e < p->value_dim; e++) {
            const double value = c->stored[(int64_t)head * p->value_dim + e];
            const double reference = isnan(h->tau) ? NAN : h->out[e];
            /* A value that is not finite, of a key that may or may not have weight. */
            if (isfinite(reference) && !isfinite(h->bound[e])) continue;
            here.bound = limits.roundoff * fabs(reference) + h->bound[e] + limits.tiny;
            verify_compare_out(&c->all, here, value, reference, &limits);
        }
    }
}

static void compare_group(entmax_check *c, int64_t b, failure *f)
{
    const result_file *result = c->result;
    for (int64_t r = 0; r < c->rows && f->status == LONGSPAN_OK; r++) {
        const int64_t token = c->token[r];
        io_error error;
        read_rows(c, result->file, "/out", &result->out, b, token, token + 1, c->stored, f);
        if (f->status != LONGSPAN_OK) return;
        if (tensor_file_read_row_values(result->file, "/threshold", &result->out, b, token, token + 1, c->stored_tau,
                                        &error))
            failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        else compare_row(c, r, b);
    }
}

/* The group's rows, of batch item b. */
static void check_group(entmax_check *c, int64_t b, failure *f)
{
    const longspan_problem *p = &c->result->problem;
    const input_file *input = &c->result->input;
    const int64_t width = (int64_t)p->heads * p->dim;
    for (int64_t r = 0; r < c->rows; r++) {
        oracle_row_free(&c->row[r]);
        c->row[r] = oracle_row_make(p, c->result->arithmetic, b, c->token[r]);
        if (p->pattern && !c->row[r].allowed) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the pattern");
        read_rows(c, input->file, "/q", &input->shapes.q, b, c->token[r], c->token[r] + 1, c->q + r * width, f);
        oracle_turn(p, c->token[r] + p->keys - p->queries, p->heads, c->q + r * width);
    }
    for (int64_t i = 0; i < c->rows * p->heads; i++) {
        memset(c->head[i].out, 0, 2 * (size_t)p->value_dim * sizeof(double));
        for (int64_t j = 0; j < p->keys; j++) c->head[i].z[j] = -INFINITY;
    }
    for (int values = 0; values < 2 && f->status == LONGSPAN_OK; values++) {
        for (int64_t begin = 0; begin < p->keys && f->status == LONGSPAN_OK; begin += c->piece) {
            const int64_t end = begin + c->piece < p->keys ? begin + c->piece : p->keys;
            if (!group_sees(c, begin, end)) continue;
            read_rows(c, input->file, values ? "/v" : "/k", values ? &input->shapes.v : &input->shapes.k, b, begin, end,
                      c->k, f);
            if (f->status == LONGSPAN_OK) (values ? weigh_piece : score_piece)(c, begin, end);
        }
        if (!values && f->status == LONGSPAN_OK) solve_all(c, f);
    }
    compare_group(c, b, f);
}

static void open_check(entmax_check *c, int64_t most, failure *f)
{
    const longspan_problem *p = &c->result->problem;
    const int64_t widest = p->dim > p->value_dim ? p->dim : p->value_dim, heads = p->heads;
    c->piece = PIECE_FLOATS / (p->kv_heads * widest) + 1;
    if (c->piece > p->keys) c->piece = p->keys;
    const int64_t in_piece = c->piece * p->kv_heads > heads ? c->piece * p->kv_heads : heads;
    c->token = verify_room(most, sizeof *c->token, f);
    c->row = calloc((size_t)most, sizeof *c->row);
    c->head = calloc((size_t)(most * heads), sizeof *c->head);
    c->raw = verify_room(in_piece * widest, sizeof(float), f);
    c->narrow = verify_room(in_piece * widest, sizeof(float), f);
    c->k = verify_room(in_piece * widest, sizeof(double), f);
    c->q = verify_room(most * heads * p->dim, sizeof(double), f);
    c->stored = verify_room(heads * p->value_dim, sizeof(double), f);
    c->stored_tau = verify_room(heads, sizeof(float), f);
    if (!c->row || !c->head) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the sampled rows");
    for (int64_t i = 0; i < most * heads && f->status == LONGSPAN_OK; i++) {
        head_row *h = &c->head[i];
        h->z = verify_room(2 * p->keys, sizeof(double), f);
        h->out = verify_room(2 * (int64_t)p->value_dim, sizeof(double), f);
        if (f->status != LONGSPAN_OK) return;
        h->error = h->z + p->keys;
        h->bound = h->out + p->value_dim;
    }
}

static void close_check(entmax_check *c, int64_t most)
{
    for (int64_t r = 0; c->row && r < most; r++) oracle_row_free(&c->row[r]);
    for (int64_t i = 0; c->head && i < most * c->result->problem.heads; i++) {
        free(c->head[i].z);
        free(c->head[i].out);
    }
    free(c->token);
    free(c->row);
    free(c->head);
    free(c->raw);
    free(c->narrow);
    free(c->k);
    free(c->q);
    free(c->stored);
    free(c->stored_tau);
}

/* This rank's share of the sampled rows: every P-th. */
static void check_rows(entmax_check *c, const options *o, int64_t rows, int64_t most, failure *f)
{
    const longspan_problem *p = &c->result->problem;
    const int64_t total = p->batch * p->queries;
    int64_t next = c->s->rank;
    while (next < rows && f->status == LONGSPAN_OK) {
        const int64_t b = verify_sample_row(o->seed, next, rows, total) / p->queries;
        for (c->rows = 0; next < rows && c->rows < most; next += c->s->ranks) {
            const int64_t row = verify_sample_row(o->seed, next, rows, total);
            if (row / p->queries != b) break;
            c->token[c->rows++] = row % p->queries;
        }
        check_group(c, b, f);
    }
}

static void print_verdict(const options *o, const entmax_check *c, int64_t rows)
{
    verify_print_head(o, &c->result->input.shapes.q, rows, &c->all);
    verify_print_worst("tau", &c->all.lse);
    verify_print_sums(&c->all);
    printf("  bound: what rounding can move of each weight and of the threshold: runtime/cli/verify_entmax.c\n");
}

void verify_entmax(const session *s, const options *o, const result_file *result, int threads, int64_t rows, failure *f)
{
    const longspan_problem *p = &result->problem;
    const int64_t row_bytes = (int64_t)p->heads * p->keys * 2 * (int64_t)sizeof(double);
    int64_t most = GROUP_BYTES / row_bytes;
    if (most < 1) most = 1;
    if (most > (rows + s->ranks - 1) / s->ranks) most = (rows + s->ranks - 1) / s->ranks;
    entmax_check c = {.s = s, .result = result, .threads = threads, .all = verify_nothing()};
    open_check(&c, most, f);
    if (session_agree(s, f)) {
        check_rows(&c, o, rows, most, f);
        if (session_agree(s, f)) verify_join(s, &c.all, f);
        if (f->status == LONGSPAN_OK && s->rank == 0) print_verdict(o, &c, rows);
        if (f->status == LONGSPAN_OK && verify_failed(&c.all)) f->status = LONGSPAN_ERROR_VERIFICATION;
    }
    close_check(&c, most);
}
