/* Alpha-entmax of a row in float64, by sorting, straight from the definition in kernels/entmax.h. Shares no code with
 * what it checks. */
#ifndef TESTS_ENTMAX_ORACLE_H
#define TESTS_ENTMAX_ORACLE_H

#include <stdint.h>

/* The threshold tau of `count` numbers z, in any order: sum_j max(z_j - tau, 0)^(1 / (alpha - 1)) = 1. NaN if one is
 * NaN or +inf, -inf if there is none above -inf. For alpha 2 the closed form of arXiv 1602.02068, algorithm 1; for 1.5
 * that of arXiv 1905.05702, algorithm 2; else by bisection. */
double entmax_oracle_threshold(const double *z, int64_t count, double alpha);

/* max(z - tau, 0)^(1 / (alpha - 1)) */
double entmax_oracle_weight(double z, double tau, double alpha);

#endif
