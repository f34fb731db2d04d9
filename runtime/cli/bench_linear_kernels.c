/* longspan bench kernels with a linear --attention: every chunked kernel that this CPU can run, on 1 and 2 threads, in
 * one process. As in bench_kernels.c what is compared is measured in turn: a repetition runs every kernel once, each
 * right after the peak that it is a fraction of and right before the loop that it is faster than. */
#include "runtime/cli/bench.h"
#include "runtime/cli/linear_job.h"
#include "runtime/cli/linear_report.h"
#include "runtime/cli/linear_sample.h"
#include "runtime/launch.h"
#include "runtime/linear_plan.h"

#include "kernels/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_VARIANTS = 16, HEADS = 16, DIM = 128, TOKENS = 4096 };

typedef struct {
    const linear_kernel *kernel;
    int threads;
    double difference; /* to the loop; on one thread */
} variant;

typedef struct {
    const options *o;
    variant variants[MOST_VARIANTS];
    int variant_count, most_threads;
    linear_sample *samples; /* [variant][repetition] */
    double *sorted;         /* scratch of a median, [repetition] */
    double flops;           /* of the chunked form, all heads */
    double tokens;          /* times batch items and heads */
} bench;

typedef enum { GFLOPS, PEAK_GFLOPS, FRACTION_OF_PEAK, NS_PER_TOKEN, TIMES_FASTER, QUANTITIES } quantity;

static const char *const quantity_names[QUANTITIES] = {
    [GFLOPS] = "gflops",
    [PEAK_GFLOPS] = "peak_gflops",
    [FRACTION_OF_PEAK] = "fraction_of_peak",
    [NS_PER_TOKEN] = "ns_per_token",
    [TIMES_FASTER] = "times_faster_than_loop",
};

