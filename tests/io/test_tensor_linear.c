/* What linear attention reads beside q, k and v: read as it is, refused when a variant wants something else. */
#include "io/tensor_linear.h"
#include "scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BATCH = 2, TOKENS = 5, HEADS = 4, DIM = 3, FEATURES = 6, WIDTH = 2, REFERENCE = 2 };
enum { MOST = 256 };

static float floats[MOST];
static double doubles[MOST];

static const attention_shapes alone = {
    .q = {false, 1, TOKENS, HEADS, DIM, IO_FLOAT32},
    .k = {false, 1, TOKENS, 2, DIM, IO_FLOAT32},
    .v = {false, 1, TOKENS, HEADS, 7, IO_FLOAT32},
};
static const attention_shapes batched = {
    .q = {true, BATCH, TOKENS, HEADS, DIM, IO_FLOAT32},
    .k = {true, BATCH, TOKENS, 2, DIM, IO_FLOAT32},
    .v = {true, BATCH, TOKENS, HEADS, 7, IO_FLOAT32},
};

static linear_wanted wanting(const char *attention)
{
    return (linear_wanted){
        .attention = attention, .users = {"ssd, gla", "delta", "rwkv6", "favor"}, .most_features = 8};
}

/* A file as it is being made. */
static hid_t file_begin(const char **path_p)
{
    *path_p = scratch_path("linear.h5");
    return H5Fcreate(*path_p, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
}

static tensor_file *file_end(hid_t file, const char *path)
{
    tensor_file *input;
    io_error error = {""};
    H5Fclose(file);
    if (tensor_file_open(path, &input, &error) != 0) fail_msg("%s", error.text);
    return input;
}

static void put(hid_t file, const char *name, int rank, const hsize_t *extents)
{
    hdf5_dataset(file, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, rank, extents, STORE_CONTIGUOUS, floats);
}

static void put_double(hid_t file, const char *name, int rank, const hsize_t *extents)
{
    hdf5_dataset(file, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, rank, extents, STORE_CONTIGUOUS, doubles);
}

static int fill(void **state)
{
    for (int i = 0; i < MOST; i++) {
        floats[i] = -0.25f * (float)i;
        doubles[i] = 1.0 / (1 + i);
    }
    return scratch_setup(state);
}

static void values_of_heads_and_features_are_read_whole(void **state)
{
    (void)state;
    const char *path;
    hid_t file = file_begin(&path);
    put(file, "/log_decay", 1, (const hsize_t[]){HEADS});
    put(file, "/bonus", 2, (const hsize_t[]){HEADS, DIM});
    put(file, "/features", 2, (const hsize_t[]){FEATURES, DIM});
    tensor_file *input = file_end(file, path);
    linear_wanted wanted = wanting("any");
    linear_extras got;
    io_error error = {""};
    wanted.needs[LINEAR_LOG_DECAY] = wanted.needs[LINEAR_BONUS] = wanted.needs[LINEAR_FEATURES] = true;
    wanted.log_decay_axes = 1;
    if (tensor_file_linear_extras(input, &alone, &wanted, &got, &error) != 0) fail_msg("%s", error.text);
    tensor_file_close(&input);
    assert_memory_equal(got.head_log_decay, floats, HEADS * sizeof *floats);
    assert_memory_equal(got.bonus, floats, HEADS * DIM * sizeof *floats);
    assert_int_equal(got.feature_count, FEATURES);
    assert_memory_equal(got.features, floats, FEATURES * DIM * sizeof *floats);
    assert_int_equal(got.log_decay.heads, 0);
    assert_int_equal(got.beta.heads, 0);
    linear_extras_free(&got);
    assert_null(got.features);
}

/* With a value for each of `dim` elements, or where it is 0 one a head. */
static void check_rows(const attention_shapes *shapes, int dim)
{
    const char *path;
    hsize_t extents[4];
    int rank = 0;
    if (shapes->q.batched) extents[rank++] = BATCH;
    extents[rank++] = TOKENS;
    extents[rank++] = HEADS;
    hid_t file = file_begin(&path);
    put(file, "/beta", rank, extents);
    if (dim) extents[rank++] = (hsize_t)dim;
    put(file, "/log_decay", rank, extents);
    tensor_file *input = file_end(file, path);
    linear_wanted wanted = wanting("any");
    linear_extras got;
    io_error error = {""};
    float rows[2 * HEADS * DIM];
    const size_t width = HEADS * (size_t)(dim ? dim : 1);
    const int64_t item = shapes->q.batch - 1;
    wanted.needs[LINEAR_LOG_DECAY] = wanted.needs[LINEAR_BETA] = true;
    wanted.log_decay_axes = dim ? 3 : 2;
    if (tensor_file_linear_extras(input, shapes, &wanted, &got, &error) != 0) fail_msg("%s", error.text);
    assert_null(got.head_log_decay);
    assert_int_equal(got.log_decay.dim, dim);
    assert_int_equal(tensor_file_read(input, "/log_decay", &got.log_decay, item, 2, 4, rows, &error), 0);
    assert_memory_equal(rows, floats + (size_t)(item * TOKENS + 2) * width, 2 * width * sizeof *rows);
    assert_int_equal(tensor_file_read(input, "/beta", &got.beta, item, 2, 4, rows, &error), 0);
    assert_memory_equal(rows, floats + (item * TOKENS + 2) * HEADS, 2 * HEADS * sizeof *rows);
    tensor_file_close(&input);
    linear_extras_free(&got);
}

static void rows_of_tokens_are_read_where_they_are(void **state)
{
    (void)state;
    check_rows(&alone, 0);
    check_rows(&alone, DIM);
    check_rows(&batched, 0);
    check_rows(&batched, DIM);
}

/* One dataset that does not fit, with what the message must say. */
static void refuse(linear_dataset dataset, int axes, const attention_shapes *shapes, int rank, const hsize_t *extents,
                   hid_t type, const char *needle)
{
    const char *path, *name = linear_dataset_name(dataset);
    hid_t file = file_begin(&path);
    if (rank) hdf5_dataset(file, name, type, H5T_NATIVE_FLOAT, rank, extents, STORE_CONTIGUOUS, floats);
    tensor_file *input = file_end(file, path);
    linear_wanted wanted = wanting("kda");
    linear_extras got = {.bonus = floats};
    io_error error = {""};
    wanted.needs[dataset] = true;
    wanted.log_decay_axes = axes;
    if (tensor_file_linear_extras(input, shapes, &wanted, &got, &error) != -1) fail_msg("'%s' was not refused", needle);
    tensor_file_close(&input);
    assert_refusal(&error, path, name);
    assert_refusal(&error, path, "--attention kda needs");
    assert_refusal(&error, path, needle);
    assert_null(got.bonus);
}

static void datasets_of_another_shape_or_type_are_refused_with_both(void **state)
{
    (void)state;
    const hid_t f32 = H5T_IEEE_F32LE;
    refuse(LINEAR_LOG_DECAY, 3, &alone, 2, (const hsize_t[]){TOKENS, HEADS}, f32,
           "is float32 [5, 4]; --attention kda needs float32 [5, 4, 3]");
    refuse(LINEAR_LOG_DECAY, 2, &alone, 3, (const hsize_t[]){TOKENS, HEADS, DIM}, f32, "needs float32 [5, 4], a value");
    refuse(LINEAR_LOG_DECAY, 1, &alone, 2, (const hsize_t[]){TOKENS, HEADS}, f32, "needs float32 [4]");
    refuse(LINEAR_LOG_DECAY, 2, &batched, 2, (const hsize_t[]){TOKENS, HEADS}, f32, "needs float32 [2, 5, 4]");
    refuse(LINEAR_LOG_DECAY, 2, &alone, 2, (const hsize_t[]){TOKENS, HEADS}, H5T_IEEE_F64LE, "is float64 [5, 4]");
    refuse(LINEAR_BETA, 0, &alone, 2, (const hsize_t[]){TOKENS, 2}, f32, "is float32 [5, 2]");
    refuse(LINEAR_BETA, 0, &alone, 2, (const hsize_t[]){TOKENS, HEADS}, H5T_STD_I32LE, "is int32 [5, 4]");
    refuse(LINEAR_BONUS, 0, &alone, 1, (const hsize_t[]){HEADS}, f32, "needs float32 [4, 3]");
    refuse(LINEAR_FEATURES, 0, &alone, 2, (const hsize_t[]){9, DIM}, f32, "is float32 [9, 3]");
    refuse(LINEAR_FEATURES, 0, &alone, 2, (const hsize_t[]){FEATURES, DIM + 1}, f32, "needs float32 [1 to 8, 3]");
}

static void datasets_that_are_missing_are_named(void **state)
{
    (void)state;
    refuse(LINEAR_LOG_DECAY, 3, &alone, 0, NULL, H5T_IEEE_F32LE, "there is no dataset /log_decay");
    refuse(LINEAR_BETA, 0, &batched, 0, NULL, H5T_IEEE_F32LE, "float32 [2, 5, 4], a value for each token and head");
    refuse(LINEAR_BONUS, 0, &alone, 0, NULL, H5T_IEEE_F32LE, "there is no dataset /bonus");
    refuse(LINEAR_FEATURES, 0, &alone, 0, NULL, H5T_IEEE_F32LE, "there is no dataset /features");
}

static void values_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    const char *path;
    linear_wanted wanted = wanting("favor");
    linear_extras got;
    io_error error = {""};
    wanted.needs[LINEAR_FEATURES] = true;
    floats[4] = NAN;
    hid_t file = file_begin(&path);
    put(file, "/features", 2, (const hsize_t[]){FEATURES, DIM});
    tensor_file *input = file_end(file, path);
    floats[4] = -1;
    assert_int_equal(tensor_file_linear_extras(input, &alone, &wanted, &got, &error), -1);
    tensor_file_close(&input);
    assert_refusal(&error, path, "value 4 of /features is nan");

    /* A decay of -inf forgets. */
    wanted = wanting("lightning");
    wanted.needs[LINEAR_LOG_DECAY] = true;
    wanted.log_decay_axes = 1;
    floats[1] = -INFINITY;
    file = file_begin(&path);
    put(file, "/log_decay", 1, (const hsize_t[]){HEADS});
    input = file_end(file, path);
    floats[1] = -0.25f;
    assert_int_equal(tensor_file_linear_extras(input, &alone, &wanted, &got, &error), 0);
    tensor_file_close(&input);
    assert_true(isinf(got.head_log_decay[1]));
    linear_extras_free(&got);
}

