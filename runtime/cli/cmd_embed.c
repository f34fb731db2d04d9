/* longspan embed: a document as q, k and v (io/text.h), in parallel over the ranks by ranges of bytes.
 *
 * Two passes over the text, each in pieces of bounded size: the first counts the tokens of every rank, so that each
 * knows where its own begin; the second makes the features and writes them. */
#include "runtime/cli/command.h"
#include "runtime/cli/files.h"
#include "runtime/launch.h"

#include "io/text.h"
#include "kernels/number.h"
#include "runtime/patience.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 1 << 20, FEATURE_BYTES = 16 << 20 }; /* at a time */
enum { SET_Q, SET_K, SET_V, SET_OFFSETS, SETS };

static const options_spec spec = {
    .usage = "embed text FILE -o OUT.h5 [OPTIONS]",
    .summary = "Turns a document into tokens and hashed n-gram features, without a trained model, so that equal\n"
               "passages attend to each other. Writes /q, /k, /v and /token_offsets, the byte at which each token\n"
               "begins. 4 heads of size 64 unless given; each head looks at a longer passage than the one before.",
    .example = "mpirun -np 2 longspan embed text book.txt -o book.h5 --heads 4 --dim 64",
    .least_arguments = 2,
    .most_arguments = 2,
    .takes = TAKES_OUTPUT | TAKES_THREADS | TAKES_HEADS | TAKES_TYPE | TAKES_SEED | TAKES_STALL_LIMIT,
};

/* The part of the document that is this rank's. */
typedef struct {
    const char *path;
    int64_t begin, end;          /* bytes */
    int64_t first_token, tokens; /* that begin in them */
    int64_t total_tokens, document_bytes;
} portion;

/* Room for the features of `capacity` tokens. */
typedef struct {
    int64_t capacity;
    float *set[SETS - 1]; /* q, k, v */
    void *narrow;         /* the largest of them in the type of the file; NULL for float32 */
    int64_t *offsets;
} buffers;

static int64_t token_elements(const options *o, int set)
{
    return (int64_t)o->heads * (set == SET_V ? o->value_dim : o->dim);
}

static void buffers_free(buffers *b)
{
    for (int i = 0; i < SETS - 1; i++) free(b->set[i]);
    free(b->narrow);
    free(b->offsets);
    *b = (buffers){0};
}

static void buffers_allocate(const options *o, int threads, buffers *b, failure *f)
{
    int64_t all = 0, largest = 0;
    for (int i = 0; i < SETS - 1; i++) {
        all += token_elements(o, i);
        if (largest < token_elements(o, i)) largest = token_elements(o, i);
    }
    b->capacity = FEATURE_BYTES / (all * (int64_t)sizeof(float));
    if (b->capacity < threads) b->capacity = threads;
    bool complete = true;
    for (int i = 0; i < SETS - 1; i++) {
        b->set[i] = malloc((size_t)(b->capacity * token_elements(o, i)) * sizeof(float));
        complete = complete && b->set[i];
    }
    b->offsets = malloc((size_t)b->capacity * sizeof *b->offsets);
    if (o->type != LONGSPAN_FLOAT32) b->narrow = malloc((size_t)(b->capacity * largest) * sizeof(float));
    if (!complete || !b->offsets || (o->type != LONGSPAN_FLOAT32 && !b->narrow))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: features of %" PRId64 " tokens", b->capacity);
}

/* The tokens that begin in bytes [begin, end), and what is known of them. */
typedef struct {
    text_token *tokens;
    int64_t before, count, bytes_begin;
    char *bytes;
} passage;

static bool passage_read(const char *path, int64_t begin, int64_t end, int before, passage *p, failure *f)
{
    io_error error;
    *p = (passage){0};
    if (text_read_tokens(path, begin, end, before, &p->tokens, &p->before, &p->count, &p->bytes, &p->bytes_begin,
                         &error)) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return false;
    }
    return true;
}

static void passage_free(passage *p)
{
    free(p->tokens);
    free(p->bytes);
}

static int64_t piece_end(const portion *mine, int64_t begin)
{
    return mine->end - begin < TEXT_BYTES ? mine->end : begin + TEXT_BYTES;
}

/* Collective. Cuts the document by bytes and numbers the tokens. */
static bool measure(const session *s, const char *path, portion *mine, failure *f)
{
    io_error error;
    *mine = (portion){.path = path};
    if (s->rank == 0 && text_file_size(path, &mine->document_bytes, &error))
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    if (!session_agree(s, f)) return false;

    wait_bcast(&mine->document_bytes, 1, MPI_INT64_T, 0, s->comm);
    const int64_t share = mine->document_bytes / s->ranks, extra = mine->document_bytes % s->ranks;
    mine->begin = s->rank * share + (s->rank < extra ? s->rank : extra);
    mine->end = mine->begin + share + (s->rank < extra);
    for (int64_t begin = mine->begin; begin < mine->end; begin = piece_end(mine, begin)) {
        passage p;
        if (!passage_read(path, begin, piece_end(mine, begin), 0, &p, f)) break;
        mine->tokens += p.count;
        passage_free(&p);
    }
    if (!session_agree(s, f)) return false;
    wait_allreduce(&mine->tokens, &mine->total_tokens, 1, MPI_INT64_T, MPI_SUM, s->comm);
    wait_exscan(&mine->tokens, &mine->first_token, 1, MPI_INT64_T, MPI_SUM, s->comm);
    if (s->rank == 0) mine->first_token = 0; /* MPI_Exscan leaves it undefined */
    return true;
}

