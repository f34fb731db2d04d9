/* A matrix of non-negative numbers as an SVG picture with axes and a legend. */
#ifndef IO_HEAT_MAP_H
#define IO_HEAT_MAP_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *title, *subtitle;
    const char *row_label, *column_label; /* "query token", "key token" */
    int64_t rows, columns;                /* cells */
    double row_extent, column_extent;     /* what the axes count to: tokens */
    const double *value;                  /* [rows, columns]; NaN: no cell (masked), drawn as background */
    const char *legend;                   /* what a value is */
} heat_map;

/* The SVG text, malloc'ed, zero-terminated, the caller's; NULL if memory ran out. Colours are logarithmic, from
 * the largest value down to that power of ten of it which holds the smallest, but not below 1e-5. Row 0 is at the top. */
char *heat_map_svg(const heat_map *map, size_t *bytes_p);

#endif
