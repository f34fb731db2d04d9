/* Tokens: any cut of a file gives those of the whole. The oracle splits the whole text in one pass from its start. */
#include "io/text.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t begin, end;
} span;

/* io/text.h's definition, read left to right. */
static int64_t split(const char *text, int64_t size, span *tokens)
{
    int64_t count = 0;
    for (int64_t i = 0; i < size;) {
        unsigned char c = (unsigned char)text[i];
        int64_t begin = i++;
        if (strchr(" \t\n\v\f\r", c) && c != 0) continue;
        bool word = isalnum(c) || c == '_' || c >= 0x80;
        while (word && i < size) {
            unsigned char next = (unsigned char)text[i];
            if (!isalnum(next) && next != '_' && next < 0x80) break;
            i++;
        }
        tokens[count++] = (span){begin, i};
    }
    return count;
}

/* Reads bytes [begin, end) with `before` tokens and compares with the oracle's tokens. */
static void assert_range(const char *path, const char *text, const span *oracle, int64_t oracle_count, int64_t begin,
                         int64_t end, int before)
{
    text_token *tokens = NULL;
    int64_t got_before, count, bytes_begin;
    char *bytes = NULL;
    io_error error = {""};
    if (text_read_tokens(path, begin, end, before, &tokens, &got_before, &count, &bytes, &bytes_begin, &error) != 0) {
        fail_msg("bytes %lld to %lld: %s", (long long)begin, (long long)end, error.text);
    }
    int64_t first = 0, last = 0;
    while (first < oracle_count && oracle[first].begin < begin) first++;
    for (last = first; last < oracle_count && oracle[last].begin < end;) last++;
    int64_t expected_before = first < before ? first : before;
    if (count != last - first || got_before != expected_before) {
        fail_msg("bytes %lld to %lld, %d before: %lld + %lld tokens, not %lld + %lld", (long long)begin, (long long)end,
                 before, (long long)got_before, (long long)count, (long long)expected_before,
                 (long long)(last - first));
    }
    for (int64_t i = 0; i < got_before + count; i++) {
        const span *token = &oracle[first - expected_before + i];
        int64_t length = token->end - token->begin;
        if (tokens[i].begin != token->begin || tokens[i].length != length ||
            memcmp(bytes + (tokens[i].begin - bytes_begin), text + token->begin, (size_t)length) != 0) {
            fail_msg("bytes %lld to %lld, %d before: token %lld is at %lld, %lld long, not at %lld, %lld long",
                     (long long)begin, (long long)end, before, (long long)i, (long long)tokens[i].begin,
                     (long long)tokens[i].length, (long long)token->begin, (long long)length);
        }
    }
    free(tokens);
    free(bytes);
}

/* A literal, which may hold zero bytes, and its size. */
#define TEXT(literal)                                                                                                  \
    {                                                                                                                  \
        literal, sizeof(literal) - 1                                                                                   \
    }

static void every_range_of_small_texts_gives_the_tokens_of_the_whole(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t size;
    } texts[] = {
        TEXT("The quick, brown (fox) jumps_over 2 lazy--dogs!\n"),
        TEXT("  \t\n leading and trailing white space \r\n\v\f "),
        TEXT("na\xc3\xafve \xe2\x82\xac 5\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e text\xf0\x9f\x98\x80!"),
        TEXT("binary\0bytes\x01\x02 \xff\xfe\x7f\0\0end"),
        TEXT("oneverylongtokenthatnorangewillholdwhole"),
        TEXT("x"),
        TEXT("a b c d e f g h i j k l m n o p"),
        TEXT("....::::----"),
    };
    static const int befores[] = {0, 1, 2, 5, 100};
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        span oracle[64];
        int64_t size = texts[t].size, count = split(texts[t].text, size, oracle);
        assert_true(count > 0);
        const char *path = scratch_file("small.txt", texts[t].text, (size_t)size);
        for (int64_t begin = 0; begin <= size; begin++) {
            for (int64_t end = begin; end <= size; end++) {
                for (int b = 0; b < 5; b++) assert_range(path, texts[t].text, oracle, count, begin, end, befores[b]);
            }
        }
    }
}

