/* longspan info: this build and machine, or what a file holds. Rank 0 looks and prints. */
#include "runtime/cli/command.h"
#include "runtime/cli/files.h"
#include "runtime/cli/report.h"
#include "runtime/launch.h"

#include "io/tensor_file.h"
#include "kernels/attention.h"
#include "kernels/cpu.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef LONGSPAN_FAULT_INJECTION
static const char faults[] = "on";
#else
static const char faults[] = "off";
#endif

static const options_spec spec = {
    .usage = "info [FILE.h5]",
    .summary = "What this build of longspan is made of and which kernel it chooses on this machine;\n"
               "or, with a file, what the file holds and whether attend can read it.",
    .example = "longspan info in.h5",
    .most_arguments = 1,
};

static void print_field(const char *name, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    printf("%-10s %s\n", name, text ? text : "unknown");
}

static void print_kernels(void)
{
    const attention_kernel *chosen = attention_kernel_find("auto");
    printf("%-10s", "kernels");
    for (int i = 0; i < attention_kernel_count; i++) {
        const attention_kernel *kernel = attention_kernels[i];
        const bool on_cpu = !(kernel->features & ~cpu_features());
        printf("%s %s%s", i ? "," : "", kernel->name,
               kernel == chosen                          ? " (chosen)"
               : !on_cpu                                 ? " (not on this CPU)"
               : cpu_features_missing(kernel->features) ? " (tiles refused by the system)"
                                                         : "");
    }
    printf("\n");
}

static void print_variants(void)
{
    printf("%-10s", "attention");
    printf(" softmax, sparsemax, entmax[:ALPHA]");
    for (int i = 0; i < linear_variant_count; i++) printf(", %s", linear_variants[i]->name);
    printf("\n");
}

static exit_status print_build(const session *s, int sharing)
{
    json_t *machine = report_machine_json(), *versions = report_versions_json();
    char features[256];
    cpu_features_describe(cpu_features(), features, sizeof features);
    if (s->rank == 0) {
        printf("%-10s %s, %s build, fault injection %s\n", "longspan", longspan_version(), LONGSPAN_BUILD_TYPE, faults);
        print_field("compiler", versions, "compiler");
        print_field("MPI", versions, "mpi");
        print_field("HDF5", versions, "hdf5");
        print_field("BLAS", versions, "blas");
        print_field("host", machine, "hostname");
        print_field("CPU", machine, "cpu");
        printf("%-10s %s\n", "features", features);
        print_kernels();
        print_variants();
        printf("%-10s %d\n", "ranks", s->ranks);
        const int cpus = launch_allowed_cpus();
        printf("%-10s %d a rank, on %d allowed CPU%s\n", "threads", launch_default_threads(sharing), cpus,
               cpus == 1 ? "" : "s");
    }
    json_decref(machine);
    json_decref(versions);
    return EXIT_DONE;
}

static void print_line(void *data, const char *line)
{
    (void)data;
    printf("  %s\n", line);
}

/* Whether attend can read the file for softmax attention. */
static void print_softmax(const input_file *input)
{
    const attention_shapes *shapes = &input->shapes;
    const attention_extras *extras = &input->extras;
    printf("attention input: B=%" PRId64 " N=%" PRId64 " M=%" PRId64 " H=%d G=%d D=%d E=%d, %s", shapes->q.batch,
           shapes->q.tokens, shapes->k.tokens, shapes->q.heads, shapes->k.heads, shapes->q.dim, shapes->v.dim,
           io_type_name(shapes->q.type));
    if (extras->documents) printf(", %" PRId64 " documents", extras->document_count);
    if (extras->key_lengths) printf(", key lengths");
    if (extras->block_offsets)
        printf(extras->block_lists > 1 ? ", lists of blocks for each head" : ", a list of blocks");
    if (tensor_file_has(input->file, "/selected_blocks")) printf(", selected blocks");
    if (tensor_file_has(input->file, "/gates")) printf(", gates");
    if (extras->alibi_slopes) printf(", ALiBi slopes");
    if (extras->sinks) printf(", sinks");
    if (extras->relative.keys)
        printf(", relative keys of %" PRId64 " offsets%s", extras->relative.count,
               extras->relative.bias_u ? " with biases" : "");
    printf("\n");
}

/* The linear variants that attend can read the file for; false if there is none. */
static bool print_linear(const char *path)
{
    int found = 0;
    for (int i = 0; i < linear_variant_count; i++) {
        input_file input = {0};
        io_error error;
        if (input_file_open_here(path, linear_variants[i], &input, &error) == 0) {
            const attention_shapes *s = &input.shapes;
            if (found++ == 0)
                printf("linear attention input: B=%" PRId64 " N=%" PRId64
                       ", %d, %d and %d heads of q, k and v, D=%d E=%d, "
                       "%s; --attention",
                       s->q.batch, s->q.tokens, s->q.heads, s->k.heads, s->v.heads, s->q.dim, s->v.dim,
                       io_type_name(s->q.type));
            printf("%s %s", found > 1 ? "," : "", linear_variants[i]->name);
        }
        input_file_close(&input);
    }
    if (found) printf("\n");
    return found > 0;
}

/* Whether attend can read the file; a file that lacks one of the three is a result, or something else. */
static void print_attention(const char *path, const tensor_file *file)
{
    input_file input = {0};
    io_error error;
    if (!tensor_file_has(file, "/q") || !tensor_file_has(file, "/k") || !tensor_file_has(file, "/v")) return;
    const bool softmax = input_file_open_here(path, NULL, &input, &error) == 0;
    if (softmax) print_softmax(&input);
    input_file_close(&input);
    if (!print_linear(path) && !softmax) printf("not an attention input: %s\n", error.text);
}

static exit_status print_file(const session *s, const char *path)
{
    failure f = {0};
    io_error error;
    tensor_file *file = NULL;
    if (s->rank == 0) {
        if (tensor_file_open(path, &file, &error)) {
            failure_set(&f, LONGSPAN_ERROR_IO, "%s", error.text);
        } else {
            printf("%s\n", path);
            if (tensor_file_list(file, print_line, NULL, &error)) failure_set(&f, LONGSPAN_ERROR_IO, "%s", error.text);
            else print_attention(path, file);
        }
        fflush(stdout);
        tensor_file_close(&file);
    }
    session_agree(s, &f);
    return session_exit_status(&f);
}

static exit_status run(session *s, options *o)
{
    const int sharing = launch_sharing_ranks(s->comm);
    return o->argument_count > 0 ? print_file(s, o->arguments[0]) : print_build(s, sharing);
}

const command command_info = {
    .name = "info",
    .arguments = "[FILE.h5]",
    .summary = "this build and machine, or what a file holds",
    .spec = &spec,
    .run = run,
};
