/* Which kernel runs: the table, the features of the CPU, the choice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/attention.h"
#include "kernels/cpu.h"

#include <string.h>

static void the_first_kernel_is_portable_and_needs_nothing(void **unused)
{
    (void)unused;
    assert_true(attention_kernel_count >= 1);
    assert_string_equal(attention_kernels[0]->name, "portable");
    assert_int_equal(attention_kernels[0]->features, 0);
}

static void every_kernel_is_found_by_its_name(void **unused)
{
    (void)unused;
    for (int i = 0; i < attention_kernel_count; i++)
        assert_ptr_equal(attention_kernel_find(attention_kernels[i]->name), attention_kernels[i]);
    assert_null(attention_kernel_find("avx"));
    assert_null(attention_kernel_find(""));
}

static void auto_is_the_last_kernel_that_this_cpu_runs_and_that_pays(void **unused)
{
    (void)unused;
    const attention_kernel *expected = NULL;
    for (int i = 0; i < attention_kernel_count; i++)
        if (!cpu_features_missing(attention_kernels[i]->features | attention_kernels[i]->pays_with))
            expected = attention_kernels[i];
    assert_ptr_equal(attention_kernel_find("auto"), expected);
}

#if defined(__x86_64__)
/* The compiler's run-time asks the CPU on its own. */
static void features_are_those_the_compiler_finds(void **unused)
{
    (void)unused;
    const unsigned features = cpu_features();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    assert_int_equal((features & CPU_AVX2) != 0, avx2 != 0);
    assert_int_equal((features & CPU_AVX512) != 0, avx512);
    if (features & (CPU_AVX512_BF16 | CPU_AMX_BF16)) assert_true(features & CPU_AVX512);
    if (features & CPU_DOUBLE_RATE_BF16) assert_true(features & CPU_AVX512_BF16);
}
#endif

static void what_the_cpu_has_is_not_missing_unless_the_system_refuses_it(void **unused)
{
    (void)unused;
    const unsigned all = CPU_AVX2 | CPU_AVX512 | CPU_AVX512_BF16 | CPU_AMX_BF16, features = cpu_features();
    assert_int_equal(cpu_features_missing(0), 0);
    assert_int_equal(cpu_features_missing(features & ~(unsigned)CPU_AMX_BF16), 0);
    assert_int_equal(cpu_features_missing(all) & ~(unsigned)CPU_AMX_BF16, all & ~features & ~(unsigned)CPU_AMX_BF16);
    if (!(features & CPU_AMX_BF16)) assert_true(cpu_features_missing(all) & CPU_AMX_BF16);
}

static void features_are_described_in_words(void **unused)
{
    (void)unused;
    char text[64];
    cpu_features_describe(0, text, sizeof text);
    assert_string_equal(text, "none");
    cpu_features_describe(CPU_AVX2 | CPU_AVX512 | CPU_AVX512_BF16 | CPU_AMX_BF16, text, sizeof text);
    assert_string_equal(text, "avx2 avx512 avx512_bf16 amx_bf16");
    memset(text, 'x', sizeof text);
    cpu_features_describe(CPU_AVX2 | CPU_AVX512, text, 7);
    assert_string_equal(text, "avx2 a");
    assert_int_equal(text[7], 'x');
}

/* Where a kernel offers every arithmetic; sixteen query rows a key head are bound by memory. */
static void the_best_arithmetic_loses_nothing_and_leaves_few_rows_to_float32(void **unused)
{
    (void)unused;
    const attention_kernel all = {.gain = {1, 1.2, 1.9, 8}}, one = {.gain = {[COMPUTE_FP32] = 1}};
    assert_int_equal(attention_compute_best(&all, KERNEL_FLOAT32, 17), COMPUTE_BF16X6);
    assert_int_equal(attention_compute_best(&all, KERNEL_FLOAT16, 17), COMPUTE_BF16X3);
    assert_int_equal(attention_compute_best(&all, KERNEL_BFLOAT16, INT64_C(1) << 40), COMPUTE_BF16);
    const attention_kernel little = {.gain = {[COMPUTE_FP32] = 1, [COMPUTE_BF16] = 1.8}};
    assert_int_equal(attention_compute_best(&little, KERNEL_BFLOAT16, 17), COMPUTE_FP32);
    for (int type = KERNEL_FLOAT32; type <= KERNEL_BFLOAT16; type++) {
        assert_int_equal(attention_compute_best(&all, (kernel_type)type, 16), COMPUTE_FP32);
        assert_int_equal(attention_compute_best(&all, (kernel_type)type, 1), COMPUTE_FP32);
        assert_int_equal(attention_compute_best(&one, (kernel_type)type, 17), COMPUTE_FP32);
    }
}

static void workspace_grows_with_threads_and_stays_aligned(void **unused)
{
    (void)unused;
    for (int dim = 1; dim <= 512; dim += 7)
        for (int value_dim = 1; value_dim <= 512; value_dim += 13) {
            const size_t one = attention_workspace_size(1, dim, value_dim);
            assert_int_equal(one % 64, 0);
            assert_int_equal(attention_workspace_size(5, dim, value_dim), 5 * one);
            assert_in_range(one, 64 * (dim + value_dim) * sizeof(float), 4 << 20);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_kernel_is_portable_and_needs_nothing),
        cmocka_unit_test(every_kernel_is_found_by_its_name),
        cmocka_unit_test(auto_is_the_last_kernel_that_this_cpu_runs_and_that_pays),
#if defined(__x86_64__)
        cmocka_unit_test(features_are_those_the_compiler_finds),
#endif
        cmocka_unit_test(what_the_cpu_has_is_not_missing_unless_the_system_refuses_it),
        cmocka_unit_test(features_are_described_in_words),
        cmocka_unit_test(the_best_arithmetic_loses_nothing_and_leaves_few_rows_to_float32),
        cmocka_unit_test(workspace_grows_with_threads_and_stays_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
