#include "runtime/cli/head_values.h"

#include "runtime/cli/random.h"

#include <math.h>

void head_values_alibi(int heads, float *slopes)
{
    for (int h = 0; h < heads; h++) slopes[h] = (float)exp2(-8.0 * (h + 1) / heads);
}

void head_values_sinks(uint64_t seed, int heads, float *sinks)
{
    random_normal(seed, RANDOM_SINK, 0, heads, LONGSPAN_FLOAT32, sinks, 1);
}
