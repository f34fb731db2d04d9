#include "kernels/mass.h"

#include <cblas.h>
#include <math.h>

/* The scores of one row with keys key_begin, ..., in place. */
static void modify(const mass_scores *m, int row, int64_t key_begin, int keys, float *scores)
{
    for (int j = 0; j < keys && m->softcap > 0; j++) scores[j] = m->softcap * tanhf(scores[j] / m->softcap);
    for (int j = 0; j < keys && m->slope != 0; j++)
        scores[j] -= m->slope * fabsf((float)(m->positions[row] - (key_begin + j)));
}

void attention_mass(const float *q, const float *lse, const int64_t *visible_begin, const int64_t *visible_end,
                    int rows, const float *k, int64_t k_stride, int64_t key_begin, int keys, int dim, float scale,
                    const mass_scores *modified, int64_t block, double *mass, float *scores)
{
    if (rows <= 0 || keys <= 0) return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, keys, dim, scale, q, dim, k, (blasint)k_stride, 0,
                scores, keys);
    for (int r = 0; r < rows; r++) {
        float *row = scores + (int64_t)r * keys;
        const int64_t first = visible_begin[r] > key_begin ? visible_begin[r] : key_begin;
        const int64_t last = visible_end[r] < key_begin + keys ? visible_end[r] : key_begin + keys;
        if (lse[r] == -INFINITY || first >= last) continue;
        if (modified) modify(modified, r, key_begin, keys, row);
        for (int64_t j = first; j < last; j++) mass[j / block] += exp((double)(row[j - key_begin] - lse[r]));
    }
}
