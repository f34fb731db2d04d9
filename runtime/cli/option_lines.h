/* The table of options: their names, who takes them, how a value is read. Internal to the parser. */
#ifndef CLI_OPTION_LINES_H
#define CLI_OPTION_LINES_H

#include "runtime/cli/options.h"

/* Why a value is refused. */
typedef struct {
    char text[512];
} complaint;

/* One option. `read` stores the value at `offset` of the options and returns true, or complains; the text lives as
 * long as the options do. */
typedef struct option_line option_line;
struct option_line {
    const char *name;
    char letter;
    unsigned takes; /* taken with any of these bits, or ALWAYS */
    bool (*read)(const option_line *line, const char *text, options *o, complaint *why);
    size_t offset, given;
    int64_t least, most;
    const char *value, *help;         /* value NULL: the option has none */
    const char *(*listed)(int index); /* names that the help text ends with, NULL at the end; NULL for none */
};

enum { ALWAYS = 0 };

/* In the order of the help text. */
extern const option_line option_lines[];
extern const int option_line_count;

#endif
