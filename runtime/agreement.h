/* Collective failure: if any rank fails, all fail, with the same status and the same text.
 *
 * No rank returns from a collective call on a local error: it keeps the error in a `failure` and goes on to the next
 * agreement point, where one small allreduce decides for all. Source of the idea: FFTW mpi/any-true.c. */
#ifndef RUNTIME_AGREEMENT_H
#define RUNTIME_AGREEMENT_H

#include "runtime/longspan.h"

#include <stdarg.h>
#include <stdbool.h>

/* A rank's local outcome. {0} is success. */
typedef struct {
    longspan_status status;
    char text[1024]; /* one line: what, where, what to do */
} failure;

/* Records the first failure; later ones are dropped. Returns `status`. */
longspan_status failure_set(failure *f, longspan_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Collective over comm. Returns LONGSPAN_OK iff every rank's *f is OK. Otherwise, on every rank, *f becomes the failure
 * of the lowest rank that failed with the most severe (largest) status, *rank_p that rank. In builds with fault
 * injection, LONGSPAN_FAULT=SEED:RATE makes a rank pretend to have failed here: see agreement.c. */
longspan_status agreement_reach(MPI_Comm comm, failure *f, int *rank_p);

enum { AGREEMENT_MAX_VALUES = 64 };

/* A value that must be equal on all ranks, with the name that a message uses. */
typedef struct {
    const char *name;
    int64_t value;
} agreement_value;

/* Collective; count <= AGREEMENT_MAX_VALUES. Fails with LONGSPAN_ERROR_MISMATCH, naming the first value that differs
 * and its extremes, unless all ranks have the same values. One allreduce of {x, -x}. */
longspan_status agreement_check_equal(MPI_Comm comm, const agreement_value *values, int count, failure *f, int *rank_p);
/* Values to stand in for things that are not integers. */
int64_t agreement_hash_text(const char *text);
int64_t agreement_hash_integers(const int64_t *values, int64_t count);
int64_t agreement_hash_bytes(const void *bytes, size_t size);
int64_t agreement_bits(double value);

#endif
