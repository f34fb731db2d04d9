/* longspan bench: measures in memory, without files. Its first argument says what. */
#include "runtime/cli/bench.h"
#include "runtime/cli/command.h"

#include <stdio.h>
#include <string.h>

enum {
    ATTENTION_TAKES = TAKES_SHAPE | TAKES_TYPE | TAKES_OUT_TYPE | TAKES_MASK | TAKES_PATTERN | TAKES_STRATEGY | TAKES_COMPUTE |
                      TAKES_SCORES | TAKES_SEED | TAKES_REPEAT | TAKES_REPORT | TAKES_FORCE | TAKES_ARITHMETIC |
                      TAKES_SHARE | TAKES_HEAD_VALUES | TAKES_RELATIVE | TAKES_DOCUMENTS | TAKES_STALL_LIMIT |
                      TAKES_ATTENTION,
    EXCHANGE_TAKES = TAKES_KEEP | TAKES_COMPUTE | TAKES_FORCE | TAKES_STALL_LIMIT,
    KERNELS_TAKES = TAKES_LIST | TAKES_TYPE | TAKES_MASK | TAKES_COMPUTE | TAKES_REPEAT | TAKES_REPORT | TAKES_FORCE |
                    TAKES_ATTENTION,
};

static const struct {
    const char *name;
    options_taken takes;
    exit_status (*run)(session *s, const options *o);
} benchmarks[] = {
    {"attention", (options_taken)ATTENTION_TAKES, bench_attention},
    {"exchange", (options_taken)EXCHANGE_TAKES, bench_exchange},
    {"kernels", (options_taken)KERNELS_TAKES, bench_kernels},
};
enum { BENCHMARKS = sizeof benchmarks / sizeof benchmarks[0] };

static const options_spec spec = {
    .usage = "bench attention --tokens N [OPTIONS]\n       longspan bench exchange [OPTIONS]\n       longspan bench "
             "kernels [OPTIONS]",
    .summary =
        "attention  measures attention over random q, k and v (those of `generate`) that stay in memory: the median "
        "of\n"
        "           --repeat executions, each as long as its slowest rank, after --warmup that do not count.\n"
        "exchange   measures what `--strategy auto` and `plan` want to know of the machine, on all ranks at once, in "
        "a\n"
        "           few seconds: folds, memory, messages within a node and between nodes. Prints it and keeps it in\n"
        "           the file that LONGSPAN_MACHINE names, else in ~/.cache/longspan/machine.json, or in -o FILE.\n"
        "           Beside that it takes --isa, --threads, --stall-limit and --force.\n"
        "kernels    measures the kernels of this machine, in one process, over a list of shapes: every one that the "
        "CPU\n"
        "           can run, with each arithmetic of the type, on 1 and 2 threads, in turn with the CPU's peaks.\n"
        "           --type, --mask, --dim, --tokens and --score-scale choose from the list, --isa, --compute and\n"
        "           --threads from what is run; everything takes long. With a linear --attention: its kernels on 16\n"
        "           heads of --dim (128), against the CPU's peak and a loop token by token, over --tokens (4k).\n"
        "           Beside those it takes --repeat, --warmup, --report and --force.",
    .example = "mpirun -np 4 longspan bench attention --tokens 64k --heads 8 --mask causal --report bench.json\n"
               "  mpirun -np 4 longspan bench exchange\n"
               "  longspan bench kernels --isa auto --type float32 --tokens 8k --report kernels.json\n"
               "  longspan bench kernels --attention gated-delta --threads 1",
    .most_arguments = 1,
    .takes = (options_taken)(ATTENTION_TAKES | EXCHANGE_TAKES | KERNELS_TAKES),
};

static exit_status run(session *s, options *o)
{
    char known[128] = "";
    for (int i = 0; i < BENCHMARKS; i++) {
        const size_t length = strlen(known);
        snprintf(known + length, sizeof known - length, "%s%s", i ? ", " : "", benchmarks[i].name);
    }
    if (o->argument_count == 0) return options_refuse(s, "bench what? There are: %s", known);
    for (int i = 0; i < BENCHMARKS; i++) {
        char what[64];
        if (strcmp(o->arguments[0], benchmarks[i].name) != 0) continue;
        snprintf(what, sizeof what, "%s %s", s->command, benchmarks[i].name);
        const exit_status status = options_refuse_others(s, o, benchmarks[i].takes, what);
        return status == EXIT_DONE ? benchmarks[i].run(s, o) : status;
    }
    return options_refuse(s, "there is no benchmark '%s'; there are: %s", o->arguments[0], known);
}

const command command_bench = {
    .name = "bench",
    .arguments = "attention | exchange | kernels",
    .summary = "measure",
    .spec = &spec,
    .run = run,
};
