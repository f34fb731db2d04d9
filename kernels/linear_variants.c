/* The members of the linear family. An output is 0 where a normalised variant's denominator is exactly 0: where the
 * keys so far weigh nothing in floats against the sequence's largest (favor), or those of every feature do (efficient;
 * a feature whose keys so far weigh nothing is left out of the sum). */
#include "kernels/linear.h"

#include <string.h>

static const linear_variant elu = {
    .name = "elu",
    .summary = "kernel feature map elu(x) + 1",
    .source = "Katharopoulos et al. 2020, arXiv 2006.16236, equations 7 and 18 to 20",
    .map = LINEAR_MAP_ELU,
    .normalised = true,
    .two_sided = true,
    .epsilon = 1e-6,
};

static const linear_variant taylor = {
    .name = "taylor",
    .summary = "first-order Taylor expansion of softmax over unit q and k",
    .source = "Li et al. 2020, arXiv 2007.14902, section 3.2",
    .map = LINEAR_MAP_TAYLOR,
    .normalised = true,
    .two_sided = true,
    .epsilon = 1e-6,
};

static const linear_variant favor = {
    .name = "favor",
    .summary = "FAVOR+, positive random features that the input gives",
    .source = "Choromanski et al. 2020, arXiv 2009.14794, equation 5 and lemma 1",
    .map = LINEAR_MAP_FAVOR,
    .normalised = true,
    .two_sided = true,
    .scaled = true,
};

static const linear_variant based = {
    .name = "based",
    .summary = "second-order Taylor expansion of softmax",
    .source = "Arora et al. 2024, arXiv 2402.18668, section 4.1",
    .map = LINEAR_MAP_BASED,
    .normalised = true,
    .two_sided = true,
    .scaled = true,
};

static const linear_variant efficient = {
    .name = "efficient",
    .summary = "softmax of q over features, of k over the sequence",
    .source = "Shen et al. 2018, arXiv 1812.01243, equation 5; causal: of k over the tokens so far",
    .map = LINEAR_MAP_EFFICIENT,
    .normalised = true,
    .two_sided = true,
};

static const linear_variant retention = {
    .name = "retention",
    .summary = "RetNet, a fixed decay 1 - 2^(-5 - h) of head h",
    .source = "Sun et al. 2023, arXiv 2307.08621, equations 6 and 8",
    .decay = LINEAR_DECAY_RETENTION,
    .scaled = true,
};

static const linear_variant lightning = {
    .name = "lightning",
    .summary = "Lightning Attention-2, a given decay of each head",
    .source = "Qin et al. 2024, arXiv 2401.04658, section 3; without 1 / sqrt(D), arXiv 2501.08313",
    .decay = LINEAR_DECAY_HEAD,
};

static const linear_variant ssd = {
    .name = "ssd",
    .summary = "Mamba-2, a decay and a step size of each token",
    .source = "Dao & Gu 2024, arXiv 2405.21060, equations 1 and 2 with A a number",
    .decay = LINEAR_DECAY_TOKEN,
    .has_beta = true,
};

static const linear_variant gla = {
    .name = "gla",
    .summary = "gated linear attention, a decay of each token and feature (HGRN2 too)",
    .source = "Yang et al. 2023, arXiv 2312.06635, equation 3",
    .decay = LINEAR_DECAY_FEATURE,
    .scaled = true,
};

static const linear_variant rwkv6 = {
    .name = "rwkv6",
    .summary = "RWKV-6, a decay of each token and feature and a bonus for the token itself",
    .source = "Peng et al. 2024, arXiv 2404.05892, section 4.2, equations of wkv_t",
    .decay = LINEAR_DECAY_FEATURE,
    .reads_before = true,
};

static const linear_variant delta = {
    .name = "delta",
    .summary = "DeltaNet, the delta rule",
    .source = "Yang et al. 2024, arXiv 2406.06484, section 2.2",
    .has_beta = true,
    .erases = true,
    .scaled = true,
};

static const linear_variant gated_delta = {
    .name = "gated-delta",
    .summary = "Gated DeltaNet, the delta rule and a decay of each token",
    .source = "Yang et al. 2024, arXiv 2412.06464, equation 10",
    .decay = LINEAR_DECAY_TOKEN,
    .has_beta = true,
    .erases = true,
    .scaled = true,
};

static const linear_variant kda = {
    .name = "kda",
    .summary = "Kimi delta attention, the delta rule and a decay of each token and feature",
    .source = "Kimi Team 2025, arXiv 2510.26692, equation 1",
    .decay = LINEAR_DECAY_FEATURE,
    .has_beta = true,
    .erases = true,
    .scaled = true,
};

const linear_variant *const linear_variants[] = {
    &elu, &taylor, &favor, &based, &efficient, &retention, &lightning, &ssd, &gla, &rwkv6, &delta, &gated_delta, &kda,
};
const int linear_variant_count = sizeof linear_variants / sizeof linear_variants[0];

const linear_variant *linear_variant_find(const char *name)
{
    for (int i = 0; i < linear_variant_count; i++)
        if (strcmp(linear_variants[i]->name, name) == 0) return linear_variants[i];
    return NULL;
}
