#include "tests/partition/linear_checker.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The truth. */

static range document_of_token(const linear_schedule_problem *p, int64_t token)
{
    if (!p->documents) return (range){0, p->layout.tokens};
    for (int64_t i = 0; i < p->document_count; i++)
        if (p->documents[i] <= token && token < p->documents[i + 1])
            return (range){p->documents[i], p->documents[i + 1]};
    return (range){0, 0};
}

void linear_truth_find(const linear_schedule_problem *p, linear_truth *truth_p)
{
    linear_truth t = {0};
    for (int rank = 0; rank < p->layout.ranks; rank++) {
        const range tokens = layout_chunk(&p->layout, rank);
        if (range_is_empty(tokens)) continue;
        t.tokens[rank] = tokens;
        t.first_document[rank] = document_of_token(p, tokens.begin);
        t.last_document[rank] = document_of_token(p, tokens.end - 1);
        t.one_piece[rank] = t.first_document[rank].begin == t.last_document[rank].begin;
    }
    for (int a = 0; a < p->layout.ranks; a++)
        for (int b = a + 1; b < p->layout.ranks; b++) {
            if (range_is_empty(t.tokens[a]) || range_is_empty(t.tokens[b])) continue;
            if (t.last_document[a].begin != t.first_document[b].begin) continue;
            t.readers[a]++;
            t.contributors[b]++;
        }
    *truth_p = t;
}

/* States. */

enum { INTERVALS = 16, GIVEN = -1 }; /* the state given is that of token -1 */

typedef struct {
    bool defined;
    int count;
    range intervals[INTERVALS];
    uint64_t order; /* which sums were added to which; the same where the bits are */
} paper_state;

typedef enum { MISSING, UNFINISHED, FINISHED } output_state;

typedef struct {
    const linear_schedule_problem *problem;
    const linear_truth *truth;
    const linear_schedule *schedule;
    int rank;
    paper_state *states;  /* [buffers, units] */
    unsigned char *held;  /* [buffers, units]: bits of what this step's transfers do */
    output_state *output; /* [units] */
    bool *summed;         /* [units] */
    uint64_t *head_order, *tail_order;
    char *fault;
    size_t size;
} paper_rank;

enum { SENT = 1, RECEIVED = 2 };

