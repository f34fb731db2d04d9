#include "runtime/cli/verify_selection.h"

#include "kernels/number.h"
#include "runtime/patience.h"

#include <math.h>
#include <stdlib.h>

enum { PIECE_VALUES = 1 << 22, MOST_REDUCED = 1 << 24 };

/* Adds the keys of a block to `mean` and divides. */
static void read_mean(const result_file *result, int64_t begin, int64_t end, void *raw, float *narrow, double *mean,
                      failure *f)
{
    const tensor_shape *k = &result->input.shapes.k;
    const int64_t width = (int64_t)k->heads * k->dim, piece = PIECE_VALUES / width > 1 ? PIECE_VALUES / width : 1;
    io_error error;
    for (int64_t first = begin; first < end && f->status == LONGSPAN_OK; first += piece) {
        const int64_t last = first + piece < end ? first + piece : end;
        if (tensor_file_read(result->input.file, "/k", k, 0, first, last, raw, &error) != 0) {
            failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
            return;
        }
        number_widen((kernel_type)k->type, raw, narrow, (last - first) * width);
        for (int64_t i = 0; i < (last - first) * width; i++) mean[i % width] += (double)narrow[i];
    }
    for (int64_t i = 0; i < width; i++) mean[i] /= (double)(end - begin);
}

bool verify_selection_open(const session *s, const result_file *result, verify_selection *v, failure *f)
{
    const tensor_shape *k = &result->input.shapes.k;
    const int64_t width = (int64_t)k->heads * k->dim, size = result->selection_size;
    *v = (verify_selection){0};
    if (!result->selection_is_chosen) return true;
    v->blocks = (k->tokens - 1) / size + 1;
    v->most = result->selection_most;
    const size_t values = (size_t)(PIECE_VALUES > width ? PIECE_VALUES : width);
    void *raw = malloc(values * sizeof(float));
    float *narrow = malloc(values * sizeof *narrow);
    v->means = calloc((size_t)(v->blocks * width), sizeof *v->means);
    if (!raw || !narrow || !v->means) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the means of blocks");
    for (int64_t b = s->rank; b < v->blocks && f->status == LONGSPAN_OK; b += s->ranks)
        read_mean(result, b * size, b + 1 < v->blocks ? (b + 1) * size : k->tokens, raw, narrow, v->means + b * width,
                  f);
    free(raw);
    free(narrow);
    if (!session_agree(s, f)) return false;
    for (int64_t at = 0; at < v->blocks * width; at += MOST_REDUCED) {
        const int64_t left = v->blocks * width - at;
        wait_allreduce(MPI_IN_PLACE, v->means + at, (int)(left < MOST_REDUCED ? left : MOST_REDUCED), MPI_DOUBLE,
                       MPI_SUM, s->comm);
    }
    return true;
}

void verify_selection_free(verify_selection *v)
{
    free(v->means);
    *v = (verify_selection){0};
}

static bool has(const int32_t *list, int64_t most, int64_t block)
{
    for (int64_t i = 0; i < most; i++)
        if (list[i] == block) return true;
    return false;
}

/* Is the list of a query whose own block is `own`, of a head with this q and its key head's first mean, the right one?
 */
static bool list_is_right(const verify_selection *v, const int32_t *list, int64_t most, int64_t own, const double *q,
                          const double *means, int64_t width, int dim)
{
    double least = INFINITY; /* that a chosen block may score */
    int64_t count = 0;
    for (int64_t i = 0; i < most; i++) count += list[i] >= 0;
    for (int64_t i = 0; i < count; i++)
        if (list[i] < 0 || list[i] > own || (i > 0 && list[i] <= list[i - 1])) return false;
    if (own < 0) return count == 0;
    if (count != (v->most < own + 1 ? v->most : own + 1) || list[count - 1] != own) return false;
    for (int chosen = 1; chosen >= 0; chosen--)
        for (int64_t b = 0; b < own; b++) {
            double score = 0, error = 0;
            if (has(list, most, b) != chosen) continue;
            for (int d = 0; d < dim; d++) {
                score += q[d] * means[b * width + d];
                error += 0x1p-24 * fabs(q[d] * means[b * width + d]);
            }
            if (chosen && score + error < least) least = score + error;
            if (!chosen && score - error > least) return false;
        }
    return true;
}

static int64_t floor_block(int64_t position, int64_t size)
{
    return position < 0 ? -1 : position / size;
}

int verify_selection_row(const verify_selection *v, const result_file *result, int64_t token, const double *q,
                         oracle_row *row, int64_t *wrong_p, failure *f)
{
    const selection_shape *shape = &result->selection;
    const longspan_problem *p = &result->problem;
    const int64_t width = (int64_t)p->kv_heads * p->dim;
    io_error error;
    int32_t *lists = malloc((size_t)shape->lists * (size_t)shape->most * sizeof *lists);
    if (!lists) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the selected blocks of a row");
    else if (tensor_file_read_selection(result->selection_file, shape, token, token + 1, lists, &error) != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    else if (!oracle_row_select(row, result->selection_size, shape->lists, shape->most, lists))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the selected blocks of a row");
    const int64_t own = floor_block(token + p->keys - p->queries, result->selection_size);
    for (int h = 0; v->means && f->status == LONGSPAN_OK && h < p->heads; h++)
        *wrong_p += !list_is_right(v, lists + h * shape->most, shape->most, own, q + (int64_t)h * p->dim,
                                   v->means + (int64_t)(h / (p->heads / p->kv_heads)) * p->dim, width, p->dim);
    free(lists);
    return f->status == LONGSPAN_OK ? 0 : -1;
}
