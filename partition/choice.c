#include "partition/choice.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_COLUMNS = 3, LAYOUTS = LAYOUT_STRIPED + 1 };

static const double as_good = 1.01; /* times the least predicted */

static int common_divisor(int a, int b)
{
    while (b != 0) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Ranks that may share heads in a hybrid: those of a node, or as many as heads, or key heads, can be dealt to evenly.
 * Columns of 1 or P would be a ring or heads alone. */
static int columns_to_try(const schedule_problem *problem, const choice_wish *wish, int *columns)
{
    const int ranks = problem->query_layout.ranks;
    const int ideas[] = {problem->node_ranks, common_divisor(ranks, problem->heads),
                         common_divisor(ranks, problem->kv_heads)};
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
    if (count == 0) columns[count++] = 0; /* the strategy says what it makes of that */
    return count;
}

static layout make_layout(layout_kind kind, int64_t block, int64_t tokens, int ranks)
{
    const int64_t grain = block > 0 ? block : layout_default_grain(kind, tokens, ranks);
    return (layout){.kind = kind, .tokens = tokens, .grain = grain, .ranks = ranks};
}

/* Fills one choice in; -1 if memory ran out. */
static int consider(const schedule_problem *problem, const choice_wish *wish, const cost_sizes *sizes,
                    const prediction_machine *machine, int64_t memory_bytes, choice *c)
{
    const int ranks = problem->query_layout.ranks;
    c->problem = *problem;
    c->problem.query_layout = make_layout(c->layout, wish->block, problem->mask.queries, ranks);
    c->problem.key_layout = make_layout(c->layout, wish->block, problem->mask.keys, ranks);
    c->problem.columns = c->columns;
    c->refusal = c->strategy->refuse(&c->problem);
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
    if (a->layout != b->layout) return a->layout < b->layout;
    return a->prediction.memory_bytes < b->prediction.memory_bytes;
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
    choice *choices = calloc((size_t)strategy_count * LAYOUTS * MOST_COLUMNS, sizeof *choices);
    if (!choices) return -1;
    for (int i = 0; i < strategy_count; i++) {
        if (wish->strategy && wish->strategy != strategies[i]) continue;
        const bool has_columns = strategies[i] == hybrid;
        for (int j = 0; j < (has_columns ? column_count : 1); j++) {
            for (layout_kind kind = LAYOUT_CONTIGUOUS; kind <= LAYOUT_STRIPED; kind++) {
                if (wish->layout_given && wish->layout != kind) continue;
                choice *c = &choices[count++];
                *c = (choice){.strategy = strategies[i], .layout = kind};
                if (has_columns) c->columns = columns[j];
                if (has_columns && columns[j] > 0) c->rows = problem->query_layout.ranks / columns[j];
                if (consider(problem, wish, sizes, machine, memory_bytes, c) == 0) continue;
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
