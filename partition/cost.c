#include "partition/cost.h"

#include "partition/message.h"

int64_t cost_messages(const cost_sizes *sizes, const schedule_step *step, int64_t first)
{
    const schedule_transfer *t = &step->transfers[first];
    int64_t messages = 0, rows = 0;
    if (t->joined) return 0;
    for (int64_t i = first; i < schedule_joined_end(step, first); i++) rows += range_length(step->transfers[i].rows);
    for (int i = 0; i < COST_TENSORS && sizes->tensor_bytes[t->kind][i] > 0; i++)
        messages += message_count(rows, heads_count(t->heads) * sizes->tensor_bytes[t->kind][i]);
    return sizes->batch * messages;
}

void cost_of_step(const schedule *s, int64_t step, const schedule_problem *problem, const cost_sizes *sizes,
                  cost_step *cost_p)
{
    const schedule_step *at = &s->steps[step];
    cost_step c = {.folds = at->fold_count};
    for (int64_t i = 0; i < at->fold_count; i++)
        c.pairs += schedule_fold_all_pairs(problem, &at->folds[i]);
    for (int64_t i = 0; i < at->transfer_count; i++) {
        const schedule_transfer *t = &at->transfers[i];
        const int64_t bytes = range_length(t->rows) * heads_count(t->heads) * sizes->row_bytes[t->kind];
        if (t->direction == TRANSFER_SEND) {
            c.sends += !t->joined;
            c.messages_sent += cost_messages(sizes, at, i);
            c.bytes_sent[t->kind] += bytes;
        } else {
            c.receives += !t->joined;
            c.bytes_received[t->kind] += bytes;
        }
    }
    for (int64_t i = 0; i < at->clear_count; i++)
        c.rows_cleared += range_length(at->clears[i].slot_rows) * heads_count(s->slots[at->clears[i].slot].heads);
    for (int64_t i = 0; i < at->merge_count; i++)
        c.rows_merged += at->merges[i].count * heads_count(at->merges[i].heads);
    *cost_p = c;
}

static void add_step(cost_step *sum, const cost_step *c)
{
    sum->folds += c->folds;
    sum->pairs += c->pairs;
    sum->sends += c->sends;
    sum->receives += c->receives;
    sum->messages_sent += c->messages_sent;
    for (int kind = 0; kind < ROWS_KINDS; kind++) {
        sum->bytes_sent[kind] += c->bytes_sent[kind];
        sum->bytes_received[kind] += c->bytes_received[kind];
    }
    sum->rows_cleared += c->rows_cleared;
    sum->rows_merged += c->rows_merged;
}

int64_t cost_memory(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes)
{
    const int64_t queries = layout_rank_tokens(&problem->query_layout, s->rank) * problem->heads;
    const int64_t keys = layout_rank_tokens(&problem->key_layout, s->rank) * problem->kv_heads;
    int64_t bytes = queries * (sizes->row_bytes[ROWS_QUERIES] + sizes->output_bytes + sizes->row_bytes[ROWS_STATES]) +
                    keys * sizes->row_bytes[ROWS_KEYS];
    for (int i = 0; i < s->slot_count; i++)
        bytes += s->slots[i].rows * heads_count(s->slots[i].heads) * sizes->row_bytes[s->slots[i].kind];
    return bytes;
}

void cost_of_schedule(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes, cost *cost_p)
{
    cost c = {.steps = s->step_count, .memory_bytes = cost_memory(s, problem, sizes)};
    for (int64_t i = 0; i < s->step_count; i++) {
        cost_step step;
        cost_of_step(s, i, problem, sizes, &step);
        add_step(&c.sum, &step);
    }
    c.flops = (double)c.sum.pairs * sizes->flops_per_pair;
    *cost_p = c;
}
