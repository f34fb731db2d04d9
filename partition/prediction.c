#include "partition/prediction.h"

#include "partition/columns.h"

#include <stdlib.h>

enum { MOST_TILES = 16 };

const int64_t prediction_few_rows[PREDICTION_FEW] = {1, 4, 16};

const char *prediction_bound_name(prediction_bound bound)
{
    static const char *const names[] = {
        [BOUND_COMPUTE] = "compute", [BOUND_MEMORY] = "memory", [BOUND_TRANSFER] = "transfer"};
    return names[bound];
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* Folds. */

/* Key rows of the fold that any of some of its queries sees. */
static int64_t rows_seen(const schedule_problem *problem, const schedule_fold *fold, range query_rows)
{
    if (fold->sliced) {
        const slice all = schedule_fold_slice(problem, fold);
        const slice seen =
            slice_within(&all, layout_hull(&problem->query_layout, fold->query_origin, query_rows), all.keys);
        return slice_key_count(&seen);
    }
    if (!fold->look_inside) return range_length(fold->key_rows);
    const range queries = layout_hull(&problem->query_layout, fold->query_origin, query_rows);
    const range keys = mask_keys(&problem->mask, queries);
    return range_length(layout_rows_within(&problem->key_layout, fold->key_origin, fold->key_rows, keys));
}

/* Pairs of one head that are computed: `tile` query rows at a time against all that any of them sees. Of many tiles
 * some at even distances are looked at: for what they compute in vain where the rest has a closed form, else for all.
 */
static double pairs_computed(const schedule_problem *problem, const schedule_fold *fold, int64_t tile)
{
    const range all = fold->query_rows;
    const int64_t tokens = schedule_fold_queries(fold), tiles = (tokens + tile - 1) / tile;
    const bool closed_form = problem->query_layout.kind != LAYOUT_STRIPED && problem->key_layout.kind != LAYOUT_STRIPED;
    if (!fold->look_inside) return (double)(tiles * tile) * (double)schedule_fold_keys(fold);
    /* A slice's border cuts each tile about in half, once or twice. */
    if (fold->sliced) return (double)schedule_fold_pairs(problem, fold) + (double)(tiles * tile) * (double)tile / 2;
    const int64_t looked_at = tiles < MOST_TILES ? tiles : MOST_TILES;
    double computed = 0, seen = 0;
    for (int64_t i = 0; i < looked_at; i++) {
        const int64_t begin = all.begin + (2 * i + 1) * tiles / (2 * looked_at) * tile;
        schedule_fold part = *fold;
        part.query_rows = range_intersect((range){begin, begin + tile}, all);
        computed += (double)tile * (double)rows_seen(problem, fold, part.query_rows);
        if (looked_at < tiles && closed_form) seen += (double)schedule_fold_pairs(problem, &part);
    }
    const double share = (double)tiles / (double)looked_at;
    if (looked_at == tiles || !closed_form) return computed * share;
    return (double)schedule_fold_pairs(problem, fold) + (computed - seen) * share;
}

/* D + E. */
static double elements_of(const cost_sizes *sizes)
{
    return sizes->flops_per_pair / (2.0 * (double)sizes->batch);
}

/* Seconds that a key element takes where `rows` rows share it, up to the last of prediction_few_rows. */
static double few_seconds(const prediction_machine *machine, double rows)
{
    int i = 0;
    while (i + 2 < PREDICTION_FEW && rows > (double)prediction_few_rows[i + 1]) i++;
    const double from = (double)prediction_few_rows[i], to = (double)prediction_few_rows[i + 1];
    const double part = rows >= to ? 1 : rows > from ? (rows - from) / (to - from) : 0;
    return machine->few_seconds[i] + part * (machine->few_seconds[i + 1] - machine->few_seconds[i]);
}

double prediction_fold_seconds(const schedule_problem *problem, const cost_sizes *sizes,
                               const prediction_machine *machine, const schedule_fold *fold, bool *reading_p)
{
    const int heads = heads_count(fold->heads), kv_heads = heads_count(heads_of_keys(problem, fold->heads));
    const int64_t tokens = schedule_fold_queries(fold);
    /* that share a key */
    const double rows = fold->listed ? (double)fold->listed_rows : (double)tokens * heads / kv_heads;
    const double elements = elements_of(sizes), batch = (double)sizes->batch;

    const int64_t all_keys = schedule_fold_keys(fold);
    const double keys = fold->listed ? (double)all_keys : (double)rows_seen(problem, fold, fold->query_rows);
    const double reading = keys * kv_heads * elements * batch * few_seconds(machine, rows);
    *reading_p = rows <= (double)prediction_few_rows[PREDICTION_FEW - 1];
    if (*reading_p) return reading;
    const int64_t tile = (int64_t)machine->lanes * kv_heads / heads;
    const int64_t tiles = (fold->listed_rows - 1) / machine->lanes + 1;
    const double scores = fold->listed ? (double)(tiles * machine->lanes) * keys * kv_heads * batch
                                       : pairs_computed(problem, fold, tile > 1 ? tile : 1) * heads * batch;
    const double computing = scores * (machine->score_seconds + elements * machine->product_seconds);
    *reading_p = reading > computing;
    return larger(reading, computing);
}

/* Steps. */

/* Of all batch items. */
static double row_bytes(const cost_sizes *sizes, rows_kind kind, head_range heads)
{
    return (double)(sizes->row_bytes[kind] * heads_count(heads));
}

typedef struct {
    double compute, memory; /* seconds */
} work;

static bool same_queries(const schedule_fold *a, const schedule_fold *b)
{
    return a->query_origin == b->query_origin && a->query_rows.begin == b->query_rows.begin &&
           a->heads.begin == b->heads.begin && a->listed == b->listed;
}

static work work_of_step(const schedule *s, const schedule_step *step, const schedule_problem *problem,
                         const cost_sizes *sizes, const prediction_machine *machine)
{
    work w = {0};
    double bytes = 0;
    for (int64_t i = 0; i < step->clear_count; i++) {
        const schedule_clear *c = &step->clears[i];
        const head_range heads = c->slot == SLOT_HOME ? heads_all(problem->heads) : s->slots[c->slot].heads;
        bytes += (double)range_length(c->slot_rows) * row_bytes(sizes, ROWS_STATES, heads);
    }
    for (int64_t i = 0; i < step->fold_count; i++) {
        const schedule_fold *f = &step->folds[i];
        bool reading;
        const double seconds = prediction_fold_seconds(problem, sizes, machine, f, &reading);
        *(reading ? &w.memory : &w.compute) += seconds;
        if (i > 0 && same_queries(f, f - 1)) continue;
        /* queries are read; states are read and written; those that are listed while rows before them are folded */
        const double heads = row_bytes(sizes, ROWS_QUERIES, f->heads) + 2 * row_bytes(sizes, ROWS_STATES, f->heads);
        const double group = (double)problem->heads / problem->kv_heads;
        if (!f->listed) bytes += (double)schedule_fold_queries(f) * heads;
        else w.memory += larger(0, (double)f->listed_rows / group * heads / machine->memory_bandwidth - seconds);
    }
    for (int64_t i = 0; i < step->merge_count; i++)
        bytes += 3 * (double)step->merges[i].count * row_bytes(sizes, ROWS_STATES, step->merges[i].heads);
    w.memory += bytes / machine->memory_bandwidth;
    return w;
}

double prediction_link_seconds(const prediction_traffic *t, const prediction_link *link)
{
    return link->latency * larger(t->messages[0], t->messages[1]) + larger(t->bytes[0], t->bytes[1]) / link->bandwidth;
}

/* Seconds of a step's transfers, and in *busy_p those that the folding thread spends on them. */
static double transfers_of_step(int rank, const schedule_step *step, int node_ranks, const cost_sizes *sizes,
                                const prediction_machine *machine, double *busy_p)
{
    prediction_traffic inside = {0}, outside = {0};
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const schedule_transfer *t = &step->transfers[i];
        prediction_traffic *to = t->peer / node_ranks == rank / node_ranks ? &inside : &outside;
        to->messages[t->direction] += (double)cost_messages(sizes, step, i);
        to->bytes[t->direction] += (double)range_length(t->rows) * row_bytes(sizes, t->kind, t->heads);
    }
    const double within = prediction_link_seconds(&inside, &machine->node),
                 across = prediction_link_seconds(&outside, &machine->network);
    *busy_p = machine->node.busy * within + machine->network.busy * across;
    return larger(within, across);
}