/* Tokens and gaps longer than what is looked at in one go, so that the window must grow both ways. */
static void long_tokens_and_long_gaps_are_cut_anywhere(void **state)
{
    (void)state;
    static const int64_t parts[] = {3, 9000, 20000, 5, 40000, 30000, 1, 4096, 4096, 17, 4095, 4097};
    enum { PARTS = sizeof parts / sizeof parts[0] };
    int64_t size = 0, at = 0, edges[PARTS + 1];
    for (int i = 0; i < PARTS; i++) size += parts[i];
    char *text = malloc((size_t)size);
    for (int i = 0; i < PARTS; i++) {
        edges[i] = at;
        memset(text + at, i % 2 ? ' ' : 'a' + i, (size_t)parts[i]);
        at += parts[i];
    }
    edges[PARTS] = size;
    span oracle[PARTS];
    int64_t count = split(text, size, oracle);
    const char *path = scratch_file("long.txt", text, (size_t)size);
    for (int i = 0; i <= PARTS; i++) {
        for (int j = i; j <= PARTS; j++) {
            for (int shift = 0; shift < 9; shift++) {
                int64_t begin = edges[i] + shift / 3 - 1, end = edges[j] + shift % 3 - 1;
                if (begin < 0 || begin > end || end > size) continue;
                for (int before = 0; before < 4; before++) {
                    assert_range(path, text, oracle, count, begin, end, before);
                }
            }
        }
    }
    free(text);
}

static void ranges_of_any_number_of_ranks_cover_a_document_once(void **state)
{
    (void)state;
    enum { SIZE = 30000 };
    static char text[SIZE];
    static span oracle[SIZE];
    uint64_t random = 20261120;
    for (int i = 0; i < SIZE; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        text[i] = " \nab,cdefg.hijklmnopqrstuvwxyz_\xc3\xa9"[random >> 59];
    }
    int64_t count = split(text, SIZE, oracle);
    const char *path = scratch_file("document.txt", text, SIZE);
    for (int ranks = 1; ranks <= 64; ranks = 2 * ranks + 1) {
        for (int rank = 0; rank < ranks; rank++) {
            assert_range(path, text, oracle, count, (int64_t)SIZE * rank / ranks, (int64_t)SIZE * (rank + 1) / ranks,
                         32);
        }
    }
}

static void size_is_that_of_the_file(void **state)
{
    (void)state;
    int64_t size;
    io_error error = {""};
    assert_int_equal(text_file_size(scratch_file("size.txt", "hello\n", 6), &size, &error), 0);
    assert_int_equal(size, 6);
}

static void a_token_after_much_white_space_is_enough(void **state)
{
    (void)state;
    static char text[20001];
    int64_t size;
    io_error error = {""};
    memset(text, ' ', sizeof text - 1);
    text[20000] = '!';
    assert_int_equal(text_file_size(scratch_file("late.txt", text, sizeof text), &size, &error), 0);
    assert_int_equal(size, 20001);
}

static void what_is_no_text_is_refused(void **state)
{
    (void)state;
    static char white[20000];
    memset(white, '\n', sizeof white);
    const struct {
        const char *path, *needle;
    } cases[] = {
        {scratch_path("missing.txt"), strerror(ENOENT)},
        {scratch_folder(), "is a folder"},
        {scratch_file("empty.txt", "", 0), "is empty"},
        {scratch_file("white.txt", white, sizeof white), "holds no token, only white space"},
        {"/dev/null", "not a regular file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t size = -7;
        io_error error = {""};
        assert_int_equal(text_file_size(cases[i].path, &size, &error), -1);
        assert_int_equal(size, -7);
        assert_refusal(&error, cases[i].path, cases[i].needle);
    }
}

static void a_range_outside_of_the_file_is_refused(void **state)
{
    (void)state;
    static const int64_t ranges[][2] = {{-1, 3}, {3, 2}, {0, 7}, {7, 7}};
    const char *path = scratch_file("range.txt", "hello\n", 6);
    for (int i = 0; i < 4; i++) {
        text_token *tokens;
        int64_t before, count, bytes_begin;
        char *bytes;
        io_error error = {""};
        assert_int_equal(text_read_tokens(path, ranges[i][0], ranges[i][1], 0, &tokens, &before, &count, &bytes,
                                          &bytes_begin, &error),
                         -1);
        assert_refusal(&error, path, "are outside of its 6");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_range_of_small_texts_gives_the_tokens_of_the_whole),
        cmocka_unit_test(long_tokens_and_long_gaps_are_cut_anywhere),
        cmocka_unit_test(ranges_of_any_number_of_ranks_cover_a_document_once),
        cmocka_unit_test(size_is_that_of_the_file),
        cmocka_unit_test(a_token_after_much_white_space_is_enough),
        cmocka_unit_test(what_is_no_text_is_refused),
        cmocka_unit_test(a_range_outside_of_the_file_is_refused),
    };
    return cmocka_run_group_tests_name("io.text", tests, scratch_setup, scratch_teardown);
}
