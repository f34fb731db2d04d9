/* Rows moved from any layout to any other: every byte lands where the target layout says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/runtime/problem.h"

static const char *const layouts[] = {"contiguous", "zigzag", "striped", "striped:1", "striped:5"};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

static uint64_t word_of(int64_t b, int64_t token, size_t place)
{
    uint64_t x = (uint64_t)(b * 1000003 + token) * 0x9e3779b97f4a7c15u ^ (place * 0xc2b2ae3d27d4eb4fu);
    return x ^ (x >> 29);
}

/* Writes the rows of a side, or counts the bytes of them that are wrong. */
static int64_t go_through(const longspan_relayout *r, const longspan_relayout_problem *p, longspan_relayout_side side,
                          unsigned char *rows, bool write)
{
    int64_t count, wrong = 0;
    assert_int_equal(longspan_relayout_rows(r, side, NULL, 0, &count), LONGSPAN_OK);
    longspan_range *ranges = malloc((size_t)(count + 1) * sizeof *ranges);
    assert_int_equal(longspan_relayout_rows(r, side, ranges, count, &count), LONGSPAN_OK);
    unsigned char *row = rows;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t i = 0; i < count; i++)
            for (int64_t token = ranges[i].begin; token < ranges[i].end; token++, row += p->row_bytes)
                for (size_t byte = 0; byte < p->row_bytes; byte++) {
                    const unsigned char made = (unsigned char)(word_of(b, token, byte / 8) >> byte % 8 * 8);
                    if (write) row[byte] = made;
                    else wrong += row[byte] != made;
                }
    free(ranges);
    if ((size_t)(row - rows) != (size_t)(p->batch * longspan_relayout_tokens(r, side)) * p->row_bytes) wrong++;
    return wrong;
}

static void assert_moves(longspan_context *context, MPI_Comm comm, const longspan_relayout_problem *p)
{
    longspan_relayout *r;
    const longspan_status status = longspan_relayout_create(context, p, &r);
    if (status != LONGSPAN_OK) fail_msg("%s", longspan_context_error(context));
    const size_t in_bytes = (size_t)(p->batch * longspan_relayout_tokens(r, LONGSPAN_FROM)) * p->row_bytes;
    const size_t out_bytes = (size_t)(p->batch * longspan_relayout_tokens(r, LONGSPAN_TO)) * p->row_bytes;
    unsigned char *in = malloc(in_bytes + 1), *out = malloc(out_bytes + 1);
    int64_t wrong = go_through(r, p, LONGSPAN_FROM, in, true);
    for (int repeat = 0; repeat < 2; repeat++) {
        memset(out, 0, out_bytes);
        assert_int_equal(longspan_relayout_execute(r, in, out), LONGSPAN_OK);
        wrong += go_through(r, p, LONGSPAN_TO, out, false);
    }
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT64_T, MPI_SUM, comm);
    if (wrong)
        fail_msg("from %s to %s, N=%lld B=%lld, rows of %zu bytes: %lld bytes wrong", p->from, p->to,
                 (long long)p->tokens, (long long)p->batch, p->row_bytes, (long long)wrong);
    free(in);
    free(out);
    longspan_relayout_destroy(&r);
    assert_null(r);
}

static longspan_context *context_on(MPI_Comm comm)
{
    longspan_status status;
    test_problem t = make_problem(1, 1, 1, 1);
    t.comm = comm;
    longspan_context *context = open_context(&t, &status);
    assert_non_null(context);
    return context;
}

static void every_row_lands_where_the_other_layout_has_it(void **state)
{
    (void)state;
    static const int64_t tokens[] = {1, 7, 64, 701};
    longspan_context *context = context_on(MPI_COMM_WORLD);
    for (int i = 0; i < LAYOUTS * LAYOUTS * 4; i++) {
        const longspan_relayout_problem p = {.batch = 1 + i % 3,
                                             .tokens = tokens[i / LAYOUTS / LAYOUTS],
                                             .row_bytes = i % 2 ? 12 : 97,
                                             .from = layouts[i % LAYOUTS],
                                             .to = layouts[i / LAYOUTS % LAYOUTS]};
        assert_moves(context, MPI_COMM_WORLD, &p);
    }
    longspan_context_destroy(&context);
}

/* A message is at most 64 MiB: rows that are larger are cut, and so are runs of them, and many runs go in several. */
static void what_is_larger_than_a_message_arrives_whole(void **state)
{
    (void)state;
    int rank;
    MPI_Comm pair;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split(MPI_COMM_WORLD, rank < 2 ? 0 : MPI_UNDEFINED, rank, &pair);
    if (pair == MPI_COMM_NULL) return;
    static const longspan_relayout_problem problems[] = {
        {1, 2, ((size_t)65 << 20) + 3, "contiguous", "striped:2"},
        {1, 4, (size_t)34 << 20, "contiguous", "striped:1"},
        {2, 17, (size_t)8 << 20, "zigzag", "contiguous"},
    };
    longspan_context *context = context_on(pair);
    for (int i = 0; i < 3; i++) assert_moves(context, pair, &problems[i]);
    longspan_context_destroy(&context);
    MPI_Comm_free(&pair);
}

static void bad_arguments_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        longspan_relayout_problem problem;
        const char *part;
    } bad[] = {
        {{0, 8, 4, "contiguous", "zigzag"}, "batch"},        {{1, 0, 4, "contiguous", "zigzag"}, "tokens"},
        {{1, 8, 0, "contiguous", "zigzag"}, "row_bytes"},    {{1, 8, 4, "spiral", "zigzag"}, "spiral"},
        {{1, 8, 4, "contiguous", "striped:0"}, "striped:0"}, {{1, 8, 4, NULL, "zigzag"}, "from"},
    };
    int rank, ranks;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    longspan_context *context = context_on(MPI_COMM_WORLD);
    longspan_relayout *r;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(longspan_relayout_create(context, &bad[i].problem, &r), LONGSPAN_ERROR_ARGUMENT);
        assert_non_null(strstr(longspan_context_error(context), bad[i].part));
        assert_null(r);
    }
    longspan_relayout_problem p = {1, 8 * ranks, 4, "contiguous", "zigzag"};
    assert_int_equal(longspan_relayout_create(context, &p, &r), LONGSPAN_OK);
    unsigned char *rows = calloc((size_t)longspan_relayout_tokens(r, LONGSPAN_FROM), 4);
    assert_int_equal(longspan_relayout_execute(r, rank == ranks - 1 ? NULL : rows, rows), LONGSPAN_ERROR_ARGUMENT);
    assert_int_equal(longspan_context_error_rank(context), ranks - 1);
    free(rows);
    longspan_relayout_destroy(&r);
    p.tokens += rank;
    if (ranks > 1) {
        assert_int_equal(longspan_relayout_create(context, &p, &r), LONGSPAN_ERROR_MISMATCH);
        assert_non_null(strstr(longspan_context_error(context), "tokens differs"));
    }
    longspan_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_lands_where_the_other_layout_has_it),
        cmocka_unit_test(what_is_larger_than_a_message_arrives_whole),
        cmocka_unit_test(bad_arguments_are_refused_by_name),
    };
    return RUN_MPI_GROUP(argc, argv, tests);
}
