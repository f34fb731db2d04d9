/* Recordings as 16 kHz mono, against sines and noise that are known at every time; and that no range changes a bit. */
#include "io/audio.h"
#include "tests/io/scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double tau = 6.28318530717958647692;

/* Channel c of a recording at time t (seconds). */
typedef double signal_fn(double t, int c);

static double tones(double t, int c)
{
    (void)c;
    return 0.4 * sin(tau * 997 * t) + 0.2 * sin(tau * 5003 * t + 1) + 0.1 * sin(tau * 61 * t + 2);
}

/* For rates that cannot hold more. */
static double hum(double t, int c)
{
    (void)c;
    return 0.5 * sin(tau * 61 * t + 2) + 0.2 * sin(tau * 397 * t);
}

static double opposed(double t, int c)
{
    return c == 0 ? 0.5 * sin(tau * 440 * t) + 0.25 * sin(tau * 1500 * t)
                  : -0.5 * sin(tau * 440 * t) + 0.25 * sin(tau * 1500 * t);
}

static double noise(double t, int c)
{
    uint64_t state = (uint64_t)llround(t * 1e6) * 2 + (uint64_t)c;
    for (int i = 0; i < 3; i++) state = (state ^ state >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return (double)(state >> 11) / 9007199254740992.0 - 0.5;
}

static const char *record(const char *name, int format, int rate, int channels, int64_t frames, signal_fn *signal)
{
    const char *path = scratch_path(name);
    SF_INFO info = {.samplerate = rate, .channels = channels, .format = format};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    if (!file) fail_msg("%s: %s", path, sf_strerror(NULL));
    float *piece = malloc(sizeof(float) * 4096 * (size_t)channels);
    for (int64_t at = 0; at < frames; at += 4096) {
        const int64_t count = frames - at < 4096 ? frames - at : 4096;
        for (int64_t i = 0; i < count; i++)
            for (int c = 0; c < channels; c++) piece[i * channels + c] = (float)signal((double)(at + i) / rate, c);
        assert_int_equal(sf_writef_float(file, piece, count), count);
    }
    free(piece);
    assert_int_equal(sf_close(file), 0);
    return path;
}

static audio_file *open_sound(const char *path, audio_shape *shape)
{
    audio_file *file = NULL;
    io_error error;
    if (audio_file_check(path, &error) || audio_file_open(path, &file, shape, &error)) fail_msg("%s", error.text);
    return file;
}

static float *read_all(audio_file *file, const audio_shape *shape)
{
    float *x = malloc((size_t)shape->samples * sizeof *x);
    io_error error;
    if (audio_file_read(file, 0, shape->samples, x, &error)) fail_msg("%s", error.text);
    return x;
}

enum { WAV16 = SF_FORMAT_WAV | SF_FORMAT_PCM_16, WAVF = SF_FORMAT_WAV | SF_FORMAT_FLOAT };

static void sines_are_resampled_where_they_belong(void **state)
{
    (void)state;
    static const int rates[] = {44100, 48000, 22050, 96000, 16000, 32000, 11025, 44101, 12345, 192000, 8000, 1000};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        const int rate = rates[i];
        const int64_t frames = (int64_t)(21.3 * rate); /* two seams */
        signal_fn *const signal = rate < 11025 ? hum : tones;
        const char *path = record("sine.wav", WAVF, rate, 1, frames, signal);
        audio_shape shape;
        audio_file *file = open_sound(path, &shape);
        assert_int_equal(shape.rate, rate);
        assert_int_equal(shape.frames, frames);
        assert_int_equal(shape.samples, (frames * 16000 + rate - 1) / rate);
        float *x = read_all(file, &shape);
        double worst = 0, square = 0;
        const int64_t ring = rate < 11025 ? 16000 : 1600; /* a cut-off sine rings at both ends */
        for (int64_t n = ring; n < shape.samples - ring; n++) {
            const double error = fabs(x[n] - signal((double)n / 16000, 0));
            if (error > worst) worst = error;
            square += error * error;
        }
        const double rms = sqrt(square / (double)(shape.samples - 2 * ring));
        print_message("%6d Hz: largest error %.1e, rms %.1e\n", rate, worst, rms);
        assert_true(worst < 1e-6);
        free(x);
        audio_file_close(&file);
        assert_null(file);
    }
}

static void what_16_khz_cannot_hold_is_filtered_out(void **state)
{
    (void)state;
    audio_shape shape;
    const char *path = scratch_path("high.wav");
    /* 10 kHz would alias to 6 kHz. */
    SF_INFO info = {.samplerate = 44100, .channels = 1, .format = WAVF};
    SNDFILE *out = sf_open(path, SFM_WRITE, &info);
    for (int i = 0; i < 88200; i++) {
        const float x = (float)sin(tau * 10000 * i / 44100);
        sf_writef_float(out, &x, 1);
    }
    sf_close(out);
    audio_file *file = open_sound(path, &shape);
    float *x = read_all(file, &shape);
    for (int64_t n = 1600; n < shape.samples - 1600; n++) assert_true(fabsf(x[n]) < 1e-5f);
    free(x);
    audio_file_close(&file);
}