/* Ranks. */

typedef struct {
    int rank;
    schedule *schedule;
    double now, end;
    work done;
} walker;

static walker *find_walker(walker *walkers, int count, int rank)
{
    for (int i = 0; i < count; i++)
        if (walkers[i].rank == rank) return &walkers[i];
    return NULL;
}

/* When the last of a step's peers, and the rank itself, has started it. */
static double latest_start(const walker *w, const schedule_step *step, walker *walkers, int count, double latest)
{
    double start = w->now;
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const walker *peer = find_walker(walkers, count, step->transfers[i].peer);
        start = larger(start, peer ? peer->now : latest);
    }
    return start;
}

static void walk_step(walker *walkers, int count, int64_t at, const schedule_problem *problem, const cost_sizes *sizes,
                      const prediction_machine *machine)
{
    double latest = 0;
    for (int i = 0; i < count; i++) latest = larger(latest, walkers[i].now);
    for (int i = 0; i < count; i++) {
        walker *w = &walkers[i];
        w->end = w->now;
        if (at >= w->schedule->step_count) continue;
        const schedule_step *step = &w->schedule->steps[at];
        if (step->fold_count + step->transfer_count + step->merge_count + step->clear_count == 0) continue;
        double busy;
        const work done = work_of_step(w->schedule, step, problem, sizes, machine);
        const double transfer = transfers_of_step(w->rank, step, problem->node_ranks, sizes, machine, &busy);
        const double start = latest_start(w, step, walkers, count, latest);
        w->done.compute += done.compute;
        w->done.memory += done.memory;
        w->end = machine->step_seconds + larger(w->now + done.compute + done.memory + busy, start + transfer);
    }
}

