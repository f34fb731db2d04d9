/* make_audio FORMAT RATE CHANNELS FILE: writes interleaved float32 samples from stdin as a sound file, with libsndfile,
 * for tests that are not in C. */
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int format;
} formats[] = {
    {"wav16", SF_FORMAT_WAV | SF_FORMAT_PCM_16},
    {"wav24", SF_FORMAT_WAV | SF_FORMAT_PCM_24},
    {"wavfloat", SF_FORMAT_WAV | SF_FORMAT_FLOAT},
    {"wavdouble", SF_FORMAT_WAV | SF_FORMAT_DOUBLE},
    {"wavulaw", SF_FORMAT_WAV | SF_FORMAT_ULAW},
    {"wavadpcm", SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM},
    {"wavgsm", SF_FORMAT_WAV | SF_FORMAT_GSM610},
    {"rifx", SF_FORMAT_WAV | SF_FORMAT_PCM_16 | SF_ENDIAN_BIG},
    {"wavex", SF_FORMAT_WAVEX | SF_FORMAT_PCM_16},
    {"rf64", SF_FORMAT_RF64 | SF_FORMAT_PCM_16},
    {"w64", SF_FORMAT_W64 | SF_FORMAT_PCM_16},
    {"aiff", SF_FORMAT_AIFF | SF_FORMAT_PCM_16},
    {"au", SF_FORMAT_AU | SF_FORMAT_PCM_16},
    {"caf", SF_FORMAT_CAF | SF_FORMAT_PCM_16},
    {"flac16", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
    {"flac24", SF_FORMAT_FLAC | SF_FORMAT_PCM_24},
    {"vorbis", SF_FORMAT_OGG | SF_FORMAT_VORBIS},
    {"opus", SF_FORMAT_OGG | SF_FORMAT_OPUS},
};

int main(int argc, char **argv)
{
    enum { PIECE = 4096 };
    if (argc != 5) return 2;
    SF_INFO info = {.samplerate = atoi(argv[2]), .channels = atoi(argv[3])};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(argv[1], formats[i].name) == 0) info.format = formats[i].format;
    SNDFILE *file = sf_open(argv[4], SFM_WRITE, &info);
    if (!file) {
        fprintf(stderr, "make_audio: %s: %s\n", argv[4], sf_strerror(NULL));
        return 1;
    }
    const size_t frame = (size_t)info.channels;
    float *samples = malloc(PIECE * frame * sizeof *samples);
    size_t got = 0;
    while (samples && (got = fread(samples, frame * sizeof *samples, PIECE, stdin)) > 0)
        if (sf_writef_float(file, samples, (sf_count_t)got) != (sf_count_t)got) return 1;
    const int status = samples && sf_close(file) == 0 ? 0 : 1;
    free(samples);
    return status;
}
