/* The rate of multiply-adds that a fold is measured against. Included after LANES is defined. */
#ifndef KERNELS_ATTENTION_PEAK_H
#define KERNELS_ATTENTION_PEAK_H

#include "kernels/attention_vector.h"
#include "kernels/float_environment.h"

#include <time.h>

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The best rate, in flop/s, of bursts of `flop` each, for `seconds`. */
static inline double best_rate(void (*burst)(void *data), void *data, double flop, double seconds)
{
    const float_environment environment = environment_enter();
    const double start = seconds_now();
    double best = 0, now = start;
    do {
        const double before = now;
        burst(data);
        now = seconds_now();
        if (flop > best * (now - before)) best = flop / (now - before);
    } while (now - start < seconds);
    environment_leave(environment);
    return best;
}

/* Chains that wait for nothing but themselves, enough of them to fill the units. Where multiply and add are one
 * instruction every chain does both; elsewhere half of them multiply and half add, which some cores do side by side. */
enum { CHAINS = 14, PEAK_STEPS = 20000 };

static __attribute__((noinline)) void multiply_add_burst(void *data)
{
    vector *restrict chains = data;
    const vector factor = splat(0.5f), term = splat(1);
    vector c[CHAINS];
    for (int i = 0; i < CHAINS; i++) c[i] = chains[i];
    for (int step = 0; step < PEAK_STEPS; step++)
        for (int i = 0; i < CHAINS; i++) {
            if (FUSED) c[i] = multiply_add(c[i], factor, term);
            else if (i % 2) c[i] *= factor;
            else c[i] += term;
        }
    for (int i = 0; i < CHAINS; i++) chains[i] = c[i];
}

static inline double blocked_peak(double seconds)
{
    vector chains[CHAINS] = {{0}};
    return best_rate(multiply_add_burst, chains, (double)PEAK_STEPS * CHAINS * LANES * (FUSED ? 2 : 1), seconds);
}

#endif
