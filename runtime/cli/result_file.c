#define _XOPEN_SOURCE 700 /* realpath */

#include "runtime/cli/result_file.h"

#include "runtime/cli/entmax_option.h"
#include "runtime/cli/job.h"
#include "runtime/cli/linear_job.h"
#include "runtime/problem.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FORMAT_VERSION = 1 };

/* "." for "NAME", "/" for "/NAME"; malloc'ed, NULL if memory ran out. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static char *join(const char *folder, const char *name)
{
    const size_t size = strlen(folder) + strlen(name) + 2;
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/%s", folder, name);
    return path;
}

/* The path that leads from `folder` to `target`, both absolute and without links; malloc'ed. */
static char *relative_to(const char *folder, const char *target)
{
    size_t common = 0; /* end of the last folder that both go through */
    for (size_t i = 0;; i++) {
        const bool folder_ends = folder[i] == '\0' || folder[i] == '/', target_ends = target[i] == '/';
        if (folder_ends && target_ends) common = i;
        if (folder[i] != target[i] || folder[i] == '\0') break;
    }
    size_t ups = 0;
    for (const char *at = folder + common; *at; at++) ups += *at == '/' && at[1] != '\0';
    const char *rest = target + common + 1;
    char *path = malloc(3 * ups + strlen(rest) + 1);
    if (!path) return NULL;
    for (size_t i = 0; i < ups; i++) memcpy(path + 3 * i, "../", 3);
    strcpy(path + 3 * ups, rest);
    return path;
}

int result_file_name_input(const char *path, const char *input_path, char **relative_p, char **absolute_p, failure *f)
{
    char *named = folder_of(path);
    char *folder = named ? realpath(named, NULL) : NULL;
    char *absolute = realpath(input_path, NULL);
    char *relative = folder && absolute ? relative_to(folder, absolute) : NULL;
    free(named);
    free(folder);
    if (!relative) {
        free(absolute);
        failure_set(f, LONGSPAN_ERROR_IO, "%s: the absolute path of %s cannot be found", path, input_path);
        return -1;
    }
    *relative_p = relative;
    *absolute_p = absolute;
    return 0;
}

/* The input that the attributes name and that exists: malloc'ed. */
static char *find_input(const tensor_file *file, const char *path, failure *f)
{
    char relative[PATH_MAX], absolute[PATH_MAX];
    io_error error;
    if (tensor_file_attribute_text(file, "input", relative, sizeof relative, &error) ||
        tensor_file_attribute_text(file, "input_absolute", absolute, sizeof absolute, &error)) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return NULL;
    }
    char *folder = folder_of(path), *found = folder ? join(folder, relative) : NULL;
    free(folder);
    if (!found) {
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory");
        return NULL;
    }
    if (access(found, F_OK) != 0) {
        free(found);
        if (access(absolute, F_OK) == 0) return strdup(absolute);
        failure_set(f, LONGSPAN_ERROR_IO, "%s was computed from %s, which is not there (nor is it at %s beside it)",
                    path, absolute, relative);
        return NULL;
    }
    return found;
}

int result_file_describe(const longspan_problem *p, char mask_name[MASK_NAME_SIZE],
                         output_attribute attributes[RESULT_PROBLEM_ATTRIBUTES])
{
    const mask_choice mask = mask_choice_of(p);
    int count = 0;
    mask_choice_name(&mask, mask_name);
    attributes[count++] = (output_attribute){.name = "mask", .kind = ATTRIBUTE_TEXT, .text = mask_name};
    if (p->pattern)
        attributes[count++] = (output_attribute){.name = "pattern", .kind = ATTRIBUTE_TEXT, .text = p->pattern};
    attributes[count++] = (output_attribute){.name = "scale", .kind = ATTRIBUTE_NUMBER, .number = p->scale};
    if (p->softcap > 0)
        attributes[count++] = (output_attribute){.name = "softcap", .kind = ATTRIBUTE_NUMBER, .number = p->softcap};
    if (p->rope_dim > 0) {
        const char *style = p->rope_interleaved ? "interleaved" : "half";
        attributes[count++] = (output_attribute){.name = "rope_dim", .kind = ATTRIBUTE_INTEGER, .integer = p->rope_dim};
        attributes[count++] = (output_attribute){.name = "rope_base", .kind = ATTRIBUTE_NUMBER, .number = p->rope_base};
        attributes[count++] = (output_attribute){.name = "rope_style", .kind = ATTRIBUTE_TEXT, .text = style};
    }
    if (p->alibi_slopes)
        attributes[count++] = (output_attribute){.name = "alibi", .kind = ATTRIBUTE_INTEGER, .integer = 1};
    if (p->sinks) attributes[count++] = (output_attribute){.name = "sinks", .kind = ATTRIBUTE_INTEGER, .integer = 1};
    if (p->relative_keys)
        attributes[count++] = (output_attribute){.name = "relative", .kind = ATTRIBUTE_INTEGER, .integer = 1};
    return count;
}

