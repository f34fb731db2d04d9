/* Shares of attention a key at a time, by the row oracle: what map takes where kernels/mass.h does not know what a row
 * sees or what its scores are, which is of patterns, selected blocks and relative keys. */
#ifndef CLI_MAP_ORACLE_H
#define CLI_MAP_ORACLE_H

#include "runtime/cli/result_file.h"

bool map_wants_oracle(const longspan_problem *problem);

/* Sampled rows whose oracles take 256 MiB, about; one at least. */
int64_t map_oracle_rows(const result_file *result);

/* Not collective. What a token sees, to be freed by oracle_row_free; an empty one with the reason in *f. */
oracle_row map_oracle_make(const result_file *result, int64_t batch_item, int64_t token, failure *f);

/* A row of one head. */
typedef struct {
    const oracle_row *oracle;
    int head;
    const float *q; /* [D], turned */
    double lse;     /* finite */
} map_row;

/* Not collective. Adds what each key [begin, end), turned, row j - begin at k + (j - begin) * k_stride, gets of the row's
 * attention to mass[j / block], and marks seen[j / block] where the row sees one. */
void map_oracle_add(const map_row *row, const float *k, int64_t k_stride, int64_t begin, int64_t end, int64_t block,
                    double *mass, unsigned char *seen);

#endif
