#include "runtime/cli/placement.h"

#include "runtime/launch.h"

#include <stdio.h>
#include <string.h>

double placement_rate(const prediction_machine *m, double elements)
{
    if (elements == 0) return 2 / m->product_seconds;
    return 2 * elements / (m->score_seconds + elements * m->product_seconds);
}

/* What the options say in place of what was measured. */
static void heed_options(const options *o, double elements, prediction_machine *m)
{
    if (o->rate > 0) {
        const double times = placement_rate(m, elements) / (o->rate * 1e9);
        m->score_seconds *= times;
        m->product_seconds *= times;
        for (int i = 0; i < PREDICTION_FEW; i++) m->few_seconds[i] *= times;
    }
    prediction_link *links[] = {&m->node, &m->network};
    for (int i = 0; i < 2; i++) {
        if (o->bandwidth > 0) *links[i] = (prediction_link){links[i]->latency, o->bandwidth * 1e9, 0};
        if (o->latency >= 0) links[i]->latency = o->latency / 1e6;
    }
}

/* Ranks of a node unless given: all where this machine has the CPUs, else one a CPU if that deals them out evenly. */
static int node_ranks_of(const options *o)
{
    if (o->node_ranks > 0) return o->node_ranks;
    const int cpus = launch_allowed_cpus();
    if (o->ranks <= cpus) return o->ranks;
    return o->ranks % cpus == 0 ? cpus : 1;
}

int placement_threads(const options *o, int node_ranks)
{
    return o->threads > 0 ? o->threads : launch_default_threads(node_ranks);
}

bool placement_make(const options *o, const placement_work *work, const machine_source *source, placement *place_p,
                    failure *f)
{
    const attention_kernel *kernel = job_kernel(o->isa, f);
    if (!kernel) return false;
    attention_compute compute =
        work->elements == 0 || work->fp32 ? COMPUTE_FP32 : attention_compute_best(kernel, (kernel_type)work->type, work->rows);
    if (strcmp(o->compute, "auto") != 0 && attention_compute_from_name(o->compute, &compute) &&
        !attention_kernel_offers(kernel, compute)) {
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "--compute %s: kernel '%s' does not offer it", o->compute,
                    kernel->name);
        return false;
    }
    const int node_ranks = node_ranks_of(o);
    if (o->ranks % node_ranks != 0) {
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "--node-ranks %d: --ranks %d is not a multiple", node_ranks, o->ranks);
        return false;
    }
    const machine_seat seat = {.threads = placement_threads(o, node_ranks), .cpu_share = 1};
    const bool from_file = o->memory == 0 && source->machine.memory_bytes > 0;
    *place_p = (placement){.ranks = o->ranks,
                           .node_ranks = node_ranks,
                           .may_share = o->share && node_ranks > 1,
                           .share_off = !o->share,
                           .machine = machine_of_rank(&source->machine, &seat, work->type, compute),
                           .memory_bytes = from_file ? (int64_t)source->machine.memory_bytes
                                                     : machine_rank_memory((double)o->memory, node_ranks)};
    heed_options(o, work->elements, &place_p->machine);
    return true;
}

void placement_print(const options *o, const placement *place, double elements, const char *source)
{
    static const char given[] = " (as given)";
    const prediction_machine *m = &place->machine;
    printf("  machine  %s\n", source);
    printf("           %.4g GFLOP/s a rank%s; in a node %.4g GB/s and %.3g us a message, between nodes %.4g GB/s and "
           "%.3g us%s\n",
           placement_rate(m, elements) * 1e-9, o->rate > 0 ? given : "", m->node.bandwidth * 1e-9,
           m->node.latency * 1e6, m->network.bandwidth * 1e-9, m->network.latency * 1e6,
           o->bandwidth > 0 || o->latency >= 0 ? given : "");
    printf("           memory for %.6g MiB a rank%s\n", (double)place->memory_bytes / 1048576,
           o->memory > 0 ? given : "");
}

static json_t *link_json(const prediction_link *link)
{
    return json_pack("{s:f, s:f, s:f}", "latency", link->latency, "bandwidth", link->bandwidth, "busy", link->busy);
}

json_t *placement_json(const placement *place, double elements, const char *source)
{
    const prediction_machine *m = &place->machine;
    return json_pack("{s:s, s:f, s:f, s:I, s:o, s:o}", "source", source, "flops", placement_rate(m, elements),
                     "memory_bandwidth", m->memory_bandwidth, "memory_bytes", (json_int_t)place->memory_bytes, "node",
                     link_json(&m->node), "network", link_json(&m->network));
}
