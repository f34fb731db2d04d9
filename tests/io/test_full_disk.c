/* A disk that is really full, and one that is mounted read-only: small tmpfs in a mount namespace of this process. Exit
 * 77, skipped, where that is not allowed. */
#define _GNU_SOURCE /* unshare */
#include "io/output_file.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

enum { DISK = 1 << 20, SKIPPED = 77 };

static int mount_disk(void **state)
{
    if (scratch_setup(state) != 0) return -1;
    return mount("tmpfs", scratch_folder(), "tmpfs", 0, "size=1m");
}

static int unmount_disk(void **state)
{
    umount(scratch_folder());
    return scratch_teardown(state);
}

static int create(const char *path, int64_t bytes, output_dataset *dataset, io_error *error)
{
    *dataset = (output_dataset){"/out", OUTPUT_FLOAT32, 1, {bytes / 4}, 0};
    return output_create(path, dataset, 1, NULL, 0, error);
}

static void an_output_that_does_not_fit_is_refused_before_the_work(void **state)
{
    (void)state;
    output_dataset dataset;
    io_error error = {""};
    const char *path = scratch_path("out.h5");
    assert_int_equal(output_check(path, false, &error), 0);
    assert_int_equal(create(path, 2 * DISK, &dataset, &error), -1);
    assert_refusal(&error, path, strerror(ENOSPC));
    assert_int_equal(scratch_count(), 0);
}

static void space_that_was_reserved_cannot_be_taken_by_others(void **state)
{
    (void)state;
    output_dataset dataset;
    output_writer writer;
    io_error error = {""};
    const char *path = scratch_path("out.h5");
    char *zeros = calloc(DISK, 1);
    if (create(path, DISK / 2, &dataset, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(output_text_file(scratch_path("other"), zeros, 3 * DISK / 4, false, &error), -1);
    assert_refusal(&error, scratch_path("other"), strerror(ENOSPC));
    assert_int_equal(output_open(path, &writer, &error), 0);
    if (output_write(&writer, dataset.offset, zeros, DISK / 2, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(output_close(&writer, &error), 0);
    assert_int_equal(output_publish(path, false, &error), 0);
    assert_int_equal(scratch_count(), 1);
    unlink(path);
    free(zeros);
}

static void a_disk_that_fills_while_rows_are_written_is_told(void **state)
{
    (void)state;
    output_dataset dataset;
    output_writer writer;
    io_error error = {""};
    const char *path = scratch_path("out.h5");
    char *zeros = calloc(2 * DISK, 1);
    setenv("FAILWRITE_PATH", "out.h5", 1);
    setenv("FAILWRITE_CALL", "none", 1);
    setenv("FAILWRITE_RESERVE", "none", 1);
    if (create(path, 2 * DISK, &dataset, &error) != 0) fail_msg("%s", error.text);
    assert_int_equal(output_open(path, &writer, &error), 0);
    assert_int_equal(output_write(&writer, dataset.offset, zeros, 2 * DISK, &error), -1);
    assert_refusal(&error, path, strerror(ENOSPC));
    assert_int_equal(output_close(&writer, &error), 0);
    output_discard(path);
    assert_int_equal(scratch_count(), 0);
    unsetenv("FAILWRITE_PATH");
    free(zeros);
}

static void a_full_disk_refuses_even_an_empty_output(void **state)
{
    (void)state;
    output_dataset dataset;
    io_error error = {""};
    char *zeros = calloc(DISK, 1);
    const char *filler = scratch_path("filler");
    FILE *file = fopen(filler, "wb");
    assert_non_null(file);
    setvbuf(file, NULL, _IONBF, 0);
    assert_true(fwrite(zeros, 1, DISK, file) <= DISK);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(create(scratch_path("out.h5"), 4096, &dataset, &error), -1);
    assert_refusal(&error, scratch_path("out.h5"), strerror(ENOSPC));
    assert_int_equal(scratch_count(), 1);
    unlink(filler);
    free(zeros);
}

static void a_read_only_file_system_is_refused_before_the_work(void **state)
{
    (void)state;
    io_error error = {""};
    const char *path = scratch_path("out.h5");
    assert_int_equal(mount("tmpfs", scratch_folder(), "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
    assert_int_equal(output_check(path, false, &error), -1);
    assert_refusal(&error, path, strerror(EROFS));
    assert_int_equal(mount("tmpfs", scratch_folder(), "tmpfs", MS_REMOUNT, NULL), 0);
}

int main(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        fprintf(stderr, "skipped: a tmpfs of its own: %s\n", strerror(errno));
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_output_that_does_not_fit_is_refused_before_the_work),
        cmocka_unit_test(space_that_was_reserved_cannot_be_taken_by_others),
        cmocka_unit_test(a_disk_that_fills_while_rows_are_written_is_told),
        cmocka_unit_test(a_full_disk_refuses_even_an_empty_output),
        cmocka_unit_test(a_read_only_file_system_is_refused_before_the_work),
    };
    return cmocka_run_group_tests_name("io.full_disk", tests, mount_disk, unmount_disk);
}
