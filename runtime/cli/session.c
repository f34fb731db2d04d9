#include "runtime/cli/session.h"

#include <stdio.h>

bool session_agree(const session *s, failure *f)
{
    int rank = 0;
    if (agreement_reach(s->comm, f, &rank) == LONGSPAN_OK) return true;
    if (s->rank == 0 && rank != 0) fprintf(stderr, "longspan %s: %s [rank %d]\n", s->command, f->text, rank);
    else session_fail(s, f);
    return false;
}

exit_status session_fail(const session *s, const failure *f)
{
    if (s->rank == 0) fprintf(stderr, "longspan %s: %s\n", s->command, f->text);
    return session_exit_status(f);
}

exit_status session_exit_status(const failure *f)
{
    switch (f->status) {
    case LONGSPAN_OK:
        return EXIT_DONE;
    case LONGSPAN_ERROR_ARGUMENT:
    case LONGSPAN_ERROR_MISMATCH:
    case LONGSPAN_ERROR_UNSUPPORTED:
        return EXIT_USAGE;
    case LONGSPAN_ERROR_VERIFICATION:
        return EXIT_VERIFY;
    case LONGSPAN_ERROR_IO:
        return EXIT_FILE;
    case LONGSPAN_ERROR_MEMORY:
    case LONGSPAN_ERROR_INTERNAL:
        break;
    }
    return EXIT_FAILED;
}

void session_say(const session *s, const char *format, ...)
{
    if (s->rank != 0 || s->quiet) return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}

void session_verbose(const session *s, const char *format, ...)
{
    if (s->rank != 0 || !s->verbose) return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
}
