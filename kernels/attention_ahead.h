/* Rows to come, queries and states wherever they are, are fetched into the cache while scores are made:
 * a line or two a term of the sums, because more at once than the core has buffers for would hold up its products.
 * Included with LANES and the like defined, see attention_task.h. */
#ifndef KERNELS_ATTENTION_AHEAD_H
#define KERNELS_ATTENTION_AHEAD_H

#include "kernels/attention_task.h"

enum { SLICE_BYTES = DOT_CHUNK * LINE }; /* of a row: what a chunk of terms fetches, at most */

/* Fetches the rows of lanes from `lane` on, a slice of q and the same of o a chunk, with each term what is so many
 * bytes further than with the one before. Without branches: a line may be fetched twice. Addresses, since rounding up
 * may lead out of the row. */
typedef struct {
    const row_list *list;
    int value_dim;
    int lane, slice, slices; /* the next slice, of so many a lane */
    int chunks, due;         /* chunks of a block; slices due, times chunks */
    uintptr_t q, o;          /* the slice that is being fetched */
    uintptr_t q_step, o_step;
    int64_t number_bytes; /* of q */
} rows_ahead;

INLINE rows_ahead rows_ahead_begin(const fold_task *task)
{
    const attention_call *call = task->call;
    const int number_bytes = (int)number_size(call->type), q = number_bytes * call->dim;
    const int o = (int)sizeof(float) * call->value_dim;
    const int slices = ((q > o ? q : o) - 1) / SLICE_BYTES + 1, terms = slices * DOT_CHUNK;
    return (rows_ahead){
        .list = &task->ahead,
        .value_dim = call->value_dim,
        .lane = task->ahead_lane,
        .slices = slices,
        .chunks = ATTENTION_KEY_BLOCK / SCORE_TILE * ((call->dim - 1) / DOT_CHUNK + 1),
        .q = (uintptr_t)task->span->q,
        .o = (uintptr_t)task->span->state.o,
        .q_step = (uintptr_t)((q - 1) / terms + 1),
        .o_step = (uintptr_t)((o - 1) / terms + 1),
        .number_bytes = number_bytes,
    };
}

INLINE void rows_ahead_fetch(const rows_ahead *ahead, int term)
{
    __builtin_prefetch((const void *)(ahead->q + (uintptr_t)term * ahead->q_step));
    __builtin_prefetch((const void *)(ahead->o + (uintptr_t)term * ahead->o_step));
}

/* The slice of the next chunk; those of a sub-block are dealt out evenly among the chunks of a whole block. Where a
 * chunk has several, all but the last are fetched here; where it has none, it fetches the one before again. */
INLINE void rows_ahead_next(rows_ahead *ahead)
{
    const row_list *list = ahead->list;
    const attention_span *span = list->span;
    ahead->due += SUB_LANES * ahead->slices;
    while (ahead->due >= ahead->chunks && ahead->lane < list->rows) {
        const int64_t row = list->state[ahead->lane];
        const int64_t q = list->query[ahead->lane] * ahead->number_bytes;
        __builtin_prefetch(&span->state.m[row]);
        __builtin_prefetch(&span->state.l[row]);
        ahead->q = (uintptr_t)span->q + (uintptr_t)q + (uintptr_t)(ahead->slice * DOT_CHUNK) * ahead->q_step;
        ahead->o =
            (uintptr_t)(span->state.o + row * ahead->value_dim) + (uintptr_t)(ahead->slice * DOT_CHUNK) * ahead->o_step;
        if (++ahead->slice == ahead->slices) {
            ahead->slice = 0;
            ahead->lane++;
        }
        ahead->due -= ahead->chunks;
        for (int term = 0; ahead->due >= ahead->chunks && term < DOT_CHUNK; term++) rows_ahead_fetch(ahead, term);
    }
}

#endif
