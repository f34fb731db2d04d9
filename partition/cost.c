#include "partition/cost.h"

enum { STATE_WORD = 4, LSE_WORD = 4 }; /* float32 */

int64_t cost_row_bytes(const cost_sizes *sizes, rows_kind kind, head_range heads)
{
    const int64_t items = sizes->batch * heads_count(heads);
    switch (kind) {
    case ROWS_KEYS:
        return items * (sizes->dim + sizes->value_dim) * sizes->element_bytes;
    case ROWS_QUERIES:
        return items * sizes->dim * sizes->element_bytes;
    case ROWS_STATES:
        return items * (sizes->value_dim + 2) * STATE_WORD;
    case ROWS_KINDS:
        break;
    }
    return 0;
}

double cost_fold_scores(const schedule_problem *problem, const cost_sizes *sizes, const schedule_fold *fold)
{
    const int64_t pairs = fold->look_inside ? schedule_fold_pairs(problem, fold)
                                            : range_length(fold->query_rows) * range_length(fold->key_rows);
    return (double)pairs * (double)(sizes->batch * heads_count(fold->heads));
}

int64_t cost_transfer_bytes(const cost_sizes *sizes, const schedule_transfer *transfer)
{
    return range_length(transfer->rows) * cost_row_bytes(sizes, transfer->kind, transfer->heads);
}

static int64_t messages_of(int64_t bytes, int64_t most)
{
    return most > 0 ? (bytes + most - 1) / most : bytes > 0;
}

int64_t cost_transfer_messages(const cost_sizes *sizes, const schedule_transfer *transfer)
{
    const int64_t elements = range_length(transfer->rows) * heads_count(transfer->heads), most = sizes->message_bytes;
    int64_t messages = 0;
    switch (transfer->kind) {
    case ROWS_KEYS:
        messages = messages_of(elements * sizes->dim * sizes->element_bytes, most) +
                   messages_of(elements * sizes->value_dim * sizes->element_bytes, most);
        break;
    case ROWS_QUERIES:
        messages = messages_of(elements * sizes->dim * sizes->element_bytes, most);
        break;
    case ROWS_STATES: /* o, m and l lie apart */
        messages =
            messages_of(elements * sizes->value_dim * STATE_WORD, most) + 2 * messages_of(elements * STATE_WORD, most);
        break;
    case ROWS_KINDS:
        break;
    }
    return sizes->batch * messages;
}

static int64_t memory_of(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes)
{
    const head_range heads = heads_all(problem->heads), kv_heads = heads_all(problem->kv_heads);
    const int64_t out_bytes =
        sizes->batch * problem->heads * ((int64_t)sizes->value_dim * sizes->out_element_bytes + LSE_WORD);
    const int64_t query_bytes =
        cost_row_bytes(sizes, ROWS_QUERIES, heads) + cost_row_bytes(sizes, ROWS_STATES, heads) + out_bytes;
    int64_t bytes = layout_rank_tokens(&problem->query_layout, s->rank) * query_bytes +
                    layout_rank_tokens(&problem->key_layout, s->rank) * cost_row_bytes(sizes, ROWS_KEYS, kv_heads);
    for (int i = 0; i < s->slot_count; i++)
        bytes += s->slots[i].rows * cost_row_bytes(sizes, s->slots[i].kind, s->slots[i].heads);
    return bytes;
}

static void count_step(const schedule_step *step, const schedule_problem *problem, const cost_sizes *sizes, cost *c)
{
    c->folds += step->fold_count;
    for (int64_t i = 0; i < step->fold_count; i++) c->scores += cost_fold_scores(problem, sizes, &step->folds[i]);
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const schedule_transfer *t = &step->transfers[i];
        const int64_t bytes = cost_transfer_bytes(sizes, t);
        if (t->direction == TRANSFER_RECEIVE) {
            c->bytes_received += bytes;
            continue;
        }
        c->bytes_sent += bytes;
        c->messages += cost_transfer_messages(sizes, t);
    }
}

void cost_of_schedule(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes, cost *cost_p)
{
    cost c = {.steps = s->step_count, .memory_bytes = memory_of(s, problem, sizes)};
    for (int64_t i = 0; i < s->step_count; i++) count_step(&s->steps[i], problem, sizes, &c);
    c.flops = 2.0 * (sizes->dim + sizes->value_dim) * c.scores;
    *cost_p = c;
}
