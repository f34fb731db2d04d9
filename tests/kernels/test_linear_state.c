/* Runs of tokens as summaries: their states, late ones, the monoid, and sums without a causal mask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/kernels/linear_problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const linear_kernel *kernel;

static linear_problem_shape some(int variant, bool summarises)
{
    return (linear_problem_shape){.variant = linear_variants[variant]->name,
                                  .heads = 3,
                                  .dim = 20,
                                  .value_dim = 40,
                                  .tokens = 300,
                                  .summarises = summarises,
                                  .threads = 2,
                                  .seed = 100 + (uint64_t)variant};
}

static int64_t units_of(const linear_problem *p)
{
    return linear_units(&p->call.shape);
}

static size_t states_bytes(const linear_problem *p)
{
    return (size_t)units_of(p) * linear_state_size(&p->call.shape) * sizeof(double);
}

/* Element of [F, W] of a head in the states of its units. */
static double state_get(const linear_problem *p, const double *states, int64_t head, int f, int column)
{
    const linear_shape *s = &p->call.shape;
    const int blocks = linear_column_blocks(s);
    int block = 0, first, columns;
    while ((columns = linear_block_columns(s, block, &first)) + first <= column) block++;
    return states[(size_t)(head * blocks + block) * linear_state_size(s) + (size_t)(f * columns + column - first)];
}

static double exponent_of(const linear_problem *p, int64_t head, int f)
{
    const int count = linear_reference_dim(&p->call.shape);
    return count == 0 ? 0 : p->reference[head * count + (count == 1 ? 0 : f)];
}

static void states_check(const linear_problem *p, const double *states)
{
    const linear_shape *s = &p->call.shape;
    const int features = linear_feature_dim(s), width = linear_width(s);
    double error = 0, all = 0;
    for (int64_t head = 0; head < s->batch * s->heads; head++)
        for (int f = 0; f < features; f++)
            for (int c = 0; c < width; c++) {
                const double expected = p->expected_state[(head * features + f) * width + c];
                const double x = state_get(p, states, head, f, c) * exp(exponent_of(p, head, f));
                error += (x - expected) * (x - expected);
                all += expected * expected;
            }
    if (!(sqrt(error / all) <= 2e-6)) fail_msg("%s: state off by %.3g", p->shape.variant, sqrt(error / all));
}

/* Whatever the tokens are: finite or not, in documents, in whole chunks or not. */
static void the_state_alone_has_the_bits_of_a_fold(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++)
        for (int form = 0; form < 8; form++) {
            linear_problem_shape shape = some(i, false);
            shape.first_token = form & 1 ? 37 : 0;
            if (form & 2) memcpy(shape.pieces, (int64_t[8]){5, 170}, sizeof shape.pieces);
            linear_problem p = linear_problem_create(&shape, kernel);
            if (form & 4) ((float *)p.q)[130 * shape.heads * shape.dim + 3] = NAN;
            double *folded = linear_states_create(&p), *alone = linear_states_create(&p);
            float *out = linear_outputs_create(&p);
            kernel->fold(&p.call, 0, units_of(&p), folded, out, NULL);
            kernel->fold(&p.call, 0, units_of(&p), alone, NULL, NULL);
            if (memcmp(folded, alone, states_bytes(&p)) != 0) fail_msg("%s, form %d", shape.variant, form);
            free(folded), free(alone), free(out);
            linear_problem_destroy(&p);
        }
}

static void the_last_state_is_that_of_the_recurrence(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++) {
        const linear_problem_shape shape = some(i, i % 2);
        linear_problem p = linear_problem_create(&shape, kernel);
        double *states = linear_states_create(&p);
        float *out = linear_outputs_create(&p);
        kernel->fold(&p.call, 0, units_of(&p), states, out, NULL);
        states_check(&p, states);
        free(states), free(out);
        linear_problem_destroy(&p);
    }
}

