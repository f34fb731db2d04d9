/* Keys in memory that the ranks of a node share: the plan's own arrays, repeated executes, what is left behind, what a
 * node takes, and what happens where it cannot be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/plan.h"
#include "tests/runtime/problem.h"

static int rank, ranks;

static test_problem shared_problem(int node_ranks)
{
    test_problem t = make_problem(150, 4, 2, 16);
    t.node_ranks = node_ranks;
    t.problem.causal = 1;
    t.problem.strategy = "shared";
    return t;
}

static int64_t sum(int64_t value)
{
    MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    return value;
}

static void the_plans_own_arrays_give_the_same_bits_as_the_callers(void **state)
{
    (void)state;
    test_problem t = shared_problem(0);
    const test_result copied = run_problem(&t);
    t.own_arrays = true;
    const test_result own = run_problem(&t);
    assert_int_equal(copied.status, LONGSPAN_OK);
    assert_int_equal(own.status, LONGSPAN_OK);
    assert_true(own.fingerprint == copied.fingerprint);
    assert_true(own.relative_rms <= 1e-6);
}

static void only_a_strategy_that_shares_has_arrays_of_its_own(void **state)
{
    (void)state;
    static const char *const strategies[] = {"shared", "ring"};
    for (int i = 0; i < 2; i++) {
        longspan_status status;
        longspan_plan *plan;
        test_problem t = shared_problem(0);
        t.problem.strategy = strategies[i];
        longspan_context *context = open_context(&t, &status);
        assert_non_null(context);
        assert_int_equal(longspan_plan_create(context, &t.problem, &plan), LONGSPAN_OK);
        void *k, *v;
        longspan_plan_key_arrays(plan, &k, &v);
        const int shares = i == 0 && ranks > 1;
        assert_int_equal(sum(k != NULL && v != NULL), shares ? ranks : 0);
        longspan_plan_destroy(&plan);
        longspan_context_destroy(&context);
    }
}

/* Values are written between executes without asking the other ranks: they must have done with the old ones. One head
 * of one element, q = 0: out is the mean of all values. */
static void keys_may_be_written_as_soon_as_execute_returns(void **state)
{
    (void)state;
    for (int node_ranks = ranks; node_ranks >= 1; node_ranks -= ranks - 1 > 0 ? ranks - 1 : 1) {
        longspan_status status;
        longspan_plan *plan;
        test_problem t = make_problem(64 * ranks, 1, 1, 1);
        t.node_ranks = node_ranks;
        longspan_context *context = open_context(&t, &status);
        assert_non_null(context);
        assert_int_equal(longspan_plan_create(context, &t.problem, &plan), LONGSPAN_OK);
        const int64_t tokens = longspan_plan_tokens(plan, LONGSPAN_KEYS);
        float *q = calloc((size_t)tokens, sizeof *q), *out = malloc((size_t)tokens * sizeof *out), *made[2];
        for (int i = 0; i < 2; i++) made[i] = calloc((size_t)tokens, sizeof *made[i]);
        void *k, *v;
        longspan_plan_key_arrays(plan, &k, &v);
        if (!k) k = made[0], v = made[1];
        memset(k, 0, (size_t)tokens * sizeof(float));
        int64_t wrong = 0;
        for (int repeat = 0; repeat < 50; repeat++) {
            for (int64_t i = 0; i < tokens; i++) ((float *)v)[i] = (float)(repeat * ranks + rank);
            assert_int_equal(longspan_plan_execute(plan, q, k, v, out, NULL), LONGSPAN_OK);
            const float mean = (float)repeat * (float)ranks + (float)(ranks - 1) / 2;
            for (int64_t i = 0; i < tokens; i++) wrong += !(out[i] >= mean * 0.999999f && out[i] <= mean * 1.000001f);
        }
        assert_int_equal(sum(wrong), 0);
        for (int i = 0; i < 2; i++) free(made[i]);
        free(q);
        free(out);
        longspan_plan_destroy(&plan);
        longspan_context_destroy(&context);
    }
}

static void plans_may_live_side_by_side(void **state)
{
    (void)state;
    longspan_status status;
    test_problem t = shared_problem(0);
    t.context = open_context(&t, &status);
    assert_non_null(t.context);
    longspan_plan *other;
    assert_int_equal(longspan_plan_create(t.context, &t.problem, &other), LONGSPAN_OK);
    const test_result r = run_problem(&t);
    assert_int_equal(r.status, LONGSPAN_OK);
    assert_true(r.relative_rms <= 1e-6);
    longspan_plan_destroy(&other);
    longspan_context_destroy(&t.context);
}