static double impulse(double t, int c)
{
    (void)c;
    return t == 0 ? 0.5 : 0;
}

/* One sample of height h and nothing else is, within the band of both rates, h sinc(b t) b / rate for a band of b Hz. */
static void recordings_of_a_few_samples_are_read(void **state)
{
    (void)state;
    static const int rates[] = {44100, 48000, 8000, 16000, 44101, 1000, 1001, 15999, 16001, 767999, 768000};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        const int rate = rates[i];
        for (int64_t frames = 1; frames <= 50; frames += frames < 4 ? 1 : 23) {
            const char *path = record("short.wav", WAVF, rate, 1, frames, impulse);
            audio_shape shape;
            audio_file *file = open_sound(path, &shape);
            assert_int_equal(shape.samples, (frames * 16000 + rate - 1) / rate);
            float *x = read_all(file, &shape);
            const double top = rate > 16000 ? 0.5 * 16000 / rate : 0.5; /* less what the filter takes near the edge */
            if (x[0] > top * 1.001 || x[0] < top * 0.9)
                fail_msg("%d samples at %d Hz: the first is %g, not %g", (int)frames, rate, x[0], top);
            for (int64_t n = 1; n < shape.samples; n++) assert_true(fabsf(x[n]) < 0.55);
            free(x);
            audio_file_close(&file);
        }
    }
}

static void channels_are_averaged(void **state)
{
    (void)state;
    audio_shape shape;
    for (int i = 0; i < 2; i++) {
        const int rate = i == 0 ? 16000 : 44100;
        audio_file *file = open_sound(record("stereo.wav", WAVF, rate, 2, rate * 2, opposed), &shape);
        assert_int_equal(shape.channels, 2);
        float *x = read_all(file, &shape);
        for (int64_t n = 1600; n < shape.samples - 1600; n++)
            assert_true(fabs(x[n] - 0.25 * sin(tau * 1500 * n / 16000)) < 1e-6);
        free(x);
        audio_file_close(&file);
    }
    audio_file *file = open_sound(record("seven.wav", WAVF, 16000, 7, 5000, noise), &shape);
    float *x = read_all(file, &shape);
    for (int64_t n = 0; n < 5000; n++) {
        double sum = 0;
        for (int c = 0; c < 7; c++) sum += (float)noise((double)n / 16000, c);
        assert_true(fabs(x[n] - sum / 7) < 1e-7);
    }
    free(x);
    audio_file_close(&file);
}

static const struct {
    const char *name;
    int format;
    int rate;
    double tolerance; /* of a sample; 0: not compared */
} kinds[] = {
    {"16-bit WAV", WAV16, 16000, 4e-5},
    {"8-bit WAV", SF_FORMAT_WAV | SF_FORMAT_PCM_U8, 16000, 1e-2},
    {"24-bit WAV", SF_FORMAT_WAV | SF_FORMAT_PCM_24, 16000, 2e-7},
    {"32-bit WAV", SF_FORMAT_WAV | SF_FORMAT_PCM_32, 16000, 1e-7},
    {"double WAV", SF_FORMAT_WAV | SF_FORMAT_DOUBLE, 16000, 1e-7},
    {"u-law WAV", SF_FORMAT_WAV | SF_FORMAT_ULAW, 16000, 4e-2},
    {"A-law WAV", SF_FORMAT_WAV | SF_FORMAT_ALAW, 16000, 4e-2},
    {"big-endian WAV", WAV16 | SF_ENDIAN_BIG, 16000, 4e-5},
    {"extensible WAV", SF_FORMAT_WAVEX | SF_FORMAT_PCM_16, 16000, 4e-5},
    {"RF64", SF_FORMAT_RF64 | SF_FORMAT_PCM_24, 16000, 2e-7},
    {"16-bit FLAC", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 16000, 4e-5},
    {"24-bit FLAC", SF_FORMAT_FLAC | SF_FORMAT_PCM_24, 44100, 0},
    {"Vorbis", SF_FORMAT_OGG | SF_FORMAT_VORBIS, 44100, 0},
    {"Vorbis at 16 kHz", SF_FORMAT_OGG | SF_FORMAT_VORBIS, 16000, 0},
    {"Opus", SF_FORMAT_OGG | SF_FORMAT_OPUS, 48000, 0},
};

