/* longspan verify of a linear result: the recurrence in float64, token by token (kernels/linear_reference.h), over the
 * whole documents that sampled rows are in, of some heads and some of their value columns.
 *
 * The bound. The chunked kernels sum in float32 within a chunk and keep states in float64: their error is one of
 * rounding that does not grow with the sequence, and against a recurrence without rounding its relative root mean
 * square is below 1e-5 (tests/kernels hold that for every variant). Over the values that are compared of a head, with u
 * the unit roundoff of out's type,
 *
 *     sqrt(sum (|out - ref| - u |ref| - r)_+^2) <= 1e-5 sqrt(sum ref^2),
 *
 * so that what the type loses of a value is allowed value by value, and one wrong value in a million is found. Where
 * products of either sign are summed, o = S^T q, they may cancel: r = 8 2^-24 |q| |S_e| is a few roundings of what is
 * summed for column e. It only counts where a document has few tokens, all of whose outputs are near 0.
 * Documents and heads are dealt out to the ranks. */
#include "kernels/linear_reference.h"
#include "kernels/number.h"
#include "runtime/cli/verify.h"
#include "runtime/linear_problem.h"
#include "runtime/patience.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_HEADS_CHECKED = 4, MOST_COLUMNS = 4, PIECE_FLOATS = 1 << 22, MOST_PIECE = 4096 };

static const double tolerance = 1e-5, roundings = 8 * 0x1p-24;

/* A document of a batch item. */
typedef struct {
    int64_t batch, begin, end;
} stretch;

/* A head that is checked: its recurrence, and what came of the comparison. */
typedef struct {
    int head;
    linear_reference reference;
    double excess, square, square_error; /* sums of squares */
    int64_t values, misfits;             /* misfits: finite where the other is not */
    double worst;                        /* largest |out - ref|, */
    int64_t worst_batch, worst_token;    /* and where */
} head_check;

typedef struct {
    const session *s;
    const result_file *result;
    linear_shape shape;
    type_limits limits;
    int threads;
    stretch *stretches;
    int64_t stretch_count;
    head_check head[MOST_HEADS_CHECKED];
    int head_count, column[MOST_COLUMNS], column_count;
    int64_t piece; /* tokens at a time */
    void *raw;     /* of one piece: as stored, and as floats */
    float *q, *k, *v, *out, *log_decay, *beta;
    double *first_state, *first_reference; /* what the input begins with; NULL if with nothing */
} linear_check;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static stretch stretch_of(const longspan_linear_problem *p, int64_t row)
{
    const int64_t token = row % p->tokens;
    stretch found = {row / p->tokens, 0, p->tokens};
    for (int64_t d = 0; d < p->document_count; d++) {
        if (token < p->documents[d] || token >= p->documents[d + 1]) continue;
        found.begin = p->documents[d];
        found.end = p->documents[d + 1];
    }
    return found;
}

/* The documents that the sampled rows are in, each once: rows ascend. */
static void find_stretches(linear_check *c, uint64_t seed, int64_t rows, failure *f)
{
    const longspan_linear_problem *p = &c->result->linear_problem;
    c->stretches = malloc((size_t)rows * sizeof *c->stretches);
    if (!c->stretches) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the sampled rows");
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        const stretch next = stretch_of(p, verify_sample_row(seed, i, rows, p->batch * p->tokens));
        const stretch *last = c->stretch_count ? &c->stretches[c->stretch_count - 1] : NULL;
        if (!last || last->batch != next.batch || last->begin != next.begin) c->stretches[c->stretch_count++] = next;
    }
}

/* One of each of `count` equal parts of `all`, by the seed. */
static int choose(uint64_t seed, int index, int count, int all)
{
    return (int)verify_sample_row(seed + 1, index, count, all);
}

