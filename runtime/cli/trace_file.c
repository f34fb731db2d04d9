#include "runtime/cli/trace_file.h"

#include "io/output_file.h"

void trace_file_phase(trace *t, const char *name, double begin)
{
    const trace_event event = {
        .name = name, .category = "phase", .track = TRACE_WORK, .begin = begin, .end = MPI_Wtime()};
    trace_add(t, &event);
}

bool trace_file_write(const session *s, const char *path, bool force, const trace *t, failure *f)
{
    output_writer writer;
    FILE *stream = NULL;
    io_error error;
    if (s->rank == 0 && output_stream_begin(path, force, &writer, &stream, &error))
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    if (!session_agree(s, f)) return false;
    trace_write(t, s->comm, stream, f);
    if (s->rank == 0 && output_stream_end(path, force, f->status == LONGSPAN_OK, &writer, stream, &error)) {
        *f = (failure){0}; /* this one names the file */
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    }
    return session_agree(s, f);
}
