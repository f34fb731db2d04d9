/* The steps of states as text. */
#include "runtime/cli/schedule_print.h"

#include <stdio.h>

static void print_action(const linear_action *a)
{
    static const struct {
        const char *verb, *with; /* with: what comes before the other buffer, NULL where there is none */
    } words[] = {
        [LINEAR_CLEAR] = {"clear", NULL},
        [LINEAR_FOLD] = {"fold onto", NULL},
        [LINEAR_LEAD] = {"lead", NULL},
        [LINEAR_SUMMARISE] = {"summarise into", NULL},
        [LINEAR_COMPOSE] = {"compose", "then"},
        [LINEAR_COPY] = {"copy into", "from"},
        [LINEAR_APPLY] = {"apply", NULL},
        [LINEAR_SUM] = {"sum into", "and"},
        [LINEAR_ADD] = {"add to", "from"},
        [LINEAR_READ] = {"read", "and"},
    };
    printf("    %s buffer %d", words[a->kind].verb, a->buffer);
    if (words[a->kind].with) printf(" %s buffer %d", words[a->kind].with, a->other);
    printf(", units [%lld, %lld)\n", (long long)a->units.begin, (long long)a->units.end);
}

static void print_transfer(const linear_transfer *t)
{
    const bool send = t->direction == TRANSFER_SEND;
    printf("    %s units [%lld, %lld) %s rank %d %s buffer %d\n", send ? "send   " : "receive",
           (long long)t->units.begin, (long long)t->units.end, send ? "to  " : "from", t->peer,
           send ? "out of" : "into", t->buffer);
}

void schedule_print_linear(const linear_schedule *s)
{
    printf("rank %d, %d buffer%s of states%s\n", s->rank, s->buffers, s->buffers == 1 ? "" : "s",
           s->summarises ? " with transitions" : "");
    for (int64_t i = 0; i < s->step_count; i++) {
        const linear_step *step = &s->steps[i];
        printf("  step %lld%s\n", (long long)i, step->transfer_count + step->action_count ? "" : ": nothing");
        for (int64_t n = 0; n < step->transfer_count; n++) print_transfer(&step->transfers[n]);
        for (int64_t n = 0; n < step->action_count; n++) print_action(&step->actions[n]);
    }
}
