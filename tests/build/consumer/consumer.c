/* A program of its own that uses an installed Longspan: causal attention over sharded tokens whose values are all one, so
 * that every output must be one and the log-sum-exp of row i of equal scores must be log(i + 1). */
#include <longspan.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKENS = 301, HEADS = 3, KV_HEADS = 1, DIM = 8 };

static float *filled(int64_t count, float value)
{
    float *array = malloc((size_t)(count > 0 ? count : 1) * sizeof *array);
    if (!array) {
        MPI_Abort(MPI_COMM_WORLD, 1);
        return NULL;
    }
    for (int64_t i = 0; i < count; i++) array[i] = value;
    return array;
}

static void must(longspan_context *context, longspan_status status, const char *what)
{
    if (status == LONGSPAN_OK) return;
    fprintf(stderr, "%s: %s: %s\n", what, longspan_status_string(status),
            context ? longspan_context_error(context) : "");
    MPI_Abort(MPI_COMM_WORLD, 1);
}

int main(int argc, char **argv)
{
    int provided, rank, ranks;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);

    longspan_options options;
    longspan_options_default(&options);
    options.threads = 1;
    longspan_context *context = NULL;
    must(NULL, longspan_context_create(MPI_COMM_WORLD, &options, &context), "context");

    longspan_problem problem;
    longspan_problem_default(&problem);
    problem.queries = TOKENS;
    problem.heads = HEADS;
    problem.kv_heads = KV_HEADS;
    problem.dim = DIM;
    problem.causal = 1;
    longspan_plan *plan = NULL;
    must(context, longspan_plan_create(context, &problem, &plan), "plan");

    const int64_t tokens = longspan_plan_tokens(plan, LONGSPAN_QUERIES);
    longspan_range ranges[TOKENS];
    int64_t range_count = 0;
    must(context, longspan_plan_rows(plan, LONGSPAN_QUERIES, ranges, TOKENS, &range_count), "rows");

    float *q = filled(tokens * HEADS * DIM, 0.5f), *k = filled(tokens * KV_HEADS * DIM, 0.0f);
    float *v = filled(tokens * KV_HEADS * DIM, 1.0f), *out = filled(tokens * HEADS * DIM, -1.0f);
    float *lse = filled(tokens * HEADS, -1.0f);
    must(context, longspan_plan_execute(plan, q, k, v, out, lse), "execute");

    int64_t row = 0, wrong = 0;
    for (int64_t r = 0; r < range_count; r++)
        for (int64_t token = ranges[r].begin; token < ranges[r].end; token++, row++)
            for (int h = 0; h < HEADS; h++) {
                wrong += !(fabs(lse[row * HEADS + h] - log((double)token + 1.0)) < 1e-5);
                for (int d = 0; d < DIM; d++) wrong += !(fabs(out[(row * HEADS + h) * DIM + d] - 1.0) < 1e-5);
            }

    int64_t totals[2] = {row, wrong};
    MPI_Allreduce(MPI_IN_PLACE, totals, 2, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    const int failed = totals[0] != TOKENS || totals[1] != 0;
    if (rank == 0)
        printf("longspan %s on %d ranks: %lld rows, %lld wrong numbers: %s\n", longspan_version(), ranks,
               (long long)totals[0], (long long)totals[1], failed ? "FAILED" : "PASSED");

    free(q);
    free(k);
    free(v);
    free(out);
    free(lse);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
    MPI_Finalize();
    return failed;
}
