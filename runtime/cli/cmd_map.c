/* longspan map: a picture of where attention goes, block of queries by block of keys.
 *
 * A cell is the mean over the sampled rows of its query block, over heads and batch items, of the attention that the
 * keys of its key block get: sum_j exp(s_ij - lse_i), with lse from the result. So a row of cells sums to 1, less what
 * the sinks take, and where it does not the result does not belong to the input. The keys are dealt out to the ranks in
 * pieces and read once. */
#include "io/heat_map.h"
#include "io/output_file.h"
#include "kernels/mass.h"
#include "kernels/number.h"
#include "partition/mask.h"
#include "runtime/cli/command.h"
#include "runtime/cli/map_oracle.h"
#include "runtime/cli/result_file.h"
#include "runtime/patience.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const options_spec spec = {
    .usage = "map OUT.h5 -o MAP.svg [OPTIONS]",
    .summary = "Draws where attention goes: a picture of --blocks x --blocks cells (128 unless given), each the mean "
               "share of\n"
               "attention that a block of keys gets from --rows rows (8 unless given) of a block of queries, over all\n"
               "heads. OUT is a result of attend; q and k are read from the input that its attributes `input` and\n"
               "`input_absolute` name.",
    .example = "mpirun -np 4 longspan map out.h5 -o map.svg --blocks 256",
    .least_arguments = 1,
    .most_arguments = 1,
    .takes = TAKES_OUTPUT | TAKES_ROWS | TAKES_BLOCKS | TAKES_STALL_LIMIT,
};

enum { DEFAULT_BLOCKS = 128, DEFAULT_ROWS = 8, MOST_ROWS = 4096, PIECE_FLOATS = 1 << 22, MOST_PIECE_KEYS = 4096 };

/* How much a row of cells may differ from 1 before the result is not that of the input: float32 scores of 10^5 are off
 * by 0.01 and more. */
static const double sum_tolerance = 0.1;

typedef struct {
    int64_t rows, columns;          /* cells */
    int64_t query_block, key_block; /* tokens of a cell; the last one may have fewer */
    int samples;                    /* rows sampled in a block, at most */
    double *mass;                   /* [rows, columns], summed over samples, heads and batch items */
    int64_t *sampled;               /* [rows] how many (sample, head, batch item) are in the sum */
    double *expected;               /* [rows] what their mass should be: 1 each, less that of the sinks */
    unsigned char *seen;            /* [rows, columns] does a sampled row see a key of it? NULL: the mask says it */
} picture;

/* The sampled rows of one batch item, by query block; within a block [H, samples, D], so that a head's rows lie
 * together.
 */
typedef struct {
    float *q, *lse;       /* [rows, H, samples, D], [rows, H, samples] */
    int64_t *begin, *end; /* [rows, samples] keys seen */
    int64_t *position;    /* [rows, samples] among the keys */
    int *count;           /* [rows] samples */
    oracle_row *oracle;   /* [rows, samples] of the group; NULL where the mask and mass_scores say it all */
    void *raw;            /* one row of q, or a piece of k, as stored */
    float *wide;          /* the same as float32 */
    float *scores;        /* [samples, piece] */
    float *row_lse;       /* [H] */
    double *turned;       /* one row of q or k */
    int64_t piece;        /* keys */
} samples;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Sample i of n in tokens [begin, end): the middle of the i-th of n equal stretches. */
static int64_t sample_token(int64_t begin, int64_t end, int i, int n)
{
    return begin + ((end - begin) * (2 * i + 1)) / (2 * n);
}

/* The result's mask, to ask about ranges. */
static mask mask_of(const result_file *result)
{
    const longspan_problem *p = &result->problem;
    return (mask){
        .queries = p->queries,
        .keys = p->keys,
        .causal = p->causal != 0,
        .window_left = p->window_left,
        .window_right = p->window_right,
        .prefix = p->prefix,
        .chunk = p->chunk,
        .chunks_left = p->chunks_left,
        .chunks_right = p->chunks_right,
        .documents = p->documents,
        .document_count = p->document_count,
    };
}

