/* Writes that fail, to be preloaded (LD_PRELOAD) or linked before the C library. All by environment variables, which
 * are read at each call, so that a test can set them for itself:
 *   FAILWRITE_PATH      only files whose path contains this; without it nothing fails
 *   FAILWRITE_CALL      one of write, pwrite, fsync, ftruncate, rename; without it any of the first four
 *   FAILWRITE_NTH       the how-manieth of these calls fails, from 1 (default 1); the ones after it fail too if
 *   FAILWRITE_LASTING   is set, as on a disk that is full
 *   FAILWRITE_ERRNO     with which number (default EIO)
 *   FAILWRITE_SHORT     nothing fails: a pwrite writes at most so many bytes, and every second call is interrupted
 *   FAILWRITE_RESERVE   set to "none": fallocate says that the file system cannot
 *   FAILWRITE_LINK      set to "none": link says that the file system has no hard links
 *   FAILWRITE_RANK      only in this rank of Open MPI's or Slurm's
 * The count starts anew when FAILWRITE_PATH or FAILWRITE_CALL changes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

static bool in_this_rank(void)
{
    const char *wanted = getenv("FAILWRITE_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("SLURM_PROCID");
    return !wanted || !rank || strcmp(wanted, rank) == 0;
}

static bool path_is_meant(const char *path)
{
    const char *part = getenv("FAILWRITE_PATH");
    return part && *part && strstr(path, part) && in_this_rank();
}

static bool descriptor_is_meant(int descriptor)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return false;
    path[length] = 0;
    return path_is_meant(path);
}

static bool says_none(const char *name)
{
    const char *value = getenv(name);
    return value && strcmp(value, "none") == 0;
}

static bool call_fails(const char *call)
{
    static char counted_path[4096], counted_call[16];
    static long calls;
    const char *wanted = getenv("FAILWRITE_CALL"), *nth = getenv("FAILWRITE_NTH"), *number = getenv("FAILWRITE_ERRNO");
    if (getenv("FAILWRITE_SHORT") || (wanted ? strcmp(wanted, call) != 0 : strcmp(call, "rename") == 0)) return false;
    if (strcmp(counted_path, getenv("FAILWRITE_PATH")) != 0 || strcmp(counted_call, wanted ? wanted : "") != 0) {
        snprintf(counted_path, sizeof counted_path, "%s", getenv("FAILWRITE_PATH"));
        snprintf(counted_call, sizeof counted_call, "%s", wanted ? wanted : "");
        calls = 0;
    }
    long which = nth ? atol(nth) : 1;
    calls++;
    if (calls != which && !(calls > which && getenv("FAILWRITE_LASTING"))) return false;
    errno = number ? atoi(number) : EIO;
    return true;
}

/* The function that this file stands before. Through a union: ISO C has no conversion from an object pointer. */
static void (*next_function(const char *name))(void)
{
    union {
        void *object;
        void (*function)(void);
    } next = {dlsym(RTLD_NEXT, name)};
    return next.function;
}

EXPORTED ssize_t write(int descriptor, const void *data, size_t size)
{
    if (descriptor_is_meant(descriptor) && call_fails("write")) return -1;
    return ((ssize_t(*)(int, const void *, size_t))next_function("write"))(descriptor, data, size);
}

static ssize_t pwrite_or_fail(const char *name, int descriptor, const void *data, size_t size, off_t offset)
{
    if (descriptor_is_meant(descriptor)) {
        static bool interrupt;
        const char *most = getenv("FAILWRITE_SHORT");
        if (call_fails("pwrite")) return -1;
        if (most) {
            interrupt = !interrupt;
            if (interrupt) {
                errno = EINTR;
                return -1;
            }
            if (size > (size_t)atol(most)) size = (size_t)atol(most);
        }
    }
    return ((ssize_t(*)(int, const void *, size_t, off_t))next_function(name))(descriptor, data, size, offset);
}

EXPORTED ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset)
{
    return pwrite_or_fail("pwrite", descriptor, data, size, offset);
}

EXPORTED ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset)
{
    return pwrite_or_fail("pwrite64", descriptor, data, size, offset);
}

EXPORTED int fsync(int descriptor)
{
    if (descriptor_is_meant(descriptor) && call_fails("fsync")) return -1;
    return ((int (*)(int))next_function("fsync"))(descriptor);
}

EXPORTED int ftruncate(int descriptor, off_t length)
{
    if (descriptor_is_meant(descriptor) && call_fails("ftruncate")) return -1;
    return ((int (*)(int, off_t))next_function("ftruncate"))(descriptor, length);
}

EXPORTED int ftruncate64(int descriptor, off64_t length)
{
    if (descriptor_is_meant(descriptor) && call_fails("ftruncate")) return -1;
    return ((int (*)(int, off64_t))next_function("ftruncate64"))(descriptor, length);
}

EXPORTED int rename(const char *from, const char *to)
{
    if (path_is_meant(from) && call_fails("rename")) return -1;
    return ((int (*)(const char *, const char *))next_function("rename"))(from, to);
}

EXPORTED int link(const char *from, const char *to)
{
    if (path_is_meant(from) && says_none("FAILWRITE_LINK")) {
        errno = EPERM;
        return -1;
    }
    return ((int (*)(const char *, const char *))next_function("link"))(from, to);
}

EXPORTED int fallocate(int descriptor, int mode, off_t offset, off_t length)
{
    if (says_none("FAILWRITE_RESERVE") && descriptor_is_meant(descriptor)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return ((int (*)(int, int, off_t, off_t))next_function("fallocate"))(descriptor, mode, offset, length);
}
