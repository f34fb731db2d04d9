#include "io/audio.h"
#include "io/audio_container.h"

#include <inttypes.h>
#include <math.h>
#include <sndfile.h>
#include <soxr.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BLOCK_SECONDS = 10,
    BLOCK = BLOCK_SECONDS * AUDIO_RATE,
    REACH = 1024,    /* samples at the lower rate that the filter sees on either side, and more than that */
    PREROLL = 8192,  /* frames that a lossy decoder reads to be itself again: a long Vorbis block; 80 ms of Opus */
    PIECE = 1 << 16, /* values of a read */
    ROOM = 16        /* samples at 16 kHz that a resampler may yield beyond those it owes */
};
#define MOST_FRAMES (INT64_C(1) << 40) /* 16 days at 768 kHz; keeps products within 64 bits */
#define MOST_VALUE 1e30                /* full scale is 1: more would overflow in the resampler's transforms */

typedef struct {
    int64_t index; /* -1: none */
    float *samples /* [BLOCK] */;
} block;

struct audio_file {
    char *path;
    SNDFILE *stream;
    audio_shape shape;
    bool lossy;                       /* its decoder remembers what it read: opened anew for each block */
    int64_t reach_frames, reach;      /* read ahead of a block: frames of the file, and samples at 16 kHz */
    block blocks[2];                  /* the last one used first */
    float *mono, *resampled, *pieces; /* input and output of one block; PIECE values off the file */
};

static bool format_is_read(int format)
{
    switch (format & SF_FORMAT_TYPEMASK) {
    case SF_FORMAT_WAV:
    case SF_FORMAT_WAVEX:
    case SF_FORMAT_RF64:
        switch (format & SF_FORMAT_SUBMASK) {
        case SF_FORMAT_PCM_U8:
        case SF_FORMAT_PCM_16:
        case SF_FORMAT_PCM_24:
        case SF_FORMAT_PCM_32:
        case SF_FORMAT_FLOAT:
        case SF_FORMAT_DOUBLE:
        case SF_FORMAT_ULAW:
        case SF_FORMAT_ALAW:
            return true;
        default:
            return false;
        }
    case SF_FORMAT_FLAC:
        return true;
    case SF_FORMAT_OGG:
        return (format & SF_FORMAT_SUBMASK) == SF_FORMAT_VORBIS || (format & SF_FORMAT_SUBMASK) == SF_FORMAT_OPUS;
    default:
        return false;
    }
}

static int check_shape(const char *path, const SF_INFO *info, io_error *error)
{
    if (!format_is_read(info->format)) {
        SF_FORMAT_INFO name = {.format = info->format & SF_FORMAT_SUBMASK};
        const bool known = sf_command(NULL, SFC_GET_FORMAT_INFO, &name, sizeof name) == 0;
        return io_fail(error,
                       "%s: its encoding, %s, is not read; convert it to WAV (integers, float, A-law, u-law), "
                       "FLAC or OGG (Vorbis, Opus)",
                       path, known ? name.name : "unknown");
    }
    if (info->samplerate < AUDIO_LEAST_RATE || info->samplerate > AUDIO_MOST_RATE)
        return io_fail(error, "%s: has a sample rate of %d Hz, by its header; %d to %d can be read", path,
                       info->samplerate, AUDIO_LEAST_RATE, AUDIO_MOST_RATE);
    if (info->channels < 1 || info->channels > AUDIO_MOST_CHANNELS)
        return io_fail(error, "%s: has %d channels, by its header; 1 to %d can be read", path, info->channels,
                       AUDIO_MOST_CHANNELS);
    if (info->frames < 1) return io_fail(error, "%s: holds no samples", path);
    if (info->frames > MOST_FRAMES)
        return io_fail(error, "%s: holds %" PRId64 " samples a channel, by its header; up to %" PRId64 " can be read",
                       path, (int64_t)info->frames, MOST_FRAMES);
    return 0;
}

/* `container` as container_find tells. */
static int open_stream(const char *path, SNDFILE **stream_p, SF_INFO *info, audio_container *container_p,
                       io_error *error)
{
    int descriptor;
    int64_t bytes;
    if (container_open(path, &descriptor, &bytes, error)) return -1;
    if (container_find(descriptor, path, bytes, container_p, error)) {
        close(descriptor);
        return -1;
    }
    *info = (SF_INFO){0};
    SNDFILE *stream =
        sf_open_fd(descriptor, SFM_READ, info, SF_TRUE); /* which closes the descriptor, also on failure */
    if (!stream) return io_fail(error, "%s: cannot be read as sound: %s", path, sf_strerror(NULL));
    if (check_shape(path, info, error)) {
        sf_close(stream);
        return -1;
    }
    *stream_p = stream;
    return 0;
}

static const char copy_again[] = "copy or encode it once more", write_zero[] = "put 0 in its place";

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t greatest_divisor(int64_t a, int64_t b)
{
    return b == 0 ? a : greatest_divisor(b, a % b);
}

