/* Which way states travel: as named, or the one that is predicted to be fastest.
 *
 * The prediction walks the schedule of the rank with the last token, which waits for all others: a step takes what its
 * actions and transfers take, whichever is longer, as in partition/prediction.h. Where outputs are finished by the fold
 * itself, the state that it begins with has gone through a stage of each rank before: that comes on top. */
#include "runtime/linear_plan.h"

#include <string.h>

enum { MOST_STAGES = 256 };

linear_schedule_problem linear_plan_scheduled(const longspan_linear_problem *p, int ranks, int threads, bool summarises)
{
    const linear_shape shape = linear_problem_shape(p, summarises);
    const int64_t units = linear_units(&shape), rounds = (units + threads - 1) / threads;
    const int64_t stage = threads * ((rounds + MOST_STAGES - 1) / MOST_STAGES);
    return (linear_schedule_problem){
        .layout = {.kind = LAYOUT_CONTIGUOUS, .tokens = p->tokens, .grain = LINEAR_CHUNK, .ranks = ranks},
        .documents = p->documents,
        .document_count = p->document_count,
        .causal = p->causal != 0,
        .units = units,
        .stage_units = ranks > 1 ? stage : units,
        .late = shape.variant->map != LINEAR_MAP_EFFICIENT,
    };
}

double linear_plan_flops(const linear_shape *shape, bool causal, range tokens)
{
    const double features = linear_feature_dim(shape), width = linear_width(shape);
    const double compared = shape->variant->map == LINEAR_MAP_BASED ? shape->dim : features;
    const double all = (double)range_length(tokens);
    double flops = 4 * all * features * width;
    for (int64_t begin = tokens.begin, end; causal && begin < tokens.end; begin = end) {
        end = (begin / LINEAR_CHUNK + 1) * LINEAR_CHUNK;
        if (end > tokens.end) end = tokens.end;
        const double n = (double)(end - begin);
        flops += n * (n + 1) * (compared + width);
        if (shape->variant->erases) flops += n * (n - 1) * (features + width) + 2 * n * features * width;
    }
    return flops * (double)shape->batch * shape->heads;
}

/* What the rank of a prediction works with. Seconds are of one unit. */
typedef struct {
    linear_shape shape;
    double fold, summarise, pass, compose, copy; /* pass: over the tokens, for apply, sum or read */
    double state_bytes;
    const prediction_machine *machine;
    const prediction_link *link;
} prediction_rates;

static prediction_rates rates_of(const longspan_linear_problem *p, const linear_schedule_problem *scheduled,
                                 const placement *place, bool summarises)
{
    prediction_rates r = {.shape = linear_problem_shape(p, summarises),
                          .machine = &place->machine,
                          .link = place->node_ranks < place->ranks ? &place->machine.network : &place->machine.node};
    const double flop = place->machine.product_seconds / 2, units = (double)scheduled->units;
    const double features = linear_feature_dim(&r.shape), width = linear_width(&r.shape);
    const double heads = (double)r.shape.batch * r.shape.heads, erases = r.shape.variant->erases;
    const range tokens = layout_chunk(&scheduled->layout, place->ranks - 1);
    const double all = (double)range_length(tokens);
    r.state_bytes = (double)(linear_state_size(&r.shape) * sizeof(double));
    r.fold = flop * linear_plan_flops(&r.shape, scheduled->causal, tokens) / units;
    r.summarise = r.fold * (1 + erases * features / (features + width));
    r.pass = flop * 2 * all * features * width * heads / units;
    r.copy = 3 * r.state_bytes / place->machine.memory_bandwidth;
    /* Products of float64 have half the speed. */
    r.compose = erases > 0 ? 4 * flop * features * features * (features + width) * heads / units : r.copy;
    return r;
}

static double action_seconds(const prediction_rates *r, const linear_action *action)
{
    const double units = (double)range_length(action->units);
    switch (action->kind) {
    case LINEAR_FOLD:
        return units * r->fold;
    case LINEAR_SUMMARISE:
        return units * r->summarise;
    case LINEAR_APPLY:
    case LINEAR_SUM:
    case LINEAR_READ:
        return units * r->pass;
    case LINEAR_COMPOSE:
        return units * r->compose;
    case LINEAR_CLEAR:
    case LINEAR_COPY:
    case LINEAR_ADD:
        break;
    }
    return units * r->copy;
}

static double step_seconds(const prediction_rates *r, const linear_step *step, linear_choice *choice)
{
    double work = 0, bytes[2] = {0}, messages[2] = {0};
    for (int64_t i = 0; i < step->action_count; i++) work += action_seconds(r, &step->actions[i]);
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const linear_transfer *t = &step->transfers[i];
        bytes[t->direction == TRANSFER_SEND] += (double)range_length(t->units) * r->state_bytes;
        messages[t->direction == TRANSFER_SEND]++;
    }
    choice->bytes_received += (int64_t)bytes[0];
    choice->bytes_sent += (int64_t)bytes[1];
    const double most_bytes = bytes[0] > bytes[1] ? bytes[0] : bytes[1];
    const double most_messages = messages[0] > messages[1] ? messages[0] : messages[1];
    const double transfer = r->link->latency * most_messages + most_bytes / r->link->bandwidth;
    const double busy = work + r->link->busy * transfer;
    if (step->action_count + step->transfer_count == 0) return 0;
    return r->machine->step_seconds + (busy > transfer ? busy : transfer);
}

