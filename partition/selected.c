/* Fetch, of a selection (partition/selection.h): every rank gets exactly the keys that its queries have chosen,
 * straight from their owners, and folds block by block.
 *
 * A fold is one block of keys against the query rows that have chosen it, which are listed: so scattered rows share
 * each key that is loaded, as in a dense fold. Rows up to the last that does not see all of the block are a fold of
 * their own, so that the others need not look inside. A row's blocks are folded in ascending order, whoever owns them:
 * its bits depend on what it has chosen, not on the rank count, as far as shards and blocks begin on the grid of the
 * kernels.
 *
 *     step 0   sends and receives, all runs of a peer and class in one message; of every row those of its blocks that
 *              are at home, up to the first that is not;
 *     step 1   the rest.
 *
 * Key heads whose lists differ are classes: each has a slot of its own, in which its runs lie by ascending tokens. */
#include "partition/selected.h"

#include "partition/grown.h"
#include "partition/parcel.h"

#include <stdlib.h>

enum { STEPS = 2 };

/* A block in one step, for one class. */
typedef struct {
    range keys;      /* from the first to the last that a row sees */
    int64_t rows;    /* that see any */
    int64_t *listed; /* [rows], ascending */
    int64_t partial; /* of them, up to the last that does not see all of the keys */
} block_use;

/* Received tokens and where they lie. */
typedef struct {
    selection_run run;
    int64_t slot_row;
} held_run;

typedef struct {
    const schedule_problem *problem;
    const selection *chosen;
    schedule *s;
    int rank, classes, group;
    range own; /* keys */
    int64_t blocks;
    block_use *uses; /* [STEPS, classes, blocks] */
    held_run *held;
    int64_t held_count;
} selected;

static range keys_of(const selected *x, int rank)
{
    return layout_chunk(&x->problem->key_layout, rank);
}

static bool is_within(range inner, range outer)
{
    return outer.begin <= inner.begin && inner.end <= outer.end;
}

static block_use *use_of(const selected *x, int step, int class, int64_t block)
{
    return &x->uses[(step * x->classes + class) * x->blocks + block];
}

static int class_of(const selected *x, int list)
{
    if (x->chosen->lists == 1) return 0;
    return x->chosen->lists == x->problem->kv_heads ? list : list / x->group;
}

/* Calls `visit` with every block of every list of a token, the keys of it that the token sees, and the step. */
typedef void (*visit_fn)(const selected *x, int64_t row, int list, range keys, block_use *use);

static void visit_list(const selected *x, int64_t row, int list, range seen, visit_fn visit)
{
    const selection *c = x->chosen;
    const int32_t *blocks = c->blocks + (row * c->lists + list) * c->most;
    int step = 0;
    for (int64_t i = 0; i < c->most && blocks[i] >= 0; i++) {
        const range block = {blocks[i] * c->size, (blocks[i] + 1) * c->size}, keys = range_intersect(block, seen);
        if (range_is_empty(keys)) continue;
        if (!is_within(keys, x->own)) step = 1;
        visit(x, row, list, keys, use_of(x, step, class_of(x, list), blocks[i]));
    }
}

static void visit_all(const selected *x, visit_fn visit)
{
    const layout *l = &x->problem->query_layout;
    for (int64_t row = 0; row < layout_rank_tokens(l, x->rank); row++) {
        const range seen = mask_row(&x->problem->mask, layout_token(l, x->rank, row));
        for (int list = 0; list < x->chosen->lists; list++) visit_list(x, row, list, seen, visit);
    }
}

/* Rows of a key head that one list is of. */
static int64_t members(const selected *x)
{
    return x->chosen->lists == x->problem->heads ? 1 : x->group;
}

static void count_use(const selected *x, int64_t row, int list, range keys, block_use *use)
{
    (void)row;
    (void)list;
    use->keys = range_hull(use->keys, keys);
    use->rows += members(x);
}

static void list_rows(const selected *x, int64_t row, int list, range keys, block_use *use)
{
    const int64_t first = x->chosen->lists == x->problem->heads ? list % x->group : 0;
    for (int64_t i = 0; i < members(x); i++) use->listed[use->rows++] = row * x->group + first + i;
    if (range_length(keys) < range_length(use->keys)) use->partial = use->rows;
}

static int selected_begin(selected *x, const schedule_problem *problem, int rank)
{
    *x = (selected){.problem = problem, .chosen = problem->selection, .rank = rank};
    x->group = problem->heads / problem->kv_heads;
    x->classes = x->chosen->lists == 1 ? 1 : problem->kv_heads;
    x->own = keys_of(x, rank);
    x->blocks = (problem->mask.keys - 1) / x->chosen->size + 1;
    x->uses = calloc((size_t)x->blocks * (size_t)x->classes * STEPS, sizeof *x->uses);
    if (!x->uses) return -1;
    visit_all(x, count_use);
    return 0;
}

