/* The blocks of keys that queries see, as attend reads and writes them: /selected_blocks. Large, so read row by row. */
#include "io/hdf5_support.h"

#include <inttypes.h>

static int check_integer(const tensor_file *file, hid_t dataset, io_error *error)
{
    hid_t type = H5Dget_type(dataset);
    const H5T_class_t class = H5Tget_class(type);
    H5Tclose(type);
    if (class == H5T_INTEGER) return 0;
    return io_fail(error, "%s: /selected_blocks is not of an integer type", file->path);
}

/* Three axes, whose extents go to `extents`. */
static int open_checked(const tensor_file *file, int64_t tokens, hid_t *dataset_p, hsize_t *extents, io_error *error)
{
    hid_t dataset;
    int rank;
    if (tensor_dataset_open(file, "/selected_blocks", &dataset, error) != 0) return -1;
    *dataset_p = dataset;
    if (check_integer(file, dataset, error) == 0 &&
        tensor_dataset_extents(file, "/selected_blocks", dataset, &rank, extents, error) == 0) {
        if (rank == 3 && extents[0] == (hsize_t)tokens && extents[1] <= INT32_MAX && extents[2] <= INT32_MAX) return 0;
        char shape[256];
        tensor_dataset_describe(dataset, shape, sizeof shape);
        io_fail(error, "%s: /selected_blocks is %s; [%" PRId64 ", 1 or key heads or heads, blocks] is needed",
                file->path, shape, tokens);
    }
    H5Dclose(dataset);
    return -1;
}

int tensor_file_selection(const tensor_file *file, int64_t tokens, selection_shape *shape_p, io_error *error)
{
    hsize_t extents[TENSOR_MOST_AXES];
    hid_t dataset;
    if (open_checked(file, tokens, &dataset, extents, error) != 0) return -1;
    const int result = tensor_dataset_check(file, "/selected_blocks", dataset, 3, extents, error);
    H5Dclose(dataset);
    if (result == 0) *shape_p = (selection_shape){tokens, (int)extents[1], (int64_t)extents[2]};
    return result;
}

int tensor_file_read_selection(const tensor_file *file, const selection_shape *shape, int64_t begin, int64_t end,
                               int32_t *target, io_error *error)
{
    hsize_t extents[TENSOR_MOST_AXES];
    hid_t dataset;
    if (begin >= end) return 0;
    if (open_checked(file, shape->tokens, &dataset, extents, error) != 0) return -1;
    const hsize_t start[] = {(hsize_t)begin, 0, 0};
    const hsize_t count[] = {(hsize_t)(end - begin), (hsize_t)shape->lists, (hsize_t)shape->most};
    const int result =
        tensor_dataset_read(file, "/selected_blocks", dataset, H5T_NATIVE_INT32, 3, start, count, target, error);
    H5Dclose(dataset);
    return result;
}
