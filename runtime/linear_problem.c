#include "runtime/linear_problem.h"

#include "runtime/problem.h"

#include <math.h>
#include <string.h>

const char *longspan_linear_variant_name(int index)
{
    return index >= 0 && index < linear_variant_count ? linear_variants[index]->name : NULL;
}

const char *longspan_linear_variant_summary(int index)
{
    return index >= 0 && index < linear_variant_count ? linear_variants[index]->summary : NULL;
}

void longspan_linear_problem_default(longspan_linear_problem *problem_p)
{
    *problem_p = (longspan_linear_problem){.batch = 1, .causal = 1, .strategy = "auto"};
}

int linear_problem_heads(const longspan_linear_problem *p)
{
    int most = p->heads;
    if (p->k_heads > most) most = p->k_heads;
    return p->v_heads > most ? p->v_heads : most;
}

linear_shape linear_problem_shape(const longspan_linear_problem *p, bool summarises)
{
    return (linear_shape){
        .variant = linear_variant_find(p->attention),
        .batch = p->batch,
        .heads = linear_problem_heads(p),
        .q_heads = p->heads,
        .k_heads = p->k_heads,
        .v_heads = p->v_heads,
        .dim = p->dim,
        .value_dim = p->value_dim,
        .features = p->feature_count,
        .summarises = summarises,
    };
}

static void fill_defaults(longspan_linear_problem *p, const linear_variant *variant)
{
    if (p->k_heads == 0) p->k_heads = p->heads;
    if (p->v_heads == 0) p->v_heads = p->heads;
    if (p->value_dim == 0) p->value_dim = p->dim;
    if (p->scale == 0) p->scale = variant->scaled && p->dim > 0 ? 1 / sqrt(p->dim) : 1;
    if (!p->strategy) p->strategy = "auto";
}

static void check_heads(const char *name, int heads, int most, failure *f)
{
    if (heads < 1 || heads > MOST_HEADS)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s is %d, not 1 to %d", name, heads, MOST_HEADS);
    else if (most % heads != 0)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT,
                    "%s is %d, which does not divide %d, the most of heads, k_heads, v_heads", name, heads, most);
}

static void check_sizes(const longspan_linear_problem *p, failure *f)
{
    const int most = linear_problem_heads(p);
    if (p->batch < 1 || p->batch > MOST_BATCH)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "batch is %lld, not 1 to %d", (long long)p->batch, MOST_BATCH);
    if (p->tokens < 1 || p->tokens > most_tokens)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "tokens is %lld, not 1 to 2^31", (long long)p->tokens);
    check_heads("heads", p->heads, most, f);
    check_heads("k_heads", p->k_heads, most, f);
    check_heads("v_heads", p->v_heads, most, f);
    if (p->dim < 1 || p->dim > MOST_DIM)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "dim is %d, not 1 to %d", p->dim, MOST_DIM);
    if (p->value_dim < 1 || p->value_dim > MOST_DIM)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "value_dim is %d, not 1 to %d", p->value_dim, MOST_DIM);
    if (!problem_type_is_known(p->type) || !problem_type_is_known(p->out_type))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "type or out_type is not one of longspan_type");
    if ((double)p->batch * (double)p->tokens * most * MOST_DIM > most_elements)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for %.3g tokens of %d heads",
                    (double)p->batch * (double)p->tokens, most);
}

/* An array is there iff the variant has a use for it. */
static void check_array(const char *name, const void *array, bool used, const linear_variant *variant, failure *f)
{
    if (used && !array) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "attention '%s' needs %s", variant->name, name);
    if (!used && array)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "attention '%s' has no %s, but some are given", variant->name, name);
}

static void check_features(const longspan_linear_problem *p, const linear_variant *variant, failure *f)
{
    const bool given = variant->map == LINEAR_MAP_FAVOR;
    check_array("features", p->features, given, variant, f);
    if (given && (p->feature_count < 1 || p->feature_count > LINEAR_FEATURES_MAX))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "feature_count is %d, not 1 to %d", p->feature_count,
                    LINEAR_FEATURES_MAX);
    if (!given && p->feature_count != 0)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "feature_count is %d, but attention '%s' has no features",
                    p->feature_count, variant->name);
    if (f->status != LONGSPAN_OK) return;
    const linear_shape shape = linear_problem_shape(p, false);
    if (linear_feature_dim(&shape) > LINEAR_FEATURES_MAX)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "attention '%s' of dim %d has %d features, more than %d",
                    variant->name, p->dim, linear_feature_dim(&shape), LINEAR_FEATURES_MAX);
}

