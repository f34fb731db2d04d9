/* Reading what is right: every type, storage, byte order and range of rows. Expected values are written with HDF5. */
#include "io/tensor_file.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { B = 2, N = 7, H = 3, D = 5, ELEMENTS = B * N * H * D };

/* Bit patterns of every kind, NaN and subnormals among them: reading must not touch a bit. */
static uint32_t pattern(int64_t i)
{
    return (uint32_t)((uint64_t)(i + 1) * 0x9e3779b97f4a7c15u >> 32);
}

static void fill(io_type type, void *values)
{
    for (int64_t i = 0; i < ELEMENTS; i++) {
        if (type == IO_FLOAT32) ((uint32_t *)values)[i] = pattern(i);
        else ((uint16_t *)values)[i] = (uint16_t)pattern(i);
    }
}

static hid_t stored_type(io_type type, H5T_order_t order)
{
    if (type == IO_FLOAT32) return H5Tcopy(order == H5T_ORDER_BE ? H5T_IEEE_F32BE : H5T_IEEE_F32LE);
    return hdf5_half(type == IO_BFLOAT16, order);
}

static const char *write_tensor(io_type type, bool batched, H5T_order_t order, storage how)
{
    static const hsize_t extents[] = {B, N, H, D};
    const char *path = scratch_path("tensor.h5");
    uint32_t values[ELEMENTS];
    fill(type, values);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t disk = stored_type(type, order), memory = stored_type(type, H5Tget_order(H5T_NATIVE_FLOAT));
    hdf5_dataset(file, "/q", disk, memory, batched ? 4 : 3, extents + !batched, how, values);
    H5Tclose(memory);
    H5Tclose(disk);
    H5Fclose(file);
    return path;
}

