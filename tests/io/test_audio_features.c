/* Features against their definition in io/audio_features.h, term by term; and that no split changes a bit. */
#include "io/audio_features.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { SEED = 20261125, MELS = 23 };

static void fill_random(float *x, int count, uint32_t seed)
{
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 1677721.6f - 12; /* -12 to -2 */
    }
}

/* x of the `spans` spans of `span` tokens that end with token t; span number `name` of the hash for the first. */
static void feature_oracle(const float *rows, int64_t t, int mels, int spans, int span, int name, int head, int dim,
                           uint64_t seed, double *x)
{
    memset(x, 0, (size_t)dim * sizeof *x);
    for (int g = 0; g < spans; g++) {
        for (int b = 0; b < mels; b++) {
            double u = 0;
            for (int i = g * span; i < (g + 1) * span; i++) {
                if (t - i < 0) continue;
                double mean = 0;
                for (int c = 0; c < mels; c++) mean += (double)rows[(t - i) * mels + c] / mels;
                u += (rows[(t - i) * mels + b] - mean) / span;
            }
            const uint64_t message[3] = {(uint64_t)head, (uint64_t)(name + g), (uint64_t)b};
            const uint64_t hash = XXH3_64bits_withSeed(message, 24, seed);
            const uint32_t halves[2] = {(uint32_t)hash, (uint32_t)(hash >> 32)};
            int bucket[2];
            double sign[2];
            for (int f = 0; f < 2; f++) {
                bucket[f] = (int)floor((halves[f] & 0x7fffffff) / 2147483648.0 * dim);
                sign[f] = halves[f] >> 31 ? -1 : 1;
            }
            x[bucket[0]] += sign[0] * u;
            x[bucket[1]] += (bucket[0] == bucket[1] ? sign[0] : sign[1]) * u;
        }
    }
    double square = 0;
    for (int i = 0; i < dim; i++) square += x[i] * x[i];
    for (int i = 0; i < dim && square > 0; i++) x[i] /= sqrt(square);
}

static void assert_row(const float *got, const double *x, int dim, double factor, const char *what, int64_t t, int head)
{
    for (int i = 0; i < dim; i++)
        if (fabs(got[i] - factor * x[i]) > 3e-7 * factor)
            fail_msg("%s of token %lld, head %d, D = %d: entry %d is %g, not %g", what, (long long)t, head, dim, i,
                     got[i], factor * x[i]);
}

static void features_are_those_of_the_definition(void **state)
{
    (void)state;
    enum { COUNT = 70, HEADS = 6 };
    static const int dims[][2] = {{64, 32}, {7, 5}, {1, 1}, {512, 512}};
    static float rows[COUNT * MELS];
    fill_random(rows, COUNT * MELS, 1);
    for (size_t c = 0; c < sizeof dims / sizeof dims[0]; c++) {
        const int dim = dims[c][0], value_dim = dims[c][1];
        float *q = malloc(sizeof(float) * COUNT * HEADS * (size_t)dim);
        float *k = malloc(sizeof(float) * COUNT * HEADS * (size_t)dim);
        float *v = malloc(sizeof(float) * COUNT * HEADS * (size_t)value_dim);
        audio_features(rows, 0, COUNT, MELS, HEADS, dim, value_dim, SEED, q, k, v);
        for (int64_t t = 0; t < COUNT; t++) {
            for (int head = 0; head < HEADS; head++) {
                double x[512];
                feature_oracle(rows, t, MELS, 4, 1 << head % 4, 0, head, dim, SEED, x);
                assert_row(k + (t * HEADS + head) * dim, x, dim, 1, "k", t, head);
                assert_row(q + (t * HEADS + head) * dim, x, dim, 20 * sqrt(dim), "q", t, head);
                feature_oracle(rows, t, MELS, 1, 1, 4, head, value_dim, SEED, x);
                assert_row(v + (t * HEADS + head) * value_dim, x, value_dim, 1, "v", t, head);
            }
        }
        free(q);
        free(k);
        free(v);
    }
}

