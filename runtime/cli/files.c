#include "runtime/cli/files.h"

#include "runtime/cli/linear_wanted.h"
#include "runtime/patience.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Agreement for functions whose callers only see *f: the rank that failed goes into the text. */
static longspan_status agree(MPI_Comm comm, failure *f)
{
    int rank = 0;
    const longspan_status status = agreement_reach(comm, f, &rank);
    if (status != LONGSPAN_OK && rank > 0) {
        const size_t length = strlen(f->text);
        snprintf(f->text + length, sizeof f->text - length, " [rank %d]", rank);
    }
    return status;
}

static int comm_rank(MPI_Comm comm)
{
    int rank;
    MPI_Comm_rank(comm, &rank);
    return rank;
}

/* After a last step that rank 0 does alone: a vote could declare a published file a failure. */
static longspan_status outcome_of_rank_0(MPI_Comm comm, failure *f)
{
    wait_bcast(f, sizeof *f, MPI_BYTE, 0, comm);
    return f->status;
}

/* What means something for linear attention only, and would be ignored. */
static int refuse_linear(const char *path, const tensor_file *file, io_error *error)
{
    const char *dataset = tensor_file_has_linear(file);
    if (!dataset && tensor_file_has_state(file)) dataset = "/state";
    if (!dataset) return 0;
    return io_fail(error, "%s: %s has no meaning for softmax attention; linear variants are named by --attention", path,
                   dataset);
}

int input_file_open_here(const char *path, const linear_variant *variant, input_file *input, io_error *error)
{
    linear_wanted wanted;
    if (tensor_file_open(path, &input->file, error)) return -1;
    if (!variant)
        return refuse_linear(path, input->file, error) || tensor_file_attention(input->file, &input->shapes, error) ||
                       tensor_file_extras(input->file, &input->shapes, &input->extras, error)
                   ? -1
                   : 0;
    linear_wanted_of(variant, &wanted);
    if (tensor_file_linear(input->file, &input->shapes, error) ||
        tensor_file_linear_extras(input->file, &input->shapes, &wanted, &input->linear, error) ||
        tensor_file_documents(input->file, input->shapes.q.tokens, &input->extras.documents,
                              &input->extras.document_count, error))
        return -1;
    return 0;
}

/* As input_file_open_here, into a failure. */
static void open_here(const char *path, const linear_variant *variant, input_file *input, failure *f)
{
    io_error error;
    if (input_file_open_here(path, variant, input, &error)) failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
}

/* Of `count` values of a head, NULL allowed. */
static int64_t hash_floats(const float *values, int64_t count)
{
    int64_t hash = values != NULL;
    for (int64_t i = 0; values && i < count; i++) {
        const int64_t pair[] = {hash, agreement_bits(values[i])};
        hash = agreement_hash_integers(pair, 2);
    }
    return hash;
}

/* Nodes that each see a file of their own under one path would compute nonsense. */
static longspan_status check_same_file(MPI_Comm comm, const char *path, const input_file *input, failure *f)
{
    const tensor_shape *q = &input->shapes.q, *k = &input->shapes.k, *v = &input->shapes.v;
    const attention_extras *extras = &input->extras;
    const linear_extras *linear = &input->linear;
    const int64_t heads = linear_heads(&input->shapes);
    const int64_t shape[] = {
        q->batched,
        q->batch,
        q->tokens,
        q->heads,
        q->dim,
        q->type,
        k->tokens,
        k->heads,
        v->heads,
        v->dim,
        linear->feature_count,
        extras->key_lengths != NULL,
    };
    const int64_t documents = extras->documents ? extras->document_count + 1 : 0;
    const int64_t lengths = extras->key_lengths ? q->batch : 0;
    const agreement_value values[] = {
        {"the shapes", agreement_hash_integers(shape, sizeof shape / sizeof shape[0])},
        {"the number of documents", documents},
        {"/documents", agreement_hash_integers(extras->documents, documents)},
        {"/key_lengths", agreement_hash_integers(extras->key_lengths, lengths)},
        {"/block_offsets", agreement_hash_integers(extras->block_offsets, extras->block_offset_count)},
        {"/block_keys", agreement_hash_integers(extras->block_keys, extras->block_key_count)},
        {"/alibi_slopes", hash_floats(extras->alibi_slopes, q->heads)},
        {"/sinks", hash_floats(extras->sinks, q->heads)},
        {"the rows of /relative_keys", extras->relative.count},
        {"/relative_keys", hash_floats(extras->relative.keys, extras->relative.count * q->heads * q->dim)},
        {"/relative_bias_u", hash_floats(extras->relative.bias_u, (int64_t)q->heads * q->dim)},
        {"/relative_bias_w", hash_floats(extras->relative.bias_w, (int64_t)q->heads * q->dim)},
        {"/log_decay", hash_floats(linear->head_log_decay, heads)},
        {"/bonus", hash_floats(linear->bonus, heads * q->dim)},
        {"/features", hash_floats(linear->features, (int64_t)linear->feature_count * q->dim)},
    };
    int rank = 0;
    const longspan_status status = agreement_check_equal(comm, values, sizeof values / sizeof values[0], f, &rank);
    if (status == LONGSPAN_ERROR_MISMATCH) {
        *f = (failure){.status = status};
        snprintf(f->text, sizeof f->text, "%s: not the same file on every rank: is it on a shared file system?", path);
    }
    return status;
}

