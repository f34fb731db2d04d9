/* longspan embed audio: a recording as q, k and v (io/audio_features.h), in parallel over the ranks by ranges of
 * tokens.
 *
 * A rank reads the sound of its tokens, half a window more on either side, and that of the AUDIO_WINDOW_MOST - 1 tokens
 * ahead of them, in pieces of bounded size; the log-mel rows that the next piece looks back at stay in memory. Samples,
 * frames and features depend on their place in the recording alone (io/audio.h, io/log_mel.h), and so does every bit of
 * the output. Held by cli.embed_audio. */
#include "runtime/cli/embed.h"
#include "runtime/cli/report.h"
#include "runtime/launch.h"

#include "io/audio.h"
#include "io/audio_features.h"
#include "io/log_mel.h"
#include "runtime/patience.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONTEXT = AUDIO_WINDOW_MOST - 1, /* tokens */
    PIECE_SAMPLES = 1 << 20,         /* of sound at a time, and */
    PIECE_VALUES = 1 << 22,          /* of log-mel, or CONTEXT tokens where those are more */
    MOST_HOP_MS = 100,
    LOG_MEL = EMBED_SETS, /* dataset */
    SETS
};

/* One rank's work. */
typedef struct {
    const options *o;
    int threads;
    log_mel_settings settings;
    log_mel *mel;
    audio_file *file;
    audio_shape shape;
    int64_t frames, tokens; /* of the recording */
    int64_t begin, end;     /* tokens of this rank */

    int64_t piece;  /* tokens at a time */
    float *samples; /* of a piece */
    float *rows;    /* log-mel [CONTEXT + piece * subsample, mels]: row CONTEXT is the first of the piece's own */
    int64_t kept;   /* rows ahead of row CONTEXT that hold the tokens before the piece */
    embed_rows out;
} work;

static void work_free(work *w)
{
    log_mel_destroy(&w->mel);
    audio_file_close(&w->file);
    free(w->samples);
    free(w->rows);
    embed_rows_free(&w->out);
}

static int samples_of(double milliseconds, double most)
{
    return (int)lround(fmin(milliseconds, most + 1) * LOG_MEL_RATE / 1000); /* one too many is refused */
}

/* Collective. The settings, and their tables. */
static bool prepare_mel(const session *s, work *w, failure *f)
{
    const options *o = w->o;
    io_error error;
    w->settings = (log_mel_settings){.window = samples_of(o->window_ms, 1e3 * LOG_MEL_MOST_WINDOW / LOG_MEL_RATE),
                                     .hop = samples_of(o->hop_ms, MOST_HOP_MS),
                                     .fft = o->fft,
                                     .mels = o->mels,
                                     .low = o->mel_low,
                                     .high = o->mel_high};
    if (o->fft == 0)
        for (w->settings.fft = 2; w->settings.fft < w->settings.window;) w->settings.fft *= 2;
    if (o->hop_ms > MOST_HOP_MS)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "--hop: %g ms is more than %d", o->hop_ms, MOST_HOP_MS);
    else if (log_mel_create(&w->settings, w->threads, &w->mel, &error))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s", error.text);
    return session_agree(s, f);
}

/* Collective. Rank 0 looks first, so that a bad file is one error, not P; then every rank opens it. */
static bool open_recording(const session *s, const char *path, work *w, failure *f)
{
    io_error error;
    if (s->rank == 0 && audio_file_check(path, &error)) failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    if (!session_agree(s, f)) return false;
    if (audio_file_open(path, &w->file, &w->shape, &error)) failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    if (!session_agree(s, f)) return false;

    const agreement_value values[] = {
        {"the rate", w->shape.rate}, {"the channels", w->shape.channels}, {"the samples", w->shape.frames}};
    int rank = 0;
    if (agreement_check_equal(s->comm, values, 3, f, &rank) == LONGSPAN_OK) return true;
    if (f->status == LONGSPAN_ERROR_MISMATCH) {
        *f = (failure){0};
        failure_set(f, LONGSPAN_ERROR_MISMATCH, "%s: not the same file on every rank: is it on a shared file system?",
                    path);
    }
    session_fail(s, f);
    return false;
}

