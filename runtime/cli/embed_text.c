/* longspan embed text: a document as q, k and v (io/text.h), in parallel over the ranks by ranges of bytes.
 *
 * Two passes over the text, each in pieces of bounded size: the first counts the tokens of every rank, so that each
 * knows where its own begin; the second makes the features and writes them. */
#include "runtime/cli/embed.h"
#include "runtime/launch.h"

#include "io/text.h"
#include "runtime/patience.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 1 << 20 }; /* at a time */

/* The part of the document that is this rank's. */
typedef struct {
    const char *path;
    int64_t begin, end;          /* bytes */
    int64_t first_token, tokens; /* that begin in them */
    int64_t total_tokens, document_bytes;
} portion;

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
static void make_features(const options *o, const passage *p, int64_t first, int64_t count, int threads, embed_rows *b)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < threads; i++) {
        const int64_t begin = count * i / threads, end = count * (i + 1) / threads;
        if (begin == end) continue;
        text_features(p->tokens, first + begin, end - begin, p->bytes, p->bytes_begin, o->heads, o->dim, o->value_dim,
                      o->seed, b->set[EMBED_Q] + begin * embed_token_elements(o, EMBED_Q),
                      b->set[EMBED_K] + begin * embed_token_elements(o, EMBED_K),
                      b->set[EMBED_V] + begin * embed_token_elements(o, EMBED_V));
    }
    for (int64_t i = 0; i < count; i++) b->offsets[i] = p->tokens[first + i].begin;
}

static void write_portion(const options *o, const portion *mine, const output_file *output, int threads, embed_rows *b,
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
            embed_rows_write(o, output, mine->first_token + done + i, count, b, f);
        }
        done += p.count;
        passage_free(&p);
    }
    if (done != mine->tokens) failure_set(f, LONGSPAN_ERROR_IO, "%s: changed while it was read", mine->path);
}

exit_status embed_text(session *s, const options *o)
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
    output_dataset datasets[EMBED_SETS];
    embed_describe(o, n, datasets);
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
    embed_rows b = {0};
    if (output_file_begin(s->comm, o->output, o->force, datasets, EMBED_SETS, attributes,
                          sizeof attributes / sizeof attributes[0], &output, &f))
        return session_fail(s, &f);
    embed_rows_allocate(o, threads, &b, &f);
    if (f.status == LONGSPAN_OK) write_portion(o, &mine, &output, threads, &b, &f);
    embed_rows_free(&b);
    if (output_file_commit(s->comm, &output, &f)) return session_fail(s, &f);
    session_say(s, "%s: %" PRId64 " tokens of %s, H=%d D=%d E=%d %s, in %.2f s\n", o->output, n, path, o->heads, o->dim,
                o->value_dim, io_type_name((io_type)o->type), MPI_Wtime() - start);
    return EXIT_DONE;
}
