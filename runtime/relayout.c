/* Runs the moves of partition/relayout.h: one message a move and batch item, or several where it is large. Runs of rows
 * travel as a derived type, straight from and to where they lie. */
#include "partition/message.h"
#include "partition/relayout.h"
#include "runtime/plan.h"
#include "runtime/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct longspan_relayout {
    longspan_context *context;
    int64_t batch;
    size_t row_bytes;
    layout from, to;
    int64_t from_tokens, to_tokens; /* T on each side */
    relayout moves;
    /* Of each move, for the side that this rank has: runs, each `length` rows, as far apart as that side's step. NULL
     * handles where a message is a piece of one run. */
    MPI_Datatype *types;
    request_set requests;
};

static size_t run_bytes(const longspan_relayout *r, const relayout_move *move)
{
    return (size_t)move->length * r->row_bytes;
}

/* Messages of one batch item: several runs each, or several for each run. */
static int64_t runs_per_message(const longspan_relayout *r, const relayout_move *move)
{
    return message_rows((int64_t)run_bytes(r, move));
}

static bool runs_are_cut(const longspan_relayout *r, const relayout_move *move)
{
    return run_bytes(r, move) > MESSAGE_MAX_BYTES;
}

static int64_t messages_of_move(const longspan_relayout *r, const relayout_move *move)
{
    const int64_t pieces = (int64_t)((run_bytes(r, move) + MESSAGE_MAX_BYTES - 1) / MESSAGE_MAX_BYTES);
    return runs_are_cut(r, move) ? move->count * pieces : message_count(move->count, (int64_t)run_bytes(r, move));
}

static bool is_local(const relayout_move *move)
{
    return move->sender == move->receiver;
}

static void make_types(longspan_relayout *r)
{
    for (int64_t i = 0; i < r->moves.move_count; i++) {
        const relayout_move *move = &r->moves.moves[i];
        r->types[i] = MPI_DATATYPE_NULL;
        if (is_local(move) || runs_are_cut(r, move)) continue;
        const int64_t step = move->sender == r->context->rank ? move->from_step : move->to_step;
        MPI_Datatype run;
        MPI_Type_contiguous((int)run_bytes(r, move), MPI_BYTE, &run);
        MPI_Type_create_resized(run, 0, (MPI_Aint)((size_t)step * r->row_bytes), &r->types[i]);
        MPI_Type_commit(&r->types[i]);
        MPI_Type_free(&run);
    }
}

static layout layout_of(const char *name, const char *which, int64_t tokens, int ranks, failure *f)
{
    layout_kind kind = LAYOUT_CONTIGUOUS;
    int64_t block = 0;
    if (!name || !layout_from_name(name, &kind, &block))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "layout '%s' of %s is not known", name ? name : "NULL", which);
    return (layout){kind, tokens, block > 0 ? block : layout_default_grain(kind, tokens, ranks), ranks};
}

static void check(const longspan_relayout_problem *p, failure *f)
{
    static const int64_t most_tokens = (int64_t)1 << 31, most_batch = 1 << 20;
    static const size_t most_bytes = (size_t)1 << 31;
    if (p->batch < 1 || p->batch > most_batch)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "batch is %lld, not 1 to %lld", (long long)p->batch,
                    (long long)most_batch);
    if (p->tokens < 1 || p->tokens > most_tokens)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "tokens is %lld, not 1 to 2^31", (long long)p->tokens);
    if (p->row_bytes < 1 || p->row_bytes > most_bytes)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "row_bytes is %zu, not 1 to 2^31", p->row_bytes);
}

static longspan_relayout *build(longspan_context *context, const longspan_relayout_problem *p, failure *f)
{
    check(p, f);
    longspan_relayout *r = calloc(1, sizeof *r);
    if (!r) failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for a change of layout");
    if (f->status != LONGSPAN_OK) return r;
    r->context = context;
    r->batch = p->batch;
    r->row_bytes = p->row_bytes;
    r->from = layout_of(p->from, "from", p->tokens, context->ranks, f);
    r->to = layout_of(p->to, "to", p->tokens, context->ranks, f);
    if (f->status != LONGSPAN_OK) return r;
    r->from_tokens = layout_rank_tokens(&r->from, context->rank);
    r->to_tokens = layout_rank_tokens(&r->to, context->rank);
    if (relayout_plan(&r->from, &r->to, context->rank, &r->moves) != 0) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the moves of a change of layout");
        return r;
    }
    int64_t messages = 0;
    for (int64_t i = 0; i < r->moves.move_count; i++)
        if (!is_local(&r->moves.moves[i])) messages += r->batch * messages_of_move(r, &r->moves.moves[i]);
    r->types = malloc((size_t)(r->moves.move_count + 1) * sizeof *r->types);
    if (!r->types || !request_set_create(&r->requests, context->comm, messages)) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the messages of a change of layout");
        return r;
    }
    make_types(r);
    snprintf(r->requests.where, sizeof r->requests.where, "a change of layout");
    return r;
}

