/* The gather: every rank sends what its tokens do to a state to all ranks that need it, and these put it together.
 *
 * Source: LASP-2, Sun et al., "LASP-2: Rethinking Sequence Parallelism for Linear Attention and Its Hybrid", arXiv
 * 2502.07563, which gathers the states of all ranks with one collective; here only what is needed travels, a stage of
 * units at a time, as a summary (transition, S), since with decay states cannot just be added.
 *
 * Under a causal mask a rank needs the summaries of its contributors, the ranks from the one where its first token's
 * document begins to the one before it. Of stage s it
 *
 *     step s       summarises its tokens,
 *     step s + 1   sends that to its readers and receives the summaries of its contributors,
 *     step s + 2   composes them in order, c the first, and applies what comes out to its own tokens,
 *
 * all three of different stages at once. A rank whose first token begins a document, or the stream, knows the state
 * that it begins with: it folds its tokens onto that and is done; what it sends is the state itself, which as the first
 * of a composition is as good as a summary.
 *
 * Without a causal mask every token reads the sum over its document. A rank sums its tokens of the document that its
 * first one is in, and of that of its last; the first sum goes to the lower ranks that share that document, the second
 * to the higher ones. A rank adds up what it receives and has of a document in the order of the ranks, so that all
 * ranks of a document have the same bits.
 *
 * The exchange has one step, whatever P is, but a rank needs a buffer for each rank it receives from. States that rank r
 * of P sends: with one document P - 1 - r and receives r; without a causal mask P - 1 both. With documents, as many as
 * it has readers (contributors), or ranks that share its first or last document. Held by
 * tests/partition/test_linear_schedule.c. */
#include "partition/linear_schedule.h"

enum { OWN = 0, OWN_TAIL = 1 };

/* Of the rank, and the buffer where that of the first contributor goes; of each other one it is the next. */
typedef struct {
    int first, last; /* contributor, reader */
    int received;
} neighbours;

static int send_to(linear_schedule *s, int64_t step, range units, int buffer, int first, int last)
{
    for (int peer = first; peer <= last; peer++)
        if (linear_add_transfer(s, step, (linear_transfer){TRANSFER_SEND, peer, units, buffer}) != 0) return -1;
    return 0;
}

/* Into consecutive buffers. */
static int receive_from(linear_schedule *s, int64_t step, range units, int buffer, int first, int last)
{
    for (int peer = first; peer <= last; peer++)
        if (linear_add_transfer(s, step, (linear_transfer){TRANSFER_RECEIVE, peer, units, buffer++}) != 0) return -1;
    return 0;
}

/* Under a causal mask. */

static int plan_causal_stage(linear_schedule *s, const linear_schedule_problem *problem, neighbours n, int64_t stage)
{
    const range units = linear_stage(problem, stage);
    const linear_action summarise = {LINEAR_SUMMARISE, units, OWN, -1};
    const linear_action apply = {LINEAR_APPLY, units, n.received, -1};
    if (send_to(s, stage + 1, units, OWN, s->rank + 1, n.last) != 0) return -1;
    if (n.first == s->rank) return linear_begin_and_fold(s, stage, units, OWN);
    if (linear_add_action(s, stage, summarise) != 0) return -1;
    if (receive_from(s, stage + 1, units, n.received, n.first, s->rank - 1) != 0) return -1;
    for (int i = 1; i < s->rank - n.first; i++) {
        const linear_action compose = {LINEAR_COMPOSE, units, n.received, n.received + i};
        if (linear_add_action(s, stage + 2, compose) != 0) return -1;
    }
    if (linear_add_action(s, stage + 2, apply) != 0) return -1;
    const linear_action finish = {LINEAR_COMPOSE, units, n.received, OWN};
    return s->final_buffer == n.received ? linear_add_action(s, stage + 2, finish) : 0;
}

