#include "runtime/exchange.h"

#include "partition/message.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* `bytes` bytes, the next ones of the same type `stride` bytes on: some heads of a row. */
typedef struct {
    size_t bytes, stride;
    MPI_Datatype type;
} strided_type;

/* A message of joined transfers: rows [done, done + rows) of them, one after the other, of one tensor. */
typedef struct {
    const schedule_transfer *first;
    int tensor;
    int64_t done, rows;
    MPI_Datatype type; /* from the first row of the first transfer on */
} joined_message;

struct exchange {
    MPI_Comm node;
    const schedule *schedule;
    int64_t batch;
    row_format formats[ROWS_KINDS];
    const row_stores *stores;
    strided_type *types;
    int type_count;
    joined_message *joined;             /* by step, transfer, tensor, row */
    int64_t joined_count, *step_joined; /* step_joined[i]: the first of step i */
    request_set transfers, barrier;
    step_record *record;
};

/* How a tensor of a transfer is cut: `rows` rows a message, of `bytes` bytes each. */
typedef struct {
    int64_t rows;
    size_t bytes, stride;
} cut;

static cut cut_of(const row_format *format, int tensor, const schedule_transfer *t, const row_store *store)
{
    const size_t head = format->head_bytes[tensor];
    cut c = {.bytes = (size_t)heads_count(t->heads) * head, .stride = (size_t)heads_count(store->heads) * head};
    c.rows = message_rows((int64_t)c.bytes);
    return c;
}

/* Rows of a transfer and of those joined to it. */
static int64_t rows_joined(const schedule_step *step, int64_t first)
{
    int64_t rows = 0;
    for (int64_t i = first; i < schedule_joined_end(step, first); i++) rows += range_length(step->transfers[i].rows);
    return rows;
}

static int64_t messages_of_step(const exchange *e, const schedule_step *step)
{
    int64_t messages = 0;
    for (int64_t i = 0; i < step->transfer_count; i = schedule_joined_end(step, i)) {
        const schedule_transfer *t = &step->transfers[i];
        const row_format *format = &e->formats[t->kind];
        for (int tensor = 0; tensor < format->tensors; tensor++) {
            const cut c = cut_of(format, tensor, t, row_stores_find(e->stores, t->kind, t->slot));
            messages += e->batch * message_count(rows_joined(step, i), (int64_t)c.bytes);
        }
    }
    return messages;
}

static MPI_Datatype find_type(const exchange *e, size_t bytes, size_t stride)
{
    for (int i = 0; i < e->type_count; i++)
        if (e->types[i].bytes == bytes && e->types[i].stride == stride) return e->types[i].type;
    return MPI_DATATYPE_NULL;
}

static bool add_type(exchange *e, size_t bytes, size_t stride)
{
    if (find_type(e, bytes, stride) != MPI_DATATYPE_NULL) return true;
    strided_type *types = realloc(e->types, ((size_t)e->type_count + 1) * sizeof *types);
    if (!types) return false;
    e->types = types;
    strided_type *made = &types[e->type_count++];
    *made = (strided_type){bytes, stride, MPI_DATATYPE_NULL};
    MPI_Datatype block;
    MPI_Type_contiguous((int)bytes, MPI_BYTE, &block);
    MPI_Type_create_resized(block, 0, (MPI_Aint)stride, &made->type);
    MPI_Type_commit(&made->type);
    MPI_Type_free(&block);
    return true;
}

/* The types of all transfers of some of a store's heads, and of those that are joined. */
static bool add_types(exchange *e)
{
    for (int64_t i = 0; i < e->schedule->step_count; i++) {
        const schedule_step *step = &e->schedule->steps[i];
        for (int64_t j = 0; j < step->transfer_count; j++) {
            const schedule_transfer *t = &step->transfers[j];
            const row_format *format = &e->formats[t->kind];
            for (int tensor = 0; tensor < format->tensors; tensor++) {
                const cut c = cut_of(format, tensor, t, row_stores_find(e->stores, t->kind, t->slot));
                const bool typed = c.bytes != c.stride || schedule_joined_end(step, j) > j + 1;
                if (typed && !add_type(e, c.bytes, c.stride)) return false;
            }
        }
    }
    return true;
}

/* The type of a message of joined transfers: runs of rows of a type, `stride` bytes apart. False if memory ran out. */
static bool make_joined_type(joined_message *m, int64_t count, size_t stride, MPI_Datatype row)
{
    int *lengths = malloc((size_t)count * sizeof *lengths);
    MPI_Aint *places = malloc((size_t)count * sizeof *places);
    int runs = 0;
    int64_t before = 0; /* rows of the transfers before */
    for (int64_t i = 0; i < count && lengths && places; i++) {
        const schedule_transfer *t = &m->first[i];
        const range part =
            range_intersect((range){m->done - before, m->done + m->rows - before}, (range){0, range_length(t->rows)});
        before += range_length(t->rows);
        if (range_is_empty(part)) continue;
        /* Rows of a message, which are no more than an int can say; runs that touch are one. */
        const int length = (int)range_length(part);
        const MPI_Aint place = (MPI_Aint)(t->slot_row - m->first->slot_row + part.begin) * (MPI_Aint)stride;
        const bool touches = runs > 0 && places[runs - 1] + (MPI_Aint)lengths[runs - 1] * (MPI_Aint)stride == place;
        lengths[runs - touches] = touches ? lengths[runs - 1] + length : length;
        places[runs - touches] = touches ? places[runs - 1] : place;
        runs += !touches;
    }
    const bool made = lengths && places;
    if (made) {
        MPI_Type_create_hindexed(runs, lengths, places, row, &m->type);
        MPI_Type_commit(&m->type);
    }
    free(lengths);
    free(places);
    return made;
}

