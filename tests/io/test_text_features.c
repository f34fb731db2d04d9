/* Features against their definition in io/text.h, in double and gram by gram; and what they are for: attention that
 * finds an earlier passage. */
#include "io/text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { SEED = 20261120 };

typedef struct {
    char *bytes;
    int64_t size, count;
    text_token *tokens;
} document;

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* `count` words w0 ... w(words - 1), some in capitals, separated by blanks. */
static document random_document(int64_t count, int words, uint64_t seed)
{
    document d = {malloc((size_t)count * 12), 0, count, malloc((size_t)count * sizeof(text_token))};
    for (int64_t i = 0; i < count; i++) {
        char word[16];
        bool capital = next_random(&seed) % 8 == 0;
        int length =
            snprintf(word, sizeof word, "%c%d", capital ? 'W' : 'w', (int)(next_random(&seed) % (unsigned)words));
        memcpy(d.bytes + d.size, word, (size_t)length);
        d.bytes[d.size + length] = ' ';
        d.tokens[i] = (text_token){d.size, length};
        d.size += length + 1;
    }
    return d;
}

static void document_free(document *d)
{
    free(d->bytes);
    free(d->tokens);
}

/* x_h(t) of the definition: every gram of at most 3 tokens among the last `window` up to t, each hashed on its own. */
static void feature_oracle(const document *d, int64_t t, int window, int most_n, int head, int dim, uint64_t seed,
                           double *x)
{
    memset(x, 0, (size_t)dim * sizeof *x);
    for (int64_t begin = t - window + 1 > 0 ? t - window + 1 : 0; begin <= t; begin++) {
        for (int n = 1; n <= most_n && begin + n - 1 <= t; n++) {
            uint64_t message[5] = {(uint64_t)head, (uint64_t)n};
            for (int i = 0; i < n; i++) {
                char lower[64];
                const text_token *token = &d->tokens[begin + n - 1 - i];
                for (int c = 0; c < token->length; c++) {
                    char original = d->bytes[token->begin + c];
                    lower[c] = original == 'W' ? 'w' : original;
                }
                message[2 + i] = XXH3_64bits_withSeed(lower, (size_t)token->length, seed);
            }
            uint64_t hash = XXH3_64bits_withSeed(message, 8 * (2 + (size_t)n), seed);
            uint32_t halves[2] = {(uint32_t)hash, (uint32_t)(hash >> 32)};
            int buckets[2];
            double signs[2];
            for (int f = 0; f < 2; f++) {
                buckets[f] = (int)floor((double)(halves[f] & 0x7fffffff) / 2147483648.0 * dim);
                signs[f] = halves[f] >> 31 ? -1 : 1;
            }
            x[buckets[0]] += signs[0];
            x[buckets[1]] += buckets[0] == buckets[1] ? signs[0] : signs[1];
        }
    }
    double square = 0;
    for (int i = 0; i < dim; i++) square += x[i] * x[i];
    for (int i = 0; i < dim && square > 0; i++) x[i] /= sqrt(square);
}

static void assert_row(const float *got, const double *x, int dim, double factor, const char *what, int64_t t, int head)
{
    for (int i = 0; i < dim; i++) {
        if (fabs(got[i] - factor * x[i]) > 2e-7 * factor) {
            fail_msg("%s of token %lld, head %d, D = %d: entry %d is %g, not %g", what, (long long)t, head, dim, i,
                     got[i], factor * x[i]);
        }
    }
}

static void features_are_those_of_the_definition(void **state)
{
    (void)state;
    enum { COUNT = 90, HEADS = 6 };
    static const int dims[][2] = {{64, 32}, {7, 5}, {1, 1}, {512, 512}, {3, 64}};
    document d = random_document(COUNT, 12, SEED);
    for (size_t c = 0; c < sizeof dims / sizeof dims[0]; c++) {
        int dim = dims[c][0], value_dim = dims[c][1];
        float *q = malloc(sizeof(float) * COUNT * HEADS * (size_t)dim),
              *k = malloc(sizeof(float) * COUNT * HEADS * (size_t)dim);
        float *v = malloc(sizeof(float) * COUNT * HEADS * (size_t)value_dim);
        text_features(d.tokens, 0, COUNT, d.bytes, 0, HEADS, dim, value_dim, SEED, q, k, v);
        for (int64_t t = 0; t < COUNT; t++) {
            for (int head = 0; head < HEADS; head++) {
                double x[512];
                feature_oracle(&d, t, 4 << head % 4, 3, head, dim, SEED, x);
                assert_row(k + (t * HEADS + head) * dim, x, dim, 1, "k", t, head);
                assert_row(q + (t * HEADS + head) * dim, x, dim, TEXT_SHARPNESS * sqrt(dim), "q", t, head);
                feature_oracle(&d, t, 1, 1, head, value_dim, SEED, x);
                assert_row(v + (t * HEADS + head) * value_dim, x, value_dim, 1, "v", t, head);
                double square = 0;
                for (int i = 0; i < value_dim; i++) square += x[i] * x[i];
                assert_true(fabs(square - 1) < 1e-12);
            }
        }
        free(q);
        free(k);
        free(v);
    }
    document_free(&d);
}