/* Where memory is shared, the ranks of a node start the next step together. */
static void wait_for_nodes(walker *walkers, int count, int64_t at, const schedule_problem *problem,
                           const prediction_machine *machine)
{
    for (int i = 0; i < count; i++) {
        const schedule *s = walkers[i].schedule;
        walkers[i].now = walkers[i].end;
        if (!s->shares_memory || at >= s->step_count) continue;
        for (int j = 0; j < count; j++)
            if (walkers[j].rank / problem->node_ranks == walkers[i].rank / problem->node_ranks)
                walkers[i].now = larger(walkers[i].now, walkers[j].end);
        walkers[i].now += machine->barrier_seconds;
    }
}

/* The state is cleared before the first step, and becomes out after the last: read and written once each. */
static double home_seconds(int rank, const schedule_problem *problem, const cost_sizes *sizes,
                           const prediction_machine *machine)
{
    const int64_t rows = layout_rank_tokens(&problem->query_layout, rank) * problem->heads;
    return (double)(rows * (2 * sizes->row_bytes[ROWS_STATES] + sizes->output_bytes)) / machine->memory_bandwidth;
}

static int64_t most_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void raise_counts(const walker *w, const schedule_problem *problem, const cost_sizes *sizes, prediction *p)
{
    const schedule *s = w->schedule;
    int64_t messages = 0;
    double bytes = 0;
    for (int64_t at = 0; at < s->step_count; at++) {
        for (int64_t i = 0; i < s->steps[at].transfer_count; i++) {
            const schedule_transfer *t = &s->steps[at].transfers[i];
            if (t->direction != TRANSFER_SEND) continue;
            messages += cost_messages(sizes, &s->steps[at], i);
            bytes += (double)range_length(t->rows) * row_bytes(sizes, t->kind, t->heads);
        }
    }
    p->steps = most_of(p->steps, s->step_count);
    p->messages = most_of(p->messages, messages);
    p->bytes_sent = most_of(p->bytes_sent, (int64_t)bytes);
    p->memory_bytes = most_of(p->memory_bytes, cost_memory(s, problem, sizes));
}

static prediction_bound bound_of(const prediction *p)
{
    if (p->compute >= p->memory && p->compute >= p->waiting) return BOUND_COMPUTE;
    return p->memory >= p->waiting ? BOUND_MEMORY : BOUND_TRANSFER;
}

static void walk(walker *walkers, int count, const schedule_problem *problem, const cost_sizes *sizes,
                 const prediction_machine *machine, prediction *p)
{
    for (int i = 0; i < count; i++) raise_counts(&walkers[i], problem, sizes, p);
    for (int64_t at = 0; at < p->steps; at++) {
        walk_step(walkers, count, at, problem, sizes, machine);
        wait_for_nodes(walkers, count, at, problem, machine);
    }
    for (int i = 0; i < count; i++) {
        const double home = home_seconds(walkers[i].rank, problem, sizes, machine);
        const double memory = walkers[i].done.memory + home;
        p->seconds = larger(p->seconds, walkers[i].now + home);
        if (i > 0 && walkers[i].done.compute + memory <= p->compute + p->memory) continue;
        p->busiest = walkers[i].rank;
        p->compute = walkers[i].done.compute;
        p->memory = memory;
    }
    p->waiting = p->seconds - p->compute - p->memory;
    p->bound = bound_of(p);
}