/* All messages of joined transfers of a step. */
static bool add_joined(exchange *e, const schedule_step *step)
{
    for (int64_t i = 0, end; i < step->transfer_count; i = end) {
        const schedule_transfer *t = &step->transfers[i];
        end = schedule_joined_end(step, i);
        for (int tensor = 0; end > i + 1 && tensor < e->formats[t->kind].tensors; tensor++) {
            const cut c = cut_of(&e->formats[t->kind], tensor, t, row_stores_find(e->stores, t->kind, t->slot));
            const int64_t rows = rows_joined(step, i), messages = message_count(rows, (int64_t)c.bytes);
            joined_message *joined = realloc(e->joined, (size_t)(e->joined_count + messages) * sizeof *joined);
            if (!joined) return false;
            e->joined = joined;
            for (int64_t done = 0; done < rows; done += c.rows) {
                joined_message *m = &e->joined[e->joined_count];
                *m = (joined_message){t, tensor, done, done + c.rows < rows ? c.rows : rows - done, MPI_DATATYPE_NULL};
                if (!make_joined_type(m, end - i, c.stride, find_type(e, c.bytes, c.stride))) return false;
                e->joined_count++;
            }
        }
    }
    return true;
}

static bool add_all_joined(exchange *e)
{
    e->step_joined = calloc((size_t)e->schedule->step_count + 1, sizeof *e->step_joined);
    if (!e->step_joined) return false;
    for (int64_t i = 0; i < e->schedule->step_count; i++) {
        if (!add_joined(e, &e->schedule->steps[i])) return false;
        e->step_joined[i + 1] = e->joined_count;
    }
    return true;
}

exchange *exchange_create(MPI_Comm comm, MPI_Comm node, const schedule *s, int64_t batch,
                          const row_format formats[ROWS_KINDS], const row_stores *stores)
{
    exchange *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->node = node;
    e->schedule = s;
    e->batch = batch;
    e->stores = stores;
    for (int kind = 0; kind < ROWS_KINDS; kind++) e->formats[kind] = formats[kind];
    int64_t most = 0;
    for (int64_t i = 0; i < s->step_count; i++) {
        const int64_t messages = messages_of_step(e, &s->steps[i]);
        if (messages > most) most = messages;
    }
    if (!add_types(e) || !add_all_joined(e) || !request_set_create(&e->transfers, comm, most) ||
        !request_set_create(&e->barrier, comm, 1)) {
        exchange_destroy(e);
        return NULL;
    }
    snprintf(e->barrier.where, sizeof e->barrier.where, "the start of an execute");
    return e;
}

void exchange_destroy(exchange *e)
{
    if (!e) return;
    for (int i = 0; i < e->type_count; i++) MPI_Type_free(&e->types[i].type);
    for (int64_t i = 0; i < e->joined_count; i++) MPI_Type_free(&e->joined[i].type);
    free(e->types);
    free(e->joined);
    free(e->step_joined);
    request_set_destroy(&e->transfers);
    request_set_destroy(&e->barrier);
    free(e);
}

void exchange_synchronise(exchange *e)
{
    if (!e->schedule->shares_memory) return;
    request_set_begin(&e->barrier);
    atomic_thread_fence(memory_order_seq_cst);
    MPI_Ibarrier(e->node, request_set_add(&e->barrier, REQUEST_OF_NODE));
    request_set_wait(&e->barrier);
    atomic_thread_fence(memory_order_seq_cst);
}

void step_records_add(const step_record *records, int64_t steps, longspan_timing *timing)
{
    for (const step_record *r = records; r < records + steps; r++) {
        timing->compute += r->computed - r->begin;
        timing->wait += r->end - r->computed;
        timing->transfer += r->transferred - r->begin;
        timing->bytes_sent += r->bytes_sent;
        timing->bytes_received += r->bytes_received;
        timing->messages_sent += r->messages_sent;
    }
}

void step_begin(request_set *transfers, int64_t step, step_record *record)
{
    *record = (step_record){.waited_for = -1};
    snprintf(transfers->where, sizeof transfers->where, "step %lld", (long long)step);
    request_set_begin(transfers);
    record->begin = record->transferred = MPI_Wtime();
}

