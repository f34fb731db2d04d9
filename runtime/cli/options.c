#include "partition/patterns.h"
#include "runtime/cli/attention_option.h"
#include "runtime/cli/option_lines.h"

#include <popt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool takes(options_taken taken, const option_line *line)
{
    return line->takes == ALWAYS || ((unsigned)taken & line->takes) != 0;
}

enum { INDENT = 25 };

/* The lines of a text, the first where the output is, the others below it. */
static void print_text(const char *text)
{
    for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1)
        printf("%.*s\n%*s", (int)(end - text), text, INDENT, "");
    printf("%s\n", text);
}

/* Names, in lines below the help text. */
static void print_listed(const option_line *line)
{
    enum { MOST_COLUMNS = 100 };
    int column = 0;
    const char *name;
    for (int i = 0; line->listed && (name = line->listed(i)) != NULL; i++) {
        const int length = (int)strlen(name);
        if (column == 0 || column + 2 + length > MOST_COLUMNS)
            column = printf("%s%*s%s", column ? ",\n" : "", INDENT, "", name) - (column ? 2 : 0);
        else column += printf(", %s", name);
    }
    if (column) printf("\n");
}

static void print_help(const options_spec *spec)
{
    printf("Usage: longspan %s\n\n%s\n\nOptions:\n", spec->usage, spec->summary);
    for (int i = 0; i < option_line_count; i++) {
        if (!takes(spec->takes, &option_lines[i])) continue;
        char left[64], letter[8] = "   ";
        if (option_lines[i].letter) snprintf(letter, sizeof letter, "-%c,", option_lines[i].letter);
        snprintf(left, sizeof left, "%s --%s %s", letter, option_lines[i].name,
                 option_lines[i].value ? option_lines[i].value : "");
        printf("  %-22s ", left);
        print_text(option_lines[i].help);
        print_listed(&option_lines[i]);
    }
    if ((unsigned)spec->takes & TAKES_PATTERN) {
        printf("Patterns (AT, J and D may be runs FIRST-LAST):\n");
        for (int i = 0; i < pattern_kind_count; i++)
            printf("  %-31s %s\n", pattern_kinds[i].usage, pattern_kinds[i].summary);
    }
    printf("Sizes and counts take the suffixes k, M and G: 64k is 65,536.\n\nExample:\n  %s\n", spec->example);
}

exit_status options_refuse(const session *s, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    session_error(s, "%s; see longspan %s --help", text, s->command);
    return EXIT_USAGE;
}

bool options_given(const options *o, const char *name)
{
    for (int i = 0; i < option_line_count; i++)
        if (strcmp(option_lines[i].name, name) == 0) return o->given[i];
    return false;
}

exit_status options_refuse_others(const session *s, const options *o, options_taken taken, const char *what)
{
    for (int i = 0; i < option_line_count; i++)
        if (o->given[i] && !takes(taken, &option_lines[i]))
            return options_refuse(s, "%s does not take --%s", what, option_lines[i].name);
    return EXIT_DONE;
}

static void options_default(options *o)
{
    *o = (options){.strategy = "auto",
                   .layout = "auto",
                   .isa = "auto",
                   .compute = "auto",
                   .share = true,
                   .mask = mask_choice_full(),
                   .seed = 1,
                   .repeat = 5,
                   .warmup = 1,
                   .window_ms = 25,
                   .hop_ms = 10,
                   .mels = 80,
                   .subsample = 1,
                   .mel_high = 8000,
                   .rate = -1,
                   .bandwidth = -1,
                   .latency = -1,
                   .stall_limit = -1};
}

/* One option off the command line; its text, malloc'ed or NULL, becomes the options'. */
static bool take_option(const options_spec *spec, const session *s, const option_line *line, char *text, options *o)
{
    complaint why = {""};
    bool *given = &o->given[line - option_lines];
    if (text) o->owned[o->owned_count++] = text;
    if (!takes(spec->takes, line)) {
        options_refuse(s, "%s does not take --%s", s->command, line->name);
        return false;
    }
    if (*given) {
        options_refuse(s, "--%s is given twice", line->name);
        return false;
    }
    *given = true;
    if (!line->read(line, text, o, &why)) {
        options_refuse(s, "--%s: %s", line->name, why.text);
        return false;
    }
    return true;
}

