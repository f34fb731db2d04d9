/* The oracle of the linear family: one token after the other in double, straight from each paper's equations, sharing
 * no code with the chunked form. For verification, not for speed: O(F columns) a token and head. */
#ifndef KERNELS_LINEAR_REFERENCE_H
#define KERNELS_LINEAR_REFERENCE_H

#include <stddef.h>

/* One head, and as many of its value columns as are wanted. */
typedef struct {
    const char *variant; /* a name in linear_variants */
    int dim, columns;    /* D; columns of v that are given, at most E */
    int head;            /* h, of retention */
    int features;        /* m, and [m, D]: of favor, else 0 and NULL */
    const float *projections;
    double scale;
    double *state; /* linear_reference_size() doubles, zeros where nothing has been seen: [F, columns], and where the
                      variant is normalised [F] sums of b behind it. Exponents are counted from 0 */
} linear_reference;

/* What one token brings; NULL or 0 where the variant has no use for it. */
typedef struct {
    const float *q, *k, *v; /* [D], [D], [columns] */
    const float *log_decay; /* [1] or [D] */
    double beta;
    const float *bonus; /* [D] */
} linear_reference_token;

/* Doubles of a state; 0 if there is no such variant. */
size_t linear_reference_size(const linear_reference *head);
/* Takes in a token; out [columns] is what it reads, causally. */
void linear_reference_step(const linear_reference *head, const linear_reference_token *token, double *out);
/* Of variants without decay: takes in a token, and reads, apart. */
void linear_reference_write(const linear_reference *head, const linear_reference_token *token);
void linear_reference_read(const linear_reference *head, const linear_reference_token *token, double *out);

#endif
