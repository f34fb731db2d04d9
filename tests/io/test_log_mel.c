/* Frames against their definition, by a direct transform in double and filters made anew; the scale and the filters
 * against published values. */
#include "io/log_mel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double tau = 6.28318530717958647692;

static const log_mel_settings usual = {.window = 400, .hop = 160, .fft = 512, .mels = 80, .low = 0, .high = 8000};

static log_mel *create(log_mel_settings settings, int workers)
{
    log_mel *mel = NULL;
    io_error error;
    if (log_mel_create(&settings, workers, &mel, &error)) fail_msg("%s", error.text);
    return mel;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void fill_noise(float *x, int count, uint32_t seed)
{
    for (int i = 0; i < count; i++) x[i] = (float)next_random(&seed) / 8388608.0f - 1.0f;
}

/* The documentation of librosa's hz_to_mel, mel_to_hz and mel_frequencies(n_mels=40). */
static void the_scale_has_the_published_values(void **state)
{
    (void)state;
    static const double frequencies[] = {
        0,        85.317,   170.635,  255.952,  341.269,  426.586,  511.904,  597.221,  682.538,   767.855,
        853.173,  938.49,   1024.856, 1119.114, 1222.042, 1334.436, 1457.167, 1591.187, 1737.532,  1897.337,
        2071.84,  2262.393, 2470.47,  2697.686, 2945.799, 3216.731, 3512.582, 3835.643, 4188.417,  4573.636,
        4994.285, 5453.621, 5955.205, 6502.92,  7101.009, 7754.107, 8467.272, 9246.028, 10096.408, 11025.};
    const double top = log_mel_from_hertz(11025);
    assert_true(fabs(top - 49.91059448015905) < 1e-12);
    for (int i = 0; i < 40; i++) assert_true(fabs(log_mel_to_hertz(top * i / 39) - frequencies[i]) < 6e-4);
    assert_true(fabs(log_mel_from_hertz(60) - 0.9) < 1e-12);
    assert_true(fabs(log_mel_from_hertz(440) - 6.6) < 1e-12);
    assert_true(fabs(log_mel_from_hertz(1000) - 15) < 1e-12);
    assert_true(fabs(log_mel_from_hertz(6400) - 42) < 1e-12);
    assert_true(fabs(log_mel_to_hertz(5) - 333.333333333) < 1e-8);
    for (double f = 1; f < 20000; f *= 1.1) assert_true(fabs(log_mel_to_hertz(log_mel_from_hertz(f)) / f - 1) < 1e-13);
}

/* The filters of Whisper (mel_filters.npz, 80 bands), which are float32. */
static void the_filters_have_the_published_values(void **state)
{
    (void)state;
    static const struct {
        int band, bin;
        double weight;
    } known[] = {
        {0, 0, 0},
        {0, 1, 0.02486259490251541},
        {0, 2, 0},
        {1, 1, 0.001990821911022067},
        {1, 2, 0.022871771827340126},
        {2, 2, 0.003981643822044134},
        {2, 3, 0.02088095061480999},
        {10, 12, 0},
        {39, 41, 0.011486922390758991},
        {69, 131, 0.00487553421407938},
        {79, 190, 0.0022320549469441175},
        {79, 192, 0.0031647116411477327},
        {79, 199, 0.0004487590049393475},
        {79, 200, 0},
    };
    log_mel_settings settings = usual;
    settings.fft = 400;
    log_mel *mel = create(settings, 1);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const double weight = log_mel_weight(mel, known[i].band, known[i].bin);
        if (fabs(weight - known[i].weight) > 3e-7 * known[i].weight + 1e-12)
            fail_msg("band %d, bin %d: %.10g, not %.10g", known[i].band, known[i].bin, weight, known[i].weight);
    }
    double sum = 0;
    for (int b = 0; b < 80; b++)
        for (int c = 0; c <= 200; c++) sum += log_mel_weight(mel, b, c);
    assert_true(fabs(sum / 1.999024 - 1) < 1e-5);
    log_mel_destroy(&mel);
    assert_null(mel);
}

static double hertz(double mel)
{
    return mel < 15 ? mel * 200 / 3 : 1000 * pow(6.4, (mel - 15) / 27);
}

static double mels_of(double f)
{
    return f < 1000 ? f * 3 / 200 : 15 + 27 * log(f / 1000) / log(6.4);
}

/* One frame by the definition: every bin by its own sum, every band over every bin. */
static void frame_oracle(const log_mel_settings *s, const float *x, double *out)
{
    double *power = calloc((size_t)s->fft / 2 + 1, sizeof *power);
    for (int c = 0; c <= s->fft / 2; c++) {
        double re = 0, im = 0;
        for (int n = 0; n < s->window; n++) {
            const double sine = sin(tau / 2 * n / s->window), turn = tau * ((long)c * n % s->fft) / s->fft;
            re += sine * sine * x[n] * cos(turn);
            im -= sine * sine * x[n] * sin(turn);
        }
        power[c] = re * re + im * im;
    }
    const double low = mels_of(s->low), step = (mels_of(s->high) - low) / (s->mels + 1);
    for (int b = 0; b < s->mels; b++) {
        const double f0 = hertz(low + step * b), f1 = hertz(low + step * (b + 1)), f2 = hertz(low + step * (b + 2));
        double energy = 0;
        for (int c = 0; c <= s->fft / 2; c++) {
            const double f = 16000.0 * c / s->fft;
            if (f <= f0 || f >= f2) continue;
            energy += (f < f1 ? (f - f0) / (f1 - f0) : (f2 - f) / (f2 - f1)) * 2 / (f2 - f0) * power[c];
        }
        out[b] = log(fmax(energy, 1e-10));
    }
    free(power);
}

