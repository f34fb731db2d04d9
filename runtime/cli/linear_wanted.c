#include "runtime/cli/linear_wanted.h"

#include <stdio.h>
#include <string.h>

int linear_log_decay_axes(const linear_variant *variant)
{
    switch (variant->decay) {
    case LINEAR_DECAY_HEAD:
        return 1;
    case LINEAR_DECAY_TOKEN:
        return 2;
    case LINEAR_DECAY_FEATURE:
        return 3;
    case LINEAR_DECAY_NONE:
    case LINEAR_DECAY_RETENTION:
        break;
    }
    return 0;
}

static bool needs(const linear_variant *variant, linear_dataset dataset)
{
    switch (dataset) {
    case LINEAR_LOG_DECAY:
        return linear_log_decay_axes(variant) > 0;
    case LINEAR_BETA:
        return variant->has_beta;
    case LINEAR_BONUS:
        return variant->reads_before;
    case LINEAR_FEATURES:
        return variant->map == LINEAR_MAP_FAVOR;
    case LINEAR_DATASETS:
        break;
    }
    return false;
}

void linear_wanted_of(const linear_variant *variant, linear_wanted *wanted_p)
{
    linear_wanted w = {.attention = variant->name,
                       .log_decay_axes = linear_log_decay_axes(variant),
                       .most_features = LINEAR_FEATURES_MAX};
    for (int d = 0; d < LINEAR_DATASETS; d++) {
        w.needs[d] = needs(variant, (linear_dataset)d);
        size_t length = 0;
        for (int i = 0; i < linear_variant_count && length < sizeof w.users[d]; i++) {
            if (!needs(linear_variants[i], (linear_dataset)d)) continue;
            length += (size_t)snprintf(w.users[d] + length, sizeof w.users[d] - length, "%s%s", length ? ", " : "",
                                       linear_variants[i]->name);
        }
    }
    *wanted_p = w;
}
