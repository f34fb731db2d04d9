/* What a run did, over all ranks: statistics that name the rank, and what it ran on, as JSON. Part of the command, not
 * of the library. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "kernels/attention.h"
#include "runtime/longspan.h"

#include <jansson.h>

typedef struct {
    double min, mean, max;
    int min_rank, max_rank; /* the lowest rank that holds it */
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

/* Collective. The float32 multiply-add peak of all ranks in flop/s, equal on every rank: every rank runs the kernel's
 * `peak` on `threads` threads for `seconds` at the same time. Where the threads of the ranks that share CPUs outnumber
 * them, only as many as there are CPUs count: `peak` keeps its best burst, which another thread need not have
 * disturbed. */
double report_peak(MPI_Comm comm, const attention_kernel *kernel, int threads, double seconds);

/* The same of products of bfloat16; 0 where the kernel has none. */
double report_bf16_peak(MPI_Comm comm, const attention_kernel *kernel, int threads, double seconds);

#endif
