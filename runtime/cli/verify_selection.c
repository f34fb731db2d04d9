#include "runtime/cli/verify_selection.h"

#include <stdlib.h>

int verify_selection_apply(const result_file *result, int64_t token, oracle_row *row, failure *f)
{
    const selection_shape *shape = &result->selection;
    io_error error;
    int32_t *lists = malloc((size_t)shape->lists * (size_t)shape->most * sizeof *lists);
    if (!lists) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the selected blocks of a row");
    else if (tensor_file_read_selection(result->selection_file, shape, token, token + 1, lists, &error) != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    else if (!oracle_row_select(row, result->selection_size, shape->lists, shape->most, lists))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the selected blocks of a row");
    free(lists);
    return f->status == LONGSPAN_OK ? 0 : -1;
}
