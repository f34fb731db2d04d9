/* The scan: ranks double, round by round, the run of ranks whose tokens they have summarised.
 *
 * Source: Hillis and Steele, "Data parallel algorithms", CACM 29(12), 1986, made exclusive as in Blelloch,
 * "Prefix sums and their applications", CMU-CS-90-190; for recurrences Martin and Cundy, "Parallelizing linear
 * recurrent neural nets over sequence length", arXiv 1709.04057.
 *
 * Before round k rank r has the window W of ranks (r - 2^k, r] and the past E of ranks (r - 2^k, r), both composed in
 * the order of the ranks. In the round it
 *
 *     sends W to rank r + 2^k, and receives that of rank r - 2^k, R,
 *     then E' = E o R, what came before first, and W' = W o R.
 *
 * After the last round E is what came before the rank: it is applied to the rank's tokens. A window ends, on the left,
 * where the document of its last token begins, since nothing before matters to those who read it: a rank receives in
 * round k only if its document reaches back to rank r - 2^k, extends W only if all its own tokens are of that document,
 * and sends W only to a rank that its last document reaches. What is not sent later is not composed: E' is the first R
 * itself, and a rank whose W goes nowhere any more composes once a round.
 *
 * A stage of units has its tokens summarised in step s, round k travels in step s + 1 + 2k and is composed in step
 * s + 2 + 2k: rounds of different stages travel at once. A rank whose first token begins a document, or the stream,
 * folds instead, as in linear_gather.c.
 *
 * At most four buffers, whatever P is. States that a rank sends, and receives: ceil(log2 P) at most; as many as there
 * are k >= 0 with 2^k <= the number of its readers (contributors). Held by tests/partition/test_linear_schedule.c. */
#include "partition/linear_schedule.h"

enum { BUFFERS = 4, NONE = -1 };

/* Of a rank: which it is, and which buffer holds what after the rounds so far. */
typedef struct {
    int first, last; /* contributor, reader */
    bool goes_on;    /* the window reaches back beyond the rank */
    int window, past;
    int spare[BUFFERS];
    int spares;
} scan_state;

static int take_spare(scan_state *at)
{
    return at->spare[--at->spares];
}

static void give_back(scan_state *at, int buffer)
{
    if (buffer != NONE) at->spare[at->spares++] = buffer;
}

static int add_compose(linear_schedule *s, int64_t step, range units, int buffer, int later)
{
    return linear_add_action(s, step, (linear_action){LINEAR_COMPOSE, units, buffer, later});
}

/* What has been received becomes part of the past, and of the window if that is sent in a later round. */
static int take_in(linear_schedule *s, int64_t step, range units, scan_state *at, int received, bool window_is_sent)
{
    if (window_is_sent && at->goes_on) {
        const int window = take_spare(at);
        const linear_action copy = {LINEAR_COPY, units, window, received};
        if (linear_add_action(s, step, copy) != 0) return -1;
        if (add_compose(s, step, units, window, at->window) != 0) return -1;
        give_back(at, at->window);
        at->window = window;
    }
    if (at->past != NONE && add_compose(s, step, units, received, at->past) != 0) return -1;
    give_back(at, at->past);
    at->past = received;
    return 0;
}

static int plan_rounds(linear_schedule *s, int64_t step, range units, scan_state *at)
{
    const int64_t readers = at->last - s->rank, contributors = s->rank - at->first;
    for (int64_t distance = 1; distance <= readers || distance <= contributors; distance *= 2, step += 2) {
        const linear_transfer out = {TRANSFER_SEND, s->rank + (int)distance, units, at->window};
        if (distance <= readers && linear_add_transfer(s, step, out) != 0) return -1;
        if (distance > contributors) continue;
        const int received = take_spare(at);
        const linear_transfer in = {TRANSFER_RECEIVE, s->rank - (int)distance, units, received};
        if (linear_add_transfer(s, step, in) != 0) return -1;
        if (take_in(s, step + 1, units, at, received, 2 * distance <= readers) != 0) return -1;
        if (2 * distance > contributors &&
            linear_add_action(s, step + 1, (linear_action){LINEAR_APPLY, units, at->past, -1}) != 0)
            return -1;
    }
    return 0;
}

/* The state after the last token. Its rank has no readers, so its window is its own tokens' still. */
static int plan_final(linear_schedule *s, int64_t step, range units, const scan_state *at)
{
    s->final_buffer = at->goes_on ? at->past : at->window;
    return at->goes_on ? add_compose(s, step, units, at->past, at->window) : 0;
}

/* Rounds in which a rank receives: as many k >= 0 as have 2^k <= contributors. */
static int64_t rounds_of(int64_t contributors)
{
    int64_t rounds = 0;
    while (contributors >> rounds > 0) rounds++;
    return rounds;
}

static int plan_stage(linear_schedule *s, const linear_schedule_problem *problem, scan_state at, int64_t stage)
{
    const range units = linear_stage(problem, stage);
    const linear_action summarise = {LINEAR_SUMMARISE, units, at.window, -1};
    const bool begins = at.first == s->rank;
    if (begins && linear_begin_and_fold(s, stage, units, at.window) != 0) return -1;
    if (!begins && linear_add_action(s, stage, summarise) != 0) return -1;
    if (plan_rounds(s, stage + 1, units, &at) != 0) return -1;
    if (s->rank != problem->layout.ranks - 1) return 0;
    return plan_final(s, stage + 2 * rounds_of(s->rank - at.first), units, &at);
}

static int plan_stages(linear_schedule *s, const linear_schedule_problem *problem)
{
    scan_state at = {.first = linear_first_contributor(problem, s->rank),
                     .last = linear_last_reader(problem, s->rank),
                     .window = 0,
                     .past = NONE,
                     .spare = {3, 2, 1},
                     .spares = BUFFERS - 1};
    at.goes_on = at.first < s->rank && linear_has_one_piece(problem, s->rank);
    s->summarises = true;
    if (s->rank < linear_first_rank(problem)) return 0;
    if (s->rank == linear_first_rank(problem)) s->initial_buffer = at.window;
    for (int64_t stage = 0; stage < linear_stage_count(problem); stage++)
        if (plan_stage(s, problem, at, stage) != 0) return -1;
    return 0;
}

static int scan_plan(const linear_schedule_problem *problem, int rank, linear_schedule **schedule_p)
{
    const int64_t rounds = rounds_of(problem->layout.ranks);
    linear_schedule *s = linear_schedule_create(rank, linear_stage_count(problem) + 1 + 2 * rounds);
    if (!s) return -1;
    return linear_schedule_finish(s, plan_stages(s, problem), schedule_p);
}

static const char *scan_refuse(const linear_schedule_problem *problem)
{
    if (!problem->causal) return "scan gives each rank what came before it: it needs a causal mask";
    if (!problem->late) return "scan learns late what a run of tokens begins with, which this attention cannot take in";
    return linear_problem_fault(problem);
}

extern const linear_strategy linear_strategy_scan;
const linear_strategy linear_strategy_scan = {
    .name = "scan",
    .summary = "ranks double the run of ranks that they have summarised; log2 of the ranks exchanges",
    .refuse = scan_refuse,
    .plan = scan_plan,
};
