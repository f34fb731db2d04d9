#include "runtime/cli/linear_sample.h"

#include "bench/linear_token_loop.h"
#include "kernels/number.h"
#include "runtime/cli/linear_values.h"
#include "runtime/cli/report.h"
#include "runtime/linear_problem.h"
#include "runtime/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PEAK_MILLISECONDS = 10, LOOP_TOKENS = 512 };

static linear_token_loop *loop_of(const linear_kernel *kernel)
{
#if defined(__x86_64__)
    if (strcmp(kernel->name, "avx512") == 0) return linear_token_loop_avx512;
    if (strcmp(kernel->name, "avx2") == 0) return linear_token_loop_avx2;
#endif
    (void)kernel;
    return linear_token_loop_portable;
}

/* Vectors of a tensor, made up. */
static void *make(const linear_data *d, random_tensor tensor, uint64_t seed, int heads, int dim, longspan_type type,
                  int threads, failure *f)
{
    const int64_t vectors = d->problem.batch * d->problem.tokens * heads;
    void *values = plan_allocate(vectors * dim, number_size((kernel_type)type), "a tensor", f);
    if (values) linear_values(d->call.shape.variant, seed, tensor, dim, 0, vectors, type, values, threads);
    return values;
}

static void make_rows(linear_data *d, uint64_t seed, int threads, failure *f)
{
    const longspan_linear_problem *p = &d->problem;
    const linear_variant *variant = d->call.shape.variant;
    const int heads = d->call.shape.heads, decay_dim = variant->decay == LINEAR_DECAY_FEATURE ? p->dim : 1;
    d->q = make(d, RANDOM_QUERY, seed, p->heads, p->dim, p->type, threads, f);
    d->k = make(d, RANDOM_KEY, seed, p->k_heads, p->dim, p->type, threads, f);
    d->v = make(d, RANDOM_VALUE, seed, p->v_heads, p->value_dim, p->type, threads, f);
    if (variant->decay == LINEAR_DECAY_TOKEN || variant->decay == LINEAR_DECAY_FEATURE)
        d->log_decay = make(d, RANDOM_LOG_DECAY, seed, heads, decay_dim, LONGSPAN_FLOAT32, threads, f);
    if (variant->has_beta) d->beta = make(d, RANDOM_BETA, seed, heads, 1, LONGSPAN_FLOAT32, threads, f);
}

static void make_room(linear_data *d, int threads, failure *f)
{
    const longspan_linear_problem *p = &d->problem;
    const linear_shape *shape = &d->call.shape;
    const int64_t heads = p->batch * shape->heads;
    d->loop_tokens = p->tokens < LOOP_TOKENS ? p->tokens : LOOP_TOKENS;
    d->out = plan_allocate(heads * p->tokens * p->value_dim, number_size((kernel_type)p->out_type), "the output", f);
    d->states = plan_allocate(linear_units(shape) * (int64_t)linear_state_size(shape), sizeof *d->states, "states", f);
    d->reference = plan_allocate(heads * linear_reference_dim(shape) + 1, sizeof *d->reference, "exponents", f);
    d->workspace = plan_allocate((int64_t)linear_workspace_size(shape, threads), 1, "the workspace", f);
    d->loop_scratch = plan_allocate((int64_t)linear_token_scratch(shape), sizeof *d->loop_scratch, "a loop", f);
    d->loop_out = plan_allocate(d->loop_tokens * p->value_dim, sizeof *d->loop_out, "a loop", f);
}

void linear_data_create(const longspan_linear_problem *problem, uint64_t seed, int threads, linear_data *data_p,
                        failure *f)
{
    linear_data *d = data_p;
    *d = (linear_data){.problem = *problem};
    longspan_linear_problem *p = &d->problem;
    linear_inputs_make(seed, p, &d->made, f);
    if (f->status != LONGSPAN_OK || linear_problem_complete(p, f) != LONGSPAN_OK) return;
    d->call.shape = linear_problem_shape(p, false);
    make_rows(d, seed, threads, f);
    make_room(d, threads, f);
    if (f->status != LONGSPAN_OK) return;
    d->pieces[1] = p->tokens;
    d->call = (linear_call){.shape = d->call.shape,
                            .type = (kernel_type)p->type,
                            .out_type = (kernel_type)p->out_type,
                            .scale = (float)p->scale,
                            .q = d->q,
                            .k = d->k,
                            .v = d->v,
                            .log_decay = d->made.head_log_decay ? d->made.head_log_decay : d->log_decay,
                            .beta = d->beta,
                            .bonus = d->made.bonus,
                            .features = d->made.features,
                            .reference = d->reference,
                            .tokens = p->tokens,
                            .pieces = d->pieces,
                            .piece_count = 1,
                            .workspace = d->workspace};
}

void linear_data_destroy(linear_data *d)
{
    linear_inputs_free(&d->made);
    free(d->q);
    free(d->k);
    free(d->v);
    free(d->log_decay);
    free(d->beta);
    free(d->out);
    free(d->states);
    free(d->reference);
    free(d->workspace);
    free(d->loop_scratch);
    free(d->loop_out);
    *d = (linear_data){0};
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

linear_sample linear_sample_take(MPI_Comm comm, linear_data *d, const linear_kernel *kernel, int threads)
{
    const linear_shape *shape = &d->call.shape;
    const attention_kernel *same = attention_kernel_find(kernel->name);
    linear_sample sample = {.peak = report_peak(comm, same, threads, PEAK_MILLISECONDS * 1e-3)};
    d->call.threads = threads;
    if (linear_reference_dim(shape) > 0) kernel->references(&d->call, d->reference);
    linear_state_clear(shape, 0, linear_units(shape), d->states);

    const double started = seconds_now();
    kernel->fold(&d->call, 0, linear_units(shape), d->states, d->out, NULL);
    const double folded = seconds_now();
    sample.wall = folded - started;
    if (threads > 1 || d->call.type != KERNEL_FLOAT32) return sample;

    const double looping = seconds_now();
    loop_of(kernel)(&d->call, 0, d->loop_tokens, d->loop_scratch, d->loop_out);
    sample.loop = (seconds_now() - looping) * (double)d->problem.tokens / (double)d->loop_tokens *
                  (double)(d->problem.batch * shape->heads);
    return sample;
}

double linear_data_difference(const linear_data *d)
{
    const int dim = d->problem.value_dim;
    const float *out = d->out;
    double square = 0, all = 0;
    for (int64_t t = 0; t < d->loop_tokens; t++) {
        for (int e = 0; e < dim; e++) {
            const double kernel = out[t * d->call.shape.heads * dim + e], loop = d->loop_out[t * dim + e];
            square += (kernel - loop) * (kernel - loop);
            all += loop * loop;
        }
    }
    return sqrt(square / all);
}
