/* A bar on stderr with the rate and the time left, for longspan_options.progress. Rank 0 only. */
#ifndef CLI_PROGRESS_BAR_H
#define CLI_PROGRESS_BAR_H

#include "runtime/cli/options.h"

#include <stdbool.h>

typedef struct {
    double total;          /* amount of work at fraction 1, of the whole job */
    const char *unit;      /* of total per second, after an SI prefix: "flop/s", "B/s" */
    double started, drawn; /* seconds */
    bool shown;
} progress_bar;

/* Whether --progress asks for one: on a terminal, where it is left open. */
bool progress_bar_wanted(progress_wish wish, bool quiet);

/* Not collective. Starts the clock; draws nothing yet. */
void progress_bar_start(progress_bar *bar, double total, const char *unit);

/* Signature of longspan_options.progress, data being a progress_bar. Draws at most five times a second, and nothing in
 * the first second: short runs show no bar. */
void progress_bar_update(void *data, double fraction);

/* Wipes the bar if one was drawn. */
void progress_bar_stop(progress_bar *bar);

#endif
