#include "runtime/cli/schedule_print.h"

#include <stdio.h>

static const char *const kind_names[ROWS_KINDS] = {
    [ROWS_KEYS] = "keys", [ROWS_QUERIES] = "queries", [ROWS_STATES] = "states"};

static void print_slot(int slot, int64_t row)
{
    if (slot == SLOT_HOME) printf("home row %lld", (long long)row);
    else printf("slot %d row %lld", slot, (long long)row);
}

/* Rows of a rank's shard; their tokens, of a striped layout from the first to the last with "..". */
static void print_rows(const schedule_problem *problem, rows_kind kind, int origin, range rows)
{
    const layout *l = kind == ROWS_KEYS ? &problem->key_layout : &problem->query_layout;
    const range tokens = layout_hull(l, origin, rows);
    const char *gaps = range_length(tokens) == range_length(rows) ? "," : " ..";
    printf("%s [%lld%s %lld)", kind_names[kind], (long long)tokens.begin, gaps, (long long)tokens.end);
}

/* Nothing where all heads are meant. */
static void print_heads(head_range heads, int all)
{
    if (heads_count(heads) < all) printf(" of heads [%d, %d)", heads.begin, heads.end);
}

static void print_transfer(const schedule_transfer *t, const schedule_problem *problem)
{
    const bool send = t->direction == TRANSFER_SEND;
    printf("    %s ", send ? "send   " : "receive");
    print_rows(problem, t->kind, t->origin, t->rows);
    print_heads(t->heads, t->kind == ROWS_KEYS ? problem->kv_heads : problem->heads);
    printf(" %s rank %d %s ", send ? "to  " : "from", t->peer, send ? "out of" : "into");
    print_slot(t->slot, t->slot_row);
    printf("\n");
}

static void print_fold(const schedule_fold *f, const schedule_problem *problem, int rank)
{
    printf("    fold    ");
    print_rows(problem, ROWS_QUERIES, f->query_origin, f->query_rows);
    printf(" x ");
    print_rows(problem, ROWS_KEYS, f->key_origin, f->key_rows);
    if (f->sliced && f->key_stride > 1)
        printf(", every %lld of the %s", (long long)f->key_stride, f->query_stride > 1 ? "queries and keys" : "keys");
    print_heads(f->heads, problem->heads);
    printf(" in ");
    print_slot(f->key_slot, f->key_slot_row);
    if (f->holder != rank) printf(" of rank %d", f->holder);
    printf(" into ");
    print_slot(f->state_slot, f->state_slot_row);
    printf("%s\n", f->look_inside ? ", masked inside" : "");
}

static void print_step(const schedule *s, const schedule_step *step, const schedule_problem *problem)
{
    for (int64_t i = 0; i < step->transfer_count; i++) print_transfer(&step->transfers[i], problem);
    for (int64_t i = 0; i < step->clear_count; i++) {
        const schedule_clear *c = &step->clears[i];
        printf("    clear   slot %d rows [%lld, %lld)\n", c->slot, (long long)c->slot_rows.begin,
               (long long)c->slot_rows.end);
    }
    for (int64_t i = 0; i < step->fold_count; i++) print_fold(&step->folds[i], problem, s->rank);
    for (int64_t i = 0; i < step->merge_count; i++) {
        const schedule_merge *m = &step->merges[i];
        printf("    merge   %lld states", (long long)m->count);
        print_heads(m->heads, problem->heads);
        printf(" of ");
        print_slot(m->from_slot, m->from_row);
        printf(" into ");
        print_slot(m->to_slot, m->to_row);
        printf("\n");
    }
}

void schedule_print(const schedule *s, const schedule_problem *problem)
{
    printf("rank %d\n", s->rank);
    for (int64_t i = 0; i < s->step_count; i++) {
        const schedule_step *step = &s->steps[i];
        const int64_t things = step->transfer_count + step->clear_count + step->fold_count + step->merge_count;
        printf("  step %lld%s\n", (long long)i, things ? "" : ": nothing");
        print_step(s, step, problem);
    }
}