static void datasets_without_a_meaning_are_refused(void **state)
{
    (void)state;
    static const char *const given[] = {"/log_decay", "/beta",         "/bonus",      "/features",
                                        "/sinks",     "/alibi_slopes", "/key_lengths"};
    static const char *const only[] = {"only for ssd, gla", "only for delta",   "only for rwkv6",  "only for favor",
                                       "only for softmax",  "only for softmax", "only for softmax"};
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        const char *path;
        hid_t file = file_begin(&path);
        put(file, given[i], 1, (const hsize_t[]){HEADS});
        tensor_file *input = file_end(file, path);
        const linear_wanted wanted = wanting("elu");
        linear_extras got;
        io_error error = {""};
        assert_int_equal(tensor_file_linear_extras(input, &alone, &wanted, &got, &error), -1);
        const char *found = tensor_file_has_linear(input);
        assert_true(i < LINEAR_DATASETS ? found && strcmp(found, given[i]) == 0 : !found);
        tensor_file_close(&input);
        assert_refusal(&error, path, given[i]);
        assert_refusal(&error, path, "has no meaning for --attention elu");
        assert_refusal(&error, path, only[i]);
    }
}

static void states_are_read_and_checked(void **state)
{
    (void)state;
    for (int with_batch = 0; with_batch < 2; with_batch++) {
        const state_shape shape = {with_batch, with_batch ? BATCH : 1, HEADS, FEATURES, WIDTH, REFERENCE};
        state_shape other = shape, no_reference = shape;
        const hsize_t sums[] = {BATCH, HEADS, FEATURES, WIDTH}, reference[] = {BATCH, HEADS, REFERENCE};
        const int64_t count = shape.batch * HEADS * FEATURES * WIDTH, references = shape.batch * HEADS * REFERENCE;
        double got[MOST], got_reference[MOST];
        const char *path;
        io_error error = {""};
        hid_t file = file_begin(&path);
        put_double(file, "/state", 3 + with_batch, sums + !with_batch);
        put_double(file, "/state_reference", 2 + with_batch, reference + !with_batch);
        tensor_file *input = file_end(file, path);
        assert_true(tensor_file_has_state(input));
        if (tensor_file_state_read(input, &shape, "favor", got, got_reference, &error) != 0) fail_msg("%s", error.text);
        assert_memory_equal(got, doubles, (size_t)count * sizeof *got);
        assert_memory_equal(got_reference, doubles, (size_t)references * sizeof *got);
        other.width++;
        assert_int_equal(tensor_file_state_check(input, &other, "favor", &error), -1);
        assert_refusal(&error, path,
                       with_batch ? "/state is float64 [2, 4, 6, 2]; --attention favor needs float64 [2, 4, 6, 3]"
                                  : "/state is float64 [4, 6, 2]; --attention favor needs float64 [4, 6, 3]");
        no_reference.reference = 0;
        assert_int_equal(tensor_file_state_check(input, &no_reference, "gla", &error), -1);
        assert_refusal(&error, path, "/state_reference has no meaning for --attention gla");
        tensor_file_close(&input);
    }
}

