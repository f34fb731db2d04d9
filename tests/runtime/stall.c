/* A rank that stops answering: rank 0 sleeps inside its folds, and the others must give up after stall_seconds, naming
 * the step and whom they wait for, instead of waiting for ever. The argument is a strategy. Ends by MPI_Abort; ctest
 * looks for the line. */
#include "runtime/longspan.h"

#include <stdlib.h>
#include <time.h>

static void sleep_long(void *data, double fraction)
{
    (void)data;
    (void)fraction;
    nanosleep(&(struct timespec){.tv_sec = 30}, NULL);
}

int main(int argc, char **argv)
{
    int level;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    longspan_options options;
    longspan_options_default(&options);
    options.stall_seconds = 1;
    options.progress = sleep_long;
    longspan_problem p;
    longspan_problem_default(&p);
    p.queries = 4096;
    p.heads = 1;
    p.dim = 16;
    p.strategy = argc > 1 ? argv[1] : "auto";
    longspan_context *context;
    longspan_plan *plan;
    if (longspan_context_create(MPI_COMM_WORLD, &options, &context)) return 1;
    if (longspan_plan_create(context, &p, &plan)) return 1;
    size_t count = (size_t)longspan_plan_tokens(plan, LONGSPAN_QUERIES) * 16;
    float *data = calloc(count, sizeof *data), *out = malloc(count * sizeof *out);
    longspan_plan_execute(plan, data, data, data, out, NULL);
    MPI_Finalize();
    return 0;
}
