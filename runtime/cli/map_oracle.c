#include "runtime/cli/map_oracle.h"

#include "runtime/cli/verify_selection.h"

#include <math.h>

enum { ORACLE_BYTES = 1 << 28, MOST_DIM = 512 };

bool map_wants_oracle(const longspan_problem *problem)
{
    return problem->pattern || problem->relative_keys;
}

int64_t map_oracle_rows(const result_file *result)
{
    const int64_t lists = result->selection_file ? result->selection.lists : 0;
    const int64_t rows = ORACLE_BYTES / ((2 + lists) * (result->problem.keys / 8 + 1));
    return rows > 1 ? rows : 1;
}

oracle_row map_oracle_make(const result_file *result, int64_t batch_item, int64_t token, failure *f)
{
    const longspan_problem *p = &result->problem;
    int64_t unchecked = 0;
    oracle_row row = oracle_row_make(p, result->arithmetic, batch_item, token);
    if (p->pattern && !row.allowed) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the pattern");
    if (result->selection_file && f->status == LONGSPAN_OK)
        verify_selection_row(&(verify_selection){0}, result, token, NULL, &row, &unchecked, f);
    return row;
}

static void widen(const float *from, int dim, double *to)
{
    for (int d = 0; d < dim; d++) to[d] = (double)from[d];
}

void map_oracle_add(const map_row *row, const float *k, int64_t k_stride, int64_t begin, int64_t end, int64_t block,
                    double *mass, unsigned char *seen)
{
    const int dim = row->oracle->problem->dim;
    double query[MOST_DIM], key[MOST_DIM], error;
    widen(row->q, dim, query);
    for (int64_t j = begin; j < end; j++) {
        const int times = oracle_times(row->oracle, row->head, j);
        if (times == 0) continue;
        widen(k + (j - begin) * k_stride, dim, key);
        mass[j / block] += times * exp(oracle_score(row->oracle, row->head, query, key, j, &error) - row->lse);
        seen[j / block] = 1;
    }
}