/* Features of `count` tokens from token `first` of the passage on, count <= capacity, each thread a run of them. */
static void make_features(const options *o, const passage *p, int64_t first, int64_t count, int threads, buffers *b)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < threads; i++) {
        const int64_t begin = count * i / threads, end = count * (i + 1) / threads;
        if (begin == end) continue;
        text_features(p->tokens, first + begin, end - begin, p->bytes, p->bytes_begin, o->heads, o->dim, o->value_dim,
                      o->seed, b->set[SET_Q] + begin * token_elements(o, SET_Q),
                      b->set[SET_K] + begin * token_elements(o, SET_K),
                      b->set[SET_V] + begin * token_elements(o, SET_V));
    }
    for (int64_t i = 0; i < count; i++) b->offsets[i] = p->tokens[first + i].begin;
}

/* Writes the features in the buffers, of `count` tokens from document token `at` on. */
static void write_features(const options *o, const output_file *output, int64_t at, int64_t count, buffers *b,
                           failure *f)
{
    for (int i = 0; i < SETS - 1; i++) {
        const int64_t elements = token_elements(o, i);
        const void *source = b->set[i];
        if (b->narrow) {
            number_narrow((kernel_type)o->type, b->set[i], b->narrow, count * elements);
            source = b->narrow;
        }
        output_file_write_run(output, i, at * elements, count * elements, source, f);
    }
    output_file_write_run(output, SET_OFFSETS, at, count, b->offsets, f);
}

static void write_portion(const options *o, const portion *mine, const output_file *output, int threads, buffers *b,
                          failure *f)
{
    int64_t done = 0;
    for (int64_t begin = mine->begin; begin < mine->end; begin = piece_end(mine, begin)) {
        passage p;
        if (f->status != LONGSPAN_OK) return;
        if (!passage_read(mine->path, begin, piece_end(mine, begin), TEXT_WINDOW_MOST, &p, f)) return;
        if (p.count > mine->tokens - done) p.count = 0; /* told below */
        for (int64_t i = 0; i < p.count && f->status == LONGSPAN_OK; i += b->capacity) {
            const int64_t count = p.count - i < b->capacity ? p.count - i : b->capacity;
            make_features(o, &p, p.before + i, count, threads, b);
            write_features(o, output, mine->first_token + done + i, count, b, f);
        }
        done += p.count;
        passage_free(&p);
    }
    if (done != mine->tokens) failure_set(f, LONGSPAN_ERROR_IO, "%s: changed while it was read", mine->path);
}

static exit_status embed_text(session *s, const options *o)
{
    const char *path = o->arguments[1];
    failure f = {0};
    portion mine;
    const double start = MPI_Wtime();
    const int sharing = launch_sharing_ranks(s->comm);
    const int threads = o->threads > 0 ? o->threads : launch_default_threads(sharing);
    if (output_file_check_distinct(s->comm, o->output, path, &f) || output_file_check(s->comm, o->output, o->force, &f))
        return session_fail(s, &f);
    if (!measure(s, path, &mine, &f)) return session_exit_status(&f);

    const int64_t n = mine.total_tokens;
    const output_type type = (output_type)o->type;
    output_dataset datasets[SETS] = {
        [SET_Q] = {.name = "/q", .type = type, .rank = 3, .extent = {n, o->heads, o->dim}},
        [SET_K] = {.name = "/k", .type = type, .rank = 3, .extent = {n, o->heads, o->dim}},
        [SET_V] = {.name = "/v", .type = type, .rank = 3, .extent = {n, o->heads, o->value_dim}},
        [SET_OFFSETS] = {.name = "/token_offsets", .type = OUTPUT_INT64, .rank = 1, .extent = {n}},
    };
    char program[64];
    snprintf(program, sizeof program, "longspan %s", longspan_version());
    const output_attribute attributes[] = {
        {.name = "format_version", .kind = ATTRIBUTE_INTEGER, .integer = 1},
        {.name = "program", .kind = ATTRIBUTE_TEXT, .text = program},
        {.name = "kind", .kind = ATTRIBUTE_TEXT, .text = "embed text"},
        {.name = "document", .kind = ATTRIBUTE_TEXT, .text = path},
        {.name = "document_bytes", .kind = ATTRIBUTE_INTEGER, .integer = mine.document_bytes},
        {.name = "tokens", .kind = ATTRIBUTE_INTEGER, .integer = n},
        {.name = "sharpness", .kind = ATTRIBUTE_NUMBER, .number = TEXT_SHARPNESS},
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)o->seed},
    };
    output_file output;
    buffers b = {0};
    if (output_file_begin(s->comm, o->output, o->force, datasets, SETS, attributes,
                          sizeof attributes / sizeof attributes[0], &output, &f))
        return session_fail(s, &f);
    buffers_allocate(o, threads, &b, &f);
    if (f.status == LONGSPAN_OK) write_portion(o, &mine, &output, threads, &b, &f);
    buffers_free(&b);
    if (output_file_commit(s->comm, &output, &f)) return session_fail(s, &f);
    session_say(s, "%s: %" PRId64 " tokens of %s, H=%d D=%d E=%d %s, in %.2f s\n", o->output, n, path, o->heads, o->dim,
                o->value_dim, io_type_name((io_type)o->type), MPI_Wtime() - start);
    return EXIT_DONE;
}

static exit_status run(session *s, options *o)
{
    if (o->heads == 0) o->heads = 4;
    if (o->dim == 0) o->dim = 64;
    if (o->value_dim == 0) o->value_dim = o->dim;
    if (strcmp(o->arguments[0], "text") == 0) return embed_text(s, o);
    return options_refuse(s, "'%s' is not available: there is text", o->arguments[0]);
}

const command command_embed = {
    .name = "embed",
    .arguments = "text FILE -o OUT.h5",
    .summary = "a document as q, k, v",
    .spec = &spec,
    .run = run,
};