/* One row [heads, D], by its position. */
static void turn(const longspan_problem *p, int64_t position, int heads, float *x, double *turned)
{
    const int64_t width = (int64_t)heads * p->dim;
    if (p->rope_dim == 0) return;
    for (int64_t i = 0; i < width; i++) turned[i] = x[i];
    oracle_turn(p, position, heads, turned);
    for (int64_t i = 0; i < width; i++) x[i] = (float)turned[i];
}

/* Those of rows [first, last). */
static void read_samples(const result_file *result, const picture *p, int64_t b, int64_t first, int64_t last,
                         samples *at, failure *f)
{
    const tensor_shape *q = &result->input.shapes.q;
    const longspan_problem *problem = &result->problem;
    const int heads = q->heads, dim = q->dim;
    const mask m = mask_of(result);
    const int64_t keys = problem->key_lengths ? problem->key_lengths[b] : problem->keys;
    float *lse = at->row_lse;
    for (int64_t row = first; row < last; row++) {
        const int64_t begin = row * p->query_block, end = smaller(begin + p->query_block, q->tokens);
        at->count[row] = (int)smaller(p->samples, end - begin);
        for (int i = 0; i < at->count[row] && f->status == LONGSPAN_OK; i++) {
            io_error error;
            const int64_t token = sample_token(begin, end, i, at->count[row]);
            const range seen = mask_row(&m, token);
            at->begin[row * p->samples + i] = seen.begin;
            at->end[row * p->samples + i] = smaller(seen.end, keys);
            at->position[row * p->samples + i] = token + problem->keys - problem->queries;
            if (tensor_file_read(result->input.file, "/q", q, b, token, token + 1, at->raw, &error) ||
                tensor_file_read_lse(result->file, &result->out, b, token, token + 1, lse, &error)) {
                failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
                return;
            }
            if (at->oracle) at->oracle[row * p->samples + i] = map_oracle_make(result, b, token, f);
            number_widen((kernel_type)q->type, at->raw, at->wide, (int64_t)heads * dim);
            turn(problem, at->position[row * p->samples + i], heads, at->wide, at->turned);
            for (int h = 0; h < heads; h++) {
                const int64_t place = (row * heads + h) * p->samples + i;
                memcpy(at->q + place * dim, at->wide + (int64_t)h * dim, (size_t)dim * sizeof *at->q);
                /* A row without a finite lse has no shares to draw. */
                at->lse[place] = isfinite(lse[h]) ? lse[h] : -INFINITY;
                if (!isfinite(lse[h])) continue;
                p->sampled[row]++;
                p->expected[row] += problem->sinks ? 1 - exp(problem->sinks[h] - lse[h]) : 1;
            }
        }
    }
}

/* The same as add_piece. */
static void add_piece_by_oracle(const result_file *result, const picture *p, const samples *at, int64_t first,
                                int64_t last, int64_t begin, int64_t end)
{
    const tensor_shape *q = &result->input.shapes.q, *k = &result->input.shapes.k;
    for (int64_t row = first; row < last; row++)
        for (int i = 0; i < at->count[row]; i++)
            for (int h = 0; h < q->heads; h++) {
                const int64_t place = (row * q->heads + h) * p->samples + i;
                const map_row one = {.oracle = &at->oracle[row * p->samples + i],
                                     .head = h,
                                     .q = at->q + place * q->dim,
                                     .lse = (double)at->lse[place]};
                if (!isfinite(one.lse)) continue;
                map_oracle_add(&one, at->wide + (int64_t)(h / (q->heads / k->heads)) * k->dim, (int64_t)k->heads * k->dim,
                               begin, end, p->key_block, p->mass + row * p->columns, p->seen + row * p->columns);
            }
}

