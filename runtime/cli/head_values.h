/* Values of heads for inputs that are made up: --alibi and --sinks of generate and bench. */
#ifndef CLI_HEAD_VALUES_H
#define CLI_HEAD_VALUES_H

#include <stdint.h>

/* slopes[h] = 2^(-8 (h + 1) / H), the geometric sequence of Press, Smith & Lewis, arXiv 2108.12409, section 3. */
void head_values_alibi(int heads, float *slopes);

/* Standard normal, by the seed. */
void head_values_sinks(uint64_t seed, int heads, float *sinks);

#endif
