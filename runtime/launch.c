/* sched_getaffinity is Linux; elsewhere every online CPU counts as allowed. */
#define _GNU_SOURCE
#include "runtime/launch.h"

#include "runtime/node.h"
#include "runtime/patience.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <sched.h>
typedef cpu_set_t cpu_mask;

static void mask_of_process(pid_t process, cpu_mask *mask_p)
{
    CPU_ZERO(mask_p);
    if (sched_getaffinity(process, sizeof *mask_p, mask_p) != 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        for (long cpu = 0; cpu < online && cpu < CPU_SETSIZE; cpu++) CPU_SET((size_t)cpu, mask_p);
    }
}

static int mask_count(const cpu_mask *mask)
{
    return CPU_COUNT(mask);
}
#else
typedef struct {
    unsigned char bytes[8];
} cpu_mask;

static void mask_of_process(pid_t process, cpu_mask *mask_p)
{
    (void)process;
    memset(mask_p, 0, sizeof *mask_p);
}

static int mask_count(const cpu_mask *mask)
{
    (void)mask;
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}
#endif

int launch_allowed_cpus(void)
{
    cpu_mask mask;
    mask_of_process(0, &mask);
    int count = mask_count(&mask);
    return count > 0 ? count : 1;
}

int launch_default_threads(int sharing)
{
    const char *wanted = getenv("OMP_NUM_THREADS");
    int threads = wanted ? atoi(wanted) : 0; /* of a list "4,2" the first counts: the outer level */
    if (threads > 0) return threads;
    threads = launch_allowed_cpus() / sharing;
    return threads > 0 ? threads : 1;
}

/* The ranks of this node, and their affinity masks: malloc'ed, NULL if memory ran out. */
static cpu_mask *gather_masks(MPI_Comm node, int *count_p)
{
    MPI_Comm_size(node, count_p);
    cpu_mask mine, *masks = malloc((size_t)*count_p * sizeof *masks);
    mask_of_process(0, &mine);
    /* An allgather must be joined by every rank: one without memory sends its mask and drops what it receives. */
    int ok = masks != NULL, all_ok;
    wait_allreduce(&ok, &all_ok, 1, MPI_INT, MPI_MIN, node);
    if (!all_ok) {
        free(masks);
        return NULL;
    }
    wait_allgather(&mine, (int)sizeof mine, MPI_BYTE, masks, (int)sizeof mine, MPI_BYTE, node);
    return masks;
}

int launch_sharing_ranks(MPI_Comm comm)
{
    MPI_Comm node = node_split(comm);
    int ranks, me, sharing = 0;
    MPI_Comm_rank(node, &me);
    cpu_mask *masks = gather_masks(node, &ranks);
    for (int r = 0; masks && r < ranks; r++) sharing += memcmp(&masks[r], &masks[me], sizeof *masks) == 0;
    free(masks);
    MPI_Comm_free(&node);
    return sharing > 0 ? sharing : 1;
}

#define FOREIGN_MPIRUN                                                                                                 \
    "it belongs to another MPI than this program; use the mpirun of the MPI that this program is linked with"
#define START_IN_SLURM "start with srun --mpi=pmix or with mpirun (for one process: srun -n 1)"

/* What launchers tell the processes they start. The innermost one decides, so the first whose variable is set: mpirun
 * works inside a Slurm job and starts as many ranks as it was told to. SLURM_NTASKS alone: a process of a batch script
 * that nobody launched. */
static const struct {
    const char *size, *rank, *name, *advice;
} launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "mpirun", FOREIGN_MPIRUN},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "Slurm", START_IN_SLURM},
    {"PMI_SIZE", "PMI_RANK", "mpiexec", FOREIGN_MPIRUN},
    {"SLURM_NTASKS", "SLURM_PROCID", "Slurm", START_IN_SLURM},
};
enum { LAUNCHERS = sizeof launchers / sizeof launchers[0] };

/* -1: there is none. */
static int find_launcher(void)
{
    for (int i = 0; i < LAUNCHERS; i++)
        if (getenv(launchers[i].size)) return i;
    return -1;
}

