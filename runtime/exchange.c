#include "runtime/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Polling more often than this costs time and moves nothing more (measured overlap is complete at 100 us). */
static const double poll_interval = 20e-6;
/* While waiting with nothing to compute, spin this often before giving the core to another rank for a while. */
enum { SPINS_BEFORE_SLEEP = 200, SLEEP_NANOSECONDS = 20000 };

struct exchange {
    MPI_Comm comm;
    const schedule *schedule;
    int64_t batch;
    size_t k_bytes, v_bytes;
    double stall_seconds;

    MPI_Request *requests; /* of the running step, all posted; completed ones become MPI_REQUEST_NULL */
    int *finished;         /* MPI_Testsome's indices */
    int *peers;            /* of each request, for the stall message */
    int posted, pending;
    int64_t step;
    double started, last_poll, last_completion;
    exchange_totals totals;
};

static int64_t piece_count(size_t bytes)
{
    return (int64_t)((bytes + EXCHANGE_MAX_MESSAGE - 1) / EXCHANGE_MAX_MESSAGE);
}

exchange *exchange_create(MPI_Comm comm, const schedule *s, int64_t batch, size_t k_bytes, size_t v_bytes,
                          double stall_seconds)
{
    int64_t most = 1;
    for (int64_t i = 0; i < s->step_count; i++) {
        int64_t messages = 0;
        for (int64_t t = 0; t < s->steps[i].transfer_count; t++) {
            size_t tokens = (size_t)range_length(s->steps[i].transfers[t].keys);
            messages += batch * (piece_count(tokens * k_bytes) + piece_count(tokens * v_bytes));
        }
        if (messages > most) most = messages;
    }
    exchange *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->comm = comm;
    e->schedule = s;
    e->batch = batch;
    e->k_bytes = k_bytes;
    e->v_bytes = v_bytes;
    e->stall_seconds = stall_seconds;
    e->requests = malloc((size_t)most * sizeof *e->requests);
    e->finished = malloc((size_t)most * sizeof *e->finished);
    e->peers = malloc((size_t)most * sizeof *e->peers);
    if (!e->requests || !e->finished || !e->peers) {
        exchange_destroy(e);
        return NULL;
    }
    return e;
}

void exchange_destroy(exchange *e)
{
    if (!e) return;
    free(e->requests);
    free(e->finished);
    free(e->peers);
    free(e);
}

/* Posts `bytes` bytes at `data` in pieces. */
static void post(exchange *e, const schedule_transfer *t, char *data, size_t bytes)
{
    for (size_t done = 0; done < bytes; done += EXCHANGE_MAX_MESSAGE) {
        int count = (int)(bytes - done < EXCHANGE_MAX_MESSAGE ? bytes - done : EXCHANGE_MAX_MESSAGE);
        e->peers[e->posted] = t->peer;
        MPI_Request *request = &e->requests[e->posted++];
        if (t->direction == TRANSFER_SEND) {
            MPI_Isend(data + done, count, MPI_BYTE, t->peer, 0, e->comm, request);
            e->totals.bytes_sent += count;
            e->totals.messages_sent++;
        } else {
            MPI_Irecv(data + done, count, MPI_BYTE, t->peer, 0, e->comm, request);
            e->totals.bytes_received += count;
        }
    }
}

static void post_transfer(exchange *e, const schedule_transfer *t, const key_slot *slot)
{
    size_t tokens = (size_t)range_length(t->keys);
    for (int64_t b = 0; b < e->batch; b++) {
        size_t row = (size_t)(b * slot->rows + t->row);
        post(e, t, slot->k + row * e->k_bytes, tokens * e->k_bytes);
        post(e, t, slot->v + row * e->v_bytes, tokens * e->v_bytes);
    }
}

void exchange_start(exchange *e, int64_t step, const key_slot *home, const key_slot *slots)
{
    const schedule_step *s = &e->schedule->steps[step];
    e->step = step;
    e->posted = 0;
    /* Receives first: a message that finds its receive posted is not copied on the way. */
    for (int pass = 0; pass < 2; pass++) {
        transfer_direction direction = pass == 0 ? TRANSFER_RECEIVE : TRANSFER_SEND;
        for (int64_t i = 0; i < s->transfer_count; i++) {
            const schedule_transfer *t = &s->transfers[i];
            if (t->direction == direction) post_transfer(e, t, t->slot == SLOT_HOME ? home : &slots[t->slot]);
        }
    }
    e->pending = e->posted;
    e->started = e->last_poll = e->last_completion = MPI_Wtime();
}

/* Notes what has completed. */
static void test(exchange *e, double now)
{
    int count;
    MPI_Testsome(e->posted, e->requests, &count, e->finished, MPI_STATUSES_IGNORE);
    e->last_poll = now;
    if (count <= 0) return;
    e->pending -= count;
    e->last_completion = now;
    if (e->pending == 0) e->totals.transfer += now - e->started;
}

void exchange_poll(exchange *e)
{
    if (e->pending == 0) return;
    double now = MPI_Wtime();
    if (now - e->last_poll >= poll_interval) test(e, now);
}

static void abort_stalled(const exchange *e, double idle)
{
    int rank, peer = -1;
    MPI_Comm_rank(e->comm, &rank);
    for (int i = 0; i < e->posted && peer < 0; i++)
        if (e->requests[i] != MPI_REQUEST_NULL) peer = e->peers[i];
    fprintf(stderr,
            "longspan: rank %d has waited %.0f s for rank %d in step %lld: no transfer completed; giving up (a lost "
            "link or a stopped process?)\n",
            rank, idle, peer, (long long)e->step);
    MPI_Abort(e->comm, 1);
}

void exchange_finish(exchange *e)
{
    if (e->pending == 0) return;
    double begin = MPI_Wtime();
    for (int spins = 0; e->pending > 0; spins++) {
        double now = MPI_Wtime();
        test(e, now);
        double since = e->last_completion > begin ? e->last_completion : begin;
        if (e->stall_seconds > 0 && now - since > e->stall_seconds) abort_stalled(e, now - since);
        if (e->pending > 0 && spins >= SPINS_BEFORE_SLEEP)
            nanosleep(&(struct timespec){.tv_nsec = SLEEP_NANOSECONDS}, NULL);
    }
    e->totals.wait += MPI_Wtime() - begin;
}

void exchange_reset(exchange *e)
{
    e->totals = (exchange_totals){0};
}

exchange_totals exchange_read_totals(const exchange *e)
{
    return e->totals;
}