int result_file_describe_linear(const longspan_linear_problem *p, bool has_initial,
                                output_attribute attributes[RESULT_PROBLEM_ATTRIBUTES])
{
    const char *mask = p->causal ? (p->documents ? "causal+documents" : "causal") : p->documents ? "documents" : "full";
    int count = 0;
    attributes[count++] = (output_attribute){.name = "attention", .kind = ATTRIBUTE_TEXT, .text = p->attention};
    attributes[count++] = (output_attribute){.name = "mask", .kind = ATTRIBUTE_TEXT, .text = mask};
    attributes[count++] = (output_attribute){.name = "scale", .kind = ATTRIBUTE_NUMBER, .number = p->scale};
    if (has_initial)
        attributes[count++] = (output_attribute){.name = "initial_state", .kind = ATTRIBUTE_INTEGER, .integer = 1};
    return count;
}

/* Attributes of the result, as long as nothing went wrong; with `optional` 0 stands for one that is not there. */
typedef struct {
    const tensor_file *file;
    const char *path;
    failure *f;
} attribute_reader;

static double read_number(const attribute_reader *r, const char *name, bool optional)
{
    double number = 0;
    io_error error;
    if (r->f->status != LONGSPAN_OK || (optional && !tensor_file_has_attribute(r->file, name))) return 0;
    if (tensor_file_attribute_number(r->file, name, &number, &error))
        failure_set(r->f, LONGSPAN_ERROR_IO, "%s", error.text);
    else if (!isfinite(number))
        failure_set(r->f, LONGSPAN_ERROR_IO, "%s: the attribute %s is not finite", r->path, name);
    return number;
}

static int64_t read_integer(const attribute_reader *r, const char *name, bool optional)
{
    int64_t integer = 0;
    io_error error;
    if (r->f->status != LONGSPAN_OK || (optional && !tensor_file_has_attribute(r->file, name))) return 0;
    if (tensor_file_attribute_integer(r->file, name, &integer, &error))
        failure_set(r->f, LONGSPAN_ERROR_IO, "%s", error.text);
    return integer;
}

static void read_text(const attribute_reader *r, const char *name, char *text, size_t size)
{
    io_error error;
    text[0] = '\0';
    if (r->f->status == LONGSPAN_OK && tensor_file_attribute_text(r->file, name, text, size, &error))
        failure_set(r->f, LONGSPAN_ERROR_IO, "%s", error.text);
}

static void refuse_text(const attribute_reader *r, const char *name, const char *text)
{
    failure_set(r->f, LONGSPAN_ERROR_IO, "%s: the attribute %s is '%s', which this version does not know", r->path,
                name, text);
}

static void read_scores(const attribute_reader *r, longspan_problem *p)
{
    char text[64];
    p->scale = read_number(r, "scale", false);
    p->softcap = read_number(r, "softcap", true);
    const int64_t rope_dim = read_integer(r, "rope_dim", true);
    if (p->softcap < 0)
        failure_set(r->f, LONGSPAN_ERROR_IO, "%s: the attribute softcap is %g, below 0", r->path, p->softcap);
    if (rope_dim < 0 || rope_dim > p->dim || rope_dim % 2 != 0)
        failure_set(r->f, LONGSPAN_ERROR_IO, "%s: the attribute rope_dim is %lld, not an even number up to %d", r->path,
                    (long long)rope_dim, p->dim);
    p->rope_dim = (int)rope_dim;
    if (p->rope_dim == 0) return;
    p->rope_base = read_number(r, "rope_base", false);
    if (!(p->rope_base > 0))
        failure_set(r->f, LONGSPAN_ERROR_IO, "%s: the attribute rope_base is %g, not above 0", r->path, p->rope_base);
    read_text(r, "rope_style", text, sizeof text);
    p->rope_interleaved = strcmp(text, "interleaved") == 0;
    if (!p->rope_interleaved && strcmp(text, "half") != 0) refuse_text(r, "rope_style", text);
}

/* One of the input's optional datasets: used, or not, exactly when the input has it. */
static void check_used(const attribute_reader *r, const char *input_path, const char *what, bool used, bool there)
{
    if (used != there)
        failure_set(r->f, LONGSPAN_ERROR_IO, "%s was computed %s %s, but %s has %s", r->path, used ? "with" : "without",
                    what, input_path, there ? "some" : "none");
}