/* Notes when the last transfer was found complete. */
static void note_completion(const request_set *transfers, step_record *record)
{
    if (transfers->posted > 0 && transfers->pending == 0) record->transferred = transfers->last_completion;
}

void step_poll(request_set *transfers, step_record *record)
{
    if (transfers->pending > 0 && request_set_poll(transfers)) note_completion(transfers, record);
}

void step_wait(request_set *transfers, step_record *record)
{
    if (transfers->pending == 0) return;
    request_set_wait(transfers);
    note_completion(transfers, record);
    record->waited_for = transfers->last_peer;
}

/* `count` items of a type, `bytes` in all. */
static void post_typed(request_set *transfers, transfer_direction direction, int peer, void *data, int count,
                       MPI_Datatype type, int64_t bytes, step_record *record)
{
    MPI_Request *request = request_set_add(transfers, peer);
    if (direction == TRANSFER_SEND) {
        MPI_Isend(data, count, type, peer, 0, transfers->comm, request);
        record->bytes_sent += bytes;
        record->messages_sent++;
    } else {
        MPI_Irecv(data, count, type, peer, 0, transfers->comm, request);
        record->bytes_received += bytes;
    }
}

void step_post(request_set *transfers, transfer_direction direction, int peer, void *data, size_t bytes,
               step_record *record)
{
    post_typed(transfers, direction, peer, data, (int)bytes, MPI_BYTE, (int64_t)bytes, record);
}

/* Posts one message of a transfer, of `bytes` bytes: `count` of a type. */
static void post_message(exchange *e, const schedule_transfer *t, char *data, int count, MPI_Datatype type,
                         int64_t bytes)
{
    post_typed(&e->transfers, t->direction, t->peer, data, count, type, bytes, e->record);
}

/* Posts one message of `rows` rows. */
static void post(exchange *e, const schedule_transfer *t, char *data, cut c, int64_t rows)
{
    const int64_t bytes = rows * (int64_t)c.bytes;
    if (c.bytes == c.stride) post_message(e, t, data, (int)bytes, MPI_BYTE, bytes);
    else post_message(e, t, data, (int)rows, find_type(e, c.bytes, c.stride), bytes);
}

/* The first message of the transfers that are joined to this one. */
static const joined_message *find_joined(const exchange *e, int64_t step, const schedule_transfer *first)
{
    int64_t low = e->step_joined[step], high = e->step_joined[step + 1];
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (e->joined[middle].first < first) low = middle + 1;
        else high = middle;
    }
    return &e->joined[low];
}

static void post_joined(exchange *e, const schedule_transfer *t, const joined_message *m)
{
    const row_store *store = row_stores_find(e->stores, t->kind, t->slot);
    const row_format *format = &e->formats[t->kind];
    const joined_message *end = e->joined + e->joined_count;
    for (int64_t b = 0; b < e->batch; b++)
        for (const joined_message *at = m; at < end && at->first == t; at++) {
            const int64_t bytes = at->rows * (int64_t)cut_of(format, at->tensor, t, store).bytes;
            post_message(e, t, row_at(store, format, at->tensor, b, t->slot_row, t->heads.begin), 1, at->type, bytes);
        }
}

static void post_transfer(exchange *e, const schedule_transfer *t)
{
    const row_store *store = row_stores_find(e->stores, t->kind, t->slot);
    const row_format *format = &e->formats[t->kind];
    const int64_t rows = range_length(t->rows);
    for (int64_t b = 0; b < e->batch; b++)
        for (int tensor = 0; tensor < format->tensors; tensor++) {
            const cut c = cut_of(format, tensor, t, store);
            for (int64_t done = 0; done < rows; done += c.rows) {
                char *data = row_at(store, format, tensor, b, t->slot_row + done, t->heads.begin);
                post(e, t, data, c, done + c.rows < rows ? c.rows : rows - done);
            }
        }
}

void exchange_start(exchange *e, int64_t step, step_record *record)
{
    const schedule_step *s = &e->schedule->steps[step];
    e->record = record;
    snprintf(e->barrier.where, sizeof e->barrier.where, "step %lld", (long long)step);
    step_begin(&e->transfers, step, record);
    /* Receives first: a message that finds its receive posted is not copied on the way. */
    for (int pass = 0; pass < 2; pass++) {
        const transfer_direction direction = pass == 0 ? TRANSFER_RECEIVE : TRANSFER_SEND;
        for (int64_t i = 0, end; i < s->transfer_count; i = end) {
            const schedule_transfer *t = &s->transfers[i];
            end = schedule_joined_end(s, i);
            if (t->direction != direction) continue;
            if (end > i + 1) post_joined(e, t, find_joined(e, step, t));
            else post_transfer(e, t);
        }
    }
}

void exchange_poll(exchange *e)
{
    step_poll(&e->transfers, e->record);
}

void exchange_finish(exchange *e)
{
    step_wait(&e->transfers, e->record);
    const double before = MPI_Wtime();
    exchange_synchronise(e);
    e->record->end = MPI_Wtime();
    e->record->node_wait = e->record->end - before;
}
