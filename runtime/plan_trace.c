/* What an execute did, as events of a trace. */
#include "runtime/plan.h"

static void add_work(trace *t, const char *name, double begin, double end, int64_t step)
{
    if (end <= begin) return;
    trace_add(t, &(trace_event){.name = name,
                                .category = "execute",
                                .begin = begin,
                                .end = end,
                                .arguments = {{step >= 0 ? "step" : NULL, step}}});
}

static void add_step(trace *t, const step_record *r, int64_t step)
{
    const double node = r->end - r->node_wait;
    add_work(t, "compute", r->begin, r->computed, step);
    if (node > r->computed)
        trace_add(t, &(trace_event){.name = "wait for transfers",
                                    .category = "wait",
                                    .begin = r->computed,
                                    .end = node,
                                    .arguments = {{"step", step}, {"last rank", r->waited_for}}});
    if (r->node_wait > 0) add_work(t, "wait for the node", node, r->end, step);
    if (r->transferred > r->begin)
        trace_add(t, &(trace_event){.name = "transfers",
                                    .category = "transfer",
                                    .track = TRACE_TRANSFERS,
                                    .begin = r->begin,
                                    .end = r->transferred,
                                    .arguments = {{"step", step},
                                                  {"bytes sent", r->bytes_sent},
                                                  {"bytes received", r->bytes_received}}});
}

bool plan_trace_reserve(trace *t, int64_t steps, int threads, int64_t calls)
{
    /* A computation, a wait, a wait for the node, and the transfers for each step; the whole, the start and the finish. */
    return trace_reserve(t, 4 * steps + 3) && trace_reserve_threads(t, threads, calls);
}

void plan_trace(trace *t, const step_record *records, int64_t steps, double begin, double finish, double end)
{
    if (!t) return;
    add_work(t, "execute", begin, end, -1);
    add_work(t, "start", begin, steps > 0 ? records[0].begin : finish, -1);
    for (int64_t i = 0; i < steps; i++) add_step(t, &records[i], i);
    add_work(t, "finish", finish, end, -1);
}
