/* One element at a time, so that number.c and every kernel file vectorise the loops around them with their own flags.
 * Integer steps and one exact subtraction of normal numbers: right under flush-to-zero and denormals-are-zero too. */
#ifndef KERNELS_NUMBER_CONVERT_H
#define KERNELS_NUMBER_CONVERT_H

#include <stdint.h>
#include <string.h>

static inline uint32_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float widen_bfloat16(uint16_t number)
{
    return float_from_bits((uint32_t)number << 16);
}

/* The exponent is rebiased by 112. A subnormal f * 2^-24 is given the exponent of 2^-14, which adds one half unit too
 * much, and has it subtracted again. */
static inline float widen_float16(uint16_t number)
{
    const uint32_t magnitude = (uint32_t)(number & 0x7fff) << 13;
    const uint32_t sign = (uint32_t)(number & 0x8000) << 16;
    const uint32_t normal = magnitude + (112u << 23);
    const uint32_t subnormal = float_bits(float_from_bits(magnitude + (113u << 23)) - 0x1p-14f);
    const uint32_t special = magnitude + (224u << 23);
    uint32_t bits = normal;
    bits = magnitude < (1u << 23) ? subnormal : bits;
    bits = magnitude >= (31u << 23) ? special : bits;
    return float_from_bits(bits | sign);
}

static inline uint16_t narrow_bfloat16(float value)
{
    const uint32_t bits = float_bits(value);
    const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
    const uint32_t quiet = bits | 0x400000;
    return (uint16_t)(((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded) >> 16);
}

/* Subnormal results are rounded by the float adder: 0.5 + |value| has its last place at 2^-24. The smallest value
 * that takes this way is far from the edge of denormal float32 results, and a denormal input gives 0 either way. */
static inline uint16_t narrow_float16(float value)
{
    const uint32_t bits = float_bits(value);
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    const uint32_t subnormal = float_bits(float_from_bits(magnitude) + 0.5f) - float_bits(0.5f);
    const uint32_t nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
    uint32_t half = normal;
    half = magnitude < (113u << 23) ? subnormal : half;
    half = magnitude >= (143u << 23) ? 0x7c00 : half;
    half = magnitude > 0x7f800000 ? nan : half;
    return (uint16_t)(half | sign);
}

#endif
