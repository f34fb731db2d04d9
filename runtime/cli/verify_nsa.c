/* longspan verify of native sparse attention: sampled rows, all heads, recomputed in float64 from the definition, and
 * the selection of blocks with them.
 *
 * Each rank takes some of the rows and reads all keys before them, in pieces. The three branches are rows of
 * row_oracle.h, whose bounds are added up with their gates; pooled keys and values are rounded to float32 once more
 * than those of a file, which adds u to what is lost of a score and of a value. A list of blocks is wrong unless it has
 * the blocks that are always selected and as many others as it should, none of which weighs less than one that it has
 * not, by more than 4 delta, delta the largest error of a pooled score, u |scale| sum_d |q_d k~_d|. */
#include "runtime/cli/verify.h"
#include "runtime/nsa.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOLED, SELECTED, WINDOW, BRANCHES, PIECE_DOUBLES = 1 << 21, GROUP_DOUBLES = 1 << 24, MOST_GROUP = 16 };

static const double unit = 0x1p-24;

/* A sampled row. */
typedef struct {
    int64_t token, position;
    double *q;      /* [H, D] */
    double *gates;  /* [H, BRANCHES] */
    int32_t *lists; /* [G, most] */
    oracle_row branch[BRANCHES];
    double *sums;                 /* [BRANCHES, H, sum_size] */
    double *scores, *score_error; /* [H, pooled]; [H], the largest */
} nsa_row;

typedef struct {
    const session *s;
    const result_file *result;
    int threads;
    nsa_sizes sizes;
    int64_t pooled, piece, sum_size;
    longspan_problem problems[BRANCHES];
    tensor_shape gates;
    nsa_row rows[MOST_GROUP];
    void *raw;
    float *narrow;
    double *k, *v, *pooled_k, *pooled_v, *scratch, *stored;
} nsa_check_work;

