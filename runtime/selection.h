/* The blocks of keys that queries see, chosen before the plan is made (partition/selection.h). */
#ifndef RUNTIME_SELECTION_H
#define RUNTIME_SELECTION_H

#include "partition/patterns.h"
#include "partition/schedule.h"
#include "runtime/context.h"

struct longspan_selection {
    longspan_context *context;
    char pattern[PATTERN_TEXT_SIZE]; /* that it was made for */
    int64_t queries, keys;
    int heads, kv_heads;
    selection chosen; /* of this rank's queries; asked is the plan's to fill in */
};

/* Not collective. Is a problem's pattern one whose blocks are a selection? *choice_p then says which, and with what
 * numbers; a pattern that cannot be read is none. */
bool selection_is_wanted(const longspan_problem *problem, pattern_choice *choice_p);
/* Not collective. What a selection goes with, of a complete problem; of a pattern whose blocks are one. */
longspan_status selection_check(const longspan_problem *problem, const pattern_choice *choice, failure *f);
/* Not collective. Was the selection of a complete problem, if it has one, made for it? */
longspan_status selection_fits(const longspan_context *context, const longspan_problem *problem, failure *f);
/* Not collective. The layout of an axis under a selection: contiguous. */
layout selection_layout(const longspan_context *context, int64_t tokens);
/* Collective. The problem with its defaults, equal on all ranks, and with a pattern whose blocks are a selection. */
longspan_status selection_begin(longspan_context *context, const longspan_problem *problem,
                                longspan_problem *complete_p, pattern_choice *choice_p, failure *f);
/* Not collective. An empty selection with room for its lists; NULL, with the reason in *f, if memory ran out. */
longspan_selection *selection_make(longspan_context *context, const longspan_problem *problem, int64_t size, int lists,
                                   int64_t most, failure *f);
/* Not collective. Pairs of this rank, of all its heads, that the lists and the mask let queries see. */
double selection_pairs(const longspan_selection *s, const mask *m);

/* Not collective. The `most` blocks of a range with the highest scores, of equal ones the first and NaN as -inf, in
 * ascending order into `chosen`; how many. `best` is room for as many. */
int64_t selection_best(const double *scores, range blocks, int64_t most, int32_t *best, int32_t *chosen);

/* Collective. The problem as its strategy sees it, with this rank's lists and what others ask for in *own_p, whose
 * array `asked` is to be freed: each rank tells the others once which runs of keys it needs. Agrees on *f. */
longspan_status selection_schedule(longspan_context *context, const longspan_problem *problem,
                                   const schedule_problem *plain, selection *own_p, failure *f);

#endif
