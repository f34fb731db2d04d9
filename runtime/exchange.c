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

struct exchange {
    MPI_Comm node;
    const schedule *schedule;
    int64_t batch;
    row_format formats[ROWS_KINDS];
    const row_stores *stores;
    strided_type *types;
    int type_count;
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

static int64_t messages_of_step(const exchange *e, const schedule_step *step)
{
    int64_t messages = 0;
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const schedule_transfer *t = &step->transfers[i];
        const row_format *format = &e->formats[t->kind];
        for (int tensor = 0; tensor < format->tensors; tensor++) {
            const cut c = cut_of(format, tensor, t, row_stores_find(e->stores, t->kind, t->slot));
            messages += e->batch * message_count(range_length(t->rows), (int64_t)c.bytes);
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

/* The types of all transfers of some of a store's heads. */
static bool add_types(exchange *e)
{
    for (int64_t i = 0; i < e->schedule->step_count; i++) {
        const schedule_step *step = &e->schedule->steps[i];
        for (int64_t j = 0; j < step->transfer_count; j++) {
            const schedule_transfer *t = &step->transfers[j];
            const row_format *format = &e->formats[t->kind];
            for (int tensor = 0; tensor < format->tensors; tensor++) {
                const cut c = cut_of(format, tensor, t, row_stores_find(e->stores, t->kind, t->slot));
                if (c.bytes != c.stride && !add_type(e, c.bytes, c.stride)) return false;
            }
        }
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
    if (!add_types(e) || !request_set_create(&e->transfers, comm, most) ||
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
    free(e->types);
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

/* Posts one message of `rows` rows. */
static void post(exchange *e, const schedule_transfer *t, char *data, cut c, int64_t rows)
{
    MPI_Datatype type = MPI_BYTE;
    int count = (int)((size_t)rows * c.bytes);
    if (c.bytes != c.stride) {
        type = find_type(e, c.bytes, c.stride);
        count = (int)rows;
    }
    post_typed(&e->transfers, t->direction, t->peer, data, count, type, rows * (int64_t)c.bytes, e->record);
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
        for (int64_t i = 0; i < s->transfer_count; i++)
            if (s->transfers[i].direction == direction) post_transfer(e, &s->transfers[i]);
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
