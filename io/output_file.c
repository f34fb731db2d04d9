/* The file-system half of an output's life; the HDF5 half is output_hdf5.c. */
#include "io/output_file.h"

#include "io/output_part.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "files of more than 2 GiB need a 64-bit off_t");

const char *output_hint(int number)
{
    switch (number) {
    case ENOSPC:
        return "; free space there, or write elsewhere";
    case EDQUOT:
        return "; free some of your quota, or write elsewhere";
    case EIO:
        return "; the disk or the network to it failed: check the system log, or write elsewhere";
    case EFBIG:
        return "; the file system or ulimit -f allows no larger file";
    case EROFS:
        return "; write elsewhere";
    case EACCES:
    case EPERM:
        return "; change its permissions, or write elsewhere";
    case ENOENT:
        return "; create the folder first";
    default:
        return "";
    }
}

int output_part_path(const char *path, char *part, io_error *error)
{
    size_t length = strlen(path);
    if (length == 0) return io_fail(error, "the output needs a name; an empty one was given");
    if (path[length - 1] == '/') return io_fail(error, "%s: names a folder; an output file is needed", path);
    if (length + sizeof ".part" > OUTPUT_MOST_PATH) return io_fail(error, "%.200s...: the path is too long", path);
    snprintf(part, OUTPUT_MOST_PATH, "%s.part", path);
    return 0;
}

/* The folder that holds `path`. */
static void folder_of(const char *path, char *folder)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (!slash) snprintf(folder, OUTPUT_MOST_PATH, ".");
    else if (length == 0) snprintf(folder, OUTPUT_MOST_PATH, "/");
    else snprintf(folder, OUTPUT_MOST_PATH, "%.*s", (int)length, path);
}

/* Is another process writing this file? output_open takes a shared lock; where locks are not supported, the answer is
 * no. */
static bool is_being_written(const char *part)
{
    int descriptor = open(part, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return false;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool locked = fcntl(descriptor, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(descriptor);
    return locked;
}

static int check_part(const char *part, io_error *error)
{
    struct stat status;
    if (lstat(part, &status) != 0) {
        if (errno == ENOENT) return 0;
        return io_fail(error, "%s: cannot be written: %s%s", part, strerror(errno), output_hint(errno));
    }
    if (!S_ISREG(status.st_mode)) return io_fail(error, "%s: is in the way; remove it", part);
    if (is_being_written(part)) return io_fail(error, "%s: another run is writing it", part);
    return 0;
}

int output_check(const char *path, bool force, io_error *error)
{
    char part[OUTPUT_MOST_PATH], folder[OUTPUT_MOST_PATH];
    struct stat status;
    if (output_part_path(path, part, error) != 0) return -1;

    folder_of(path, folder);
    if (stat(folder, &status) != 0) {
        return io_fail(error, "%s: cannot be written: folder %s: %s%s", path, folder, strerror(errno),
                       output_hint(errno));
    }
    if (!S_ISDIR(status.st_mode)) return io_fail(error, "%s: cannot be written: %s is not a folder", path, folder);
    if (access(folder, W_OK | X_OK) != 0) {
        return io_fail(error, "%s: cannot be written: folder %s: %s%s", path, folder, strerror(errno),
                       output_hint(errno));
    }
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        return io_fail(error, "%s: is a folder; an output file is needed", path);
    }
    if (lstat(path, &status) == 0) {
        if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode)) {
            return io_fail(error, "%s: is not a regular file, and cannot be replaced by one", path);
        }
        if (!force) return io_fail(error, "%s: exists; --force replaces it", path);
    } else if (errno != ENOENT) {
        return io_fail(error, "%s: cannot be written: %s%s", path, strerror(errno), output_hint(errno));
    }
    return check_part(part, error);
}

int output_claim_part(const char *part, int *descriptor_p, io_error *error)
{
    if (check_part(part, error) != 0) return -1;
    /* What a killed run left. Unlinked, not truncated: it may be the second name of a published file. */
    unlink(part);
    int descriptor = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) {
        return io_fail(error, "%s: cannot be created: %s%s", part, strerror(errno), output_hint(errno));
    }
    *descriptor_p = descriptor;
    return 0;
}

void output_discard(const char *path)
{
    char part[OUTPUT_MOST_PATH];
    io_error ignored;
    if (output_part_path(path, part, &ignored) == 0) unlink(part);
}

int output_open(const char *path, output_writer *writer_p, io_error *error)
{
    output_writer writer;
    if (output_part_path(path, writer.path, error) != 0) return -1;
    writer.descriptor = open(writer.path, O_RDWR | O_CLOEXEC);
    if (writer.descriptor < 0) {
        return io_fail(error, "%s: cannot be opened for writing: %s; do all ranks see the same folder?", writer.path,
                       strerror(errno));
    }
    /* Tells another run that this one is alive; file systems without locks go without. */
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    fcntl(writer.descriptor, F_SETLK, &lock);
    *writer_p = writer;
    return 0;
}

