/* Which way states travel: as named, or the one that is predicted to be fastest. */
#include "runtime/linear_plan.h"

#include <string.h>

enum { MOST_STAGES = 256 };

linear_schedule_problem linear_plan_scheduled(const longspan_linear_problem *p, const placement *place, int threads,
                                              bool summarises)
{
    const linear_shape shape = linear_problem_shape(p, summarises);
    const int64_t units = linear_units(&shape), rounds = (units + threads - 1) / threads;
    const int64_t stage = threads * ((rounds + MOST_STAGES - 1) / MOST_STAGES);
    return (linear_schedule_problem){
        .layout = {.kind = LAYOUT_CONTIGUOUS, .tokens = p->tokens, .grain = LINEAR_CHUNK, .ranks = place->ranks},
        .documents = p->documents,
        .document_count = p->document_count,
        .causal = p->causal != 0,
        .units = units,
        .stage_units = place->ranks > 1 ? stage : units,
        .leads = !place->cores_shared,
        .late = shape.variant->map != LINEAR_MAP_EFFICIENT,
    };
}

/* What erasing costs a head and chunk of n tokens. */
static double erase_flops(const linear_shape *shape, double n)
{
    const double features = linear_feature_dim(shape), width = linear_width(shape);
    return n * (n - 1) * (features + width) + 2 * n * features * width;
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
        if (shape->variant->erases) flops += erase_flops(shape, n);
    }
    return flops * (double)shape->batch * shape->heads;
}

linear_sizes linear_plan_sizes(const longspan_linear_problem *p, const linear_schedule_problem *scheduled,
                               const placement *place)
{
    const linear_shape state = linear_problem_shape(p, false), summary = linear_problem_shape(p, true);
    const double flop = place->machine.product_seconds / 2, units = (double)scheduled->units;
    const double features = linear_feature_dim(&state), width = linear_width(&state);
    const double heads = (double)state.batch * state.heads, erases = state.variant->erases;
    linear_sizes sizes = {.state_bytes = (int64_t)(linear_state_size(&state) * sizeof(double)),
                          .summary_bytes = (int64_t)(linear_state_size(&summary) * sizeof(double))};
    sizes.apply_seconds = flop * 2 * features * width * heads / units;
    sizes.fold_seconds = flop * linear_plan_flops(&state, p->causal, (range){0, LINEAR_CHUNK}) / LINEAR_CHUNK / units;
    /* Of a chunk's flops, those that are for outputs alone are not done. */
    sizes.lead_seconds = flop * (2 * features * width + erases * erase_flops(&state, LINEAR_CHUNK) / LINEAR_CHUNK) *
                         heads / units;
    /* The transition of the delta rule has as many columns more as there are features. */
    sizes.summarise_seconds =
        scheduled->causal ? sizes.fold_seconds * (1 + erases * features / (features + width)) : sizes.apply_seconds;
    /* Products of float64 have half the speed; else two states are read and one written. */
    sizes.compose_seconds = erases > 0 ? 4 * flop * features * features * (features + width) * heads / units
                                       : 3 * (double)sizes.summary_bytes / place->machine.memory_bandwidth;
    return sizes;
}

/* Of q, k, v, what decays and writes, and out, of all batch items: a token. */
static int64_t token_bytes(const longspan_linear_problem *p, const linear_shape *shape)
{
    const int64_t element = (int64_t)number_size((kernel_type)p->type);
    const int64_t out_element = (int64_t)number_size((kernel_type)p->out_type), word = (int64_t)sizeof(float);
    const int64_t given = (int64_t)(p->heads + p->k_heads) * p->dim + (int64_t)p->v_heads * p->value_dim;
    int64_t words = shape->variant->has_beta ? shape->heads : 0;
    if (shape->variant->decay == LINEAR_DECAY_TOKEN) words += shape->heads;
    if (shape->variant->decay == LINEAR_DECAY_FEATURE) words += (int64_t)shape->heads * p->dim;
    return p->batch * (given * element + (int64_t)shape->heads * p->value_dim * out_element + words * word);
}

