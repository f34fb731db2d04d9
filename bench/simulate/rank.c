/* One rank of a simulated cluster, for SimGrid's SMPI (bench/simulate/simulate builds and starts it).
 *
 * It makes its schedule with partition/ and sends, through runtime/exchange.c, the messages that the executor would
 * send, in the same order and of the same sizes; the simulator says how long they take on its platform. Folds are not
 * computed: simulated time passes instead, pairs * flops / rate. Two bounds on what a real run can do:
 *
 *     overlap=1   transfers move while a rank computes: as fast as overlap can make it
 *     overlap=0   a rank computes, then its transfers start: what happens when nobody progresses them
 *
 * Merges and clears of states, agreement at the start and the conversion at the end are left out: they are of order N/P.
 *
 * Arguments: NAME=VALUE, all of them, as `main` reads them. Rank 0 prints one object of JSON. */
#include "partition/cost.h"
#include "runtime/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
    int64_t tokens;
    int heads, kv_heads, dim, value_dim, element; /* element: bytes of a number of q, k, v */
    int causal, node_ranks, overlap;
    double rate; /* flop/s a rank */
    const char *strategy, *layout;
} settings;

/* What a rank measured; reduced over ranks field by field. */
enum { WALL, COMPUTE, WAIT, BYTES_SENT, MESSAGES, FIELDS };
static const char *const field_names[FIELDS] = {"wall", "compute", "wait", "bytes_sent", "messages"};

static void fail(const char *text)
{
    fprintf(stderr, "simulate: %s\n", text);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

static const char *argument(int argc, char **argv, const char *name)
{
    const size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, length) == 0 && argv[i][length] == '=') return argv[i] + length + 1;
    fprintf(stderr, "simulate: %s= is missing\n", name);
    fail("see the top of rank.c");
    return NULL;
}

static settings read_settings(int argc, char **argv)
{
    return (settings){
        .tokens = atoll(argument(argc, argv, "tokens")),
        .heads = atoi(argument(argc, argv, "heads")),
        .kv_heads = atoi(argument(argc, argv, "kv_heads")),
        .dim = atoi(argument(argc, argv, "dim")),
        .value_dim = atoi(argument(argc, argv, "value_dim")),
        .element = atoi(argument(argc, argv, "element")),
        .causal = atoi(argument(argc, argv, "causal")),
        .node_ranks = atoi(argument(argc, argv, "node_ranks")),
        .overlap = atoi(argument(argc, argv, "overlap")),
        .rate = atof(argument(argc, argv, "rate")),
        .strategy = argument(argc, argv, "strategy"),
        .layout = argument(argc, argv, "layout"),
    };
}

static schedule *make_schedule(const settings *o, int rank, int ranks, schedule_problem *problem_p)
{
    int rows, columns;
    layout_kind kind;
    int64_t block;
    const strategy *chosen = strategy_find(o->strategy, &rows, &columns);
    if (!chosen) fail("there is no strategy of that name");
    if (!layout_from_name(o->layout, &kind, &block)) fail("there is no layout of that name");
    const layout l = {kind, o->tokens, block > 0 ? block : layout_default_grain(kind, o->tokens, ranks), ranks};
    *problem_p = (schedule_problem){
        .mask = {.queries = o->tokens,
                 .keys = o->tokens,
                 .causal = o->causal,
                 .window_left = MASK_UNLIMITED,
                 .window_right = MASK_UNLIMITED,
                 .chunks_left = MASK_UNLIMITED,
                 .chunks_right = MASK_UNLIMITED},
        .query_layout = l,
        .key_layout = l,
        .heads = o->heads,
        .kv_heads = o->kv_heads,
        .node_ranks = o->node_ranks,
        .may_share = o->node_ranks > 1,
        .columns = columns,
    };
    const char *refusal = chosen->refuse(problem_p);
    if (refusal) fail(refusal);
    schedule *s;
    if (chosen->plan(problem_p, rank, &s)) fail("no memory for a schedule");
    return s;
}

/* The rows of all ranks lie in the same few pages: what travels is not looked at. */
static row_store make_store(const row_format *format, int64_t rows, head_range heads)
{
    row_store store = {.rows = rows, .heads = heads};
    for (int t = 0; t < format->tensors; t++)
        store.data[t] = SMPI_SHARED_MALLOC((size_t)rows * (size_t)heads_count(heads) * format->head_bytes[t] + 1);
    return store;
}