longspan_status input_file_open(MPI_Comm comm, const char *path, const linear_variant *variant, input_file *input_p,
                                failure *f)
{
    const int rank = comm_rank(comm);
    input_file input = {0};
    *input_p = input;
    if (rank == 0) open_here(path, variant, &input, f);
    if (agree(comm, f) == LONGSPAN_OK) {
        if (rank != 0) open_here(path, variant, &input, f);
        if (agree(comm, f) == LONGSPAN_OK) check_same_file(comm, path, &input, f);
    }
    if (f->status != LONGSPAN_OK) {
        input_file_close(&input);
        return f->status;
    }
    *input_p = input;
    return LONGSPAN_OK;
}

void input_file_close(input_file *input)
{
    tensor_file_close(&input->file);
    attention_extras_free(&input->extras);
    linear_extras_free(&input->linear);
    *input = (input_file){0};
}

longspan_status input_file_read(MPI_Comm comm, const input_file *input, const char *dataset, const tensor_shape *shape,
                                const longspan_range *ranges, int64_t range_count, void *target, failure *f)
{
    const size_t row = io_type_size(shape->type) * (size_t)shape->heads * (size_t)(shape->dim ? shape->dim : 1);
    char *to = target;
    for (int64_t b = 0; b < shape->batch; b++) {
        for (int64_t r = 0; r < range_count && f->status == LONGSPAN_OK; r++) {
            if (ranges[r].begin >= ranges[r].end) continue;
            io_error error;
            if (tensor_file_read(input->file, dataset, shape, b, ranges[r].begin, ranges[r].end, to, &error))
                failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
            to += row * (size_t)(ranges[r].end - ranges[r].begin);
        }
    }
    return agree(comm, f);
}

longspan_status output_file_check(MPI_Comm comm, const char *path, bool force, failure *f)
{
    io_error error;
    if (comm_rank(comm) == 0 && output_check(path, force, &error)) failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    return agree(comm, f);
}

longspan_status output_file_check_distinct(MPI_Comm comm, const char *path, const char *input, failure *f)
{
    struct stat a, b;
    if (comm_rank(comm) == 0 && stat(path, &a) == 0 && stat(input, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s: the output is the same file as the input %s", path, input);
    return agree(comm, f);
}

longspan_status output_file_begin(MPI_Comm comm, const char *path, bool force, output_dataset *datasets,
                                  int dataset_count, const output_attribute *attributes, int attribute_count,
                                  output_file *output_p, failure *f)
{
    const int rank = comm_rank(comm);
    output_file output = {.path = path,
                          .force = force,
                          .datasets = datasets,
                          .dataset_count = dataset_count,
                          .writer = {.descriptor = -1}};
    io_error error;
    bool created = false;
    *output_p = output;
    if (rank == 0) {
        created = output_create(path, datasets, dataset_count, attributes, attribute_count, &error) == 0;
        if (!created) failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    }
    if (agree(comm, f) != LONGSPAN_OK) goto discard;
    for (int i = 0; i < dataset_count; i++) wait_bcast(&datasets[i].offset, 1, MPI_UINT64_T, 0, comm);
    if (output_open(path, &output.writer, &error)) {
        output.writer.descriptor = -1;
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    }
    if (agree(comm, f) != LONGSPAN_OK) {
        if (output.writer.descriptor >= 0) output_close(&output.writer, &error);
        goto discard;
    }
    *output_p = output;
    return LONGSPAN_OK;

discard:
    /* Only what this run created: an existing PATH.part may be another run's. */
    if (created) output_discard(path);
    return f->status;
}

/* Bytes [first, first + bytes) of a dataset. */
static void write_bytes(const output_file *output, int index, uint64_t first, size_t bytes, const void *source,
                        failure *f)
{
    io_error error;
    if (f->status != LONGSPAN_OK || bytes == 0) return;
    if (output_write(&output->writer, output->datasets[index].offset + first, source, bytes, &error))
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
}

void output_file_write(const output_file *output, int index, bool batched, const longspan_range *ranges,
                       int64_t range_count, const void *source, failure *f)
{
    const output_dataset *dataset = &output->datasets[index];
    const int64_t batch = batched ? dataset->extent[0] : 1, tokens = dataset->extent[batched];
    size_t row = output_type_size(dataset->type);
    for (int axis = batched + 1; axis < dataset->rank; axis++) row *= (size_t)dataset->extent[axis];
    const char *from = source;
    for (int64_t b = 0; b < batch; b++) {
        for (int64_t r = 0; r < range_count; r++) {
            if (ranges[r].begin >= ranges[r].end) continue;
            const size_t bytes = row * (size_t)(ranges[r].end - ranges[r].begin);
            write_bytes(output, index, (uint64_t)(b * tokens + ranges[r].begin) * row, bytes, from, f);
            from += bytes;
        }
    }
}

void output_file_write_run(const output_file *output, int index, int64_t first, int64_t count, const void *source,
                           failure *f)
{
    const size_t size = output_type_size(output->datasets[index].type);
    write_bytes(output, index, (uint64_t)first * size, (size_t)count * size, source, f);
}

longspan_status output_file_commit(MPI_Comm comm, output_file *output, failure *f)
{
    const int rank = comm_rank(comm);
    io_error error;
    if (output_close(&output->writer, &error)) failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    output->writer.descriptor = -1;
    if (agree(comm, f) != LONGSPAN_OK) {
        if (rank == 0) output_discard(output->path);
        return f->status;
    }
    if (rank == 0 && output_publish(output->path, output->force, &error))
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    return outcome_of_rank_0(comm, f);
}

longspan_status output_file_write_text(MPI_Comm comm, const char *path, const char *text, size_t bytes, bool force,
                                       failure *f)
{
    io_error error;
    if (comm_rank(comm) == 0 && f->status == LONGSPAN_OK && output_text_file(path, text, bytes, force, &error))
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    return outcome_of_rank_0(comm, f);
}