/* Adds the mass that keys [begin, end), at->wide, get from the sampled rows of rows [first, last). */
static void add_piece(const result_file *result, const picture *p, const samples *at, int64_t first, int64_t last,
                      int64_t begin, int64_t end)
{
    if (at->oracle) {
        add_piece_by_oracle(result, p, at, first, last, begin, end);
        return;
    }
    const tensor_shape *q = &result->input.shapes.q, *k = &result->input.shapes.k;
    const longspan_problem *problem = &result->problem;
    const mask m = mask_of(result);
    const int shared = q->heads / k->heads;
    for (int64_t row = first; row < last; row++) {
        const range queries = {row * p->query_block, smaller((row + 1) * p->query_block, q->tokens)};
        if (mask_ask(&m, queries, (range){begin, end}) == MASK_NOTHING) continue;
        for (int h = 0; h < q->heads; h++) {
            const int64_t place = (row * q->heads + h) * p->samples;
            const mass_scores scores = {
                .softcap = (float)problem->softcap,
                .slope = problem->alibi_slopes ? problem->alibi_slopes[h] : 0,
                .positions = at->position + row * p->samples,
            };
            attention_mass(at->q + place * q->dim, at->lse + place, at->begin + row * p->samples,
                           at->end + row * p->samples, at->count[row], at->wide + (int64_t)(h / shared) * k->dim,
                           (int64_t)k->heads * k->dim, begin, (int)(end - begin), k->dim, (float)problem->scale,
                           &scores, p->key_block, p->mass + row * p->columns, at->scores);
        }
    }
}

static void *allocate(int64_t count, size_t size, failure *f)
{
    void *memory = calloc(count > 0 ? (size_t)count : 1, size);
    if (!memory)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: %.1f MiB for the map", (double)count * size / 1048576);
    return memory;
}

/* What this rank's share of the keys gets from rows [first, last), of one batch item. */
static void measure_rows(const session *s, const result_file *result, const picture *p, int64_t b, int64_t first,
                         int64_t last, samples *at, failure *f)
{
    const tensor_shape *k = &result->input.shapes.k;
    const int64_t width = (int64_t)k->heads * k->dim;
    read_samples(result, p, b, first, last, at, f);
    for (int64_t begin = s->rank * at->piece; begin < k->tokens && f->status == LONGSPAN_OK;
         begin += s->ranks * at->piece) {
        const int64_t end = smaller(begin + at->piece, k->tokens);
        io_error error;
        if (tensor_file_read(result->input.file, "/k", k, b, begin, end, at->raw, &error)) {
            failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
            break;
        }
        number_widen((kernel_type)k->type, at->raw, at->wide, (end - begin) * width);
        for (int64_t j = begin; j < end; j++)
            turn(&result->problem, j, k->heads, at->wide + (j - begin) * width, at->turned);
        add_piece(result, p, at, first, last, begin, end);
    }
    for (int64_t i = first * p->samples; at->oracle && i < last * p->samples; i++) oracle_row_free(&at->oracle[i]);
}