/* Which tokens there are, and which are this rank's. */
static void share_tokens(const session *s, work *w)
{
    w->frames = (w->shape.samples + w->settings.hop - 1) / w->settings.hop;
    w->tokens = (w->frames + w->o->subsample - 1) / w->o->subsample;
    const int64_t share = w->tokens / s->ranks, extra = w->tokens % s->ranks;
    w->begin = s->rank * share + (s->rank < extra ? s->rank : extra);
    w->end = w->begin + share + (s->rank < extra);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void allocate(work *w, failure *f)
{
    const log_mel_settings *m = &w->settings;
    const int64_t every = w->o->subsample;
    embed_rows_allocate(w->o, w->threads, &w->out, f);
    if (f->status != LONGSPAN_OK) return;
    w->piece = least(PIECE_SAMPLES / (every * m->hop), PIECE_VALUES / (every * m->mels));
    if (w->piece < CONTEXT) w->piece = CONTEXT;
    w->samples = malloc((size_t)((w->piece * every - 1) * m->hop + m->window) * sizeof(float));
    w->rows = malloc((size_t)((CONTEXT + w->piece * every) * m->mels) * sizeof(float));
    if (!w->samples || !w->rows)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: log-mel frames of %" PRId64 " tokens", w->piece);
}

/* Log-mel rows of tokens [first, first + count), count <= piece, from row CONTEXT on. */
static void make_rows(work *w, int64_t first, int64_t count, failure *f)
{
    const log_mel_settings *m = &w->settings;
    const int64_t every = w->o->subsample, frame = first * every, frames = least(w->frames - frame, count * every);
    const int64_t begin = frame * m->hop - m->window / 2;
    float *rows = w->rows + (int64_t)CONTEXT * m->mels;
    io_error error;
    if (audio_file_read(w->file, begin, begin + (frames - 1) * m->hop + m->window, w->samples, &error)) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return;
    }
#pragma omp parallel for num_threads(w->threads) schedule(static)
    for (int i = 0; i < w->threads; i++) {
        const int64_t from = frames * i / w->threads, to = frames * (i + 1) / w->threads;
        log_mel_frames(w->mel, i, w->samples + from * m->hop, to - from, rows + from * m->mels);
    }
    audio_subsample(rows, frames, m->mels, (int)every, rows);
}

/* Features of tokens [first, first + count) of the piece's, count <= out.capacity. */
static void make_features(work *w, int64_t first, int64_t count)
{
    const options *o = w->o;
    const int mels = w->settings.mels;
    const float *rows = w->rows + (CONTEXT - w->kept) * mels;
#pragma omp parallel for num_threads(w->threads) schedule(static)
    for (int i = 0; i < w->threads; i++) {
        const int64_t from = count * i / w->threads, to = count * (i + 1) / w->threads;
        if (from == to) continue;
        audio_features(rows, w->kept + first + from, to - from, mels, o->heads, o->dim, o->value_dim, o->seed,
                       w->out.set[EMBED_Q] + from * embed_token_elements(o, EMBED_Q),
                       w->out.set[EMBED_K] + from * embed_token_elements(o, EMBED_K),
                       w->out.set[EMBED_V] + from * embed_token_elements(o, EMBED_V));
    }
}

/* The last rows, of `count` of the piece, become those ahead of the next. */
static void keep_rows(work *w, int64_t count)
{
    const int64_t mels = w->settings.mels, kept = least(w->kept + count, CONTEXT);
    memmove(w->rows + (CONTEXT - kept) * mels, w->rows + (CONTEXT + count - kept) * mels,
            (size_t)(kept * mels) * sizeof(float));
    w->kept = kept;
}

static void write_piece(work *w, int64_t at, int64_t count, const output_file *output, failure *f)
{
    const int64_t mels = w->settings.mels, stride = (int64_t)w->o->subsample * w->settings.hop;
    for (int64_t i = 0; i < count && f->status == LONGSPAN_OK; i += w->out.capacity) {
        const int64_t part = least(count - i, w->out.capacity);
        make_features(w, i, part);
        for (int64_t t = 0; t < part; t++) w->out.offsets[t] = (at + i + t) * stride * w->shape.rate / AUDIO_RATE;
        embed_rows_write(w->o, output, at + i, part, &w->out, f);
    }
    output_file_write_run(output, LOG_MEL, at * mels, count * mels, w->rows + CONTEXT * mels, f);
}

static void write_tokens(work *w, const output_file *output, failure *f)
{
    const int64_t before = least(w->begin, CONTEXT);
    if (w->begin == w->end) return;
    if (before > 0) {
        make_rows(w, w->begin - before, before, f);
        keep_rows(w, before);
    }
    for (int64_t at = w->begin; at < w->end && f->status == LONGSPAN_OK; at += w->piece) {
        const int64_t count = least(w->end - at, w->piece);
        make_rows(w, at, count, f);
        if (f->status == LONGSPAN_OK) write_piece(w, at, count, output, f);
        keep_rows(w, count);
    }
}