static void read_rows(nsa_check_work *w, const tensor_file *file, const char *dataset, const tensor_shape *shape,
                      int64_t begin, int64_t end, double *target, failure *f)
{
    verify_read_rows(&(verify_source){file, dataset, shape}, 0, begin, end, w->raw, w->narrow, target, f);
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Keys of a piece with those that its pooled blocks reach into. */
static int64_t piece_keys(const nsa_check_work *w)
{
    return w->piece + (w->pooled > 0 ? w->sizes.length - w->sizes.stride : 0);
}

static void open_work(nsa_check_work *w, failure *f)
{
    const longspan_problem *p = &w->result->problem;
    const int64_t width = p->kv_heads * (p->dim + p->value_dim), stride = w->sizes.stride;
    w->pooled = nsa_pooled_count(&w->sizes, p->keys);
    w->piece = larger(smaller(PIECE_DOUBLES / width, p->keys) / stride, 1) * smaller(stride, p->keys);
    w->sum_size = oracle_sum_size(p);
    for (int i = 0; i < BRANCHES; i++) {
        w->problems[i] = *p;
        w->problems[i].pattern = NULL;
    }
    w->problems[WINDOW].window_left = w->sizes.window - 1;
    w->problems[POOLED].causal = 0;
    w->problems[POOLED].keys = w->pooled;
    const int64_t keys = piece_keys(w), widest = larger(p->dim, p->value_dim);
    const int64_t most = larger(keys * p->kv_heads * widest, (int64_t)p->heads * larger(widest, BRANCHES));
    w->raw = verify_room(most, sizeof(float), f);
    w->narrow = verify_room(most, sizeof *w->narrow, f);
    w->k = verify_room(keys * p->kv_heads * p->dim, sizeof *w->k, f);
    w->v = verify_room(keys * p->kv_heads * p->value_dim, sizeof *w->v, f);
    w->pooled_k = verify_room((w->piece / stride + 1) * p->kv_heads * p->dim, sizeof *w->k, f);
    w->pooled_v = verify_room((w->piece / stride + 1) * p->kv_heads * p->value_dim, sizeof *w->v, f);
    w->scratch = verify_room(2 * (w->piece + 1) * w->threads, sizeof *w->scratch, f);
    w->stored = verify_room((int64_t)p->heads * p->value_dim, sizeof *w->stored, f);
}

static void close_work(nsa_check_work *w)
{
    void *const arrays[] = {w->raw, w->narrow, w->k, w->v, w->pooled_k, w->pooled_v, w->scratch, w->stored};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
}

static void row_close(nsa_row *row)
{
    for (int i = 0; i < BRANCHES; i++) oracle_row_free(&row->branch[i]);
    free(row->q);
    free(row->gates);
    free(row->lists);
    free(row->sums);
    free(row->scores);
    free(row->score_error);
    *row = (nsa_row){0};
}

static void row_open(nsa_check_work *w, int64_t token, nsa_row *row, failure *f)
{
    const longspan_problem *p = &w->result->problem;
    const selection_shape *shape = &w->result->selection;
    const oracle_arithmetic given = w->result->arithmetic, pooled = {unit, 0, unit};
    io_error error;
    *row = (nsa_row){.token = token, .position = token + p->keys - p->queries};
    row->q = verify_room((int64_t)p->heads * p->dim, sizeof *row->q, f);
    row->gates = verify_room((int64_t)p->heads * BRANCHES, sizeof *row->gates, f);
    row->lists = verify_room(shape->lists * shape->most, sizeof *row->lists, f);
    row->sums = verify_room(BRANCHES * p->heads * w->sum_size, sizeof *row->sums, f);
    row->scores = verify_room(p->heads * w->pooled, sizeof *row->scores, f);
    row->score_error = verify_room(p->heads, sizeof *row->score_error, f);
    read_rows(w, w->result->input.file, "/q", &w->result->input.shapes.q, token, token + 1, row->q, f);
    read_rows(w, w->result->input.file, "/gates", &w->gates, token, token + 1, row->gates, f);
    if (f->status == LONGSPAN_OK &&
        tensor_file_read_selection(w->result->selection_file, shape, token, token + 1, row->lists, &error) != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    if (f->status != LONGSPAN_OK) return;
    const int64_t seen = nsa_pooled_seen(&w->sizes, p->keys, row->position);
    row->branch[POOLED] = (oracle_row){
        .problem = &w->problems[POOLED], .arithmetic = pooled, .end = seen, .seen = seen, .position = seen};
    row->branch[SELECTED] = oracle_row_make(&w->problems[SELECTED], given, 0, token);
    row->branch[WINDOW] = oracle_row_make(&w->problems[WINDOW], given, 0, token);
    if (!oracle_row_select(&row->branch[SELECTED], w->sizes.block, shape->lists, shape->most, row->lists))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the selected blocks of a row");
    for (int i = 0; i < BRANCHES; i++)
        for (int h = 0; h < p->heads; h++)
            oracle_sum_start(&row->branch[i], h, false, row->sums + (i * p->heads + h) * w->sum_size);
}

/* Means of the blocks [first, first + count) of one tensor, whose row 0 is key `begin`. */
static void pool(const nsa_check_work *w, const double *rows, int64_t begin, int64_t first, int64_t count,
                 int64_t width, double *pooled)
{
#pragma omp parallel for num_threads(w->threads)
    for (int64_t c = 0; c < count; c++)
        for (int64_t i = 0; i < width; i++) {
            double sum = 0;
            for (int64_t j = 0; j < w->sizes.length; j++)
                sum += rows[((first + c) * w->sizes.stride + j - begin) * width + i];
            pooled[c * width + i] = sum / (double)w->sizes.length;
        }
}

/* The scores of a head with pooled keys [first, first + count), kept for the choice. */
static void keep_scores(const nsa_check_work *w, nsa_row *row, int h, int64_t first, int64_t count)
{
    const longspan_problem *p = &w->result->problem;
    const double *k = w->pooled_k + (int64_t)(h / (p->heads / p->kv_heads)) * p->dim, *q = row->q + (int64_t)h * p->dim;
    for (int64_t c = 0; c < count; c++) {
        double score = 0, error = 0;
        for (int d = 0; d < p->dim; d++) {
            score += q[d] * k[c * p->kv_heads * p->dim + d];
            error += unit * fabs(q[d] * k[c * p->kv_heads * p->dim + d]);
        }
        row->scores[h * w->pooled + first + c] = score * p->scale;
        if (first + c < row->branch[POOLED].end)
            row->score_error[h] = fmax(row->score_error[h], error * fabs(p->scale));
    }
}

/* Everything that keys [begin, end) add to the rows. */
static void fold_piece(nsa_check_work *w, int rows, int64_t begin, int64_t end)
{
    const longspan_problem *p = &w->result->problem;
    const int group = p->heads / p->kv_heads;
    const int64_t k_stride = (int64_t)p->kv_heads * p->dim, v_stride = (int64_t)p->kv_heads * p->value_dim;
    const int64_t first = begin / w->sizes.stride;
    const int64_t count = larger(smaller((end - 1) / w->sizes.stride + 1, w->pooled) - first, 0);
    pool(w, w->k, begin, first, count, k_stride, w->pooled_k);
    pool(w, w->v, begin, first, count, v_stride, w->pooled_v);
#pragma omp parallel for num_threads(w->threads) schedule(dynamic)
    for (int i = 0; i < rows * p->heads; i++) {
        nsa_row *row = &w->rows[i / p->heads];
        const int h = i % p->heads, g = h / group;
        double *scratch = w->scratch + 2 * (w->piece + 1) * omp_get_thread_num();
        for (int branch = POOLED; branch < BRANCHES; branch++) {
            const bool pooled = branch == POOLED;
            oracle_fold(&row->branch[branch], h, row->q + (int64_t)h * p->dim,
                        (pooled ? w->pooled_k : w->k) + (int64_t)g * p->dim, k_stride,
                        (pooled ? w->pooled_v : w->v) + (int64_t)g * p->value_dim, v_stride, pooled ? first : begin,
                        pooled ? first + count : end, scratch, row->sums + (branch * p->heads + h) * w->sum_size);
        }
        keep_scores(w, row, h, first, count);
    }
}

static void fold_all(nsa_check_work *w, int rows, failure *f)
{
    const input_file *input = &w->result->input;
    const int64_t keys = w->result->problem.keys;
    int64_t last = 0;
    for (int i = 0; i < rows; i++) last = larger(last, smaller(w->rows[i].position + 1, keys));
    for (int64_t begin = 0; begin < last && f->status == LONGSPAN_OK; begin += w->piece) {
        const int64_t end = smaller(begin + w->piece, keys), reach = smaller(begin + piece_keys(w), keys);
        read_rows(w, input->file, "/k", &input->shapes.k, begin, reach, w->k, f);
        read_rows(w, input->file, "/v", &input->shapes.v, begin, reach, w->v, f);
        if (f->status == LONGSPAN_OK) fold_piece(w, rows, begin, end);
    }
}

/* What the pooled blocks weigh says of block j, equations (9) and (10). */
static double weight_of(const nsa_check_work *w, const nsa_row *row, int g, int64_t j)
{
    const longspan_problem *p = &w->result->problem;
    const int group = p->heads / p->kv_heads;
    const int64_t stretches = w->sizes.block / w->sizes.stride, parts = w->sizes.length / w->sizes.stride;
    double weight = 0;
    for (int h = g * group; h < (g + 1) * group; h++) {
        const double lse = row->sums[h * w->sum_size + ORACLE_LSE];
        for (int64_t m = 0; m < stretches; m++)
            for (int64_t n = 0; n < parts; n++) {
                const int64_t c = stretches * j + m - n;
                if (c >= 0 && c < row->branch[POOLED].end) weight += exp(row->scores[h * w->pooled + c] - lse);
            }
    }
    return weight;
}

static bool list_is_right(const nsa_check_work *w, const nsa_row *row, int g)
{
    const longspan_problem *p = &w->result->problem;
    const int64_t most = w->result->selection.most, block = w->sizes.block;
    const int64_t own = row->position < 0 ? -1 : row->position / block;
    const int32_t *list = row->lists + g * most;
    double delta = 0, least = INFINITY;
    int64_t count = 0, forced = 0;
    for (int h = g * (p->heads / p->kv_heads); h < (g + 1) * (p->heads / p->kv_heads); h++)
        delta = fmax(delta, row->score_error[h]);
    for (int64_t i = 0; i < most; i++) count += list[i] >= 0;
    for (int64_t i = 0; i < count; i++) {
        if (list[i] < 0 || list[i] > own || (i > 0 && list[i] <= list[i - 1])) return false;
        const bool always = list[i] == 0 || list[i] >= own - 1;
        forced += always;
        if (!always) least = fmin(least, weight_of(w, row, g, list[i]) * (1 + 4 * delta) + 1e-12);
    }
    if (count != smaller(w->sizes.top, own + 1) || forced != smaller(3, own + 1)) return false;
    for (int64_t j = 1, at = 0; j < own - 1; j++) {
        while (at < count && list[at] < j) at++;
        if (at < count && list[at] == j) continue;
        if (weight_of(w, row, g, j) * (1 - 4 * delta) > least) return false;
    }
    return true;
}

static void compare_row(nsa_check_work *w, const nsa_row *row, verdict *all, failure *f)
{
    const longspan_problem *p = &w->result->problem;
    const type_limits limits = verify_limits_of(w->result->out.type);
    read_rows(w, w->result->file, "/out", &w->result->out, row->token, row->token + 1, w->stored, f);
    if (f->status != LONGSPAN_OK) return;
    for (int g = 0; g < p->kv_heads; g++) all->wrong_lists += !list_is_right(w, row, g);
    for (int h = 0; h < p->heads; h++)
        for (int e = 0; e < p->value_dim; e++) {
            worst_case here = {.token = row->token, .head = h, .bound = limits.tiny};
            double reference = 0;
            for (int i = 0; i < BRANCHES; i++) {
                const double *sum = row->sums + (i * p->heads + h) * w->sum_size, gate = row->gates[h * BRANCHES + i];
                const double of_branch = sum[ORACLE_OUT + e], spread = sum[ORACLE_OUT + p->value_dim + e];
                reference += gate * of_branch;
                here.bound += fabs(gate) * ((4 * unit + sum[ORACLE_SPREAD]) * fabs(of_branch) + spread + limits.tiny);
            }
            here.bound += limits.roundoff * fabs(reference);
            verify_compare_out(all, here, w->stored[(int64_t)h * p->value_dim + e], reference, &limits);
        }
}

static void print_verdict(const options *o, const result_file *result, int64_t rows, const verdict *all)
{
    verify_print_head(o, &result->input.shapes.q, rows, all);
    printf("  %lld of %lld lists of blocks are not those of the largest weights\n", (long long)all->wrong_lists,
           (long long)rows * result->problem.kv_heads);
    verify_print_sums(all);
    printf("  bound: the sum of those of the three branches times their gates: runtime/cli/row_oracle.h\n");
}

void verify_nsa(const session *s, const options *o, const result_file *result, int threads, int64_t rows, failure *f)
{
    pattern_choice choice;
    io_error error;
    verdict all = verify_nothing();
    nsa_check_work w = {.s = s, .result = result, .threads = threads};
    if (selection_is_wanted(&result->problem, &choice)) w.sizes = nsa_sizes_of(&choice);
    if (tensor_file_shape(result->input.file, "/gates", &w.gates, &error) != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    else if (w.gates.tokens != result->problem.queries || w.gates.heads != result->problem.heads ||
             w.gates.dim != BRANCHES)
        failure_set(f, LONGSPAN_ERROR_IO, "%s: /gates has not three numbers a query and head", result->input_path);
    if (f->status == LONGSPAN_OK) open_work(&w, f);
    const int64_t kept = larger(result->problem.heads * w.pooled, 1);
    const int64_t most = larger(smaller(GROUP_DOUBLES / kept, MOST_GROUP), 1);
    for (int64_t next = s->rank; next < rows && f->status == LONGSPAN_OK;) {
        int count = 0;
        for (; next < rows && count < most && f->status == LONGSPAN_OK; next += s->ranks)
            row_open(&w, verify_sample_row(o->seed, next, rows, result->problem.queries), &w.rows[count++], f);
        if (f->status == LONGSPAN_OK) fold_all(&w, count, f);
        for (int i = 0; i < count && f->status == LONGSPAN_OK; i++) compare_row(&w, &w.rows[i], &all, f);
        for (int i = 0; i < count; i++) row_close(&w.rows[i]);
    }
    close_work(&w);
    if (!session_agree(s, f) || !verify_join(s, &all, f)) return;
    if (s->rank == 0) print_verdict(o, result, rows, &all);
    if (verify_failed(&all)) f->status = LONGSPAN_ERROR_VERIFICATION;
}