static void every_split_gives_the_same_bits(void **state)
{
    (void)state;
    enum { COUNT = 80, HEADS = 5, DIM = 9, VALUE_DIM = 4 };
    static float rows[COUNT * MELS], q[COUNT * HEADS * DIM], k[COUNT * HEADS * DIM], v[COUNT * HEADS * VALUE_DIM];
    static float q2[COUNT * HEADS * DIM], k2[COUNT * HEADS * DIM], v2[COUNT * HEADS * VALUE_DIM];
    fill_random(rows, COUNT * MELS, 2);
    audio_features(rows, 0, COUNT, MELS, HEADS, DIM, VALUE_DIM, SEED, q, k, v);
    for (int64_t begin = 0; begin <= COUNT; begin++) {
        for (int64_t end = begin; end <= COUNT; end++) {
            const int64_t before = begin < AUDIO_WINDOW_MOST - 1 ? begin : AUDIO_WINDOW_MOST - 1;
            audio_features(rows + (begin - before) * MELS, before, end - begin, MELS, HEADS, DIM, VALUE_DIM, SEED, q2,
                           k2, v2);
            const size_t count = (size_t)(end - begin) * HEADS, skipped = (size_t)begin * HEADS;
            if (memcmp(q2, q + skipped * DIM, count * DIM * sizeof *q) != 0 ||
                memcmp(k2, k + skipped * DIM, count * DIM * sizeof *k) != 0 ||
                memcmp(v2, v + skipped * VALUE_DIM, count * VALUE_DIM * sizeof *v) != 0)
                fail_msg("tokens %lld to %lld on their own differ from those of the whole", (long long)begin,
                         (long long)end);
        }
    }
}

static void silence_is_zero_and_loudness_changes_nothing(void **state)
{
    (void)state;
    enum { COUNT = 40, DIM = 64 };
    static float rows[COUNT * MELS], q[COUNT * DIM], k[COUNT * DIM], v[COUNT * DIM], k2[COUNT * DIM], v2[COUNT * DIM];
    for (int i = 0; i < COUNT * MELS; i++) rows[i] = -23.025851f;
    audio_features(rows, 0, COUNT, MELS, 1, DIM, DIM, SEED, q, k, v);
    for (int i = 0; i < COUNT * DIM; i++) assert_true(q[i] == 0 && k[i] == 0 && v[i] == 0);
    fill_random(rows, COUNT * MELS, 3);
    audio_features(rows, 0, COUNT, MELS, 1, DIM, DIM, SEED, q, k, v);
    for (int i = 0; i < COUNT * MELS; i++) rows[i] += 1.5f;
    audio_features(rows, 0, COUNT, MELS, 1, DIM, DIM, SEED, q, k2, v2);
    for (int i = 0; i < COUNT * DIM; i++) assert_true(fabsf(k[i] - k2[i]) < 1e-5f && fabsf(v[i] - v2[i]) < 1e-5f);
    audio_features(rows, 0, COUNT, MELS, 1, DIM, DIM, SEED + 1, q, k, v);
    assert_memory_not_equal(k, k2, sizeof k);
}

static void a_token_is_the_mean_of_its_frames(void **state)
{
    (void)state;
    enum { FRAMES = 29 };
    static float frames[FRAMES * MELS], out[FRAMES * MELS], place[FRAMES * MELS];
    fill_random(frames, FRAMES * MELS, 4);
    for (int every = 1; every <= 8; every++) {
        const int tokens = (FRAMES + every - 1) / every;
        memcpy(place, frames, sizeof frames);
        audio_subsample(frames, FRAMES, MELS, every, out);
        audio_subsample(place, FRAMES, MELS, every, place);
        assert_memory_equal(out, place, (size_t)(tokens * MELS) * sizeof *out);
        for (int t = 0; t < tokens; t++) {
            for (int b = 0; b < MELS; b++) {
                double sum = 0;
                int count = 0;
                for (int i = t * every; i < FRAMES && i < (t + 1) * every; i++, count++) sum += frames[i * MELS + b];
                assert_true(fabs(out[t * MELS + b] - sum / count) < 2e-6);
            }
        }
        if (every == 1) assert_memory_equal(out, frames, sizeof frames);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_those_of_the_definition),
        cmocka_unit_test(every_split_gives_the_same_bits),
        cmocka_unit_test(silence_is_zero_and_loudness_changes_nothing),
        cmocka_unit_test(a_token_is_the_mean_of_its_frames),
    };
    return cmocka_run_group_tests_name("io.audio_features", tests, NULL, NULL);
}
