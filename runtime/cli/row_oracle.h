/* A query row in float64, one key at a time, straight from the definitions in runtime/longspan.h: what verify compares
 * with. Shares no code with kernels/ and partition/, which it checks.
 *
 * Beside the row it sums up how far float32 arithmetic may be off. Let u = 2^-24, n the keys that the row sees, and
 * a_j = |scale| sum_d |q_d k_jd|, where the two products of a pair that RoPE turns count as (|q_c| + |q_c'|) (|k_jc| +
 * |k_jc'|), and with relative keys a_j = |scale| sum_d (|(q_d + u_d) k_jd| + |(q_d + w_d) r_d|) where the table has the
 * offset. A score carries an error of at most u (lambda sqrt(D) + 4) a_j at the scale of exp's argument: D products
 * summed, a constant folded into q, the row's maximum subtracted; RoPE adds 4 u a_j, the cap 8 u softcap (tanh near 0
 * is a difference of numbers near 1), ALiBi 4 u slope |p_i - j|. exp itself and the last rescaling add a constant
 * number of u; the sums over n keys add lambda sqrt(n) u of their value. lambda sqrt(n) in place of n for n roundings
 * in a row: Higham & Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019,
 * theorem 2.4; lambda = 2. So the weight of key j is off by at most a factor 1 + e_j,
 *
 *     e_j = u (32 + 2 sqrt(n) + (2 sqrt(D) + 4) a_j + 4 a_j [RoPE] + 8 softcap + 4 slope |p_i - j|) + r_s a_j + r_p,
 *
 * with r_s, r_p what the arithmetic loses of a product of q and k and of a weight (oracle_arithmetic). To first order,
 * with p_j the probabilities, r_v what it loses of a value, and u_out the unit roundoff of out's type,
 *
 *     |out_e - reference_e| <= u_out |reference_e| + sum_j p_j (e_j + r_v) |v_je| + |reference_e| sum_j p_j e_j,
 *     |lse - reference|     <= sum_j p_j e_j + 4 u |reference|. */
#ifndef CLI_ROW_ORACLE_H
#define CLI_ROW_ORACLE_H

#include "runtime/cli/pattern_oracle.h"
#include "runtime/longspan.h"

#include <stdbool.h>

/* What is lost by handing q and k, a weight, and v to the products of --compute: r_s, r_p, r_v. */
typedef struct {
    double score, weight, value;
} oracle_arithmetic;

/* By the name in the attribute `compute`; false if there is none of it. */
bool oracle_arithmetic_find(const char *compute, oracle_arithmetic *arithmetic_p);

/* A query of a problem whose defaults are filled in. */
typedef struct {
    const longspan_problem *problem;
    oracle_arithmetic arithmetic;
    int64_t begin, end; /* keys of its document, as far as they exist for its batch item */
    int64_t position;   /* p_i, counted from `begin` */
    int64_t seen;       /* n, of any head, and as often as a key may count */
    int64_t relative_left, relative_right; /* of the offsets of the relative keys, where there are some */
    pattern_oracle *allowed; /* what a sparse pattern lets it see; NULL without one */
    /* Bits of the keys that it has selected, [lists, words], in place of that: a list for all heads, or one a key head, or
     * one a head; NULL without a selection. */
    uint64_t *selected;
    int lists;
    int64_t words;
} oracle_row;

/* O(M): counts the keys one by one. To be freed; with a pattern `allowed` is NULL if memory ran out. */
oracle_row oracle_row_make(const longspan_problem *problem, oracle_arithmetic arithmetic, int64_t batch_item,
                           int64_t query);

void oracle_row_free(oracle_row *row);

/* The lists of a query, [lists, most] blocks of `size` keys and -1, in place of what its pattern lets it see; n becomes
 * the most that any of them lets it see. False if memory ran out. */
bool oracle_row_select(oracle_row *row, int64_t size, int lists, int64_t most, const int32_t *blocks);

/* Does any head of the row see the key? */
bool oracle_any_sees(const oracle_row *row, int64_t key);
/* How often does a head see it? */
int oracle_times(const oracle_row *row, int head, int64_t key);

/* RoPE: turns the rows x [heads, D] of the token at `position` among the keys. Nothing without RoPE. */
void oracle_turn(const longspan_problem *problem, int64_t position, int heads, double *x);

/* s_ij of a key that the row sees, of q and k [D] that are turned already, and in *error_p e_j. */
double oracle_score(const oracle_row *row, int head, const double *q, const double *k, int64_t key, double *error_p);

/* The running result of a row and head: {lse, sum_j p_j e_j, out [E], sum_j p_j (e_j + r_v) |v_je| [E]}. */
enum { ORACLE_LSE, ORACLE_SPREAD, ORACLE_OUT };
int64_t oracle_sum_size(const longspan_problem *problem);
/* Of nothing seen but, where `with_sink`, the head's sink. */
void oracle_sum_start(const oracle_row *row, int head, bool with_sink, double *sum);
/* Folds keys [begin, end), turned already, row j - begin at k + (j - begin) * k_stride. `scratch`: 2 (end - begin)
 * doubles. */
void oracle_fold(const oracle_row *row, int head, const double *q, const double *k, int64_t k_stride, const double *v,
                 int64_t v_stride, int64_t begin, int64_t end, double *scratch, double *sum);

#endif