static void choose_heads(linear_check *c, uint64_t seed, failure *f)
{
    const longspan_linear_problem *p = &c->result->linear_problem;
    c->head_count = (int)smaller(MOST_HEADS_CHECKED, c->shape.heads);
    c->column_count = (int)smaller(MOST_COLUMNS, p->value_dim);
    for (int i = 0; i < c->column_count; i++) c->column[i] = choose(seed, i, c->column_count, p->value_dim);
    for (int i = 0; i < c->head_count; i++) {
        head_check *h = &c->head[i];
        *h = (head_check){.head = choose(seed, i, c->head_count, c->shape.heads)};
        h->reference = (linear_reference){.variant = p->attention,
                                          .dim = p->dim,
                                          .columns = c->column_count,
                                          .head = h->head,
                                          .features = p->feature_count,
                                          .projections = p->features,
                                          .scale = p->scale};
        h->reference.state = calloc(linear_reference_size(&h->reference), sizeof(double));
        if (!h->reference.state) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for a state");
    }
}

static float *floats(int64_t count, failure *f)
{
    float *memory = malloc((size_t)(count ? count : 1) * sizeof *memory);
    if (!memory)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: %.1f MiB for the recomputation",
                    (double)count * sizeof *memory / 1048576);
    return memory;
}

static int64_t row_floats(const tensor_shape *shape)
{
    return (int64_t)shape->heads * (shape->dim ? shape->dim : 1);
}

static void allocate(linear_check *c, failure *f)
{
    const input_file *input = &c->result->input;
    const int64_t q = row_floats(&input->shapes.q), k = row_floats(&input->shapes.k), v = row_floats(&input->shapes.v);
    const int64_t out = row_floats(&c->result->out);
    const int64_t decay = row_floats(&input->linear.log_decay), beta = row_floats(&input->linear.beta);
    const int64_t all = q + k + v + out + decay + beta;
    c->piece = smaller(MOST_PIECE, PIECE_FLOATS / all > 0 ? PIECE_FLOATS / all : 1);
    c->raw = floats(c->piece * all, f);
    c->q = floats(c->piece * q, f);
    c->k = floats(c->piece * k, f);
    c->v = floats(c->piece * v, f);
    c->out = floats(c->piece * out, f);
    c->log_decay = floats(c->piece * decay, f);
    c->beta = floats(c->piece * beta, f);
}

/* The first state, in whole: it is small beside a document. */
static void read_first_state(linear_check *c, failure *f)
{
    const longspan_linear_problem *p = &c->result->linear_problem;
    const state_shape shape = {.batched = c->result->out.batched,
                               .batch = p->batch,
                               .heads = c->shape.heads,
                               .features = linear_feature_dim(&c->shape),
                               .width = linear_width(&c->shape),
                               .reference = linear_reference_dim(&c->shape)};
    const tensor_file *file = c->result->input.file;
    io_error error;
    if (!c->result->has_initial) return;
    if (tensor_file_state_check(file, &shape, p->attention, &error) != 0) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return;
    }
    const size_t heads = (size_t)shape.batch * (size_t)shape.heads;
    c->first_state = malloc(heads * (size_t)shape.features * (size_t)shape.width * sizeof(double));
    c->first_reference = malloc((heads * (size_t)shape.reference + 1) * sizeof(double));
    if (!c->first_state || !c->first_reference)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the first state");
    else if (tensor_file_state_read(file, &shape, p->attention, c->first_state, c->first_reference, &error) != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
}

static void close_check(linear_check *c)
{
    for (int i = 0; i < c->head_count; i++) free(c->head[i].reference.state);
    free(c->stretches);
    free(c->raw);
    free(c->q);
    free(c->k);
    free(c->v);
    free(c->out);
    free(c->log_decay);
    free(c->beta);
    free(c->first_state);
    free(c->first_reference);
}