static bool wrong(const paper_rank *r, const char *format, ...)
{
    char text[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(r->fault, r->size, "rank %d: %s", r->rank, text);
    return false;
}

static int64_t place_of(const paper_rank *r, int buffer, int64_t unit)
{
    return buffer * r->problem->units + unit;
}

/* later's intervals after those of s; neighbours become one. */
static void append(paper_state *s, range interval)
{
    if (range_is_empty(interval)) return;
    if (s->count > 0 && s->intervals[s->count - 1].end == interval.begin) {
        s->intervals[s->count - 1].end = interval.end;
    } else if (s->count == INTERVALS) {
        s->defined = false;
    } else {
        s->intervals[s->count++] = interval;
    }
}

static int compare_ranges(const void *a, const void *b)
{
    const range *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static void add_up(paper_state *into, const paper_state *from)
{
    range all[2 * INTERVALS];
    const int count = into->count + from->count;
    memcpy(all, into->intervals, (size_t)into->count * sizeof *all);
    memcpy(all + into->count, from->intervals, (size_t)from->count * sizeof *all);
    qsort(all, (size_t)count, sizeof *all, compare_ranges);
    into->count = 0;
    for (int i = 0; i < count; i++) append(into, all[i]);
    into->order = (into->order + from->order) * 0x9e3779b97f4a7c15u;
    into->order ^= into->order >> 29;
}

static bool is_exactly(const paper_state *s, range interval)
{
    if (!s->defined) return false;
    if (range_is_empty(interval)) return s->count == 0;
    return s->count == 1 && s->intervals[0].begin == interval.begin && s->intervals[0].end == interval.end;
}

/* With the state given where the stream's first document is in question. */
static range since_beginning(range document, int64_t end)
{
    return (range){document.begin == 0 ? GIVEN : document.begin, end};
}

static range wanted_past(const paper_rank *r)
{
    return since_beginning(r->truth->first_document[r->rank], r->truth->tokens[r->rank].begin);
}

/* Actions of one unit. */

static bool finish_output(const paper_rank *r, int64_t unit, output_state before)
{
    if (r->output[unit] != before) return wrong(r, "outputs of unit %" PRId64 " are made twice or too early", unit);
    r->output[unit] = FINISHED;
    return true;
}

static bool begins_right(const paper_rank *r, const paper_state *s, int64_t unit)
{
    return is_exactly(s, wanted_past(r)) || wrong(r, "unit %" PRId64 " begins with a wrong state", unit);
}

static bool lead(const paper_rank *r, paper_state *s, int64_t unit)
{
    if (!begins_right(r, s, unit)) return false;
    if (!r->truth->one_piece[r->rank]) s->count = 0;
    append(s, range_intersect(r->truth->tokens[r->rank], r->truth->last_document[r->rank]));
    return true;
}

static bool fold(const paper_rank *r, paper_state *s, int64_t unit)
{
    return lead(r, s, unit) && finish_output(r, unit, MISSING);
}

static bool summarise(const paper_rank *r, paper_state *s, int64_t unit)
{
    if (r->output[unit] != MISSING) return wrong(r, "unit %" PRId64 " is summarised twice", unit);
    r->output[unit] = UNFINISHED;
    *s = (paper_state){.defined = true};
    append(s, range_intersect(r->truth->tokens[r->rank], r->truth->last_document[r->rank]));
    return true;
}

static bool sum(const paper_rank *r, paper_state *head, paper_state *tail, int64_t unit)
{
    const range tokens = r->truth->tokens[r->rank];
    if (r->summed[unit]) return wrong(r, "unit %" PRId64 " is summed twice", unit);
    r->summed[unit] = true;
    *head = *tail = (paper_state){.defined = true};
    append(head, range_intersect(tokens, r->truth->first_document[r->rank]));
    append(tail, range_intersect(tokens, r->truth->last_document[r->rank]));
    head->order = (uint64_t)head->intervals[0].begin + 1;
    tail->order = (uint64_t)tail->intervals[0].begin + 1;
    return true;
}

static bool read_sums(const paper_rank *r, const paper_state *head, const paper_state *tail, int64_t unit)
{
    if (r->truth->one_piece[r->rank] != (head == tail))
        return wrong(r, "reads one document in two buffers, or two in one");
    if (!is_exactly(head, r->truth->first_document[r->rank]) || !is_exactly(tail, r->truth->last_document[r->rank]))
        return wrong(r, "unit %" PRId64 " reads a wrong sum", unit);
    r->head_order[unit] = head->order;
    r->tail_order[unit] = tail->order;
    return finish_output(r, unit, MISSING);
}

static bool run_unit(const paper_rank *r, linear_action_kind kind, paper_state *s, paper_state *other, int64_t unit)
{
    switch (kind) {
    case LINEAR_CLEAR:
        *s = (paper_state){.defined = true};
        return true;
    case LINEAR_FOLD:
        return fold(r, s, unit);
    case LINEAR_LEAD:
        return lead(r, s, unit);
    case LINEAR_SUMMARISE:
        return summarise(r, s, unit);
    case LINEAR_COMPOSE:
        for (int i = 0; i < other->count; i++) append(s, other->intervals[i]);
        return true;
    case LINEAR_COPY:
        *s = *other;
        return true;
    case LINEAR_APPLY:
        return begins_right(r, s, unit) && finish_output(r, unit, UNFINISHED);
    case LINEAR_SUM:
        return sum(r, s, other, unit);
    case LINEAR_ADD:
        add_up(s, other);
        return true;
    case LINEAR_READ:
        return read_sums(r, s, other, unit);
    }
    return wrong(r, "an action of no kind");
}

/* Whether an action reads and writes its buffers. */
static const struct {
    bool reads, writes, reads_other, writes_other, of_causal, of_two_sided;
} uses[] = {
    [LINEAR_CLEAR] = {false, true, false, false, true, false},
    [LINEAR_FOLD] = {true, true, false, false, true, false},
    [LINEAR_LEAD] = {true, true, false, false, true, false},
    [LINEAR_SUMMARISE] = {false, true, false, false, true, false},
    [LINEAR_COMPOSE] = {true, true, true, false, true, false},
    [LINEAR_COPY] = {false, true, true, false, true, false},
    [LINEAR_APPLY] = {true, false, false, false, true, false},
    [LINEAR_SUM] = {false, true, false, true, false, true},
    [LINEAR_ADD] = {true, true, true, false, false, true},
    [LINEAR_READ] = {true, false, true, false, false, true},
};

static bool may_use(const paper_rank *r, int buffer, int64_t unit, bool reads, bool writes)
{
    const int64_t place = place_of(r, buffer, unit);
    if (r->held[place] & RECEIVED) return wrong(r, "buffer %d is used while it is received into", buffer);
    if (writes && r->held[place] & SENT) return wrong(r, "buffer %d is written while it is sent", buffer);
    if (reads && !r->states[place].defined) return wrong(r, "buffer %d is read before anything is there", buffer);
    return true;
}

static bool run_action(const paper_rank *r, const linear_action *a)
{
    const bool has_other = uses[a->kind].reads_other || uses[a->kind].writes_other;
    if (range_is_empty(a->units) || a->units.begin < 0 || a->units.end > r->problem->units)
        return wrong(r, "an action of no units, or of too many");
    if (range_is_empty(r->truth->tokens[r->rank])) return wrong(r, "works without tokens");
    if (!(r->problem->causal ? uses[a->kind].of_causal : uses[a->kind].of_two_sided))
        return wrong(r, "an action of the other mask");
    if (a->buffer < 0 || a->buffer >= r->schedule->buffers) return wrong(r, "there is no buffer %d", a->buffer);
    if (has_other ? a->other < 0 || a->other >= r->schedule->buffers : a->other != -1)
        return wrong(r, "there is no other buffer %d", a->other);
    if (has_other && a->kind != LINEAR_READ && a->other == a->buffer) return wrong(r, "both buffers are the same");
    for (int64_t unit = a->units.begin; unit < a->units.end; unit++) {
        paper_state *other = has_other ? &r->states[place_of(r, a->other, unit)] : NULL;
        if (!may_use(r, a->buffer, unit, uses[a->kind].reads, uses[a->kind].writes)) return false;
        if (has_other && !may_use(r, a->other, unit, uses[a->kind].reads_other, uses[a->kind].writes_other))
            return false;
        if (!run_unit(r, a->kind, &r->states[place_of(r, a->buffer, unit)], other, unit)) return false;
    }
    return true;
}

/* Transfers. */

static const linear_step *step_of(const linear_schedule *s, int64_t step)
{
    return step < s->step_count ? &s->steps[step] : NULL;
}

/* The next transfer of a direction to or from a peer, from *at on; NULL if there is none. */
static const linear_transfer *next_of(const linear_step *step, transfer_direction direction, int peer, int64_t *at)
{
    while (step && *at < step->transfer_count) {
        const linear_transfer *t = &step->transfers[(*at)++];
        if (t->direction == direction && t->peer == peer) return t;
    }
    return NULL;
}

bool linear_twins_agree(const linear_schedule *from, const linear_schedule *to, int64_t *messages_p)
{
    for (int64_t i = 0; i < from->step_count || i < to->step_count; i++)
        for (int64_t sent = 0, received = 0;; ++*messages_p) {
            const linear_transfer *a = next_of(step_of(from, i), TRANSFER_SEND, to->rank, &sent);
            const linear_transfer *b = next_of(step_of(to, i), TRANSFER_RECEIVE, from->rank, &received);
            if (!a && !b) break;
            if (!a || !b || a->units.begin != b->units.begin || a->units.end != b->units.end) return false;
        }
    return true;
}

int64_t linear_units_moved(const linear_schedule *s, transfer_direction direction)
{
    int64_t units = 0;
    for (int64_t i = 0; i < s->step_count; i++)
        for (int64_t j = 0; j < s->steps[i].transfer_count; j++)
            if (s->steps[i].transfers[j].direction == direction) units += range_length(s->steps[i].transfers[j].units);
    return units;
}

static bool hold(const paper_rank *r, const linear_transfer *t)
{
    if (t->peer < 0 || t->peer >= r->problem->layout.ranks || t->peer == r->rank)
        return wrong(r, "a transfer with rank %d", t->peer);
    if (range_is_empty(t->units) || t->units.begin < 0 || t->units.end > r->problem->units)
        return wrong(r, "a transfer of no units, or of too many");
    if (t->buffer < 0 || t->buffer >= r->schedule->buffers) return wrong(r, "there is no buffer %d", t->buffer);
    for (int64_t unit = t->units.begin; unit < t->units.end; unit++) {
        const int64_t place = place_of(r, t->buffer, unit);
        const bool sends = t->direction == TRANSFER_SEND;
        if (r->held[place] & RECEIVED || (!sends && r->held[place]))
            return wrong(r, "buffer %d is received into while it travels", t->buffer);
        if (sends && !r->states[place].defined) return wrong(r, "buffer %d is sent with nothing in it", t->buffer);
        r->held[place] |= sends ? SENT : RECEIVED;
    }
    return true;
}

/* What a step sends is not written in it, so that it can be delivered at its end. */
static void deliver(const paper_rank *from, const paper_rank *to, int64_t step)
{
    for (int64_t sent = 0, received = 0;;) {
        const linear_transfer *a = next_of(step_of(from->schedule, step), TRANSFER_SEND, to->rank, &sent);
        const linear_transfer *b = next_of(step_of(to->schedule, step), TRANSFER_RECEIVE, from->rank, &received);
        if (!a || !b) return;
        for (int64_t unit = a->units.begin; unit < a->units.end; unit++)
            to->states[place_of(to, b->buffer, unit)] = from->states[place_of(from, a->buffer, unit)];
    }
}

/* All ranks. */

static bool ends_right(const paper_rank *r)
{
    const range tokens = r->truth->tokens[r->rank];
    const bool last = tokens.end == r->problem->layout.tokens && !range_is_empty(tokens) && r->problem->causal;
    const range wanted = since_beginning(r->truth->last_document[r->rank], tokens.end);
    const int final = r->schedule->final_buffer;
    if (last ? final < 0 || final >= r->schedule->buffers : final != -1) return wrong(r, "final buffer %d", final);
    for (int64_t unit = 0; unit < r->problem->units && !range_is_empty(tokens); unit++) {
        if (r->output[unit] != FINISHED) return wrong(r, "outputs of unit %" PRId64 " are not finished", unit);
        if (last && !is_exactly(&r->states[place_of(r, final, unit)], wanted))
            return wrong(r, "the final state of unit %" PRId64 " is wrong", unit);
    }
    return true;
}

static bool begin(const paper_rank *r)
{
    const range tokens = r->truth->tokens[r->rank];
    const bool first = tokens.begin == 0 && !range_is_empty(tokens) && r->problem->causal;
    const int initial = r->schedule->initial_buffer;
    if (r->schedule->rank != r->rank) return wrong(r, "has the schedule of rank %d", r->schedule->rank);
    if (first ? initial < 0 || initial >= r->schedule->buffers : initial != -1)
        return wrong(r, "initial buffer %d", initial);
    for (int64_t unit = 0; unit < r->problem->units && first; unit++)
        r->states[place_of(r, initial, unit)] = (paper_state){true, 1, {{GIVEN, 0}}, 0};
    return true;
}

static bool run_step(const paper_rank *ranks, int count, int64_t step)
{
    for (int i = 0; i < count; i++) {
        const paper_rank *r = &ranks[i];
        const linear_step *s = step_of(r->schedule, step);
        memset(r->held, 0, (size_t)(r->schedule->buffers * r->problem->units));
        for (int64_t j = 0; s && j < s->transfer_count; j++)
            if (!hold(r, &s->transfers[j])) return false;
        for (int64_t j = 0; s && j < s->action_count; j++)
            if (!run_action(r, &s->actions[j])) return false;
    }
    for (int i = 0; i < count; i++)
        for (int j = 0; j < count; j++) deliver(&ranks[i], &ranks[j], step);
    return true;
}

/* Neighbours that share a document have read the same bits of it. */
static bool bits_are_equal(const paper_rank *ranks, int count)
{
    for (int i = 1; i < count; i++)
        for (int64_t unit = 0; unit < ranks[i].problem->units; unit++)
            if (ranks[i].truth->contributors[i] > 0 && ranks[i].head_order[unit] != ranks[i - 1].tail_order[unit])
                return wrong(&ranks[i], "adds up in another order than the rank before it");
    return true;
}

static bool run(paper_rank *ranks, int count)
{
    int64_t steps = 0, messages = 0;
    for (int i = 0; i < count; i++) {
        if (!begin(&ranks[i])) return false;
        if (ranks[i].schedule->step_count > steps) steps = ranks[i].schedule->step_count;
        for (int j = 0; j < count; j++)
            if (!linear_twins_agree(ranks[i].schedule, ranks[j].schedule, &messages))
                return wrong(&ranks[i], "does not agree with rank %d about what travels", j);
    }
    for (int64_t step = 0; step < steps; step++)
        if (!run_step(ranks, count, step)) return false;
    for (int i = 0; i < count; i++)
        if (!ends_right(&ranks[i])) return false;
    return bits_are_equal(ranks, count);
}

bool linear_schedules_are_right(const linear_schedule_problem *p, linear_schedule *const *schedules, char *fault,
                                size_t size)
{
    paper_rank ranks[LINEAR_RANK_LIMIT];
    linear_truth truth;
    linear_truth_find(p, &truth);
    for (int i = 0; i < p->layout.ranks; i++) {
        const size_t units = (size_t)p->units, places = (size_t)schedules[i]->buffers * units + 1;
        ranks[i] = (paper_rank){.problem = p,
                                .truth = &truth,
                                .schedule = schedules[i],
                                .rank = i,
                                .states = calloc(places, sizeof(paper_state)),
                                .held = calloc(places, 1),
                                .output = calloc(units, sizeof(output_state)),
                                .summed = calloc(units, sizeof(bool)),
                                .head_order = calloc(units, sizeof(uint64_t)),
                                .tail_order = calloc(units, sizeof(uint64_t)),
                                .fault = fault,
                                .size = size};
    }
    const bool right = run(ranks, p->layout.ranks);
    for (int i = 0; i < p->layout.ranks; i++) {
        free(ranks[i].states);
        free(ranks[i].held);
        free(ranks[i].output);
        free(ranks[i].summed);
        free(ranks[i].head_order);
        free(ranks[i].tail_order);
    }
    return right;
}