static void check_scale(const longspan_linear_problem *p, const linear_variant *variant, failure *f)
{
    if (!isfinite((float)p->scale)) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "scale is not finite");
    const bool rooted = variant->map == LINEAR_MAP_FAVOR || variant->map == LINEAR_MAP_BASED;
    if (rooted && !(p->scale > 0))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "scale is %g, but attention '%s' takes its square root", p->scale,
                    variant->name);
    if (variant->map == LINEAR_MAP_TAYLOR && p->scale != 1)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "scale %g: attention '%s' takes q and k at unit length", p->scale,
                    variant->name);
}

static void check_variant(const longspan_linear_problem *p, const linear_variant *variant, failure *f)
{
    if (!p->causal && !variant->two_sided)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "attention '%s' needs causal: its states have an order",
                    variant->name);
    check_scale(p, variant, f);
    check_array("head_log_decay", p->head_log_decay, variant->decay == LINEAR_DECAY_HEAD, variant, f);
    check_array("bonus", p->bonus, variant->reads_before, variant, f);
    check_features(p, variant, f);
    if (f->status != LONGSPAN_OK) return;
    for (int h = 0; p->head_log_decay && h < linear_problem_heads(p); h++)
        if (isnan(p->head_log_decay[h]) || p->head_log_decay[h] == INFINITY)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "head_log_decay[%d] is %g, neither finite nor -inf", h,
                        (double)p->head_log_decay[h]);
}

longspan_status linear_problem_complete(longspan_linear_problem *p, failure *f)
{
    if (!p->attention) return failure_set(f, LONGSPAN_ERROR_ARGUMENT, "attention is NULL, not the name of a variant");
    const linear_variant *variant = linear_variant_find(p->attention);
    if (!variant) return failure_set(f, LONGSPAN_ERROR_ARGUMENT, "attention '%s' is not known", p->attention);
    fill_defaults(p, variant);
    check_sizes(p, f);
    if (f->status != LONGSPAN_OK) return f->status;
    problem_check_documents(p->documents, p->document_count, p->tokens, f);
    check_variant(p, variant, f);
    return f->status;
}

longspan_status linear_problem_check_equal(longspan_context *context, const longspan_linear_problem *p, failure *f)
{
    const int64_t documents = p->document_count > 0 ? p->document_count + 1 : 0;
    const int64_t heads = linear_problem_heads(p), dim = p->dim > 0 && p->dim <= MOST_DIM ? p->dim : 0;
    const int64_t bonus = heads <= MOST_HEADS ? heads * dim : 0, features = p->feature_count * dim;
    const size_t word = sizeof(float);
    const agreement_value equal[] = {
        {"attention", agreement_hash_text(p->attention)},
        {"batch", p->batch},
        {"tokens", p->tokens},
        {"heads", p->heads},
        {"k_heads", p->k_heads},
        {"v_heads", p->v_heads},
        {"dim", p->dim},
        {"value_dim", p->value_dim},
        {"type", p->type},
        {"out_type", p->out_type},
        {"causal", p->causal != 0},
        {"document_count", p->document_count},
        {"documents", problem_hash_array(p->documents, sizeof *p->documents, documents, most_tokens)},
        {"scale", agreement_bits(p->scale)},
        {"head_log_decay", problem_hash_array(p->head_log_decay, word, heads, MOST_HEADS)},
        {"bonus", problem_hash_array(p->bonus, word, bonus, (int64_t)MOST_HEADS * MOST_DIM)},
        {"feature_count", p->feature_count},
        {"features", problem_hash_array(p->features, word, features, (int64_t)LINEAR_FEATURES_MAX * MOST_DIM)},
        {"strategy", agreement_hash_text(p->strategy)},
    };
    return context_agree_equal(context, equal, sizeof equal / sizeof *equal, f);
}