/* The lists of blocks of keys: the input's, or where attend has chosen them the result's. */
static void find_selection(const attribute_reader *reader, const pattern_choice *choice, result_file *r)
{
    io_error error;
    r->is_nsa = strcmp(choice->kind->name, "nsa") == 0;
    r->selection_is_chosen = strcmp(choice->kind->name, "moba") == 0;
    r->selection_most = r->selection_is_chosen ? choice->items[1].begin : 0;
    r->selection_file = r->selection_is_chosen || r->is_nsa ? r->file : r->input.file;
    r->selection_size = choice->items[r->is_nsa ? 2 : 0].begin;
    if (tensor_file_selection(r->selection_file, r->problem.queries, &r->selection, &error) != 0)
        failure_set(reader->f, LONGSPAN_ERROR_IO, "%s", error.text);
    const int lists = r->selection.lists;
    const int chosen = r->is_nsa ? r->problem.kv_heads : r->problem.heads;
    if (reader->f->status == LONGSPAN_OK && (r->selection_is_chosen || r->is_nsa) && lists != chosen)
        failure_set(reader->f, LONGSPAN_ERROR_IO, "%s: /selected_blocks has %d lists a query, not one of each of %d heads",
                    reader->path, lists, chosen);
    if (reader->f->status == LONGSPAN_OK && lists != 1 && lists != r->problem.kv_heads && lists != r->problem.heads)
        failure_set(reader->f, LONGSPAN_ERROR_IO, "%s: /selected_blocks has %d lists a query, not 1, %d or %d",
                    r->input_path, lists, r->problem.kv_heads, r->problem.heads);
}

static void read_pattern(const attribute_reader *reader, result_file *r)
{
    pattern_choice choice;
    char why[PATTERN_WHY_SIZE];
    if (reader->f->status != LONGSPAN_OK || !tensor_file_has_attribute(r->file, "pattern")) return;
    read_text(reader, "pattern", r->pattern, sizeof r->pattern);
    if (reader->f->status != LONGSPAN_OK) return;
    if (!pattern_choice_parse(r->pattern, &choice, why)) {
        refuse_text(reader, "pattern", r->pattern);
        return;
    }
    r->problem.pattern = r->pattern;
    if (choice.kind->flags & BLOCKS_ARE_SELECTED) {
        find_selection(reader, &choice, r);
        return;
    }
    if (strncmp(r->pattern, "blocks:", strlen("blocks:")) != 0) return;
    if (r->input.extras.block_offsets) job_problem_set_blocks(r->input_path, &r->input, &r->problem, reader->f);
    else
        failure_set(reader->f, LONGSPAN_ERROR_IO, "%s was computed with pattern %s, but %s has no /block_offsets",
                    reader->path, r->pattern, r->input_path);
}

/* Does the pattern go with the input? */
static void check_pattern(const attribute_reader *reader, const result_file *r)
{
    pattern_sum *made = NULL;
    failure why = {0};
    if (reader->f->status != LONGSPAN_OK || !r->problem.pattern || r->selection_file) return;
    if (problem_pattern(&r->problem, &made, &why) != LONGSPAN_OK)
        failure_set(reader->f, LONGSPAN_ERROR_IO, "%s, of the input %s: %.300s", reader->path, r->input_path, why.text);
    pattern_sum_destroy(made);
}

/* Do the relative keys go with the mask or the pattern? */
static void check_relative(const attribute_reader *reader, const result_file *r)
{
    failure why = {0};
    if (reader->f->status != LONGSPAN_OK) return;
    problem_check_relative(&r->problem, &why);
    if (why.status != LONGSPAN_OK)
        failure_set(reader->f, LONGSPAN_ERROR_IO, "%s, of the input %s: %.300s", reader->path, r->input_path, why.text);
}

/* The same of a linear result. */
static void read_linear_problem(const char *path, result_file *r, failure *f)
{
    const attribute_reader reader = {r->file, path, f};
    longspan_linear_problem *p = &r->linear_problem;
    mask_choice mask;
    char text[MASK_NAME_SIZE], why[512];
    linear_problem_from_input(&r->input, r->linear, p);
    read_text(&reader, "mask", text, sizeof text);
    p->scale = read_number(&reader, "scale", false);
    r->has_initial = read_integer(&reader, "initial_state", true) != 0;
    if (f->status != LONGSPAN_OK) return;
    if (!mask_choice_parse(text, &mask, why, sizeof why)) {
        refuse_text(&reader, "mask", text);
        return;
    }
    p->causal = mask.causal;
    check_used(&reader, r->input_path, "documents", mask.documents, p->documents != NULL);
    check_used(&reader, r->input_path, "a first state", r->has_initial, tensor_file_has_state(r->input.file));
    if (f->status == LONGSPAN_OK) linear_problem_complete(p, f);
}