/* What is read ahead of a block: a whole number of periods, rate / gcd frames that are 16000 / gcd samples. */
static void choose_reach(audio_file *file)
{
    const int64_t rate = file->shape.rate, divisor = greatest_divisor(rate, AUDIO_RATE);
    const int64_t lower = rate < AUDIO_RATE ? rate : AUDIO_RATE;
    const int64_t periods = divide_up(REACH, lower / divisor);
    file->reach_frames = periods * (rate / divisor);
    file->reach = periods * (AUDIO_RATE / divisor);
}

static int allocate(audio_file *file, io_error *error)
{
    const int64_t input = BLOCK_SECONDS * (int64_t)file->shape.rate + 2 * file->reach_frames;
    file->mono = malloc((size_t)input * sizeof *file->mono);
    file->resampled = malloc((size_t)(BLOCK + 2 * file->reach + ROOM) * sizeof *file->resampled);
    file->pieces = malloc(PIECE * sizeof *file->pieces);
    bool complete = file->mono && file->resampled && file->pieces;
    for (int i = 0; i < 2; i++) {
        file->blocks[i] = (block){-1, malloc(BLOCK * sizeof(float))};
        complete = complete && file->blocks[i].samples;
    }
    return complete ? 0 : io_fail(error, "%s: not enough memory for %d s of sound", file->path, BLOCK_SECONDS);
}

int audio_file_open(const char *path, audio_file **file_p, audio_shape *shape_p, io_error *error)
{
    SF_INFO info;
    audio_container container;
    audio_file *file = calloc(1, sizeof *file);
    if (!file) return io_fail(error, "%s: not enough memory", path);
    if (!(file->path = strdup(path))) {
        io_fail(error, "%s: not enough memory", path);
        goto close;
    }
    if (open_stream(path, &file->stream, &info, &container, error)) goto close;
    file->lossy = container == CONTAINER_OGG;
    file->shape = (audio_shape){info.samplerate, info.channels, info.frames,
                                divide_up(info.frames * AUDIO_RATE, info.samplerate)};
    choose_reach(file);
    if (allocate(file, error)) goto close;
    *file_p = file;
    *shape_p = file->shape;
    return 0;
close:
    audio_file_close(&file);
    return -1;
}

void audio_file_close(audio_file **file)
{
    audio_file *f = *file;
    if (!f) return;
    if (f->stream) sf_close(f->stream);
    for (int i = 0; i < 2; i++) free(f->blocks[i].samples);
    free(f->mono);
    free(f->resampled);
    free(f->pieces);
    free(f->path);
    free(f);
    *file = NULL;
}

/* `what`, where it is and what to do about it. */
static int refuse_place(const audio_file *file, int64_t frame, const char *what, const char *advice, io_error *error)
{
    return io_fail(error, "%s: %s sample %" PRId64 " of %" PRId64 " (%.3f s); %s", file->path, what, frame,
                   file->shape.frames, (double)frame / file->shape.rate, advice);
}

/* Puts the decoder before frame `at`. A lossy one is begun anew, so that what it yields depends on `at` alone. */
static int seek(audio_file *file, int64_t at, io_error *error)
{
    if (file->lossy) {
        SF_INFO info;
        audio_container container;
        sf_close(file->stream);
        file->stream = NULL;
        if (open_stream(file->path, &file->stream, &info, &container, error)) return -1;
        if (info.frames != file->shape.frames || info.samplerate != file->shape.rate ||
            info.channels != file->shape.channels)
            return io_fail(error, "%s: changed while it was read", file->path);
    }
    if (sf_seek(file->stream, at, SF_SEEK_SET) != at)
        return refuse_place(file, at, "truncated or damaged: it cannot be read at", copy_again, error);
    return 0;
}

/* Up to a piece of frames, `count` at most, off the stream at frame `at`, each the mean of its channels. Returns how
 * many, at least 1, or -1. */
static int64_t read_piece(audio_file *file, int64_t at, int64_t count, float *mono, io_error *error)
{
    const int channels = file->shape.channels;
    const int64_t most = PIECE / channels, wanted = count < most ? count : most;
    const int64_t got = sf_readf_float(file->stream, file->pieces, wanted);
    if (sf_error(file->stream) != SF_ERR_NO_ERROR) {
        char what[256];
        snprintf(what, sizeof what, "is damaged (%s) at or after", sf_strerror(file->stream));
        return refuse_place(file, at, what, copy_again, error);
    }
    if (got < wanted)
        return refuse_place(file, at + (got > 0 ? got : 0), "truncated or damaged: it ends at", copy_again, error);
    for (int64_t i = 0; i < got; i++) {
        double sum = 0;
        for (int c = 0; c < channels; c++) sum += file->pieces[i * channels + c];
        if (!isfinite(sum))
            return refuse_place(file, at + i, "a value that is not a finite number at", write_zero, error);
        if (fabs(sum) > MOST_VALUE)
            return refuse_place(file, at + i, "a value that is too large at", write_zero, error);
        mono[i] = (float)(sum / channels);
    }
    return got;
}