/* Collective. Fills p->mass on rank 0. */
static bool measure(const session *s, const result_file *result, picture *p, failure *f)
{
    const tensor_shape *q = &result->input.shapes.q, *k = &result->input.shapes.k;
    const int64_t k_width = (int64_t)k->heads * k->dim, q_width = (int64_t)q->heads * q->dim;
    samples at = {.piece = smaller(PIECE_FLOATS / k_width, smaller(MOST_PIECE_KEYS, k->tokens))};
    if (at.piece < 1) at.piece = 1;
    const int64_t widest = at.piece * k_width > q_width ? at.piece * k_width : q_width;
    at.q = allocate(p->rows * p->samples * q_width, sizeof *at.q, f);
    at.lse = allocate(p->rows * p->samples * q->heads, sizeof *at.lse, f);
    at.begin = allocate(p->rows * p->samples, sizeof *at.begin, f);
    at.end = allocate(p->rows * p->samples, sizeof *at.end, f);
    at.position = allocate(p->rows * p->samples, sizeof *at.position, f);
    at.count = allocate(p->rows, sizeof *at.count, f);
    at.raw = allocate(widest, sizeof(float), f);
    at.wide = allocate(widest, sizeof *at.wide, f);
    at.scores = allocate(p->samples * at.piece, sizeof *at.scores, f);
    at.row_lse = allocate(q->heads, sizeof *at.row_lse, f);
    at.turned = allocate(k_width > q_width ? k_width : q_width, sizeof *at.turned, f);
    int64_t group = p->rows; /* of rows of cells that are measured together */
    if (map_wants_oracle(&result->problem)) {
        at.oracle = allocate(p->rows * p->samples, sizeof *at.oracle, f);
        group = smaller(map_oracle_rows(result) / p->samples, p->rows);
        if (group < 1) group = 1;
    }
    if (!session_agree(s, f)) goto done;

    for (int64_t b = 0; b < q->batch; b++)
        for (int64_t first = 0; first < p->rows && f->status == LONGSPAN_OK; first += group)
            measure_rows(s, result, p, b, first, smaller(first + group, p->rows), &at, f);
    if (!session_agree(s, f)) goto done;
    for (int64_t row = 0; row < p->rows; row++) {
        double *cells = p->mass + row * p->columns;
        wait_reduce(s->rank == 0 ? MPI_IN_PLACE : cells, cells, (int)p->columns, MPI_DOUBLE, MPI_SUM, 0, s->comm);
        unsigned char *seen = p->seen ? p->seen + row * p->columns : NULL;
        if (seen)
            wait_reduce(s->rank == 0 ? MPI_IN_PLACE : seen, seen, (int)p->columns, MPI_UNSIGNED_CHAR, MPI_MAX, 0, s->comm);
    }
done:
    free(at.q);
    free(at.lse);
    free(at.begin);
    free(at.end);
    free(at.position);
    free(at.count);
    free(at.raw);
    free(at.wide);
    free(at.scores);
    free(at.row_lse);
    free(at.turned);
    free(at.oracle);
    return f->status == LONGSPAN_OK;
}

/* Rank 0: sums to shares; NaN where the mask leaves nothing to see, or a pattern leaves nothing to the sampled rows. */
static void finish_cells(const result_file *result, const char *path, picture *p, failure *f)
{
    const longspan_problem *problem = &result->problem;
    const mask m = mask_of(result);
    int64_t most_keys = problem->keys;
    for (int64_t b = 0; b < problem->batch && problem->key_lengths; b++)
        if (b == 0 || problem->key_lengths[b] > most_keys) most_keys = problem->key_lengths[b];
    for (int64_t row = 0; row < p->rows; row++) {
        const range queries = {row * p->query_block, smaller((row + 1) * p->query_block, m.queries)};
        double sum = 0;
        for (int64_t column = 0; column < p->columns; column++) {
            const range keys = {column * p->key_block, smaller((column + 1) * p->key_block, most_keys)};
            double *cell = &p->mass[row * p->columns + column];
            const bool dark = p->seen ? !p->seen[row * p->columns + column] : mask_ask(&m, queries, keys) == MASK_NOTHING;
            if (p->sampled[row] == 0 || dark) {
                *cell = NAN;
                continue;
            }
            *cell /= (double)p->sampled[row];
            sum += *cell;
        }
        const double expected = p->expected[row] / (double)p->sampled[row];
        if (p->sampled[row] > 0 && !(fabs(sum - expected) <= sum_tolerance)) {
            failure_set(
                f, LONGSPAN_ERROR_VERIFICATION,
                "%s: the shares of attention of tokens %lld to %lld sum to %.4g, not %.4g: its lse does not belong to "
                "its input",
                path, (long long)queries.begin, (long long)queries.end, sum, expected);
            return;
        }
    }
}

