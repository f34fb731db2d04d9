/* A rank that is late. The first argument says where, the second is a strategy:
 *
 *     folds    rank 0 sleeps inside its folds: the others must give up after stall_seconds, naming the step and whom
 * they wait for, instead of waiting for ever call     it sleeps before it calls execute: the same, naming the agreement
 *     patient  it sleeps as in folds, but no longer than it might have computed: all must end well
 *
 * The first two end by MPI_Abort; ctest looks for the line. */
#include "runtime/longspan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void sleep_once(int seconds)
{
    static int slept;
    if (!slept++) nanosleep(&(struct timespec){.tv_sec = seconds}, NULL);
}

static void progress(void *data, double fraction)
{
    (void)fraction;
    sleep_once(*(const int *)data);
}

int main(int argc, char **argv)
{
    int level, rank, seconds = 30;
    longspan_machine machine = {0};
    longspan_options options;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (argc != 3) return 2;
    longspan_options_default(&options);
    options.stall_seconds = 1;
    if (strcmp(argv[1], "call") != 0) options.progress = progress;
    options.progress_data = &seconds;
    if (strcmp(argv[1], "patient") == 0) {
        seconds = 3;
        machine.score_seconds[0] = 1e-6; /* an execute of some seconds */
        options.compute = "fp32";
        options.machine = &machine;
    }
    longspan_problem p;
    longspan_problem_default(&p);
    p.queries = 4096;
    p.heads = 1;
    p.dim = 16;
    p.strategy = argv[2];
    longspan_context *context;
    longspan_plan *plan;
    if (longspan_context_create(MPI_COMM_WORLD, &options, &context)) return 1;
    if (longspan_plan_create(context, &p, &plan)) return 1;
    size_t count = (size_t)longspan_plan_tokens(plan, LONGSPAN_QUERIES) * 16;
    float *data = calloc(count, sizeof *data), *out = malloc(count * sizeof *out);
    if (rank == 0 && strcmp(argv[1], "call") == 0) sleep_once(seconds);
    if (longspan_plan_execute(plan, data, data, data, out, NULL)) return 1;
    free(data);
    free(out);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
    MPI_Finalize();
    if (rank == 0) printf("all ranks came\n");
    return 0;
}