/* The problem, from the shapes of the input and the attributes of the result. */
static void read_problem(const char *path, result_file *r, failure *f)
{
    const attribute_reader reader = {r->file, path, f};
    const attention_extras *extras = &r->input.extras;
    longspan_problem *p = &r->problem;
    mask_choice mask;
    char text[MASK_NAME_SIZE], why[512];
    job_problem_from_input(&r->input, p);
    p->alpha = r->alpha;
    read_text(&reader, "mask", text, sizeof text);
    if (f->status != LONGSPAN_OK) return;
    if (!mask_choice_parse(text, &mask, why, sizeof why)) {
        refuse_text(&reader, "mask", text);
        return;
    }
    mask_choice_apply(&mask, p);
    read_pattern(&reader, r);
    read_scores(&reader, p);
    check_used(&reader, r->input_path, "documents", mask.documents, extras->documents != NULL);
    check_used(&reader, r->input_path, "key lengths", mask.key_lengths, extras->key_lengths != NULL);
    check_used(&reader, r->input_path, "ALiBi slopes", read_integer(&reader, "alibi", true),
               extras->alibi_slopes != NULL);
    check_used(&reader, r->input_path, "sinks", read_integer(&reader, "sinks", true), extras->sinks != NULL);
    check_used(&reader, r->input_path, "relative keys", read_integer(&reader, "relative", true),
               extras->relative.keys != NULL);
    read_text(&reader, "compute", text, sizeof text);
    if (!oracle_arithmetic_find(text, &r->arithmetic)) refuse_text(&reader, "compute", text);
    if (mask.documents && p->keys != p->queries)
        failure_set(f, LONGSPAN_ERROR_IO, "%s: documents need as many keys as queries", r->input_path);
    check_pattern(&reader, r);
    check_relative(&reader, r);
}

/* What kind of attention it is of. */
static void read_attention(const char *path, result_file *r, failure *f)
{
    const attribute_reader reader = {r->file, path, f};
    char text[64] = "softmax";
    if (tensor_file_has_attribute(r->file, "attention")) read_text(&reader, "attention", text, sizeof text);
    r->linear = linear_variant_find(text);
    if (!r->linear && strcmp(text, "softmax") != 0 && !entmax_option_parse(text, &r->alpha))
        refuse_text(&reader, "attention", text);
}

/* Opens the result on this rank. */
static void open_here(const char *path, result_file *r, failure *f)
{
    io_error error;
    int64_t version = 0;
    if (tensor_file_open(path, &r->file, &error) ||
        tensor_file_attribute_integer(r->file, "format_version", &version, &error) ||
        tensor_file_shape(r->file, "/out", &r->out, &error)) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return;
    }
    if (version != FORMAT_VERSION)
        failure_set(f, LONGSPAN_ERROR_IO, "%s: format version %lld; this program reads version %d", path,
                    (long long)version, FORMAT_VERSION);
    read_attention(path, r, f);
}

static void check_fit(const char *path, const result_file *r, failure *f)
{
    const tensor_shape *q = &r->input.shapes.q, *v = &r->input.shapes.v, *out = &r->out;
    const int heads = r->linear ? linear_heads(&r->input.shapes) : q->heads;
    if (out->batched != q->batched || out->batch != q->batch || out->tokens != q->tokens || out->heads != heads ||
        out->dim != v->dim)
        failure_set(f, LONGSPAN_ERROR_IO,
                    "%s: /out is %lld x %lld tokens x %d heads x %d, but %s asks for %lld x %lld x %d x %d", path,
                    (long long)out->batch, (long long)out->tokens, out->heads, out->dim, r->input_path,
                    (long long)q->batch, (long long)q->tokens, heads, v->dim);
}

bool result_file_open(const session *s, const char *path, const char *input_path, result_file *result_p, failure *f)
{
    *result_p = (result_file){0};
    /* Rank 0 first, so that a bad file is one error. */
    if (s->rank == 0) open_here(path, result_p, f);
    if (!session_agree(s, f)) return false;
    if (s->rank != 0) open_here(path, result_p, f);
    if (f->status == LONGSPAN_OK) {
        result_p->input_path = input_path ? strdup(input_path) : find_input(result_p->file, path, f);
        if (!result_p->input_path) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory");
    }
    if (!session_agree(s, f)) return false;
    if (input_file_open(s->comm, result_p->input_path, result_p->linear, &result_p->input, f) != LONGSPAN_OK) {
        session_fail(s, f);
        return false;
    }
    check_fit(path, result_p, f);
    if (f->status == LONGSPAN_OK) (result_p->linear ? read_linear_problem : read_problem)(path, result_p, f);
    return session_agree(s, f);
}

void result_file_close(result_file *result)
{
    tensor_file_close(&result->file);
    input_file_close(&result->input);
    free(result->input_path);
    *result = (result_file){0};
}
