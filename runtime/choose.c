/* From a problem to a strategy and a layout: as named, or chosen. */
#include "runtime/plan.h"

#include <stdio.h>
#include <string.h>

/* What the user asked for; NULL and false stand for "auto". */
typedef struct {
    const strategy *strategy;
    int columns; /* of hybrid; 0: not given */
    bool layout_given;
    layout_kind layout;
    int64_t block; /* of striped; 0: not given */
} wishes;

static layout make_layout(const wishes *w, int64_t tokens, int ranks)
{
    const int64_t grain = w->block > 0 ? w->block : layout_default_grain(w->layout, tokens, ranks);
    return (layout){w->layout, tokens, grain, ranks};
}

/* The problem as strategies see it, under these wishes. */
static schedule_problem make_scheduled(const longspan_problem *p, const placement *place, const wishes *w)
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
        .query_layout = make_layout(w, p->queries, place->ranks),
        .key_layout = make_layout(w, p->keys, place->ranks),
        .heads = p->heads,
        .kv_heads = p->kv_heads,
        .node_ranks = place->node_ranks,
        .may_share = place->may_share,
        .columns = w->columns,
    };
}

static void read_wishes(const longspan_problem *p, const placement *place, wishes *w, failure *f)
{
    *w = (wishes){0};
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
}

/* Fills in what the user left open. */
static void choose_automatic(const longspan_problem *p, const placement *place, wishes *w)
{
    /* Under a causal mask a contiguous last rank has (2P - 1) times the work of the first; zigzag is even. */
    if (!w->layout_given) w->layout = p->causal ? LAYOUT_ZIGZAG : LAYOUT_CONTIGUOUS;
    if (w->strategy) return;
    /* Keys that all ranks can read need not travel; else the ring needs three shards of memory whatever P is. */
    int rows, columns;
    if (place->may_share && place->node_ranks == place->ranks) {
        const strategy *shared = strategy_find("shared", &rows, &columns);
        const schedule_problem scheduled = make_scheduled(p, place, w);
        if (shared && !shared->refuse(&scheduled)) {
            w->strategy = shared;
            return;
        }
    }
    w->strategy = strategy_find("ring", &rows, &columns);
}

longspan_status plan_choose(longspan_problem *p, const placement *place, schedule_problem *scheduled_p,
                            const strategy **strategy_p, failure *f)
{
    wishes w;
    problem_fill_defaults(p);
    problem_check(p, f);
    read_wishes(p, place, &w, f);
    if (f->status != LONGSPAN_OK) return f->status;
    choose_automatic(p, place, &w);

    const schedule_problem scheduled = make_scheduled(p, place, &w);
    const char *refusal = w.strategy->refuse(&scheduled);
    if (refusal) return failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "strategy '%s': %s", w.strategy->name, refusal);
    *scheduled_p = scheduled;
    *strategy_p = w.strategy;
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
