/* Writing: nothing appears under its name before it is complete, nothing existing is lost, and every failure of a
 * write, wherever it happens, is told in one line and leaves nothing behind. Linked with failwrite.c. */
#include "io/output_file.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 9, HEADS = 2, DIM = 3 };

static void clear_faults(void)
{
    static const char *const names[] = {"PATH", "CALL", "NTH", "LASTING", "ERRNO", "SHORT", "RESERVE", "LINK"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "FAILWRITE_%s", names[i]);
        unsetenv(name);
    }
}

/* The nth `call` on a file with `part` in its path fails with `number`. */
static void set_fault(const char *part, const char *call, int nth, int number)
{
    char text[32];
    clear_faults();
    setenv("FAILWRITE_PATH", part, 1);
    setenv("FAILWRITE_CALL", call, 1);
    snprintf(text, sizeof text, "%d", nth);
    setenv("FAILWRITE_NTH", text, 1);
    snprintf(text, sizeof text, "%d", number);
    setenv("FAILWRITE_ERRNO", text, 1);
}

static int each_teardown(void **state)
{
    (void)state;
    clear_faults();
    return 0;
}

static float value(int64_t i)
{
    return (float)i * 0.5f;
}

static int create(const char *path, output_dataset *datasets, io_error *error)
{
    static const output_attribute attributes[] = {{.name = "mask", .kind = ATTRIBUTE_TEXT, .text = "causal"},
                                                  {.name = "ranks", .kind = ATTRIBUTE_INTEGER, .integer = 3},
                                                  {.name = "scale", .kind = ATTRIBUTE_NUMBER, .number = 0.25}};
    datasets[0] = (output_dataset){"/out", OUTPUT_FLOAT32, 3, {ROWS, HEADS, DIM}, 0};
    datasets[1] = (output_dataset){"/lse", OUTPUT_FLOAT32, 2, {ROWS, HEADS}, 0};
    return output_create(path, datasets, 2, attributes, 3, error);
}

/* Rows [begin, end) of both datasets. */
static int write_rows(const char *path, const output_dataset *datasets, int begin, int end, io_error *error)
{
    float out[ROWS * HEADS * DIM], lse[ROWS * HEADS];
    for (int i = 0; i < ROWS * HEADS * DIM; i++) out[i] = value(i);
    for (int i = 0; i < ROWS * HEADS; i++) lse[i] = value(-i);
    output_writer writer;
    if (output_open(path, &writer, error) != 0) return -1;
    size_t out_row = HEADS * DIM, lse_row = HEADS, count = (size_t)(end - begin), first = (size_t)begin;
    int result = output_write(&writer, datasets[0].offset + 4 * out_row * first, out + out_row * first,
                              4 * out_row * count, error);
    if (result == 0) {
        result = output_write(&writer, datasets[1].offset + 4 * lse_row * first, lse + lse_row * first,
                              4 * lse_row * count, error);
    }
    io_error ignored;
    return output_close(&writer, result == 0 ? error : &ignored) != 0 ? -1 : result;
}

/* A whole life of an output on one rank, as the runtime leads it. */
static int write_all(const char *path, bool force, io_error *error)
{
    output_dataset datasets[2];
    if (output_check(path, force, error) != 0 || create(path, datasets, error) != 0) return -1;
    if (write_rows(path, datasets, 0, ROWS, error) != 0) {
        output_discard(path);
        return -1;
    }
    return output_publish(path, force, error);
}

static void assert_complete(const char *path)
{
    tensor_file *file;
    tensor_shape shape;
    float out[ROWS * HEADS * DIM], lse[ROWS * HEADS];
    io_error error = {""};
    if (tensor_file_open(path, &file, &error) != 0) fail_msg("%s", error.text);
    if (tensor_file_shape(file, "/out", &shape, &error) != 0) fail_msg("%s", error.text);
    if (tensor_file_read(file, "/out", &shape, 0, 0, ROWS, out, &error) != 0) fail_msg("%s", error.text);
    if (tensor_file_read_lse(file, &shape, 0, 0, ROWS, lse, &error) != 0) fail_msg("%s", error.text);
    tensor_file_close(&file);
    for (int i = 0; i < ROWS * HEADS * DIM; i++) assert_true(out[i] == value(i));
    for (int i = 0; i < ROWS * HEADS; i++) assert_true(lse[i] == value(-i));
}

