/* The subcommands: each is one file cmd_*.c, which defines one of these, and one line in the table in main.c. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "runtime/cli/options.h"
#include "runtime/cli/session.h"

typedef struct {
    const char *name, *arguments, *summary; /* for longspan --help */
    const options_spec *spec;
    /* Collective; the options are parsed, and freed by the caller. Returns the same status on every rank. */
    exit_status (*run)(session *s, options *o);
} command;

extern const command command_attend, command_generate, command_embed, command_map, command_verify, command_plan,
    command_bench, command_info;

#endif
