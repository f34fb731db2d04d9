#include "io/audio_features.h"
#include "io/log_mel.h"

#include <math.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { ALONE = AUDIO_SPANS /* the span of v in the hash */ };
#define SILENCE 1e-8 /* squared norm of a token whose bands are all the same but for rounding */

void audio_subsample(const float *frames, int64_t count, int mels, int every, float *out)
{
    for (int64_t begin = 0, token = 0; begin < count; begin += every, token++) {
        const int64_t end = count - begin < every ? count : begin + every;
        for (int b = 0; b < mels; b++) {
            double sum = 0;
            for (int64_t t = begin; t < end; t++) sum += frames[t * mels + b];
            out[token * mels + b] = (float)(sum / (double)(end - begin));
        }
    }
}

/* Where a band of a span goes. */
typedef struct {
    int bucket[2];
    double sign[2];
} place;

static void make_places(place *places, int mels, int dim, int head, int span, uint64_t seed)
{
    for (int b = 0; b < mels; b++) {
        const uint64_t message[3] = {(uint64_t)head, (uint64_t)span, (uint64_t)b};
        const uint64_t hash = XXH3_64bits_withSeed(message, sizeof message, seed);
        place *p = &places[b];
        p->bucket[0] = (int)((hash & 0x7fffffff) * (uint64_t)dim >> 31);
        p->bucket[1] = (int)((hash >> 32 & 0x7fffffff) * (uint64_t)dim >> 31);
        p->sign[0] = hash >> 31 & 1 ? -1 : 1;
        p->sign[1] = p->bucket[0] == p->bucket[1] ? p->sign[0] : hash >> 63 ? -1 : 1;
    }
}

/* u += z(token) */
static void add_shape(const float *token, int mels, double *u)
{
    double mean = 0;
    for (int b = 0; b < mels; b++) mean += token[b];
    mean /= mels;
    for (int b = 0; b < mels; b++) u[b] += token[b] - mean;
}

static void add_hashed(const double *u, const place *places, int mels, double factor, double *x)
{
    for (int b = 0; b < mels; b++) {
        x[places[b].bucket[0]] += places[b].sign[0] * factor * u[b];
        x[places[b].bucket[1]] += places[b].sign[1] * factor * u[b];
    }
}

static void normalise(const double *x, int dim, float *out)
{
    double square = 0;
    for (int i = 0; i < dim; i++) square += x[i] * x[i];
    const double inverse = square > SILENCE ? 1 / sqrt(square) : 0;
    for (int i = 0; i < dim; i++) out[i] = (float)(x[i] * inverse);
}

static void head_features(const float *log_mel, int64_t first, int64_t count, int mels, int head, int heads, int dim,
                          int value_dim, uint64_t seed, float *q, float *k, float *v)
{
    const int span = 1 << (head % 4);
    const float sharpness = AUDIO_SHARPNESS * sqrtf((float)dim);
    place places[AUDIO_SPANS][LOG_MEL_MOST_BANDS], alone[LOG_MEL_MOST_BANDS];
    double u[LOG_MEL_MOST_BANDS], x[AUDIO_MOST_DIM];
    for (int g = 0; g < AUDIO_SPANS; g++) make_places(places[g], mels, dim, head, g, seed);
    make_places(alone, mels, value_dim, head, ALONE, seed);
    for (int64_t t = first; t < first + count; t++) {
        const int64_t row = (t - first) * heads + head;
        memset(x, 0, sizeof x);
        for (int g = 0; g < AUDIO_SPANS; g++) {
            memset(u, 0, sizeof u);
            for (int64_t i = (int64_t)g * span; i < (int64_t)(g + 1) * span && i <= t; i++)
                add_shape(log_mel + (t - i) * mels, mels, u);
            add_hashed(u, places[g], mels, 1.0 / span, x);
        }
        normalise(x, dim, k + row * dim);
        for (int i = 0; i < dim; i++) q[row * dim + i] = sharpness * k[row * dim + i];

        memset(x, 0, sizeof x);
        memset(u, 0, sizeof u);
        add_shape(log_mel + t * mels, mels, u);
        add_hashed(u, alone, mels, 1, x);
        normalise(x, value_dim, v + row * value_dim);
    }
}

void audio_features(const float *log_mel, int64_t first, int64_t count, int mels, int heads, int dim, int value_dim,
                    uint64_t seed, float *q, float *k, float *v)
{
    for (int head = 0; head < heads; head++)
        head_features(log_mel, first, count, mels, head, heads, dim, value_dim, seed, q, k, v);
}