static void an_output_appears_only_when_it_is_published(void **state)
{
    (void)state;
    const char *path = scratch_path("appears.h5"), *part = scratch_path("appears.h5.part");
    output_dataset datasets[2];
    io_error error = {""};
    assert_int_equal(output_check(path, false, &error), 0);
    assert_int_equal(create(path, datasets, &error), 0);
    assert_true(scratch_exists(part) && !scratch_exists(path));
    assert_int_equal(write_rows(path, datasets, 0, ROWS, &error), 0);
    assert_true(scratch_exists(part) && !scratch_exists(path));
    assert_int_equal(output_publish(path, false, &error), 0);
    assert_true(!scratch_exists(part) && scratch_exists(path));
    assert_complete(path);
    unlink(path);
}

static void datasets_lie_apart_inside_the_length_that_the_file_has_from_the_start(void **state)
{
    (void)state;
    const char *path = scratch_path("layout.h5");
    output_dataset datasets[] = {{"/out", OUTPUT_FLOAT16, 4, {2, 5, 3, 7}, 0},
                                 {"/lse", OUTPUT_FLOAT32, 3, {2, 5, 3}, 0},
                                 {"/half", OUTPUT_BFLOAT16, 1, {11}, 0},
                                 {"/documents", OUTPUT_INT64, 1, {4}, 0},
                                 {"/state", OUTPUT_FLOAT64, 3, {3, 2, 9}, 0}};
    enum { COUNT = sizeof datasets / sizeof datasets[0] };
    static const uint64_t bytes[COUNT] = {2 * 5 * 3 * 7 * 2, 2 * 5 * 3 * 4, 11 * 2, 4 * 8, 3 * 2 * 9 * 8};
    io_error error = {""};
    if (output_create(path, datasets, COUNT, NULL, 0, &error) != 0) fail_msg("%s", error.text);
    struct stat status;
    assert_int_equal(stat(scratch_path("layout.h5.part"), &status), 0);
    for (int i = 0; i < COUNT; i++) {
        assert_true(datasets[i].offset > 0 && datasets[i].offset + bytes[i] <= (uint64_t)status.st_size);
        for (int j = 0; j < i; j++) {
            assert_true(datasets[i].offset >= datasets[j].offset + bytes[j] ||
                        datasets[j].offset >= datasets[i].offset + bytes[i]);
        }
    }
    output_discard(path);
}

static void attributes_come_back(void **state)
{
    (void)state;
    const char *path = scratch_path("attributes.h5");
    tensor_file *file;
    char text[32];
    int64_t integer;
    double number;
    io_error error = {""};
    if (write_all(path, false, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(tensor_file_open(path, &file, &error), 0);
    assert_int_equal(tensor_file_attribute_text(file, "mask", text, sizeof text, &error), 0);
    assert_string_equal(text, "causal");
    assert_int_equal(tensor_file_attribute_integer(file, "ranks", &integer, &error), 0);
    assert_int_equal(integer, 3);
    assert_int_equal(tensor_file_attribute_number(file, "scale", &number, &error), 0);
    assert_true(number == 0.25);
    tensor_file_close(&file);
    unlink(path);
}

static void rows_written_by_several_processes_come_together(void **state)
{
    (void)state;
    static const int bounds[] = {0, 4, 4, 6, ROWS};
    const char *path = scratch_path("together.h5");
    output_dataset datasets[2];
    io_error error = {""};
    assert_int_equal(create(path, datasets, &error), 0);
    pid_t children[4];
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] == 0) _exit(write_rows(path, datasets, bounds[i], bounds[i + 1], &error) == 0 ? 0 : 1);
    }
    for (int i = 0; i < 4; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(output_publish(path, false, &error), 0);
    assert_complete(path);
    unlink(path);
}

