#define _XOPEN_SOURCE 700 /* realpath */

#include "runtime/cli/result_file.h"

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

static void read_mask(const tensor_file *file, const char *path, bool *causal_p, bool *documents_p, failure *f)
{
    char text[64];
    io_error error;
    if (tensor_file_attribute_text(file, "mask", text, sizeof text, &error)) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return;
    }
    *causal_p = strcmp(text, "causal") == 0 || strcmp(text, "causal+documents") == 0;
    *documents_p = strcmp(text, "documents") == 0 || strcmp(text, "causal+documents") == 0;
    if (!*causal_p && !*documents_p && strcmp(text, "full") != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s: the attribute mask is '%s', which this version does not know", path,
                    text);
}

/* Opens the result on this rank. */
static void open_here(const char *path, result_file *r, bool *documents_p, failure *f)
{
    io_error error;
    int64_t version = 0;
    if (tensor_file_open(path, &r->file, &error) ||
        tensor_file_attribute_integer(r->file, "format_version", &version, &error) ||
        tensor_file_shape(r->file, "/out", &r->out, &error) ||
        tensor_file_attribute_number(r->file, "scale", &r->scale, &error)) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return;
    }
    if (version != FORMAT_VERSION)
        failure_set(f, LONGSPAN_ERROR_IO, "%s: format version %lld; this program reads version %d", path,
                    (long long)version, FORMAT_VERSION);
    if (!isfinite(r->scale)) failure_set(f, LONGSPAN_ERROR_IO, "%s: the attribute scale is not finite", path);
    read_mask(r->file, path, &r->mask.causal, documents_p, f);
}

static void check_fit(const char *path, bool documents, result_file *r, failure *f)
{
    const char *input_path = r->input_path;
    const tensor_shape *q = &r->input.shapes.q, *v = &r->input.shapes.v, *out = &r->out;
    if (out->batched != q->batched || out->batch != q->batch || out->tokens != q->tokens || out->heads != q->heads ||
        out->dim != v->dim)
        failure_set(f, LONGSPAN_ERROR_IO,
                    "%s: /out is %lld x %lld tokens x %d heads x %d, but %s asks for %lld x %lld x %d x %d", path,
                    (long long)out->batch, (long long)out->tokens, out->heads, out->dim, input_path,
                    (long long)q->batch, (long long)q->tokens, q->heads, v->dim);
    if (documents != (r->input.documents != NULL))
        failure_set(f, LONGSPAN_ERROR_IO, "%s was computed %s documents, but %s has %s", path,
                    documents ? "with" : "without", input_path, documents ? "none" : "some");
    if (documents && r->input.shapes.k.tokens != q->tokens)
        failure_set(f, LONGSPAN_ERROR_IO, "%s: documents need as many keys as queries", input_path);
    r->mask.queries = q->tokens;
    r->mask.keys = r->input.shapes.k.tokens;
    r->mask.documents = r->input.documents;
    r->mask.document_count = r->input.document_count;
}

bool result_file_open(const session *s, const char *path, const char *input_path, result_file *result_p, failure *f)
{
    bool documents = false;
    *result_p = (result_file){0};
    /* Rank 0 first, so that a bad file is one error. */
    if (s->rank == 0) open_here(path, result_p, &documents, f);
    if (!session_agree(s, f)) return false;
    if (s->rank != 0) open_here(path, result_p, &documents, f);
    if (f->status == LONGSPAN_OK) {
        result_p->input_path = input_path ? strdup(input_path) : find_input(result_p->file, path, f);
        if (!result_p->input_path) failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory");
    }
    if (!session_agree(s, f)) return false;
    if (input_file_open(s->comm, result_p->input_path, &result_p->input, f) != LONGSPAN_OK) {
        session_fail(s, f);
        return false;
    }
    check_fit(path, documents, result_p, f);
    return session_agree(s, f);
}

void result_file_close(result_file *result)
{
    tensor_file_close(&result->file);
    input_file_close(&result->input);
    free(result->input_path);
    *result = (result_file){0};
}