/* The state that a head begins a stretch with. */
static void begin_head(const linear_check *c, head_check *h, const stretch *at)
{
    const int features = linear_feature_dim(&c->shape), width = linear_width(&c->shape);
    const int dim = linear_reference_dim(&c->shape), columns = c->column_count;
    const int64_t head = at->batch * c->shape.heads + h->head;
    double *state = h->reference.state;
    memset(state, 0, linear_reference_size(&h->reference) * sizeof *state);
    if (!c->first_state || at->begin > 0) return;
    for (int i = 0; i < features; i++) {
        const double *row = c->first_state + (head * features + i) * width;
        const double factor = dim ? exp(c->first_reference[head * dim + (dim > 1 ? i : 0)]) : 1;
        for (int e = 0; e < columns; e++) state[i * columns + e] = row[c->column[e]] ? factor * row[c->column[e]] : 0;
        if (c->shape.variant->normalised) state[features * columns + i] = row[width - 1] ? factor * row[width - 1] : 0;
    }
}

/* Rows [begin, end) of a dataset as floats; nothing where there is none. */
static void read_rows(linear_check *c, const tensor_file *file, const char *dataset, const tensor_shape *shape,
                      const stretch *rows, float *target, failure *f)
{
    io_error error;
    if (f->status != LONGSPAN_OK || shape->heads == 0) return;
    if (tensor_file_read(file, dataset, shape, rows->batch, rows->begin, rows->end, c->raw, &error))
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    else number_widen((kernel_type)shape->type, c->raw, target, (rows->end - rows->begin) * row_floats(shape));
}

static void read_piece(linear_check *c, const stretch *rows, failure *f)
{
    const input_file *input = &c->result->input;
    const linear_extras *linear = &input->linear;
    read_rows(c, input->file, "/q", &input->shapes.q, rows, c->q, f);
    read_rows(c, input->file, "/k", &input->shapes.k, rows, c->k, f);
    read_rows(c, input->file, "/v", &input->shapes.v, rows, c->v, f);
    read_rows(c, input->file, linear_dataset_name(LINEAR_LOG_DECAY), &linear->log_decay, rows, c->log_decay, f);
    read_rows(c, input->file, linear_dataset_name(LINEAR_BETA), &linear->beta, rows, c->beta, f);
    read_rows(c, c->result->file, "/out", &c->result->out, rows, c->out, f);
}

/* A head's vector of token t of the piece, of an array with `own` heads. */
static const float *vector_at(const linear_check *c, const float *array, int64_t t, int own, int dim, int head)
{
    return array + (t * own + head / (c->shape.heads / own)) * dim;
}

static linear_reference_token token_at(const linear_check *c, const head_check *h, int64_t t, float v[MOST_COLUMNS])
{
    const longspan_linear_problem *p = &c->result->linear_problem;
    const linear_shape *shape = &c->shape;
    const tensor_shape *decay = &c->result->input.linear.log_decay;
    const float *values = vector_at(c, c->v, t, shape->v_heads, shape->value_dim, h->head);
    for (int e = 0; e < c->column_count; e++) v[e] = values[c->column[e]];
    linear_reference_token token = {.q = vector_at(c, c->q, t, shape->q_heads, shape->dim, h->head),
                                    .k = vector_at(c, c->k, t, shape->k_heads, shape->dim, h->head),
                                    .v = v};
    if (p->head_log_decay) token.log_decay = p->head_log_decay + h->head;
    if (decay->heads)
        token.log_decay = vector_at(c, c->log_decay, t, decay->heads, decay->dim ? decay->dim : 1, h->head);
    if (shape->variant->has_beta) token.beta = c->beta[t * shape->heads + h->head];
    if (p->bonus) token.bonus = p->bonus + (int64_t)h->head * shape->dim;
    return token;
}

