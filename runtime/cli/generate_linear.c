/* longspan generate with a linear --attention: q, k, v and what the variant reads besides. */
#include "runtime/cli/files.h"
#include "runtime/cli/generate.h"
#include "runtime/cli/linear_job.h"
#include "runtime/cli/linear_values.h"
#include "runtime/cli/linear_wanted.h"
#include "runtime/launch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_DATASETS = 6 };

/* A dataset in the making: vectors of random.h's tensor, or what rank 0 makes whole. */
typedef struct {
    random_tensor tensor;
    longspan_type type;
    int dim; /* of a vector */
    int64_t vectors;
} made;

typedef struct {
    const session *s;
    const options *o;
    linear_shape shape;
    int threads;
    output_dataset datasets[MOST_DATASETS];
    made made[MOST_DATASETS]; /* the first `rows` of them in vectors */
    int count, rows;
    double bytes;
    output_file output;
} generation;

/* Adds [tokens, heads, dim]; dim 0: [tokens, heads]. False if it is too large. */
static bool add_rows(generation *g, const char *name, random_tensor tensor, longspan_type type, int heads, int dim)
{
    const int64_t elements = generate_describe(g->o, name, type, g->o->tokens, heads, dim, &g->datasets[g->count]);
    const int width = dim ? dim : 1;
    if (elements < 0) return false;
    g->made[g->count++] = (made){tensor, type, width, elements / width};
    g->rows = g->count;
    g->bytes += (double)elements * (double)io_type_size((io_type)type);
    return true;
}

/* Adds what does not depend on tokens; second axis 0: none. */
static void add_whole(generation *g, const char *name, random_tensor tensor, int64_t first, int64_t second)
{
    g->datasets[g->count] = (output_dataset){name, OUTPUT_FLOAT32, second ? 2 : 1, {first, second}, 0};
    g->made[g->count++] = (made){.tensor = tensor};
}

static bool describe_all(generation *g)
{
    const linear_shape *shape = &g->shape;
    const linear_variant *variant = shape->variant;
    const longspan_type type = g->o->type;
    const int axes = linear_log_decay_axes(variant), decay_dim = axes == 3 ? shape->dim : 0;
    if (!add_rows(g, "/q", RANDOM_QUERY, type, shape->q_heads, shape->dim) ||
        !add_rows(g, "/k", RANDOM_KEY, type, shape->k_heads, shape->dim) ||
        !add_rows(g, "/v", RANDOM_VALUE, type, shape->v_heads, shape->value_dim))
        return false;
    if (axes > 1 && !add_rows(g, linear_dataset_name(LINEAR_LOG_DECAY), RANDOM_LOG_DECAY, LONGSPAN_FLOAT32,
                              shape->heads, decay_dim))
        return false;
    if (variant->has_beta &&
        !add_rows(g, linear_dataset_name(LINEAR_BETA), RANDOM_BETA, LONGSPAN_FLOAT32, shape->heads, 0))
        return false;
    if (axes == 1) add_whole(g, linear_dataset_name(LINEAR_LOG_DECAY), RANDOM_LOG_DECAY, shape->heads, 0);
    if (variant->reads_before) add_whole(g, linear_dataset_name(LINEAR_BONUS), RANDOM_BONUS, shape->heads, shape->dim);
    if (shape->features > 0)
        add_whole(g, linear_dataset_name(LINEAR_FEATURES), RANDOM_FEATURES, shape->features, shape->dim);
    return true;
}

/* This rank's share of a dataset's vectors, piece by piece. */
static void write_rows(generation *g, int index, void *piece, failure *f)
{
    const made *m = &g->made[index];
    const session *s = g->s;
    const int64_t most = GENERATE_PIECE_BYTES / ((int64_t)io_type_size((io_type)m->type) * m->dim);
    const int64_t share = m->vectors / s->ranks, extra = m->vectors % s->ranks;
    const int64_t begin = s->rank * share + (s->rank < extra ? s->rank : extra);
    const int64_t end = begin + share + (s->rank < extra);
    for (int64_t first = begin; first < end && f->status == LONGSPAN_OK; first += most) {
        const int64_t count = end - first < most ? end - first : most;
        linear_values(g->shape.variant, g->o->seed, m->tensor, m->dim, first, count, m->type, piece, g->threads);
        output_file_write_run(&g->output, index, first * m->dim, count * m->dim, piece, f);
    }
}