static void short_and_interrupted_writes_are_continued(void **state)
{
    (void)state;
    const char *path = scratch_path("short.h5");
    io_error error = {""};
    output_dataset datasets[2];
    assert_int_equal(create(path, datasets, &error), 0);
    setenv("FAILWRITE_PATH", "short.h5", 1);
    setenv("FAILWRITE_SHORT", "7", 1);
    if (write_rows(path, datasets, 0, ROWS, &error) != 0) fail_msg("%s", error.text);
    clear_faults();
    assert_int_equal(output_publish(path, false, &error), 0);
    assert_complete(path);
    unlink(path);
}

static void an_existing_file_is_refused_and_left_alone_without_force(void **state)
{
    (void)state;
    const char *path = scratch_file("old.h5", "old", 3);
    io_error error = {""};
    assert_int_equal(output_check(path, false, &error), -1);
    assert_refusal(&error, path, "exists; --force replaces it");
    size_t size;
    char *bytes = scratch_read(path, &size);
    assert_string_equal(bytes, "old");
    free(bytes);
    unlink(path);
}

static void force_replaces_an_existing_file_at_the_end_and_not_before(void **state)
{
    (void)state;
    const char *path = scratch_file("old.h5", "old", 3);
    output_dataset datasets[2];
    io_error error = {""};
    size_t size;
    assert_int_equal(output_check(path, true, &error), 0);
    assert_int_equal(create(path, datasets, &error), 0);
    assert_int_equal(write_rows(path, datasets, 0, ROWS, &error), 0);
    char *bytes = scratch_read(path, &size);
    assert_string_equal(bytes, "old");
    free(bytes);
    assert_int_equal(output_publish(path, true, &error), 0);
    assert_complete(path);
    unlink(path);
}

static void a_file_that_appeared_meanwhile_is_not_replaced_and_the_result_is_kept(void **state)
{
    (void)state;
    for (int links = 0; links < 2; links++) {
        const char *path = scratch_path("meanwhile.h5"), *part = scratch_path("meanwhile.h5.part");
        output_dataset datasets[2];
        io_error error = {""};
        assert_int_equal(output_check(path, false, &error), 0);
        assert_int_equal(create(path, datasets, &error), 0);
        assert_int_equal(write_rows(path, datasets, 0, ROWS, &error), 0);
        scratch_file("meanwhile.h5", "other", 5);
        if (links == 0) {
            setenv("FAILWRITE_PATH", "meanwhile.h5", 1);
            setenv("FAILWRITE_CALL", "none", 1);
            setenv("FAILWRITE_LINK", "none", 1);
        }
        assert_int_equal(output_publish(path, false, &error), -1);
        clear_faults();
        assert_refusal(&error, path, "exists by now");
        assert_refusal(&error, part, "the result is complete in");
        size_t size;
        char *bytes = scratch_read(path, &size);
        assert_string_equal(bytes, "other");
        free(bytes);
        assert_complete(part);
        unlink(path);
        unlink(part);
    }
}

static void a_file_system_without_hard_links_is_published_to(void **state)
{
    (void)state;
    const char *path = scratch_path("nolinks.h5");
    io_error error = {""};
    setenv("FAILWRITE_PATH", "nolinks.h5", 1);
    setenv("FAILWRITE_CALL", "none", 1);
    setenv("FAILWRITE_LINK", "none", 1);
    if (write_all(path, false, &error) != 0) fail_msg("%s", error.text);
    clear_faults();
    assert_complete(path);
    assert_false(scratch_exists(scratch_path("nolinks.h5.part")));
    unlink(path);
}

static void a_symbolic_link_counts_as_existing(void **state)
{
    (void)state;
    const char *path = scratch_path("symbolic.h5");
    io_error error = {""};
    assert_int_equal(symlink("nowhere", path), 0);
    assert_int_equal(output_check(path, false, &error), -1);
    assert_refusal(&error, path, "exists");
    if (write_all(path, true, &error) != 0) fail_msg("%s", error.text);
    assert_complete(path);
    assert_false(scratch_exists(scratch_path("nowhere")));
    unlink(path);
}

