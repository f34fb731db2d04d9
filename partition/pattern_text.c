/* From the text of a pattern to its kind and numbers. */
#include "partition/patterns.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool complain(char why[PATTERN_WHY_SIZE], const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool complain(char why[PATTERN_WHY_SIZE], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, PATTERN_WHY_SIZE, format, arguments);
    va_end(arguments);
    return false;
}

/* A number with its suffix; *end_p is what follows. */
static bool read_number(const char *text, const char **end_p, int64_t *value_p)
{
    int64_t value = 0;
    if (!isdigit((unsigned char)*text)) return false;
    for (; isdigit((unsigned char)*text); text++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *text - '0', &value))
            return false;
    static const char suffixes[] = "kMG";
    const char *suffix = *text ? strchr(suffixes, *text) : NULL;
    if (suffix && __builtin_mul_overflow(value, (int64_t)1 << 10 * (suffix - suffixes + 1), &value)) return false;
    if (value >= (int64_t)1 << 60) return false;
    *value_p = value;
    *end_p = suffix ? text + 1 : text;
    return true;
}

/* A number, or FIRST-LAST where that may be. */
static bool read_item(const char *text, bool may_be_run, const char **end_p, range *item_p)
{
    int64_t first, last;
    if (!read_number(text, end_p, &first)) return false;
    last = first;
    if (**end_p == '-' && (!may_be_run || !read_number(*end_p + 1, end_p, &last) || last < first)) return false;
    *item_p = (range){first, last + 1};
    return true;
}

static bool read_items(const char *text, const pattern_kind *kind, pattern_choice *c)
{
    c->second = -1;
    for (c->count = 0;; text++) {
        if (c->count == PATTERN_MOST_ITEMS) return false;
        if (!read_item(text, c->count >= kind->numbers, &text, &c->items[c->count])) return false;
        c->count++;
        if (*text == '\0') break;
        if (*text == '/' && (kind->flags & TWO_LISTS) && c->second < 0) c->second = c->count;
        else if (*text != ',') return false;
    }
    if ((kind->flags & TWO_LISTS) && c->second < 0) return false;
    if (c->second < 0) c->second = c->count;
    return c->count >= kind->least && (kind->most == 0 || c->count <= kind->most);
}

static const pattern_kind *find_kind(const char *text, size_t length)
{
    for (int i = 0; i < pattern_kind_count; i++)
        if (strlen(pattern_kinds[i].name) == length && strncmp(pattern_kinds[i].name, text, length) == 0)
            return &pattern_kinds[i];
    return NULL;
}

bool pattern_choice_parse(const char *text, pattern_choice *choice_p, char why[PATTERN_WHY_SIZE])
{
    const size_t length = strcspn(text, ":");
    *choice_p = (pattern_choice){.kind = find_kind(text, length)};
    if (strlen(text) >= PATTERN_TEXT_SIZE)
        return complain(why, "the pattern is longer than %d characters", PATTERN_TEXT_SIZE - 1);
    if (!choice_p->kind) {
        complain(why, "'%.40s' is no pattern: there are", text);
        for (int i = 0; i < pattern_kind_count; i++) {
            const size_t used = strlen(why);
            snprintf(why + used, PATTERN_WHY_SIZE - used, "%s %s", i > 0 ? "," : "", pattern_kinds[i].name);
        }
        return false;
    }
    if (text[length] != ':' || !read_items(text + length + 1, choice_p->kind, choice_p))
        return complain(why, "'%.100s' is not %s", text, choice_p->kind->usage);
    const char *fault = choice_p->kind->fault ? choice_p->kind->fault(choice_p) : NULL;
    return fault ? complain(why, "'%.100s': %s", text, fault) : true;
}
