/* Conversions: every 16-bit pattern widened, and narrowing against a second definition of rounding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/number.h"
#include "tests/kernels/problem.h"

#include <math.h>
#include <string.h>

typedef struct {
    int exponent_bits, mantissa_bits;
} format;

static const format half = {5, 10}, brain = {8, 7};

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The value of a pattern, from the definition of the format. */
static double pattern_value(format f, unsigned pattern)
{
    const int bias = (1 << (f.exponent_bits - 1)) - 1;
    const int exponent = (int)(pattern >> f.mantissa_bits) & ((1 << f.exponent_bits) - 1);
    const int mantissa = (int)(pattern & ((1u << f.mantissa_bits) - 1));
    const double sign = pattern & 0x8000 ? -1 : 1;
    if (exponent == (1 << f.exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - f.mantissa_bits);
    return sign * ldexp(mantissa + (1 << f.mantissa_bits), exponent - bias - f.mantissa_bits);
}

/* Nearest value of the format, ties to even, by rounding value / unit in float64. */
static double rounded_value(format f, double value)
{
    const int bias = (1 << (f.exponent_bits - 1)) - 1;
    int exponent;
    if (value == 0 || !isfinite(value)) return value;
    frexp(value, &exponent);
    if (exponent - 1 < 1 - bias) exponent = 2 - bias;
    const double unit = ldexp(1, exponent - 1 - f.mantissa_bits);
    const double rounded = nearbyint(value / unit) * unit;
    return fabs(rounded) >= ldexp(1, bias + 1) ? copysign(INFINITY, value) : rounded;
}

static void widen_all(kernel_type type, format f)
{
    static uint16_t patterns[65536];
    static float values[65536];
    for (int i = 0; i < 65536; i++) patterns[i] = (uint16_t)i;
    number_widen(type, patterns, values, 65536);
    for (unsigned i = 0; i < 65536; i++) {
        const double expected = pattern_value(f, i);
        if (isnan(expected) ? !isnan(values[i]) : values[i] != expected) fail_msg("pattern 0x%04x", i);
        assert_int_equal(signbit(values[i]) != 0, i >> 15);
    }
}

static void every_pattern_widens_exactly(void **unused)
{
    (void)unused;
    widen_all(KERNEL_FLOAT16, half);
    widen_all(KERNEL_BFLOAT16, brain);
}

static void every_pattern_survives_a_round_trip(void **unused)
{
    (void)unused;
    for (int type = KERNEL_FLOAT16; type <= KERNEL_BFLOAT16; type++)
        for (unsigned i = 0; i < 65536; i++) {
            const uint16_t pattern = (uint16_t)i;
            uint16_t back;
            float value;
            number_widen((kernel_type)type, &pattern, &value, 1);
            number_narrow((kernel_type)type, &value, &back, 1);
            if (isnan(value)) assert_int_equal(back | (type == KERNEL_FLOAT16 ? 0x200 : 0x40), back);
            else assert_int_equal(back, pattern);
        }
}

static void check_narrow(kernel_type type, format f, float value)
{
    uint16_t pattern;
    number_narrow(type, &value, &pattern, 1);
    const double expected = rounded_value(f, (double)value), found = pattern_value(f, pattern);
    if ((isnan(value) ? !isnan(found) : found != expected) || (pattern >> 15) != bits_of(value) >> 31)
        fail_msg("type %d, float 0x%08x: narrows to %.9g, should be %.9g", type, (unsigned)bits_of(value), found,
                 expected);
}

static void narrowing_rounds_to_nearest_even(void **unused)
{
    (void)unused;
    uint64_t random = 40000;
    for (int i = 0; i < 300000; i++) {
        const uint32_t any = (uint32_t)(random_uniform(&random) * 0x1p32);
        check_narrow(KERNEL_FLOAT16, half, from_bits(any));
        check_narrow(KERNEL_BFLOAT16, brain, from_bits(any));
        check_narrow(KERNEL_FLOAT16, half, (float)(random_normal(&random) * exp2(30 * random_uniform(&random) - 25)));
    }
}

/* Each value of the format, the halfway points beside it and the float32 next to those. */
static void boundaries_round_to_nearest_even(void **unused)
{
    (void)unused;
    for (int type = KERNEL_FLOAT16; type <= KERNEL_BFLOAT16; type++) {
        const format f = type == KERNEL_FLOAT16 ? half : brain;
        for (unsigned i = 0; i < 0x7fff; i++) {
            const double below = pattern_value(f, i), above = pattern_value(f, i + 1);
            if (isnan(below) || isnan(above)) continue;
            const double step = isinf(above) ? below - pattern_value(f, i - 1) : above - below;
            if (isinf(below)) continue;
            const float middle = (float)(below + step / 2);
            check_narrow((kernel_type)type, f, middle);
            check_narrow((kernel_type)type, f, -middle);
            check_narrow((kernel_type)type, f, nextafterf(middle, INFINITY));
            check_narrow((kernel_type)type, f, nextafterf(middle, 0));
        }
    }
}

static void float32_is_copied(void **unused)
{
    (void)unused;
    const float values[] = {0, -0.0f, 1e-45f, NAN, INFINITY, 3.25f};
    float widened[6], narrowed[6];
    number_widen(KERNEL_FLOAT32, values, widened, 6);
    number_narrow(KERNEL_FLOAT32, widened, narrowed, 6);
    assert_memory_equal(values, widened, sizeof values);
    assert_memory_equal(values, narrowed, sizeof values);
    assert_int_equal(number_size(KERNEL_FLOAT32), 4);
    assert_int_equal(number_size(KERNEL_FLOAT16), 2);
    assert_int_equal(number_size(KERNEL_BFLOAT16), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_widens_exactly),
        cmocka_unit_test(every_pattern_survives_a_round_trip),
        cmocka_unit_test(narrowing_rounds_to_nearest_even),
        cmocka_unit_test(boundaries_round_to_nearest_even),
        cmocka_unit_test(float32_is_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