/* Needs. */

typedef struct {
    selection_run *runs;
    int64_t count;
} run_list;

/* Adds a run, in pieces of one owner each, to what ends before it. */
static int add_run(const selected *x, int class, range tokens, run_list *list)
{
    while (!range_is_empty(tokens)) {
        const int owner = (int)layout_chunk_of_token(&x->problem->key_layout, tokens.begin);
        const range piece = range_intersect(tokens, keys_of(x, owner));
        selection_run *last = list->count > 0 ? &list->runs[list->count - 1] : NULL;
        tokens.begin = piece.end;
        if (last && last->peer == owner && last->class == class && last->tokens.end == piece.begin) {
            last->tokens.end = piece.end;
            continue;
        }
        selection_run *runs = grown(list->runs, list->count, sizeof *runs);
        if (!runs) return -1;
        list->runs = runs;
        runs[list->count++] = (selection_run){owner, class, piece};
    }
    return 0;
}

static int compare_runs(const void *a, const void *b)
{
    const selection_run *x = a, *y = b;
    if (x->peer != y->peer) return x->peer < y->peer ? -1 : 1;
    if (x->class != y->class) return x->class < y->class ? -1 : 1;
    return (x->tokens.begin > y->tokens.begin) - (x->tokens.begin < y->tokens.begin);
}

static int find_needs(const selected *x, run_list *list)
{
    for (int class = 0; class < x->classes; class ++)
        for (int64_t block = 0; block < x->blocks; block++) {
            const range keys = use_of(x, 1, class, block)->keys;
            const range before = {keys.begin, keys.end < x->own.begin ? keys.end : x->own.begin};
            const range after = {keys.begin > x->own.end ? keys.begin : x->own.end, keys.end};
            if (range_is_empty(keys)) continue;
            if (range_is_empty(x->own)) {
                if (add_run(x, class, keys, list) != 0) return -1;
                continue;
            }
            if (add_run(x, class, before, list) != 0 || add_run(x, class, after, list) != 0) return -1;
        }
    if (list->count > 1) qsort(list->runs, (size_t)list->count, sizeof *list->runs, compare_runs);
    return 0;
}

int selected_needs(const schedule_problem *problem, int rank, selection_run **runs_p, int64_t *count_p)
{
    selected x;
    run_list list = {0};
    const int result = selected_begin(&x, problem, rank) != 0 ? -1 : find_needs(&x, &list);
    free(x.uses);
    if (result != 0) {
        free(list.runs);
        return -1;
    }
    *runs_p = list.runs;
    *count_p = list.count;
    return 0;
}

/* Transfers. */

static head_range heads_of_class(const selected *x, int class)
{
    return x->classes == 1 ? heads_all(x->problem->kv_heads) : (head_range){class, class + 1};
}

/* The transfers of runs that are sorted by peer and class. Slot c is of class c. */
static int add_transfers(selected *x, transfer_direction direction, const selection_run *runs, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const selection_run *run = &runs[i];
        const bool sends = direction == TRANSFER_SEND;
        const int origin = sends ? x->rank : run->peer;
        const int64_t before = keys_of(x, origin).begin;
        const range rows = {run->tokens.begin - before, run->tokens.end - before};
        schedule_slot *slot = &x->s->slots[run->class];
        const schedule_transfer t = {.direction = direction,
                                     .peer = run->peer,
                                     .kind = ROWS_KEYS,
                                     .origin = origin,
                                     .rows = rows,
                                     .heads = heads_of_class(x, run->class),
                                     .slot = sends ? SLOT_HOME : run->class,
                                     .slot_row = sends ? rows.begin : slot->rows,
                                     .joined = i > 0 && run[-1].peer == run->peer && run[-1].class == run->class};
        if (schedule_add_transfer(x->s, 0, t) != 0) return -1;
        if (sends) continue;
        x->held[x->held_count++] = (held_run){*run, slot->rows};
        slot->rows += range_length(rows);
    }
    return 0;
}

static int compare_held(const void *a, const void *b)
{
    const selection_run *x = &((const held_run *)a)->run, *y = &((const held_run *)b)->run;
    if (x->class != y->class) return x->class < y->class ? -1 : 1;
    return (x->tokens.begin > y->tokens.begin) - (x->tokens.begin < y->tokens.begin);
}

