/* The table of relative positions as folds read it, and its sizes. */
#include "kernels/relative_workspace.h"

#include <string.h>

size_t attention_relative_table_floats(int offsets, int dim)
{
    return (size_t)dim * relative_table_pitch(offsets);
}

void attention_relative_prepare(const float *r, int offsets, int heads, int dim, float *table)
{
    const size_t pitch = relative_table_pitch(offsets);
    memset(table, 0, (size_t)heads * attention_relative_table_floats(offsets, dim) * sizeof *table);
    for (int c = 0; c < offsets; c++)
        for (int h = 0; h < heads; h++)
            for (int d = 0; d < dim; d++)
                table[((size_t)h * (size_t)dim + (size_t)d) * pitch + RELATIVE_MARGIN + (size_t)c] =
                    r[((size_t)c * (size_t)heads + (size_t)h) * (size_t)dim + (size_t)d];
}

size_t attention_relative_workspace_size(int threads, int dim, int value_dim, int offsets)
{
    return (size_t)threads * relative_workspace_floats(dim, value_dim, offsets) * sizeof(float);
}
