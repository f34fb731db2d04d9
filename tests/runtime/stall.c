/* A rank that is late. The first argument says where, the second is a strategy, of linear attention if the third is
 * "linear":
 *
 *     folds    rank 0 sleeps inside its folds: the others must give up after stall_seconds, naming the step and whom
 *              they wait for, instead of waiting for ever
 *     call     it sleeps before it calls execute: the same, naming the agreement
 *     patient  it sleeps as in folds, but no longer than it might have computed: all must end well
 *
 * The first two end by MPI_Abort; ctest looks for the line. */
#include "runtime/longspan.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TOKENS = 4096, DIM = 16, SLEEP_SECONDS = 30, PATIENT_SECONDS = 3 };

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

static int run_softmax(longspan_context *context, const char *strategy, bool late)
{
    longspan_problem p;
    longspan_problem_default(&p);
    p.queries = TOKENS;
    p.heads = 1;
    p.dim = DIM;
    p.strategy = strategy;
    longspan_plan *plan;
    if (longspan_plan_create(context, &p, &plan)) return 1;
    const size_t count = (size_t)longspan_plan_tokens(plan, LONGSPAN_QUERIES) * DIM;
    float *data = calloc(count, sizeof *data), *out = malloc(count * sizeof *out);
    if (late) sleep_once(SLEEP_SECONDS);
    const longspan_status status = longspan_plan_execute(plan, data, data, data, out, NULL);
    free(data);
    free(out);
    longspan_plan_destroy(&plan);
    return status;
}

static int run_linear(longspan_context *context, const char *strategy, bool late)
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
    const size_t count = (size_t)(rows.end - rows.begin) * DIM;
    float *data = calloc(count, sizeof *data), *out = malloc(count * sizeof *out);
    if (late) sleep_once(SLEEP_SECONDS);
    const longspan_linear_arrays arrays = {.q = data, .k = data, .v = data};
    const longspan_status status = longspan_linear_plan_execute(plan, &arrays, out);
    free(data);
    free(out);
    longspan_linear_plan_destroy(&plan);
    return status;
}

int main(int argc, char **argv)
{
    int level, rank, seconds = SLEEP_SECONDS;
    longspan_machine machine = {0};
    longspan_options options;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (argc < 3) return 2;
    longspan_options_default(&options);
    options.stall_seconds = 1;
    if (strcmp(argv[1], "call") != 0) options.progress = progress;
    options.progress_data = &seconds;
    if (strcmp(argv[1], "patient") == 0) {
        seconds = PATIENT_SECONDS;
        machine.score_seconds[0] = machine.product_seconds[0] = 1e-6; /* an execute of some seconds */
        options.compute = "fp32";
        options.machine = &machine;
    }
    longspan_context *context;
    if (longspan_context_create(MPI_COMM_WORLD, &options, &context)) return 1;
    const bool late = rank == 0 && strcmp(argv[1], "call") == 0;
    if (argc > 3 ? run_linear(context, argv[2], late) : run_softmax(context, argv[2], late)) return 1;
    longspan_context_destroy(&context);
    MPI_Finalize();
    if (rank == 0) printf("all ranks came\n");
    return 0;
}
