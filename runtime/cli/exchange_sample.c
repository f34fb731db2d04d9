#include "runtime/cli/exchange_sample.h"

#include <stdlib.h>
#include <string.h>

exchange_partners exchange_within_node(MPI_Comm node)
{
    int rank, ranks;
    MPI_Comm_rank(node, &rank);
    MPI_Comm_size(node, &ranks);
    if (ranks == 1) return (exchange_partners){node, -1, -1};
    return (exchange_partners){node, (rank + 1) % ranks, (rank + ranks - 1) % ranks};
}

exchange_partners exchange_across_nodes(MPI_Comm comm, int node_ranks)
{
    int rank, ranks;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    if (node_ranks >= ranks) return (exchange_partners){comm, -1, -1};
    return (exchange_partners){comm, (rank + node_ranks) % ranks, (rank + ranks - node_ranks) % ranks};
}

void exchange_memory_create(int64_t bytes, exchange_memory *memory_p, failure *f)
{
    *memory_p = (exchange_memory){.sent = malloc((size_t)bytes), .received = malloc((size_t)bytes), .bytes = bytes};
    if (!memory_p->sent || !memory_p->received) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: 2 x %.1f MiB for messages", (double)bytes / 1048576);
        return;
    }
    memset(memory_p->sent, 1, (size_t)bytes);
    memset(memory_p->received, 2, (size_t)bytes);
}

void exchange_memory_destroy(exchange_memory *memory)
{
    free(memory->sent);
    free(memory->received);
    *memory = (exchange_memory){0};
}

void exchange_begin(const exchange_partners *p, exchange_memory *memory, int64_t bytes, exchange_in_flight *flight_p)
{
    *flight_p = (exchange_in_flight){.requests = {MPI_REQUEST_NULL, MPI_REQUEST_NULL}};
    if (p->to < 0) return;
    if (memory->next + bytes > memory->bytes) memory->next = 0;
    MPI_Irecv(memory->received + memory->next, (int)bytes, MPI_BYTE, p->from, 0, p->comm, &flight_p->requests[0]);
    MPI_Isend(memory->sent + memory->next, (int)bytes, MPI_BYTE, p->to, 0, p->comm, &flight_p->requests[1]);
    memory->next += bytes;
    flight_p->pending = true;
}

void exchange_progress(exchange_in_flight *flight)
{
    int all = 0;
    if (!flight->pending) return;
    MPI_Testall(2, flight->requests, &all, MPI_STATUSES_IGNORE);
    flight->pending = !all;
}

void exchange_end(exchange_in_flight *flight)
{
    MPI_Waitall(2, flight->requests, MPI_STATUSES_IGNORE);
    flight->pending = false;
}

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median_of(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_numbers);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

/* Here MPI itself waits, without a limit: what has one sleeps in between (patience.h), which would be measured. */
double exchange_seconds(const exchange_partners *p, exchange_memory *memory, int64_t bytes, int times, int samples)
{
    double seconds[EXCHANGE_MOST_SAMPLES];
    for (int i = 0; i < samples; i++) {
        MPI_Barrier(p->comm);
        const double started = MPI_Wtime();
        for (int j = 0; j < times; j++) {
            exchange_in_flight flight;
            exchange_begin(p, memory, bytes, &flight);
            exchange_end(&flight);
        }
        seconds[i] = (MPI_Wtime() - started) / times;
    }
    return median_of(seconds, samples);
}

double barrier_seconds(MPI_Comm comm, int times, int samples)
{
    double seconds[EXCHANGE_MOST_SAMPLES];
    for (int i = 0; i < samples; i++) {
        MPI_Barrier(comm);
        const double started = MPI_Wtime();
        for (int j = 0; j < times; j++) MPI_Barrier(comm);
        seconds[i] = (MPI_Wtime() - started) / times;
    }
    return median_of(seconds, samples);
}
