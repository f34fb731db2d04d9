/* Plans when memory runs out. The linker sends calloc and realloc of the layer through the functions below, which
 * count down to a failure. */
#include "partition/linear_schedule.h"
#include "partition/patterns.h"
#include "partition/relayout.h"
#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static int64_t allocations_left = INT64_MAX;

void *__wrap_calloc(size_t count, size_t size)
{
    return allocations_left-- > 0 ? __real_calloc(count, size) : NULL;
}

void *__wrap_realloc(void *memory, size_t size)
{
    return allocations_left-- > 0 ? __real_realloc(memory, size) : NULL;
}

/* Leaks show in the address sanitizer's build. */
static void a_plan_without_memory_fails_and_sets_nothing(void **state)
{
    (void)state;
    schedule_problem p = problem_of(LAYOUT_ZIGZAG, 40, 40, 1, 4, true);
    p.node_ranks = p.columns = 2;
    p.may_share = true;
    pattern_choice choice;
    pattern *pattern;
    char why[PATTERN_WHY_SIZE];
    assert_true(pattern_choice_parse("global:3,3,20", &choice, why));
    assert_int_equal(pattern_make(&choice, &p.mask, NULL, &pattern, why), 0);
    for (int i = 0; i < strategy_count; i++) {
        p.pattern = strategies[i]->sparse ? pattern : NULL;
        p.query_layout.kind = p.key_layout.kind = p.pattern ? LAYOUT_CONTIGUOUS : LAYOUT_ZIGZAG;
        assert_null(strategies[i]->refuse(&p));
        int64_t needed = 0;
        for (int result = -1; result != 0; needed++) {
            schedule *s = NULL;
            allocations_left = needed;
            result = strategies[i]->plan(&p, 1, &s);
            allocations_left = INT64_MAX;
            if (result != 0 && (result != -1 || s != NULL))
                fail_msg("%s returns %d after %" PRId64 " allocations", strategies[i]->name, result, needed);
            schedule_destroy(s);
            assert_true(needed < 1000);
        }
        assert_true(needed > 4);
    }
    pattern_destroy(pattern);
}

static void a_pattern_without_memory_fails_and_sets_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"sinks:2,3",
                                        "global:3,3,20",
                                        "dilated:2,3,1",
                                        "bigbird:4,2",
                                        "strided:5",
                                        "fixed:6,2",
                                        "vertical-slash:3,9/0-4,7",
                                        "random:4,30"};
    const mask m = mask_full(40, 40);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int64_t needed = 0;
        for (int result = -1; result != 0; needed++) {
            pattern_choice choice;
            pattern *p = NULL;
            char why[PATTERN_WHY_SIZE];
            assert_true(pattern_choice_parse(texts[i], &choice, why));
            allocations_left = needed;
            result = pattern_make(&choice, &m, NULL, &p, why);
            allocations_left = INT64_MAX;
            if (result != 0 && (result != -1 || p)) fail_msg("%s: %d after %" PRId64, texts[i], result, needed);
            pattern_destroy(p);
            assert_true(needed < 1000);
        }
        assert_true(needed > 3);
    }
}

static void a_plan_for_states_without_memory_fails_and_sets_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < linear_strategy_count; i++) {
        linear_schedule_problem p = {
            .layout = {LAYOUT_CONTIGUOUS, 40, 1, 4}, .causal = true, .units = 5, .stage_units = 2, .late = true};
        if (linear_strategies[i]->refuse(&p)) p.causal = false;
        assert_null(linear_strategies[i]->refuse(&p));
        int64_t needed = 0;
        for (int result = -1; result != 0; needed++) {
            linear_schedule *s = NULL;
            allocations_left = needed;
            result = linear_strategies[i]->plan(&p, 1, &s);
            allocations_left = INT64_MAX;
            if (result != 0 && (result != -1 || s != NULL))
                fail_msg("%s returns %d after %" PRId64 " allocations", linear_strategies[i]->name, result, needed);
            linear_schedule_destroy(s);
            assert_true(needed < 1000);
        }
        assert_true(needed > 4);
    }
}

static void a_relayout_without_memory_fails_and_sets_nothing(void **state)
{
    (void)state;
    const layout from = {.kind = LAYOUT_ZIGZAG, .tokens = 40, .grain = 1, .ranks = 4};
    const layout to = {.kind = LAYOUT_STRIPED, .tokens = 40, .grain = 2, .ranks = 4};
    int64_t needed = 0;
    for (int result = -1; result != 0; needed++) {
        relayout r = {.move_count = -1};
        allocations_left = needed;
        result = relayout_plan(&from, &to, 1, &r);
        allocations_left = INT64_MAX;
        if (result == 0) relayout_free(&r);
        else assert_true(result == -1 && r.move_count == -1);
        assert_true(needed < 100);
    }
    assert_true(needed > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_without_memory_fails_and_sets_nothing),
        cmocka_unit_test(a_pattern_without_memory_fails_and_sets_nothing),
        cmocka_unit_test(a_plan_for_states_without_memory_fails_and_sets_nothing),
        cmocka_unit_test(a_relayout_without_memory_fails_and_sets_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
