#include "runtime/cli/random.h"

#include "kernels/number.h"

#include <Random123/philox.h>
#include <math.h>

enum { BLOCK = 4, RUN = 4096 /* elements a thread makes at a time */ };

/* Four normals of counter `block`. The uniforms are (word + 1/2) / 2^32, never 0 or 1: nothing beyond 6.8 sigma. */
static void normal_block(uint64_t seed, uint32_t tensor, uint64_t block, float values[BLOCK])
{
    const double two_pi = 6.283185307179586477;
    const philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    const philox4x32_ctr_t counter = {{(uint32_t)block, (uint32_t)(block >> 32), tensor, 0}};
    const philox4x32_ctr_t word = philox4x32(counter, key);
    for (int i = 0; i < BLOCK; i += 2) {
        const double radius = sqrt(-2 * log((word.v[i] + 0.5) * 0x1p-32));
        const double angle = two_pi * ((word.v[i + 1] + 0.5) * 0x1p-32);
        values[i] = (float)(radius * cos(angle));
        values[i + 1] = (float)(radius * sin(angle));
    }
}

void random_normal_floats(uint64_t seed, random_tensor tensor, int64_t first, int64_t count, float *values)
{
    float block[BLOCK];
    for (int64_t i = 0; i < count;) {
        const int64_t skip = (first + i) % BLOCK;
        normal_block(seed, (uint32_t)tensor, (uint64_t)(first + i) / BLOCK, block);
        for (int64_t j = skip; j < BLOCK && i < count; j++) values[i++] = block[j];
    }
}

void random_normal(uint64_t seed, random_tensor tensor, int64_t first, int64_t count, longspan_type type, void *target,
                   int threads)
{
    const kernel_type element = (kernel_type)type;
    const int64_t size = (int64_t)number_size(element), runs = (count + RUN - 1) / RUN;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t r = 0; r < runs; r++) {
        const int64_t begin = r * RUN, length = count - begin < RUN ? count - begin : RUN;
        float values[RUN];
        random_normal_floats(seed, tensor, first + begin, length, values);
        number_narrow(element, values, (char *)target + begin * size, length);
    }
}
