/* Tile products, emulated and, where the CPU has them, real, against what Intel's manual says of TDPBF16PS, an element
 * at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/cpu.h"
#include "tests/kernels/problem.h"
#include "tests/kernels/tile_product.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEFT = 2 * 16 * 32, RIGHT = 2 * 16 * 32, SUMS = 4 * 16 * 16 };

typedef struct {
    uint16_t left[LEFT], right[RIGHT];
    float sums[SUMS];
} tile_case;

static void (*product)(const uint16_t *left, const uint16_t *right, float *sums);

static float flushed(float x)
{
    return fpclassify(x) == FP_SUBNORMAL ? copysignf(0, x) : x;
}

static float number(uint16_t bits)
{
    const uint32_t widened = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &widened, sizeof value);
    return flushed(value);
}

/* sums [i][j] of 16 x 16, as tiles_sums_load has them with halves 2 * 256 floats apart. */
static void product_by_definition(tile_case *c)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            for (int row = 0; row < 16; row++)
                for (int column = 0; column < 16; column++) {
                    float sum[2] = {0, 0}, *element = &c->sums[(j * 2 + i) * 256 + row * 16 + column];
                    for (int k = 0; k < 32; k++) {
                        const float a = number(c->left[i * 512 + row * 32 + k]);
                        const float b = number(c->right[j * 512 + k / 2 * 32 + column * 2 + k % 2]);
                        sum[k % 2] = flushed(fmaf(a, b, sum[k % 2]));
                    }
                    *element = flushed(flushed(*element) + flushed(sum[0] + sum[1]));
                }
}

static uint16_t random_number(uint64_t *random, int exponent, int spread)
{
    const int shift = exponent + (int)(random_uniform(random) * spread);
    const double value = ldexp(random_normal(random), shift);
    uint16_t bits;
    number_narrow(KERNEL_BFLOAT16, &(float){(float)value}, &bits, 1);
    return bits;
}

/* Numbers of about 2^exponent, up to 2^spread times as large. */
static tile_case *random_case(uint64_t seed, int exponent, int spread)
{
    tile_case *c = aligned_alloc(64, sizeof *c / 64 * 64 + 64);
    if (!c) abort();
    uint64_t random = seed;
    for (int i = 0; i < LEFT; i++) c->left[i] = random_number(&random, exponent, spread);
    for (int i = 0; i < RIGHT; i++) c->right[i] = random_number(&random, exponent, spread);
    for (int i = 0; i < SUMS; i++) c->sums[i] = (float)ldexp(random_normal(&random), 2 * exponent);
    return c;
}

static void check(uint64_t seed, int exponent, int spread)
{
    tile_case *c = random_case(seed, exponent, spread);
    tile_case *expected = random_case(seed, exponent, spread);
    product(c->left, c->right, c->sums);
    product_by_definition(expected);
    for (int i = 0; i < SUMS; i++)
        if (!(c->sums[i] == expected->sums[i]))
            fail_msg("seed %llu, exponent %d, spread %d: element %d is %.9g, should be %.9g", (unsigned long long)seed,
                     exponent, spread, i, (double)c->sums[i], (double)expected->sums[i]);
    free(c);
    free(expected);
}

static void a_product_is_to_the_bit_what_the_manual_says(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 20; seed++) check(seed, 0, seed % 2 ? 1 : 20);
}

static void denormal_numbers_are_zero(void **unused)
{
    (void)unused;
    for (uint64_t seed = 101; seed <= 110; seed++) {
        tile_case *c = random_case(seed, 0, 1);
        memset(c->sums, 0, sizeof c->sums);
        for (int i = 0; i < LEFT; i++) c->left[i] = (uint16_t)(i % 128) | (uint16_t)(i % 2 ? 0x8000 : 0);
        for (int i = 0; i < RIGHT; i++) c->right[i] = 0x7f00; /* 2^127: it would make normal numbers of them */
        product(c->left, c->right, c->sums);
        for (int i = 0; i < SUMS; i++) assert_true(c->sums[i] == 0);
        free(c);
    }
}

int main(int argc, char **argv)
{
    const bool real = argc > 1 && strcmp(argv[1], "amx") == 0;
    if (real && cpu_features_missing(CPU_AMX_BF16)) {
        print_message("this CPU has no tiles\n");
        return 77;
    }
    product = tile_product_emulated;
#if defined(__x86_64__)
    if (real) product = tile_product_amx;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_to_the_bit_what_the_manual_says),
        cmocka_unit_test(denormal_numbers_are_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
