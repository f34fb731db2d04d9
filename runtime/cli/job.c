#include "runtime/cli/job.h"

#include "kernels/cpu.h"
#include "runtime/cli/machine_file.h"
#include "runtime/cli/trace_file.h"
#include "runtime/launch.h"
#include "runtime/memory.h"
#include "runtime/patience.h"

#include <stdlib.h>
#include <string.h>

void job_problem_from_input(const input_file *input, longspan_problem *problem_p)
{
    const attention_shapes *shapes = &input->shapes;
    longspan_problem p;
    longspan_problem_default(&p);
    p.batch = shapes->q.batch;
    p.queries = shapes->q.tokens;
    p.keys = shapes->k.tokens;
    p.heads = shapes->q.heads;
    p.kv_heads = shapes->k.heads;
    p.dim = shapes->q.dim;
    p.value_dim = shapes->v.dim;
    p.type = p.out_type = (longspan_type)shapes->q.type;
    p.documents = input->extras.documents;
    p.document_count = input->extras.document_count;
    p.key_lengths = input->extras.key_lengths;
    p.alibi_slopes = input->extras.alibi_slopes;
    p.sinks = input->extras.sinks;
    p.relative_keys = input->extras.relative.keys;
    p.relative_count = input->extras.relative.count;
    p.relative_bias_u = input->extras.relative.bias_u;
    p.relative_bias_w = input->extras.relative.bias_w;
    *problem_p = p;
}

void job_problem_from_options(const options *o, longspan_problem *problem_p)
{
    longspan_problem p;
    longspan_problem_default(&p);
    p.batch = o->batch ? o->batch : 1;
    p.queries = o->tokens;
    p.keys = o->keys;
    p.heads = o->heads ? o->heads : 8;
    p.kv_heads = o->kv_heads;
    p.dim = o->dim ? o->dim : 64;
    p.value_dim = o->value_dim;
    p.type = p.out_type = o->type;
    p.documents = o->documents;
    p.document_count = o->document_count;
    *problem_p = p;
}

void job_problem_choose(const options *o, longspan_problem *p)
{
    mask_choice_apply(&o->mask, p);
    p->pattern = o->pattern;
    if (o->out_type_given) p->out_type = o->out_type;
    p->scale = o->scale;
    p->softcap = o->softcap;
    if (o->rope_base > 0) {
        p->rope_base = o->rope_base;
        p->rope_dim = o->rope_dim > 0 ? o->rope_dim : p->dim;
        p->rope_interleaved = o->rope_interleaved;
    }
    p->alpha = o->alpha;
    p->support = o->support;
    p->strategy = o->strategy;
    p->layout = o->layout;
}

longspan_status job_problem_set_blocks(const char *path, const input_file *input, longspan_problem *p, failure *f)
{
    const bool wanted = p->pattern && strncmp(p->pattern, "blocks:", strlen("blocks:")) == 0;
    if (!wanted && !input->extras.block_offsets) return LONGSPAN_OK;
    if (!wanted)
        return failure_set(f, LONGSPAN_ERROR_IO,
                           "%s: /block_offsets and /block_keys have no meaning without --pattern blocks:SIZE", path);
    p->block_offsets = input->extras.block_offsets;
    p->block_offset_count = input->extras.block_offset_count;
    p->block_keys = input->extras.block_keys;
    p->block_key_count = input->extras.block_key_count;
    return LONGSPAN_OK;
}

/* The names of the kernels that this CPU runs. */
static void name_kernels(char *text, int size)
{
    int length = 0;
    for (int i = 0; i < attention_kernel_count; i++) {
        if (cpu_features_missing(attention_kernels[i]->features) || length >= size) continue;
        length += snprintf(text + length, (size_t)(size - length), "%s%s", length ? ", " : "",
                           attention_kernels[i]->name);
    }
}

