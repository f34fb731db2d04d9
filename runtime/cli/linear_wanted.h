/* What a linear variant wants of a file, from the table of variants (kernels/linear.h). */
#ifndef CLI_LINEAR_WANTED_H
#define CLI_LINEAR_WANTED_H

#include "io/tensor_linear.h"
#include "kernels/linear.h"

void linear_wanted_of(const linear_variant *variant, linear_wanted *wanted_p);

/* Axes of /log_decay without B: 1 [H], 2 [N, H], 3 [N, H, D]; 0 where the variant has none. */
int linear_log_decay_axes(const linear_variant *variant);

#endif
