#include "runtime/shared_memory.h"

#include "runtime/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Where Linux keeps POSIX shared memory. */
static const char *const folder = "/dev/shm";

/* What a rank tells the others of its segment. */
typedef struct {
    char name[64];
    uint64_t bytes;
} segment_name;

struct shared_memory {
    int count, own;
    segment_name *names; /* [count] */
    void **data;         /* [count], MAP_FAILED where not mapped */
};

double shared_memory_free(void)
{
    struct statvfs stat;
    return statvfs(folder, &stat) == 0 ? (double)stat.f_bavail * (double)stat.f_frsize : 0;
}

static void set_failure(failure *f, const char *what, size_t bytes, int error)
{
    failure_set(f, LONGSPAN_ERROR_MEMORY,
                "shared memory: %s %.1f MiB: %s (%.1f MiB are free in %s); give the node more, or use a strategy that "
                "does not share memory",
                what, (double)bytes / 1048576, strerror(error), shared_memory_free() / 1048576, folder);
}

/* Opens a segment of a name that nobody has. Returns the descriptor, or -1 with errno set. */
static int open_new(char *name, size_t size)
{
    static unsigned serial;
    int descriptor;
    do {
        snprintf(name, size, "/longspan.%ld.%u", (long)getpid(), serial++);
        descriptor = shm_open(name, O_CREAT | O_EXCL | O_RDWR, S_IRUSR | S_IWUSR);
    } while (descriptor < 0 && errno == EEXIST);
    return descriptor;
}

/* posix_fallocate starts anew after a signal, or a signal that comes often would keep it from ending; so in pieces. */
static int reserve(int descriptor, size_t bytes)
{
    static const size_t piece = (size_t)64 << 20;
    if (bytes > INT64_MAX || ftruncate(descriptor, (off_t)bytes) != 0) return bytes > INT64_MAX ? ENOMEM : errno;
    for (size_t done = 0; done < bytes; done += piece) {
        const size_t length = bytes - done < piece ? bytes - done : piece;
        int error;
        do error = posix_fallocate(descriptor, (off_t)done, (off_t)length);
        while (error == EINTR);
        if (error) return error;
    }
    return 0;
}

static void make_own(shared_memory *s, size_t bytes, failure *f)
{
    segment_name *name = &s->names[s->own];
    name->bytes = bytes;
    const int descriptor = open_new(name->name, sizeof name->name);
    if (descriptor < 0) {
        set_failure(f, "cannot make a segment of", bytes, errno);
        name->name[0] = '\0';
        return;
    }
    const int error = reserve(descriptor, bytes);
    if (error) set_failure(f, "no room for a segment of", bytes, error);
    else {
        s->data[s->own] = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
        if (s->data[s->own] == MAP_FAILED) set_failure(f, "cannot map a segment of", bytes, errno);
    }
    close(descriptor);
}

/* Maps another rank's segment, which can be read only. */
static void map_other(shared_memory *s, int i, failure *f)
{
    const int descriptor = shm_open(s->names[i].name, O_RDONLY, 0);
    if (descriptor < 0) {
        set_failure(f, "cannot see another rank's segment of", s->names[i].bytes, errno);
        return;
    }
    s->data[i] = mmap(NULL, s->names[i].bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (s->data[i] == MAP_FAILED) set_failure(f, "cannot map another rank's segment of", s->names[i].bytes, errno);
    close(descriptor);
}

static shared_memory *allocate(const node *n, failure *f)
{
    shared_memory *s = calloc(1, sizeof *s);
    if (s) {
        s->count = n->comm_ranks;
        s->own = n->comm_rank;
        s->names = calloc((size_t)s->count, sizeof *s->names);
        s->data = malloc((size_t)s->count * sizeof *s->data);
    }
    if (!s || !s->names || !s->data) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the list of a node's segments");
        if (s) free(s->data);
        if (s) free(s->names);
        free(s);
        return NULL;
    }
    for (int i = 0; i < s->count; i++) s->data[i] = MAP_FAILED;
    return s;
}

/* Collective over the node. A request beyond what is free fails before it has taken it. */
static void check_room(MPI_Comm node, size_t bytes, failure *f)
{
    double total = (double)bytes;
    wait_allreduce(MPI_IN_PLACE, &total, 1, MPI_DOUBLE, MPI_SUM, node);
    if (total > shared_memory_free()) set_failure(f, "no room for a segment of", bytes, ENOSPC);
}

shared_memory *shared_memory_create(longspan_context *context, size_t bytes, failure *f)
{
    shared_memory *s = allocate(&context->node, f);
    check_room(context->node.comm, bytes, f);
    if (s && f->status == LONGSPAN_OK) make_own(s, bytes, f);
    bool ok = context_agree(context, f) == LONGSPAN_OK;
    if (ok) {
        wait_allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, s->names, (int)sizeof *s->names, MPI_BYTE,
                      context->node.comm);
        for (int i = 0; i < s->count; i++)
            if (i != s->own) map_other(s, i, f);
        ok = context_agree(context, f) == LONGSPAN_OK;
    }
    /* Everyone has it open, or nobody will. */
    if (s && s->names[s->own].name[0]) shm_unlink(s->names[s->own].name);
    if (ok) return s;
    shared_memory_destroy(s);
    return NULL;
}

void shared_memory_destroy(shared_memory *s)
{
    if (!s) return;
    for (int i = 0; i < s->count; i++)
        if (s->data[i] != MAP_FAILED) munmap(s->data[i], s->names[i].bytes);
    free(s->data);
    free(s->names);
    free(s);
}

char *shared_memory_of(const shared_memory *s, int node_rank)
{
    return s->data[node_rank];
}
