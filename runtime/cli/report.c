#include "runtime/cli/report.h"

#include "kernels/cpu.h"
#include "runtime/launch.h"
#include "runtime/patience.h"

#include <cblas.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

report_statistics report_reduce(MPI_Comm comm, double value)
{
    struct {
        double value;
        int rank;
    } local[2], extreme[2]; /* -value and value: both extremes in one MAXLOC */
    int rank, ranks;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    local[0].value = -value;
    local[1].value = value;
    local[0].rank = local[1].rank = rank;
    wait_allreduce(local, extreme, 2, MPI_DOUBLE_INT, MPI_MAXLOC, comm);
    double sum = 0;
    wait_allreduce(&value, &sum, 1, MPI_DOUBLE, MPI_SUM, comm);
    return (report_statistics){.min = -extreme[0].value,
                               .mean = sum / ranks,
                               .max = extreme[1].value,
                               .min_rank = extreme[0].rank,
                               .max_rank = extreme[1].rank};
}

json_t *report_statistics_json(const report_statistics *s)
{
    return json_pack("{s:f, s:f, s:f, s:i, s:i}", "min", s->min, "mean", s->mean, "max", s->max, "min_rank",
                     s->min_rank, "max_rank", s->max_rank);
}

/* The value of the first line "KEY...: VALUE" of a file of /proc; "" without one. */
static void read_proc(const char *path, const char *key, char *value, size_t size)
{
    char line[512];
    value[0] = '\0';
    FILE *file = fopen(path, "r");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0) continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(value, size, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    fclose(file);
}

int64_t report_peak_memory(void)
{
    char text[64];
    read_proc("/proc/self/status", "VmHWM", text, sizeof text);
    return strtoll(text, NULL, 10) * 1024;
}

json_t *report_machine_json(void)
{
    char cpu[256], features[256], hostname[256] = "";
    read_proc("/proc/cpuinfo", "model name", cpu, sizeof cpu);
    cpu_features_describe(cpu_features(), features, sizeof features);
    gethostname(hostname, sizeof hostname - 1);
    const long cores = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return json_pack("{s:s+, s:I, s:s, s:I, s:s}", "cpu", cpu, "", "cores", (json_int_t)cores, "features", features,
                     "memory_bytes", (json_int_t)pages * (json_int_t)page, "hostname", hostname);
}

json_t *report_versions_json(void)
{
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(mpi, &length);
    mpi[strcspn(mpi, ",\n")] = '\0';
    unsigned major = 0, minor = 0, release = 0;
    char hdf5[32];
    H5get_libversion(&major, &minor, &release);
    snprintf(hdf5, sizeof hdf5, "%u.%u.%u", major, minor, release);
#if defined(__clang__)
    const char *compiler = "clang " __clang_version__;
#else
    const char *compiler = "gcc " __VERSION__;
#endif
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "longspan", longspan_version(), "mpi", mpi, "hdf5", hdf5, "blas",
                     openblas_get_config(), "compiler", compiler);
}

static double peak_of_all(MPI_Comm comm, double (*peak)(double seconds), int threads, double seconds)
{
    double local = 0, all = 0;
    const double contenders = (double)threads * launch_sharing_ranks(comm), cpus = launch_allowed_cpus();
    wait_barrier(comm);
#pragma omp parallel num_threads(threads) reduction(+ : local)
    local += peak(seconds);
    if (contenders > cpus) local *= cpus / contenders;
    wait_allreduce(&local, &all, 1, MPI_DOUBLE, MPI_SUM, comm);
    return all;
}

double report_peak(MPI_Comm comm, const attention_kernel *kernel, int threads, double seconds)
{
    return peak_of_all(comm, kernel->peak, threads, seconds);
}

double report_bf16_peak(MPI_Comm comm, const attention_kernel *kernel, int threads, double seconds)
{
    return kernel->bf16_peak ? peak_of_all(comm, kernel->bf16_peak, threads, seconds) : 0;
}