static int plan_causal(linear_schedule *s, const linear_schedule_problem *problem, neighbours n)
{
    const bool goes_on = n.first < s->rank && linear_has_one_piece(problem, s->rank);
    n.received = OWN + 1;
    if (s->rank == linear_first_rank(problem)) s->initial_buffer = OWN;
    if (s->rank == problem->layout.ranks - 1) s->final_buffer = goes_on ? n.received : OWN;
    for (int64_t stage = 0; stage < linear_stage_count(problem); stage++)
        if (plan_causal_stage(s, problem, n, stage) != 0) return -1;
    return 0;
}

/* Without one. */

/* Adds up three runs of consecutive buffers, in order, in the first buffer of the first that has any: *sum_p. */
static int add_up(linear_schedule *s, int64_t step, range units, const int parts[3], const int counts[3], int *sum_p)
{
    *sum_p = -1;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < counts[i]; j++) {
            const linear_action add = {LINEAR_ADD, units, *sum_p, parts[i] + j};
            if (*sum_p < 0) *sum_p = parts[i] + j;
            else if (linear_add_action(s, step, add) != 0) return -1;
        }
    return 0;
}

static int plan_two_sided_stage(linear_schedule *s, const linear_schedule_problem *problem, neighbours n, int64_t stage)
{
    const range units = linear_stage(problem, stage);
    const int below = s->rank - n.first, above = n.last - s->rank;
    const bool one_piece = linear_has_one_piece(problem, s->rank);
    const linear_action sum = {LINEAR_SUM, units, OWN, OWN_TAIL};
    if (linear_add_action(s, stage, sum) != 0) return -1;
    if (send_to(s, stage + 1, units, OWN, n.first, s->rank - 1) != 0) return -1;
    if (send_to(s, stage + 1, units, OWN_TAIL, s->rank + 1, n.last) != 0) return -1;
    if (receive_from(s, stage + 1, units, n.received, n.first, s->rank - 1) != 0) return -1;
    if (receive_from(s, stage + 1, units, n.received + below, s->rank + 1, n.last) != 0) return -1;

    const int64_t last_step = stage + (below + above > 0 ? 2 : 0);
    const int of_first[3] = {n.received, OWN, n.received + below}, of_last[3] = {0, OWN_TAIL, n.received + below};
    int head, tail;
    if (add_up(s, last_step, units, of_first, (const int[]){below, 1, one_piece ? above : 0}, &head) != 0) return -1;
    if (one_piece) tail = head;
    else if (add_up(s, last_step, units, of_last, (const int[]){0, 1, above}, &tail) != 0) return -1;
    return linear_add_action(s, last_step, (linear_action){LINEAR_READ, units, head, tail});
}

static int plan_two_sided(linear_schedule *s, const linear_schedule_problem *problem, neighbours n)
{
    n.received = OWN_TAIL + 1;
    for (int64_t stage = 0; stage < linear_stage_count(problem); stage++)
        if (plan_two_sided_stage(s, problem, n, stage) != 0) return -1;
    return 0;
}

static int plan_stages(linear_schedule *s, const linear_schedule_problem *problem)
{
    const neighbours n = {.first = linear_first_contributor(problem, s->rank),
                          .last = linear_last_reader(problem, s->rank)};
    s->summarises = problem->causal;
    if (s->rank < linear_first_rank(problem)) return 0;
    return problem->causal ? plan_causal(s, problem, n) : plan_two_sided(s, problem, n);
}

static int gather_plan(const linear_schedule_problem *problem, int rank, linear_schedule **schedule_p)
{
    linear_schedule *s = linear_schedule_create(rank, linear_stage_count(problem) + 2);
    if (!s) return -1;
    return linear_schedule_finish(s, plan_stages(s, problem), schedule_p);
}

static const char *gather_refuse(const linear_schedule_problem *problem)
{
    if (problem->causal && !problem->late)
        return "gather learns late what a run of tokens begins with, which this attention cannot take in";
    return linear_problem_fault(problem);
}

extern const linear_strategy linear_strategy_gather;
const linear_strategy linear_strategy_gather = {
    .name = "gather",
    .summary = "every rank receives what the tokens of each rank before it do to a state; one exchange",
    .refuse = gather_refuse,
    .plan = gather_plan,
};
