/* longspan bench kernels: every fold that this CPU can run, with each arithmetic that it offers for the type, over the
 * list of shapes, in one process.
 *
 * A machine drifts, so what is compared is measured in turn: a repetition of a shape runs every variant (kernel,
 * arithmetic and thread count) once, each right after the peaks that it is a fraction of, and every other repetition
 * runs them in reverse. Ratios are taken within a repetition; medians come last. */
#include "runtime/cli/bench.h"
#include "runtime/cli/files.h"
#include "runtime/cli/kernel_sample.h"
#include "runtime/cli/run_report.h"
#include "runtime/launch.h"

#include "kernels/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VARIANTS = 32 };

typedef struct {
    const attention_kernel *kernel;
    attention_compute compute;
    int threads;
    int single; /* index of the variant that is the same on one thread; -1 if that is not measured */
} variant;

typedef struct {
    const options *o;
    variant variants[MOST_VARIANTS];
    int variant_count, most_threads;
    kernel_sample *samples; /* [variant][repetition] of the current shape */
    double *sorted;         /* scratch of a statistic, [repetition] */
    json_t *results;
} bench;

typedef struct {
    double median, min, max;
} statistic;

/* What is taken from each sample of a variant, before the median is. */
typedef enum {
    WALL,
    FINISH,
    CPU,
    CPU_SHARE, /* of the time that all threads could have used: less than 1 where others used the CPUs too */
    GFLOPS,
    PEAK_GFLOPS,
    FRACTION_OF_PEAK,
    BF16_PEAK_GFLOPS, /* with a matrix unit, and so on */
    FRACTION_OF_BF16_PEAK,
    FRACTION_OF_PEAK_BY_CPU, /* by the CPU time instead of the wall time: what others take does not count */
    NS_PER_SCORE,
    KEY_GBYTES, /* of shapes that decode, and so on: k and v, read once */
    MEMORY_GBYTES,
    FRACTION_OF_MEMORY,
    SPEEDUP, /* over one thread in the same repetition */
    QUANTITIES
} quantity;

static const char *const quantity_names[QUANTITIES] = {
    [WALL] = "wall",
    [FINISH] = "finish",
    [CPU] = "cpu",
    [CPU_SHARE] = "cpu_share",
    [GFLOPS] = "gflops",
    [PEAK_GFLOPS] = "peak_gflops",
    [FRACTION_OF_PEAK] = "fraction_of_peak",
    [BF16_PEAK_GFLOPS] = "bf16_peak_gflops",
    [FRACTION_OF_BF16_PEAK] = "fraction_of_bf16_peak",
    [FRACTION_OF_PEAK_BY_CPU] = "fraction_of_peak_by_cpu",
    [NS_PER_SCORE] = "ns_per_score",
    [KEY_GBYTES] = "key_gbytes",
    [MEMORY_GBYTES] = "memory_gbytes",
    [FRACTION_OF_MEMORY] = "fraction_of_memory",
    [SPEEDUP] = "speedup",
};

static bool is_reported(const bench *b, const kernel_shape *shape, int index, quantity q)
{
    if (q == KEY_GBYTES || q == MEMORY_GBYTES || q == FRACTION_OF_MEMORY) return kernel_shape_decodes(shape);
    if (q == BF16_PEAK_GFLOPS || q == FRACTION_OF_BF16_PEAK) return b->variants[index].kernel->bf16_peak;
    return q != SPEEDUP || b->variants[index].single >= 0;
}