/* Rank 0. */
static void write_whole(generation *g, int index, failure *f)
{
    const output_dataset *dataset = &g->datasets[index];
    const int64_t first = dataset->extent[0], count = first * (dataset->rank > 1 ? dataset->extent[1] : 1);
    float *values = malloc((size_t)count * sizeof *values);
    if (!values) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for %s", dataset->name);
        return;
    }
    if (g->made[index].tensor == RANDOM_LOG_DECAY) linear_values_head_log_decay((int)first, values);
    else if (g->made[index].tensor == RANDOM_BONUS)
        linear_values_bonus(g->o->seed, (int)first, (int)dataset->extent[1], values);
    else linear_values_features(g->o->seed, (int)first, (int)dataset->extent[1], values);
    output_file_write_run(&g->output, index, 0, count, values, f);
    free(values);
}

static bool write_all(generation *g, failure *f)
{
    char program[64];
    snprintf(program, sizeof program, "longspan %s", longspan_version());
    const output_attribute attributes[] = {
        {.name = "format_version", .kind = ATTRIBUTE_INTEGER, .integer = 1},
        {.name = "program", .kind = ATTRIBUTE_TEXT, .text = program},
        {.name = "kind", .kind = ATTRIBUTE_TEXT, .text = "generate"},
        {.name = "made_for", .kind = ATTRIBUTE_TEXT, .text = g->shape.variant->name},
        {.name = "distribution", .kind = ATTRIBUTE_TEXT, .text = "standard normal, Philox4x32-10"},
        {.name = "seed", .kind = ATTRIBUTE_INTEGER, .integer = (int64_t)g->o->seed},
    };
    const char *path = g->o->arguments[0];
    const session *s = g->s;
    if (output_file_check(s->comm, path, g->o->force, f) ||
        output_file_begin(s->comm, path, g->o->force, g->datasets, g->count, attributes,
                          sizeof attributes / sizeof attributes[0], &g->output, f))
        return false;
    void *piece = malloc(GENERATE_PIECE_BYTES);
    if (!piece) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: a piece of %d bytes", GENERATE_PIECE_BYTES);
    for (int i = 0; i < g->rows && piece; i++) write_rows(g, i, piece, f);
    for (int i = g->rows; i < g->count && s->rank == 0; i++) write_whole(g, i, f);
    free(piece);
    return output_file_commit(s->comm, &g->output, f) == LONGSPAN_OK;
}

exit_status generate_linear(session *s, const options *o)
{
    failure f = {0};
    longspan_linear_problem p;
    if (o->tokens == 0) return options_refuse(s, "--tokens is missing");
    linear_problem_from_options(o, &p);
    const int heads = linear_problem_heads(&p);
    if (heads % p.heads != 0 || heads % p.k_heads != 0 || heads % p.v_heads != 0)
        return options_refuse(s, "--heads %d, --kv-heads %d, --value-heads %d: each must divide the largest", p.heads,
                              p.k_heads, p.v_heads);
    generation g = {.s = s, .o = o, .shape = linear_problem_shape(&p, false)};
    if (!describe_all(&g))
        return options_refuse(s, "--tokens %" PRId64 ": the tensors would have more than 2^58 elements", o->tokens);
    const double start = MPI_Wtime();
    const int sharing = launch_sharing_ranks(s->comm);
    g.threads = o->threads > 0 ? o->threads : launch_default_threads(sharing);
    if (!write_all(&g, &f)) return session_fail(s, &f);
    session_say(s,
                "%s: for %s, B=%" PRId64 " N=%" PRId64
                ", %d, %d and %d heads of q, k and v, D=%d E=%d %s, %.1f MiB in %.2f s\n",
                o->arguments[0], p.attention, p.batch, p.tokens, p.heads, p.k_heads, p.v_heads, p.dim, p.value_dim,
                io_type_name((io_type)o->type), g.bytes / (1 << 20), MPI_Wtime() - start);
    return EXIT_DONE;
}
