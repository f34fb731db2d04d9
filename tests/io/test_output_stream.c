/* Text files written bit by bit: whole, or not there at all. Linked with failwrite.c. */
#define _GNU_SOURCE
#include "io/output_file.h"
#include "scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

enum { LINES = 100000, LINE_BYTES = 12 };

static void write_lines(FILE *stream)
{
    for (int i = 0; i < LINES; i++) fprintf(stream, "line %06d\n", i);
}

static void what_was_written_is_in_the_file(void **state)
{
    (void)state;
    const char *path = scratch_path("whole.txt");
    output_writer writer;
    FILE *stream;
    io_error error = {""};
    assert_int_equal(output_stream_begin(path, false, &writer, &stream, &error), 0);
    write_lines(stream);
    assert_false(scratch_exists(path));
    if (output_stream_end(path, false, true, &writer, stream, &error) != 0) fail_msg("%s", error.text);
    size_t size;
    char *text = scratch_read(path, &size);
    assert_int_equal(size, LINES * LINE_BYTES);
    assert_memory_equal(text, "line 000000\n", LINE_BYTES);
    assert_memory_equal(text + size - LINE_BYTES, "line 099999\n", LINE_BYTES);
    free(text);
    assert_int_equal(scratch_count(), 1);
    assert_int_equal(remove(path), 0);
}

static void one_that_is_not_complete_leaves_nothing(void **state)
{
    (void)state;
    const char *path = scratch_path("half.txt");
    output_writer writer;
    FILE *stream;
    io_error error = {""};
    assert_int_equal(output_stream_begin(path, false, &writer, &stream, &error), 0);
    write_lines(stream);
    assert_int_equal(output_stream_end(path, false, false, &writer, stream, &error), 0);
    assert_int_equal(scratch_count(), 0);
}

static void an_existing_file_is_replaced_only_by_force(void **state)
{
    (void)state;
    const char *path = scratch_file("mine.txt", "mine", 4);
    output_writer writer;
    FILE *stream;
    io_error error = {""};
    size_t size;
    assert_int_equal(output_stream_begin(path, false, &writer, &stream, &error), -1);
    assert_refusal(&error, path, "--force");
    assert_int_equal(output_stream_begin(path, true, &writer, &stream, &error), 0);
    fputs("new", stream);
    assert_int_equal(output_stream_end(path, true, true, &writer, stream, &error), 0);
    char *text = scratch_read(path, &size);
    assert_string_equal(text, "new");
    free(text);
    assert_int_equal(remove(path), 0);
}

static void a_write_that_fails_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    const char *path = scratch_path("large.txt");
    struct rlimit before, small;
    output_writer writer;
    FILE *stream;
    io_error error = {""};
    /* A file that may not grow stands in for a disk that is full: stdio's own writes cannot be intercepted. */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){.rlim_cur = 64 << 10, .rlim_max = before.rlim_max};
    assert_int_equal(output_stream_begin(path, false, &writer, &stream, &error), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    write_lines(stream);
    const int result = output_stream_end(path, false, true, &writer, stream, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(result, -1);
    assert_refusal(&error, path, "cannot be written");
    assert_int_equal(scratch_count(), 0);
}

static void a_sync_that_fails_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    const char *path = scratch_path("unsynced.txt");
    output_writer writer;
    FILE *stream;
    io_error error = {""};
    assert_int_equal(output_stream_begin(path, false, &writer, &stream, &error), 0);
    write_lines(stream);
    setenv("FAILWRITE_PATH", "unsynced", 1);
    setenv("FAILWRITE_CALL", "fsync", 1);
    const int result = output_stream_end(path, false, true, &writer, stream, &error);
    unsetenv("FAILWRITE_PATH");
    unsetenv("FAILWRITE_CALL");
    assert_int_equal(result, -1);
    assert_refusal(&error, path, "Input/output error");
    assert_int_equal(scratch_count(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_in_the_file),
        cmocka_unit_test(one_that_is_not_complete_leaves_nothing),
        cmocka_unit_test(an_existing_file_is_replaced_only_by_force),
        cmocka_unit_test(a_write_that_fails_is_told_and_leaves_nothing),
        cmocka_unit_test(a_sync_that_fails_is_told_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