longspan_status longspan_relayout_create(longspan_context *context, const longspan_relayout_problem *problem,
                                         longspan_relayout **relayout_p)
{
    *relayout_p = NULL;
    failure f = {0};
    const agreement_value equal[] = {
        {"batch", problem->batch},
        {"tokens", problem->tokens},
        {"row_bytes", (int64_t)problem->row_bytes},
        {"from", agreement_hash_text(problem->from)},
        {"to", agreement_hash_text(problem->to)},
    };
    if (context_agree_equal(context, equal, sizeof equal / sizeof *equal, &f) != LONGSPAN_OK) return f.status;
    longspan_relayout *r = build(context, problem, &f);
    if (context_agree(context, &f) != LONGSPAN_OK) {
        longspan_relayout_destroy(&r);
        return f.status;
    }
    *relayout_p = r;
    return LONGSPAN_OK;
}

void longspan_relayout_destroy(longspan_relayout **relayout_p)
{
    if (!relayout_p || !*relayout_p) return;
    longspan_relayout *r = *relayout_p;
    /* Types are made last: where there are requests there are types. */
    for (int64_t i = 0; r->requests.requests && i < r->moves.move_count; i++)
        if (r->types[i] != MPI_DATATYPE_NULL) MPI_Type_free(&r->types[i]);
    request_set_destroy(&r->requests);
    free(r->types);
    relayout_free(&r->moves);
    free(r);
    *relayout_p = NULL;
}

longspan_status longspan_relayout_rows(const longspan_relayout *relayout, longspan_relayout_side side,
                                       longspan_range *ranges, int64_t capacity, int64_t *count_p)
{
    if (side != LONGSPAN_FROM && side != LONGSPAN_TO) return LONGSPAN_ERROR_ARGUMENT;
    return plan_layout_rows(side == LONGSPAN_FROM ? &relayout->from : &relayout->to, relayout->context->rank, ranges,
                            capacity, count_p);
}

int64_t longspan_relayout_tokens(const longspan_relayout *relayout, longspan_relayout_side side)
{
    return side == LONGSPAN_FROM ? relayout->from_tokens : relayout->to_tokens;
}

/* Sends or receives `count` items of `type` at `data`. */
static void post(longspan_relayout *r, const relayout_move *move, char *data, int count, MPI_Datatype type)
{
    const bool sends = move->sender == r->context->rank;
    const int peer = sends ? move->receiver : move->sender;
    MPI_Request *request = request_set_add(&r->requests, peer);
    if (sends) MPI_Isend(data, count, type, peer, 0, r->requests.comm, request);
    else MPI_Irecv(data, count, type, peer, 0, r->requests.comm, request);
}

/* `rows`: the array of a batch item on this rank's side of the move. */
static void post_move(longspan_relayout *r, int64_t index, char *rows)
{
    const relayout_move *move = &r->moves.moves[index];
    const bool sends = move->sender == r->context->rank;
    const int64_t first = sends ? move->from : move->to, step = sends ? move->from_step : move->to_step;
    const int64_t most = runs_per_message(r, move);
    for (int64_t run = 0; run < move->count; run += most) {
        char *data = rows + (size_t)(first + run * step) * r->row_bytes;
        if (!runs_are_cut(r, move)) {
            post(r, move, data, (int)(move->count - run < most ? move->count - run : most), r->types[index]);
            continue;
        }
        const size_t bytes = run_bytes(r, move);
        for (size_t done = 0; done < bytes; done += MESSAGE_MAX_BYTES)
            post(r, move, data + done, (int)(bytes - done < MESSAGE_MAX_BYTES ? bytes - done : MESSAGE_MAX_BYTES),
                 MPI_BYTE);
    }
}

static void move_here(const longspan_relayout *r, const relayout_move *move, const char *in, char *out)
{
    for (int64_t run = 0; run < move->count; run++)
        memcpy(out + (size_t)(move->to + run * move->to_step) * r->row_bytes,
               in + (size_t)(move->from + run * move->from_step) * r->row_bytes, run_bytes(r, move));
}

/* Posts the receives, the sends, or makes the moves within this rank. */
typedef enum { RECEIVES, SENDS, LOCAL_MOVES, PASSES } pass;

static void run_pass(longspan_relayout *r, pass which, const char *in, char *out)
{
    const int rank = r->context->rank;
    for (int64_t b = 0; b < r->batch; b++) {
        const char *item_in = in + (size_t)(b * r->from_tokens) * r->row_bytes;
        char *item_out = out + (size_t)(b * r->to_tokens) * r->row_bytes;
        for (int64_t i = 0; i < r->moves.move_count; i++) {
            const relayout_move *move = &r->moves.moves[i];
            const pass when = is_local(move) ? LOCAL_MOVES : move->sender == rank ? SENDS : RECEIVES;
            if (when != which) continue;
            if (which == LOCAL_MOVES) move_here(r, move, item_in, item_out);
            else post_move(r, i, which == SENDS ? (char *)item_in : item_out);
        }
        request_set_poll(&r->requests);
    }
}

longspan_status longspan_relayout_execute(longspan_relayout *relayout, const void *in, void *out)
{
    failure f = {0};
    if (relayout->from_tokens > 0 && !in)
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "in is NULL on a rank that has tokens");
    if (relayout->to_tokens > 0 && !out)
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "out is NULL on a rank that gets tokens");
    if (context_agree(relayout->context, &f) != LONGSPAN_OK) return f.status;
    request_set_begin(&relayout->requests);
    for (int which = RECEIVES; which < PASSES; which++) run_pass(relayout, (pass)which, in, out);
    request_set_wait(&relayout->requests);
    return LONGSPAN_OK;
}
