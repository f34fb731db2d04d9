/* What a run did, over all ranks: statistics that name the rank, as JSON and for people. */
#ifndef RUNTIME_REPORT_H
#define RUNTIME_REPORT_H

#include "runtime/longspan.h"

#include <jansson.h>

typedef struct {
    double min, mean, max;
    int min_rank, max_rank;
} report_statistics;

/* Collective. Equal on every rank. */
report_statistics report_reduce(MPI_Comm comm, double value);

/* {"min":, "mean":, "max":, "min_rank":, "max_rank":}; a new reference. */
json_t *report_statistics_json(const report_statistics *statistics);

/* Not collective. {"cpu", "cores", "features", "memory_bytes", "hostname"} of this machine and
 * {"longspan", "mpi", "hdf5", "blas", "compiler"}: new references. */
json_t *report_machine_json(void);
json_t *report_versions_json(void);

/* Not collective. Peak resident bytes of this process (VmHWM), 0 if unknown. */
int64_t report_peak_memory(void);

#endif
