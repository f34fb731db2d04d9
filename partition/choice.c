#include "partition/choice.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 4, LAYOUTS = LAYOUT_STRIPED + 1, TRY_ALL_RANKS = 64 };

static const char no_grid[] = "no number of columns makes it more than ring or heads alone; say hybrid:RxC";

static const double as_good = 1.01; /* times the least predicted */
static const double clearly_less = 0.9, fewer_pairs = 0.97, far_more_pairs = 1.25;

static int common_divisor(int a, int b)
{
    while (b != 0) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Ranks that may share heads in a hybrid: those of a node, or as many as heads, or key heads, can be dealt to evenly;
 * few ranks also try 2. Columns of 1 or P would be a ring or heads alone. */
static int columns_to_try(const schedule_problem *problem, const choice_wish *wish, int *columns)
{
    const int ranks = problem->query_layout.ranks;
    const int ideas[] = {problem->node_ranks, common_divisor(ranks, problem->heads),
                         common_divisor(ranks, problem->kv_heads), ranks <= TRY_ALL_RANKS ? 2 : 0};
    int count = 0;
    if (wish->columns > 0) {
        columns[0] = wish->columns;
        return 1;
    }
    for (int i = 0; i < MOST_COLUMNS; i++) {
        bool known = ideas[i] <= 1 || ideas[i] >= ranks || ranks % ideas[i] != 0;
        for (int j = 0; j < count; j++) known = known || columns[j] == ideas[i];
        if (!known) columns[count++] = ideas[i];
    }
    if (count == 0) columns[count++] = 0;
    return count;
}

static layout make_layout(layout_kind kind, int64_t block, int64_t tokens, int ranks)
{
    const int64_t grain = block > 0 ? block : layout_default_grain(kind, tokens, ranks);
    return (layout){.kind = kind, .tokens = tokens, .grain = grain, .ranks = ranks};
}

static schedule_problem with_layouts(const schedule_problem *problem, layout_kind kind, int64_t block)
{
    const int ranks = problem->query_layout.ranks;
    schedule_problem p = *problem;
    p.query_layout = make_layout(kind, block, p.mask.queries, ranks);
    p.key_layout = make_layout(kind, block, p.mask.keys, ranks);
    return p;
}

/* Which layouts to try. */
static void layouts_to_try(const schedule_problem *problem, const choice_wish *wish, bool tried[LAYOUTS])
{
    double pairs[LAYOUTS], least = 0;
    int rank;
    for (int kind = 0; kind < LAYOUTS; kind++) tried[kind] = !wish->layout_given || kind == (int)wish->layout;
    if (wish->layout_given || problem->query_layout.ranks <= TRY_ALL_RANKS) return;
    for (int kind = 0; kind < LAYOUTS; kind++) {
        const schedule_problem p = with_layouts(problem, (layout_kind)kind, 0);
        pairs[kind] = prediction_most_pairs(&p, true, &rank);
        tried[kind] = kind == 0 || pairs[kind] < fewer_pairs * least;
        if (tried[kind]) least = pairs[kind];
    }
    for (int kind = 0; kind < LAYOUTS; kind++) tried[kind] = tried[kind] && pairs[kind] <= far_more_pairs * least;
}

/* Fills one choice in; -1 if memory ran out. */
static int consider(const schedule_problem *problem, const choice_wish *wish, const cost_sizes *sizes,
                    const prediction_machine *machine, int64_t memory_bytes, bool has_columns, choice *c)
{
    c->problem = with_layouts(problem, c->layout, wish->block);
    c->problem.columns = c->columns;
    c->refusal = c->strategy->refuse(&c->problem);
    if (!c->refusal && c->columns == 0 && has_columns && !wish->strategy) c->refusal = no_grid;
    if (c->refusal) return 0;
    if (prediction_make(c->strategy, &c->problem, sizes, machine, &c->prediction) != 0) return -1;
    c->fits = memory_bytes <= 0 || c->prediction.memory_bytes <= memory_bytes;
    return 0;
}

static int class_of(const choice *c)
{
    return c->refusal ? 2 : c->fits ? 0 : 1;
}

static int compare_numbers(double a, double b)
{
    return a < b ? -1 : a > b;
}

/* Ties keep no order in qsort: the table's order decides, then the layout's. */
static int compare_choices(const void *first, const void *second)
{
    const choice *a = first, *b = second;
    int order = class_of(a) - class_of(b);
    if (order == 0 && class_of(a) == 0) order = compare_numbers(a->prediction.seconds, b->prediction.seconds);
    if (order == 0 && class_of(a) == 1)
        order = compare_numbers((double)a->prediction.memory_bytes, (double)b->prediction.memory_bytes);
    for (int i = 0; order == 0 && i < strategy_count && a->strategy != b->strategy; i++)
        order = (b->strategy == strategies[i]) - (a->strategy == strategies[i]);
    if (order == 0) order = a->columns - b->columns;
    return order != 0 ? order : (int)a->layout - (int)b->layout;
}

static bool simpler(const choice *a, const choice *b)
{
    const double first = (double)a->prediction.memory_bytes, second = (double)b->prediction.memory_bytes;
    if (first < clearly_less * second) return true;
    if (second < clearly_less * first) return false;
    if (a->layout != b->layout) return a->layout < b->layout;
    return first < second;
}

/* Moves the one to use to the front of the sorted choices. */
static void promote(choice *choices, int count)
{
    int best = 0;
    for (int i = 1; i < count && class_of(&choices[i]) == 0; i++) {
        if (choices[i].prediction.seconds > as_good * choices[0].prediction.seconds) break;
        if (simpler(&choices[i], &choices[best])) best = i;
    }
    const choice chosen = choices[best];
    memmove(&choices[1], &choices[0], (size_t)best * sizeof *choices);
    choices[0] = chosen;
}

int choice_rank(const schedule_problem *problem, const choice_wish *wish, const cost_sizes *sizes,
                const prediction_machine *machine, int64_t memory_bytes, choice **choices_p, int *count_p)
{
    int columns[MOST_COLUMNS], ignored[2], count = 0;
    const int column_count = columns_to_try(problem, wish, columns);
    const strategy *hybrid = strategy_find("hybrid", &ignored[0], &ignored[1]);
    bool tried[LAYOUTS];
    layouts_to_try(problem, wish, tried);
    choice *choices = calloc((size_t)strategy_count * LAYOUTS * MOST_COLUMNS, sizeof *choices);
    if (!choices) return -1;
    for (int i = 0; i < strategy_count; i++) {
        if (wish->strategy ? wish->strategy != strategies[i] : strategies[i]->sparse != (problem->pattern != NULL))
            continue;
        const bool has_columns = strategies[i] == hybrid;
        for (int j = 0; j < (has_columns ? column_count : 1); j++) {
            for (int kind = 0; kind < LAYOUTS; kind++) {
                if (!tried[kind]) continue;
                choice *c = &choices[count++];
                *c = (choice){.strategy = strategies[i], .layout = (layout_kind)kind};
                if (has_columns) c->columns = columns[j];
                if (has_columns && columns[j] > 0) c->rows = problem->query_layout.ranks / columns[j];
                if (consider(problem, wish, sizes, machine, memory_bytes, has_columns, c) == 0) continue;
                free(choices);
                return -1;
            }
        }
    }
    qsort(choices, (size_t)count, sizeof *choices, compare_choices);
    promote(choices, count);
    *choices_p = choices;
    *count_p = count;
    return 0;
}
