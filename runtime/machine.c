#include "runtime/machine.h"

#include "runtime/launch.h"
#include "runtime/patience.h"

#include <math.h>
#include <unistd.h>

/* Built in, where nothing was measured: times in units of the thread's peak, from two cores of a Zen 3 and a Zen 4; a
 * node that copies through shared memory; a network of 100 Gbit/s that needs no processor. */
static const double common_peak = 60e9; /* flop/s of a thread */
static const double attainable = 0.87;  /* of the peak, within the products */
static const double score_flops = 50;   /* at the peak, in the time of a score beside its products */
static const double few_attainable = 0.5;                         /* of the peak, where few rows share a key */
static const double element_bytes[] = {4, 2, 2};                  /* by longspan_type */
static const double usable_memory = 0.9; /* of a node's; the rest is the system's */
static const double built_in_memory = 8e9, built_in_barrier = 3e-6, step_seconds = 4e-6;
static const longspan_link built_in_node = {.latency = 1.5e-6, .bandwidth = 4e9, .busy = 1};
static const longspan_link built_in_network = {.latency = 3e-6, .bandwidth = 10e9, .busy = 0.1};

enum { LANES = 24 }; /* rows that a kernel folds together, about */

static void fill(double *value, double built_in)
{
    if (*value == 0) *value = built_in;
}

void machine_fill(longspan_machine *machine, const attention_kernel *kernel, double peak)
{
    if (peak <= 0) peak = common_peak;
    for (int compute = 0; compute < COMPUTE_COUNT; compute++) {
        fill(&machine->score_seconds[compute], score_flops / peak);
        const double gain = kernel && kernel->gain[compute] > 0 ? kernel->gain[compute] : 1;
        fill(&machine->product_seconds[compute], 2 / (attainable * peak * gain));
    }
    fill(&machine->memory_bandwidth, built_in_memory);
    for (int type = LONGSPAN_FLOAT32; type <= LONGSPAN_BFLOAT16; type++) {
        for (int i = 0; i < PREDICTION_FEW; i++) {
            const double computing = 2.0 * (double)prediction_few_rows[i] / (few_attainable * peak);
            const double reading = element_bytes[type] / machine->memory_bandwidth;
            fill(&machine->few_seconds[type][i], computing > reading ? computing : reading);
        }
    }
    fill(&machine->barrier_seconds, built_in_barrier);
    if (machine->node.bandwidth == 0) machine->node = built_in_node;
    if (machine->network.bandwidth == 0) machine->network = built_in_network;
}

/* Within [0, most]; `name` for the message. */
static bool in_range(double value, double most, const char *name, failure *f)
{
    if (isfinite(value) && value >= 0 && value <= most) return true;
    failure_set(f, LONGSPAN_ERROR_ARGUMENT, "machine: %s is %g, not between 0 and %g", name, value, most);
    return false;
}

static bool check_link(const longspan_link *link, const char *latency, const char *bandwidth, const char *busy,
                       failure *f)
{
    return in_range(link->latency, 10, latency, f) && in_range(link->bandwidth, 1e15, bandwidth, f) &&
           in_range(link->busy, 1, busy, f);
}

bool machine_check(const longspan_machine *machine, failure *f)
{
    bool good = true;
    for (int compute = 0; compute < COMPUTE_COUNT && good; compute++)
        good = in_range(machine->score_seconds[compute], 1, "score_seconds", f) &&
               in_range(machine->product_seconds[compute], 1, "product_seconds", f);
    for (int type = LONGSPAN_FLOAT32; type <= LONGSPAN_BFLOAT16 && good; type++)
        for (int i = 0; i < PREDICTION_FEW && good; i++)
            good = in_range(machine->few_seconds[type][i], 1, "few_seconds", f);
    return good && in_range(machine->memory_bandwidth, 1e15, "memory_bandwidth", f) &&
           in_range(machine->barrier_seconds, 10, "barrier_seconds", f) &&
           in_range(machine->memory_bytes, 1e18, "memory_bytes", f) &&
           check_link(&machine->node, "node.latency", "node.bandwidth", "node.busy", f) &&
           check_link(&machine->network, "network.latency", "network.bandwidth", "network.busy", f);
}

int64_t machine_rank_memory(double node_bytes, int node_ranks)
{
    const double pages = (double)sysconf(_SC_PHYS_PAGES), page_bytes = (double)sysconf(_SC_PAGESIZE);
    if (node_bytes <= 0) node_bytes = pages > 0 && page_bytes > 0 ? pages * page_bytes : 0;
    return (int64_t)(usable_memory * node_bytes / node_ranks);
}

void machine_agree(MPI_Comm comm, int threads, int sharing, int node_ranks, longspan_machine *machine,
                   machine_seat *seat_p)
{
    const double contenders = (double)threads * sharing, cpus = launch_allowed_cpus();
    double least[2] = {contenders > cpus ? cpus / contenders : 1, (double)machine_rank_memory(0, node_ranks)};
    wait_bcast(machine, (int)sizeof *machine, MPI_BYTE, 0, comm);
    wait_bcast(&threads, 1, MPI_INT, 0, comm);
    wait_allreduce(MPI_IN_PLACE, least, 2, MPI_DOUBLE, MPI_MIN, comm);
    const double memory = machine->memory_bytes > 0 ? machine->memory_bytes : least[1];
    *seat_p = (machine_seat){.threads = threads, .cpu_share = least[0], .memory_bytes = (int64_t)memory};
}

static prediction_link link_of(const longspan_link *link)
{
    return (prediction_link){.latency = link->latency, .bandwidth = link->bandwidth, .busy = link->busy};
}

prediction_machine machine_of_rank(const longspan_machine *machine, const machine_seat *seat, longspan_type type,
                                   attention_compute compute)
{
    const double speed = seat->threads * seat->cpu_share;
    prediction_machine m = {
        .score_seconds = machine->score_seconds[compute] / speed,
        .product_seconds = machine->product_seconds[compute] / speed,
        .memory_bandwidth = machine->memory_bandwidth * speed,
        .step_seconds = step_seconds,
        .barrier_seconds = machine->barrier_seconds,
        .node = link_of(&machine->node),
        .network = link_of(&machine->network),
        .lanes = LANES,
    };
    for (int i = 0; i < PREDICTION_FEW; i++) m.few_seconds[i] = machine->few_seconds[type][i] / speed;
    return m;
}
