#include "runtime/cli/machine_file.h"

#include "io/output_file.h"
#include "runtime/cli/files.h"
#include "runtime/cli/report.h"
#include "runtime/cli/run_report.h"
#include "runtime/machine.h"
#include "runtime/patience.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char format_name[] = "longspan machine";
enum { FORMAT_VERSION = 1, PATH_SIZE = 4096 };

static const double peak_seconds = 0.004;

static const char *const type_names[] = {"float32", "float16", "bfloat16"};

void machine_file_path(char *path, size_t size, bool *named_p)
{
    const char *named = getenv("LONGSPAN_MACHINE"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    *named_p = named && *named;
    path[0] = '\0';
    if (*named_p) snprintf(path, size, "%s", named);
    else if (cache && *cache) snprintf(path, size, "%s/longspan/machine.json", cache);
    else if (home && *home) snprintf(path, size, "%s/.cache/longspan/machine.json", home);
}

/* Writing. */

static json_t *link_json(const longspan_link *link)
{
    return json_pack("{s:f, s:f, s:f}", "latency", link->latency, "bandwidth", link->bandwidth, "busy", link->busy);
}

static json_t *curve_json(const calibration_point *points)
{
    json_t *curve = json_array();
    for (int i = 0; i < CALIBRATION_POINTS && points[i].bytes > 0; i++)
        json_array_append_new(
            curve, json_pack("{s:I, s:f}", "bytes", (json_int_t)points[i].bytes, "seconds", points[i].seconds));
    return curve;
}

static json_t *arithmetic_json(const calibration *c)
{
    json_t *all = json_object();
    for (int i = 0; i < c->rate_count; i++) {
        const attention_compute compute = c->rates[i].compute;
        json_object_set_new(all, attention_compute_name(compute),
                            json_pack("{s:f, s:f}", "score_seconds", c->machine.score_seconds[compute],
                                      "product_seconds", c->machine.product_seconds[compute]));
    }
    return all;
}

static json_t *few_json(const calibration *c)
{
    json_t *all = json_object();
    for (int type = LONGSPAN_FLOAT32; type <= LONGSPAN_BFLOAT16; type++) {
        json_t *row = json_array();
        for (int i = 0; i < PREDICTION_FEW; i++) json_array_append_new(row, json_real(c->machine.few_seconds[type][i]));
        json_object_set_new(all, type_names[type], row);
    }
    return all;
}

static json_t *calibration_json(const calibration *c)
{
    json_t *root =
        json_pack("{s:s, s:i, s:o, s:o, s:s, s:i, s:i, s:i, s:o, s:o, s:f}", "format", format_name, "version",
                  FORMAT_VERSION, "machine", report_machine_json(), "versions", report_versions_json(), "kernel",
                  c->kernel, "ranks", c->ranks, "nodes", c->nodes, "threads", c->threads, "arithmetic",
                  arithmetic_json(c), "few_seconds", few_json(c), "memory_bandwidth", c->machine.memory_bandwidth);
    if (c->machine.barrier_seconds > 0)
        json_object_set_new(root, "barrier_seconds", json_real(c->machine.barrier_seconds));
    if (c->machine.node.bandwidth > 0) {
        json_object_set_new(root, "node", link_json(&c->machine.node));
        json_object_set_new(root, "node_exchanges", curve_json(c->node));
    }
    if (c->machine.network.bandwidth > 0) {
        json_object_set_new(root, "network", link_json(&c->machine.network));
        json_object_set_new(root, "network_exchanges", curve_json(c->network));
    }
    return root;
}

/* Makes the folders above a file, as far as they are missing. */
static void make_folders(const char *path, failure *f)
{
    char folder[PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *c = folder + 1; *c; c++) {
        if (*c != '/') continue;
        *c = '\0';
        if (mkdir(folder, 0777) != 0 && errno != EEXIST)
            failure_set(f, LONGSPAN_ERROR_IO, "%s: %s", folder, strerror(errno));
        *c = '/';
    }
}

bool machine_file_write(const session *s, const char *path, bool force, const calibration *c, failure *f)
{
    char usual[PATH_SIZE];
    bool named;
    machine_file_path(usual, sizeof usual, &named);
    if (s->rank == 0 && strcmp(usual, path) == 0) make_folders(path, f);
    if (!session_agree(s, f)) return false;
    return run_report_write(s, path, force, s->rank == 0 ? calibration_json(c) : NULL, f);
}

/* Reading. */

typedef struct {
    const char *path;
    failure *f;
} reader;

static void spoiled(const reader *r, const char *what, const char *why)
{
    failure_set(r->f, LONGSPAN_ERROR_IO, "%s: %s%s; measure again with: longspan bench exchange -o FILE", r->path, what,
                why);
}

/* A number above 0 that the file must have. */
static double read_number(const reader *r, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    const double number = json_number_value(value);
    if (json_is_number(value) && number > 0) return number;
    spoiled(r, key, value ? " is not a number above 0" : " is missing");
    return 0;
}

static longspan_link read_link(const reader *r, const json_t *root, const char *key)
{
    const json_t *object = json_object_get(root, key), *busy = json_object_get(object, "busy");
    if (!object) return (longspan_link){0};
    if (!json_is_number(busy)) spoiled(r, key, ": busy is missing or is not a number");
    return (longspan_link){.latency = read_number(r, object, "latency"),
                           .bandwidth = read_number(r, object, "bandwidth"),
                           .busy = json_number_value(busy)};
}

static void read_folds(const reader *r, const json_t *root, longspan_machine *m)
{
    const json_t *arithmetic = json_object_get(root, "arithmetic"), *few = json_object_get(root, "few_seconds");
    if (!json_is_object(json_object_get(arithmetic, "fp32"))) spoiled(r, "arithmetic: fp32", " is missing");
    for (attention_compute compute = COMPUTE_FP32; compute < COMPUTE_COUNT; compute++) {
        const json_t *one = json_object_get(arithmetic, attention_compute_name(compute));
        if (!one) continue;
        m->score_seconds[compute] = read_number(r, one, "score_seconds");
        m->product_seconds[compute] = read_number(r, one, "product_seconds");
    }
    for (int type = LONGSPAN_FLOAT32; type <= LONGSPAN_BFLOAT16; type++) {
        const json_t *row = json_object_get(few, type_names[type]);
        for (int i = 0; i < PREDICTION_FEW; i++) {
            const json_t *value = json_array_get(row, (size_t)i);
            m->few_seconds[type][i] = json_number_value(value);
            if (!(m->few_seconds[type][i] > 0))
                spoiled(r, "few_seconds", " does not hold three numbers above 0 a type");
        }
    }
}

static bool has_name(const json_t *object, const char *key, const char *name)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && strcmp(text, name) == 0;
}

