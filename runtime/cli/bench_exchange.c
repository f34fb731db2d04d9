/* longspan bench exchange: what the cost model needs to know of the machine, measured in a few seconds and kept. */
#include "io/output_file.h"
#include "partition/prediction.h"
#include "runtime/cli/bench.h"
#include "runtime/cli/files.h"
#include "runtime/cli/job.h"
#include "runtime/cli/machine_file.h"
#include "runtime/launch.h"

#include <stdio.h>

enum { PATH_SIZE = 4096 };

static void print_curve(const char *where, const calibration_point *points, const longspan_link *link)
{
    if (points[0].bytes == 0) return;
    printf("\nexchange %s: each rank sends, and receives, so many bytes\n%12s %12s %12s\n", where, "bytes", "us",
           "GB/s");
    for (int i = 0; i < CALIBRATION_POINTS && points[i].bytes > 0; i++)
        printf("%12lld %12.2f %12.3f\n", (long long)points[i].bytes, points[i].seconds * 1e6,
               (double)points[i].bytes / points[i].seconds * 1e-9);
    printf("latency %.2f us, bandwidth %.3f GB/s; folding threads do %.0f %% of a transfer themselves\n",
           link->latency * 1e6, link->bandwidth * 1e-9, 100 * link->busy);
}

static void print_few_rows(const calibration *c)
{
    static const char *const names[] = {"float32", "float16", "bfloat16"};
    static const double bytes[] = {4, 2, 2};
    printf("\nfew query rows a key: GB/s of keys and values that a thread folds\n%12s", "rows");
    for (int type = 0; type < 3; type++) printf(" %12s", names[type]);
    for (int i = 0; i + 1 < PREDICTION_FEW; i++) {
        printf("\n%12lld", (long long)prediction_few_rows[i]);
        for (int type = 0; type < 3; type++) printf(" %12.3f", bytes[type] / c->machine.few_seconds[type][i] * 1e-9);
    }
    printf("\n");
}

static void print_calibration(const calibration *c)
{
    printf("%d rank%s on %d node%s, %d thread%s each, %s kernel\n", c->ranks, c->ranks == 1 ? "" : "s", c->nodes,
           c->nodes == 1 ? "" : "s", c->threads, c->threads == 1 ? "" : "s", c->kernel);
    printf("\nmany query rows a key: GFLOP/s of all ranks (float32 multiply-add peak %.1f)\n%12s %12s %12s\n",
           c->peak * 1e-9, "arithmetic", "D = E = 64", "D = E = 128");
    for (int i = 0; i < c->rate_count; i++)
        printf("%12s %12.1f %12.1f\n", attention_compute_name(c->rates[i].compute), c->rates[i].flops[0] * 1e-9,
               c->rates[i].flops[1] * 1e-9);
    print_few_rows(c);
    printf("\nmemory %.3f GB/s read and written by a thread", c->machine.memory_bandwidth * 1e-9);
    if (c->machine.barrier_seconds > 0) printf("; a node's barrier %.2f us", c->machine.barrier_seconds * 1e6);
    printf("\n");
    print_curve("within a node", c->node, &c->machine.node);
    print_curve("between nodes", c->network, &c->machine.network);
}

exit_status bench_exchange(session *s, const options *o)
{
    failure f = {0};
    calibration c;
    char usual[PATH_SIZE];
    bool named;
    machine_file_path(usual, sizeof usual, &named);
    const char *path = o->output ? o->output : usual;
    const bool replaces = o->force || !o->output;
    const attention_kernel *kernel = job_kernel(o->isa, &f);
    const int threads = o->threads ? o->threads : launch_default_threads(launch_sharing_ranks(s->comm));
    if (!session_agree(s, &f)) return session_exit_status(&f);
    if (path[0] == '\0') return options_refuse(s, "-o FILE is missing, and HOME is not set");
    if (o->output && output_file_check(s->comm, path, o->force, &f) != LONGSPAN_OK) return session_fail(s, &f);

    char advice[512];
    launch_advice(s->comm, threads, advice, sizeof advice);
    if (advice[0]) session_say(s, "longspan %s: warning: %s\n", s->command, advice);
    if (!calibration_measure(s, kernel, threads, &c, &f)) return session_exit_status(&f);
    if (!machine_file_write(s, path, replaces, &c, &f)) return session_exit_status(&f);
    if (s->rank == 0) print_calibration(&c);
    session_say(s, "\n  kept in  %s\n", path);
    return EXIT_DONE;
}