int output_write(const output_writer *writer, uint64_t offset, const void *data, size_t bytes, io_error *error)
{
    const char *next = data;
    if (offset > INT64_MAX || bytes > INT64_MAX - offset) {
        return io_fail(error, "%s: cannot be written at byte %" PRIu64 ": beyond what a file can hold", writer->path,
                       offset);
    }
    while (bytes > 0) {
        size_t piece = bytes < OUTPUT_MAX_PIECE ? bytes : OUTPUT_MAX_PIECE;
        ssize_t written = pwrite(writer->descriptor, next, piece, (off_t)offset);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            int number = written < 0 ? errno : ENOSPC;
            return io_fail(error, "%s: cannot be written: %s%s", writer->path, strerror(number), output_hint(number));
        }
        next += written;
        offset += (uint64_t)written;
        bytes -= (size_t)written;
    }
    return 0;
}

/* fsync and close. Errors of writes that the system had only buffered appear here. */
static int finish_descriptor(int descriptor, const char *path, io_error *error)
{
    int result, number;
    do result = fsync(descriptor);
    while (result != 0 && errno == EINTR);
    number = result != 0 ? errno : 0;
    /* After EINTR the descriptor is closed all the same, and the data is already safe. */
    if (close(descriptor) != 0 && errno != EINTR && number == 0) number = errno;
    if (number == 0) return 0;
    return io_fail(error, "%s: cannot be written: %s%s", path, strerror(number), output_hint(number));
}

int output_close(output_writer *writer, io_error *error)
{
    int descriptor = writer->descriptor;
    writer->descriptor = -1;
    return finish_descriptor(descriptor, writer->path, error);
}

static int sync_folder(const char *path, io_error *error)
{
    char folder[OUTPUT_MOST_PATH];
    folder_of(path, folder);
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* A folder that may be written but not read cannot be synced: its owner's choice. */
    if (descriptor < 0) return 0;
    int number = fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP ? 0 : errno;
    close(descriptor);
    if (number == 0) return 0;
    return io_fail(error, "%s: is written, but its folder %s cannot be made durable: %s%s", path, folder,
                   strerror(number), output_hint(number));
}

/* Gives `part` the name `path`, which must be free. */
static int publish_as_new(const char *part, const char *path, io_error *error)
{
    struct stat status;
    int number = link(part, path) == 0 ? 0 : errno;
    if (number == 0) {
        unlink(part);
        return 0;
    }
    if (number == EEXIST || lstat(path, &status) == 0) {
        return io_fail(error, "%s: exists by now, and is not replaced; the result is complete in %s", path, part);
    }
    /* EPERM, ENOTSUP and others: a file system without hard links. */
    if (rename(part, path) == 0) return 0;
    return io_fail(error, "%s: cannot be named: %s%s; the result is complete in %s", path, strerror(errno),
                   output_hint(errno), part);
}

int output_publish(const char *path, bool force, io_error *error)
{
    char part[OUTPUT_MOST_PATH];
    if (output_part_path(path, part, error) != 0) return -1;
    int descriptor = open(part, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return io_fail(error, "%s: has disappeared: %s", part, strerror(errno));
    if (finish_descriptor(descriptor, part, error) != 0) {
        unlink(part);
        return -1;
    }
    if (!force) {
        if (publish_as_new(part, path, error) != 0) return -1;
    } else if (rename(part, path) != 0) {
        return io_fail(error, "%s: cannot be replaced: %s%s; the result is complete in %s", path, strerror(errno),
                       output_hint(errno), part);
    }
    return sync_folder(path, error);
}

int output_text_file(const char *path, const char *text, size_t bytes, bool force, io_error *error)
{
    output_writer writer;
    if (output_check(path, force, error) != 0 || output_part_path(path, writer.path, error) != 0 ||
        output_claim_part(writer.path, &writer.descriptor, error) != 0) {
        return -1;
    }
    int result = output_write(&writer, 0, text, bytes, error);
    if (result == 0) result = output_close(&writer, error);
    else close(writer.descriptor);
    if (result == 0) return output_publish(path, force, error);
    output_discard(path);
    return result;
}

int output_stream_begin(const char *path, bool force, output_writer *writer_p, FILE **stream_p, io_error *error)
{
    output_writer writer;
    if (output_check(path, force, error) != 0 || output_part_path(path, writer.path, error) != 0 ||
        output_claim_part(writer.path, &writer.descriptor, error) != 0)
        return -1;
    /* A descriptor of its own for the stream, which closes it before the file is synced. */
    const int copy = dup(writer.descriptor);
    FILE *stream = copy < 0 ? NULL : fdopen(copy, "w");
    if (!stream) {
        const int number = errno;
        if (copy >= 0) close(copy);
        close(writer.descriptor);
        output_discard(path);
        return io_fail(error, "%s: cannot be written: %s", writer.path, strerror(number));
    }
    *writer_p = writer;
    *stream_p = stream;
    return 0;
}

int output_stream_end(const char *path, bool force, bool complete, output_writer *writer, FILE *stream, io_error *error)
{
    int result = 0;
    errno = 0;
    const bool failed = ferror(stream) != 0;
    if (fclose(stream) != 0 || failed)
        result = io_fail(error, "%s: cannot be written: %s%s", writer->path, strerror(errno ? errno : EIO),
                         output_hint(errno));
    if (result == 0 && complete) result = output_close(writer, error);
    else close(writer->descriptor);
    if (result == 0 && complete) return output_publish(path, force, error);
    output_discard(path);
    return result;
}