static void discarding_leaves_nothing(void **state)
{
    (void)state;
    const char *path = scratch_path("discarded.h5");
    output_dataset datasets[2];
    io_error error = {""};
    int before = scratch_count();
    assert_int_equal(create(path, datasets, &error), 0);
    assert_int_equal(scratch_count(), before + 1);
    output_discard(path);
    assert_int_equal(scratch_count(), before);
    output_discard(path);
}

static void a_part_that_a_killed_run_left_is_replaced(void **state)
{
    (void)state;
    const char *path = scratch_path("killed.h5");
    io_error error = {""};
    scratch_file("killed.h5.part", "half of something", 17);
    if (write_all(path, false, &error) != 0) fail_msg("%s", error.text);
    assert_complete(path);
    unlink(path);
}

static void a_part_that_is_the_second_name_of_a_result_does_not_harm_it(void **state)
{
    (void)state;
    const char *path = scratch_path("twice.h5"), *part = scratch_path("twice.h5.part");
    output_dataset datasets[2];
    io_error error = {""};
    assert_int_equal(write_all(path, false, &error), 0);
    assert_int_equal(link(path, part), 0);
    assert_int_equal(create(path, datasets, &error), 0);
    assert_complete(path);
    output_discard(path);
    unlink(path);
}

static void a_part_that_another_run_is_writing_is_refused(void **state)
{
    (void)state;
    const char *path = scratch_path("busy.h5"), *part = scratch_path("busy.h5.part");
    output_dataset datasets[2];
    io_error error = {""};
    int ready[2], done[2];
    char byte = 0;
    assert_int_equal(create(path, datasets, &error), 0);
    assert_true(pipe(ready) == 0 && pipe(done) == 0);
    pid_t child = fork();
    if (child == 0) {
        output_writer writer;
        bool works = output_open(path, &writer, &error) == 0 && write(ready[1], &byte, 1) == 1;
        close(done[1]);
        works = works && read(done[0], &byte, 1) == 0;
        _exit(works ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(output_check(path, true, &error), -1);
    assert_refusal(&error, part, "another run is writing it");
    assert_int_equal(create(path, datasets, &error), -1);
    assert_refusal(&error, part, "another run is writing it");
    assert_true(scratch_exists(part));
    close(done[1]);
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(output_check(path, true, &error), 0);
    output_discard(path);
    for (int i = 0; i < 2; i++) close(ready[i]);
    close(done[0]);
}

typedef struct {
    const char *path, *needle;
} place;

static void places_that_cannot_hold_an_output_are_refused(void **state)
{
    (void)state;
    scratch_file("plain", "x", 1);
    assert_int_equal(mkdir(scratch_path("inner"), 0700), 0);
    assert_int_equal(mkdir(scratch_path("way.h5.part"), 0700), 0);
    assert_int_equal(mkfifo(scratch_path("fifo.h5"), 0600), 0);
    char many[300];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = 0;
    char slash[512];
    snprintf(slash, sizeof slash, "%s/", scratch_path("inner"));
    const place places[] = {
        {scratch_path("missing/out.h5"), "create the folder first"},
        {scratch_path("plain/out.h5"), "plain is not a folder"},
        {scratch_path("plain/inner/out.h5"), strerror(ENOTDIR)},
        {scratch_path("inner"), "is a folder"},
        {slash, "names a folder"},
        {scratch_path("way.h5"), "is in the way"},
        {scratch_path("fifo.h5"), "is not a regular file"},
        {scratch_path(many), strerror(ENAMETOOLONG)},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        io_error error = {""};
        assert_int_equal(output_check(places[i].path, true, &error), -1);
        assert_refusal(&error, places[i].path, places[i].needle);
        int before = scratch_count();
        assert_int_equal(output_text_file(places[i].path, "text", 4, true, &error), -1);
        assert_int_equal(scratch_count(), before);
    }
    io_error error = {""};
    assert_int_equal(output_check("", false, &error), -1);
    assert_refusal(&error, "", "needs a name");
    rmdir(scratch_path("inner"));
    rmdir(scratch_path("way.h5.part"));
    unlink(scratch_path("fifo.h5"));
    unlink(scratch_path("plain"));
}

static void datasets_that_cannot_be_are_refused(void **state)
{
    (void)state;
    output_dataset wrong[] = {{"/out", OUTPUT_FLOAT32, 0, {0}, 0},
                              {"/out", OUTPUT_FLOAT32, 5, {1, 1, 1, 1}, 0},
                              {"/out", OUTPUT_FLOAT32, 2, {4, 0}, 0},
                              {"/out", OUTPUT_FLOAT32, 2, {4, -1}, 0},
                              {"/out", OUTPUT_FLOAT32, 3, {INT64_C(1) << 40, INT64_C(1) << 20, 4}, 0}};
    const char *path = scratch_path("impossible.h5");
    int before = scratch_count();
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        io_error error = {""};
        assert_int_equal(output_create(path, &wrong[i], 1, NULL, 0, &error), -1);
        assert_refusal(&error, path, "/out");
        assert_int_equal(scratch_count(), before);
    }
}

static void a_file_too_large_for_the_disk_is_refused_before_the_work(void **state)
{
    (void)state;
    output_dataset dataset = {"/out", OUTPUT_FLOAT32, 3, {INT64_C(1) << 40, 16, 64}, 0};
    const char *path = scratch_path("large.h5");
    io_error error = {""};
    int before = scratch_count();
    assert_int_equal(output_create(path, &dataset, 1, NULL, 0, &error), -1);
    assert_refusal(&error, path, "");
    assert_int_equal(scratch_count(), before);
}

static void writing_without_a_part_is_refused(void **state)
{
    (void)state;
    const char *path = scratch_path("unborn.h5");
    output_writer writer;
    io_error error = {""};
    assert_int_equal(output_open(path, &writer, &error), -1);
    assert_refusal(&error, path, "do all ranks see the same folder?");
    assert_int_equal(output_publish(path, false, &error), -1);
    assert_refusal(&error, path, "has disappeared");
}

typedef struct {
    const char *call;
    int number;
} fault;

/* Fails the 1st, 2nd, ... call of a kind, each in a process of its own, which then ends HDF5, until a run has no such
 * call left and succeeds. */
static void every_failing_call_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    static const fault faults[] = {{"pwrite", EIO},   {"pwrite", ENOSPC},    {"fsync", EIO},
                                   {"fsync", EDQUOT}, {"ftruncate", ENOSPC}, {"rename", EACCES}};
    const char *path = scratch_path("fault.h5");
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        int before = scratch_count(), failures = 0;
        for (bool failing = true; failing; failures += failing) {
            assert_in_range(failures, 0, 100);
            pid_t child = fork();
            if (child == 0) {
                io_error error = {""};
                set_fault("fault.h5", faults[i].call, failures + 1, faults[i].number);
                int result = write_all(path, true, &error);
                clear_faults();
                if (result == 0) _exit(0);
                bool told = strstr(error.text, path) && strstr(error.text, strerror(faults[i].number));
                /* As MPI_Finalize does with a parallel HDF5: a file left half closed crashes here. */
                if (H5close() < 0) _exit(3);
                if (!told) fprintf(stderr, "%s %d: \"%s\"\n", faults[i].call, failures + 1, error.text);
                _exit(told ? 1 : 2);
            }
            int status;
            assert_int_equal(waitpid(child, &status, 0), child);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
            failing = WEXITSTATUS(status) == 1;
            if (failing) {
                assert_false(scratch_exists(path));
                /* Only a result that lacks nothing but its name is kept. */
                if (strcmp(faults[i].call, "rename") == 0) unlink(scratch_path("fault.h5.part"));
                assert_int_equal(scratch_count(), before);
            }
        }
        assert_complete(path);
        unlink(path);
        print_message("%s %s: %d failing calls\n", faults[i].call, strerror(faults[i].number), failures);
        assert_true(failures >= 1);
    }
}

