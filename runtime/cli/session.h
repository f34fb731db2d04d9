/* One run of the command over all ranks: who speaks, and how it ends.
 *
 * A subcommand is a collective function. Local errors go into a `failure`; session_agree decides for all ranks, and
 * rank 0 prints the one line. Nothing but rank 0 writes to stdout or stderr. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "runtime/agreement.h"

#include <stdbool.h>

typedef enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_VERIFY = 3, EXIT_FILE = 4 } exit_status;

typedef struct {
    MPI_Comm comm; /* duplicate of MPI_COMM_WORLD */
    int rank, ranks;
    const char *command; /* the subcommand's name, for messages */
    bool quiet, verbose;
} session;

/* Collective. True if all ranks succeeded. Otherwise rank 0 prints "longspan COMMAND: TEXT" (with " [rank R]" where the
 * failure was not rank 0's) to stderr, *f is the agreed failure on every rank, and the caller goes to its clean-up. */
bool session_agree(const session *s, failure *f);

/* Not collective. Rank 0 prints "longspan COMMAND: TEXT" to stderr, as one line whatever the text holds. */
void session_error(const session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Not collective. For a failure that is already agreed on, as the collective functions of runtime/ leave it: rank 0
 * prints the same line, and the exit status is returned. */
exit_status session_fail(const session *s, const failure *f);

/* The exit status of a failure: ARGUMENT, MISMATCH and UNSUPPORTED 2, VERIFICATION 3, IO 4, others 1, OK 0. */
exit_status session_exit_status(const failure *f);

/* Rank 0 prints to stderr unless --quiet; session_verbose only with --verbose. Not collective. */
void session_say(const session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void session_verbose(const session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