const attention_kernel *job_kernel(const char *isa, failure *f)
{
    char names[64];
    const attention_kernel *kernel = attention_kernel_find(isa);
    if (!kernel) {
        name_kernels(names, sizeof names);
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "--isa %s: there is no kernel of this name; this CPU runs %s", isa, names);
        return NULL;
    }
    const unsigned missing = cpu_features_missing(kernel->features);
    if (missing) {
        char text[64];
        name_kernels(names, sizeof names);
        cpu_features_describe(missing, text, sizeof text);
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "--isa %s: this CPU lacks %s; it runs %s", isa, text, names);
        return NULL;
    }
    return kernel;
}

/* The ranges that this rank owns on an axis. */
static longspan_range *plan_ranges(const longspan_plan *plan, longspan_axis axis, int64_t *count_p, failure *f)
{
    int64_t count = 0;
    longspan_plan_rows(plan, axis, NULL, 0, &count);
    longspan_range *ranges = malloc(((size_t)count + 1) * sizeof *ranges);
    if (!ranges) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for %lld token ranges", (long long)count);
        return NULL;
    }
    longspan_plan_rows(plan, axis, ranges, count, &count);
    *count_p = count;
    return ranges;
}

void *job_allocate(const char *name, int64_t rows, int heads, int dim, size_t size, failure *f)
{
    const size_t bytes = (size_t)rows * (size_t)heads * (size_t)dim * size;
    void *memory = memory_allocate(bytes);
    if (!memory)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: %.1f MiB for this rank's rows of %s",
                    (double)bytes / 1048576, name);
    return memory;
}

static void allocate_arrays(job *j, failure *f)
{
    const longspan_problem *p = &j->problem;
    const int64_t queries = p->batch * longspan_plan_tokens(j->plan, LONGSPAN_QUERIES);
    const int64_t keys = p->batch * longspan_plan_tokens(j->plan, LONGSPAN_KEYS);
    const size_t size = number_size((kernel_type)p->type), out_size = number_size((kernel_type)p->out_type);
    j->query_ranges = plan_ranges(j->plan, LONGSPAN_QUERIES, &j->query_range_count, f);
    j->key_ranges = plan_ranges(j->plan, LONGSPAN_KEYS, &j->key_range_count, f);
    void *plan_k;
    if (!j->q) j->q = job_allocate("q", queries, p->heads, p->dim, size, f);
    longspan_plan_key_arrays(j->plan, &plan_k, &j->v);
    j->plan_has_keys = plan_k != NULL;
    if (j->plan_has_keys) {
        j->k = plan_k;
    } else {
        if (!j->k) j->k = job_allocate("k", keys, p->kv_heads, p->dim, size, f);
        j->v = job_allocate("v", keys, p->kv_heads, p->value_dim, size, f);
    }
    j->out = job_allocate("out", queries, p->heads, p->value_dim, out_size, f);
    j->lse = job_allocate("lse", queries, p->heads, 1, sizeof *j->lse, f);
}

/* Room for the command's own phases; the plan makes room for its steps. */
enum { TRACE_PHASES = 16 };

/* The library has agreed on a failure. */
static void fail_library(const longspan_context *context, longspan_status status, failure *f)
{
    const int rank = longspan_context_error_rank(context);
    if (rank > 0) failure_set(f, status, "%s [rank %d]", longspan_context_error(context), rank);
    else failure_set(f, status, "%s", longspan_context_error(context));
}

void job_warn_of_memory(const session *s, const char *strategy, const char *layout, int64_t needed, int64_t allowed)
{
    if (allowed <= 0 || needed <= allowed) return;
    session_say(s,
                "longspan %s: warning: nothing that the options leave open fits into memory: strategy %s, layout %s needs "
                "%.6g MiB a rank where there is memory for %.6g MiB\n",
                s->command, strategy, layout, (double)needed / 1048576, (double)allowed / 1048576);
}

/* Rank 0 speaks. */
static void warn_of_memory(const session *s, const job *j)
{
    prediction predicted;
    failure unpredicted = {0};
    if (s->rank != 0 || plan_predict(j->plan, &predicted, &unpredicted) != LONGSPAN_OK) return;
    job_warn_of_memory(s, plan_strategy_name(j->plan), plan_layout_name(j->plan), predicted.memory_bytes,
                       j->context->seat.memory_bytes);
}