static void a_disk_that_fills_up_for_good_is_told(void **state)
{
    (void)state;
    const char *path = scratch_path("full.h5");
    output_dataset datasets[2];
    io_error error = {""};
    int before = scratch_count();
    assert_int_equal(create(path, datasets, &error), 0);
    set_fault("full.h5", "pwrite", 1, ENOSPC);
    setenv("FAILWRITE_LASTING", "1", 1);
    assert_int_equal(write_rows(path, datasets, 0, ROWS, &error), -1);
    clear_faults();
    assert_refusal(&error, path, "free space there");
    output_discard(path);
    assert_int_equal(scratch_count(), before);
}

static void a_text_file_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    const char *path = scratch_path("report.json");
    io_error error = {""};
    size_t size;
    int before = scratch_count();
    assert_int_equal(output_text_file(path, "{}\n", 3, false, &error), 0);
    char *bytes = scratch_read(path, &size);
    assert_string_equal(bytes, "{}\n");
    free(bytes);
    assert_int_equal(output_text_file(path, "[]\n", 3, false, &error), -1);
    assert_refusal(&error, path, "exists");
    static const char *const calls[] = {"pwrite", "fsync"};
    for (int i = 0; i < 2; i++) {
        set_fault("report.json", calls[i], 1, ENOSPC);
        assert_int_equal(output_text_file(path, "[]\n", 3, true, &error), -1);
        clear_faults();
        assert_refusal(&error, path, strerror(ENOSPC));
    }
    bytes = scratch_read(path, &size);
    assert_string_equal(bytes, "{}\n");
    free(bytes);
    assert_int_equal(output_text_file(path, "[1]\n", 4, true, &error), 0);
    bytes = scratch_read(path, &size);
    assert_string_equal(bytes, "[1]\n");
    free(bytes);
    assert_int_equal(scratch_count(), before + 1);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_output_appears_only_when_it_is_published),
        cmocka_unit_test(datasets_lie_apart_inside_the_length_that_the_file_has_from_the_start),
        cmocka_unit_test(attributes_come_back),
        cmocka_unit_test(rows_written_by_several_processes_come_together),
        cmocka_unit_test_teardown(short_and_interrupted_writes_are_continued, each_teardown),
        cmocka_unit_test(an_existing_file_is_refused_and_left_alone_without_force),
        cmocka_unit_test(force_replaces_an_existing_file_at_the_end_and_not_before),
        cmocka_unit_test_teardown(a_file_that_appeared_meanwhile_is_not_replaced_and_the_result_is_kept, each_teardown),
        cmocka_unit_test_teardown(a_file_system_without_hard_links_is_published_to, each_teardown),
        cmocka_unit_test(a_symbolic_link_counts_as_existing),
        cmocka_unit_test(discarding_leaves_nothing),
        cmocka_unit_test(a_part_that_a_killed_run_left_is_replaced),
        cmocka_unit_test(a_part_that_is_the_second_name_of_a_result_does_not_harm_it),
        cmocka_unit_test(a_part_that_another_run_is_writing_is_refused),
        cmocka_unit_test(places_that_cannot_hold_an_output_are_refused),
        cmocka_unit_test(datasets_that_cannot_be_are_refused),
        cmocka_unit_test(a_file_too_large_for_the_disk_is_refused_before_the_work),
        cmocka_unit_test(writing_without_a_part_is_refused),
        cmocka_unit_test_teardown(every_failing_call_is_told_and_leaves_nothing, each_teardown),
        cmocka_unit_test_teardown(a_disk_that_fills_up_for_good_is_told, each_teardown),
        cmocka_unit_test_teardown(a_text_file_is_written_whole_or_not_at_all, each_teardown),
    };
    return cmocka_run_group_tests_name("io.output_file", tests, scratch_setup, scratch_teardown);
}
