/* Recordings as 16 kHz mono sound, by ranges: WAV (RIFF, RIFX, RF64), FLAC and OGG (Vorbis, Opus), read with
 * libsndfile, the channels averaged, resampled with libsoxr (its quality VHQ, without roll-off).
 *
 * A sample's bits depend on its index alone, never on what else was read: the recording is cut into blocks of 10 s from
 * its beginning, and a block is always made the same way, from its own part of the file and some on either side, for
 * the filter's sake. 10 s and the part ahead are whole numbers of samples at both rates, so that blocks join in phase.
 * Memory: the input of one block and two finished blocks. Sample i stands at the time i / 16000 of the recording; there
 * are ceil(frames * 16000 / rate). Held by io.audio. */
#ifndef IO_AUDIO_H
#define IO_AUDIO_H

#include "io/error.h"

#include <stdint.h>

enum { AUDIO_RATE = 16000 /* Hz */, AUDIO_LEAST_RATE = 1000, AUDIO_MOST_RATE = 768000, AUDIO_MOST_CHANNELS = 64 };

typedef struct audio_file audio_file;

typedef struct {
    int rate, channels; /* of the file */
    int64_t frames;     /* samples of each channel, at that rate */
    int64_t samples;    /* at 16 kHz */
} audio_shape;

/* Reads the whole structure of the file, for one process to do ahead of the others: that it is a sound file of a kind
 * that is read, that what its header promises is there, to the end. Decodes no more than the last samples. A lossy
 * stream is summed up against its checksums, of a WAV or FLAC only the header is looked at. 0, or -1 with *error. */
int audio_file_check(const char *path, io_error *error);

/* *shape_p is set on success. 0, or -1 with *error. */
int audio_file_open(const char *path, audio_file **file_p, audio_shape *shape_p, io_error *error);
/* Samples [begin, end) at 16 kHz into target [end - begin], 0 outside of the recording (begin may be negative). Refuses
 * what is not finite or beyond 1e30 times full scale, and names the place. Fastest where ranges ascend. 0, or -1 with
 * *error. */
int audio_file_read(audio_file *file, int64_t begin, int64_t end, float *target, io_error *error);
/* NULL allowed. */
void audio_file_close(audio_file **file);

#endif
