/* What a file holds besides tensors: attributes of the root group, and the list of everything. */
#include "io/hdf5_support.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool tensor_file_has_attribute(const tensor_file *file, const char *name)
{
    return H5Aexists_by_name(file->id, "/", name, H5P_DEFAULT) > 0;
}

static int fail_attribute(const tensor_file *file, const char *name, const char *needed, io_error *error)
{
    if (!tensor_file_has_attribute(file, name)) {
        return io_fail(error, "%s: the attribute %s is missing", file->path, name);
    }
    return io_fail(error, "%s: the attribute %s is not %s", file->path, name, needed);
}

int tensor_file_attribute_text(const tensor_file *file, const char *name, char *text, size_t size, io_error *error)
{
    hid_t root = H5Gopen2(file->id, "/", H5P_DEFAULT);
    hdf5_text_result result = hdf5_attribute_text(root, name, text, size);
    H5Gclose(root);
    return result == HDF5_TEXT_READ ? 0 : fail_attribute(file, name, "a string", error);
}

/* One number of class `first` or `second`, converted to the memory type. */
static int read_number(hid_t attribute, H5T_class_t first, H5T_class_t second, hid_t memory, void *value_p)
{
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    H5T_class_t class = H5Tget_class(type);
    int result = -1;
    if ((class == first || class == second) && H5Sget_simple_extent_npoints(space) == 1 &&
        H5Aread(attribute, memory, value_p) >= 0) {
        result = 0;
    }
    H5Sclose(space);
    H5Tclose(type);
    return result;
}

int tensor_file_attribute_integer(const tensor_file *file, const char *name, int64_t *value_p, io_error *error)
{
    int64_t value;
    hid_t attribute = H5Aopen_by_name(file->id, "/", name, H5P_DEFAULT, H5P_DEFAULT);
    int result = attribute < 0 ? -1 : read_number(attribute, H5T_INTEGER, H5T_INTEGER, H5T_NATIVE_INT64, &value);
    if (attribute >= 0) H5Aclose(attribute);
    if (result != 0) return fail_attribute(file, name, "an integer", error);
    *value_p = value;
    return 0;
}

int tensor_file_attribute_number(const tensor_file *file, const char *name, double *value_p, io_error *error)
{
    double value;
    hid_t attribute = H5Aopen_by_name(file->id, "/", name, H5P_DEFAULT, H5P_DEFAULT);
    int result = attribute < 0 ? -1 : read_number(attribute, H5T_FLOAT, H5T_INTEGER, H5T_NATIVE_DOUBLE, &value);
    if (attribute >= 0) H5Aclose(attribute);
    if (result != 0) return fail_attribute(file, name, "a number", error);
    *value_p = value;
    return 0;
}

typedef struct {
    void (*visit)(void *data, const char *line);
    void *data;
} visitor;

static void describe_layout(hid_t dataset, char *text, size_t size)
{
    hid_t properties = H5Dget_create_plist(dataset);
    switch (H5Pget_layout(properties)) {
    case H5D_CONTIGUOUS:
        snprintf(text, size, "contiguous");
        break;
    case H5D_COMPACT:
        snprintf(text, size, "compact");
        break;
    case H5D_CHUNKED:
        snprintf(text, size, H5Pget_nfilters(properties) > 0 ? "chunked, filtered" : "chunked");
        break;
    default:
        snprintf(text, size, "virtual");
        break;
    }
    H5Pclose(properties);
}

static herr_t visit_dataset(hid_t group, const char *name, const H5L_info_t *link, void *data)
{
    (void)link;
    const visitor *to = data;
    char type_text[64], extents[256], layout[32], line[640];
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0) {
        snprintf(line, sizeof line, "/%s: a link that leads nowhere", name);
    } else if (H5Iget_type(object) == H5I_DATASET) {
        io_type type;
        hid_t memory;
        if (tensor_type_recognise(object, &type, &memory) == 0) {
            H5Tclose(memory);
            snprintf(type_text, sizeof type_text, "%s", io_type_name(type));
        } else {
            hid_t stored = H5Dget_type(object);
            tensor_type_describe(stored, type_text, sizeof type_text);
            H5Tclose(stored);
        }
        tensor_dataset_describe(object, extents, sizeof extents);
        describe_layout(object, layout, sizeof layout);
        snprintf(line, sizeof line, "/%s: %s %s, %s", name, type_text, extents, layout);
    } else {
        snprintf(line, sizeof line, "/%s: a group", name);
    }
    if (object >= 0) H5Oclose(object);
    hdf5_make_printable(line);
    to->visit(to->data, line);
    return 0;
}

static herr_t visit_attribute(hid_t root, const char *name, const H5A_info_t *info, void *data)
{
    (void)info;
    const visitor *to = data;
    char text[384], line[640];
    int64_t integer;
    double number;
    hid_t attribute = H5Aopen(root, name, H5P_DEFAULT);
    if (attribute < 0) return -1;
    if (hdf5_attribute_text(root, name, text, sizeof text) == HDF5_TEXT_READ) {
        snprintf(line, sizeof line, "%s = %s", name, text);
    } else if (read_number(attribute, H5T_INTEGER, H5T_INTEGER, H5T_NATIVE_INT64, &integer) == 0) {
        snprintf(line, sizeof line, "%s = %" PRId64, name, integer);
    } else if (read_number(attribute, H5T_FLOAT, H5T_FLOAT, H5T_NATIVE_DOUBLE, &number) == 0) {
        snprintf(line, sizeof line, "%s = %.9g", name, number);
    } else {
        hid_t type = H5Aget_type(attribute);
        tensor_type_describe(type, text, sizeof text);
        H5Tclose(type);
        snprintf(line, sizeof line, "%s (%s)", name, text);
    }
    H5Aclose(attribute);
    hdf5_make_printable(line);
    to->visit(to->data, line);
    return 0;
}

int tensor_file_list(const tensor_file *file, void (*visit)(void *data, const char *line), void *data, io_error *error)
{
    visitor to = {visit, data};
    char reason[256];
    hid_t root = H5Gopen2(file->id, "/", H5P_DEFAULT);
    if (root < 0 || H5Literate(root, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_dataset, &to) < 0 ||
        H5Aiterate2(root, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, &to) < 0) {
        hdf5_reason(reason, sizeof reason);
        if (root >= 0) H5Gclose(root);
        return io_fail(error, "%s: cannot be listed: %s", file->path, reason);
    }
    H5Gclose(root);
    return 0;
}