/* r of every column; the features of normalised variants are positive, or beside a 1. */
static void find_cancellation(const linear_check *c, const head_check *h, const linear_reference_token *token, double *r)
{
    const int dim = h->reference.dim, columns = c->column_count;
    double query = 0;
    memset(r, 0, (size_t)columns * sizeof *r);
    if (c->shape.variant->normalised) return;
    for (int d = 0; d < dim; d++) {
        const double *state = h->reference.state + (int64_t)d * columns;
        query += (double)token->q[d] * (double)token->q[d];
        for (int e = 0; e < columns; e++) r[e] += state[e] * state[e];
    }
    for (int e = 0; e < columns; e++) r[e] = roundings * fabs(h->reference.scale) * sqrt(query * r[e]);
}

static void compare_value(const linear_check *c, head_check *h, double value, double reference, double cancelled,
                          const stretch *rows, int64_t t)
{
    h->values++;
    const bool overflowed = isinf(value) && fabs(reference) * (1 + tolerance) >= c->limits.most;
    if (!isfinite(reference) || !isfinite(value)) {
        h->misfits += isfinite(reference) ? !overflowed : isfinite(value) != 0;
        return;
    }
    const double error = fabs(value - reference);
    const double excess = fmax(0, error - c->limits.roundoff * fabs(reference) - c->limits.tiny - cancelled);
    h->excess += excess * excess;
    h->square += reference * reference;
    h->square_error += error * error;
    if (error <= h->worst) return;
    h->worst = error;
    h->worst_batch = rows->batch;
    h->worst_token = rows->begin + t;
}

typedef enum { PASS_STEP, PASS_WRITE, PASS_READ } pass; /* causal; both ways: first all is written, then read */

static void run_head(const linear_check *c, head_check *h, const stretch *rows, pass what)
{
    for (int64_t t = 0; t < rows->end - rows->begin; t++) {
        float v[MOST_COLUMNS];
        double out[MOST_COLUMNS], cancelled[MOST_COLUMNS];
        const linear_reference_token token = token_at(c, h, t, v);
        if (what == PASS_WRITE) {
            linear_reference_write(&h->reference, &token);
            continue;
        }
        if (what == PASS_STEP) linear_reference_step(&h->reference, &token, out);
        else linear_reference_read(&h->reference, &token, out);
        find_cancellation(c, h, &token, cancelled);
        const float *stored = c->out + (t * c->shape.heads + h->head) * c->shape.value_dim;
        for (int e = 0; e < c->column_count; e++)
            compare_value(c, h, stored[c->column[e]], out[e], cancelled[e], rows, t);
    }
}

/* This rank's heads of one stretch, piece by piece. */
static void run_pass(linear_check *c, const stretch *at, const bool *mine, pass what, failure *f)
{
    for (int64_t begin = at->begin; begin < at->end && f->status == LONGSPAN_OK; begin += c->piece) {
        const stretch rows = {at->batch, begin, smaller(begin + c->piece, at->end)};
        read_piece(c, &rows, f);
        if (f->status != LONGSPAN_OK) return;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic)
        for (int i = 0; i < c->head_count; i++)
            if (mine[i]) run_head(c, &c->head[i], &rows, what);
    }
}

static void check_stretch(linear_check *c, int64_t index, failure *f)
{
    const stretch *at = &c->stretches[index];
    bool mine[MOST_HEADS_CHECKED], any = false;
    for (int i = 0; i < c->head_count; i++) {
        mine[i] = (index * c->head_count + i) % c->s->ranks == c->s->rank;
        any |= mine[i];
        if (mine[i]) begin_head(c, &c->head[i], at);
    }
    if (!any) return;
    if (c->result->linear_problem.causal) {
        run_pass(c, at, mine, PASS_STEP, f);
        return;
    }
    run_pass(c, at, mine, PASS_WRITE, f);
    run_pass(c, at, mine, PASS_READ, f);
}

