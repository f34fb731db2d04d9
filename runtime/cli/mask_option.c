#include "runtime/cli/mask_option.h"

#include "runtime/cli/options.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ALL = -1, MOST_NUMBERS = 3, PART_SIZE = 96 };

/* Sums of a position and a limit stay in the range of int64_t. */
static const int64_t most = INT64_C(1) << 60;

typedef struct {
    mask_choice mask;
    bool full, window, prefix, chunk; /* named by a part */
    char *why;
    size_t size;
} parser;

static bool refuse(parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(parser *p, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->why, p->size, format, arguments);
    va_end(arguments);
    return false;
}

/* "8k,all" to numbers; false if one is not a size or there are more than `capacity`. */
static bool parse_numbers(const char *text, int64_t *numbers, int capacity, int *count_p)
{
    char item[PART_SIZE];
    *count_p = 0;
    for (;;) {
        const size_t length = strcspn(text, ",");
        if (*count_p == capacity || length >= sizeof item) return false;
        memcpy(item, text, length);
        item[length] = '\0';
        int64_t *number = &numbers[(*count_p)++];
        *number = ALL;
        if (strcmp(item, "all") != 0 && (!options_size(item, number) || *number > most)) return false;
        if (text[length] == '\0') return true;
        text += length + 1;
    }
}

static bool once(parser *p, bool *named, const char *what)
{
    if (*named) return refuse(p, "%s is given twice", what);
    *named = true;
    return true;
}

static bool parse_window(parser *p, const char *part, const char *text)
{
    int64_t n[2];
    int count;
    if (!once(p, &p->window, "window")) return false;
    if (!parse_numbers(text, n, 2, &count))
        return refuse(p, "'%s' is not window:LEFT[,RIGHT] with numbers of keys, or `all`", part);
    p->mask.window_left = n[0];
    if (count == 1) p->mask.causal = true;
    else p->mask.window_right = n[1];
    return true;
}

static bool parse_prefix(parser *p, const char *part, const char *text)
{
    int64_t n[1];
    int count;
    if (!once(p, &p->prefix, "prefix")) return false;
    if (!parse_numbers(text, n, 1, &count) || n[0] == ALL)
        return refuse(p, "'%s' is not prefix:N with a number of keys", part);
    p->mask.causal = true;
    p->mask.prefix = n[0];
    return true;
}

static bool parse_chunk(parser *p, const char *part, const char *text)
{
    int64_t n[MOST_NUMBERS] = {0};
    int count;
    if (!once(p, &p->chunk, "chunk")) return false;
    if (!parse_numbers(text, n, MOST_NUMBERS, &count) || n[0] < 1)
        return refuse(p, "'%s' is not chunk:SIZE[,LEFT[,RIGHT]] with tokens of a chunk and numbers of chunks, or `all`",
                      part);
    p->mask.chunk = n[0];
    p->mask.chunks_left = n[1];
    p->mask.chunks_right = n[2];
    return true;
}

/* The text after `name:`, or NULL. */
static const char *after(const char *part, const char *name)
{
    const size_t length = strlen(name);
    return strncmp(part, name, length) == 0 && part[length] == ':' ? part + length + 1 : NULL;
}

static bool parse_part(parser *p, const char *part)
{
    const char *numbers;
    if (strcmp(part, "full") == 0) return once(p, &p->full, "full");
    if (strcmp(part, "causal") == 0) p->mask.causal = true;
    else if (strcmp(part, "documents") == 0) p->mask.documents = true;
    else if (strcmp(part, "key_lengths") == 0) p->mask.key_lengths = true;
    else if ((numbers = after(part, "window")) != NULL) return parse_window(p, part, numbers);
    else if ((numbers = after(part, "prefix")) != NULL) return parse_prefix(p, part, numbers);
    else if ((numbers = after(part, "chunk")) != NULL) return parse_chunk(p, part, numbers);
    else
        return refuse(p,
                      "'%s' is not available: there are full, causal, window:LEFT[,RIGHT], prefix:N, "
                      "chunk:SIZE[,LEFT[,RIGHT]], joined by +",
                      part);
    return true;
}

