#include "io/text.h"

#include <math.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { MOST_N = 3, PIECE = 256, KEPT = 64 /* a power of two above TEXT_WINDOW_MOST + MOST_N */ };

static uint64_t token_hash(const text_token *token, const char *bytes, int64_t bytes_begin, uint64_t seed)
{
    const char *text = bytes + (token->begin - bytes_begin);
    char lower[PIECE];
    uint64_t hash = seed;
    for (int64_t at = 0; at < token->length; at += PIECE) {
        int count = token->length - at < PIECE ? (int)(token->length - at) : PIECE;
        for (int i = 0; i < count; i++) {
            char c = text[at + i];
            lower[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        }
        hash = XXH3_64bits_withSeed(lower, (size_t)count, hash);
    }
    return hash;
}

/* The last KEPT token hashes, that of token t at t % KEPT. */
typedef struct {
    uint64_t hash[KEPT];
} token_ring;

/* counts += times * sum over the two hash functions of sign(g) e_bucket(g), g the n-gram that ends with token `last`.
 * The two signs of a gram agree where its buckets do, so that no gram cancels itself. */
static void add_gram(int32_t *counts, int dim, const token_ring *ring, int64_t last, int n, int head, uint64_t seed,
                     int32_t times)
{
    uint64_t message[2 + MOST_N] = {(uint64_t)head, (uint64_t)n};
    for (int i = 0; i < n; i++) message[2 + i] = ring->hash[(last - i) % KEPT];
    uint64_t hash = XXH3_64bits_withSeed(message, (size_t)(2 + n) * sizeof *message, seed);
    int first = (int)((hash & 0x7fffffff) * (uint64_t)dim >> 31);
    int second = (int)((hash >> 32 & 0x7fffffff) * (uint64_t)dim >> 31);
    int32_t first_sign = hash >> 31 & 1 ? -times : times;
    int32_t second_sign = hash >> 63 ? -times : times;
    counts[first] += first_sign;
    counts[second] += first == second ? first_sign : second_sign;
}

/* Counts are integers, so their sum does not depend on the order in which grams came and went. */
static void normalise(const int32_t *counts, int dim, float *x)
{
    int64_t square = 0;
    for (int i = 0; i < dim; i++) square += (int64_t)counts[i] * counts[i];
    double inverse = square > 0 ? 1.0 / sqrt((double)square) : 0.0;
    for (int i = 0; i < dim; i++) x[i] = (float)(counts[i] * inverse);
}

static void scale_row(float *target, const float *x, int dim, float factor)
{
    for (int i = 0; i < dim; i++) target[i] = factor * x[i];
}

static void head_features(const text_token *tokens, int64_t first, int64_t count, const char *bytes,
                          int64_t bytes_begin, int head, int heads, int dim, int value_dim, uint64_t seed, float *q,
                          float *k, float *v)
{
    int64_t window = 4 << (head % 4), start = first > TEXT_WINDOW_MOST ? first - TEXT_WINDOW_MOST : 0;
    int32_t counts[TEXT_MOST_DIM] = {0}, alone[TEXT_MOST_DIM];
    float sharpness = TEXT_SHARPNESS * sqrtf((float)dim);
    token_ring ring;
    for (int64_t t = start; t < first + count; t++) {
        ring.hash[t % KEPT] = token_hash(&tokens[t], bytes, bytes_begin, seed);
        for (int n = 1; n <= MOST_N; n++) {
            if (t - n + 1 >= start) add_gram(counts, dim, &ring, t, n, head, seed, 1);
            /* The gram that begins just ahead of the window. */
            int64_t gone = t - window + n - 1;
            if (gone - n + 1 >= start) add_gram(counts, dim, &ring, gone, n, head, seed, -1);
        }
        if (t < first) continue;
        int64_t row = (t - first) * heads + head;
        normalise(counts, dim, k + row * dim);
        scale_row(q + row * dim, k + row * dim, dim, sharpness);
        memset(alone, 0, sizeof alone);
        add_gram(alone, value_dim, &ring, t, 1, head, seed, 1);
        normalise(alone, value_dim, v + row * value_dim);
    }
}

void text_features(const text_token *tokens, int64_t first, int64_t count, const char *bytes, int64_t bytes_begin,
                   int heads, int dim, int value_dim, uint64_t seed, float *q, float *k, float *v)
{
    for (int head = 0; head < heads; head++) {
        head_features(tokens, first, count, bytes, bytes_begin, head, heads, dim, value_dim, seed, q, k, v);
    }
}
