/* The picture is made of text and paths alone, with no script and no style sheet, so that browsers, rsvg and Inkscape
 * agree on it. Cells of one colour are one <path>: a run of cells is a stroke one cell high, some 6 bytes. */
#include "io/heat_map.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_DECADES = 5,
    LEVELS = 50,
    PLOT_SIZE = 640, /* pixels of the longer side, about */
    PLOT_LEAST = 160,
    LEFT = 92,
    TOP = 96,
    RIGHT = 160,
    BOTTOM = 76,
    BAR_GAP = 28,
    BAR_WIDTH = 16,
};

static const char *const ink = "#1b1b2f", *const faint = "#6b6b7b", *const line = "#c9c9d3", *const ground = "#f3f3f6";

/* Dark to light, so that order survives print and colour blindness: lightness L* rises evenly from 8 to 95. */
static const unsigned char anchors[][3] = {
    {23, 16, 56},  {66, 27, 104},  {120, 37, 119}, {176, 52, 106},
    {222, 82, 79}, {246, 131, 62}, {252, 187, 86}, {250, 242, 170},
};
enum { ANCHORS = sizeof anchors / sizeof anchors[0] };

/* A string that grows; once memory ran out it stays as it is and `failed` is set. */
typedef struct {
    char *bytes;
    size_t length, capacity;
    bool failed;
} svg_text;

static bool svg_reserve(svg_text *to, size_t more)
{
    if (to->failed) return false;
    if (to->length + more + 1 <= to->capacity) return true;
    size_t capacity = 2 * (to->length + more + 1);
    char *bytes = realloc(to->bytes, capacity);
    if (!bytes) {
        to->failed = true;
        return false;
    }
    to->bytes = bytes;
    to->capacity = capacity;
    return true;
}

static void svg_add(svg_text *to, const char *text, size_t length)
{
    if (!svg_reserve(to, length)) return;
    memcpy(to->bytes + to->length, text, length);
    to->length += length;
    to->bytes[to->length] = 0;
}

/* Never with %f or %g: their decimal point is the locale's. */
static void svg_print(svg_text *to, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void svg_print(svg_text *to, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof text) to->failed = true;
    else svg_add(to, text, (size_t)length);
}

/* Length of the valid UTF-8 sequence at c (RFC 3629, table 3-7 of Unicode), or 0. */
static int utf8_length(const unsigned char *c)
{
    if (c[0] < 0x80) return 1;
    int length = c[0] >= 0xc2 && c[0] <= 0xdf ? 2 : (c[0] & 0xf0) == 0xe0 ? 3 : c[0] >= 0xf0 && c[0] <= 0xf4 ? 4 : 0;
    for (int i = 1; i < length; i++) {
        if ((c[i] & 0xc0) != 0x80) return 0;
    }
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf0 && c[1] < 0x90) ||
        (c[0] == 0xf4 && c[1] > 0x8f) || (c[0] == 0xef && c[1] == 0xbf && c[2] >= 0xbe)) {
        return 0;
    }
    return length;
}

/* Any bytes as XML character data: what XML cannot hold becomes U+FFFD. */
static void svg_escape(svg_text *to, const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    while (*c) {
        int length = utf8_length(c);
        if (*c == '&') svg_print(to, "&amp;");
        else if (*c == '<') svg_print(to, "&lt;");
        else if (*c == '>') svg_print(to, "&gt;");
        else if (length == 0 || (*c < 0x20 && *c != '\t' && *c != '\n' && *c != '\r')) svg_print(to, "\xef\xbf\xbd");
        else svg_add(to, (const char *)c, (size_t)length);
        c += length > 0 ? length : 1;
    }
}

/* Lowest level 0, highest LEVELS - 1. */
static void level_colour(int level, char *text, size_t size)
{
    double at = (double)level / (LEVELS - 1) * (ANCHORS - 1);
    int first = at < ANCHORS - 1 ? (int)at : ANCHORS - 2;
    unsigned mixed[3];
    for (int i = 0; i < 3; i++) {
        double mix = anchors[first][i] + (at - first) * (anchors[first + 1][i] - anchors[first][i]);
        mixed[i] = (unsigned)(mix + 0.5);
    }
    snprintf(text, size, "#%02x%02x%02x", mixed[0], mixed[1], mixed[2]);
}