/* Rank 0. The SVG text, malloc'ed; NULL with the failure in *f. */
static char *draw(const options *o, const result_file *result, const picture *p, size_t *bytes_p, failure *f)
{
    const tensor_shape *q = &result->input.shapes.q;
    const char *slash = strrchr(o->arguments[0], '/');
    char title[512], subtitle[256];
    snprintf(title, sizeof title, "%s: %lld tokens, %d heads of %d", slash ? slash + 1 : o->arguments[0],
             (long long)q->tokens, q->heads, q->dim);
    snprintf(subtitle, sizeof subtitle, "mean over heads and %d rows a block; a cell is %lld queries by %lld keys",
             p->samples, (long long)p->query_block, (long long)p->key_block);
    const heat_map map = {
        .title = title,
        .subtitle = subtitle,
        .row_label = "query token",
        .column_label = "key token",
        .rows = p->rows,
        .columns = p->columns,
        .row_extent = (double)(p->rows * p->query_block),
        .column_extent = (double)(p->columns * p->key_block),
        .value = p->mass,
        .legend = "share of attention",
    };
    char *svg = heat_map_svg(&map, bytes_p);
    if (!svg) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the picture");
    return svg;
}

static int64_t ceil_divide(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

static void map(session *s, const options *o, failure *f)
{
    result_file result = {0};
    picture p = {0};
    if (output_file_check_distinct(s->comm, o->output, o->arguments[0], f) != LONGSPAN_OK ||
        output_file_check(s->comm, o->output, o->force, f) != LONGSPAN_OK) {
        session_fail(s, f);
        return;
    }
    if (!result_file_open(s, o->arguments[0], NULL, &result, f)) goto done;
    if (result.linear)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "%s: a result of --attention %s, which weighs no keys; a map is of softmax", o->arguments[0],
                    result.linear->name);
    if (result.is_nsa)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "%s: a result of --pattern nsa, a sum of three attentions without one lse; a map is of one",
                    o->arguments[0]);
    if (result.alpha != 0)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "%s: a result of --attention sparsemax or entmax; a map is of softmax", o->arguments[0]);
    if (!session_agree(s, f)) goto done;
    if (output_file_check_distinct(s->comm, o->output, result.input_path, f) != LONGSPAN_OK) {
        session_fail(s, f);
        goto done;
    }
    const int64_t blocks = o->blocks ? o->blocks : DEFAULT_BLOCKS;
    p.query_block = ceil_divide(result.problem.queries, blocks);
    p.key_block = ceil_divide(result.problem.keys, blocks);
    p.rows = ceil_divide(result.problem.queries, p.query_block);
    p.columns = ceil_divide(result.problem.keys, p.key_block);
    p.samples = (int)smaller(o->rows ? o->rows : DEFAULT_ROWS, p.query_block);
    p.mass = allocate(p.rows * p.columns, sizeof *p.mass, f);
    p.sampled = allocate(p.rows, sizeof *p.sampled, f);
    p.expected = allocate(p.rows, sizeof *p.expected, f);
    if (map_wants_oracle(&result.problem)) p.seen = allocate(p.rows * p.columns, sizeof *p.seen, f);
    if (!session_agree(s, f) || !measure(s, &result, &p, f)) goto done;
    char *svg = NULL;
    size_t bytes = 0;
    if (s->rank == 0) {
        finish_cells(&result, o->arguments[0], &p, f);
        if (f->status == LONGSPAN_OK) svg = draw(o, &result, &p, &bytes, f);
    }
    output_file_write_text(s->comm, o->output, svg, bytes, o->force, f);
    free(svg);
    if (f->status != LONGSPAN_OK) session_fail(s, f);
    else
        session_say(s, "%lld x %lld cells of %lld queries by %lld keys, %d rows a block: %s\n", (long long)p.rows,
                    (long long)p.columns, (long long)p.query_block, (long long)p.key_block, p.samples, o->output);
done:
    free(p.mass);
    free(p.sampled);
    free(p.expected);
    free(p.seen);
    result_file_close(&result);
}

static exit_status run(session *s, options *o)
{
    failure f = {0};
    if (o->rows > MOST_ROWS) return options_refuse(s, "--rows: at most %d in a block", MOST_ROWS);
    map(s, o, &f);
    return session_exit_status(&f);
}

const command command_map = {
    .name = "map",
    .arguments = "OUT.h5 -o MAP.svg",
    .summary = "a picture of where attention goes",
    .spec = &spec,
    .run = run,
};