/* Collective. The ranks' sums of a head, on all of them. */
static void join_head(const session *s, head_check *h)
{
    double sums[3] = {h->excess, h->square, h->square_error};
    int64_t counts[2] = {h->values, h->misfits}, where[2] = {h->worst_batch, h->worst_token};
    struct {
        double value;
        int rank;
    } worst = {h->worst, s->rank};
    wait_allreduce(MPI_IN_PLACE, sums, 3, MPI_DOUBLE, MPI_SUM, s->comm);
    wait_allreduce(MPI_IN_PLACE, counts, 2, MPI_INT64_T, MPI_SUM, s->comm);
    wait_allreduce(MPI_IN_PLACE, &worst, 1, MPI_DOUBLE_INT, MPI_MAXLOC, s->comm);
    wait_bcast(where, 2, MPI_INT64_T, worst.rank, s->comm);
    h->excess = sums[0];
    h->square = sums[1];
    h->square_error = sums[2];
    h->values = counts[0];
    h->misfits = counts[1];
    h->worst = worst.value;
    h->worst_batch = where[0];
    h->worst_token = where[1];
}

/* Of its bound: above 1 is too much. */
static double fraction_of(const head_check *h)
{
    if (h->excess == 0) return 0;
    return h->square > 0 ? sqrt(h->excess / h->square) / tolerance : INFINITY;
}

static void print_verdict(const linear_check *c, const options *o, bool failed)
{
    const head_check *worst = &c->head[0];
    int64_t tokens = 0, misfits = 0;
    double square_error = 0, square = 0;
    for (int64_t i = 0; i < c->stretch_count; i++) tokens += c->stretches[i].end - c->stretches[i].begin;
    for (int i = 0; i < c->head_count; i++) {
        if (fraction_of(&c->head[i]) > fraction_of(worst)) worst = &c->head[i];
        misfits += c->head[i].misfits;
        square_error += c->head[i].square_error;
        square += c->head[i].square;
    }
    printf("%s: %s\n", o->arguments[1], failed ? "FAILED" : "PASSED");
    printf(
        "  %s attention: %lld tokens of %lld x %d heads x %d value columns recomputed in float64 from %s, seed %llu\n",
        c->shape.variant->name, (long long)tokens, (long long)(c->result->out.batch * c->result->out.tokens),
        c->head_count, c->column_count, o->arguments[0], (unsigned long long)o->seed);
    printf(
        "  out   largest error %.3g of its bound, of head %d; there the largest |error| is %.3g, at batch %lld, token "
        "%lld\n",
        fraction_of(worst), worst->head, worst->worst, (long long)worst->worst_batch, (long long)worst->worst_token);
    printf("  relative RMS error of out over these values: %.3g\n",
           square > 0 ? sqrt(square_error / square) : sqrt(square_error));
    if (misfits)
        printf("  %lld values are finite where the recomputed ones are not, or the other way\n", (long long)misfits);
    printf("  bound: of each head sqrt(sum (|out - ref| - u_out |ref| - 8 2^-24 |q| |S|)^2) <= %g sqrt(sum ref^2), u_out %.3g\n",
           tolerance, c->limits.roundoff);
}

void verify_linear(const session *s, const options *o, const result_file *result, int threads, int64_t rows, failure *f)
{
    linear_check c = {.s = s,
                      .result = result,
                      .shape = linear_problem_shape(&result->linear_problem, false),
                      .limits = verify_limits_of(result->out.type),
                      .threads = threads};
    find_stretches(&c, o->seed, rows, f);
    choose_heads(&c, o->seed, f);
    allocate(&c, f);
    read_first_state(&c, f);
    if (!session_agree(s, f)) goto done;
    for (int64_t i = 0; i < c.stretch_count && f->status == LONGSPAN_OK; i++) check_stretch(&c, i, f);
    if (!session_agree(s, f)) goto done;
    bool failed = false;
    for (int i = 0; i < c.head_count; i++) {
        join_head(s, &c.head[i]);
        failed |= c.head[i].misfits > 0 || !(fraction_of(&c.head[i]) <= 1);
    }
    if (s->rank == 0) print_verdict(&c, o, failed);
    if (failed) f->status = LONGSPAN_ERROR_VERIFICATION;
done:
    close_check(&c);
}