/* -1 where there is no cell. */
static int cell_level(double value, double largest, int decades)
{
    if (isnan(value)) return -1;
    if (!(value > 0) || !(largest > 0)) return 0;
    if (!(value < largest)) return LEVELS - 1;
    double level = LEVELS + log10(value / largest) * LEVELS / decades;
    return level > 0 ? (int)level : 0;
}

static double largest_value(const heat_map *map)
{
    double largest = 0;
    for (int64_t i = 0; i < map->rows * map->columns; i++) {
        if (isfinite(map->value[i]) && map->value[i] > largest) largest = map->value[i];
    }
    return largest;
}

/* Powers of ten that hold the values, so that those which differ little differ in colour. */
static int decades_of(const heat_map *map, double largest)
{
    double smallest = largest;
    for (int64_t i = 0; i < map->rows * map->columns; i++)
        if (map->value[i] < smallest) smallest = map->value[i];
    for (int decades = 1; decades < MOST_DECADES; decades++)
        if (smallest >= largest * pow(10, -decades)) return decades;
    return MOST_DECADES;
}

static void add_level(svg_text *to, const heat_map *map, const signed char *levels, int level)
{
    char colour[16];
    bool begun = false;
    for (int64_t row = 0; row < map->rows; row++) {
        const signed char *cell = levels + row * map->columns;
        int64_t pen = -1;
        for (int64_t column = 0; column < map->columns; column++) {
            if (cell[column] != level) continue;
            int64_t begin = column;
            while (column + 1 < map->columns && cell[column + 1] == level) column++;
            if (!begun) {
                level_colour(level, colour, sizeof colour);
                svg_print(to, "<path stroke=\"%s\" d=\"", colour);
                begun = true;
            }
            if (pen < 0)
                svg_print(to, "M%lld %lldh%lld", (long long)begin, (long long)row, (long long)(column + 1 - begin));
            else svg_print(to, "m%lld 0h%lld", (long long)(begin - pen), (long long)(column + 1 - begin));
            pen = column + 1;
        }
    }
    if (begun) svg_print(to, "\"/>\n");
}

/* 1, 2 or 5 times a power of ten, so that at most `most` steps fit. */
static double round_step(double extent, int most)
{
    double step = 1;
    while (extent / step > most) {
        if (extent / (2 * step) <= most) return 2 * step;
        if (extent / (5 * step) <= most) return 5 * step;
        step *= 10;
    }
    return step;
}

/* 0, 500, 2k, 2.5k, 1M: thousands are 1,000, as on any axis. */
static void print_count(double count, char *text, size_t size)
{
    long long n = llround(count);
    const char *suffix = n >= 1000000 ? "M" : n >= 1000 ? "k" : "";
    long long unit = n >= 1000000 ? 1000000 : n >= 1000 ? 1000 : 1;
    char fraction[8] = "";
    int digits = 0;
    for (long long rest = n % unit, place = unit / 10; rest > 0; rest %= place, place /= 10) {
        fraction[digits++] = (char)('0' + rest / place);
    }
    snprintf(text, size, "%lld%s%s%s", n / unit, digits > 0 ? "." : "", fraction, suffix);
}

typedef struct {
    int width, height; /* of the plot, in pixels */
} frame;

/* Whole pixels a cell where they are large enough, so that all cells look alike. */
static int fit_pixels(int wanted, int64_t cells)
{
    int64_t each = (wanted + cells / 2) / cells;
    return each >= 1 ? (int)(each * cells) : wanted;
}

static frame plan_frame(const heat_map *map)
{
    double ratio = map->column_extent > 0 && map->row_extent > 0 ? map->row_extent / map->column_extent : 1;
    double width = ratio > 1 ? PLOT_SIZE / ratio : PLOT_SIZE, height = ratio > 1 ? PLOT_SIZE : PLOT_SIZE * ratio;
    return (frame){fit_pixels((int)fmax(width, PLOT_LEAST), map->columns),
                   fit_pixels((int)fmax(height, PLOT_LEAST), map->rows)};
}