/* Collective. Begins the output, with the attributes that say how it was made. */
static bool begin_output(const session *s, const work *w, output_dataset datasets[SETS], output_file *output,
                         failure *f)
{
    const options *o = w->o;
    const log_mel_settings *m = &w->settings;
    char program[64];
    snprintf(program, sizeof program, "longspan %s", longspan_version());
    const output_attribute attributes[] = {
        {.name = "format_version", .kind = ATTRIBUTE_INTEGER, .integer = 1},
        {.name = "program", .kind = ATTRIBUTE_TEXT, .text = program},
        {.name = "kind", .kind = ATTRIBUTE_TEXT, .text = "embed audio"},
        {.name = "document", .kind = ATTRIBUTE_TEXT, .text = o->arguments[1]},
        {.name = "sample_rate", .kind = ATTRIBUTE_INTEGER, .integer = w->shape.rate},
        {.name = "channels", .kind = ATTRIBUTE_INTEGER, .integer = w->shape.channels},
        {.name = "samples", .kind = ATTRIBUTE_INTEGER, .integer = w->shape.frames},
        {.name = "tokens", .kind = ATTRIBUTE_INTEGER, .integer = w->tokens},
        {.name = "seconds_per_token", .kind = ATTRIBUTE_NUMBER, .number = (double)o->subsample * m->hop / LOG_MEL_RATE},
        {.name = "window", .kind = ATTRIBUTE_INTEGER, .integer = m->window},
        {.name = "hop", .kind = ATTRIBUTE_INTEGER, .integer = m->hop},
        {.name = "fft", .kind = ATTRIBUTE_INTEGER, .integer = m->fft},
        {.name = "mels", .kind = ATTRIBUTE_INTEGER, .integer = m->mels},
        {.name = "mel_low", .kind = ATTRIBUTE_NUMBER, .number = m->low},
        {.name = "mel_high", .kind = ATTRIBUTE_NUMBER, .number = m->high},
        {.name = "subsample", .kind = ATTRIBUTE_INTEGER, .integer = o->subsample},
        {.name = "sharpness", .kind = ATTRIBUTE_NUMBER, .number = AUDIO_SHARPNESS},
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)o->seed},
    };
    embed_describe(o, w->tokens, datasets);
    datasets[LOG_MEL] =
        (output_dataset){.name = "/log_mel", .type = OUTPUT_FLOAT32, .rank = 2, .extent = {w->tokens, m->mels}};
    if (output_file_begin(s->comm, o->output, o->force, datasets, SETS, attributes,
                          sizeof attributes / sizeof attributes[0], output, f) == LONGSPAN_OK)
        return true;
    session_fail(s, f);
    return false;
}

/* Collective. Everything between the checks of the output and its end; what fails has been said. */
static bool run_work(const session *s, work *w, failure *f)
{
    output_dataset datasets[SETS];
    output_file output;
    if (!prepare_mel(s, w, f) || !open_recording(s, w->o->arguments[1], w, f)) return false;
    share_tokens(s, w);
    if (!begin_output(s, w, datasets, &output, f)) return false;
    allocate(w, f);
    if (f->status == LONGSPAN_OK) write_tokens(w, &output, f);
    if (output_file_commit(s->comm, &output, f) == LONGSPAN_OK) return true;
    session_fail(s, f);
    return false;
}

exit_status embed_audio(session *s, const options *o)
{
    const char *path = o->arguments[1];
    failure f = {0};
    const double start = MPI_Wtime();
    const int sharing = launch_sharing_ranks(s->comm);
    work w = {.o = o, .threads = o->threads > 0 ? o->threads : launch_default_threads(sharing)};
    if (output_file_check_distinct(s->comm, o->output, path, &f) || output_file_check(s->comm, o->output, o->force, &f))
        return session_fail(s, &f);
    const bool done = run_work(s, &w, &f);
    work_free(&w);
    if (!done) return session_exit_status(&f);
    const int64_t peak = report_peak_memory();
    int64_t largest = 0;
    wait_reduce(&peak, &largest, 1, MPI_INT64_T, MPI_MAX, 0, s->comm);
    session_say(s,
                "%s: %" PRId64 " tokens of %s, %.1f s at %d Hz in %d channel%s, H=%d D=%d E=%d %s, in %.2f s, at most "
                "%.1f MiB resident a rank\n",
                o->output, w.tokens, path, (double)w.shape.frames / w.shape.rate, w.shape.rate, w.shape.channels,
                w.shape.channels == 1 ? "" : "s", o->heads, o->dim, o->value_dim, io_type_name((io_type)o->type),
                MPI_Wtime() - start, (double)largest / (1 << 20));
    return EXIT_DONE;
}