static void any_range_in_any_order_gives_the_same_bits(void **state)
{
    (void)state;
    enum { SECONDS = 34 };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const char *path = record("noise", kinds[i].format, kinds[i].rate, 1, (int64_t)kinds[i].rate * SECONDS, noise);
        audio_shape shape;
        audio_file *file = open_sound(path, &shape);
        float *whole = read_all(file, &shape);
        for (int64_t n = 0; kinds[i].tolerance > 0 && n < shape.samples; n++)
            if (fabs(whole[n] - noise((double)n / 16000, 0)) > kinds[i].tolerance)
                fail_msg("%s: sample %lld is %g, not %g", kinds[i].name, (long long)n, whole[n],
                         noise((double)n / 16000, 0));
        static const int64_t ranges[][2] = {{SECONDS * 16000 - 3000, SECONDS * 16000},
                                            {0, 1},
                                            {159999, 160001},
                                            {320000, 480000},
                                            {-200, 200},
                                            {SECONDS * 16000 - 200, SECONDS * 16000 + 200},
                                            {150000, 330000},
                                            {-500, -100},
                                            {7, 7},
                                            {100, 479999}};
        audio_file *other = NULL;
        for (size_t r = 0; r < sizeof ranges / sizeof ranges[0]; r++) {
            const int64_t begin = ranges[r][0], end = ranges[r][1];
            float *x = malloc((size_t)(end - begin + 1) * sizeof *x);
            io_error error;
            if (r % 3 == 0) { /* now and then from the start */
                audio_file_close(&other);
                other = open_sound(path, &shape);
            }
            if (audio_file_read(other, begin, end, x, &error)) fail_msg("%s: %s", kinds[i].name, error.text);
            for (int64_t n = begin; n < end; n++) {
                const float expected = n < 0 || n >= shape.samples ? 0 : whole[n];
                if (memcmp(&x[n - begin], &expected, sizeof expected) != 0)
                    fail_msg("%s: sample %lld of range %zu is %.9g, not %.9g", kinds[i].name, (long long)n, r,
                             x[n - begin], expected);
            }
            free(x);
        }
        audio_file_close(&other);
        audio_file_close(&file);
        free(whole);
    }
}

/* Blocks of a lossy stream join as if it had been decoded in one go. */
static void lossy_streams_join_without_a_seam(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const int rate = i == 0 ? 16000 : 48000, seconds = 31;
        const int format = SF_FORMAT_OGG | (i == 0 ? SF_FORMAT_VORBIS : SF_FORMAT_OPUS);
        const char *path = record("lossy.ogg", format, rate, 1, (int64_t)rate * seconds, tones);
        audio_shape shape;
        audio_file *file = open_sound(path, &shape);
        assert_int_equal(shape.frames, (int64_t)rate * seconds);
        float *x = read_all(file, &shape);
        if (i == 0) { /* needs no resampling, so that one pass of the decoder is the answer */
            float *once = malloc((size_t)shape.frames * sizeof *once);
            SF_INFO info = {0};
            SNDFILE *stream = sf_open(path, SFM_READ, &info);
            assert_int_equal(sf_readf_float(stream, once, shape.frames), shape.frames);
            sf_close(stream);
            assert_memory_equal(x, once, (size_t)shape.samples * sizeof *x);
            free(once);
        }
        double inside = 0, seams = 0;
        for (int64_t n = 3200; n < shape.samples - 3200; n++) {
            const double error = fabs(x[n] - tones((double)n / 16000, 0));
            const int64_t away = (n + 80000) % 160000 - 80000; /* of the next seam */
            double *worst = away > -1600 && away < 1600 ? &seams : &inside;
            if (error > *worst) *worst = error;
        }
        print_message("%s: largest error %.3g, at the seams %.3g\n", i == 0 ? "Vorbis" : "Opus", inside, seams);
        assert_true(seams < 1.2 * inside);
        assert_true(inside < 0.1);
        free(x);
        audio_file_close(&file);
    }
}

static void values_that_are_not_finite_are_refused_with_their_place(void **state)
{
    (void)state;
    const char *path = record("nan.wav", WAVF, 16000, 2, 400000, noise);
    const float bad = NAN;
    SF_INFO info = {0};
    SNDFILE *out = sf_open(path, SFM_RDWR, &info);
    const float pair[2] = {0, bad};
    assert_int_equal(sf_seek(out, 200001, SF_SEEK_SET | SFM_WRITE), 200001);
    assert_int_equal(sf_writef_float(out, pair, 1), 1);
    sf_close(out);
    audio_shape shape;
    audio_file *file = open_sound(path, &shape);
    float *x = malloc(400000 * sizeof *x);
    io_error error;
    assert_int_equal(audio_file_read(file, 0, 160000, x, &error), 0);
    assert_int_equal(audio_file_read(file, 0, 400000, x, &error), -1);
    assert_refusal(&error, path, "a value that is not a finite number at sample 200001 of 400000 (12.500 s)");
    assert_int_equal(audio_file_read(file, 0, 160000, x, &error), 0);
    free(x);
    audio_file_close(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sines_are_resampled_where_they_belong),
        cmocka_unit_test(what_16_khz_cannot_hold_is_filtered_out),
        cmocka_unit_test(recordings_of_a_few_samples_are_read),
        cmocka_unit_test(channels_are_averaged),
        cmocka_unit_test(any_range_in_any_order_gives_the_same_bits),
        cmocka_unit_test(lossy_streams_join_without_a_seam),
        cmocka_unit_test(values_that_are_not_finite_are_refused_with_their_place),
    };
    return cmocka_run_group_tests_name("io.audio", tests, scratch_setup, scratch_teardown);
}
