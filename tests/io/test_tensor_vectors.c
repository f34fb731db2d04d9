/* Datasets of one axis beside q, k and v: read as they are, refused when they are not what the shapes ask for. */
#include "io/tensor_file.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 3, KEYS = 9, HEADS = 4 };

static const attention_shapes shapes = {
    .q = {true, BATCH, 9, HEADS, 8, IO_FLOAT32},
    .k = {true, BATCH, KEYS, 2, 8, IO_FLOAT32},
    .v = {true, BATCH, KEYS, 2, 8, IO_FLOAT32},
};
static const int64_t lengths[] = {9, 0, 4};
static const float slopes[] = {0.5f, 0.25f, -1.0f, 0.0f}, sinks[] = {-3.5f, 0.0f, -INFINITY, 1e30f};

/* A file with one dataset of one axis, opened by io. */
static tensor_file *file_with(const char *name, hid_t type, hid_t memory, hsize_t count, const void *values,
                              const char **path_p)
{
    tensor_file *input;
    io_error error = {""};
    *path_p = scratch_path("vectors.h5");
    hid_t file = H5Fcreate(*path_p, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hdf5_dataset(file, name, type, memory, 1, &count, STORE_CONTIGUOUS, values);
    H5Fclose(file);
    if (tensor_file_open(*path_p, &input, &error) != 0) fail_msg("%s", error.text);
    return input;
}

static void all_of_them_are_read(void **state)
{
    (void)state;
    static const int64_t offsets[] = {0, 4, 9};
    const hid_t types[] = {H5T_STD_I64LE, H5T_STD_I32BE, H5T_STD_U8LE};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const char *path = scratch_path("all.h5");
        const hsize_t documents = 3, batch = BATCH, heads = HEADS;
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        hdf5_dataset(file, "/documents", types[i], H5T_NATIVE_INT64, 1, &documents, STORE_CHUNKED, offsets);
        hdf5_dataset(file, "/key_lengths", types[i], H5T_NATIVE_INT64, 1, &batch, STORE_COMPACT, lengths);
        hdf5_dataset(file, "/alibi_slopes", i & 1 ? H5T_IEEE_F32BE : H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &heads,
                     STORE_CONTIGUOUS, slopes);
        hdf5_dataset(file, "/sinks", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &heads, STORE_COMPRESSED, sinks);
        H5Fclose(file);
        tensor_file *input;
        attention_extras got;
        io_error error = {""};
        assert_int_equal(tensor_file_open(path, &input, &error), 0);
        if (tensor_file_extras(input, &shapes, &got, &error) != 0) fail_msg("type %zu: %s", i, error.text);
        tensor_file_close(&input);
        assert_int_equal(got.document_count, 2);
        assert_memory_equal(got.documents, offsets, sizeof offsets);
        assert_memory_equal(got.key_lengths, lengths, sizeof lengths);
        assert_memory_equal(got.alibi_slopes, slopes, sizeof slopes);
        assert_memory_equal(got.sinks, sinks, sizeof sinks);
        attention_extras_free(&got);
    }
}

static void absent_ones_are_none(void **state)
{
    (void)state;
    const char *path;
    tensor_file *input = file_with("/sinks", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, HEADS, sinks, &path);
    attention_extras got;
    io_error error = {""};
    assert_int_equal(tensor_file_extras(input, &shapes, &got, &error), 0);
    tensor_file_close(&input);
    assert_null(got.documents);
    assert_int_equal(got.document_count, 0);
    assert_null(got.key_lengths);
    assert_null(got.alibi_slopes);
    assert_non_null(got.sinks);
    attention_extras_free(&got);
    assert_null(got.sinks);
}

