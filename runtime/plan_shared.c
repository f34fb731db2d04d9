/* A plan's keys in memory that the ranks of its node share: this rank's own ones and its slots of keys, one segment a
 * rank. A segment begins with a description of itself, so that the others know what lies where. */
#include "runtime/plan.h"

#include <stdlib.h>

/* Of one store; offsets from the segment's beginning. */
typedef struct {
    int64_t rows;
    head_range heads;
    uint64_t offset[2];
} store_place;

typedef struct {
    int slot_count;
    store_place stores[]; /* home, then the slots; those of other kinds are empty */
} segment_head;

static size_t align(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Puts a store at the end of a segment of *bytes bytes, which grows. */
static store_place place_store(const longspan_plan *plan, const row_store *store, size_t *bytes)
{
    store_place place = {.rows = store->rows, .heads = store->heads};
    for (int t = 0; t < 2; t++) {
        place.offset[t] = *bytes;
        *bytes = align(*bytes + (size_t)(plan->problem.batch * store->rows) * (size_t)heads_count(store->heads) *
                                    plan->formats[ROWS_KEYS].head_bytes[t]);
    }
    return place;
}

/* Fills *head in, unless it is NULL, and returns the bytes of the whole segment. */
static size_t place_all(const longspan_plan *plan, segment_head *head)
{
    const schedule *s = plan->schedule;
    size_t bytes = align(sizeof *head + (size_t)(s->slot_count + 1) * sizeof *head->stores);
    const store_place home = place_store(plan, &plan->stores.home[ROWS_KEYS], &bytes);
    if (head) {
        head->slot_count = s->slot_count;
        head->stores[0] = home;
    }
    for (int i = 0; i < s->slot_count; i++) {
        if (s->slots[i].kind != ROWS_KEYS) continue;
        const store_place place = place_store(plan, &plan->stores.slots[i], &bytes);
        if (head) head->stores[1 + i] = place;
    }
    return bytes;
}

static row_store store_at(char *segment, const store_place *place)
{
    return (row_store){place->rows, place->heads, {segment + place->offset[0], segment + place->offset[1]}};
}

/* The stores of another rank of the node, or of this one, as its segment describes them. */
static void read_stores(row_stores *stores, char *segment, failure *f)
{
    const segment_head *head = (const segment_head *)(void *)segment;
    stores->home[ROWS_KEYS] = store_at(segment, &head->stores[0]);
    stores->slots = calloc((size_t)head->slot_count + 1, sizeof *stores->slots);
    if (!stores->slots) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the slots of the node");
        return;
    }
    for (int i = 0; i < head->slot_count; i++) stores->slots[i] = store_at(segment, &head->stores[1 + i]);
}

static void use_own(longspan_plan *plan, char *segment)
{
    const segment_head *head = (const segment_head *)(void *)segment;
    plan->stores.home[ROWS_KEYS] = store_at(segment, &head->stores[0]);
    for (int i = 0; i < plan->schedule->slot_count; i++)
        if (plan->schedule->slots[i].kind == ROWS_KEYS) plan->stores.slots[i] = store_at(segment, &head->stores[1 + i]);
}

longspan_status plan_share_memory(longspan_plan *plan, failure *f)
{
    longspan_context *context = plan->context;
    plan->shared = shared_memory_create(context, place_all(plan, NULL), f);
    if (!plan->shared) return f->status;
    char *own = shared_memory_of(plan->shared, context->node.comm_rank);
    place_all(plan, (segment_head *)(void *)own);
    use_own(plan, own);
    if (context_agree(context, f) != LONGSPAN_OK) return f->status;
    plan->node = calloc((size_t)context->node.comm_ranks, sizeof *plan->node);
    if (!plan->node) failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the stores of the node");
    for (int i = 0; plan->node && i < context->node.comm_ranks; i++)
        read_stores(&plan->node[i], shared_memory_of(plan->shared, i), f);
    return context_agree(context, f);
}

void plan_unshare_memory(longspan_plan *plan)
{
    for (int i = 0; plan->node && i < plan->context->node.comm_ranks; i++) free(plan->node[i].slots);
    free(plan->node);
    if (!plan->shared) return;
    for (int i = 0; i < plan->schedule->slot_count; i++)
        if (plan->schedule->slots[i].kind == ROWS_KEYS) plan->stores.slots[i] = (row_store){0};
    shared_memory_destroy(plan->shared);
}
