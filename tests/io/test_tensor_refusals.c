/* Files that are refused: each with one line that names the file and the cause, and before anything is allocated. */
#include "io/tensor_file.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fcntl.h>

static const float zeros[4096];

/* What a file holds that would be right, had not one thing been changed. */
typedef struct {
    int q_rank, k_rank, v_rank;
    hsize_t q[5], k[5], v[5];
    hid_t q_type, k_type, v_type;
} contents;

static contents sound(void)
{
    return (contents){3, 3, 3, {6, 4, 8}, {6, 2, 8}, {6, 2, 8}, H5T_IEEE_F32LE, H5T_IEEE_F32LE, H5T_IEEE_F32LE};
}

static const char *write_contents(contents c)
{
    const char *path = scratch_path("bad.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hdf5_dataset(file, "/q", c.q_type, c.q_type, c.q_rank, c.q, STORE_CONTIGUOUS, zeros);
    hdf5_dataset(file, "/k", c.k_type, c.k_type, c.k_rank, c.k, STORE_CONTIGUOUS, zeros);
    hdf5_dataset(file, "/v", c.v_type, c.v_type, c.v_rank, c.v, STORE_CONTIGUOUS, zeros);
    H5Fclose(file);
    return path;
}

static hid_t begin_file(const char **path_p)
{
    *path_p = scratch_path("bad.h5");
    hid_t file = H5Fcreate(*path_p, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static void assert_open_refused(const char *path, const char *needle)
{
    tensor_file *file = NULL;
    io_error error = {""};
    assert_int_equal(tensor_file_open(path, &file, &error), -1);
    assert_null(file);
    assert_refusal(&error, path, needle);
}

static void assert_attention_refused(const char *path, const char *needle)
{
    tensor_file *file;
    attention_shapes shapes;
    io_error error = {""};
    if (tensor_file_open(path, &file, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(tensor_file_attention(file, &shapes, &error), -1);
    tensor_file_close(&file);
    assert_refusal(&error, path, needle);
}

static void assert_contents_refused(contents c, const char *needle)
{
    assert_attention_refused(write_contents(c), needle);
}

/* A file whose /q is made with a type, extents and storage, and nothing else. */
static void assert_query_refused(hid_t type, int rank, const hsize_t *extents, storage how, const void *data,
                                 const char *needle)
{
    const char *path;
    hid_t file = begin_file(&path);
    hdf5_dataset(file, "/q", type, type, rank, extents, how, data);
    H5Fclose(file);
    assert_attention_refused(path, needle);
}

static void the_unchanged_file_is_accepted(void **state)
{
    (void)state;
    const char *path = write_contents(sound());
    tensor_file *file;
    attention_shapes shapes;
    io_error error = {""};
    if (tensor_file_open(path, &file, &error) != 0) fail_msg("%s", error.text);
    if (tensor_file_attention(file, &shapes, &error) != 0) fail_msg("%s", error.text);
    tensor_file_close(&file);
}

static void a_missing_file_is_refused(void **state)
{
    (void)state;
    assert_open_refused(scratch_path("nowhere.h5"), strerror(ENOENT));
}

static void a_folder_is_refused(void **state)
{
    (void)state;
    assert_open_refused(scratch_folder(), "is a folder");
}

static void a_pipe_is_refused_without_waiting_on_it(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(scratch_path("pipe"), 0600), 0);
    assert_open_refused(scratch_path("pipe"), "not a regular file");
}

static void an_empty_file_is_refused(void **state)
{
    (void)state;
    assert_open_refused(scratch_file("empty.h5", "", 0), "is empty");
}

static void a_text_file_is_refused(void **state)
{
    (void)state;
    assert_open_refused(scratch_file("text.h5", "q,k,v\n1,2,3\n", 12), "is not an HDF5 file");
}

static void a_truncated_file_is_refused_wherever_it_is_cut(void **state)
{
    (void)state;
    size_t size;
    char *bytes = scratch_read(write_contents(sound()), &size);
    for (size_t keep = 1; keep < size; keep += keep < 128 ? 1 : 97) {
        const char *path = scratch_file("cut.h5", bytes, keep);
        tensor_file *file;
        io_error error = {""};
        if (tensor_file_open(path, &file, &error) == 0) fail_msg("cut to %zu of %zu bytes, the file opens", keep, size);
        assert_refusal(&error, path, keep < 8 ? "is not an HDF5 file" : "");
    }
    assert_open_refused(scratch_file("cut.h5", bytes, size - 1), "truncated");
    free(bytes);
}

/* Superblock version 0 keeps the length that HDF5 checks at byte 40: with it lowered, a cut file opens. */
static void a_truncated_file_that_denies_it_is_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {64, 4, 16};
    const char *path;
    hid_t file = begin_file(&path);
    hdf5_dataset(file, "/q", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, extents, STORE_CONTIGUOUS, zeros);
    hid_t dataset = H5Dopen2(file, "/q", H5P_DEFAULT);
    uint64_t end = H5Dget_offset(dataset) + 100;
    H5Dclose(dataset);
    H5Fclose(file);
    size_t size;
    char *bytes = scratch_read(path, &size);
    for (int i = 0; i < 8; i++) bytes[40 + i] = (char)(end >> (8 * i));
    scratch_file("bad.h5", bytes, end);
    free(bytes);
    assert_attention_refused(path, "claims 16384 bytes");
}

static void a_file_locked_by_a_writer_names_the_lock_and_the_variable(void **state)
{
    (void)state;
    unsetenv("HDF5_USE_FILE_LOCKING");
    const char *path = write_contents(sound());
    int descriptor = open(path, O_RDWR);
    assert_int_equal(flock(descriptor, LOCK_EX), 0);
    assert_open_refused(path, "HDF5_USE_FILE_LOCKING=FALSE");
    close(descriptor);
}

static void a_missing_dataset_is_refused(void **state)
{
    (void)state;
    const char *path;
    hid_t file = begin_file(&path);
    H5Fclose(file);
    assert_attention_refused(path, "there is no dataset /q");
}

static void a_group_in_place_of_a_dataset_is_refused(void **state)
{
    (void)state;
    const char *path;
    hid_t file = begin_file(&path);
    H5Gclose(H5Gcreate2(file, "/q", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(file);
    assert_attention_refused(path, "/q is a group");
}

static void a_named_type_in_place_of_a_dataset_is_refused(void **state)
{
    (void)state;
    const char *path;
    hid_t file = begin_file(&path), type = H5Tcopy(H5T_IEEE_F32LE);
    assert_true(H5Tcommit2(file, "/q", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Tclose(type);
    H5Fclose(file);
    assert_attention_refused(path, "/q is a named type");
}

static void a_dangling_soft_link_is_refused(void **state)
{
    (void)state;
    const char *path;
    hid_t file = begin_file(&path);
    H5Lcreate_soft("/elsewhere", file, "/q", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    assert_attention_refused(path, "/q is a link that leads nowhere");
}

static void a_soft_link_to_itself_is_refused(void **state)
{
    (void)state;
    const char *path;
    hid_t file = begin_file(&path);
    H5Lcreate_soft("/q", file, "/q", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    assert_attention_refused(path, "/q is a link that leads nowhere");
}

static void a_dangling_external_link_is_refused(void **state)
{
    (void)state;
    const char *path;
    hid_t file = begin_file(&path);
    H5Lcreate_external("missing.h5", "/q", file, "/q", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    assert_attention_refused(path, "/q is a link that leads nowhere");
}

static void wrong_numbers_of_axes_are_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {2, 2, 2, 2, 2};
    assert_query_refused(H5T_IEEE_F32LE, 0, extents, STORE_CONTIGUOUS, zeros, "has 0 axes");
    assert_query_refused(H5T_IEEE_F32LE, 1, extents, STORE_CONTIGUOUS, zeros, "has 1 axes");
    assert_query_refused(H5T_IEEE_F32LE, 2, extents, STORE_CONTIGUOUS, zeros, "has 2 axes");
    assert_query_refused(H5T_IEEE_F32LE, 5, extents, STORE_CONTIGUOUS, zeros, "has 5 axes");
}

static void a_dataspace_without_extents_is_refused(void **state)
{
    (void)state;
    const char *path;
    hid_t file = begin_file(&path), space = H5Screate(H5S_NULL);
    H5Dclose(H5Dcreate2(file, "/q", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
    H5Fclose(file);
    assert_attention_refused(path, "has 0 axes");
}

static void an_extent_of_zero_is_refused_on_any_axis(void **state)
{
    (void)state;
    for (int axis = 0; axis < 4; axis++) {
        hsize_t extents[] = {2, 3, 4, 5};
        char needle[64];
        extents[axis] = 0;
        snprintf(needle, sizeof needle, "/q is empty: its axis %d", axis);
        assert_query_refused(H5T_IEEE_F32LE, 4, extents, STORE_CONTIGUOUS, NULL, needle);
        assert_query_refused(H5T_IEEE_F32LE, 4, extents, STORE_CHUNKED, NULL, needle);
    }
}

static void other_types_are_refused_by_name(void **state)
{
    (void)state;
    static const hsize_t extents[] = {2, 2, 2};
    hid_t compound = H5Tcreate(H5T_COMPOUND, 8), opaque = H5Tcreate(H5T_OPAQUE, 4), text = H5Tcopy(H5T_C_S1);
    H5Tinsert(compound, "r", 0, H5T_IEEE_F32LE);
    H5Tinsert(compound, "i", 4, H5T_IEEE_F32LE);
    H5Tset_size(text, 4);
    hid_t lists = H5Tvlen_create(H5T_IEEE_F32LE), strange = hdf5_half(false, H5T_ORDER_LE);
    H5Tset_ebias(strange, 14);
    assert_query_refused(H5T_IEEE_F64LE, 3, extents, STORE_CONTIGUOUS, zeros, "/q is float64; float32, float16 or");
    assert_query_refused(H5T_STD_I32LE, 3, extents, STORE_CONTIGUOUS, zeros, "/q is int32");
    assert_query_refused(H5T_STD_U8LE, 3, extents, STORE_CONTIGUOUS, zeros, "/q is uint8");
    assert_query_refused(compound, 3, extents, STORE_CONTIGUOUS, zeros, "/q is compound");
    assert_query_refused(opaque, 3, extents, STORE_CONTIGUOUS, zeros, "/q is opaque of 4 bytes");
    assert_query_refused(text, 3, extents, STORE_CONTIGUOUS, zeros, "/q is string");
    assert_query_refused(lists, 3, extents, STORE_CONTIGUOUS, NULL, "/q is variable-length");
    assert_query_refused(strange, 3, extents, STORE_CONTIGUOUS, zeros, "/q is a float of 2 bytes");
    assert_query_refused(H5T_STD_U16LE, 3, extents, STORE_CONTIGUOUS, zeros, "attribute dtype = \"bfloat16\"");
    H5Tclose(strange);
    H5Tclose(lists);
    H5Tclose(text);
    H5Tclose(opaque);
    H5Tclose(compound);
}

static void uint16_that_says_another_dtype_is_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {2, 2, 2};
    static const int64_t one = 1;
    for (int variant = 0; variant < 2; variant++) {
        const char *path;
        hid_t file = begin_file(&path);
        hdf5_dataset(file, "/q", H5T_STD_U16LE, H5T_STD_U16LE, 3, extents, STORE_CONTIGUOUS, zeros);
        hid_t dataset = H5Dopen2(file, "/q", H5P_DEFAULT);
        if (variant == 0) {
            hdf5_text_attribute(dataset, "dtype", "float16", true);
        } else {
            hid_t space = H5Screate(H5S_SCALAR);
            hid_t attribute = H5Acreate2(dataset, "dtype", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
            H5Awrite(attribute, H5T_NATIVE_INT64, &one);
            H5Aclose(attribute);
            H5Sclose(space);
        }
        H5Dclose(dataset);
        H5Fclose(file);
        assert_attention_refused(path, "/q is uint16");
    }
}

/* Not the memory of this test, but the 2 GiB it may have: 2^60 elements would not fit, nor overflow in silence. */
static void extents_beyond_the_file_are_refused_before_anything_is_allocated(void **state)
{
    (void)state;
    static const hsize_t huge[] = {(hsize_t)1 << 50, 4, 256}, overflowing[] = {(hsize_t)1 << 62, 1 << 20, 512};
    static const hsize_t wide[] = {1, (hsize_t)1 << 40, 2};
    assert_query_refused(H5T_IEEE_F32LE, 3, huge, STORE_CONTIGUOUS, NULL, "never written");
    assert_query_refused(H5T_IEEE_F32LE, 3, huge, STORE_CHUNKED, NULL, "0 of ");
    assert_query_refused(H5T_IEEE_F32LE, 3, overflowing, STORE_CHUNKED, NULL, "not credible");
    assert_query_refused(H5T_IEEE_F32LE, 3, wide, STORE_CHUNKED, NULL, "/q was not written completely");
}

static void a_dataset_that_was_never_written_is_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {4, 2, 8};
    assert_query_refused(H5T_IEEE_F32LE, 3, extents, STORE_CONTIGUOUS, NULL, "/q was created but never written");
    assert_query_refused(H5T_IEEE_F32LE, 3, extents, STORE_COMPRESSED, NULL, "0 of 6 chunks");
}

static void a_dataset_with_a_missing_chunk_is_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {9, 2, 2}, start[] = {0, 0, 0}, count[] = {6, 2, 2};
    const char *path;
    hid_t file = begin_file(&path);
    hdf5_dataset(file, "/q", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, extents, STORE_COMPRESSED, NULL);
    hid_t dataset = H5Dopen2(file, "/q", H5P_DEFAULT), space = H5Dget_space(dataset);
    hid_t memory = H5Screate_simple(3, count, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_FLOAT, memory, space, H5P_DEFAULT, zeros) >= 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(dataset);
    H5Fclose(file);
    assert_attention_refused(path, "it has 2 of 3 chunks");
}

static void a_flipped_byte_in_a_checksummed_dataset_is_refused_when_it_is_read(void **state)
{
    (void)state;
    static const hsize_t extents[] = {3, 3, 3};
    const char *path;
    hid_t file = begin_file(&path);
    hdf5_dataset(file, "/q", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 3, extents, STORE_COMPRESSED, zeros);
    hid_t dataset = H5Dopen2(file, "/q", H5P_DEFAULT);
    const hsize_t origin[] = {0, 0, 0};
    unsigned mask;
    haddr_t address;
    hsize_t size;
    assert_true(H5Dget_chunk_info_by_coord(dataset, origin, &mask, &address, &size) >= 0);
    H5Dclose(dataset);
    H5Fclose(file);
    size_t length;
    char *bytes = scratch_read(path, &length);
    bytes[address + size / 2] ^= 0x10;
    scratch_file("bad.h5", bytes, length);
    free(bytes);
    tensor_file *input;
    tensor_shape shape;
    float values[27];
    io_error error = {""};
    assert_int_equal(tensor_file_open(path, &input, &error), 0);
    assert_int_equal(tensor_file_shape(input, "/q", &shape, &error), 0);
    assert_int_equal(tensor_file_read(input, "/q", &shape, 0, 0, 3, values, &error), -1);
    tensor_file_close(&input);
    assert_refusal(&error, path, "/q cannot be read");
}

static size_t pass_through(unsigned flags, size_t count, const unsigned values[], size_t bytes, size_t *size,
                           void **buffer)
{
    (void)flags, (void)count, (void)values, (void)size, (void)buffer;
    return bytes;
}

static void a_filter_that_the_library_lacks_is_named(void **state)
{
    (void)state;
    static const hsize_t extents[] = {2, 2, 2};
    const H5Z_class2_t filter = {H5Z_CLASS_T_VERS, 300, 1, 1, "zipper", NULL, NULL, pass_through};
    assert_true(H5Zregister(&filter) >= 0);
    const char *path;
    hid_t file = begin_file(&path), properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(properties, 3, extents);
    H5Pset_filter(properties, 300, H5Z_FLAG_MANDATORY, 0, NULL);
    hid_t space = H5Screate_simple(3, extents, NULL);
    hid_t dataset = H5Dcreate2(file, "/q", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(properties);
    H5Fclose(file);
    assert_true(H5Zunregister(300) >= 0);
    assert_attention_refused(path, "filter 300 (zipper)");
}

static void values_in_other_files_are_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {2, 2, 2};
    const char *path;
    hid_t file = begin_file(&path), properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(properties, scratch_path("values.raw"), 0, 32);
    hid_t space = H5Screate_simple(3, extents, NULL);
    H5Dclose(H5Dcreate2(file, "/q", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT));
    H5Pclose(properties);
    H5Fclose(file);
    assert_attention_refused(path, "keeps its values in other files");

    file = begin_file(&path);
    properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_virtual(properties, space, "missing.h5", "/q", space);
    hid_t dataset = H5Dcreate2(file, "/q", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    assert_true(dataset >= 0);
    H5Dclose(dataset);
    H5Pclose(properties);
    H5Sclose(space);
    H5Fclose(file);
    assert_attention_refused(path, "/q is a virtual dataset");
}

static void shapes_that_do_not_go_together_are_refused(void **state)
{
    (void)state;
    contents c = sound();
    c.k_type = hdf5_half(false, H5T_ORDER_LE);
    assert_contents_refused(c, "/q is float32, /k is float16 and /v is float32");
    H5Tclose(c.k_type);

    c = sound();
    c.v_rank = 4;
    memcpy(c.v, (hsize_t[]){1, 6, 2, 8}, 4 * sizeof *c.v);
    assert_contents_refused(c, "have 3, 3 and 4 axes");

    c = sound();
    c.q_rank = c.k_rank = c.v_rank = 4;
    memcpy(c.q, (hsize_t[]){2, 6, 4, 8}, 4 * sizeof *c.q);
    memcpy(c.k, (hsize_t[]){2, 6, 2, 8}, 4 * sizeof *c.k);
    memcpy(c.v, (hsize_t[]){3, 6, 2, 8}, 4 * sizeof *c.v);
    assert_contents_refused(c, "hold 2, 2 and 3 batch items");

    c = sound();
    c.v[0] = 5;
    assert_contents_refused(c, "/k has 6 tokens, /v has 5");

    c = sound();
    c.v[1] = 1;
    assert_contents_refused(c, "/k has 2 heads, /v has 1");

    c = sound();
    c.k[2] = 7;
    assert_contents_refused(c, "/q has head size 8, /k has 7");

    c = sound();
    c.k[1] = c.v[1] = 3;
    assert_contents_refused(c, "the 4 heads of /q are not a multiple of the 3");

    c = sound();
    c.k[1] = c.v[1] = 8;
    assert_contents_refused(c, "the 4 heads of /q are not a multiple of the 8");
}

static void head_sizes_beyond_512_are_refused(void **state)
{
    (void)state;
    contents c = sound();
    c.q[0] = c.k[0] = c.v[0] = 1;
    c.q[2] = c.k[2] = 512;
    c.v[2] = 513;
    assert_contents_refused(c, "the head size 513 of /v is beyond 512");
    c.q[2] = c.k[2] = 513;
    c.v[2] = 512;
    assert_contents_refused(c, "the head size 513 of /q and /k is beyond 512");
}

static void rows_outside_of_a_dataset_are_refused(void **state)
{
    (void)state;
    static const int64_t wrong[][3] = {{0, -1, 2}, {0, 3, 2}, {0, 0, 7}, {1, 0, 2}, {-1, 0, 2}};
    const char *path = write_contents(sound());
    tensor_file *file;
    tensor_shape shape;
    float values[6 * 4 * 8];
    io_error error = {""};
    assert_int_equal(tensor_file_open(path, &file, &error), 0);
    assert_int_equal(tensor_file_shape(file, "/q", &shape, &error), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(tensor_file_read(file, "/q", &shape, wrong[i][0], wrong[i][1], wrong[i][2], values, &error),
                         -1);
        assert_refusal(&error, path, "outside of /q");
    }
    /* A shape that is another dataset's must not make HDF5 write beyond the rows that it promises. */
    assert_int_equal(tensor_file_read(file, "/k", &shape, 0, 0, 2, values, &error), -1);
    assert_refusal(&error, path, "/k is no longer what it was");
    shape.type = IO_FLOAT16;
    assert_int_equal(tensor_file_read(file, "/q", &shape, 0, 0, 2, values, &error), -1);
    assert_refusal(&error, path, "/q is no longer what it was");
    tensor_file_close(&file);
}

typedef struct {
    const char *needle;
    hsize_t count;
    int64_t offsets[4];
} document_case;

static void documents_that_do_not_cover_the_tokens_are_refused(void **state)
{
    (void)state;
    static const document_case cases[] = {
        {"begins with 1", 3, {1, 5, 9}},
        {"begins with -1", 3, {-1, 5, 9}},
        {"ends with 8", 3, {0, 5, 8}},
        {"ends with 10", 2, {0, 10}},
        {"descends from 6 to 5", 4, {0, 6, 5, 9}},
        {"at least two offsets", 1, {0}},
        {"is empty", 0, {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path;
        hid_t file = begin_file(&path);
        hdf5_dataset(file, "/documents", H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &cases[i].count, STORE_CONTIGUOUS,
                     cases[i].count ? cases[i].offsets : NULL);
        H5Fclose(file);
        tensor_file *input;
        int64_t *offsets, count;
        io_error error = {""};
        assert_int_equal(tensor_file_open(path, &input, &error), 0);
        assert_int_equal(tensor_file_documents(input, 9, &offsets, &count, &error), -1);
        assert_null(offsets);
        tensor_file_close(&input);
        assert_refusal(&error, path, cases[i].needle);
    }
}

static void documents_of_another_kind_are_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {2, 2}, huge = (hsize_t)1 << 50;
    static const char *const needles[] = {"not of an integer type", "needs one axis", "is a group", "never written",
                                          "leads nowhere"};
    for (int i = 0; i < 5; i++) {
        const char *path;
        hid_t file = begin_file(&path);
        if (i == 0)
            hdf5_dataset(file, "/documents", H5T_IEEE_F32LE, H5T_IEEE_F32LE, 1, extents, STORE_CONTIGUOUS, zeros);
        if (i == 1) hdf5_dataset(file, "/documents", H5T_STD_I32LE, H5T_STD_I32LE, 2, extents, STORE_CONTIGUOUS, zeros);
        if (i == 2) H5Gclose(H5Gcreate2(file, "/documents", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        if (i == 3) hdf5_dataset(file, "/documents", H5T_STD_I64LE, H5T_STD_I64LE, 1, &huge, STORE_CONTIGUOUS, NULL);
        if (i == 4) H5Lcreate_soft("/nowhere", file, "/documents", H5P_DEFAULT, H5P_DEFAULT);
        H5Fclose(file);
        tensor_file *input;
        int64_t *offsets, count;
        io_error error = {""};
        assert_int_equal(tensor_file_open(path, &input, &error), 0);
        assert_int_equal(tensor_file_documents(input, 9, &offsets, &count, &error), -1);
        tensor_file_close(&input);
        assert_refusal(&error, path, needles[i]);
    }
}

static void an_lse_that_does_not_go_with_out_is_refused(void **state)
{
    (void)state;
    static const hsize_t extents[] = {6, 4, 1};
    const tensor_shape out = {false, 1, 6, 4, 8, IO_FLOAT32}, longer = {false, 1, 7, 4, 8, IO_FLOAT32};
    const char *path;
    float values[32];
    io_error error = {""};
    for (int i = 0; i < 5; i++) {
        static const char *const needles[] = {"/lse is not float32", "do not match", "do not match", "never written",
                                              "there is no dataset /lse"};
        hid_t file = begin_file(&path);
        hid_t type = i == 0 ? H5T_IEEE_F64LE : H5T_IEEE_F32LE;
        if (i < 4)
            hdf5_dataset(file, "/lse", type, type, i == 1 ? 3 : 2, extents, STORE_CONTIGUOUS, i == 3 ? NULL : zeros);
        H5Fclose(file);
        tensor_file *input;
        assert_int_equal(tensor_file_open(path, &input, &error), 0);
        assert_int_equal(tensor_file_read_lse(input, i == 2 ? &longer : &out, 0, 0, 6, values, &error), -1);
        tensor_file_close(&input);
        assert_refusal(&error, path, needles[i]);
    }
}

static void a_path_of_control_characters_stays_on_one_line(void **state)
{
    (void)state;
    tensor_file *file;
    io_error error = {""};
    assert_int_equal(tensor_file_open("no\nsuch\r\nfile", &file, &error), -1);
    assert_null(strpbrk(error.text, "\r\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_unchanged_file_is_accepted),
        cmocka_unit_test(a_missing_file_is_refused),
        cmocka_unit_test(a_folder_is_refused),
        cmocka_unit_test(a_pipe_is_refused_without_waiting_on_it),
        cmocka_unit_test(an_empty_file_is_refused),
        cmocka_unit_test(a_text_file_is_refused),
        cmocka_unit_test(a_truncated_file_is_refused_wherever_it_is_cut),
        cmocka_unit_test(a_truncated_file_that_denies_it_is_refused),
        cmocka_unit_test(a_file_locked_by_a_writer_names_the_lock_and_the_variable),
        cmocka_unit_test(a_missing_dataset_is_refused),
        cmocka_unit_test(a_group_in_place_of_a_dataset_is_refused),
        cmocka_unit_test(a_named_type_in_place_of_a_dataset_is_refused),
        cmocka_unit_test(a_dangling_soft_link_is_refused),
        cmocka_unit_test(a_soft_link_to_itself_is_refused),
        cmocka_unit_test(a_dangling_external_link_is_refused),
        cmocka_unit_test(wrong_numbers_of_axes_are_refused),
        cmocka_unit_test(a_dataspace_without_extents_is_refused),
        cmocka_unit_test(an_extent_of_zero_is_refused_on_any_axis),
        cmocka_unit_test(other_types_are_refused_by_name),
        cmocka_unit_test(uint16_that_says_another_dtype_is_refused),
        cmocka_unit_test(extents_beyond_the_file_are_refused_before_anything_is_allocated),
        cmocka_unit_test(a_dataset_that_was_never_written_is_refused),
        cmocka_unit_test(a_dataset_with_a_missing_chunk_is_refused),
        cmocka_unit_test(a_flipped_byte_in_a_checksummed_dataset_is_refused_when_it_is_read),
        cmocka_unit_test(a_filter_that_the_library_lacks_is_named),
        cmocka_unit_test(values_in_other_files_are_refused),
        cmocka_unit_test(shapes_that_do_not_go_together_are_refused),
        cmocka_unit_test(head_sizes_beyond_512_are_refused),
        cmocka_unit_test(rows_outside_of_a_dataset_are_refused),
        cmocka_unit_test(documents_that_do_not_cover_the_tokens_are_refused),
        cmocka_unit_test(documents_of_another_kind_are_refused),
        cmocka_unit_test(an_lse_that_does_not_go_with_out_is_refused),
        cmocka_unit_test(a_path_of_control_characters_stays_on_one_line),
    };
    return cmocka_run_group_tests_name("io.tensor_refusals", tests, scratch_setup, scratch_teardown);
}