static void assert_refused(const char *name, hid_t type, hid_t memory, hsize_t count, const void *values,
                           const char *needle)
{
    const char *path;
    io_error error = {""};
    attention_extras got = {.sinks = (float *)sinks};
    tensor_file *input = file_with(name, type, memory, count, values, &path);
    if (tensor_file_extras(input, &shapes, &got, &error) != -1) fail_msg("%s: '%s' was not refused", name, needle);
    tensor_file_close(&input);
    assert_refusal(&error, path, name);
    assert_refusal(&error, path, needle);
    assert_null(got.documents);
    assert_null(got.key_lengths);
    assert_null(got.alibi_slopes);
    assert_null(got.sinks);
}

static void lengths_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const int64_t negative[] = {9, -1, 4}, beyond[] = {10, 0, 4};
    static const uint64_t huge[] = {9, 9, UINT64_MAX};
    static const double fractions[] = {9, 0.5, 4};
    assert_refused("/key_lengths", H5T_STD_I64LE, H5T_NATIVE_INT64, 3, negative, "/key_lengths[1] is -1, not from 0");
    assert_refused("/key_lengths", H5T_STD_I32LE, H5T_NATIVE_INT64, 3, beyond, "[0] is 10, not from 0 to the 9 keys");
    assert_refused("/key_lengths", H5T_STD_U64LE, H5T_NATIVE_UINT64, 3, huge, "/key_lengths[2] is");
    assert_refused("/key_lengths", H5T_STD_I64LE, H5T_NATIVE_INT64, 2, lengths, "each of the 3 batch items");
    assert_refused("/key_lengths", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 3, fractions, "not of an integer type");
    assert_refused("/key_lengths", H5T_STD_I64LE, H5T_NATIVE_INT64, 0, NULL, "is empty");
    assert_refused("/key_lengths", H5T_STD_I64LE, H5T_NATIVE_INT64, 3, NULL, "never written");
}