static double value_of(const bench *b, const linear_sample *t, quantity q)
{
    switch (q) {
    case GFLOPS:
        return b->flops / t->wall * 1e-9;
    case PEAK_GFLOPS:
        return t->peak * 1e-9;
    case FRACTION_OF_PEAK:
        return b->flops / t->wall / t->peak;
    case NS_PER_TOKEN:
        return t->wall * 1e9 / b->tokens;
    case TIMES_FASTER:
        return t->loop / t->wall;
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

static double median_of(const bench *b, int index, quantity q)
{
    const int count = b->o->repeat;
    for (int r = 0; r < count; r++) b->sorted[r] = value_of(b, &b->samples[index * count + r], q);
    qsort(b->sorted, (size_t)count, sizeof *b->sorted, compare);
    return (b->sorted[(count - 1) / 2] + b->sorted[count / 2]) / 2;
}

static bool has_loop(const bench *b, int index)
{
    return b->samples[index * b->o->repeat].loop > 0;
}

static void add_kernel(bench *b, const linear_kernel *kernel)
{
    const int threads = b->o->threads ? b->o->threads : 1;
    b->variants[b->variant_count++] = (variant){kernel, threads, 0};
    if (!b->o->threads && launch_allowed_cpus() > 1) b->variants[b->variant_count++] = (variant){kernel, 2, 0};
}

static void choose_variants(bench *b, failure *f)
{
    if (options_given(b->o, "isa")) {
        if (job_kernel(b->o->isa, f)) add_kernel(b, linear_kernel_find(b->o->isa));
    } else {
        for (int i = 0; i < linear_kernel_count; i++)
            if (!cpu_features_missing(linear_kernels[i]->features)) add_kernel(b, linear_kernels[i]);
    }
    for (int i = 0; i < b->variant_count; i++)
        if (b->variants[i].threads > b->most_threads) b->most_threads = b->variants[i].threads;
}

static void print_results(const bench *b, const longspan_linear_problem *p)
{
    linear_problem_print(stdout, p);
    printf("%-10s %7s  %9s %9s %8s %10s %14s %10s\n", "kernel", "threads", "GFLOP/s", "peak", "of peak", "ns/token",
           "x the loop", "difference");
    for (int i = 0; i < b->variant_count; i++) {
        const variant *v = &b->variants[i];
        printf("%-10s %7d  %9.2f %9.2f %6.1f %% %10.2f", v->kernel->name, v->threads, median_of(b, i, GFLOPS),
               median_of(b, i, PEAK_GFLOPS), 100 * median_of(b, i, FRACTION_OF_PEAK), median_of(b, i, NS_PER_TOKEN));
        if (has_loop(b, i)) printf(" %14.2f %10.3g", median_of(b, i, TIMES_FASTER), v->difference);
        printf("\n");
    }
    printf("ns/token: of one head. x the loop: how many times faster than token by token on one thread, with the same "
           "flags.\n");
}

static json_t *report_json(const bench *b, const longspan_linear_problem *p)
{
    json_t *results = json_array();
    for (int i = 0; i < b->variant_count; i++) {
        const variant *v = &b->variants[i];
        json_t *result = json_pack("{s:s, s:i, s:f}", "isa", v->kernel->name, "threads", v->threads, "flops", b->flops);
        for (quantity q = 0; q < QUANTITIES; q++)
            if (q != TIMES_FASTER || has_loop(b, i))
                json_object_set_new(result, quantity_names[q], json_real(median_of(b, i, q)));
        json_array_append_new(results, result);
    }
    return json_pack("{s:o, s:i, s:i, s:o, s:o, s:o}", "problem", linear_problem_json(p), "repeat", b->o->repeat,
                     "warmup", b->o->warmup, "results", results, "machine", report_machine_json(), "versions",
                     report_versions_json());
}

static void problem_of(const options *o, longspan_linear_problem *p)
{
    linear_problem_from_options(o, p);
    p->heads = p->k_heads = p->v_heads = HEADS;
    p->dim = p->value_dim = o->dim ? o->dim : DIM;
    p->tokens = o->tokens ? o->tokens : TOKENS;
    if (p->feature_count > 0) p->feature_count = p->dim;
}

static void measure(const session *s, bench *b, failure *f)
{
    const int repeat = b->o->repeat;
    linear_data data;
    longspan_linear_problem problem;
    problem_of(b->o, &problem);
    linear_data_create(&problem, b->o->seed, b->most_threads, &data, f);
    b->samples = calloc((size_t)(b->variant_count * repeat), sizeof *b->samples);
    b->sorted = malloc((size_t)repeat * sizeof *b->sorted);
    if (!b->samples || !b->sorted) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory for %d repetitions", repeat);
    if (!session_agree(s, f)) goto done;
    b->flops = linear_plan_flops(&data.call.shape, true, (range){0, problem.tokens});
    b->tokens = (double)problem.tokens * HEADS;
    for (int r = -b->o->warmup; r < repeat; r++)
        for (int i = 0; i < b->variant_count; i++) {
            variant *v = &b->variants[i];
            const linear_sample sample = linear_sample_take(s->comm, &data, v->kernel, v->threads);
            if (r >= 0) b->samples[i * repeat + r] = sample;
            if (sample.loop > 0) v->difference = linear_data_difference(&data);
        }
    print_results(b, &data.problem);
    if (b->o->report && run_report_write(s, b->o->report, b->o->force, report_json(b, &data.problem), f))
        session_say(s, "report: %s\n", b->o->report);
done:
    linear_data_destroy(&data);
}

exit_status bench_linear_kernels(session *s, const options *o)
{
    failure f = {0};
    bench b = {.o = o};
    if (!o->mask.causal) return options_refuse(s, "--mask full: bench kernels measures the causal fold");
    if (options_given(o, "score-scale"))
        return options_refuse(s, "--score-scale has no meaning with --attention %s", o->linear->name);
    if (o->report && output_file_check(s->comm, o->report, o->force, &f) != LONGSPAN_OK) return session_fail(s, &f);
    choose_variants(&b, &f);
    if (session_agree(s, &f)) measure(s, &b, &f);
    free(b.samples);
    free(b.sorted);
    return session_exit_status(&f);
}
