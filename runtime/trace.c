#include "runtime/trace.h"

#include "runtime/patience.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    double begin, end; /* MPI_Wtime's */
    int64_t step;
} fold_record;

typedef struct {
    fold_record *folds; /* the one at `count` may have begun */
    int64_t count, capacity, dropped;
} thread_track;

struct trace {
    double origin;
    double clock_gap; /* MPI_Wtime less omp_get_wtime: MPI may be called by one thread alone */
    trace_event *events;
    int64_t count, capacity, dropped;
    thread_track *threads;
    int thread_count;
};

/* A rank's events are sent as text, in pieces of this size at most; an event's text is shorter than TEXT_MAX. */
enum { PIECE_BYTES = 1 << 20, TEXT_MAX = 1024 };

enum { CLOCK_TRIES = 20 };

static const char *const track_names[TRACE_TRACKS] = {[TRACE_WORK] = "work", [TRACE_TRANSFERS] = "transfers"};

/* MPI_Wtime less omp_get_wtime, as of the try in which the least time passed between readings. */
static double clock_gap(void)
{
    double gap = 0, least = 0;
    for (int i = 0; i < CLOCK_TRIES; i++) {
        const double before = MPI_Wtime(), here = omp_get_wtime(), after = MPI_Wtime();
        if (i > 0 && after - before >= least) continue;
        least = after - before;
        gap = (before + after) / 2 - here;
    }
    return gap;
}

trace *trace_create(MPI_Comm comm, int64_t capacity)
{
    trace *t = calloc(1, sizeof *t);
    wait_barrier(comm);
    if (!t) return NULL;
    t->origin = MPI_Wtime();
    t->clock_gap = clock_gap();
    if (trace_reserve(t, capacity)) return t;
    free(t);
    return NULL;
}

void trace_destroy(trace *t)
{
    if (!t) return;
    for (int i = 0; i < t->thread_count; i++) free(t->threads[i].folds);
    free(t->threads);
    free(t->events);
    free(t);
}

bool trace_reserve(trace *t, int64_t more)
{
    const int64_t capacity = t->capacity + (more > 0 ? more : 0);
    if (capacity == 0) return true;
    trace_event *events = realloc(t->events, (size_t)capacity * sizeof *events);
    if (!events) return false;
    t->events = events;
    t->capacity = capacity;
    return true;
}

void trace_add(trace *t, const trace_event *event)
{
    if (!t) return;
    if (t->count == t->capacity) t->dropped++;
    else t->events[t->count++] = *event;
}

bool trace_reserve_threads(trace *t, int threads, int64_t more)
{
    if (threads > t->thread_count) {
        thread_track *tracks = realloc(t->threads, (size_t)threads * sizeof *tracks);
        if (!tracks) return false;
        memset(tracks + t->thread_count, 0, (size_t)(threads - t->thread_count) * sizeof *tracks);
        t->threads = tracks;
        t->thread_count = threads;
    }
    for (int i = 0; i < threads && more > 0; i++) {
        thread_track *track = &t->threads[i];
        fold_record *folds = realloc(track->folds, (size_t)(track->capacity + more) * sizeof *folds);
        if (!folds) return false;
        track->folds = folds;
        track->capacity += more;
    }
    return true;
}

void trace_mark_fold(trace *t, int thread, bool begin, int64_t step)
{
    const double now = omp_get_wtime() + t->clock_gap;
    thread_track *track = &t->threads[thread];
    if (track->count == track->capacity) track->dropped += begin;
    else if (begin) track->folds[track->count] = (fold_record){.begin = now, .step = step};
    else track->folds[track->count++].end = now;
}

static int print_track_name(int rank, int track, const char *name, char *text, size_t size)
{
    return snprintf(text, size,
                    ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s\"}}", rank,
                    track, name);
}

/* The names of a rank and its first tracks, and how much was dropped. */
static int print_head(const trace *t, int rank, char *text)
{
    int length = snprintf(text, TEXT_MAX,
                          "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"rank %d\"}},\n"
                          "{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%d,\"args\":{\"sort_index\":%d}}",
                          rank, rank, rank, rank);
    for (int track = 0; track < TRACE_TRACKS; track++)
        length += print_track_name(rank, track, track_names[track], text + length, TEXT_MAX - (size_t)length);
    int64_t dropped = t->dropped;
    for (int i = 0; i < t->thread_count; i++) dropped += t->threads[i].dropped;
    if (dropped > 0)
        length += snprintf(text + length, TEXT_MAX - (size_t)length,
                           ",\n{\"ph\":\"M\",\"name\":\"process_labels\",\"pid\":%d,\"args\":{\"labels\":\"%lld events "
                           "found no room\"}}",
                           rank, (long long)dropped);
    return length;
}

