/* The arrays of a made-up problem that do not depend on tokens: decays of heads, bonus, features. */
#ifndef CLI_LINEAR_INPUTS_H
#define CLI_LINEAR_INPUTS_H

#include "runtime/agreement.h"

typedef struct {
    float *head_log_decay, *bonus, *features;
} linear_inputs;

/* Not collective. Makes those that the problem's variant needs, to which the problem then refers; the failure is kept
 * in *f. To be freed in either case. */
void linear_inputs_make(uint64_t seed, longspan_linear_problem *problem, linear_inputs *inputs_p, failure *f);
void linear_inputs_free(linear_inputs *inputs);

#endif