int prediction_make(const strategy *way, const schedule_problem *problem, const cost_sizes *sizes,
                    const prediction_machine *machine, prediction *prediction_p)
{
    int ranks[PREDICTION_ALL_RANKS], failed = 0;
    walker walkers[PREDICTION_ALL_RANKS] = {{0}};
    prediction p = {.ranks_seen = prediction_sample(way, problem, ranks)};
    for (int i = 0; i < p.ranks_seen && !failed; i++) {
        walkers[i].rank = ranks[i];
        failed = way->plan(problem, ranks[i], &walkers[i].schedule);
    }
    if (!failed) walk(walkers, p.ranks_seen, problem, sizes, machine, &p);
    for (int i = 0; i < p.ranks_seen; i++) schedule_destroy(walkers[i].schedule);
    if (failed) return -1;
    *prediction_p = p;
    return 0;
}

prediction prediction_of_rank(const schedule *s, const schedule_problem *problem, const cost_sizes *sizes,
                              const prediction_machine *machine)
{
    walker own = {.rank = s->rank, .schedule = (schedule *)s};
    prediction p = {.ranks_seen = 1};
    walk(&own, 1, problem, sizes, machine, &p);
    return p;
}

/* The sample. */

/* Pairs of a head, or of all heads of a sparse pattern together: what ranks are compared by. */
static int64_t pairs_of(const schedule_problem *problem, range queries, range keys)
{
    return problem->pattern ? pattern_sum_pairs(problem->pattern, &problem->mask, queries, keys)
                            : mask_pairs(&problem->mask, queries, keys);
}

/* Pairs that a rank's rows have with all rows of the other axis. */
static int64_t pairs_of_rank(const schedule_problem *problem, int rank, bool by_queries)
{
    const layout *l = by_queries ? &problem->query_layout : &problem->key_layout;
    const range queries = {0, problem->mask.queries}, keys = {0, problem->mask.keys};
    int64_t pairs = 0;
    for (int i = 0; i < layout_piece_count(l); i++) {
        const range tokens = layout_hull(l, rank, layout_piece(l, rank, i));
        pairs += by_queries ? pairs_of(problem, tokens, keys) : pairs_of(problem, queries, tokens);
    }
    return pairs;
}

double prediction_most_pairs(const schedule_problem *problem, bool by_queries, int *rank_p)
{
    const layout *l = by_queries ? &problem->query_layout : &problem->key_layout;
    const range queries = {0, problem->mask.queries}, keys = {0, problem->mask.keys};
    int64_t most = -1;
    *rank_p = 0;
    if (l->kind == LAYOUT_STRIPED) return (double)pairs_of(problem, queries, keys) / l->ranks;
    for (int rank = 0; rank < l->ranks; rank++) {
        const int64_t pairs = pairs_of_rank(problem, rank, by_queries);
        if (pairs <= most) continue;
        *rank_p = rank;
        most = pairs;
    }
    return (double)most;
}

int prediction_sample(const strategy *way, const schedule_problem *problem, int ranks[PREDICTION_ALL_RANKS])
{
    const int columns = way->columns ? way->columns(problem) : 1;
    const int all = problem->query_layout.ranks;
    int count = 0, by_queries, by_keys;
    if (all <= PREDICTION_ALL_RANKS) {
        for (int rank = 0; rank < all; rank++) ranks[rank] = rank;
        return all;
    }
    prediction_most_pairs(problem, true, &by_queries);
    by_keys = 0; /* of a pattern: the rank whose keys most others are likely to see */
    if (!problem->pattern) prediction_most_pairs(problem, false, &by_keys);
    const int notable[] = {by_queries, by_keys, all - 1, all / 2, 0};
    for (int i = 0; i < (all > PREDICTION_MANY_RANKS ? 3 : 5); i++) {
        const int wanted = columns > 1 ? columns_busiest(problem, columns, notable[i]) : notable[i];
        int at = 0;
        while (at < count && ranks[at] < wanted) at++;
        if (at < count && ranks[at] == wanted) continue;
        for (int j = count; j > at; j--) ranks[j] = ranks[j - 1];
        ranks[at] = wanted;
        count++;
    }
    return count;
}
