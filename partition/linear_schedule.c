/* Building blocks of the schedules of linear attention: what every strategy needs and none should write again. */
#include "partition/linear_schedule.h"

#include "partition/grown.h"
#include "partition/mask.h"

#include <stdlib.h>

static const int64_t LONGEST = (int64_t)1 << 60;

/* Which tokens a token shares its document with is what a mask of documents alone says. */
static mask documents_of(const linear_schedule_problem *problem)
{
    mask m = mask_full(problem->layout.tokens, problem->layout.tokens);
    m.documents = problem->documents;
    m.document_count = problem->document_count;
    return m;
}

const char *linear_problem_fault(const linear_schedule_problem *problem)
{
    const layout *l = &problem->layout;
    if (l->ranks < 1) return "there is no rank";
    if (l->grain < 1) return "the grain of the layout is less than one token";
    if (l->kind != LAYOUT_CONTIGUOUS) return "states travel in the order of the ranks: the layout must be contiguous";
    if (l->tokens < 0) return "a length is negative";
    if (l->tokens > LONGEST) return "a length is more than 2^60 tokens";
    if (problem->units < 1) return "there is no head";
    if (problem->stage_units < 1) return "a stage has no unit";
    const mask m = documents_of(problem);
    return mask_documents_fault(&m);
}

/* Who depends on whom. */

/* The document that a token is in. */
static range document_at(const linear_schedule_problem *problem, int64_t token)
{
    const mask m = documents_of(problem);
    return mask_row(&m, token);
}

/* A contiguous layout has a chunk a rank, of the same number. */
static range tokens_of(const linear_schedule_problem *problem, int rank)
{
    return layout_chunk(&problem->layout, rank);
}

static int rank_of(const linear_schedule_problem *problem, int64_t token)
{
    return (int)layout_chunk_of_token(&problem->layout, token);
}

int linear_first_contributor(const linear_schedule_problem *problem, int rank)
{
    const range tokens = tokens_of(problem, rank);
    if (range_is_empty(tokens)) return rank;
    return rank_of(problem, document_at(problem, tokens.begin).begin);
}

int linear_last_reader(const linear_schedule_problem *problem, int rank)
{
    const range tokens = tokens_of(problem, rank);
    if (range_is_empty(tokens)) return rank;
    return rank_of(problem, document_at(problem, tokens.end - 1).end - 1);
}

bool linear_has_one_piece(const linear_schedule_problem *problem, int rank)
{
    const range tokens = tokens_of(problem, rank);
    return range_is_empty(tokens) || document_at(problem, tokens.begin).end >= tokens.end;
}

int64_t linear_document_length(const linear_schedule_problem *problem, int64_t token)
{
    return range_length(document_at(problem, token));
}

int linear_first_rank(const linear_schedule_problem *problem)
{
    return problem->layout.tokens == 0 ? problem->layout.ranks : rank_of(problem, 0);
}

/* Stages. */

int64_t linear_stage_count(const linear_schedule_problem *problem)
{
    return problem->units / problem->stage_units + (problem->units % problem->stage_units != 0);
}

range linear_stage(const linear_schedule_problem *problem, int64_t stage)
{
    const int64_t begin = stage * problem->stage_units;
    const int64_t left = problem->units - begin;
    return (range){begin, begin + (left < problem->stage_units ? left : problem->stage_units)};
}

/* Schedules. */

linear_schedule *linear_schedule_create(int rank, int64_t steps)
{
    linear_schedule *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    *s = (linear_schedule){.rank = rank, .step_count = steps, .initial_buffer = -1, .final_buffer = -1};
    s->steps = calloc(steps > 0 ? (size_t)steps : 1, sizeof *s->steps);
    if (!s->steps) {
        free(s);
        return NULL;
    }
    return s;
}

void linear_schedule_destroy(linear_schedule *s)
{
    if (!s) return;
    for (int64_t i = 0; i < s->step_count; i++) {
        free(s->steps[i].transfers);
        free(s->steps[i].actions);
    }
    free(s->steps);
    free(s);
}

int linear_add_transfer(linear_schedule *s, int64_t step, linear_transfer transfer)
{
    linear_step *at = &s->steps[step];
    linear_transfer *transfers = grown(at->transfers, at->transfer_count, sizeof *transfers);
    if (!transfers) return -1;
    at->transfers = transfers;
    at->transfers[at->transfer_count++] = transfer;
    return 0;
}

int linear_add_action(linear_schedule *s, int64_t step, linear_action action)
{
    linear_step *at = &s->steps[step];
    linear_action *actions = grown(at->actions, at->action_count, sizeof *actions);
    if (!actions) return -1;
    at->actions = actions;
    at->actions[at->action_count++] = action;
    return 0;
}

int linear_begin(linear_schedule *s, int64_t step, range units, int buffer)
{
    const linear_action clear = {LINEAR_CLEAR, units, buffer, -1};
    return s->initial_buffer == buffer ? 0 : linear_add_action(s, step, clear);
}

int linear_begin_and_fold(linear_schedule *s, int64_t step, range units, int buffer)
{
    const linear_action fold = {LINEAR_FOLD, units, buffer, -1};
    if (linear_begin(s, step, units, buffer) != 0) return -1;
    return linear_add_action(s, step, fold);
}

static void raise_buffers(linear_schedule *s, int buffer)
{
    if (s->buffers <= buffer) s->buffers = buffer + 1;
}

static void count_buffers(linear_schedule *s)
{
    for (int64_t i = 0; i < s->step_count; i++) {
        const linear_step *step = &s->steps[i];
        for (int64_t j = 0; j < step->transfer_count; j++) raise_buffers(s, step->transfers[j].buffer);
        for (int64_t j = 0; j < step->action_count; j++) {
            raise_buffers(s, step->actions[j].buffer);
            raise_buffers(s, step->actions[j].other);
        }
    }
}

int linear_schedule_finish(linear_schedule *s, int result, linear_schedule **schedule_p)
{
    if (result != 0) {
        linear_schedule_destroy(s);
        return result;
    }
    while (s->step_count > 0) {
        const linear_step *last = &s->steps[s->step_count - 1];
        if (last->transfer_count + last->action_count > 0) break;
        s->step_count--;
    }
    count_buffers(s);
    *schedule_p = s;
    return 0;
}
