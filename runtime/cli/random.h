/* Standard normal numbers that depend on their position only, so that any number of ranks and threads writes the same.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3),
 * from the Random123 library: the key is the seed, the counter {element / 4, tensor}. The four words of a counter give
 * four normals by two Box-Muller transforms in float64, rounded to float32 and then to the type asked for. */
#ifndef CLI_RANDOM_H
#define CLI_RANDOM_H

#include "runtime/longspan.h"

typedef enum {
    RANDOM_QUERY = 0,
    RANDOM_KEY = 1,
    RANDOM_VALUE = 2,
    RANDOM_SINK = 3,
    RANDOM_LOG_DECAY = 4,
    RANDOM_BETA = 5,
    RANDOM_BONUS = 6,
    RANDOM_FEATURES = 7,
    RANDOM_RELATIVE_KEY = 8,
    RANDOM_RELATIVE_BIAS_U = 9,
    RANDOM_RELATIVE_BIAS_W = 10,
} random_tensor;

/* Elements [first, first + count) of a tensor, in `type`, on `threads` OpenMP threads. Not collective. */
void random_normal(uint64_t seed, random_tensor tensor, int64_t first, int64_t count, longspan_type type, void *target,
                   int threads);

/* The same in float32 on the calling thread. */
void random_normal_floats(uint64_t seed, random_tensor tensor, int64_t first, int64_t count, float *values);

#endif