static void nothing_is_left_in_the_file_system_while_a_plan_lives(void **state)
{
    (void)state;
    longspan_status status;
    longspan_plan *plan;
    test_problem t = shared_problem(0);
    longspan_context *context = open_context(&t, &status);
    assert_int_equal(longspan_plan_create(context, &t.problem, &plan), LONGSPAN_OK);
    char mine[64];
    snprintf(mine, sizeof mine, "longspan.%ld.", (long)getpid());
    int64_t found = 0;
    DIR *folder = opendir("/dev/shm");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        found += strncmp(entry->d_name, mine, strlen(mine)) == 0;
    if (folder) closedir(folder);
    assert_int_equal(sum(found), 0);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
}

static void memory_that_is_not_there_is_refused_and_says_what_to_do(void **state)
{
    (void)state;
    if (ranks == 1) return;
    test_problem t = shared_problem(0);
    t.problem.queries = 1;
    t.problem.keys = (int64_t)1 << 31;
    t.problem.heads = t.problem.kv_heads = 256;
    t.problem.dim = 512;
    const test_result r = run_problem(&t);
    assert_int_equal(r.status, LONGSPAN_ERROR_MEMORY);
    assert_non_null(strstr(r.text, "shared memory: no room"));
    assert_non_null(strstr(r.text, "use a strategy that does not share memory"));
}

/* Bytes of a kind in this process's memory, a page that several processes have mapped shared out among them; -1 where
 * the system does not tell. */
static int64_t resident(const char *kind)
{
    char line[128];
    long long kibibytes = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && kibibytes < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, kind, strlen(kind)) == 0) sscanf(line + strlen(kind), ": %lld", &kibibytes);
    if (file) fclose(file);
    return kibibytes < 0 ? -1 : kibibytes * 1024;
}

typedef struct {
    int64_t shared, own; /* that all ranks together have gained */
    int64_t most_own;    /* that one has gained since its plan was made and it had its arrays */
} memory_gain;

