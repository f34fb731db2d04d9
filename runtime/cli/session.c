#include "runtime/cli/session.h"

#include <ctype.h>
#include <stdio.h>

void session_error(const session *s, const char *format, ...)
{
    char text[2048];
    if (s->rank != 0) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *c = text; *c; c++)
        if (iscntrl((unsigned char)*c)) *c = '?'; /* a file may be called anything */
    if (s->command) fprintf(stderr, "longspan %s: %s\n", s->command, text);
    else fprintf(stderr, "longspan: %s\n", text);
}

bool session_agree(const session *s, failure *f)
{
    int rank = 0;
    if (agreement_reach(s->comm, f, &rank) == LONGSPAN_OK) return true;
    if (rank > 0) session_error(s, "%s [rank %d]", f->text, rank);
    else session_error(s, "%s", f->text);
    return false;
}

exit_status session_fail(const session *s, const failure *f)
{
    session_error(s, "%s", f->text);
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
