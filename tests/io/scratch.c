#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX - 300];

int scratch_setup(void **state)
{
    (void)state;
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/longspan-io-XXXXXX", parent && *parent ? parent : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int visit_entries(bool remove_them)
{
    DIR *entries = opendir(folder);
    if (!entries) return -1;
    int count = 0;
    for (struct dirent *entry = readdir(entries); entry; entry = readdir(entries)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        count++;
        if (remove_them) remove(scratch_path(entry->d_name));
    }
    closedir(entries);
    return count;
}

int scratch_teardown(void **state)
{
    (void)state;
    visit_entries(true);
    return rmdir(folder);
}

const char *scratch_folder(void)
{
    return folder;
}

const char *scratch_path(const char *name)
{
    static char paths[16][PATH_MAX];
    static int next;
    char *path = paths[next++ % 16];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

const char *scratch_file(const char *name, const void *bytes, size_t size)
{
    const char *path = scratch_path(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

char *scratch_read(const char *path, size_t *size_p)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    char *bytes = malloc((size_t)status.st_size + 1);
    FILE *file = fopen(path, "rb");
    assert_non_null(bytes);
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, (size_t)status.st_size, file), status.st_size);
    fclose(file);
    bytes[status.st_size] = 0;
    *size_p = (size_t)status.st_size;
    return bytes;
}

bool scratch_exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

int scratch_count(void)
{
    return visit_entries(false);
}

void assert_refusal(const io_error *error, const char *path, const char *needle)
{
    if (!strstr(error->text, path) || !strstr(error->text, needle) || strchr(error->text, '\n')) {
        fail_msg("\"%s\" should name %s and say \"%s\" on one line", error->text, path, needle);
    }
}

void hdf5_dataset(hid_t file, const char *name, hid_t type, hid_t memory, int rank, const hsize_t *extents, storage how,
                  const void *data)
{
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    if (how == STORE_COMPACT) assert_true(H5Pset_layout(properties, H5D_COMPACT) >= 0);
    if (how == STORE_CHUNKED || how == STORE_COMPRESSED) {
        hsize_t chunk[H5S_MAX_RANK];
        for (int i = 0; i < rank; i++) chunk[i] = extents[i] > 3 ? 3 : extents[i] > 0 ? extents[i] : 1;
        assert_true(H5Pset_chunk(properties, rank, chunk) >= 0);
    }
    if (how == STORE_COMPRESSED) {
        assert_true(H5Pset_shuffle(properties) >= 0);
        assert_true(H5Pset_deflate(properties, 4) >= 0);
        assert_true(H5Pset_fletcher32(properties) >= 0);
    }
    hid_t space = H5Screate_simple(rank, extents, NULL);
    hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    assert_true(dataset >= 0);
    if (data) assert_true(H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(properties);
}

hid_t hdf5_half(bool bfloat16, H5T_order_t order)
{
    hid_t type = H5Tcopy(order == H5T_ORDER_BE ? H5T_IEEE_F32BE : H5T_IEEE_F32LE);
    assert_true(H5Tset_fields(type, 15, bfloat16 ? 7 : 10, bfloat16 ? 8 : 5, 0, bfloat16 ? 7 : 10) >= 0);
    assert_true(H5Tset_size(type, 2) >= 0);
    assert_true(H5Tset_ebias(type, bfloat16 ? 127 : 15) >= 0);
    return type;
}

void hdf5_text_attribute(hid_t object, const char *name, const char *text, bool variable)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    assert_true(H5Tset_size(type, variable ? H5T_VARIABLE : strlen(text) + 1) >= 0);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0);
    assert_true(H5Awrite(attribute, type, variable ? (const void *)&text : text) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}