/* What a run with few queries takes, its k and v included: the plan's arrays, or its own where the plan has none. */
static memory_gain measure_run(const test_problem *t)
{
    longspan_status status;
    longspan_plan *plan;
    longspan_context *context = open_context(t, &status);
    assert_non_null(context);
    memory_gain gain = {-resident("Pss_Shmem"), -resident("Pss_Anon"), 0};
    MPI_Barrier(MPI_COMM_WORLD);
    assert_int_equal(longspan_plan_create(context, &t->problem, &plan), LONGSPAN_OK);
    const size_t q_floats = (size_t)longspan_plan_tokens(plan, LONGSPAN_QUERIES) * (size_t)t->problem.dim;
    const size_t k_floats = (size_t)longspan_plan_tokens(plan, LONGSPAN_KEYS) * (size_t)t->problem.dim;
    float *q = calloc(q_floats + 1, sizeof *q), *out = malloc((q_floats + 1) * sizeof *out);
    void *k, *v, *made[2] = {NULL, NULL};
    longspan_plan_key_arrays(plan, &k, &v);
    if (!k) {
        for (int i = 0; i < 2; i++) made[i] = malloc(k_floats * sizeof(float));
        k = made[0], v = made[1];
    }
    for (size_t i = 0; i < k_floats; i++) ((float *)k)[i] = ((float *)v)[i] = (float)(i % 7);
    const int64_t ready = resident("Pss_Anon");
    assert_int_equal(longspan_plan_execute(plan, q, k, v, out, NULL), LONGSPAN_OK);
    gain.most_own = resident("Pss_Anon") - ready;
    gain.shared = sum(gain.shared + resident("Pss_Shmem"));
    gain.own = sum(gain.own + resident("Pss_Anon"));
    MPI_Allreduce(MPI_IN_PLACE, &gain.most_own, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    for (int i = 0; i < 2; i++) free(made[i]);
    free(q);
    free(out);
    longspan_plan_destroy(&plan);
    longspan_context_destroy(&context);
    return gain;
}

/* 96 MiB of them, 1024 bytes a token. Private memory besides: the queries' states, what the kernel and MPI need. */
static void a_node_holds_its_keys_and_values_once(void **state)
{
    (void)state;
    enum { MEBI = 1 << 20, COPY = 96 * MEBI };
    const bool can = resident("Pss_Shmem") >= 0 && resident("Pss_Anon") >= 0 && shared_memory_free() > 2.0 * COPY;
    if (ranks == 1 || sum(can) < ranks) skip();
    test_problem t = make_problem(8, 1, 1, 128);
    t.problem.keys = COPY / 1024;
    t.problem.strategy = "shared";
    const memory_gain once = measure_run(&t);
    t.problem.strategy = "ring";
    const memory_gain ring = measure_run(&t);
    const int64_t shard = COPY / ranks, total = once.shared + once.own, ring_total = ring.shared + ring.own;
    if (llabs(once.shared - COPY) > COPY / 25 || once.most_own > shard / 4 || total > COPY + ranks * 3 * MEBI)
        fail_msg("a copy is %d bytes; %lld shared, %lld private, one rank's private memory grew by %lld in execute",
                 COPY, (long long)once.shared, (long long)once.own, (long long)once.most_own);
    /* A copy, and a buffer or two a rank for the shards that travel. */
    if (ring_total < COPY + COPY / 2)
        fail_msg("a ring takes %lld bytes, no more than shared memory", (long long)ring_total);
}

/* What the user has not asked for is not refused: auto takes another strategy. */
static void sharing_is_refused_only_where_it_was_asked_for(void **state)
{
    (void)state;
    test_problem t = shared_problem(0);
    t.share_nothing = true;
    const test_result named = run_problem(&t);
    assert_int_equal(named.status, ranks > 1 ? LONGSPAN_ERROR_UNSUPPORTED : LONGSPAN_OK);
    if (ranks > 1) assert_non_null(strstr(named.text, "shared"));
    t.problem.strategy = "auto";
    const test_result automatic = run_problem(&t);
    assert_int_equal(automatic.status, LONGSPAN_OK);
    assert_true(automatic.relative_rms <= 1e-6);
}

/* The plan of a problem for which auto shares memory where it may, as links are slow. */
static longspan_plan *plan_slow_links(longspan_context *context, const char *strategy, longspan_status *status_p)
{
    longspan_problem p = make_problem(4096, 4, 4, 64).problem;
    longspan_plan *plan;
    p.strategy = strategy;
    *status_p = longspan_plan_create(context, &p, &plan);
    return plan;
}

static void auto_plans_without_shared_memory_that_it_does_not_get(void **state)
{
    (void)state;
    const longspan_machine slow_links = {.node = {.latency = 1e-3, .bandwidth = 1e7, .busy = 1}};
    longspan_options options;
    longspan_context *context;
    longspan_status status, named_status, automatic_status;
    longspan_options_default(&options);
    options.machine = &slow_links;
    assert_int_equal(longspan_context_create(MPI_COMM_WORLD, &options, &context), LONGSPAN_OK);
    longspan_plan *plan = plan_slow_links(context, "auto", &status);
    assert_int_equal(status, LONGSPAN_OK);
    assert_int_equal(sum(plan->shared != NULL), ranks > 1 ? ranks : 0);
    longspan_plan_destroy(&plan);

    /* One rank may make no file of any size, which nobody can see beforehand. */
    struct rlimit usual, none;
    getrlimit(RLIMIT_FSIZE, &usual);
    none = (struct rlimit){.rlim_cur = rank == ranks - 1 ? 0 : usual.rlim_cur, .rlim_max = usual.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &none);
    longspan_plan *named = plan_slow_links(context, "shared", &named_status);
    longspan_plan *automatic = plan_slow_links(context, "auto", &automatic_status);
    setrlimit(RLIMIT_FSIZE, &usual);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(named_status, ranks > 1 ? LONGSPAN_ERROR_MEMORY : LONGSPAN_OK);
    assert_int_equal(automatic_status, LONGSPAN_OK);
    assert_int_equal(sum(automatic->shared != NULL), 0);
    longspan_plan_destroy(&named);
    longspan_plan_destroy(&automatic);
    longspan_context_destroy(&context);
}

static void nodes_that_are_not_alike_are_no_nodes(void **state)
{
    (void)state;
    static const struct {
        int ranks, pretended, expected;
    } cases[] = {{4, 2, 2}, {4, 3, 1}, {5, 2, 1}, {8, 4, 4}, {8, 3, 1}, {3, 3, 3}, {2, 8, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].ranks != ranks) continue;
        node n;
        node_pretend(MPI_COMM_WORLD, cases[i].pretended, &n);
        assert_int_equal(n.ranks, cases[i].expected);
        node_free(&n);
    }
    /* As many on each node, but dealt out in turn. */
    if (ranks % 2 == 0 && ranks > 2) {
        MPI_Comm shuffled;
        node n;
        MPI_Comm_split(MPI_COMM_WORLD, 0, rank % 2 * ranks + rank, &shuffled);
        MPI_Comm world_pairs;
        MPI_Comm_split(MPI_COMM_WORLD, rank / 2, rank, &world_pairs);
        node_describe(shuffled, world_pairs, &n);
        assert_int_equal(n.ranks, 1);
        node_free(&n);
        MPI_Comm_free(&shuffled);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plans_own_arrays_give_the_same_bits_as_the_callers),
        cmocka_unit_test(only_a_strategy_that_shares_has_arrays_of_its_own),
        cmocka_unit_test(keys_may_be_written_as_soon_as_execute_returns),
        cmocka_unit_test(plans_may_live_side_by_side),
        cmocka_unit_test(nothing_is_left_in_the_file_system_while_a_plan_lives),
        cmocka_unit_test(memory_that_is_not_there_is_refused_and_says_what_to_do),
        cmocka_unit_test(a_node_holds_its_keys_and_values_once),
        cmocka_unit_test(sharing_is_refused_only_where_it_was_asked_for),
        cmocka_unit_test(auto_plans_without_shared_memory_that_it_does_not_get),
        cmocka_unit_test(nodes_that_are_not_alike_are_no_nodes),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
