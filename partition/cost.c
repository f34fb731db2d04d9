/* Counts of a schedule, and the time it takes where transfers overlap folds within a step and steps do not overlap. */
#include "partition/cost.h"

typedef struct {
    int64_t pairs, tokens_sent, tokens_received, sends, receives;
} step_count;

static step_count count_step(const schedule_step *step, const mask *m)
{
    step_count n = {0};
    for (int64_t i = 0; i < step->fold_count; i++) {
        const schedule_fold *f = &step->folds[i];
        n.pairs +=
            f->look_inside ? mask_pairs(m, f->queries, f->keys) : range_length(f->queries) * range_length(f->keys);
    }
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const schedule_transfer *t = &step->transfers[i];
        if (t->direction == TRANSFER_SEND) {
            n.sends++;
            n.tokens_sent += range_length(t->keys);
        } else {
            n.receives++;
            n.tokens_received += range_length(t->keys);
        }
    }
    return n;
}

static double step_seconds(const step_count *n, const cost_sizes *sizes, const cost_machine *machine)
{
    const int64_t tokens = n->tokens_sent > n->tokens_received ? n->tokens_sent : n->tokens_received;
    const int64_t messages = n->sends > n->receives ? n->sends : n->receives;
    const double compute = (double)n->pairs * sizes->flops_per_pair / machine->flops;
    const double transfer =
        machine->latency * (double)messages + (double)(tokens * sizes->key_value_bytes) / machine->bandwidth;
    return compute > transfer ? compute : transfer;
}

void cost_of_schedule(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes,
                      const cost_machine *machine, cost *cost_p)
{
    cost c = {.steps = s->step_count};
    for (int64_t i = 0; i < s->step_count; i++) {
        const step_count n = count_step(&s->steps[i], &problem->mask);
        c.folds += s->steps[i].fold_count;
        c.messages += n.sends;
        c.pairs += n.pairs;
        c.bytes_sent += n.tokens_sent * sizes->key_value_bytes;
        c.bytes_received += n.tokens_received * sizes->key_value_bytes;
        c.seconds += step_seconds(&n, sizes, machine);
    }
    c.flops = (double)c.pairs * sizes->flops_per_pair;
    int64_t key_tokens = layout_rank_tokens(&problem->key_layout, s->rank);
    for (int slot = 0; slot < SCHEDULE_MAX_SLOTS; slot++) key_tokens += s->slot_tokens[slot];
    c.memory_bytes = layout_rank_tokens(&problem->query_layout, s->rank) *
                         (sizes->query_bytes + sizes->output_bytes + sizes->state_bytes) +
                     key_tokens * sizes->key_value_bytes;
    *cost_p = c;
}