static int plan_transfers(selected *x)
{
    run_list needs = {0};
    int slot;
    for (int class = 0; class < x->classes; class ++)
        if (schedule_add_slot(x->s, ROWS_KEYS, heads_of_class(x, class), 0, &slot) != 0) return -1;
    int result = find_needs(x, &needs);
    if (result == 0) {
        x->held = malloc(((size_t)needs.count + 1) * sizeof *x->held);
        result = x->held ? add_transfers(x, TRANSFER_RECEIVE, needs.runs, needs.count) : -1;
    }
    free(needs.runs);
    if (result != 0 || add_transfers(x, TRANSFER_SEND, x->chosen->asked, x->chosen->asked_count) != 0) return -1;
    if (x->held_count > 1) qsort(x->held, (size_t)x->held_count, sizeof *x->held, compare_held);
    return 0;
}

/* Folds. */

/* The run of a class that holds a token. */
static const held_run *find_held(const selected *x, int class, int64_t token)
{
    int64_t low = 0, high = x->held_count - 1;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const selection_run *run = &x->held[middle].run;
        if (run->class < class || (run->class == class && run->tokens.end <= token)) low = middle + 1;
        else high = middle;
    }
    return &x->held[low];
}

/* The folds of a block with rows [first, last) of its list and key head: one for each piece of it that lies in one
 * place. */
static int add_folds(selected *x, int step, int class, int kv_head, const block_use *use, int64_t first, int64_t last)
{
    range keys = first < last ? use->keys : (range){0, 0};
    while (!range_is_empty(keys)) {
        const bool home = x->own.begin <= keys.begin && keys.begin < x->own.end;
        const held_run *held = home ? NULL : find_held(x, class, keys.begin);
        const range piece = range_intersect(keys, home ? x->own : held->run.tokens);
        const int origin = home ? x->rank : held->run.peer;
        const int64_t before = keys_of(x, origin).begin, held_before = home ? x->own.begin : held->run.tokens.begin;
        const schedule_fold fold = {.heads = {kv_head * x->group, (kv_head + 1) * x->group},
                                    .query_origin = x->rank,
                                    .query_rows = {0, layout_rank_tokens(&x->problem->query_layout, x->rank)},
                                    .query_slot = SLOT_HOME,
                                    .state_slot = SLOT_HOME,
                                    .key_origin = origin,
                                    .key_rows = {piece.begin - before, piece.end - before},
                                    .holder = x->rank,
                                    .key_slot = home ? SLOT_HOME : class,
                                    .key_slot_row = piece.begin - held_before + (home ? 0 : held->slot_row),
                                    .look_inside = last <= use->partial,
                                    .listed = use->listed + first,
                                    .listed_rows = last - first};
        if (schedule_add_fold(x->s, step, fold) != 0) return -1;
        keys.begin = piece.end;
    }
    return 0;
}

/* The folds of a step and key head. */
static int add_blocks(selected *x, int step, int class, int kv_head)
{
    for (int64_t block = 0; block < x->blocks; block++) {
        const block_use *use = use_of(x, step, class, block);
        if (add_folds(x, step, class, kv_head, use, 0, use->partial) != 0 ||
            add_folds(x, step, class, kv_head, use, use->partial, use->rows) != 0)
            return -1;
    }
    return 0;
}

static int plan_folds(selected *x)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < x->blocks * x->classes * STEPS; i++) rows += x->uses[i].rows;
    int64_t *next = x->s->listed = malloc(((size_t)rows + 1) * sizeof *next);
    if (!next) return -1;
    for (int64_t i = 0; i < x->blocks * x->classes * STEPS; i++) {
        x->uses[i].listed = next;
        next += x->uses[i].rows;
        x->uses[i].rows = 0;
    }
    visit_all(x, list_rows);
    for (int step = 0; step < STEPS; step++)
        for (int head = 0; head < x->problem->kv_heads; head++)
            if (add_blocks(x, step, x->classes == 1 ? 0 : head, head) != 0) return -1;
    return 0;
}

static int selected_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    selected x;
    int result = selected_begin(&x, problem, rank);
    x.s = schedule_create(rank, STEPS);
    if (result != 0 || !x.s || plan_transfers(&x) != 0 || plan_folds(&x) != 0) result = -1;
    free(x.uses);
    free(x.held);
    if (result != 0) {
        schedule_destroy(x.s);
        return -1;
    }
    schedule_drop_idle_tail(x.s);
    *schedule_p = x.s;
    return 0;
}

static const char *selected_refuse(const schedule_problem *problem)
{
    const char *fault = schedule_sparse_problem_fault(problem);
    if (fault) return fault;
    if (!problem->selection) return "it is for selected blocks of keys";
    if (problem->query_layout.kind != LAYOUT_CONTIGUOUS || problem->key_layout.kind != LAYOUT_CONTIGUOUS)
        return "selected blocks need layout contiguous";
    return NULL;
}

const strategy strategy_selected = {
    .name = "fetch",
    .summary = "every rank gets exactly the keys that its queries have chosen; memory for these",
    .refuse = selected_refuse,
    .plan = selected_plan,
    .sparse = true,
};