static void a_list_of_blocks_is_read_or_refused(void **state)
{
    (void)state;
    static const struct {
        int64_t offsets[3], keys[3];
        hsize_t key_count;
        const char *needle; /* NULL: read */
    } cases[] = {
        {{0, 1, 3}, {2, 0, 5}, 3, NULL},
        {{1, 1, 3}, {2, 0, 5}, 3, "/block_offsets goes from 1 to 3, not from 0 to the 3"},
        {{0, 1, 2}, {2, 0, 5}, 3, "/block_offsets goes from 0 to 2, not from 0 to the 3"},
        {{0, 4, 3}, {2, 0, 5}, 3, "/block_offsets descends from 4 to 3 at entry 2"},
        {{0, 1, 3}, {2, -1, 5}, 3, "/block_keys[1] is -1, negative"},
        {{0, 1, 3}, {2, 0, 5}, 2, "/block_offsets goes from 0 to 3, not from 0 to the 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = scratch_path("blocks.h5");
        const hsize_t offset_count = 3;
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        hdf5_dataset(file, "/block_offsets", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &offset_count, STORE_CONTIGUOUS,
                     cases[i].offsets);
        hdf5_dataset(file, "/block_keys", H5T_STD_I32BE, H5T_NATIVE_INT64, 1, &cases[i].key_count, STORE_CONTIGUOUS,
                     cases[i].keys);
        H5Fclose(file);
        tensor_file *input;
        attention_extras got;
        io_error error = {""};
        assert_int_equal(tensor_file_open(path, &input, &error), 0);
        const int result = tensor_file_extras(input, &shapes, &got, &error);
        tensor_file_close(&input);
        if (cases[i].needle) {
            assert_int_equal(result, -1);
            assert_refusal(&error, path, cases[i].needle);
            assert_null(got.block_offsets);
            continue;
        }
        if (result != 0) fail_msg("%s", error.text);
        assert_int_equal(got.block_offset_count, 3);
        assert_int_equal(got.block_key_count, 3);
        assert_memory_equal(got.block_offsets, cases[i].offsets, sizeof cases[i].offsets);
        assert_memory_equal(got.block_keys, cases[i].keys, sizeof cases[i].keys);
        attention_extras_free(&got);
    }
    static const int64_t values[] = {0, 1, 2};
    assert_refused("/block_offsets", H5T_STD_I64LE, H5T_NATIVE_INT64, 3, values, "one is missing");
    assert_refused("/block_keys", H5T_STD_I64LE, H5T_NATIVE_INT64, 3, values, "one is missing");
}

static void a_list_of_blocks_for_each_head_has_the_heads_of_q(void **state)
{
    (void)state;
    static const int64_t offsets[] = {0, 1, 3, 3, 4, 4, 5, 7, 7, 8, 9, 9, 9, 10, 11, 12}, keys[12] = {0, 1, 2};
    for (hsize_t heads = HEADS - 1; heads <= HEADS + 1; heads++) {
        const char *path = scratch_path("blocks.h5");
        const hsize_t shape[] = {heads, 3}, key_count = (hsize_t)offsets[3 * heads - 1];
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        hdf5_dataset(file, "/block_offsets", H5T_STD_I32LE, H5T_NATIVE_INT64, 2, shape, STORE_CONTIGUOUS, offsets);
        hdf5_dataset(file, "/block_keys", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &key_count, STORE_CONTIGUOUS, keys);
        H5Fclose(file);
        tensor_file *input;
        attention_extras got;
        io_error error = {""};
        assert_int_equal(tensor_file_open(path, &input, &error), 0);
        const int result = tensor_file_extras(input, &shapes, &got, &error);
        tensor_file_close(&input);
        assert_int_equal(result, heads == HEADS ? 0 : -1);
        if (result != 0) assert_refusal(&error, path, "/block_offsets needs one axis");
        if (result != 0) continue;
        assert_int_equal(got.block_offset_count, 3 * HEADS);
        assert_memory_equal(got.block_offsets, offsets, 3 * HEADS * sizeof *offsets);
        attention_extras_free(&got);
    }
}

static void values_of_heads_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const float wrong[][HEADS] = {{1, NAN, 1, 1}, {1, 1, 1, INFINITY}, {-INFINITY, 1, 1, 1}};
    static const double doubles[] = {1, 2, 3, 4};
    static const char *const names[] = {"/alibi_slopes", "/sinks"};
    for (int i = 0; i < 2; i++) {
        assert_refused(names[i], H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, wrong[0], "[1] is nan; finite");
        assert_refused(names[i], H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, wrong[1], "[3] is inf; finite");
        assert_refused(names[i], H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, slopes, "each of the 4 heads of /q");
        assert_refused(names[i], H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 4, doubles, "is float64; float32 is needed");
        assert_refused(names[i], H5T_STD_I32LE, H5T_NATIVE_DOUBLE, 4, doubles, "is int32; float32 is needed");
    }
    assert_refused("/alibi_slopes", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, wrong[2], "[0] is -inf; finite");
}

static void datasets_of_two_axes_are_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {2, 2};
    const char *path = scratch_path("two-axes.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hdf5_dataset(file, "/sinks", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, extents, STORE_CONTIGUOUS, sinks);
    H5Fclose(file);
    tensor_file *input;
    float *values;
    io_error error = {""};
    assert_int_equal(tensor_file_open(path, &input, &error), 0);
    assert_int_equal(tensor_file_head_values(input, "/sinks", HEADS, true, &values, &error), -1);
    tensor_file_close(&input);
    assert_null(values);
    assert_refusal(&error, path, "/sinks needs one axis");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_them_are_read),
        cmocka_unit_test(absent_ones_are_none),
        cmocka_unit_test(lengths_that_do_not_fit_are_refused),
        cmocka_unit_test(a_list_of_blocks_is_read_or_refused),
        cmocka_unit_test(a_list_of_blocks_for_each_head_has_the_heads_of_q),
        cmocka_unit_test(values_of_heads_that_do_not_fit_are_refused),
        cmocka_unit_test(datasets_of_two_axes_are_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