bool job_check(const session *s, const job *j, longspan_status status, failure *f)
{
    if (status == LONGSPAN_OK) return true;
    fail_library(j->context, status, f);
    session_fail(s, f);
    return false;
}

void job_planned(const session *s, const job *j)
{
    patience_set(s->comm, patience_of(j->context->comm));
}

bool job_open_context(const session *s, const options *o, void (*progress)(void *progress_data, double fraction),
                      void *progress_data, job *job_p, failure *f)
{
    *job_p = (job){.threads = o->threads};
    job_p->kernel = job_kernel(o->isa, f);
    const int sharing = launch_sharing_ranks(s->comm);
    if (job_p->threads == 0) job_p->threads = launch_default_threads(sharing);
    if (!session_agree(s, f)) return false;

    char advice[512];
    launch_advice(s->comm, job_p->threads, advice, sizeof advice);
    if (advice[0]) session_say(s, "longspan %s: warning: %s\n", s->command, advice);

    if (o->trace) {
        job_p->trace = trace_create(s->comm, TRACE_PHASES);
        if (!job_p->trace) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for the trace");
        if (!session_agree(s, f)) return false;
    }
    machine_source source;
    if (!machine_load(s, job_p->kernel, &source, f)) return false;
    longspan_options library;
    longspan_options_default(&library);
    library.machine = &source.machine;
    library.threads = job_p->threads;
    library.isa = job_p->kernel->name;
    library.compute = o->compute;
    library.share_memory = o->share;
    if (o->stall_limit >= 0) library.stall_seconds = o->stall_limit;
    library.progress = progress;
    library.progress_data = progress_data;
    const longspan_status created = longspan_context_create(s->comm, &library, &job_p->context);
    if (created != LONGSPAN_OK) {
        failure_set(f, created, "the context could not be made: %s", longspan_status_string(created));
        session_fail(s, f);
        return false;
    }
    job_p->context->trace = job_p->trace;
    return true;
}

bool job_plan(const session *s, const longspan_problem *problem, job *job_p, failure *f)
{
    const double planning = MPI_Wtime();
    const longspan_status planned = longspan_plan_create(job_p->context, problem, &job_p->plan);
    trace_file_phase(job_p->trace, "plan", planning);
    if (!job_check(s, job_p, planned, f)) return false;
    job_p->problem = job_p->plan->problem;
    job_planned(s, job_p);
    warn_of_memory(s, job_p);
    allocate_arrays(job_p, f);
    return session_agree(s, f);
}

/* Pairs of the first so many keys, the mean over the heads. */
static double pairs_of(const job *j, int64_t keys)
{
    const longspan_problem *p = &j->problem;
    const mask *m = &j->plan->scheduled.mask;
    const range queries = {0, p->queries};
    if (!j->plan->pattern) return (double)mask_pairs(m, queries, (range){0, keys});
    return (double)pattern_sum_pairs(j->plan->pattern, m, queries, (range){0, keys}) / p->heads;
}

double job_pairs(const job *j)
{
    const longspan_problem *p = &j->problem;
    double pairs = 0;
    if (j->selection) return j->selection_pairs;
    for (int64_t b = 0; b < p->batch; b++) {
        const int64_t keys = p->key_lengths ? p->key_lengths[b] : p->keys;
        pairs += pairs_of(j, keys);
        if (!p->key_lengths) return pairs;
    }
    return pairs / (double)p->batch;
}

void job_close(job *j)
{
    free(j->query_ranges);
    free(j->key_ranges);
    free(j->q);
    if (!j->plan_has_keys) {
        free(j->k);
        free(j->v);
    }
    free(j->out);
    free(j->lse);
    longspan_plan_destroy(&j->plan);
    longspan_selection_destroy(&j->selection);
    longspan_context_destroy(&j->context);
    trace_destroy(j->trace);
    *j = (job){0};
}