static double value_of(const bench *b, const kernel_shape *shape, int index, int repetition, quantity q)
{
    const variant *v = &b->variants[index];
    const kernel_sample *t = &b->samples[index * b->o->repeat + repetition];
    const double flops = kernel_shape_flops(shape), key_bytes = kernel_shape_key_bytes(shape);
    switch (q) {
    case WALL:
        return t->wall;
    case FINISH:
        return t->finish;
    case CPU:
        return t->cpu;
    case CPU_SHARE:
        return t->cpu / (t->wall * v->threads);
    case GFLOPS:
        return flops / t->wall * 1e-9;
    case PEAK_GFLOPS:
        return t->peak * 1e-9;
    case FRACTION_OF_PEAK:
        return flops / t->wall / t->peak;
    case BF16_PEAK_GFLOPS:
        return t->bf16_peak * 1e-9;
    case FRACTION_OF_BF16_PEAK:
        return flops / t->wall / t->bf16_peak;
    case FRACTION_OF_PEAK_BY_CPU:
        return flops / (t->cpu / v->threads) / t->peak;
    case NS_PER_SCORE:
        return t->wall * 1e9 / kernel_shape_scores(shape);
    case KEY_GBYTES:
        return key_bytes / t->wall * 1e-9;
    case MEMORY_GBYTES:
        return t->memory * 1e-9;
    case FRACTION_OF_MEMORY:
        return key_bytes / t->wall / t->memory;
    case SPEEDUP:
        return b->samples[v->single * b->o->repeat + repetition].wall / t->wall;
    case QUANTITIES:
        break;
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static statistic statistic_of(const bench *b, const kernel_shape *shape, int index, quantity q)
{
    const int count = b->o->repeat;
    for (int r = 0; r < count; r++) b->sorted[r] = value_of(b, shape, index, r, q);
    qsort(b->sorted, (size_t)count, sizeof *b->sorted, compare);
    return (statistic){.median = (b->sorted[(count - 1) / 2] + b->sorted[count / 2]) / 2,
                       .min = b->sorted[0],
                       .max = b->sorted[count - 1]};
}

static double median_of(const bench *b, const kernel_shape *shape, int index, quantity q)
{
    return statistic_of(b, shape, index, q).median;
}

static json_t *shape_json(const kernel_shape *s)
{
    char mask[KERNEL_SHAPE_MASK_SIZE];
    kernel_shape_mask_name(s, mask);
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:s, s:i}", "type", run_type_name((longspan_type)s->type),
                     "heads", s->heads, "kv_heads", s->kv_heads, "dim", s->dim, "value_dim", s->value_dim, "tokens",
                     (json_int_t)s->tokens, "keys", (json_int_t)s->keys, "mask", mask, "score_scale", s->score_scale);
}

static void result_append(const bench *b, const kernel_shape *shape, int index)
{
    const variant *v = &b->variants[index];
    json_t *result =
        json_pack("{s:o, s:s, s:s, s:i, s:f, s:f, s:f}", "shape", shape_json(shape), "isa", v->kernel->name, "compute",
                  attention_compute_name(v->compute), "threads", v->threads, "flops", kernel_shape_flops(shape),
                  "scores", kernel_shape_scores(shape), "key_bytes", kernel_shape_key_bytes(shape));
    for (quantity q = 0; q < QUANTITIES; q++) {
        if (!is_reported(b, shape, index, q)) continue;
        const statistic t = statistic_of(b, shape, index, q);
        json_object_set_new(result, quantity_names[q],
                            json_pack("{s:f, s:f, s:f}", "median", t.median, "min", t.min, "max", t.max));
    }
    json_t *samples = json_array();
    for (int r = 0; r < b->o->repeat; r++) {
        const kernel_sample *t = &b->samples[index * b->o->repeat + r];
        json_array_append_new(samples,
                              json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "wall", t->wall, "finish", t->finish,
                                        "cpu", t->cpu, "finish_cpu", t->finish_cpu, "peak", t->peak, "bf16_peak",
                                        t->bf16_peak, "memory", t->memory));
    }
    json_object_set_new(result, "samples", samples);
    json_array_append_new(b->results, result);
}

static void print_shape(const kernel_shape *s)
{
    char mask[KERNEL_SHAPE_MASK_SIZE], kv_heads[32] = "", value_dim[32] = "", keys[64] = "", scores[64] = "";
    kernel_shape_mask_name(s, mask);
    if (s->kv_heads != s->heads) snprintf(kv_heads, sizeof kv_heads, " (%d of keys and values)", s->kv_heads);
    if (s->value_dim != s->dim) snprintf(value_dim, sizeof value_dim, " (values %d)", s->value_dim);
    if (s->keys != s->tokens) snprintf(keys, sizeof keys, " against %lld keys", (long long)s->keys);
    if (s->score_scale != 1) snprintf(scores, sizeof scores, ", scores %d times larger", s->score_scale);
    printf("\n%s, %s, %d head%s%s of %d%s, %lld token%s%s%s\n", run_type_name((longspan_type)s->type), mask, s->heads,
           s->heads == 1 ? "" : "s", kv_heads, s->dim, value_dim, (long long)s->tokens, s->tokens == 1 ? "" : "s", keys,
           scores);
}

