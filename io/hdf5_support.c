#include "io/hdf5_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTRIBUTE_MOST_BYTES = 1 << 20 };

void hdf5_start(void)
{
    static bool started;
    if (started) return;
    started = true;
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void io_start(void)
{
    hdf5_start();
}

void hdf5_make_printable(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f) *c = '?';
    }
}

typedef struct {
    char *text;
    size_t size;
} reason_target;

static herr_t keep_innermost(unsigned depth, const H5E_error2_t *entry, void *data)
{
    const reason_target *target = data;
    if (depth == 0) snprintf(target->text, target->size, "%s", entry->desc ? entry->desc : "no reason given");
    return 0;
}

void hdf5_reason(char *text, size_t size)
{
    reason_target target = {text, size};
    snprintf(text, size, "HDF5 gives no reason");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, &target);
    hdf5_make_printable(text);
}

static hdf5_text_result read_variable_text(hid_t attribute, hid_t type, char *text, size_t size)
{
    char *stored = NULL;
    if (H5Aread(attribute, type, &stored) < 0 || !stored) return HDF5_TEXT_OTHER;
    snprintf(text, size, "%s", stored);
    H5free_memory(stored);
    return HDF5_TEXT_READ;
}

static hdf5_text_result read_fixed_text(hid_t attribute, hid_t type, char *text, size_t size)
{
    size_t bytes = H5Tget_size(type);
    if (bytes == 0 || bytes > ATTRIBUTE_MOST_BYTES) return HDF5_TEXT_OTHER;
    char *stored = calloc(bytes + 1, 1);
    if (!stored) return HDF5_TEXT_OTHER;
    hdf5_text_result result = HDF5_TEXT_OTHER;
    if (H5Aread(attribute, type, stored) >= 0) {
        if (H5Tget_strpad(type) == H5T_STR_SPACEPAD) {
            while (bytes > 0 && stored[bytes - 1] == ' ') stored[--bytes] = 0;
        }
        snprintf(text, size, "%s", stored);
        result = HDF5_TEXT_READ;
    }
    free(stored);
    return result;
}

hdf5_text_result hdf5_attribute_text(hid_t object, const char *name, char *text, size_t size)
{
    if (H5Aexists(object, name) <= 0) return HDF5_TEXT_MISSING;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return HDF5_TEXT_OTHER;
    hdf5_text_result result = HDF5_TEXT_OTHER;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    if (H5Tget_class(type) == H5T_STRING && H5Sget_simple_extent_npoints(space) == 1) {
        if (H5Tis_variable_str(type) > 0) result = read_variable_text(attribute, type, text, size);
        else result = read_fixed_text(attribute, type, text, size);
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return result;
}