static void refuse_syntax(const session *s, int code, const char *given)
{
    if (code == POPT_ERROR_BADOPT) options_refuse(s, "unknown option %s", given);
    else if (code == POPT_ERROR_NOARG) options_refuse(s, "%s needs a value", given);
    else if (code == POPT_ERROR_UNWANTEDARG) options_refuse(s, "%s takes no value", given);
    else options_refuse(s, "%s: %s", given, poptStrerror(code));
}

/* The options, until one is wrong or asks for text. */
static options_outcome parse_all(poptContext parser, const options_spec *spec, session *s, options *o)
{
    int code;
    while ((code = poptGetNextOpt(parser)) > 0) {
        const int i = code - 1;
        char *text = option_lines[i].value ? poptGetOptArg(parser) : NULL;
        if (!take_option(spec, s, &option_lines[i], text, o)) return OPTIONS_WRONG;
        if (o->help || o->version) {
            if (s->rank == 0 && o->help) print_help(spec);
            if (s->rank == 0 && o->version) printf("longspan %s\n", longspan_version());
            return OPTIONS_DONE;
        }
    }
    if (code == -1) return OPTIONS_GO_ON;
    refuse_syntax(s, code, poptBadOption(parser, POPT_BADOPTION_NOALIAS));
    return OPTIONS_WRONG;
}

static options_outcome take_arguments(poptContext parser, const options_spec *spec, const session *s, options *o)
{
    const char *text;
    while ((text = poptGetArg(parser)) != NULL) {
        if (o->argument_count == spec->most_arguments) {
            options_refuse(s, "'%s' is one argument too many: longspan %s", text, spec->usage);
            return OPTIONS_WRONG;
        }
        char *copy = strdup(text);
        if (!copy) {
            options_refuse(s, "out of memory");
            return OPTIONS_WRONG;
        }
        o->owned[o->owned_count++] = copy;
        o->arguments[o->argument_count++] = copy;
    }
    if (o->argument_count < spec->least_arguments) {
        options_refuse(s, "too few arguments: longspan %s", spec->usage);
        return OPTIONS_WRONG;
    }
    if (((unsigned)spec->takes & TAKES_OUTPUT) && !o->output) {
        options_refuse(s, "-o FILE is missing");
        return OPTIONS_WRONG;
    }
    if (options_given(o, "rope-style") && !options_given(o, "rope")) {
        options_refuse(s, "--rope-style needs --rope");
        return OPTIONS_WRONG;
    }
    return attention_option_check(s, o) == EXIT_DONE ? OPTIONS_GO_ON : OPTIONS_WRONG;
}

options_outcome options_parse(session *s, const options_spec *spec, int argc, const char **argv, options *o)
{
    struct poptOption table[OPTIONS_MAX_GIVEN + 1] = {{0}};
    for (int i = 0; i < option_line_count; i++) {
        table[i].longName = option_lines[i].name;
        table[i].shortName = option_lines[i].letter;
        table[i].argInfo = option_lines[i].value ? POPT_ARG_STRING : POPT_ARG_NONE;
        table[i].val = i + 1;
    }
    options_default(o);
    poptContext parser = poptGetContext(NULL, argc, argv, table, 0);
    if (!parser) {
        options_refuse(s, "out of memory");
        return OPTIONS_WRONG;
    }
    options_outcome outcome = parse_all(parser, spec, s, o);
    if (outcome == OPTIONS_GO_ON) outcome = take_arguments(parser, spec, s, o);
    poptFreeContext(parser);
    s->quiet = o->quiet;
    s->verbose = o->verbose;
    if (outcome != OPTIONS_GO_ON) options_free(o);
    return outcome;
}

void options_free(options *o)
{
    for (int i = 0; i < o->owned_count; i++) free(o->owned[i]);
    free(o->documents);
    options_default(o);
}