static void runs_cut_on_the_grid_have_the_bits_of_one(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++) {
        linear_problem_shape shape = some(i, i % 2);
        shape.first_token = 50;
        linear_problem p = linear_problem_create(&shape, kernel);
        double *states = linear_states_create(&p), *cut = linear_states_create(&p);
        float *out = linear_outputs_create(&p), *cut_out = linear_outputs_create(&p);
        kernel->fold(&p.call, 0, units_of(&p), states, out, NULL);
        const int64_t grid = LINEAR_CHUNK - 50 % LINEAR_CHUNK, cuts[] = {0, grid, grid + LINEAR_CHUNK, 300};
        for (int c = 0; c < 3; c++) {
            int64_t pieces[16];
            linear_call run = linear_problem_run(&p, cuts[c], cuts[c + 1], pieces);
            run.threads = 1;
            const int64_t row = cuts[c] * shape.heads * shape.value_dim;
            for (int64_t unit = units_of(&p) - 1; unit >= 0; unit--)
                kernel->fold(&run, unit, unit + 1, cut, cut_out + row, NULL);
        }
        assert_memory_equal(states, cut, states_bytes(&p));
        assert_memory_equal(out, cut_out, (size_t)(300 * shape.heads * shape.value_dim) * sizeof *out);
        free(states), free(cut), free(out), free(cut_out);
        linear_problem_destroy(&p);
    }
}

/* Three runs, each from nothing; then each gets the state of those before it. With and without documents. */
static void runs_that_get_their_state_late_are_right(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++)
        for (int documents = 0; documents < 2; documents++) {
            if (linear_variants[i]->map == LINEAR_MAP_EFFICIENT) continue;
            linear_problem_shape shape = some(i, true);
            shape.decay = -0.05;
            if (documents) memcpy(shape.pieces, (int64_t[8]){140, 250}, sizeof shape.pieces);
            linear_problem p = linear_problem_create(&shape, kernel);
            const linear_shape *s = &p.call.shape;
            double *before = linear_states_create(&p), *run_states = linear_states_create(&p);
            float *partial = linear_outputs_create(&p), *out = linear_outputs_create(&p);
            const int64_t cuts[] = {0, 77, 191, 300};
            for (int c = 0; c < 3; c++) {
                int64_t pieces[16];
                const linear_call run = linear_problem_run(&p, cuts[c], cuts[c + 1], pieces);
                const bool begins = cuts[c] == 0;
                linear_state_clear(s, 0, units_of(&p), run_states);
                kernel->fold(&run, 0, units_of(&p), run_states, NULL, partial);
                if (!begins) kernel->apply(&run, 0, units_of(&p), before, partial);
                kernel->finish(&run, 0, units_of(&p), partial, out + cuts[c] * shape.heads * shape.value_dim);
                linear_state_compose(s, 0, units_of(&p), before, run_states);
            }
            const double error = linear_problem_error(&p, out);
            if (!(error <= 3e-6)) fail_msg("%s, documents %d: %.3g", shape.variant, documents, error);
            states_check(&p, before);
            free(before), free(run_states), free(partial), free(out);
            linear_problem_destroy(&p);
        }
}

static void compose_is_associative(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++) {
        const linear_problem_shape shape = some(i, true);
        linear_problem p = linear_problem_create(&shape, kernel);
        const linear_shape *s = &p.call.shape;
        double *runs[3], *left = linear_states_create(&p);
        float *out = linear_outputs_create(&p);
        for (int c = 0; c < 3; c++) {
            int64_t pieces[16];
            const linear_call run = linear_problem_run(&p, 100 * c, 100 * c + 100, pieces);
            runs[c] = linear_states_create(&p);
            kernel->fold(&run, 0, units_of(&p), runs[c], out, NULL);
        }
        memcpy(left, runs[0], states_bytes(&p));
        linear_state_compose(s, 0, units_of(&p), left, runs[1]);
        linear_state_compose(s, 0, units_of(&p), left, runs[2]);
        linear_state_compose(s, 0, units_of(&p), runs[1], runs[2]);
        linear_state_compose(s, 0, units_of(&p), runs[0], runs[1]);
        double error = 0, all = 0;
        for (size_t j = 0; j < states_bytes(&p) / sizeof *left; j++) {
            error += (left[j] - runs[0][j]) * (left[j] - runs[0][j]);
            all += left[j] * left[j];
        }
        assert_true(error <= 1e-28 * all);
        for (int c = 0; c < 3; c++) free(runs[c]);
        free(left), free(out);
        linear_problem_destroy(&p);
    }
}