int launch_rank(void)
{
    const int i = find_launcher();
    const char *rank = i >= 0 ? getenv(launchers[i].rank) : NULL;
    return rank ? atoi(rank) : 0;
}

void launch_hint(char *text, size_t size)
{
    static const char *const managers[] = {"PMIX_NAMESPACE", "PMIX_RANK", "PMI_FD", "PMI_RANK", "OMPI_COMM_WORLD_SIZE"};
    text[0] = 0;
    const char *tasks = getenv("SLURM_STEP_NUM_TASKS");
    if (!tasks || atoi(tasks) <= 1) return;
    for (size_t i = 0; i < sizeof managers / sizeof managers[0]; i++)
        if (getenv(managers[i])) return;
    snprintf(text, size, "srun gave its %s tasks no PMIx (--mpi=none?): if MPI cannot start now, use srun --mpi=pmix",
             tasks);
}

longspan_status launch_check(MPI_Comm comm, failure *f)
{
    int ranks, rank;
    MPI_Comm_size(comm, &ranks);
    const int i = find_launcher();
    const char *size = i >= 0 ? getenv(launchers[i].size) : "1";
    if (ranks == 1 && atoi(size) > 1)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s has %s tasks but this process came up alone: %s", launchers[i].name,
                    size, launchers[i].advice);
    return agreement_reach(comm, f, &rank);
}

/* The advice for one node, on the node's first rank; "" if all is well. */
static void advise_node(MPI_Comm node, int threads, char *text, size_t size)
{
    int ranks, me, allowed = launch_allowed_cpus(), crowded = threads > allowed, any_crowded, all_threads;
    MPI_Comm_rank(node, &me);
    text[0] = 0;
    cpu_mask *masks = gather_masks(node, &ranks);
    wait_allreduce(&crowded, &any_crowded, 1, MPI_INT, MPI_MAX, node);
    wait_allreduce(&threads, &all_threads, 1, MPI_INT, MPI_SUM, node);
    /* The launcher itself is not bound: its mask is what the node, the container or the allocation allows. */
    cpu_mask launcher;
    mask_of_process(getppid(), &launcher);
    int available = mask_count(&launcher), in_use = available;
#ifdef __linux__
    if (masks) {
        cpu_mask together;
        CPU_ZERO(&together);
        for (int r = 0; r < ranks; r++) CPU_OR(&together, &together, &masks[r]);
        in_use = mask_count(&together);
    }
#endif
    free(masks);
    if (me != 0) return;
    if (any_crowded && in_use < available)
        snprintf(text, size,
                 "%d threads a rank share %d allowed CPU%s because of binding: use mpirun --bind-to none or --map-by "
                 "slot:PE=%d",
                 threads, allowed, allowed == 1 ? "" : "s", threads);
    else if (all_threads > available)
        snprintf(text, size, "%d ranks x %d threads share %d CPUs of this node: times will not show scaling", ranks,
                 threads, available);
    else if (in_use < available)
        snprintf(text, size,
                 "%d of %d CPUs of this node stay idle because of binding: use mpirun --bind-to none or --map-by "
                 "slot:PE=%d",
                 available - in_use, available, available / ranks > 0 ? available / ranks : 1);
    else if (all_threads < available)
        snprintf(text, size, "%d thread%s on this node leave%s %d of %d CPUs idle: raise --threads or OMP_NUM_THREADS",
                 all_threads, all_threads == 1 ? "" : "s", all_threads == 1 ? "s" : "", available - all_threads,
                 available);
}

void launch_advice(MPI_Comm comm, int threads, char *text, size_t size)
{
    MPI_Comm node = node_split(comm);
    char mine[256] = "";
    advise_node(node, threads, mine, sizeof mine);
    MPI_Comm_free(&node);
    struct {
        int wanted, rank;
    } said = {mine[0] != 0, 0}, first;
    MPI_Comm_rank(comm, &said.rank);
    int rank = said.rank;
    wait_allreduce(&said, &first, 1, MPI_2INT, MPI_MAXLOC, comm);
    text[0] = 0;
    if (!first.wanted) return;
    wait_bcast(mine, (int)sizeof mine, MPI_CHAR, first.rank, comm);
    if (rank == 0) snprintf(text, size, "%s", mine);
}
