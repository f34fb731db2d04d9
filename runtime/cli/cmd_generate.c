/* longspan generate: random q, k, v, the same numbers at any rank and thread count. */
#include "runtime/cli/command.h"
#include "runtime/cli/files.h"
#include "runtime/cli/generate.h"
#include "runtime/cli/head_values.h"
#include "runtime/cli/random.h"
#include "runtime/cli/relative_values.h"
#include "runtime/launch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const options_spec spec = {
    .usage = "generate OUT.h5 --tokens N [OPTIONS]",
    .summary =
        "Writes /q, /k and /v of independent standard normal numbers. The numbers depend on the seed and\n"
        "their position only, so any number of ranks writes the same. 8 heads of size 64 unless given;\n"
        "with --batch the datasets have the axis B. --alibi and --sinks add /alibi_slopes and /sinks,\n"
        "--relative adds /relative_keys, /relative_bias_u and /relative_bias_w, for windows of those sides.\n"
        "With a linear --attention what that reads besides: /log_decay, most of it between -0.1 and 0, some -6;\n"
        "/beta between 0 and 1; /bonus; /features in orthogonal rows; and keys of length 1 for the delta rule.",
    .example = "mpirun -np 4 longspan generate in.h5 --tokens 64k --heads 8 --kv-heads 2 --type bfloat16\n"
               "  mpirun -np 4 longspan generate in.h5 --tokens 64k --heads 8 --attention gated-delta",
    .least_arguments = 1,
    .most_arguments = 1,
    .takes = TAKES_FORCE | TAKES_THREADS | TAKES_SHAPE | TAKES_TYPE | TAKES_SEED | TAKES_HEAD_VALUES |
             TAKES_RELATIVE | TAKES_ATTENTION | TAKES_STALL_LIMIT,
};

/* Fills in what was not given; false, having said why, if the shapes do not go together. */
static bool complete_shape(const session *s, options *o)
{
    if (o->tokens == 0) {
        options_refuse(s, "--tokens is missing");
        return false;
    }
    if (o->keys == 0) o->keys = o->tokens;
    if (o->heads == 0) o->heads = 8;
    if (o->kv_heads == 0) o->kv_heads = o->heads;
    if (o->dim == 0) o->dim = 64;
    if (o->value_dim == 0) o->value_dim = o->dim;
    if (o->heads % o->kv_heads != 0) {
        options_refuse(s, "--heads %d is not a multiple of --kv-heads %d", o->heads, o->kv_heads);
        return false;
    }
    return true;
}

int64_t generate_describe(const options *o, const char *name, longspan_type type, int64_t tokens, int heads, int dim,
                          output_dataset *dataset)
{
    const int64_t extent[] = {o->batch, tokens, heads, dim};
    const int batched = o->batch > 0;
    int64_t elements = 1;
    *dataset = (output_dataset){.name = name, .type = (output_type)type, .rank = (dim > 0 ? 3 : 2) + batched};
    for (int axis = 0; axis < dataset->rank; axis++) {
        dataset->extent[axis] = extent[axis + !batched];
        if (__builtin_mul_overflow(elements, dataset->extent[axis], &elements)) return -1;
    }
    return elements <= INT64_C(1) << 58 ? elements : -1;
}

/* This rank's share of a dataset's elements, piece by piece. */
static void write_tensor(const session *s, const options *o, const output_file *output, random_tensor tensor,
                         int64_t elements, int threads, void *piece, failure *f)
{
    const int64_t size = (int64_t)io_type_size((io_type)o->type), most = GENERATE_PIECE_BYTES / size;
    const int64_t share = elements / s->ranks, extra = elements % s->ranks;
    const int64_t begin = s->rank * share + (s->rank < extra ? s->rank : extra);
    const int64_t end = begin + share + (s->rank < extra);
    for (int64_t first = begin; first < end && f->status == LONGSPAN_OK; first += most) {
        const int64_t count = end - first < most ? end - first : most;
        random_normal(o->seed, tensor, first, count, o->type, piece, threads);
        output_file_write_run(output, (int)tensor, first, count, piece, f);
    }
}

/* Rank 0: a value for each head into dataset `index`, where there is one. */
static void write_head_values(const session *s, const options *o, const output_file *output, int alibi, int sinks,
                              failure *f)
{
    if (s->rank != 0) return;
    float *values = malloc((size_t)o->heads * sizeof *values);
    if (!values) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the values of %d heads", o->heads);
    if (values && alibi >= 0) {
        head_values_alibi(o->heads, values);
        output_file_write_run(output, alibi, 0, o->heads, values, f);
    }
    if (values && sinks >= 0) {
        head_values_sinks(o->seed, o->heads, values);
        output_file_write_run(output, sinks, 0, o->heads, values, f);
    }
    free(values);
}

