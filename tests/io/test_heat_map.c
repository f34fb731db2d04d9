/* The picture is read back: it must be well-formed XML, and its strokes must paint each cell once in its colour. */
#include "io/heat_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static heat_map map_of(int64_t rows, int64_t columns, const double *value)
{
    return (heat_map){.title = "title",
                      .subtitle = "subtitle",
                      .row_label = "query token",
                      .column_label = "key token",
                      .rows = rows,
                      .columns = columns,
                      .row_extent = 1000,
                      .column_extent = 1000,
                      .value = value,
                      .legend = "mass"};
}

static char *draw(const heat_map *map)
{
    size_t bytes = 0;
    char *svg = heat_map_svg(map, &bytes);
    assert_non_null(svg);
    assert_int_equal(strlen(svg), bytes);
    return svg;
}

static const char *after_entity(const char *at)
{
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;"};
    for (int i = 0; i < 3; i++) {
        if (strncmp(at, entities[i], strlen(entities[i])) == 0) return at + strlen(entities[i]);
    }
    fail_msg("an ampersand stands alone: %.20s", at);
    return NULL;
}

/* One character of text as UTF-8, strictly; fails the test where it is not what XML 1.0 allows. */
static const char *after_character(const char *at)
{
    const unsigned char *c = (const unsigned char *)at;
    int more = c[0] < 0x80 ? 0 : c[0] < 0xe0 ? 1 : c[0] < 0xf0 ? 2 : 3;
    unsigned long code = more == 0 ? c[0] : c[0] & (0x3fu >> more);
    assert_false(c[0] >= 0x80 && c[0] < 0xc0);
    for (int i = 1; i <= more; i++) {
        assert_int_equal(c[i] & 0xc0, 0x80);
        code = code << 6 | (c[i] & 0x3f);
    }
    static const unsigned long least[] = {0, 0x80, 0x800, 0x10000};
    assert_true(code >= least[more] && code <= 0x10ffff);
    assert_true(code >= 0x20 || code == '\n' || code == '\t' || code == '\r');
    assert_false(code >= 0xd800 && code <= 0xdfff);
    assert_false(code == 0xfffe || code == 0xffff);
    return at + more + 1;
}

/* One tag: <name a="..." b="..."> or </name> or <name .../>, against the stack of open ones. */
static const char *after_tag(const char *at, char open[][32], int *depth)
{
    bool closing = at[1] == '/';
    const char *name = at + 1 + closing;
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz");
    assert_true(length > 0 && length < 32);
    at = name + length;
    if (closing) {
        assert_true(*at == '>' && *depth > 0);
        (*depth)--;
        assert_true(strlen(open[*depth]) == length && strncmp(open[*depth], name, length) == 0);
        return at + 1;
    }
    while (*at == ' ') {
        at++;
        size_t attribute = strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-");
        assert_true(attribute > 0 && at[attribute] == '=' && at[attribute + 1] == '"');
        for (at += attribute + 2; *at != '"';) {
            assert_true(*at && *at != '<');
            at = *at == '&' ? after_entity(at) : after_character(at);
        }
        at++;
    }
    if (at[0] == '/' && at[1] == '>') return at + 2;
    assert_int_equal(*at, '>');
    assert_true(*depth < 16);
    memcpy(open[*depth], name, length);
    open[(*depth)++][length] = 0;
    return at + 1;
}

static void assert_well_formed(const char *svg)
{
    char open[16][32];
    int depth = 0, roots = 0;
    const char *at = svg;
    assert_int_equal(strncmp(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\"", 39), 0);
    while (*at) {
        if (*at == '<') {
            roots += depth == 0;
            at = after_tag(at, open, &depth);
        } else {
            assert_false(depth == 0 && !isspace((unsigned char)*at));
            at = *at == '&' ? after_entity(at) : after_character(at);
        }
    }
    assert_int_equal(depth, 0);
    assert_int_equal(roots, 1);
}

/* Paints the strokes inside id="cells" into colour[rows * columns]; -1 where nothing is painted. */
static void paint(const char *svg, int64_t rows, int64_t columns, long *colour)
{
    for (int64_t i = 0; i < rows * columns; i++) colour[i] = -1;
    const char *at = strstr(svg, "id=\"cells\""), *end = at ? strstr(at, "</g>") : NULL;
    assert_true(at && end);
    for (at = strstr(at, "<path"); at && at < end; at = strstr(at, "<path")) {
        long stroke = strtol(strstr(at, "stroke=\"#") + 9, NULL, 16), row = -1, column = 0;
        const char *d = strstr(at, " d=\"") + 4;
        while (*d != '"') {
            char *next;
            char command = *d;
            long x = strtol(d + 1, &next, 10);
            if (command == 'M') {
                column = x;
                row = strtol(next, &next, 10);
            } else if (command == 'm') {
                column += x;
                assert_int_equal(strtol(next, &next, 10), 0);
            } else {
                assert_int_equal(command, 'h');
                for (; x > 0; x--, column++) {
                    assert_true(row >= 0 && row < rows && column >= 0 && column < columns);
                    assert_int_equal(colour[row * columns + column], -1);
                    colour[row * columns + column] = stroke;
                }
            }
            d = next;
        }
        at = d;
    }
}

