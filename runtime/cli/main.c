#include "runtime/cli/command.h"

#include "io/tensor_file.h"
#include "runtime/launch.h"
#include "runtime/patience.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

static const command *const commands[] = {
    &command_attend, &command_generate, &command_embed, &command_map,
    &command_verify, &command_plan,     &command_bench, &command_info,
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *to)
{
    fprintf(to, "Usage: longspan SUBCOMMAND [ARGUMENTS] [OPTIONS]      alone, or under mpirun or srun\n\n"
                "Exact attention over sequences that are sharded over MPI ranks.\n\nSubcommands:\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-8s %-21s %s\n", commands[i]->name, commands[i]->arguments, commands[i]->summary);
    fprintf(to, "\nlongspan SUBCOMMAND --help tells its options; longspan --version the version.\n"
                "Exit status: 0 done, 1 failed, 2 wrong usage, 3 verification failed, 4 a file could not be read or "
                "written.\n\nExample:\n"
                "  longspan generate in.h5 --tokens 16k\n"
                "  mpirun -np 4 longspan attend in.h5 -o out.h5 --mask causal\n"
                "  longspan verify in.h5 out.h5\n");
}

static const command *command_find(const char *name)
{
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Levenshtein distance, of words of up to 31 bytes; 99 for longer ones. */
static int word_distance(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    int row[32];
    if (n > 31 || m > 31) return 99;
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            const int above = row[j];
            row[j] = least(least(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[m];
}

static void refuse_command(const session *s, const char *name)
{
    char known[256] = "";
    const command *closest = commands[0];
    for (int i = 0; i < COMMANDS; i++) {
        const size_t length = strlen(known);
        snprintf(known + length, sizeof known - length, "%s%s", i ? ", " : "", commands[i]->name);
        if (word_distance(name, commands[i]->name) < word_distance(name, closest->name)) closest = commands[i];
    }
    const bool near = word_distance(name, closest->name) <= 2;
    session_error(s, "unknown subcommand '%s'%s%s%s; there are %s", name, near ? " (did you mean " : "",
                  near ? closest->name : "", near ? "?)" : "", known);
}

/* Ranks that were started with different arguments, as `mpirun -np 1 A : -np 1 B` does, would wait for one another. */
static exit_status check_arguments(const session *s, int argc, char **argv)
{
    int64_t hashes[2] = {argc, 0};
    for (int i = 1; i < argc; i++) {
        hashes[0] = agreement_hash_integers(hashes, 2);
        hashes[1] = agreement_hash_text(argv[i]);
    }
    const agreement_value value = {"the command line", agreement_hash_integers(hashes, 2)};
    failure f = {0};
    int rank = 0;
    if (agreement_check_equal(s->comm, &value, 1, &f, &rank) == LONGSPAN_OK) return EXIT_DONE;
    if (f.status == LONGSPAN_ERROR_MISMATCH) {
        f = (failure){0};
        failure_set(&f, LONGSPAN_ERROR_MISMATCH, "the command line is not the same on every rank");
    }
    return session_fail(s, &f);
}

static exit_status run(session *s, int argc, char **argv)
{
    failure f = {0};
    if (launch_check(s->comm, &f) != LONGSPAN_OK) /* every process may be a rank 0 */
        return launch_rank() == 0 ? session_fail(s, &f) : session_exit_status(&f);
    const exit_status same = check_arguments(s, argc, argv);
    if (same != EXIT_DONE) return same;
    if (argc < 2) {
        if (s->rank == 0) print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        if (s->rank == 0) print_usage(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        if (s->rank == 0) printf("longspan %s\n", longspan_version());
        return EXIT_DONE;
    }
    const command *found = command_find(argv[1]);
    if (!found) {
        refuse_command(s, argv[1]);
        return EXIT_USAGE;
    }
    s->command = found->name;
    options o;
    const options_outcome outcome = options_parse(s, found->spec, argc - 1, (const char **)argv + 1, &o);
    if (outcome != OPTIONS_GO_ON) return outcome == OPTIONS_DONE ? EXIT_DONE : EXIT_USAGE;
    if (o.stall_limit >= 0) patience_set(s->comm, o.stall_limit);
    session_verbose(s, "longspan %s %s on %d rank%s\n", longspan_version(), s->command, s->ranks,
                    s->ranks == 1 ? "" : "s");
    const exit_status status = found->run(s, &o);
    options_free(&o);
    return status;
}

int main(int argc, char **argv)
{
    int provided;
    session s = {0};
    char hint[256];
    launch_hint(hint, sizeof hint);
    if (hint[0] && launch_rank() == 0) fprintf(stderr, "longspan: warning: %s\n", hint);
    io_start();
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_dup(MPI_COMM_WORLD, &s.comm);
    patience_set(s.comm, PATIENCE_SECONDS);
    MPI_Comm_rank(s.comm, &s.rank);
    MPI_Comm_size(s.comm, &s.ranks);
    openblas_set_num_threads(1); /* kernels call it from threads of their own */
    exit_status status = EXIT_FAILED;
    if (provided < MPI_THREAD_FUNNELED) session_error(&s, "this MPI library does not offer MPI_THREAD_FUNNELED");
    else status = run(&s, argc, argv);
    /* Once a rank has ended with a status other than 0, mpirun kills the others: what they said must be out by then. */
    fflush(NULL);
    wait_barrier(s.comm); /* MPI_Finalize has no limit */
    MPI_Comm_free(&s.comm);
    MPI_Finalize();
    return (int)status;
}