static void print_header(void)
{
    printf("%-10s %-8s %7s  %9s %9s %9s %9s %8s %8s %9s %6s %9s  %s\n", "kernel", "compute", "threads", "GFLOP/s",
           "min", "max", "peak", "of peak", "of bf16", "ns/score", "cpu", "speed-up", "keys, of memory");
}

static void print_variant(const bench *b, const kernel_shape *shape, int index)
{
    const variant *v = &b->variants[index];
    const statistic rate = statistic_of(b, shape, index, GFLOPS);
    char of_bf16[16] = "";
    if (v->kernel->bf16_peak)
        snprintf(of_bf16, sizeof of_bf16, "%.1f %%", 100 * median_of(b, shape, index, FRACTION_OF_BF16_PEAK));
    printf("%-10s %-8s %7d  %9.2f %9.2f %9.2f %9.2f %6.1f %% %8s %9.4f %4.0f %%", v->kernel->name,
           attention_compute_name(v->compute), v->threads, rate.median, rate.min, rate.max,
           median_of(b, shape, index, PEAK_GFLOPS), 100 * median_of(b, shape, index, FRACTION_OF_PEAK), of_bf16,
           median_of(b, shape, index, NS_PER_SCORE), 100 * median_of(b, shape, index, CPU_SHARE));
    if (v->single >= 0) printf(" %9.2f", median_of(b, shape, index, SPEEDUP));
    if (kernel_shape_decodes(shape))
        printf("%*s%.2f GB/s, %.1f %%", v->single >= 0 ? 2 : 12, "", median_of(b, shape, index, KEY_GBYTES),
               100 * median_of(b, shape, index, FRACTION_OF_MEMORY));
    printf("\n");
}

static bool has_mask(const kernel_shape *s, const mask_choice *mask)
{
    char name[MASK_NAME_SIZE], own[KERNEL_SHAPE_MASK_SIZE];
    mask_choice_name(mask, name);
    kernel_shape_mask_name(s, own);
    return strcmp(name, own) == 0;
}

static bool is_chosen(const options *o, const kernel_shape *s)
{
    return (!o->type_given || s->type == (kernel_type)o->type) && (!o->mask_given || has_mask(s, &o->mask)) &&
           (!o->dim || s->dim == o->dim) && (!o->tokens || s->tokens == o->tokens) &&
           (!o->score_scale || s->score_scale == o->score_scale);
}

static int64_t dim_of(const kernel_shape *s)
{
    return s->dim;
}

static int64_t tokens_of(const kernel_shape *s)
{
    return s->tokens;
}

static int64_t score_scale_of(const kernel_shape *s)
{
    return s->score_scale;
}

/* "64, 72, ...": the values that the list has, ascending. */
static void list_values(int64_t (*of)(const kernel_shape *), char *text, size_t size)
{
    size_t length = 0;
    for (int64_t last = 0, next; length < size; last = next) {
        next = INT64_MAX;
        for (int i = 0; i < kernel_shape_count; i++) {
            const int64_t value = of(&kernel_shapes[i]);
            if (value > last && value < next) next = value;
        }
        if (next == INT64_MAX) break;
        length += (size_t)snprintf(text + length, size - length, "%s%lld", last ? ", " : "", (long long)next);
    }
}

static exit_status refuse_choice(const session *s)
{
    char dims[128], tokens[128], scales[128];
    list_values(dim_of, dims, sizeof dims);
    list_values(tokens_of, tokens, sizeof tokens);
    list_values(score_scale_of, scales, sizeof scales);
    return options_refuse(s,
                          "no shape of the list is what the options ask for together; it has --dim %s, --tokens %s, "
                          "--score-scale %s",
                          dims, tokens, scales);
}

static void add_variants(bench *b, const attention_kernel *kernel, attention_compute compute)
{
    const int single = b->variant_count;
    if (b->o->threads) {
        b->variants[b->variant_count++] = (variant){kernel, compute, b->o->threads, -1};
        return;
    }
    b->variants[b->variant_count++] = (variant){kernel, compute, 1, -1};
    if (launch_allowed_cpus() > 1) b->variants[b->variant_count++] = (variant){kernel, compute, 2, single};
}