/* Rank 0: the relative keys and their biases, into datasets from `index` on. */
static void write_relative(const session *s, const options *o, const output_file *output, int index, failure *f)
{
    if (s->rank != 0 || !o->relative || f->status != LONGSPAN_OK) return;
    const int64_t row = (int64_t)o->heads * o->dim;
    relative_values values = relative_values_make(o, o->heads, o->dim, f);
    if (f->status == LONGSPAN_OK) {
        output_file_write_run(output, index, 0, values.count * row, values.keys, f);
        output_file_write_run(output, index + 1, 0, row, values.u, f);
        output_file_write_run(output, index + 2, 0, row, values.w, f);
    }
    relative_values_free(&values);
}

static exit_status generate(session *s, const options *o)
{
    const char *path = o->arguments[0];
    output_dataset datasets[8];
    const int64_t elements[3] = {
        [RANDOM_QUERY] = generate_describe(o, "/q", o->type, o->tokens, o->heads, o->dim, &datasets[RANDOM_QUERY]),
        [RANDOM_KEY] = generate_describe(o, "/k", o->type, o->keys, o->kv_heads, o->dim, &datasets[RANDOM_KEY]),
        [RANDOM_VALUE] =
            generate_describe(o, "/v", o->type, o->keys, o->kv_heads, o->value_dim, &datasets[RANDOM_VALUE]),
    };
    if (elements[0] < 0 || elements[1] < 0 || elements[2] < 0)
        return options_refuse(s, "--tokens %" PRId64 ": the tensors would have more than 2^58 elements", o->tokens);

    int count = RANDOM_VALUE + 1, alibi = -1, sinks = -1;
    if (o->alibi) {
        alibi = count++;
        datasets[alibi] = (output_dataset){"/alibi_slopes", OUTPUT_FLOAT32, 1, {o->heads}, 0};
    }
    if (o->sinks) {
        sinks = count++;
        datasets[sinks] = (output_dataset){"/sinks", OUTPUT_FLOAT32, 1, {o->heads}, 0};
    }
    const int relative = count;
    if (o->relative) {
        const int64_t offsets = o->relative_left + o->relative_right + 1;
        datasets[count++] = (output_dataset){"/relative_keys", OUTPUT_FLOAT32, 3, {offsets, o->heads, o->dim}, 0};
        datasets[count++] = (output_dataset){"/relative_bias_u", OUTPUT_FLOAT32, 2, {o->heads, o->dim}, 0};
        datasets[count++] = (output_dataset){"/relative_bias_w", OUTPUT_FLOAT32, 2, {o->heads, o->dim}, 0};
    }
    char program[64];
    snprintf(program, sizeof program, "longspan %s", longspan_version());
    const output_attribute attributes[] = {
        {.name = "format_version", .kind = ATTRIBUTE_INTEGER, .integer = 1},
        {.name = "program", .kind = ATTRIBUTE_TEXT, .text = program},
        {.name = "kind", .kind = ATTRIBUTE_TEXT, .text = "generate"},
        {.name = "distribution", .kind = ATTRIBUTE_TEXT, .text = "standard normal, Philox4x32-10"},
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)o->seed},
    };
    failure f = {0};
    output_file output;
    const double start = MPI_Wtime();
    const int sharing = launch_sharing_ranks(s->comm);
    const int threads = o->threads > 0 ? o->threads : launch_default_threads(sharing);
    if (output_file_check(s->comm, path, o->force, &f) ||
        output_file_begin(s->comm, path, o->force, datasets, count, attributes,
                          sizeof attributes / sizeof attributes[0], &output, &f))
        return session_fail(s, &f);
    void *piece = malloc(GENERATE_PIECE_BYTES);
    if (!piece) failure_set(&f, LONGSPAN_ERROR_MEMORY, "out of memory: a piece of %d bytes", GENERATE_PIECE_BYTES);
    for (int i = RANDOM_QUERY; i <= RANDOM_VALUE && piece; i++)
        write_tensor(s, o, &output, (random_tensor)i, elements[i], threads, piece, &f);
    free(piece);
    write_head_values(s, o, &output, alibi, sinks, &f);
    write_relative(s, o, &output, relative, &f);
    if (output_file_commit(s->comm, &output, &f)) return session_fail(s, &f);

    const double seconds = MPI_Wtime() - start;
    const double bytes = (double)(elements[0] + elements[1] + elements[2]) * (double)io_type_size((io_type)o->type);
    session_say(s, "%s: B=%" PRId64 " N=%" PRId64 " M=%" PRId64 " H=%d G=%d D=%d E=%d %s, %.1f MiB in %.2f s\n", path,
                o->batch > 0 ? o->batch : 1, o->tokens, o->keys, o->heads, o->kv_heads, o->dim, o->value_dim,
                io_type_name((io_type)o->type), bytes / (1 << 20), seconds);
    return EXIT_DONE;
}

static exit_status run(session *s, options *o)
{
    if (o->alpha != 0)
        return options_refuse(s, "--attention sparsemax or entmax asks for nothing beside q, k and v: leave it out");
    if (o->linear) return generate_linear(s, o);
    return complete_shape(s, o) ? generate(s, o) : EXIT_USAGE;
}

const command command_generate = {
    .name = "generate",
    .arguments = "OUT.h5 --tokens N",
    .summary = "random q, k, v, the same at any rank count",
    .spec = &spec,
    .run = run,
};
