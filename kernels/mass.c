#include "kernels/mass.h"

#include <cblas.h>
#include <math.h>

void attention_mass(const float *q, const float *lse, const int64_t *visible_begin, const int64_t *visible_end,
                    int rows, const float *k, int64_t k_stride, int64_t key_begin, int keys, int dim, float scale,
                    int64_t block, double *mass, float *scores)
{
    if (rows <= 0 || keys <= 0) return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, keys, dim, scale, q, dim, k, (blasint)k_stride, 0,
                scores, keys);
    for (int r = 0; r < rows; r++) {
        const float *row = scores + (int64_t)r * keys;
        const int64_t first = visible_begin[r] > key_begin ? visible_begin[r] : key_begin;
        const int64_t last = visible_end[r] < key_begin + keys ? visible_end[r] : key_begin + keys;
        if (lse[r] == -INFINITY) continue;
        for (int64_t j = first; j < last; j++) mass[j / block] += exp((double)(row[j - key_begin] - lse[r]));
    }
}