/* Whether the file's CPU is this one. */
static bool is_from_here(const json_t *root)
{
    json_t *here = report_machine_json();
    const char *cpu = json_string_value(json_object_get(here, "cpu"));
    const bool same = cpu && has_name(json_object_get(root, "machine"), "cpu", cpu);
    json_decref(here);
    return same;
}

static void read_root(const reader *r, const json_t *root, const attention_kernel *kernel, machine_source *p)
{
    longspan_machine *m = &p->machine;
    if (!has_name(root, "format", format_name) ||
        json_integer_value(json_object_get(root, "version")) != FORMAT_VERSION) {
        spoiled(r, "", "not a file of a machine's numbers, version 1");
        return;
    }
    const bool kernel_measured = has_name(root, "kernel", kernel->name);
    if (kernel_measured) read_folds(r, root, m);
    m->memory_bandwidth = read_number(r, root, "memory_bandwidth");
    if (json_object_get(root, "barrier_seconds")) m->barrier_seconds = read_number(r, root, "barrier_seconds");
    if (json_object_get(root, "memory_bytes")) m->memory_bytes = read_number(r, root, "memory_bytes");
    m->node = read_link(r, root, "node");
    m->network = read_link(r, root, "network");
    failure wrong = {0};
    if (!machine_check(m, &wrong)) spoiled(r, "", wrong.text);
    p->measured = true;
    snprintf(p->source, sizeof p->source, "measured (%.400s)%s", r->path,
             kernel_measured ? "" : ", but the kernel's rates, which are another's");
}

/* Rank 0. Leaves *p as it is where there is no file to heed. */
static void read_file(const char *path, bool named, const attention_kernel *kernel, machine_source *p, failure *f)
{
    json_error_t error;
    const reader r = {path, f};
    FILE *file = fopen(path, "r");
    if (!file) {
        if (named || errno != ENOENT)
            failure_set(f, LONGSPAN_ERROR_IO, "%s: %s%s", path, strerror(errno), named ? " (LONGSPAN_MACHINE)" : "");
        return;
    }
    json_t *root = json_loadf(file, 0, &error);
    fclose(file);
    if (!root) spoiled(&r, "not JSON: ", error.text);
    else if (named || is_from_here(root)) read_root(&r, root, kernel, p);
    json_decref(root);
}

bool machine_load(const session *s, const attention_kernel *kernel, machine_source *source_p, failure *f)
{
    char path[PATH_SIZE];
    bool named;
    machine_source p = {.source = "built in, with the kernel's peak as measured now"};
    machine_file_path(path, sizeof path, &named);
    if (s->rank == 0 && path[0]) read_file(path, named, kernel, &p, f);
    if (!session_agree(s, f)) return false;
    if (s->rank == 0) machine_fill(&p.machine, kernel, kernel->peak(peak_seconds));
    wait_bcast(&p, (int)sizeof p, MPI_BYTE, 0, s->comm);
    *source_p = p;
    return true;
}
