#include "runtime/trace.h"

#include "runtime/patience.h"

#include <stdlib.h>
#include <string.h>

struct trace {
    double origin;
    trace_event *events;
    int64_t count, capacity, dropped;
};

/* A rank's events are sent as text, in pieces of this size at most; an event's text is shorter than TEXT_MAX. */
enum { PIECE_BYTES = 1 << 20, TEXT_MAX = 1024 };

static const char *const track_names[TRACE_TRACKS] = {[TRACE_WORK] = "work", [TRACE_TRANSFERS] = "transfers"};

trace *trace_create(MPI_Comm comm, int64_t capacity)
{
    trace *t = calloc(1, sizeof *t);
    wait_barrier(comm);
    if (!t) return NULL;
    t->origin = MPI_Wtime();
    if (trace_reserve(t, capacity)) return t;
    free(t);
    return NULL;
}

void trace_destroy(trace *t)
{
    if (!t) return;
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

/* The names of a rank and its tracks, and how much was dropped. */
static int print_head(const trace *t, int rank, char *text)
{
    int length = snprintf(text, TEXT_MAX,
                          "{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%d,\"args\":{\"name\":\"rank %d\"}},\n"
                          "{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%d,\"args\":{\"sort_index\":%d}}",
                          rank, rank, rank, rank);
    for (int track = 0; track < TRACE_TRACKS; track++)
        length +=
            snprintf(text + length, TEXT_MAX - (size_t)length,
                     ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s\"}}",
                     rank, track, track_names[track]);
    if (t->dropped > 0)
        length += snprintf(text + length, TEXT_MAX - (size_t)length,
                           ",\n{\"ph\":\"M\",\"name\":\"process_labels\",\"pid\":%d,\"args\":{\"labels\":\"%lld events "
                           "found no room\"}}",
                           rank, (long long)t->dropped);
    return length;
}

static int print_event(const trace *t, const trace_event *event, int rank, char *text)
{
    int length = snprintf(text, TEXT_MAX,
                          ",\n{\"ph\":\"X\",\"name\":\"%.64s\",\"cat\":\"%.64s\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,"
                          "\"dur\":%.3f,\"args\":{",
                          event->name, event->category, rank, (int)event->track, (event->begin - t->origin) * 1e6,
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

/* The next piece of this rank's text: the events from *next on that fit. Returns its length, 0 when there is no more.
 */
static int print_piece(const trace *t, int rank, int64_t *next, char *piece)
{
    int length = 0;
    if (*next < 0) {
        length = print_head(t, rank, piece);
        *next = 0;
    }
    while (*next < t->count && length + TEXT_MAX <= PIECE_BYTES)
        length += print_event(t, &t->events[(*next)++], rank, piece + length);
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