static row_stores make_stores(const row_format formats[ROWS_KINDS], const schedule *s, const schedule_problem *problem)
{
    const int64_t tokens = layout_rank_tokens(&problem->query_layout, s->rank);
    row_stores stores = {.slots = calloc((size_t)s->slot_count + 1, sizeof *stores.slots)};
    if (!stores.slots) fail("no memory for slots");
    for (int kind = 0; kind < ROWS_KINDS; kind++) {
        const int heads = kind == ROWS_KEYS ? problem->kv_heads : problem->heads;
        stores.home[kind] = make_store(&formats[kind], tokens, heads_all(heads));
    }
    for (int i = 0; i < s->slot_count; i++)
        stores.slots[i] = make_store(&formats[s->slots[i].kind], s->slots[i].rows, s->slots[i].heads);
    return stores;
}

static void pass(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    nanosleep(&time, NULL);
}

/* All steps of a schedule, as the executor walks them. `seconds`: of the folds of each step. */
static void run(exchange *e, const schedule *s, const double *seconds, bool overlap, double *fields)
{
    const double begin = MPI_Wtime();
    exchange_synchronise(e);
    for (int64_t i = 0; i < s->step_count; i++) {
        step_record record;
        if (!overlap) pass(seconds[i]);
        exchange_start(e, i, &record);
        if (overlap) pass(seconds[i]);
        const double computed = MPI_Wtime();
        exchange_finish(e);
        fields[COMPUTE] += seconds[i];
        fields[WAIT] += MPI_Wtime() - computed;
        fields[BYTES_SENT] += (double)record.bytes_sent;
        fields[MESSAGES] += (double)record.messages_sent;
    }
    fields[WALL] = MPI_Wtime() - begin;
}

static void print_fields(const double *fields, int rank, int ranks)
{
    double least[FIELDS], most[FIELDS], sum[FIELDS];
    MPI_Reduce(fields, least, FIELDS, MPI_DOUBLE, MPI_MIN, 0, MPI_COMM_WORLD);
    MPI_Reduce(fields, most, FIELDS, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    MPI_Reduce(fields, sum, FIELDS, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank != 0) return;
    printf("{\"ranks\": %d", ranks);
    for (int i = 0; i < FIELDS; i++)
        printf(", \"%s\": {\"min\": %.9g, \"mean\": %.9g, \"max\": %.9g}", field_names[i], least[i], sum[i] / ranks,
               most[i]);
    printf("}\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const settings o = read_settings(argc, argv);
    schedule_problem problem;
    schedule *s = make_schedule(&o, rank, ranks, &problem);

    const size_t key = (size_t)o.dim * (size_t)o.element, value = (size_t)o.value_dim * (size_t)o.element;
    const row_format formats[ROWS_KINDS] = {
        [ROWS_KEYS] = {2, {key, value}},
        [ROWS_QUERIES] = {1, {key}},
        [ROWS_STATES] = {3, {(size_t)o.value_dim * sizeof(float), sizeof(float), sizeof(float)}},
    };
    const cost_sizes sizes = {.flops_per_pair = 2.0 * (o.dim + o.value_dim)};
    double *seconds = calloc((size_t)s->step_count + 1, sizeof *seconds), fields[FIELDS] = {0};
    if (!seconds) fail("no memory for the times of steps");
    for (int64_t i = 0; i < s->step_count; i++) {
        cost_step step;
        cost_of_step(s, i, &problem, &sizes, &step);
        seconds[i] = (double)step.pairs * sizes.flops_per_pair / o.rate;
    }
    const row_stores stores = make_stores(formats, s, &problem);
    MPI_Comm node;
    MPI_Comm_split(MPI_COMM_WORLD, rank / o.node_ranks, rank, &node);
    exchange *e = exchange_create(MPI_COMM_WORLD, node, s, 1, formats, &stores);
    if (!e) fail("no memory for the exchange");

    MPI_Barrier(MPI_COMM_WORLD);
    run(e, s, seconds, o.overlap, fields);
    print_fields(fields, rank, ranks);

    exchange_destroy(e);
    MPI_Comm_free(&node);
    schedule_destroy(s);
    free(stores.slots);
    free(seconds);
    MPI_Finalize();
    return 0;
}