static void a_state_without_its_reference_is_refused(void **state)
{
    (void)state;
    const state_shape shape = {false, 1, HEADS, FEATURES, WIDTH, REFERENCE};
    const char *path;
    io_error error = {""};
    hid_t file = file_begin(&path);
    put_double(file, "/state", 3, (const hsize_t[]){HEADS, FEATURES, WIDTH});
    tensor_file *input = file_end(file, path);
    assert_int_equal(tensor_file_state_check(input, &shape, "favor", &error), -1);
    tensor_file_close(&input);
    assert_refusal(&error, path, "there is no dataset /state_reference; --attention favor needs it");
}

/* q, k and v of so many heads and tokens. */
static int shapes_of(const int heads[3], const hsize_t tokens[3], attention_shapes *shapes_p, io_error *error,
                     const char **path_p)
{
    static const char *const tensors[] = {"/q", "/k", "/v"};
    hid_t file = file_begin(path_p);
    for (int i = 0; i < 3; i++) put(file, tensors[i], 3, (const hsize_t[]){tokens[i], (hsize_t)heads[i], 2});
    tensor_file *input = file_end(file, *path_p);
    const int result = tensor_file_linear(input, shapes_p, error);
    tensor_file_close(&input);
    return result;
}

static void head_counts_divide_the_largest(void **state)
{
    (void)state;
    static const hsize_t tokens[] = {5, 5, 5};
    static const int sound[][3] = {{4, 4, 4}, {4, 2, 1}, {2, 2, 4}, {1, 4, 2}, {1, 1, 6}};
    static const int wrong[][3] = {{4, 3, 4}, {4, 4, 3}, {3, 4, 4}, {2, 3, 5}};
    const char *path;
    for (size_t i = 0; i < sizeof sound / sizeof sound[0]; i++) {
        attention_shapes shapes;
        io_error error = {""};
        if (shapes_of(sound[i], tokens, &shapes, &error, &path) != 0) fail_msg("%s", error.text);
        assert_int_equal(linear_heads(&shapes), i == 4 ? 6 : 4);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        attention_shapes shapes;
        io_error error = {""};
        assert_int_equal(shapes_of(wrong[i], tokens, &shapes, &error, &path), -1);
        assert_refusal(&error, path, "each must divide the largest");
    }
}

static void as_many_keys_as_queries_are_needed(void **state)
{
    (void)state;
    static const hsize_t tokens[] = {5, 6, 6};
    const char *path;
    attention_shapes shapes;
    io_error error = {""};
    assert_int_equal(shapes_of((const int[]){2, 2, 2}, tokens, &shapes, &error, &path), -1);
    assert_refusal(&error, path, "/q has 5 tokens, /k and /v have 6");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_heads_and_features_are_read_whole),
        cmocka_unit_test(rows_of_tokens_are_read_where_they_are),
        cmocka_unit_test(datasets_of_another_shape_or_type_are_refused_with_both),
        cmocka_unit_test(datasets_that_are_missing_are_named),
        cmocka_unit_test(values_that_are_not_finite_are_refused),
        cmocka_unit_test(datasets_without_a_meaning_are_refused),
        cmocka_unit_test(states_are_read_and_checked),
        cmocka_unit_test(a_state_without_its_reference_is_refused),
        cmocka_unit_test(head_counts_divide_the_largest),
        cmocka_unit_test(as_many_keys_as_queries_are_needed),
    };
    return cmocka_run_group_tests(tests, fill, scratch_teardown);
}