/* The longest way of a state through the ranks before: a stage of each. */
static double delay_of(const prediction_rates *r, const linear_schedule_problem *scheduled)
{
    const int last = scheduled->layout.ranks - 1;
    const double hops = last - linear_first_contributor(scheduled, last), units = (double)scheduled->stage_units;
    return hops * units * (r->fold + r->state_bytes / r->link->bandwidth) + hops * r->link->latency;
}

static int64_t memory_of(const linear_schedule *s, const prediction_rates *r, const linear_schedule_problem *scheduled)
{
    const double rows = (double)range_length(layout_chunk(&scheduled->layout, s->rank)) * (double)r->shape.batch;
    const double partial = s->summarises ? rows * r->shape.heads * linear_partial_width(&r->shape) * 4 : 0;
    return (int64_t)((double)s->buffers * (double)scheduled->units * r->state_bytes + partial);
}

/* The schedule of the last rank, and of which shape: where states carry their transitions there may be other units. */
static int plan_last(const longspan_linear_problem *p, const linear_strategy *way, const placement *place, int threads,
                     linear_schedule_problem *scheduled_p, linear_schedule **schedule_p)
{
    *scheduled_p = linear_plan_scheduled(p, place->ranks, threads, false);
    if (way->plan(scheduled_p, place->ranks - 1, schedule_p) != 0) return -1;
    if (!(*schedule_p)->summarises) return 0;
    const linear_schedule_problem other = linear_plan_scheduled(p, place->ranks, threads, true);
    if (other.units == scheduled_p->units) return 0;
    *scheduled_p = other;
    linear_schedule_destroy(*schedule_p);
    *schedule_p = NULL;
    return way->plan(scheduled_p, place->ranks - 1, schedule_p);
}

longspan_status linear_plan_predict(const longspan_linear_problem *p, const linear_strategy *strategy,
                                    const placement *place, int threads, linear_choice *choice_p, failure *f)
{
    linear_schedule_problem scheduled = linear_plan_scheduled(p, place->ranks, threads, false);
    linear_schedule *schedule = NULL;
    *choice_p = (linear_choice){.strategy = strategy, .refusal = strategy->refuse(&scheduled)};
    if (choice_p->refusal) return LONGSPAN_OK;
    if (plan_last(p, strategy, place, threads, &scheduled, &schedule) != 0)
        return failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the choice of a strategy");
    choice_p->summarises = schedule->summarises;
    const prediction_rates rates = rates_of(p, &scheduled, place, schedule->summarises);
    for (int64_t i = 0; i < schedule->step_count; i++)
        choice_p->seconds += step_seconds(&rates, &schedule->steps[i], choice_p);
    if (p->causal && !schedule->summarises) choice_p->seconds += delay_of(&rates, &scheduled);
    choice_p->memory_bytes = memory_of(schedule, &rates, &scheduled);
    linear_schedule_destroy(schedule);
    return LONGSPAN_OK;
}

/* Of what does not fit the smallest is better, else the fastest. */
static bool is_better(const linear_choice *a, const linear_choice *b, int64_t memory_bytes)
{
    if (a->refusal || b->refusal) return !a->refusal;
    const bool a_fits = memory_bytes == 0 || a->memory_bytes <= memory_bytes;
    const bool b_fits = memory_bytes == 0 || b->memory_bytes <= memory_bytes;
    if (a_fits != b_fits) return a_fits;
    return a_fits ? a->seconds < b->seconds : a->memory_bytes < b->memory_bytes;
}

longspan_status linear_plan_choose(const longspan_linear_problem *p, const placement *place, int threads,
                                   linear_choice *choice_p, failure *f)
{
    const bool any = strcmp(p->strategy, "auto") == 0;
    const linear_strategy *named = any ? linear_strategies[0] : linear_strategy_find(p->strategy);
    if (!named) return failure_set(f, LONGSPAN_ERROR_ARGUMENT, "strategy '%s' is not known", p->strategy);
    if (linear_plan_predict(p, named, place, threads, choice_p, f) != LONGSPAN_OK) return f->status;
    for (int i = 1; any && i < linear_strategy_count; i++) {
        linear_choice other;
        if (linear_plan_predict(p, linear_strategies[i], place, threads, &other, f) != LONGSPAN_OK) return f->status;
        if (is_better(&other, choice_p, place->memory_bytes)) *choice_p = other;
    }
    if (!choice_p->refusal) return LONGSPAN_OK;
    return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "strategy '%s' with attention '%s': %s", choice_p->strategy->name,
                       p->attention, choice_p->refusal);
}