/* Frames [begin, end) of the file into file->mono; begin <= its end, beyond which they are 0. */
static int decode(audio_file *file, int64_t begin, int64_t end, io_error *error)
{
    const int64_t frames = file->shape.frames;
    if (end > frames) {
        memset(file->mono + (frames - begin), 0, (size_t)(end - frames) * sizeof *file->mono);
        end = frames;
    }
    int64_t at = !file->lossy ? begin : begin > PREROLL ? begin - PREROLL : 0;
    if (seek(file, at, error)) return -1;
    while (at < end) {
        const bool early = at < begin;
        const int64_t got =
            read_piece(file, at, (early ? begin : end) - at, file->mono + (early ? 0 : at - begin), error);
        if (got < 0) return -1;
        at += got;
    }
    return 0;
}

/* file->mono [count] to file->resampled, of which `wanted` samples will be used: at most what the resampler owes for
 * `count`, rounded. There is room for all: with less, soxr_oneshot ends before what is in its filter has come out. */
static int resample(audio_file *file, int64_t count, int64_t wanted, io_error *error)
{
    if (file->shape.rate == AUDIO_RATE) {
        memcpy(file->resampled, file->mono, (size_t)wanted * sizeof(float));
        return 0;
    }
    const size_t room = (size_t)(divide_up(count * AUDIO_RATE, file->shape.rate) + ROOM);
    size_t used = 0, made = 0;
    const soxr_io_spec_t types = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    const soxr_quality_spec_t quality = soxr_quality_spec(SOXR_VHQ, SOXR_ROLLOFF_NONE);
    const soxr_runtime_spec_t one_thread = soxr_runtime_spec(1);
    const soxr_error_t failed = soxr_oneshot(file->shape.rate, AUDIO_RATE, 1, file->mono, (size_t)count, &used,
                                             file->resampled, room, &made, &types, &quality, &one_thread);
    if (failed) return io_fail(error, "%s: cannot be resampled from %d Hz: %s", file->path, file->shape.rate, failed);
    if (made < (size_t)wanted)
        return io_fail(error, "%s: cannot be resampled from %d Hz: %zu samples came of %" PRId64, file->path,
                       file->shape.rate, made, wanted);
    return 0;
}

/* Makes block `index` the first of the two. */
static int find_block(audio_file *file, int64_t index, io_error *error)
{
    if (file->blocks[0].index == index) return 0;
    const block last = file->blocks[1];
    file->blocks[1] = file->blocks[0];
    file->blocks[0] = last;
    if (last.index == index) return 0;

    const int64_t seconds = BLOCK_SECONDS * (int64_t)file->shape.rate, frames = file->shape.frames;
    const int64_t begin = index == 0 ? 0 : index * seconds - file->reach_frames;
    const int64_t skipped = index == 0 ? 0 : file->reach;
    const int64_t next = (index + 1) * seconds, end = (next < frames ? next : frames) + file->reach_frames;
    const int64_t left = file->shape.samples - index * BLOCK, count = left < BLOCK ? left : BLOCK;
    file->blocks[0].index = -1;
    if (decode(file, begin, end, error) || resample(file, end - begin, skipped + count, error)) return -1;
    memcpy(file->blocks[0].samples, file->resampled + skipped, (size_t)count * sizeof(float));
    file->blocks[0].index = index;
    return 0;
}

int audio_file_read(audio_file *file, int64_t begin, int64_t end, float *target, io_error *error)
{
    const int64_t samples = file->shape.samples;
    for (int64_t at = begin, next; at < end; at = next) {
        float *to = target + (at - begin);
        if (at < 0 || at >= samples) {
            next = at < 0 && end > 0 ? 0 : end;
            memset(to, 0, (size_t)(next - at) * sizeof *to);
            continue;
        }
        const int64_t index = at / BLOCK, limit = (index + 1) * BLOCK < samples ? (index + 1) * BLOCK : samples;
        next = limit < end ? limit : end;
        if (find_block(file, index, error)) return -1;
        memcpy(to, file->blocks[0].samples + (at - index * BLOCK), (size_t)(next - at) * sizeof *to);
    }
    return 0;
}

int audio_file_check(const char *path, io_error *error)
{
    int descriptor;
    int64_t bytes;
    audio_container container;
    if (container_open(path, &descriptor, &bytes, error)) return -1;
    const int sound = container_find(descriptor, path, bytes, &container, error) ||
                              container_check(descriptor, path, bytes, container, error)
                          ? -1
                          : 0;
    close(descriptor);
    if (sound) return -1;

    audio_file *file;
    audio_shape shape;
    if (audio_file_open(path, &file, &shape, error)) return -1;
    const int whole = decode(file, shape.frames > REACH ? shape.frames - REACH : 0, shape.frames, error);
    audio_file_close(&file);
    return whole;
}
