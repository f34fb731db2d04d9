/* A rank that stops answering: rank 0 sleeps inside its folds, and the others must give up after stall_seconds, naming
 * the step and whom they wait for, instead of waiting for ever. The argument is a strategy, of linear attention if another
 * argument follows. Ends by MPI_Abort; ctest looks for the line. */
#include "runtime/longspan.h"

#include <stdlib.h>
#include <time.h>

enum { TOKENS = 4096, DIM = 16 };

static void sleep_long(void *data, double fraction)
{
    (void)data;
    (void)fraction;
    nanosleep(&(struct timespec){.tv_sec = 30}, NULL);
}

static int run_softmax(longspan_context *context, const char *strategy)
{
    longspan_problem p;
    longspan_problem_default(&p);
    p.queries = TOKENS;
    p.heads = 1;
    p.dim = DIM;
    p.strategy = strategy;
    longspan_plan *plan;
    if (longspan_plan_create(context, &p, &plan)) return 1;
    size_t count = (size_t)longspan_plan_tokens(plan, LONGSPAN_QUERIES) * DIM;
    float *data = calloc(count, sizeof *data), *out = malloc(count * sizeof *out);
    return longspan_plan_execute(plan, data, data, data, out, NULL);
}

static int run_linear(longspan_context *context, const char *strategy)
{
    longspan_linear_problem p;
    longspan_linear_problem_default(&p);
    p.attention = "retention";
    p.tokens = TOKENS;
    p.heads = 1;
    p.dim = DIM;
    p.strategy = strategy;
    longspan_linear_plan *plan;
    if (longspan_linear_plan_create(context, &p, &plan)) return 1;
    const longspan_range rows = longspan_linear_plan_rows(plan);
    size_t count = (size_t)(rows.end - rows.begin) * DIM;
    float *data = calloc(count, sizeof *data), *out = malloc(count * sizeof *out);
    return longspan_linear_plan_execute(plan, &(longspan_linear_arrays){.q = data, .k = data, .v = data}, out);
}

int main(int argc, char **argv)
{
    int level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    longspan_options options;
    longspan_options_default(&options);
    options.stall_seconds = 1;
    options.progress = sleep_long;
    longspan_context *context;
    const char *strategy = argc > 1 ? argv[1] : "auto";
    if (longspan_context_create(MPI_COMM_WORLD, &options, &context)) return 1;
    if (argc > 2 ? run_linear(context, strategy) : run_softmax(context, strategy)) return 1;
    MPI_Finalize();
    return 0;
}