mask_choice mask_choice_full(void)
{
    return (mask_choice){.window_left = ALL, .window_right = ALL, .chunks_left = ALL, .chunks_right = ALL};
}

bool mask_choice_parse(const char *text, mask_choice *choice_p, char *why, size_t size)
{
    parser p = {.mask = mask_choice_full(), .why = why, .size = size};
    const char *rest = text;
    for (;;) {
        char part[PART_SIZE];
        const size_t length = strcspn(rest, "+");
        snprintf(part, sizeof part, "%.*s", length < PART_SIZE ? (int)length : PART_SIZE - 1, rest);
        if (length >= sizeof part) return refuse(&p, "'%s...' is not available", part);
        if (!parse_part(&p, part)) return false;
        if (rest[length] == '\0') break;
        rest += length + 1;
        if (p.full) break;
    }
    if (p.full && strcmp(text, "full") != 0)
        return refuse(&p, "'%s': full stands alone, since the other parts already start from every key", text);
    *choice_p = p.mask;
    return true;
}

/* The name while it grows. */
typedef struct {
    char *text;
    size_t length;
} name_text;

static void put(name_text *name, const char *text)
{
    name->length += (size_t)snprintf(name->text + name->length, MASK_NAME_SIZE - name->length, "%s", text);
}

static void put_part(name_text *name, const char *part)
{
    if (name->length > 0) put(name, "+");
    put(name, part);
}

static void put_number(name_text *name, char separator, int64_t number)
{
    char text[32] = {separator, 'a', 'l', 'l', '\0'};
    if (number != ALL) snprintf(text, sizeof text, "%c%" PRId64, separator, number);
    put(name, text);
}

void mask_choice_name(const mask_choice *m, char text[MASK_NAME_SIZE])
{
    name_text name = {.text = text};
    const bool window = m->window_left != ALL || m->window_right != ALL;
    const bool causal_window = m->causal && m->window_left != ALL && m->window_right == ALL;
    text[0] = '\0';
    if (m->causal && !causal_window && m->prefix == 0) put_part(&name, "causal");
    if (m->causal && m->prefix > 0) {
        put_part(&name, "prefix");
        put_number(&name, ':', m->prefix);
    }
    if (window) {
        put_part(&name, "window");
        put_number(&name, ':', m->window_left);
        if (!causal_window) put_number(&name, ',', m->window_right);
    }
    if (m->chunk > 0) {
        put_part(&name, "chunk");
        put_number(&name, ':', m->chunk);
        if (m->chunks_left != 0 || m->chunks_right != 0) put_number(&name, ',', m->chunks_left);
        if (m->chunks_right != 0) put_number(&name, ',', m->chunks_right);
    }
    if (m->documents) put_part(&name, "documents");
    if (m->key_lengths) put_part(&name, "key_lengths");
    if (name.length == 0) put_part(&name, "full");
}

mask_choice mask_choice_of(const longspan_problem *p)
{
    return (mask_choice){
        .causal = p->causal != 0,
        .documents = p->documents != NULL,
        .key_lengths = p->key_lengths != NULL,
        .prefix = p->prefix,
        .window_left = p->window_left,
        .window_right = p->window_right,
        .chunk = p->chunk,
        .chunks_left = p->chunks_left,
        .chunks_right = p->chunks_right,
    };
}

void mask_choice_apply(const mask_choice *m, longspan_problem *p)
{
    p->causal = m->causal;
    p->prefix = m->prefix;
    p->window_left = m->window_left;
    p->window_right = m->window_right;
    p->chunk = m->chunk;
    p->chunks_left = m->chunks_left;
    p->chunks_right = m->chunks_right;
}