static void add_kernel(bench *b, const attention_kernel *kernel)
{
    for (int c = 0; c < COMPUTE_COUNT; c++)
        if (attention_kernel_offers(kernel, (attention_compute)c) && b->variant_count + 2 <= MOST_VARIANTS)
            add_variants(b, kernel, (attention_compute)c);
}

static void choose_variants(bench *b, failure *f)
{
    if (options_given(b->o, "isa")) {
        const attention_kernel *kernel = job_kernel(b->o->isa, f);
        if (kernel) add_kernel(b, kernel);
    } else {
        for (int i = 0; i < attention_kernel_count; i++)
            if (!cpu_features_missing(attention_kernels[i]->features)) add_kernel(b, attention_kernels[i]);
    }
    for (int i = 0; i < b->variant_count; i++)
        if (b->variants[i].threads > b->most_threads) b->most_threads = b->variants[i].threads;
}

static bool measure_shape(const session *s, const bench *b, const kernel_shape *shape, failure *f)
{
    const int warmup = b->o->warmup, repeat = b->o->repeat;
    kernel_data data;
    kernel_data_create(shape, b->most_threads, &data, f);
    if (!session_agree(s, f)) {
        kernel_data_destroy(&data);
        return false;
    }
    for (int r = -warmup; r < repeat; r++)
        for (int i = 0; i < b->variant_count; i++) {
            const int index = r % 2 ? b->variant_count - 1 - i : i;
            const variant *v = &b->variants[index];
            if (!kernel_shape_takes(shape, v->compute)) continue;
            const kernel_sample sample = kernel_sample_take(s->comm, &data, v->kernel, v->compute, v->threads);
            if (r >= 0) b->samples[index * repeat + r] = sample;
        }
    kernel_data_destroy(&data);
    print_shape(shape);
    for (int i = 0; i < b->variant_count; i++) {
        if (!kernel_shape_takes(shape, b->variants[i].compute)) continue;
        print_variant(b, shape, i);
        result_append(b, shape, i);
    }
    fflush(stdout); /* the whole list takes long */
    return true;
}

static json_t *report_json(const bench *b)
{
    return json_pack("{s:i, s:i, s:O, s:o, s:o}", "repeat", b->o->repeat, "warmup", b->o->warmup, "results", b->results,
                     "machine", report_machine_json(), "versions", report_versions_json());
}

static void measure(const session *s, bench *b, failure *f)
{
    b->samples = malloc((size_t)b->variant_count * (size_t)b->o->repeat * sizeof *b->samples);
    b->sorted = malloc((size_t)b->o->repeat * sizeof *b->sorted);
    b->results = json_array();
    if (!b->samples || !b->sorted || !b->results)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for %d repetitions", b->o->repeat);
    if (!session_agree(s, f)) return;
    if (b->most_threads > launch_allowed_cpus()) {
        char advice[512];
        launch_advice(s->comm, b->most_threads, advice, sizeof advice);
        if (advice[0]) session_say(s, "longspan %s: warning: %s\n", s->command, advice);
    }
    print_header();
    for (int i = 0; i < kernel_shape_count; i++)
        if (is_chosen(b->o, &kernel_shapes[i]) && !measure_shape(s, b, &kernel_shapes[i], f)) return;
    if (b->o->report && run_report_write(s, b->o->report, b->o->force, report_json(b), f))
        session_say(s, "report: %s\n", b->o->report);
}

exit_status bench_kernels(session *s, const options *o)
{
    failure f = {0};
    bench b = {.o = o};
    int chosen = 0;
    if (s->ranks > 1)
        return options_refuse(s, "bench kernels measures one process, and there are %d ranks: use bench attention",
                              s->ranks);
    if (o->alpha != 0)
        return options_refuse(s,
                              "bench kernels knows softmax and the linear family; --attention sparsemax or entmax is "
                              "measured by bench attention");
    if (o->linear) return bench_linear_kernels(s, o);
    for (int i = 0; i < kernel_shape_count; i++) chosen += is_chosen(o, &kernel_shapes[i]);
    if (chosen == 0) return refuse_choice(s);
    if (o->report && output_file_check(s->comm, o->report, o->force, &f) != LONGSPAN_OK) return session_fail(s, &f);
    choose_variants(&b, &f);
    if (session_agree(s, &f)) measure(s, &b, &f);
    free(b.samples);
    free(b.sorted);
    json_decref(b.results);
    return session_exit_status(&f);
}