static void add_line(svg_text *to, int x1, int y1, int x2, int y2, const char *colour)
{
    svg_print(to, "<path d=\"M%d %dL%d %d\" stroke=\"%s\"/>\n", x1, y1, x2, y2, colour);
}

static void add_label(svg_text *to, int x, int y, const char *anchor, const char *colour, const char *text)
{
    svg_print(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\" fill=\"%s\">", x, y, anchor, colour);
    svg_escape(to, text);
    svg_print(to, "</text>\n");
}

static void add_axes(svg_text *to, const heat_map *map, frame f)
{
    char text[64];
    int bottom = TOP + f.height, most = f.width / 64 < 10 ? f.width / 64 : 10;
    double step = round_step(map->column_extent, most);
    for (int i = 0; i * step <= map->column_extent && map->column_extent > 0; i++) {
        int x = LEFT + (int)lround(i * step / map->column_extent * f.width);
        print_count(i * step, text, sizeof text);
        add_line(to, x, bottom, x, bottom + 6, faint);
        add_label(to, x, bottom + 22, "middle", ink, text);
    }
    step = round_step(map->row_extent, f.height / 48 < 10 ? f.height / 48 : 10);
    for (int i = 0; i * step <= map->row_extent && map->row_extent > 0; i++) {
        int y = TOP + (int)lround(i * step / map->row_extent * f.height);
        print_count(i * step, text, sizeof text);
        add_line(to, LEFT - 6, y, LEFT, y, faint);
        add_label(to, LEFT - 11, y + 4, "end", ink, text);
    }
    add_label(to, LEFT + f.width / 2, bottom + 52, "middle", faint, map->column_label);
    svg_print(to, "<g transform=\"translate(30 %d) rotate(-90)\">\n", TOP + f.height / 2);
    add_label(to, 0, 0, "middle", faint, map->row_label);
    svg_print(to, "</g>\n");
}