/* As linear_offer has it. */
static int64_t memory_of(const linear_schedule *s, const longspan_linear_problem *p,
                         const linear_schedule_problem *scheduled, const linear_sizes *sizes)
{
    const linear_shape shape = linear_problem_shape(p, s->summarises);
    const int64_t tokens = layout_rank_tokens(&scheduled->layout, s->rank), rows = shape.batch * shape.heads * tokens;
    linear_cost cost;
    linear_cost_of(s, scheduled, sizes, &cost);
    return tokens * token_bytes(p, &shape) + cost.buffer_bytes +
           (s->summarises ? rows * linear_partial_width(&shape) * (int64_t)sizeof(float) : 0);
}

/* Of the last two ranks, which have as many tokens as any: one that sends and one that does not. 0, or -1 if memory ran
 * out. */
static int look_at_memory(const linear_strategy *strategy, const longspan_linear_problem *p,
                          const linear_schedule_problem *scheduled, const linear_sizes *sizes, int64_t *bytes_p)
{
    const int ranks = scheduled->layout.ranks;
    *bytes_p = 0;
    for (int rank = ranks > 1 ? ranks - 2 : 0; rank < ranks; rank++) {
        linear_schedule *schedule;
        if (strategy->plan(scheduled, rank, &schedule) != 0) return -1;
        const int64_t bytes = memory_of(schedule, p, scheduled, sizes);
        if (bytes > *bytes_p) *bytes_p = bytes;
        linear_schedule_destroy(schedule);
    }
    return 0;
}

longspan_status linear_plan_predict(const longspan_linear_problem *p, const linear_strategy *strategy,
                                    const placement *place, int threads, linear_offer *offer_p, failure *f)
{
    static const char *const no_memory = "no memory for the choice of a strategy";
    linear_schedule_problem scheduled = linear_plan_scheduled(p, place, threads, false);
    linear_schedule *schedule = NULL;
    *offer_p = (linear_offer){.strategy = strategy, .refusal = strategy->refuse(&scheduled)};
    if (offer_p->refusal) return LONGSPAN_OK;
    if (strategy->plan(&scheduled, place->ranks - 1, &schedule) != 0)
        return failure_set(f, LONGSPAN_ERROR_MEMORY, no_memory);
    /* Where states carry their transitions there may be other units. */
    offer_p->summarises = schedule->summarises;
    linear_schedule_destroy(schedule);
    scheduled = linear_plan_scheduled(p, place, threads, offer_p->summarises);
    const linear_sizes sizes = linear_plan_sizes(p, &scheduled, place);
    if (look_at_memory(strategy, p, &scheduled, &sizes, &offer_p->memory_bytes) != 0 ||
        linear_predict(strategy, &scheduled, &sizes, &place->machine, place->node_ranks, &offer_p->seconds) != 0)
        return failure_set(f, LONGSPAN_ERROR_MEMORY, no_memory);
    return LONGSPAN_OK;
}

/* Of what does not fit the smallest is better, else the fastest. */
static bool is_better(const linear_offer *a, const linear_offer *b, int64_t memory_bytes)
{
    if (a->refusal || b->refusal) return !a->refusal;
    const bool a_fits = memory_bytes == 0 || a->memory_bytes <= memory_bytes;
    const bool b_fits = memory_bytes == 0 || b->memory_bytes <= memory_bytes;
    if (a_fits != b_fits) return a_fits;
    return a_fits ? a->seconds < b->seconds : a->memory_bytes < b->memory_bytes;
}

longspan_status linear_plan_choose(const longspan_linear_problem *p, const placement *place, int threads,
                                   linear_offer *offer_p, failure *f)
{
    const bool any = strcmp(p->strategy, "auto") == 0;
    const linear_strategy *named = any ? linear_strategies[0] : linear_strategy_find(p->strategy);
    if (!named) return failure_set(f, LONGSPAN_ERROR_ARGUMENT, "strategy '%s' is not known", p->strategy);
    if (linear_plan_predict(p, named, place, threads, offer_p, f) != LONGSPAN_OK) return f->status;
    for (int i = 1; any && i < linear_strategy_count; i++) {
        linear_offer other;
        if (linear_plan_predict(p, linear_strategies[i], place, threads, &other, f) != LONGSPAN_OK) return f->status;
        if (is_better(&other, offer_p, place->memory_bytes)) *offer_p = other;
    }
    if (!offer_p->refusal) return LONGSPAN_OK;
    return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "strategy '%s' with attention '%s': %s", offer_p->strategy->name,
                       p->attention, offer_p->refusal);
}
