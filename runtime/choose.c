/* From a problem to a strategy and a layout: as named, or chosen. */
#include "partition/selected.h"
#include "runtime/entmax.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The problem as strategies see it, but for the layouts' kinds and the columns, which are to be chosen. */
static schedule_problem make_scheduled(const longspan_problem *p, const pattern_sum *pattern, const placement *place)
{
    return (schedule_problem){
        .mask = {.queries = p->queries,
                 .keys = p->keys,
                 .causal = p->causal != 0,
                 .window_left = p->window_left,
                 .window_right = p->window_right,
                 .prefix = p->prefix,
                 .chunk = p->chunk,
                 .chunks_left = p->chunks_left,
                 .chunks_right = p->chunks_right,
                 .documents = p->documents,
                 .document_count = p->document_count},
        .pattern = pattern,
        .query_layout = {.tokens = p->queries, .grain = 1, .ranks = place->ranks},
        .key_layout = {.tokens = p->keys, .grain = 1, .ranks = place->ranks},
        .heads = p->heads,
        .kv_heads = p->kv_heads,
        .node_ranks = place->node_ranks,
        .may_share = place->may_share,
        .share_off = place->share_off,
        .states_stay = p->alpha != 0,
    };
}

static void read_wishes(const longspan_problem *p, const placement *place, choice_wish *w, failure *f)
{
    *w = (choice_wish){0};
    if (strcmp(p->strategy, "auto") != 0) {
        int rows = 0;
        w->strategy = strategy_find(p->strategy, &rows, &w->columns);
        if (!w->strategy) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "strategy '%s' is not known", p->strategy);
        else if (rows > 0 && (int64_t)rows * w->columns != place->ranks)
            failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "strategy '%s' is for %lld ranks, but there are %d", p->strategy,
                        (long long)rows * w->columns, place->ranks);
    }
    w->layout_given = strcmp(p->layout, "auto") != 0;
    if (w->layout_given && !layout_from_name(p->layout, &w->layout, &w->block))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "layout '%s' is not known", p->layout);
    if (!p->pattern) return;
    /* The only one that a sparse pattern goes with. */
    if (!w->layout_given) w->layout = LAYOUT_CONTIGUOUS;
    w->layout_given = true;
}

cost_sizes plan_sizes(const longspan_problem *p)
{
    const int64_t element = (int64_t)number_size((kernel_type)p->type), word = (int64_t)sizeof(float);
    const int64_t out_element = (int64_t)number_size((kernel_type)p->out_type);
    const int64_t known = p->alpha != 0 ? entmax_row_bytes(p) : 0;
    return (cost_sizes){
        .row_bytes = {[ROWS_KEYS] = p->batch * (p->dim + p->value_dim) * element,
                      [ROWS_QUERIES] = p->batch * p->dim * element,
                      [ROWS_STATES] = p->batch * ((p->value_dim + 2) * word + known)},
        .output_bytes = p->batch * (p->value_dim * out_element + word),
        .flops_per_pair = 2.0 * problem_pair_elements(p) * (double)p->batch,
        .batch = p->batch,
        .tensor_bytes = {[ROWS_KEYS] = {p->dim * element, p->value_dim * element},
                         [ROWS_QUERIES] = {p->dim * element},
                         [ROWS_STATES] = {p->value_dim * word, word, word}},
    };
}

/* The machine for a problem whose batch items end early: schedules know only the mask, under which all keys exist, so a
 * score takes the less time. */
static prediction_machine machine_for(const prediction_machine *machine, const longspan_problem *p)
{
    prediction_machine m = *machine;
    if (!p->key_lengths) return m;
    double keys = 0;
    for (int64_t b = 0; b < p->batch; b++) keys += (double)p->key_lengths[b];
    const double share = keys / ((double)p->batch * (double)p->keys);
    m.score_seconds *= share;
    m.product_seconds *= share;
    for (int i = 0; i < PREDICTION_FEW; i++) m.few_seconds[i] *= share;
    return m;
}

schedule_problem plan_scheduled(const longspan_problem *p, const placement *place)
{
    schedule_problem scheduled = make_scheduled(p, NULL, place);
    layout *const axes[] = {&scheduled.query_layout, &scheduled.key_layout};
    for (int i = 0; i < 2; i++)
        axes[i]->grain = layout_default_grain(LAYOUT_CONTIGUOUS, axes[i]->tokens, axes[i]->ranks);
    return scheduled;
}

longspan_status plan_rank(const longspan_problem *p, const pattern_sum *pattern, const placement *place,
                          choice **choices_p, int *count_p, failure *f)
{
    choice_wish wish;
    read_wishes(p, place, &wish, f);
    if (f->status != LONGSPAN_OK) return f->status;

    const schedule_problem scheduled = make_scheduled(p, pattern, place);
    const cost_sizes sizes = plan_sizes(p);
    const prediction_machine machine = machine_for(&place->machine, p);
    choice *choices;
    int count;
    if (choice_rank(&scheduled, &wish, &sizes, &machine, place->memory_bytes, &choices, &count) != 0)
        return failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the choice of a strategy");
    const choice *first = &choices[0];
    if (first->refusal) {
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "strategy '%s': %s", first->strategy->name, first->refusal);
        free(choices);
        return f->status;
    }
    *choices_p = choices;
    *count_p = count;
    return LONGSPAN_OK;
}

longspan_status plan_choose(const longspan_problem *p, const pattern_sum *pattern, const placement *place,
                            schedule_problem *scheduled_p, const strategy **strategy_p, double *seconds_p, failure *f)
{
    choice *choices;
    int count;
    if (plan_rank(p, pattern, place, &choices, &count, f) != LONGSPAN_OK) return f->status;
    *scheduled_p = choices[0].problem;
    *strategy_p = choices[0].strategy;
    *seconds_p = choices[0].prediction.seconds;
    free(choices);
    return LONGSPAN_OK;
}

longspan_status plan_predict(const longspan_plan *plan, prediction *prediction_p, failure *f)
{
    const cost_sizes sizes = plan_sizes(&plan->problem);
    const prediction_machine machine = machine_for(&plan->machine, &plan->problem);
    if (plan->strategy == &strategy_selected) {
        *prediction_p = prediction_of_rank(plan->schedule, &plan->scheduled, &sizes, &machine);
        return LONGSPAN_OK;
    }
    if (prediction_make(plan->strategy, &plan->scheduled, &sizes, &machine, prediction_p) != 0)
        return failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for a prediction");
    return LONGSPAN_OK;
}

plan_names plan_name_choice(const schedule_problem *scheduled, const strategy *strategy)
{
    plan_names names;
    const layout *l = &scheduled->query_layout;
    int columns = scheduled->columns;
    if (columns == 0 && strcmp(strategy->name, "hybrid") == 0) columns = scheduled->node_ranks;
    if (columns > 0) snprintf(names.strategy, PLAN_NAME_MAX, "%s:%dx%d", strategy->name, l->ranks / columns, columns);
    else snprintf(names.strategy, PLAN_NAME_MAX, "%s", strategy->name);
    if (l->kind == LAYOUT_STRIPED) snprintf(names.layout, PLAN_NAME_MAX, "striped:%lld", (long long)l->grain);
    else snprintf(names.layout, PLAN_NAME_MAX, "%s", layout_name(l->kind));
    return names;
}
