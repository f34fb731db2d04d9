#define _GNU_SOURCE /* syscall */
#include "kernels/cpu.h"

#include <stdbool.h>
#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Register sets that the system saves for us, Intel SDM volume 1, section 13.3. */
enum { SAVED_AVX = 0x6, SAVED_AVX512 = 0xe6, SAVED_AMX = 0x60000 };

static uint64_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool made_by_amd(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

/* Linux gives a process the tile registers when it asks for them, all its threads at once and for as long as it runs;
 * asking again changes nothing. False where it refuses, as kernels before 5.16 do. */
static bool tiles_allowed(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

unsigned cpu_features(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!(c & bit_OSXSAVE) || !(c & bit_AVX) || !(c & bit_FMA) || !(c & bit_F16C)) return 0;
    const uint64_t saved = saved_registers();
    if ((saved & SAVED_AVX) != SAVED_AVX || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return 0;

    unsigned features = CPU_AVX2;
    const unsigned avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    const unsigned amx = 1u << 22 | 1u << 24; /* AMX-BF16, AMX-TILE */
    if ((saved & SAVED_AVX512) != SAVED_AVX512 || (b & avx512) != avx512) return features;
    features |= CPU_AVX512;
    if ((saved & SAVED_AMX) == SAVED_AMX && (d & amx) == amx) features |= CPU_AMX_BF16;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5)) features |= CPU_AVX512_BF16;
    if (features & CPU_AVX512_BF16 && made_by_amd()) features |= CPU_DOUBLE_RATE_BF16;
    return features;
}
#else
static bool tiles_allowed(void)
{
    return false;
}

unsigned cpu_features(void)
{
    return 0;
}
#endif

unsigned cpu_features_missing(unsigned needed)
{
    const unsigned missing = needed & ~cpu_features();
    const bool asks = needed & CPU_AMX_BF16 && !(missing & CPU_AMX_BF16);
    return asks && !tiles_allowed() ? missing | CPU_AMX_BF16 : missing;
}

void cpu_features_describe(unsigned features, char *text, int size)
{
    static const struct {
        unsigned feature;
        const char *name;
    } names[] = {{CPU_AVX2, "avx2"},
                 {CPU_AVX512, "avx512"},
                 {CPU_AVX512_BF16, "avx512_bf16"},
                 {CPU_AMX_BF16, "amx_bf16"}};
    int length = snprintf(text, (size_t)size, "%s", features ? "" : "none");
    const char *between = "";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!(features & names[i].feature) || length >= size) continue;
        length += snprintf(text + length, (size_t)(size - length), "%s%s", between, names[i].name);
        between = " ";
    }
}
