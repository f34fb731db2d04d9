/* Native sparse attention: Yuan et al., "Native Sparse Attention", arXiv 2502.11089, section 3. */
#ifndef RUNTIME_NSA_H
#define RUNTIME_NSA_H

#include "runtime/block_means.h"
#include "runtime/selection.h"

/* "nsa:LENGTH,STRIDE,BLOCK,TOP,WINDOW": pooled blocks of LENGTH keys, one every STRIDE; selected blocks of BLOCK keys,
 * TOP of them; WINDOW keys. The paper's l, d, l', n, w. */
typedef struct {
    int64_t length, stride, block, top, window;
} nsa_sizes;
nsa_sizes nsa_sizes_of(const pattern_choice *choice);

/* Not collective. What it goes with. */
longspan_status nsa_check(const longspan_problem *problem, failure *f);

/* Pooled blocks of M keys, and those of them that a query at position p sees: complete ones. */
int64_t nsa_pooled_count(const nsa_sizes *sizes, int64_t keys);
int64_t nsa_pooled_seen(const nsa_sizes *sizes, int64_t keys, int64_t position);

/* Not collective. Pooled rows [count, width] from the means of all stretches of STRIDE rows: means of LENGTH / STRIDE
 * of these in a row. */
void nsa_pool(const nsa_sizes *sizes, const float *stretches, int64_t count, int64_t width, float *pooled);

/* Not collective. Lists for every key head of this rank's queries, by q [T, H, D] and the pooled keys of all ranks as
 * kernels score them. NULL, with the reason in *f, if memory ran out. `branch` is the problem of the selected blocks.
 */
longspan_selection *nsa_select(longspan_context *context, const longspan_problem *branch, const nsa_sizes *sizes,
                               const void *q, const float *lanes, failure *f);

/* Not collective. The arithmetic of the two branches that are plans; flops of this rank in all three. */
const char *nsa_compute_name(const longspan_nsa *nsa);
double nsa_flops(const longspan_nsa *nsa);

#endif
