#include "runtime/cli/progress_bar.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 30 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool progress_bar_wanted(progress_wish wish, bool quiet)
{
    return wish == PROGRESS_ON || (wish == PROGRESS_AUTO && !quiet && isatty(STDERR_FILENO));
}

void progress_bar_start(progress_bar *bar, double total, const char *unit)
{
    *bar = (progress_bar){.total = total, .unit = unit, .started = now()};
}

/* 12.3 Gflop/s */
static void format_rate(char *text, size_t size, double rate, const char *unit)
{
    static const char prefixes[] = " kMGTPE";
    int i = 0;
    while (rate >= 1000 && prefixes[i + 1]) {
        rate /= 1000;
        i++;
    }
    snprintf(text, size, "%.1f %.*s%s", rate, i > 0, &prefixes[i], unit);
}

void progress_bar_update(void *data, double fraction)
{
    progress_bar *bar = data;
    double time = now(), elapsed = time - bar->started;
    if (elapsed < 1 || time - bar->drawn < 0.2 || !(fraction > 0)) return;
    if (fraction > 1) fraction = 1;
    int filled = (int)(fraction * WIDTH);
    char rate[32], cells[WIDTH + 1];
    format_rate(rate, sizeof rate, bar->total * fraction / elapsed, bar->unit);
    memset(cells, '#', (size_t)filled);
    memset(cells + filled, '.', (size_t)(WIDTH - filled));
    cells[WIDTH] = 0;
    long left = (long)(elapsed * (1 - fraction) / fraction + 0.5);
    fprintf(stderr, "\r[%s] %3.0f %%  %s  %ld:%02ld:%02ld left  ", cells, 100 * fraction, rate, left / 3600,
            left / 60 % 60, left % 60);
    fflush(stderr);
    bar->drawn = time;
    bar->shown = true;
}

void progress_bar_stop(progress_bar *bar)
{
    if (bar->shown) fprintf(stderr, "\r%*s\r", WIDTH + 48, "");
    bar->shown = false;
}
