#include "runtime/cli/run_steps.h"

#include "runtime/patience.h"

#include <stdlib.h>

typedef struct {
    double value;
    int rank;
} value_of_rank; /* as MPI_DOUBLE_INT */

enum { SUM_COMPUTE, SUM_WAIT, SUM_BYTES, SUMS };
enum { MOST_COMPUTE, MOST_WAIT, MOSTS };

/* Of S steps: place i of step n at n + i S. */
typedef struct {
    double *sum;         /* [SUMS, S] */
    value_of_rank *most; /* [MOSTS, S] */
    double *transfer;    /* [S] */
    int *waited_for;     /* [S] rank + 1, 0 for none */
} tables;

static bool tables_open(MPI_Comm comm, int64_t steps, tables *t, run_step **step_p)
{
    const size_t count = (size_t)steps + 1;
    t->sum = calloc(SUMS * count, sizeof *t->sum);
    t->most = calloc(MOSTS * count, sizeof *t->most);
    t->transfer = calloc(count, sizeof *t->transfer);
    t->waited_for = calloc(count, sizeof *t->waited_for);
    *step_p = calloc(count, sizeof **step_p);
    int ok = t->sum && t->most && t->transfer && t->waited_for && *step_p;
    wait_allreduce(MPI_IN_PLACE, &ok, 1, MPI_INT, MPI_MIN, comm);
    return ok;
}

static void tables_close(tables *t)
{
    free(t->sum);
    free(t->most);
    free(t->transfer);
    free(t->waited_for);
}

/* This rank's steps; of those that it does not have, zeros. */
static void fill(const step_record *records, int64_t count, int64_t steps, int rank, tables *t)
{
    for (int64_t n = 0; n < steps; n++) {
        const step_record none = {.waited_for = -1}, *r = n < count ? &records[n] : &none;
        const double compute = r->computed - r->begin, wait = r->end - r->computed;
        t->sum[n + SUM_COMPUTE * steps] = compute;
        t->sum[n + SUM_WAIT * steps] = wait;
        t->sum[n + SUM_BYTES * steps] = (double)r->bytes_sent;
        t->most[n + MOST_COMPUTE * steps] = (value_of_rank){compute, rank};
        t->most[n + MOST_WAIT * steps] = (value_of_rank){wait, rank};
        t->transfer[n] = r->transferred - r->begin;
    }
}

static step_statistics statistics_of(const tables *t, int sum, int most, int64_t n, int64_t steps, int ranks)
{
    const value_of_rank largest = t->most[n + most * steps];
    return (step_statistics){.mean = t->sum[n + sum * steps] / ranks, .max = largest.value, .max_rank = largest.rank};
}

run_steps run_steps_gather(MPI_Comm comm, const step_record *records, int64_t count)
{
    int rank, ranks;
    int64_t steps;
    run_steps gathered = {0};
    tables t;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    wait_allreduce(&count, &steps, 1, MPI_INT64_T, MPI_MAX, comm);
    if (!tables_open(comm, steps, &t, &gathered.step)) {
        tables_close(&t);
        run_steps_free(&gathered);
        return gathered;
    }
    fill(records, count, steps, rank, &t);
    wait_allreduce(MPI_IN_PLACE, t.sum, SUMS * (int)steps, MPI_DOUBLE, MPI_SUM, comm);
    wait_allreduce(MPI_IN_PLACE, t.most, MOSTS * (int)steps, MPI_DOUBLE_INT, MPI_MAXLOC, comm);
    wait_allreduce(MPI_IN_PLACE, t.transfer, (int)steps, MPI_DOUBLE, MPI_MAX, comm);
    for (int64_t n = 0; n < count; n++)
        if (t.most[n + MOST_WAIT * steps].rank == rank) t.waited_for[n] = records[n].waited_for + 1;
    wait_allreduce(MPI_IN_PLACE, t.waited_for, (int)steps, MPI_INT, MPI_MAX, comm);
    for (int64_t n = 0; n < steps; n++)
        gathered.step[n] = (run_step){
            .compute = statistics_of(&t, SUM_COMPUTE, MOST_COMPUTE, n, steps, ranks),
            .wait = statistics_of(&t, SUM_WAIT, MOST_WAIT, n, steps, ranks),
            .waited_for = t.waited_for[n] - 1,
            .transfer = t.transfer[n],
            .bytes_sent = t.sum[n + SUM_BYTES * steps],
        };
    gathered.count = steps;
    tables_close(&t);
    return gathered;
}

void run_steps_free(run_steps *steps)
{
    free(steps->step);
    *steps = (run_steps){0};
}

static json_t *statistics_json(const step_statistics *s)
{
    return json_pack("{s:f, s:f, s:i}", "mean", s->mean, "max", s->max, "max_rank", s->max_rank);
}

json_t *run_steps_json(const run_steps *steps)
{
    json_t *array = json_array();
    for (int64_t n = 0; n < steps->count; n++) {
        const run_step *step = &steps->step[n];
        json_array_append_new(array, json_pack("{s:o, s:o, s:i, s:f, s:f}", "compute", statistics_json(&step->compute),
                                               "wait", statistics_json(&step->wait), "waited_for", step->waited_for,
                                               "transfer_max", step->transfer, "bytes_sent", step->bytes_sent));
    }
    return array;
}

void run_steps_print(FILE *to, const run_steps *steps)
{
    int64_t worst = 0;
    for (int64_t n = 1; n < steps->count; n++)
        if (steps->step[n].wait.max > steps->step[worst].wait.max) worst = n;
    if (steps->count == 0 || steps->step[worst].wait.max <= 0) return;
    const run_step *step = &steps->step[worst];
    fprintf(to, "  waits    longest %.4f s, by rank %d in step %lld of %lld", step->wait.max, step->wait.max_rank,
            (long long)worst + 1, (long long)steps->count);
    if (step->waited_for >= 0) fprintf(to, ", for rank %d", step->waited_for);
    fprintf(to, "\n");
}
