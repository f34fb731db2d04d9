/* The mass of key blocks against the oracle's weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/mass.h"
#include "kernels/reference.h"
#include "tests/kernels/problem.h"

#include <math.h>

enum { ROWS = 9, KEYS = 50, DIM = 12, STRIDE = 15, BLOCK = 8, BLOCKS = 7 };

static float q[ROWS * DIM], k[KEYS * STRIDE], lse[ROWS], scores[ROWS * KEYS];
static double oracle_q[ROWS * DIM], oracle_k[KEYS * STRIDE], expected[BLOCKS];
static int64_t begin[ROWS], end[ROWS];
static const float scale = 0.25f;

/* Row 0 sees nothing, row 1 everything, the others a range. Row r is at position 5 r. */
static void prepare_scores(uint64_t seed, const mass_scores *modified)
{
    const double v[KEYS] = {0};
    double weights[KEYS], out, row_lse;
    uint64_t random = seed;
    for (int i = 0; i < ROWS * DIM; i++) oracle_q[i] = q[i] = (float)random_normal(&random);
    for (int i = 0; i < KEYS * STRIDE; i++) oracle_k[i] = k[i] = (float)random_normal(&random);
    for (int b = 0; b < BLOCKS; b++) expected[b] = 0;
    for (int r = 0; r < ROWS; r++) {
        begin[r] = r < 2 ? 0 : 3 * r;
        end[r] = r == 0 ? 0 : r == 1 ? KEYS : 3 * r + 20;
        const reference_scores exact = {
            .softcap = modified->softcap, .slope = modified->slope, .query_position = 5 * r};
        attention_reference(oracle_q + r * DIM, oracle_k, STRIDE, v, 1, KEYS, begin[r], end[r], DIM, 1, (double)scale,
                            &exact, &out, &row_lse, weights);
        lse[r] = (float)row_lse;
        for (int j = 0; j < KEYS; j++) expected[j / BLOCK] += weights[j];
    }
}

static void prepare(uint64_t seed)
{
    const mass_scores nothing = {0};
    prepare_scores(seed, &nothing);
}

static void check(const double *mass)
{
    for (int b = 0; b < BLOCKS; b++)
        if (!(fabs(mass[b] - expected[b]) < 1e-5)) fail_msg("block %d: %g, should be %g", b, mass[b], expected[b]);
}

static void the_mass_of_a_block_is_the_sum_of_its_weights(void **unused)
{
    (void)unused;
    double mass[BLOCKS] = {0}, all = 0;
    prepare(60000);
    attention_mass(q, lse, begin, end, ROWS, k, STRIDE, 0, KEYS, DIM, scale, NULL, BLOCK, mass, scores);
    check(mass);
    for (int b = 0; b < BLOCKS; b++) all += mass[b];
    assert_float_equal(all, ROWS - 1, 1e-4);
}

static void keys_handed_over_in_pieces_add_up(void **unused)
{
    (void)unused;
    static const int cuts[] = {0, 1, 13, 13, 40, KEYS};
    double mass[BLOCKS] = {0};
    prepare(60001);
    for (int i = 0; i < 5; i++)
        attention_mass(q, lse, begin, end, ROWS, k + cuts[i] * STRIDE, STRIDE, cuts[i], cuts[i + 1] - cuts[i], DIM,
                       scale, NULL, BLOCK, mass, scores);
    check(mass);
}

static void a_row_that_saw_nothing_adds_nothing(void **unused)
{
    (void)unused;
    double mass[BLOCKS] = {0};
    prepare(60002);
    begin[0] = 0;
    end[0] = KEYS; /* its lse stays -inf */
    attention_mass(q, lse, begin, end, 1, k, STRIDE, 0, KEYS, DIM, scale, NULL, BLOCK, mass, scores);
    for (int b = 0; b < BLOCKS; b++) assert_true(mass[b] == 0);
}

static void caps_and_slopes_are_part_of_the_scores(void **unused)
{
    (void)unused;
    int64_t positions[ROWS];
    for (int r = 0; r < ROWS; r++) positions[r] = 5 * r;
    const mass_scores modified[] = {{.softcap = 0.5f}, {.slope = 0.25f}, {.softcap = 2, .slope = -0.125f}};
    for (int i = 0; i < 3; i++) {
        mass_scores of_rows = modified[i];
        double mass[BLOCKS] = {0};
        of_rows.positions = positions;
        prepare_scores(60003, &of_rows);
        attention_mass(q, lse, begin, end, ROWS, k, STRIDE, 0, 21, DIM, scale, &of_rows, BLOCK, mass, scores);
        attention_mass(q, lse, begin, end, ROWS, k + 21 * STRIDE, STRIDE, 21, KEYS - 21, DIM, scale, &of_rows, BLOCK,
                       mass, scores);
        check(mass);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mass_of_a_block_is_the_sum_of_its_weights),
        cmocka_unit_test(keys_handed_over_in_pieces_add_up),
        cmocka_unit_test(a_row_that_saw_nothing_adds_nothing),
        cmocka_unit_test(caps_and_slopes_are_part_of_the_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