static void assert_all_ranges(const char *path, io_type type, bool batched)
{
    size_t size = io_type_size(type), row = H * D * size;
    unsigned char expected[ELEMENTS * 4], got[ELEMENTS * 4 + 1];
    fill(type, expected);
    tensor_file *file;
    tensor_shape shape;
    io_error error = {""};
    if (tensor_file_open(path, &file, &error) != 0) fail_msg("%s", error.text);
    if (tensor_file_shape(file, "/q", &shape, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(shape.type, type);
    assert_int_equal(shape.batched, batched);
    assert_int_equal(shape.batch, batched ? B : 1);
    assert_int_equal(shape.tokens, N);
    assert_int_equal(shape.heads, H);
    assert_int_equal(shape.dim, D);
    for (int64_t b = 0; b < shape.batch; b++) {
        for (int64_t begin = 0; begin <= N; begin++) {
            for (int64_t end = begin; end <= N; end++) {
                size_t bytes = (size_t)(end - begin) * row;
                memset(got, 0xee, sizeof got);
                if (tensor_file_read(file, "/q", &shape, b, begin, end, got, &error) != 0) fail_msg("%s", error.text);
                assert_memory_equal(got, expected + (size_t)(b * N + begin) * row, bytes);
                assert_int_equal(got[bytes], 0xee);
            }
        }
    }
    tensor_file_close(&file);
    assert_null(file);
}

static void every_type_storage_and_byte_order_is_read_bit_for_bit(void **state)
{
    (void)state;
    for (int type = IO_FLOAT32; type <= IO_BFLOAT16; type++) {
        for (int how = STORE_CONTIGUOUS; how <= STORE_COMPRESSED; how++) {
            for (int big = 0; big < 2; big++) {
                for (int batched = 0; batched < 2; batched++) {
                    const char *path =
                        write_tensor((io_type)type, batched, big ? H5T_ORDER_BE : H5T_ORDER_LE, (storage)how);
                    print_message("%s storage %d big-endian %d batched %d\n", io_type_name((io_type)type), how, big,
                                  batched);
                    assert_all_ranges(path, (io_type)type, batched);
                }
            }
        }
    }
}

static void bfloat16_is_read_from_uint16_and_opaque_with_a_dtype_attribute(void **state)
{
    (void)state;
    static const hsize_t extents[] = {B, N, H, D};
    uint16_t values[ELEMENTS];
    fill(IO_BFLOAT16, values);
    hid_t opaque = H5Tcreate(H5T_OPAQUE, 2);
    H5Tset_tag(opaque, "NUMPY:|V2");
    for (int variant = 0; variant < 4; variant++) {
        const char *path = scratch_path("tensor.h5");
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        hid_t type = variant & 1 ? opaque : H5T_STD_U16LE;
        hdf5_dataset(file, "/q", type, variant & 1 ? opaque : H5T_NATIVE_UINT16, 4, extents, STORE_CONTIGUOUS, values);
        hid_t dataset = H5Dopen2(file, "/q", H5P_DEFAULT);
        hdf5_text_attribute(dataset, "dtype", "bfloat16", variant & 2);
        H5Dclose(dataset);
        H5Fclose(file);
        assert_all_ranges(path, IO_BFLOAT16, true);
    }
    H5Tclose(opaque);
}

static void big_endian_uint16_is_read_as_bfloat16_in_native_order(void **state)
{
    (void)state;
    static const hsize_t extents[] = {B, N, H, D};
    uint16_t values[ELEMENTS];
    fill(IO_BFLOAT16, values);
    const char *path = scratch_path("tensor.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hdf5_dataset(file, "/q", H5T_STD_U16BE, H5T_NATIVE_UINT16, 4, extents, STORE_CONTIGUOUS, values);
    hid_t dataset = H5Dopen2(file, "/q", H5P_DEFAULT);
    hdf5_text_attribute(dataset, "dtype", "bfloat16", true);
    H5Dclose(dataset);
    H5Fclose(file);
    assert_all_ranges(path, IO_BFLOAT16, true);
}

static void a_dataset_behind_an_external_link_is_read(void **state)
{
    (void)state;
    const char *target = write_tensor(IO_FLOAT32, false, H5T_ORDER_LE, STORE_CONTIGUOUS);
    const char *path = scratch_path("links.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Lcreate_external(target, "/q", file, "/q", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Fclose(file);
    assert_all_ranges(path, IO_FLOAT32, false);
}

static void a_file_with_a_user_block_is_read(void **state)
{
    (void)state;
    static const hsize_t extents[] = {B, N, H, D};
    const char *path = scratch_path("userblock.h5");
    uint32_t values[ELEMENTS];
    fill(IO_FLOAT32, values);
    hid_t properties = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_userblock(properties, 4096);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, properties, H5P_DEFAULT);
    hdf5_dataset(file, "/q", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, extents, STORE_CONTIGUOUS, values);
    H5Fclose(file);
    H5Pclose(properties);
    assert_all_ranges(path, IO_FLOAT32, true);
}

static void shapes_of_attention_are_those_of_q_k_and_v(void **state)
{
    (void)state;
    static const hsize_t q[] = {2, 5, 6, 4}, k[] = {2, 9, 3, 4}, v[] = {2, 9, 3, 7};
    static const float zeros[2 * 9 * 6 * 7];
    const char *path = scratch_path("attention.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hdf5_dataset(file, "/q", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, q, STORE_CONTIGUOUS, zeros);
    hdf5_dataset(file, "/k", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, k, STORE_CHUNKED, zeros);
    hdf5_dataset(file, "/v", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, v, STORE_COMPRESSED, zeros);
    H5Fclose(file);
    tensor_file *input;
    attention_shapes shapes;
    io_error error = {""};
    assert_int_equal(tensor_file_open(path, &input, &error), 0);
    if (tensor_file_attention(input, &shapes, &error) != 0) fail_msg("%s", error.text);
    tensor_file_close(&input);
    assert_int_equal(shapes.q.tokens, 5);
    assert_int_equal(shapes.q.heads, 6);
    assert_int_equal(shapes.k.tokens, 9);
    assert_int_equal(shapes.k.heads, 3);
    assert_int_equal(shapes.k.dim, 4);
    assert_int_equal(shapes.v.dim, 7);
    assert_int_equal(shapes.v.batch, 2);
}

static void documents_of_any_integer_type_are_read(void **state)
{
    (void)state;
    static const int64_t offsets[] = {0, 3, 3, 7, 16};
    static const hsize_t extent = 5;
    const hid_t types[] = {H5T_STD_I64LE, H5T_STD_I32BE, H5T_STD_U64LE, H5T_STD_U8LE};
    for (int i = 0; i < 4; i++) {
        const char *path = scratch_path("documents.h5");
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        hdf5_dataset(file, "/documents", types[i], H5T_NATIVE_INT64, 1, &extent,
                     i & 1 ? STORE_CHUNKED : STORE_CONTIGUOUS, offsets);
        H5Fclose(file);
        tensor_file *input;
        int64_t *got, count;
        io_error error = {""};
        assert_int_equal(tensor_file_open(path, &input, &error), 0);
        if (tensor_file_documents(input, 16, &got, &count, &error) != 0) fail_msg("type %d: %s", i, error.text);
        tensor_file_close(&input);
        assert_int_equal(count, 4);
        assert_memory_equal(got, offsets, sizeof offsets);
        free(got);
    }
}

static void absent_documents_are_none(void **state)
{
    (void)state;
    const char *path = write_tensor(IO_FLOAT32, false, H5T_ORDER_LE, STORE_CONTIGUOUS);
    tensor_file *file;
    int64_t *offsets = (int64_t[]){1}, count = 1;
    io_error error = {""};
    assert_int_equal(tensor_file_open(path, &file, &error), 0);
    assert_int_equal(tensor_file_documents(file, N, &offsets, &count, &error), 0);
    assert_null(offsets);
    assert_int_equal(count, 0);
    assert_true(tensor_file_has(file, "/q"));
    assert_false(tensor_file_has(file, "/documents"));
    tensor_file_close(&file);
}

static void lse_is_read_by_rows(void **state)
{
    (void)state;
    static const hsize_t extents[] = {B, N, H};
    float values[B * N * H], got[N * H];
    for (int i = 0; i < B * N * H; i++) values[i] = (float)i / 4;
    for (int batched = 0; batched < 2; batched++) {
        const char *path = scratch_path("lse.h5");
        hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        hdf5_dataset(file, "/lse", H5T_IEEE_F32BE, H5T_NATIVE_FLOAT, 2 + batched, extents + !batched, STORE_CONTIGUOUS,
                     values);
        H5Fclose(file);
        tensor_shape out = {batched, batched ? B : 1, N, H, D, IO_FLOAT16};
        tensor_file *input;
        io_error error = {""};
        assert_int_equal(tensor_file_open(path, &input, &error), 0);
        for (int64_t b = 0; b < out.batch; b++) {
            for (int64_t begin = 0; begin <= N; begin++) {
                if (tensor_file_read_lse(input, &out, b, begin, N, got, &error) != 0) fail_msg("%s", error.text);
                assert_memory_equal(got, values + (b * N + begin) * H, (size_t)((N - begin) * H) * sizeof *got);
            }
        }
        tensor_file_close(&input);
    }
}

typedef struct {
    char text[4096];
} lines;

static void keep_line(void *data, const char *line)
{
    lines *kept = data;
    size_t length = strlen(kept->text);
    snprintf(kept->text + length, sizeof kept->text - length, "%s\n", line);
}

static const char *write_attributes(void)
{
    static const hsize_t extents[] = {4, 2, 3};
    static const float zeros[24];
    static const int64_t ranks = 4;
    static const double scale = 0.125;
    const char *path = scratch_path("attributes.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t half = hdf5_half(true, H5T_ORDER_LE), space = H5Screate(H5S_SCALAR);
    hdf5_dataset(file, "/out", half, H5T_NATIVE_FLOAT, 3, extents, STORE_COMPRESSED, zeros);
    hdf5_dataset(file, "/wide", H5T_IEEE_F64LE, H5T_NATIVE_FLOAT, 1, extents, STORE_CONTIGUOUS, zeros);
    hdf5_text_attribute(file, "mask", "causal\n+documents", true);
    hdf5_text_attribute(file, "short", "ring", false);
    hid_t attribute = H5Acreate2(file, "ranks", H5T_STD_I16BE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT64, &ranks);
    H5Aclose(attribute);
    attribute = H5Acreate2(file, "scale", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_DOUBLE, &scale);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(half);
    hid_t group = H5Gcreate2(file, "/more", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(group);
    H5Lcreate_soft("/nowhere", file, "/lost", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    return path;
}

static void attributes_are_read_by_their_kind(void **state)
{
    (void)state;
    const char *path = write_attributes();
    tensor_file *file;
    char text[64];
    int64_t integer;
    double number;
    io_error error = {""};
    assert_int_equal(tensor_file_open(path, &file, &error), 0);
    assert_true(tensor_file_has_attribute(file, "mask"));
    assert_false(tensor_file_has_attribute(file, "layout"));
    assert_int_equal(tensor_file_attribute_text(file, "mask", text, sizeof text, &error), 0);
    assert_string_equal(text, "causal\n+documents");
    assert_int_equal(tensor_file_attribute_text(file, "mask", text, 4, &error), 0);
    assert_string_equal(text, "cau");
    assert_int_equal(tensor_file_attribute_text(file, "short", text, sizeof text, &error), 0);
    assert_string_equal(text, "ring");
    assert_int_equal(tensor_file_attribute_integer(file, "ranks", &integer, &error), 0);
    assert_int_equal(integer, 4);
    assert_int_equal(tensor_file_attribute_number(file, "scale", &number, &error), 0);
    assert_true(number == 0.125);
    assert_int_equal(tensor_file_attribute_number(file, "ranks", &number, &error), 0);
    assert_true(number == 4);

    assert_int_equal(tensor_file_attribute_text(file, "layout", text, sizeof text, &error), -1);
    assert_refusal(&error, path, "layout is missing");
    assert_int_equal(tensor_file_attribute_text(file, "ranks", text, sizeof text, &error), -1);
    assert_refusal(&error, path, "ranks is not a string");
    assert_int_equal(tensor_file_attribute_integer(file, "scale", &integer, &error), -1);
    assert_refusal(&error, path, "scale is not an integer");
    assert_int_equal(tensor_file_attribute_number(file, "mask", &number, &error), -1);
    assert_refusal(&error, path, "mask is not a number");
    tensor_file_close(&file);
}

static void a_listing_names_datasets_then_attributes_one_a_line(void **state)
{
    (void)state;
    const char *path = write_attributes();
    tensor_file *file;
    lines kept = {""};
    io_error error = {""};
    assert_int_equal(tensor_file_open(path, &file, &error), 0);
    assert_int_equal(tensor_file_list(file, keep_line, &kept, &error), 0);
    tensor_file_close(&file);
    assert_string_equal(kept.text, "/lost: a link that leads nowhere\n"
                                   "/more: a group\n"
                                   "/out: bfloat16 [4, 2, 3], chunked, filtered\n"
                                   "/wide: float64 [4], contiguous\n"
                                   "mask = causal?+documents\n"
                                   "ranks = 4\n"
                                   "scale = 0.125\n"
                                   "short = ring\n");
}

static void names_of_types_go_both_ways(void **state)
{
    (void)state;
    for (int type = IO_FLOAT32; type <= IO_BFLOAT16; type++) {
        io_type back;
        assert_true(io_type_from_name(io_type_name((io_type)type), &back));
        assert_int_equal(back, type);
    }
    io_type untouched = IO_FLOAT16;
    assert_false(io_type_from_name("float64", &untouched));
    assert_int_equal(untouched, IO_FLOAT16);
    assert_int_equal(io_type_size(IO_FLOAT32), 4);
    assert_int_equal(io_type_size(IO_FLOAT16), 2);
    assert_int_equal(io_type_size(IO_BFLOAT16), 2);
}

static void closing_nothing_is_allowed(void **state)
{
    (void)state;
    tensor_file *file = NULL;
    tensor_file_close(&file);
    assert_null(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_storage_and_byte_order_is_read_bit_for_bit),
        cmocka_unit_test(bfloat16_is_read_from_uint16_and_opaque_with_a_dtype_attribute),
        cmocka_unit_test(big_endian_uint16_is_read_as_bfloat16_in_native_order),
        cmocka_unit_test(a_dataset_behind_an_external_link_is_read),
        cmocka_unit_test(a_file_with_a_user_block_is_read),
        cmocka_unit_test(shapes_of_attention_are_those_of_q_k_and_v),
        cmocka_unit_test(documents_of_any_integer_type_are_read),
        cmocka_unit_test(absent_documents_are_none),
        cmocka_unit_test(lse_is_read_by_rows),
        cmocka_unit_test(attributes_are_read_by_their_kind),
        cmocka_unit_test(a_listing_names_datasets_then_attributes_one_a_line),
        cmocka_unit_test(names_of_types_go_both_ways),
        cmocka_unit_test(closing_nothing_is_allowed),
    };
    return cmocka_run_group_tests_name("io.tensor_file", tests, scratch_setup, scratch_teardown);
}