/* Relative luminance of sRGB (IEC 61966-2-1), which orders colours as lightness does. */
static double luminance(long colour)
{
    static const double weights[] = {0.0722, 0.7152, 0.2126};
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        double c = (double)(colour >> (8 * i) & 0xff) / 255;
        sum += weights[i] * (c <= 0.04045 ? c / 12.92 : pow((c + 0.055) / 1.055, 2.4));
    }
    return sum;
}

static void every_cell_is_painted_once_and_masked_ones_never(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {1, 9}, {9, 1}, {3, 5}, {64, 64}, {31, 100}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t rows = shapes[s][0], columns = shapes[s][1];
        double *value = malloc((size_t)(rows * columns) * sizeof *value);
        long *colour = malloc((size_t)(rows * columns) * sizeof *colour);
        for (int64_t i = 0; i < rows * columns; i++) {
            bool masked = i % columns * rows > (i / columns + 1) * columns;
            value[i] = masked ? NAN : exp(-(double)(i * 7919 % 97) / 8);
        }
        heat_map map = map_of(rows, columns, value);
        char *svg = draw(&map);
        assert_well_formed(svg);
        paint(svg, rows, columns, colour);
        for (int64_t i = 0; i < rows * columns; i++) assert_int_equal(colour[i] < 0, isnan(value[i]));
        for (int64_t i = 0; i < rows * columns; i++) {
            for (int64_t j = 0; j < i && j < 200; j++) {
                if (value[i] > value[j]) assert_true(luminance(colour[i]) >= luminance(colour[j]));
                if (value[i] < value[j]) assert_true(luminance(colour[i]) <= luminance(colour[j]));
            }
        }
        free(svg);
        free(colour);
        free(value);
    }
}

static void colours_rise_in_lightness_over_five_decades(void **state)
{
    (void)state;
    enum { STEPS = 51 };
    double value[STEPS];
    long colour[STEPS];
    for (int i = 0; i < STEPS; i++) value[i] = 3e-7 * pow(10, -5 + (i + 0.5) / 10);
    heat_map map = map_of(1, STEPS, value);
    char *svg = draw(&map);
    paint(svg, 1, STEPS, colour);
    for (int i = 1; i < STEPS; i++) assert_true(luminance(colour[i]) >= luminance(colour[i - 1]));
    for (int i = 2; i < STEPS; i++) assert_true(luminance(colour[i]) > luminance(colour[i - 2]));
    assert_true(luminance(colour[0]) < 0.02);
    assert_true(luminance(colour[STEPS - 1]) > 0.8);
    free(svg);
}

static void values_of_one_decade_use_the_whole_palette(void **state)
{
    (void)state;
    const double value[] = {0.04, 0.02, 0.0041, NAN};
    long colour[4];
    heat_map map = map_of(2, 2, value);
    char *svg = draw(&map);
    paint(svg, 2, 2, colour);
    assert_true(luminance(colour[0]) > 0.8);
    assert_true(luminance(colour[1]) < luminance(colour[0]) - 0.1);
    assert_true(luminance(colour[2]) < 0.02);
    assert_non_null(strstr(svg, "≤ 4×10⁻³"));
    free(svg);
}

static void what_is_below_the_range_or_beyond_it_takes_the_end_of_the_palette(void **state)
{
    (void)state;
    const double value[] = {1, 1e-9, 0, -1, 1e-5 * 1.0001, INFINITY};
    long colour[6];
    heat_map map = map_of(2, 3, value);
    char *svg = draw(&map);
    assert_well_formed(svg);
    paint(svg, 2, 3, colour);
    for (int i = 2; i < 5; i++) assert_int_equal(colour[i], colour[1]);
    assert_int_equal(colour[5], colour[0]);
    assert_true(colour[0] != colour[1]);
    free(svg);
}

static void maps_without_values_are_drawn(void **state)
{
    (void)state;
    const double nothing[] = {NAN, NAN, NAN, NAN}, zeros[] = {0, 0, 0, 0};
    long colour[4];
    heat_map map = map_of(2, 2, nothing);
    char *svg = draw(&map);
    assert_well_formed(svg);
    paint(svg, 2, 2, colour);
    for (int i = 0; i < 4; i++) assert_int_equal(colour[i], -1);
    assert_non_null(strstr(svg, ">masked<"));
    free(svg);
    map = map_of(2, 2, zeros);
    svg = draw(&map);
    assert_well_formed(svg);
    paint(svg, 2, 2, colour);
    for (int i = 0; i < 4; i++) assert_true(colour[i] >= 0);
    assert_null(strstr(svg, ">masked<"));
    free(svg);
}

