/* The oracle: attention in float64, two plain loops a row, straight from the definition in kernels/attention.h.
 * Slow on purpose, and shares no code with what it checks. */
#ifndef KERNELS_REFERENCE_H
#define KERNELS_REFERENCE_H

#include <stdint.h>

/* One query row q [D] against `keys` rows k, v (doubles, row j at k + j * k_stride, v + j * v_stride), key j seen iff
 * begin <= j < end. Writes out [E] and, unless NULL, *lse (natural logarithm). `weights` is scratch of `keys`
 * doubles and holds the probabilities afterwards (0 for keys not seen). A row that sees nothing, or only scores
 * of -inf: out 0, lse -inf. */
void attention_reference(const double *q, const double *k, int64_t k_stride, const double *v, int64_t v_stride,
                         int64_t keys, int64_t begin, int64_t end, int dim, int value_dim, double scale, double *out,
                         double *lse, double *weights);

#endif