static int print_event(const trace *t, const trace_event *event, int rank, int track, char *text)
{
    int length = snprintf(text, TEXT_MAX,
                          ",\n{\"ph\":\"X\",\"name\":\"%.64s\",\"cat\":\"%.64s\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,"
                          "\"dur\":%.3f,\"args\":{",
                          event->name, event->category, rank, track, (event->begin - t->origin) * 1e6,
                          (event->end - event->begin) * 1e6);
    const char *separator = "";
    for (int i = 0; i < TRACE_ARGUMENTS; i++) {
        if (!event->arguments[i].name) continue;
        length += snprintf(text + length, TEXT_MAX - (size_t)length, "%s\"%.64s\":%lld", separator,
                           event->arguments[i].name, (long long)event->arguments[i].value);
        separator = ",";
    }
    return length + snprintf(text + length, TEXT_MAX - (size_t)length, "}}");
}

/* A thread's name (`index` 0) and folds. */
static int print_of_thread(const trace *t, int thread, int64_t index, int rank, char *text)
{
    if (index == 0) {
        char name[32];
        snprintf(name, sizeof name, "thread %d", thread);
        return print_track_name(rank, TRACE_TRACKS + thread, name, text, TEXT_MAX);
    }
    const fold_record *fold = &t->threads[thread].folds[index - 1];
    const trace_event event = {.name = "fold",
                               .category = "fold",
                               .begin = fold->begin,
                               .end = fold->end,
                               .arguments = {{"step", fold->step}}};
    return print_event(t, &event, rank, TRACE_TRACKS + thread, text);
}

/* Item `index` of this rank: its events, then those of one thread after the other. 0 when there is no more. */
static int print_item(const trace *t, int64_t index, int rank, char *text)
{
    if (index < t->count) return print_event(t, &t->events[index], rank, (int)t->events[index].track, text);
    index -= t->count;
    for (int i = 0; i < t->thread_count; index -= t->threads[i++].count + 1)
        if (index <= t->threads[i].count) return print_of_thread(t, i, index, rank, text);
    return 0;
}

/* The next piece of this rank's text: the items from *next on that fit. Returns its length, 0 when there is no more.
 */
static int print_piece(const trace *t, int rank, int64_t *next, char *piece)
{
    int length = 0;
    if (*next < 0) {
        length = print_head(t, rank, piece);
        *next = 0;
    }
    for (int printed = 1; printed > 0 && length + TEXT_MAX <= PIECE_BYTES; length += printed) {
        printed = print_item(t, *next, rank, piece + length);
        *next += printed > 0;
    }
    return length;
}

/* Rank 0: writes the pieces of a rank until an empty one comes. */
static void write_rank(const trace *t, MPI_Comm comm, int rank, char *piece, FILE *file)
{
    int64_t next = -1;
    for (;;) {
        int length;
        if (rank == 0) length = print_piece(t, 0, &next, piece);
        else {
            MPI_Status status;
            wait_receive(piece, PIECE_BYTES, MPI_CHAR, rank, comm, &status);
            MPI_Get_count(&status, MPI_CHAR, &length);
        }
        if (length == 0) return;
        fwrite(piece, 1, (size_t)length, file);
    }
}

static void send_rank(const trace *t, MPI_Comm comm, int rank, char *piece)
{
    int64_t next = -1;
    int length;
    do {
        length = print_piece(t, rank, &next, piece);
        wait_send(piece, length, MPI_CHAR, 0, comm);
    } while (length > 0);
}

void trace_write(const trace *t, MPI_Comm comm, FILE *file, failure *f)
{
    int rank, ranks;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    char *piece = malloc(PIECE_BYTES);
    int ok = piece != NULL;
    wait_allreduce(MPI_IN_PLACE, &ok, 1, MPI_INT, MPI_MIN, comm);
    if (!ok) failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory to write the trace");
    if (ok && rank == 0) fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", file);
    for (int r = 0; ok && r < ranks; r++) {
        /* A rank's pieces are not sent before they are wanted; and nobody waits longer than one rank takes. */
        wait_barrier(comm);
        if (rank == 0 && r > 0) fputs(",\n", file);
        if (rank == 0) write_rank(t, comm, r, piece, file);
        else if (rank == r) send_rank(t, comm, rank, piece);
    }
    if (ok && rank == 0) {
        fputs("\n]}\n", file);
        if (fflush(file) != 0 || ferror(file)) failure_set(f, LONGSPAN_ERROR_IO, "the trace could not be written");
    }
    free(piece);
}