static void every_split_gives_the_same_bits(void **state)
{
    (void)state;
    enum { COUNT = 80, HEADS = 5, DIM = 9, VALUE_DIM = 4 };
    static float q[COUNT * HEADS * DIM], k[COUNT * HEADS * DIM], v[COUNT * HEADS * VALUE_DIM];
    static float q2[COUNT * HEADS * DIM], k2[COUNT * HEADS * DIM], v2[COUNT * HEADS * VALUE_DIM];
    document d = random_document(COUNT, 9, SEED + 1);
    text_features(d.tokens, 0, COUNT, d.bytes, 0, HEADS, DIM, VALUE_DIM, SEED, q, k, v);
    for (int64_t begin = 0; begin <= COUNT; begin++) {
        for (int64_t end = begin; end <= COUNT; end++) {
            /* Just enough context, in a buffer that begins with it, as text_read_tokens returns it. */
            int64_t before = begin < TEXT_WINDOW_MOST ? begin : TEXT_WINDOW_MOST, first = begin - before;
            int64_t bytes_begin = first < COUNT ? d.tokens[first].begin : d.size;
            memset(q2, 0, sizeof q2);
            text_features(d.tokens + first, before, end - begin, d.bytes + bytes_begin, bytes_begin, HEADS, DIM,
                          VALUE_DIM, SEED, q2, k2, v2);
            size_t rows = (size_t)(end - begin) * HEADS, skipped = (size_t)begin * HEADS;
            if (memcmp(q2, q + skipped * DIM, rows * DIM * sizeof *q) != 0 ||
                memcmp(k2, k + skipped * DIM, rows * DIM * sizeof *k) != 0 ||
                memcmp(v2, v + skipped * VALUE_DIM, rows * VALUE_DIM * sizeof *v) != 0) {
                fail_msg("tokens %lld to %lld on their own differ from those of the whole", (long long)begin,
                         (long long)end);
            }
        }
    }
    document_free(&d);
}

static void long_tokens_that_differ_in_one_byte_differ(void **state)
{
    (void)state;
    enum { LENGTH = 5000, DIM = 64 };
    static char bytes[2 * LENGTH];
    float q[2 * DIM], k[2 * DIM], v[2 * DIM];
    memset(bytes, 'a', sizeof bytes);
    const text_token tokens[] = {{0, LENGTH}, {LENGTH, LENGTH}};
    text_features(tokens, 0, 2, bytes, 0, 1, DIM, DIM, SEED, q, k, v);
    assert_memory_equal(v, v + DIM, sizeof v / 2);
    static const int places[] = {LENGTH, LENGTH + LENGTH / 2, 2 * LENGTH - 1};
    for (int i = 0; i < 3; i++) {
        bytes[places[i]] = 'b';
        text_features(tokens, 0, 2, bytes, 0, 1, DIM, DIM, SEED, q, k, v);
        assert_memory_not_equal(v, v + DIM, sizeof v / 2);
        bytes[places[i]] = 'a';
    }
}

static void the_seed_and_the_head_change_the_features(void **state)
{
    (void)state;
    enum { DIM = 64 };
    float q[2 * DIM], k[2 * DIM], v[2 * DIM], k2[2 * DIM];
    document d = random_document(1, 5, SEED);
    text_features(d.tokens, 0, 1, d.bytes, 0, 2, DIM, DIM, SEED, q, k, v);
    text_features(d.tokens, 0, 1, d.bytes, 0, 2, DIM, DIM, SEED + 1, q, k2, v);
    assert_memory_not_equal(k, k + DIM, DIM * sizeof *k);
    assert_memory_not_equal(k, k2, DIM * sizeof *k);
    document_free(&d);
}

