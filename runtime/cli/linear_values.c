#include "runtime/cli/linear_values.h"

#include "kernels/number.h"
#include "runtime/cli/head_values.h"

#include <math.h>

enum { MOST_DIM = 512, RUN = 8 /* vectors of MOST_DIM a thread makes at a time */ };

/* Where a standard normal number stands among all of them: even between 0 and 1. */
static double normal_share(float x)
{
    return 0.5 * erfc(-x * 0.70710678118654752);
}

static void make_log_decays(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const double share = normal_share(values[i]);
        values[i] = share < 1.0 / 64 ? -6.0f : (float)(-0.1 * share);
    }
}

static void make_betas(float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) values[i] = (float)normal_share(values[i]);
}

static void make_unit_length(float *values, int dim, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float *vector = values + i * dim;
        double square = 0;
        for (int d = 0; d < dim; d++) square += (double)vector[d] * vector[d];
        for (int d = 0; d < dim; d++) vector[d] = (float)(vector[d] / sqrt(square));
    }
}

void linear_values(const linear_variant *variant, uint64_t seed, random_tensor tensor, int dim, int64_t first,
                   int64_t count, longspan_type type, void *target, int threads)
{
    const kernel_type element = (kernel_type)type;
    const int64_t size = (int64_t)number_size(element), most = RUN * MOST_DIM / dim, runs = (count + most - 1) / most;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < runs; r++) {
        const int64_t begin = r * most, length = count - begin < most ? count - begin : most;
        float values[RUN * MOST_DIM];
        random_normal_floats(seed, tensor, (first + begin) * dim, length * dim, values);
        if (tensor == RANDOM_KEY && variant->erases) make_unit_length(values, dim, length);
        if (tensor == RANDOM_LOG_DECAY) make_log_decays(values, length * dim);
        if (tensor == RANDOM_BETA) make_betas(values, length * dim);
        number_narrow(element, values, (char *)target + begin * dim * size, length * dim);
    }
}

void linear_values_head_log_decay(int heads, float *values)
{
    head_values_alibi(heads, values);
    for (int h = 0; h < heads; h++) values[h] = -values[h];
}

void linear_values_bonus(uint64_t seed, int heads, int dim, float *values)
{
    random_normal_floats(seed, RANDOM_BONUS, 0, (int64_t)heads * dim, values);
}

static double dot(const float *a, const float *b, int dim)
{
    double sum = 0;
    for (int d = 0; d < dim; d++) sum += (double)a[d] * b[d];
    return sum;
}

void linear_values_features(uint64_t seed, int count, int dim, float *values)
{
    random_normal_floats(seed, RANDOM_FEATURES, 0, (int64_t)count * dim, values);
    for (int i = 0; i < count; i++) {
        float *row = values + (int64_t)i * dim;
        const double length = sqrt(dot(row, row, dim));
        for (int j = i / dim * dim; j < i; j++) {
            const float *earlier = values + (int64_t)j * dim;
            const double along = dot(row, earlier, dim) / dot(earlier, earlier, dim);
            for (int d = 0; d < dim; d++) row[d] -= (float)(along * earlier[d]);
        }
        const double left = sqrt(dot(row, row, dim));
        for (int d = 0; d < dim; d++) row[d] = (float)(row[d] * (length / left));
    }
}
