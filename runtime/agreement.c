#include "runtime/agreement.h"

#include "runtime/patience.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

longspan_status failure_set(failure *f, longspan_status status, const char *format, ...)
{
    if (f->status == LONGSPAN_OK) {
        f->status = status;
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(f->text, sizeof f->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

/* splitmix64's finaliser (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

#ifdef LONGSPAN_FAULT_INJECTION
/* LONGSPAN_FAULT=SEED:RATE makes a rank fail at an agreement point with probability RATE, drawn from the seed, the
 * number of the point and the rank: the same seed fails in the same places. The idea is libsc's sc_scda. */
static void inject_fault(int rank, failure *f)
{
    static uint64_t point;
    const char *fault = getenv("LONGSPAN_FAULT");
    if (!fault) return;
    char *rest;
    uint64_t seed = strtoull(fault, &rest, 10);
    double rate = *rest == ':' ? strtod(rest + 1, NULL) : 0;
    point++;
    double draw = (double)(mix(mix(mix(seed) + point) + (uint64_t)rank) >> 11) * 0x1p-53;
    if (draw < rate)
        failure_set(f, LONGSPAN_ERROR_INTERNAL, "injected fault at agreement point %llu", (unsigned long long)point);
}
#endif

longspan_status agreement_reach(MPI_Comm comm, failure *f, int *rank_p)
{
    int rank;
    MPI_Comm_rank(comm, &rank);
#ifdef LONGSPAN_FAULT_INJECTION
    inject_fault(rank, f);
#endif
    /* MPI_MAXLOC gives the lowest rank among equals. */
    struct {
        int status, rank;
    } mine = {(int)f->status, rank}, worst;
    wait_allreduce(&mine, &worst, 1, MPI_2INT, MPI_MAXLOC, comm);
    if (worst.status == LONGSPAN_OK) return LONGSPAN_OK;
    f->status = (longspan_status)worst.status;
    wait_bcast(f->text, (int)sizeof f->text, MPI_CHAR, worst.rank, comm);
    *rank_p = worst.rank;
    return f->status;
}

longspan_status agreement_check_equal(MPI_Comm comm, const agreement_value *values, int count, failure *f, int *rank_p)
{
    /* The maximum of ~x is ~minimum, without the overflow of -INT64_MIN. */
    int64_t extremes[2 * AGREEMENT_MAX_VALUES];
    for (int i = 0; i < count; i++) {
        extremes[2 * i] = values[i].value;
        extremes[2 * i + 1] = ~values[i].value;
    }
    wait_allreduce(MPI_IN_PLACE, extremes, 2 * count, MPI_INT64_T, MPI_MAX, comm);
    for (int i = 0; i < count; i++) {
        int64_t most = extremes[2 * i], least = ~extremes[2 * i + 1];
        if (most != least) {
            failure_set(f, LONGSPAN_ERROR_MISMATCH,
                        "%s differs between ranks (from %lld to %lld): pass the same value on every rank",
                        values[i].name, (long long)least, (long long)most);
            break;
        }
    }
    return agreement_reach(comm, f, rank_p);
}

int64_t agreement_hash_text(const char *text)
{
    uint64_t hash = 0;
    for (const char *c = text ? text : ""; *c; c++) hash = mix(hash + (unsigned char)*c);
    return (int64_t)hash;
}

int64_t agreement_hash_integers(const int64_t *values, int64_t count)
{
    uint64_t hash = mix((uint64_t)count);
    for (int64_t i = 0; i < count; i++) hash = mix(hash ^ (uint64_t)values[i]);
    return (int64_t)hash;
}

int64_t agreement_hash_bytes(const void *bytes, size_t size)
{
    uint64_t hash = mix(size);
    for (size_t done = 0; done < size; done += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, (const char *)bytes + done, size - done < sizeof word ? size - done : sizeof word);
        hash = mix(hash ^ word);
    }
    return (int64_t)hash;
}

int64_t agreement_bits(double value)
{
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