static void axes_count_in_round_numbers_of_tokens(void **state)
{
    (void)state;
    static const struct {
        double extent;
        const char *shown[4], *not_shown;
    } cases[] = {
        {7, {">0<", ">1<", ">7<", ">5<"}, ">8<"},
        {60, {">0<", ">10<", ">20<", ">60<"}, ">70<"},
        {3816, {">500<", ">1k<", ">1.5k<", ">3.5k<"}, ">4k<"},
        {56818, {">0<", ">10k<", ">30k<", ">50k<"}, ">60k<"},
        {262144, {">50k<", ">100k<", ">200k<", ">250k<"}, ">300k<"},
        {1500000, {">200k<", ">1M<", ">1.2M<", ">1.4M<"}, ">1.6M<"},
    };
    const double value = 1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        heat_map map = map_of(1, 1, &value);
        map.row_extent = map.column_extent = cases[i].extent;
        char *svg = draw(&map);
        for (int j = 0; j < 4; j++) {
            if (!strstr(svg, cases[i].shown[j])) fail_msg("%g: no label %s", cases[i].extent, cases[i].shown[j]);
        }
        assert_null(strstr(svg, cases[i].not_shown));
        free(svg);
    }
}

static void the_legend_tells_the_values_of_the_colours(void **state)
{
    (void)state;
    static const struct {
        double largest;
        const char *shown[3];
    } cases[] = {
        {1, {">1<", ">0.1<", ">≤ 10⁻⁵<"}},
        {0.84, {">0.84<", ">0.084<", ">8.4×10⁻³<"}},
        {0.5, {">0.5<", ">0.05<", ">≤ 5×10⁻⁶<"}},
        {0.0999, {">0.1<", ">0.01<", ">10⁻³<"}},
        {123, {">123<", ">12<", ">1.2<"}},
        {2e-12, {">2×10⁻¹²<", ">2×10⁻¹³<", ">≤ 2×10⁻¹⁷<"}},
        {45000, {">4.5×10⁴<", ">4.5×10³<", ">450<"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const double value[] = {cases[i].largest, 0};
        heat_map map = map_of(1, 2, value);
        char *svg = draw(&map);
        assert_well_formed(svg);
        for (int j = 0; j < 3; j++) {
            if (!strstr(svg, cases[i].shown[j])) fail_msg("%g: no label %s", cases[i].largest, cases[i].shown[j]);
        }
        free(svg);
    }
}

static void titles_of_any_bytes_stay_well_formed(void **state)
{
    (void)state;
    const double value = 1;
    heat_map map = map_of(1, 1, &value);
    map.title = "<script>alert(\"a & b's\")</script> ]]>";
    map.subtitle =
        "cut \xe2\x82, wrong \xc3(, over\xc0\xaf long, \xed\xa0\x80 surrogate, \xf5\x80, \xef\xbf\xbf, bell\a \x80";
    map.row_label = "\xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80";
    map.legend = "";
    char *svg = draw(&map);
    assert_well_formed(svg);
    assert_non_null(strstr(svg, "&lt;script&gt;alert(\"a &amp; b's\")&lt;/script&gt; ]]&gt;"));
    assert_non_null(strstr(svg, "\xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x98\x80"));
    assert_non_null(strstr(svg, "wrong \xef\xbf\xbd(,"));
    assert_null(strstr(svg, "<script>"));
    free(svg);
}

static void the_worst_map_of_256_by_256_stays_under_a_megabyte(void **state)
{
    (void)state;
    enum { SIDE = 256 };
    static double value[SIDE * SIDE];
    uint64_t random = 20261120;
    for (int i = 0; i < SIDE * SIDE; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        value[i] = pow(10, -5.0 * (double)(random >> 11) / 9007199254740992.0);
    }
    heat_map map = map_of(SIDE, SIDE, value);
    size_t bytes;
    char *svg = heat_map_svg(&map, &bytes);
    assert_non_null(svg);
    print_message("%zu bytes\n", bytes);
    assert_in_range(bytes, 1, 1000000);
    free(svg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_is_painted_once_and_masked_ones_never),
        cmocka_unit_test(colours_rise_in_lightness_over_five_decades),
        cmocka_unit_test(values_of_one_decade_use_the_whole_palette),
        cmocka_unit_test(what_is_below_the_range_or_beyond_it_takes_the_end_of_the_palette),
        cmocka_unit_test(maps_without_values_are_drawn),
        cmocka_unit_test(axes_count_in_round_numbers_of_tokens),
        cmocka_unit_test(the_legend_tells_the_values_of_the_colours),
        cmocka_unit_test(titles_of_any_bytes_stay_well_formed),
        cmocka_unit_test(the_worst_map_of_256_by_256_stays_under_a_megabyte),
    };
    return cmocka_run_group_tests_name("io.heat_map", tests, NULL, NULL);
}