/* A run in which a document begins. */
static void a_run_that_forgets_hides_what_came_before(void **unused)
{
    (void)unused;
    for (int i = 0; i < linear_variant_count; i++) {
        linear_problem_shape shape = some(i, true);
        shape.pieces[0] = 200;
        linear_problem p = linear_problem_create(&shape, kernel);
        const linear_shape *s = &p.call.shape;
        double *before = linear_states_create(&p), *later = linear_states_create(&p);
        float *out = linear_outputs_create(&p);
        kernel->fold(&p.call, 0, units_of(&p), before, out, NULL);
        kernel->fold(&p.call, 0, units_of(&p), later, out, NULL);
        linear_state_compose(s, 0, units_of(&p), before, later);
        assert_memory_equal(before, later, states_bytes(&p));
        free(before), free(later), free(out);
        linear_problem_destroy(&p);
    }
}

/* One rank, or two of which the first's last document goes on in the second. */
static void sum_and_read_are_attention_without_a_causal_mask(void **unused)
{
    (void)unused;
    static const int64_t documents[][8] = {{0}, {120}, {60, 61, 250}};
    for (int i = 0; i < linear_variant_count; i++)
        for (size_t d = 0; d < 3 && linear_variants[i]->two_sided; d++)
            for (int ranks = 1; ranks <= 2; ranks++) {
                linear_problem_shape shape = some(i, false);
                shape.two_sided = true;
                shape.first_token = 64;
                memcpy(shape.pieces, documents[d], sizeof shape.pieces);
                linear_problem p = linear_problem_create(&shape, kernel);
                const linear_shape *s = &p.call.shape;
                double *head[2], *tail[2];
                float *out = linear_outputs_create(&p);
                const int64_t cuts[] = {0, ranks == 1 ? 300 : 200, 300};
                int64_t pieces[2][16];
                linear_call runs[2];
                for (int r = 0; r < ranks; r++) {
                    head[r] = linear_states_create(&p), tail[r] = linear_states_create(&p);
                    runs[r] = linear_problem_run(&p, cuts[r], cuts[r + 1], pieces[r]);
                    kernel->sum(&runs[r], 0, units_of(&p), head[r], tail[r]);
                }
                if (ranks == 2) {
                    linear_state_add(s, 0, units_of(&p), tail[0], head[1]);
                    memcpy(head[1], tail[0], states_bytes(&p));
                    if (runs[0].piece_count == 1) memcpy(head[0], tail[0], states_bytes(&p));
                    if (runs[1].piece_count == 1) memcpy(tail[1], head[1], states_bytes(&p));
                }
                for (int r = 0; r < ranks; r++)
                    kernel->read(&runs[r], 0, units_of(&p), head[r], tail[r],
                                 out + cuts[r] * shape.heads * shape.value_dim);
                const double error = linear_problem_error(&p, out);
                if (!(error <= 2e-6)) fail_msg("%s, documents %d, %d ranks: %.3g", shape.variant, (int)d, ranks, error);
                for (int r = 0; r < ranks; r++) free(head[r]), free(tail[r]);
                free(out);
                linear_problem_destroy(&p);
            }
}

static void count_polls(void *data, double fraction)
{
    assert_true(fraction > 0 && fraction <= 1);
    ++*(int *)data;
}

static void the_calling_thread_polls(void **unused)
{
    (void)unused;
    const linear_problem_shape shape = some(0, false);
    linear_problem p = linear_problem_create(&shape, kernel);
    double *states = linear_states_create(&p);
    float *out = linear_outputs_create(&p);
    int polls = 0;
    p.call.threads = 1, p.call.poll = count_polls, p.call.poll_data = &polls;
    kernel->fold(&p.call, 0, units_of(&p), states, out, NULL);
    assert_int_equal(polls, 3 * 5);
    free(states), free(out);
    linear_problem_destroy(&p);
}

int main(int argc, char **argv)
{
    kernel = linear_kernel_under_test(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_state_alone_has_the_bits_of_a_fold),
        cmocka_unit_test(the_last_state_is_that_of_the_recurrence),
        cmocka_unit_test(runs_cut_on_the_grid_have_the_bits_of_one),
        cmocka_unit_test(runs_that_get_their_state_late_are_right),
        cmocka_unit_test(compose_is_associative),
        cmocka_unit_test(a_run_that_forgets_hides_what_came_before),
        cmocka_unit_test(sum_and_read_are_attention_without_a_causal_mask),
        cmocka_unit_test(the_calling_thread_polls),
    };
    return cmocka_run_group_tests_name("kernels.linear_state", tests, NULL, NULL);
}
