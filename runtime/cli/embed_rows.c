#include "runtime/cli/embed.h"

#include "kernels/number.h"

#include <inttypes.h>
#include <stdlib.h>

enum { FEATURE_BYTES = 16 << 20 }; /* at a time */

int64_t embed_token_elements(const options *o, int set)
{
    return (int64_t)o->heads * (set == EMBED_V ? o->value_dim : o->dim);
}

void embed_rows_free(embed_rows *rows)
{
    for (int i = 0; i < EMBED_OFFSETS; i++) free(rows->set[i]);
    free(rows->narrow);
    free(rows->offsets);
    *rows = (embed_rows){0};
}

void embed_rows_allocate(const options *o, int threads, embed_rows *rows, failure *f)
{
    int64_t all = 0, largest = 0;
    for (int i = 0; i < EMBED_OFFSETS; i++) {
        all += embed_token_elements(o, i);
        if (largest < embed_token_elements(o, i)) largest = embed_token_elements(o, i);
    }
    rows->capacity = FEATURE_BYTES / (all * (int64_t)sizeof(float));
    if (rows->capacity < threads) rows->capacity = threads;
    bool complete = true;
    for (int i = 0; i < EMBED_OFFSETS; i++) {
        rows->set[i] = malloc((size_t)(rows->capacity * embed_token_elements(o, i)) * sizeof(float));
        complete = complete && rows->set[i];
    }
    rows->offsets = malloc((size_t)rows->capacity * sizeof *rows->offsets);
    if (o->type != LONGSPAN_FLOAT32) rows->narrow = malloc((size_t)(rows->capacity * largest) * sizeof(float));
    if (!complete || !rows->offsets || (o->type != LONGSPAN_FLOAT32 && !rows->narrow))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: features of %" PRId64 " tokens", rows->capacity);
}

void embed_rows_write(const options *o, const output_file *output, int64_t at, int64_t count, embed_rows *rows,
                      failure *f)
{
    for (int i = 0; i < EMBED_OFFSETS; i++) {
        const int64_t elements = embed_token_elements(o, i);
        const void *source = rows->set[i];
        if (rows->narrow) {
            number_narrow((kernel_type)o->type, rows->set[i], rows->narrow, count * elements);
            source = rows->narrow;
        }
        output_file_write_run(output, i, at * elements, count * elements, source, f);
    }
    output_file_write_run(output, EMBED_OFFSETS, at, count, rows->offsets, f);
}

void embed_describe(const options *o, int64_t tokens, output_dataset datasets[EMBED_SETS])
{
    const output_type type = (output_type)o->type;
    datasets[EMBED_Q] = (output_dataset){.name = "/q", .type = type, .rank = 3, .extent = {tokens, o->heads, o->dim}};
    datasets[EMBED_K] = (output_dataset){.name = "/k", .type = type, .rank = 3, .extent = {tokens, o->heads, o->dim}};
    datasets[EMBED_V] =
        (output_dataset){.name = "/v", .type = type, .rank = 3, .extent = {tokens, o->heads, o->value_dim}};
    datasets[EMBED_OFFSETS] =
        (output_dataset){.name = "/token_offsets", .type = OUTPUT_INT64, .rank = 1, .extent = {tokens}};
}