static void frames_are_those_of_the_definition(void **state)
{
    (void)state;
    static const log_mel_settings cases[] = {{400, 160, 512, 80, 0, 8000},    {400, 160, 400, 80, 0, 8000},
                                             {400, 160, 512, 128, 0, 8000},   {512, 128, 512, 64, 20, 7600},
                                             {399, 77, 401, 23, 125.5, 3800}, {3, 1, 4, 1, 0, 8000},
                                             {16, 16, 1024, 40, 300, 8000},   {1600, 1600, 2048, 128, 0, 4000}};
    enum { FRAMES = 5 };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const log_mel_settings *s = &cases[c];
        const int length = (FRAMES - 1) * s->hop + s->window;
        float *x = malloc((size_t)length * sizeof *x), *out = malloc((size_t)(FRAMES * s->mels) * sizeof *out);
        double *expected = malloc((size_t)s->mels * sizeof *expected);
        log_mel *mel = create(*s, 1);
        fill_noise(x, length, 20261125);
        for (int i = length / 2; i < length; i++) x[i] *= 1e-4f; /* loud and faint */
        log_mel_frames(mel, 0, x, FRAMES, out);
        for (int t = 0; t < FRAMES; t++) {
            frame_oracle(s, x + t * s->hop, expected);
            for (int b = 0; b < s->mels; b++)
                if (fabs(out[t * s->mels + b] - expected[b]) > 2e-6 * (1 + fabs(expected[b])))
                    fail_msg("case %zu, frame %d, band %d: %.9g, not %.9g", c, t, b, out[t * s->mels + b], expected[b]);
        }
        log_mel_destroy(&mel);
        free(x);
        free(out);
        free(expected);
    }
}

static void every_split_and_worker_gives_the_same_bits(void **state)
{
    (void)state;
    enum { FRAMES = 12, MELS = 80, LENGTH = (FRAMES - 1) * 160 + 400, WORKERS = 3 };
    static float x[LENGTH + 3], whole[FRAMES * MELS], part[FRAMES * MELS];
    log_mel *mel = create(usual, WORKERS);
    fill_noise(x, LENGTH, 7);
    log_mel_frames(mel, 0, x, FRAMES, whole);
    for (int shift = 0; shift < 4; shift++) { /* of the address: vectors must not matter */
        memmove(x + shift, x + (shift ? shift - 1 : 0), LENGTH * sizeof *x);
        for (int begin = 0; begin < FRAMES; begin++) {
            for (int end = begin; end <= FRAMES; end++) {
                log_mel_frames(mel, (begin + end) % WORKERS, x + shift + begin * 160, end - begin, part);
                assert_memory_equal(part, whole + begin * MELS, (size_t)((end - begin) * MELS) * sizeof *part);
            }
        }
    }
    log_mel_destroy(&mel);
}

static void a_tone_is_in_its_band_and_silence_at_the_floor(void **state)
{
    (void)state;
    static float x[400], out[80];
    log_mel *mel = create(usual, 1);
    log_mel_frames(mel, 0, x, 1, out);
    for (int b = 0; b < 80; b++) assert_true(out[b] == (float)log(1e-10));
    for (double f = 150; f < 7500; f *= 1.07) {
        for (int n = 0; n < 400; n++) x[n] = (float)sin(tau * f * n / 16000);
        log_mel_frames(mel, 0, x, 1, out);
        int best = 0;
        for (int b = 1; b < 80; b++)
            if (out[b] > out[best]) best = b;
        const double place = mels_of(f) * 81 / mels_of(8000) - 1; /* band b has its top at mel (b + 1) / 81 of all */
        assert_true(fabs(best - place) < 1.3);
    }
    log_mel_destroy(&mel);
}

static void settings_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    static const struct {
        log_mel_settings settings;
        const char *says;
    } cases[] = {
        {{400, 0, 512, 80, 0, 8000}, "hop"},
        {{1, 160, 512, 80, 0, 8000}, "window of 1"},
        {{16001, 160, 65536, 80, 0, 8000}, "window of 16001"},
        {{400, 160, 399, 80, 0, 8000}, "transform of 399"},
        {{400, 160, 65537, 80, 0, 8000}, "transform of 65537"},
        {{400, 160, 512, 0, 0, 8000}, "0 mel bands"},
        {{400, 160, 512, 513, 0, 8000}, "513 mel bands"},
        {{400, 160, 512, 80, 8000, 8000}, "range"},
        {{400, 160, 512, 80, -1, 8000}, "range"},
        {{400, 160, 512, 80, 0, 8001}, "range"},
        {{400, 160, 512, 256, 0, 8000}, "holds no frequency"},
        {{400, 160, 512, 80, NAN, 8000}, "range"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        log_mel *mel = NULL;
        io_error error = {""};
        assert_int_equal(log_mel_create(&cases[i].settings, 1, &mel, &error), -1);
        assert_null(mel);
        if (!strstr(error.text, cases[i].says)) fail_msg("case %zu: '%s'", i, error.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_scale_has_the_published_values),
        cmocka_unit_test(the_filters_have_the_published_values),
        cmocka_unit_test(frames_are_those_of_the_definition),
        cmocka_unit_test(every_split_and_worker_gives_the_same_bits),
        cmocka_unit_test(a_tone_is_in_its_band_and_silence_at_the_floor),
        cmocka_unit_test(settings_that_contradict_each_other_are_refused),
    };
    return cmocka_run_group_tests_name("io.log_mel", tests, NULL, NULL);
}