/* A value as 3.2×10⁻⁴, or without the power between 0.01 and 1,000. */
static void print_value(double value, char *text, size_t size)
{
    static const char *const raised[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
    if (!(value > 0)) {
        snprintf(text, size, "0");
        return;
    }
    int power = (int)floor(log10(value));
    long long two = llround(value / pow(10, power - 1));
    if (two >= 100) {
        two /= 10;
        power++;
    }
    if (power >= 1 && power <= 2) {
        snprintf(text, size, "%lld", llround(value));
    } else if (power == 0) {
        if (two % 10) snprintf(text, size, "%lld.%lld", two / 10, two % 10);
        else snprintf(text, size, "%lld", two / 10);
    } else if (power == -1 || power == -2) {
        snprintf(text, size, two % 10 ? "0.%s%02lld" : "0.%s%lld", power == -2 ? "0" : "", two % 10 ? two : two / 10);
    } else {
        int size_of_power = power < 0 ? -power : power, length = 0;
        if (two % 10) length = snprintf(text, size, "%lld.%lld×10", two / 10, two % 10);
        else if (two > 10) length = snprintf(text, size, "%lld×10", two / 10);
        else length = snprintf(text, size, "10");
        snprintf(text + length, size - (size_t)length, "%s%s%s%s", power < 0 ? "⁻" : "",
                 size_of_power >= 100 ? raised[size_of_power / 100] : "",
                 size_of_power >= 10 ? raised[size_of_power / 10 % 10] : "", raised[size_of_power % 10]);
    }
}

/* The colour bar, a labelled tick at the largest value and at each tenth of the one before. */
static void add_legend(svg_text *to, const heat_map *map, frame f, double largest, int decades, bool has_masked)
{
    static const char at_most[] = "≤ ";
    char text[64], colour[16];
    int x = LEFT + f.width + BAR_GAP, height = f.height > 320 ? 320 : f.height, y = TOP;
    svg_print(to, "<g shape-rendering=\"crispEdges\">\n");
    for (int level = 0; level < LEVELS; level++) {
        int top = y + height - (level + 1) * height / LEVELS, bottom = y + height - level * height / LEVELS;
        level_colour(level, colour, sizeof colour);
        svg_print(to, "<path d=\"M%d %dh%dV%dh-%dz\" fill=\"%s\"/>\n", x, top, BAR_WIDTH, bottom, BAR_WIDTH, colour);
    }
    svg_print(to, "</g>\n");
    for (int i = 0; i <= decades && largest > 0; i++) {
        int at = y + i * height / decades;
        size_t prefix = i == decades ? strlen(at_most) : 0;
        memcpy(text, at_most, prefix);
        print_value(largest * pow(10, -i), text + prefix, sizeof text - prefix);
        add_line(to, x + BAR_WIDTH, at, x + BAR_WIDTH + 5, at, faint);
        add_label(to, x + BAR_WIDTH + 10, at + 4, "start", ink, text);
    }
    if (has_masked) {
        int at = y + height + 22;
        svg_print(to, "<path d=\"M%d %dh%dv%dh-%dz\" fill=\"%s\" stroke=\"%s\"/>\n", x, at, BAR_WIDTH, BAR_WIDTH,
                  BAR_WIDTH, ground, line);
        add_label(to, x + BAR_WIDTH + 10, at + 12, "start", ink, "masked");
    }
    svg_print(to, "<g transform=\"translate(%d %d) rotate(-90)\">\n", LEFT + f.width + RIGHT - 14, y + height / 2);
    add_label(to, 0, 0, "middle", faint, map->legend);
    svg_print(to, "</g>\n");
}

static void add_heading(svg_text *to, const heat_map *map)
{
    svg_print(to, "<text x=\"%d\" y=\"44\" font-size=\"20\" font-weight=\"600\" fill=\"%s\">", LEFT, ink);
    svg_escape(to, map->title);
    svg_print(to, "</text>\n<text x=\"%d\" y=\"70\" fill=\"%s\">", LEFT, faint);
    svg_escape(to, map->subtitle);
    svg_print(to, "</text>\n");
}

char *heat_map_svg(const heat_map *map, size_t *bytes_p)
{
    svg_text to = {0};
    frame f = plan_frame(map);
    size_t cells = (size_t)(map->rows * map->columns);
    signed char *levels = malloc(cells);
    if (!levels) return NULL;
    double largest = largest_value(map);
    int decades = decades_of(map, largest);
    bool has_masked = false;
    for (size_t i = 0; i < cells; i++) {
        levels[i] = (signed char)cell_level(map->value[i], largest, decades);
        has_masked = has_masked || levels[i] < 0;
    }

    int width = LEFT + f.width + RIGHT, height = TOP + f.height + BOTTOM;
    svg_print(
        &to,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"Helvetica Neue, Helvetica, Arial, sans-serif\" font-size=\"13\">\n<title>",
        width, height, width, height);
    svg_escape(&to, map->title);
    svg_print(&to, "</title>\n<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", width, height);
    add_heading(&to, map);
    svg_print(&to, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\"/>\n", LEFT, TOP, f.width, f.height,
              ground);
    /* Cell (row, column) is the stroke from column to column + 1 along the middle of its row. */
    svg_print(
        &to,
        "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %lld %lld\" preserveAspectRatio=\"none\">\n"
        "<g id=\"cells\" transform=\"translate(0 .5)\" fill=\"none\" shape-rendering=\"crispEdges\">\n",
        LEFT, TOP, f.width, f.height, (long long)map->columns, (long long)map->rows);
    for (int level = 0; level < LEVELS; level++) add_level(&to, map, levels, level);
    svg_print(&to, "</g>\n</svg>\n<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"%s\"/>\n",
              LEFT, TOP, f.width, f.height, line);
    add_axes(&to, map, f);
    add_legend(&to, map, f, largest, decades, has_masked);
    svg_print(&to, "</svg>\n");
    free(levels);
    if (to.failed) {
        free(to.bytes);
        return NULL;
    }
    *bytes_p = to.length;
    return to.bytes;
}
