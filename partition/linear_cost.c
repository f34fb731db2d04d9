#include "partition/linear_cost.h"

#include "partition/message.h"

#include <stddef.h>

static int64_t unit_bytes(const linear_schedule *s, const linear_sizes *sizes)
{
    return s->summarises ? sizes->summary_bytes : sizes->state_bytes;
}

static int64_t transfer_bytes(const linear_schedule *s, const linear_transfer *t, const linear_sizes *sizes)
{
    return range_length(t->units) * unit_bytes(s, sizes);
}

/* Bytes of states are cut anywhere. */
static int64_t transfer_messages(const linear_schedule *s, const linear_transfer *t, const linear_sizes *sizes)
{
    return message_count(transfer_bytes(s, t, sizes), 1);
}

void linear_cost_of(const linear_schedule *s, const linear_schedule_problem *problem, const linear_sizes *sizes,
                    linear_cost *cost_p)
{
    linear_cost c = {.steps = s->step_count, .buffer_bytes = s->buffers * problem->units * unit_bytes(s, sizes)};
    for (int64_t i = 0; i < s->step_count; i++) {
        c.actions += s->steps[i].action_count;
        for (int64_t j = 0; j < s->steps[i].transfer_count; j++) {
            const linear_transfer *t = &s->steps[i].transfers[j];
            const bool sends = t->direction == TRANSFER_SEND;
            *(sends ? &c.messages_sent : &c.messages_received) += transfer_messages(s, t, sizes);
            *(sends ? &c.bytes_sent : &c.bytes_received) += transfer_bytes(s, t, sizes);
        }
    }
    *cost_p = c;
}

/* Steps. */

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double action_seconds(const linear_action *a, int64_t tokens, const linear_sizes *sizes)
{
    const double units = (double)range_length(a->units), all_tokens = units * (double)tokens;
    switch (a->kind) {
    case LINEAR_FOLD:
        return all_tokens * sizes->fold_seconds;
    case LINEAR_LEAD:
        return all_tokens * sizes->lead_seconds;
    case LINEAR_SUMMARISE:
    case LINEAR_SUM:
        return all_tokens * sizes->summarise_seconds;
    case LINEAR_APPLY:
    case LINEAR_READ:
        return all_tokens * sizes->apply_seconds;
    default:
        return units * sizes->compose_seconds;
    }
}

static double transfer_seconds(const linear_schedule *s, const linear_step *step, const linear_sizes *sizes,
                               const prediction_machine *machine, int node_ranks, double *busy_p)
{
    prediction_traffic inside = {0}, outside = {0};
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const linear_transfer *t = &step->transfers[i];
        prediction_traffic *to = t->peer / node_ranks == s->rank / node_ranks ? &inside : &outside;
        to->messages[t->direction] += (double)transfer_messages(s, t, sizes);
        to->bytes[t->direction] += (double)transfer_bytes(s, t, sizes);
    }
    const double within = prediction_link_seconds(&inside, &machine->node),
                 across = prediction_link_seconds(&outside, &machine->network);
    *busy_p = machine->node.busy * within + machine->network.busy * across;
    return larger(within, across);
}

/* Ranks. */

typedef struct {
    linear_schedule *schedule;
    double now, end;
} walker;

static void walk_rank(walker *w, const walker *walkers, int64_t at, const linear_schedule_problem *problem,
                      const linear_sizes *sizes, const prediction_machine *machine, int node_ranks)
{
    const linear_schedule *s = w->schedule;
    w->end = w->now;
    if (at >= s->step_count || s->steps[at].action_count + s->steps[at].transfer_count == 0) return;
    const linear_step *step = &s->steps[at];
    const int64_t tokens = layout_rank_tokens(&problem->layout, s->rank);
    double work = 0, start = w->now, busy;
    for (int64_t i = 0; i < step->action_count; i++) work += action_seconds(&step->actions[i], tokens, sizes);
    for (int64_t i = 0; i < step->transfer_count; i++) start = larger(start, walkers[step->transfers[i].peer].now);
    const double transfer = transfer_seconds(s, step, sizes, machine, node_ranks, &busy);
    w->end = machine->step_seconds + larger(w->now + work + busy, start + transfer);
}

static double walk(walker *walkers, const linear_schedule_problem *problem, const linear_sizes *sizes,
                   const prediction_machine *machine, int node_ranks)
{
    int64_t steps = 0;
    double seconds = 0;
    for (int i = 0; i < problem->layout.ranks; i++)
        if (walkers[i].schedule->step_count > steps) steps = walkers[i].schedule->step_count;
    for (int64_t at = 0; at < steps; at++) {
        for (int i = 0; i < problem->layout.ranks; i++)
            walk_rank(&walkers[i], walkers, at, problem, sizes, machine, node_ranks);
        for (int i = 0; i < problem->layout.ranks; i++) walkers[i].now = walkers[i].end;
    }
    for (int i = 0; i < problem->layout.ranks; i++) seconds = larger(seconds, walkers[i].now);
    return seconds;
}

static int predict_all(const linear_strategy *how, const linear_schedule_problem *problem, const linear_sizes *sizes,
                       const prediction_machine *machine, int node_ranks, double *seconds_p)
{
    walker walkers[LINEAR_ALL_RANKS] = {{0}};
    int failed = 0;
    for (int i = 0; i < problem->layout.ranks && !failed; i++) failed = how->plan(problem, i, &walkers[i].schedule);
    if (!failed) *seconds_p = walk(walkers, problem, sizes, machine, node_ranks);
    for (int i = 0; i < problem->layout.ranks; i++) linear_schedule_destroy(walkers[i].schedule);
    return failed ? -1 : 0;
}

/* Of many ranks two smaller problems are walked through. What the time grows by from half of LINEAR_ALL_RANKS to all of
 * them, it grows by for as many ranks more (chain, gather), or with each doubling (scan, allreduce). */
int linear_predict(const linear_strategy *how, const linear_schedule_problem *problem, const linear_sizes *sizes,
                   const prediction_machine *machine, int node_ranks, double *seconds_p)
{
    const int ranks = problem->layout.ranks;
    if (ranks <= LINEAR_ALL_RANKS) return predict_all(how, problem, sizes, machine, node_ranks, seconds_p);
    double seconds[2];
    for (int i = 0; i < 2; i++) {
        linear_schedule_problem part = *problem;
        part.layout.ranks = LINEAR_ALL_RANKS / 2 * (i + 1);
        part.layout.tokens = problem->layout.tokens / ranks * part.layout.ranks;
        part.documents = NULL;
        part.document_count = 0;
        if (predict_all(how, &part, sizes, machine, node_ranks, &seconds[i]) != 0) return -1;
    }
    const bool doubles = how == linear_strategy_find("scan") || how == linear_strategy_find("allreduce");
    double further = (double)(ranks - LINEAR_ALL_RANKS) / (LINEAR_ALL_RANKS - LINEAR_ALL_RANKS / 2);
    if (doubles) {
        further = 0;
        for (int reached = LINEAR_ALL_RANKS; reached < ranks; reached += reached) further++;
    }
    *seconds_p = seconds[1] + further * (seconds[1] - seconds[0]);
    return 0;
}