/* Probability that row `row` of one head gives to keys [begin, end), keys after the row being masked. */
static double mass(const float *q, const float *k, int dim, int64_t row, int64_t begin, int64_t end)
{
    double total = 0, wanted = 0;
    for (int64_t j = 0; j <= row; j++) {
        double score = 0;
        for (int i = 0; i < dim; i++) score += (double)q[row * dim + i] * k[j * dim + i];
        double weight = exp(score / sqrt(dim) - TEXT_SHARPNESS);
        total += weight;
        if (j >= begin && j < end) wanted += weight;
    }
    return wanted / total;
}

static void a_repeated_passage_attends_to_its_earlier_twin(void **state)
{
    (void)state;
    enum { COUNT = 50000, DIM = 64, PASSAGE = 40, EARLIER = 12345, LATER = 43210 };
    document d = random_document(COUNT, 5000, SEED + 2);
    for (int i = 0; i < PASSAGE; i++) d.tokens[LATER + i] = d.tokens[EARLIER + i];
    float *q = malloc(sizeof(float) * COUNT * DIM * 4), *k = malloc(sizeof(float) * COUNT * DIM * 4);
    float *v = malloc(sizeof(float) * COUNT * 4), *head_q = malloc(sizeof(float) * COUNT * DIM);
    float *head_k = malloc(sizeof(float) * COUNT * DIM);
    text_features(d.tokens, 0, COUNT, d.bytes, 0, 4, DIM, 1, SEED, q, k, v);
    for (int head = 0; head < 4; head++) {
        for (int64_t t = 0; t < COUNT; t++) {
            memcpy(head_q + t * DIM, q + (t * 4 + head) * DIM, DIM * sizeof *q);
            memcpy(head_k + t * DIM, k + (t * 4 + head) * DIM, DIM * sizeof *k);
        }
        for (int i = PASSAGE - 4; i < PASSAGE; i++) {
            double twin = mass(head_q, head_k, DIM, LATER + i, EARLIER, EARLIER + PASSAGE + 4);
            double near = mass(head_q, head_k, DIM, LATER + i, LATER + i - 64, LATER + i + 1);
            print_message("head %d, row %d of the passage: %.2f to its twin, %.2f to its neighbours\n", head, i, twin,
                          near);
            assert_true(twin > 0.4);
            assert_true(twin > 0.8 * (1 - near));
        }
    }
    free(q);
    free(k);
    free(v);
    free(head_q);
    free(head_k);
    document_free(&d);
}

static void unrelated_passages_score_near_zero(void **state)
{
    (void)state;
    enum { COUNT = 4000, DIM = 64, STEP = 40 };
    document d = random_document(COUNT, 1000000, SEED + 3);
    float *q = malloc(sizeof(float) * COUNT * DIM * 4), *k = malloc(sizeof(float) * COUNT * DIM * 4);
    float *v = malloc(sizeof(float) * COUNT * 4);
    text_features(d.tokens, 0, COUNT, d.bytes, 0, 4, DIM, 1, SEED, q, k, v);
    double sum = 0, squares = 0;
    int64_t pairs = 0;
    for (int64_t i = STEP - 1; i < COUNT; i += STEP) {
        for (int64_t j = STEP - 1; j < i; j += STEP) {
            for (int head = 0; head < 4; head++) {
                double score = 0;
                for (int e = 0; e < DIM; e++)
                    score += (double)q[(i * 4 + head) * DIM + e] * k[(j * 4 + head) * DIM + e];
                score /= sqrt(DIM);
                sum += score;
                squares += score * score;
                pairs++;
            }
        }
    }
    /* Independent directions in D dimensions: mean 0, deviation sharpness / sqrt(D). */
    assert_true(fabs(sum / (double)pairs) < 0.1);
    assert_true(fabs(sqrt(squares / (double)pairs) / (TEXT_SHARPNESS / sqrt(DIM)) - 1) < 0.05);
    free(q);
    free(k);
    free(v);
    document_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_are_those_of_the_definition),
        cmocka_unit_test(every_split_gives_the_same_bits),
        cmocka_unit_test(long_tokens_that_differ_in_one_byte_differ),
        cmocka_unit_test(the_seed_and_the_head_change_the_features),
        cmocka_unit_test(a_repeated_passage_attends_to_its_earlier_twin),
        cmocka_unit_test(unrelated_passages_score_near_zero),
    };
    return cmocka_run_group_tests_name("io.text_features", tests, NULL, NULL);
}
