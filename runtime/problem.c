#include "runtime/problem.h"

#include "kernels/entmax.h"
#include "partition/mask.h"
#include "partition/patterns.h"

#include <math.h>
#include <string.h>

void longspan_problem_default(longspan_problem *problem_p)
{
    *problem_p = (longspan_problem){
        .batch = 1,
        .window_left = MASK_UNLIMITED,
        .window_right = MASK_UNLIMITED,
        .chunks_left = MASK_UNLIMITED,
        .chunks_right = MASK_UNLIMITED,
        .rope_base = 10000,
        .strategy = "auto",
        .layout = "auto",
    };
}

/* A distance that no two tokens have means the same as any larger one, and nothing overflows with it. */
static void bound_distance(int64_t *distance, int64_t beyond)
{
    if (*distance > most_tokens) *distance = beyond;
}

static void fill_defaults(longspan_problem *p)
{
    if (p->keys == 0) p->keys = p->queries;
    if (p->kv_heads == 0) p->kv_heads = p->heads;
    if (p->value_dim == 0) p->value_dim = p->dim;
    if (p->scale == 0 && p->dim > 0) p->scale = 1 / sqrt(p->dim);
    if (p->alpha != 0 && p->support == 0) p->support = ENTMAX_DEFAULT_SUPPORT;
    if (!p->strategy) p->strategy = "auto";
    if (!p->layout) p->layout = "auto";
    bound_distance(&p->prefix, most_tokens);
    bound_distance(&p->window_left, MASK_UNLIMITED);
    bound_distance(&p->window_right, MASK_UNLIMITED);
    bound_distance(&p->chunk, most_tokens);
    bound_distance(&p->chunks_left, MASK_UNLIMITED);
    bound_distance(&p->chunks_right, MASK_UNLIMITED);
}

bool problem_type_is_known(longspan_type type)
{
    return type == LONGSPAN_FLOAT32 || type == LONGSPAN_FLOAT16 || type == LONGSPAN_BFLOAT16;
}

static void check_sizes(const longspan_problem *p, failure *f)
{
    if (p->batch < 1 || p->batch > MOST_BATCH)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "batch is %lld, not 1 to %d", (long long)p->batch, MOST_BATCH);
    if (p->queries < 1 || p->queries > most_tokens)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "queries is %lld, not 1 to 2^31", (long long)p->queries);
    if (p->keys < 1 || p->keys > most_tokens)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "keys is %lld, not 1 to 2^31", (long long)p->keys);
    if (p->heads < 1 || p->heads > MOST_HEADS)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "heads is %d, not 1 to %d", p->heads, MOST_HEADS);
    if (p->kv_heads < 1 || (p->heads > 0 && p->heads % p->kv_heads != 0))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "heads %d is not a multiple of kv_heads %d", p->heads, p->kv_heads);
    if (p->dim < 1 || p->dim > MOST_DIM)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "dim is %d, not 1 to %d", p->dim, MOST_DIM);
    if (p->value_dim < 1 || p->value_dim > MOST_DIM)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "value_dim is %d, not 1 to %d", p->value_dim, MOST_DIM);
    if (!problem_type_is_known(p->type) || !problem_type_is_known(p->out_type))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "type or out_type is not one of longspan_type");
    const double tokens = (double)p->batch * (double)(p->queries > p->keys ? p->queries : p->keys);
    if (tokens * p->heads * MOST_DIM > most_elements)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for %.3g tokens of %d heads", tokens, p->heads);
}

void problem_check_documents(const int64_t *documents, int64_t document_count, int64_t tokens, failure *f)
{
    if (!documents) {
        if (document_count != 0)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "document_count is %lld but documents is NULL",
                        (long long)document_count);
        return;
    }
    if (document_count < 1) {
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "document_count is %lld, not positive", (long long)document_count);
        return;
    }
    if (documents[0] != 0 || documents[document_count] != tokens)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "documents run from %lld to %lld, not from 0 to %lld",
                    (long long)documents[0], (long long)documents[document_count], (long long)tokens);
    for (int64_t d = 0; d < document_count; d++)
        if (documents[d] > documents[d + 1]) {
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "documents[%lld] = %lld is above documents[%lld] = %lld",
                        (long long)d, (long long)documents[d], (long long)d + 1, (long long)documents[d + 1]);
            return;
        }
}

/* A limit is a distance or -1. */
static void check_limit(const char *name, int64_t value, failure *f)
{
    if (value < MASK_UNLIMITED)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "%s is %lld, neither a distance nor -1 for no limit", name,
                    (long long)value);
}

static void check_mask(const longspan_problem *p, failure *f)
{
    check_limit("window_left", p->window_left, f);
    check_limit("window_right", p->window_right, f);
    check_limit("chunks_left", p->chunks_left, f);
    check_limit("chunks_right", p->chunks_right, f);
    if (p->prefix < 0) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "prefix is %lld, negative", (long long)p->prefix);
    if (p->prefix > 0 && !p->causal)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "prefix %lld needs causal: without it every key of the prefix is seen", (long long)p->prefix);
    if (p->chunk < 0) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "chunk is %lld, negative", (long long)p->chunk);
    if (p->chunk == 0 && (p->chunks_left != MASK_UNLIMITED || p->chunks_right != MASK_UNLIMITED))
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "chunks_left and chunks_right need chunk, the tokens of a chunk");
    if (p->documents && p->queries != p->keys)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "documents need as many queries as keys, but there are %lld queries and %lld keys",
                    (long long)p->queries, (long long)p->keys);
    problem_check_documents(p->documents, p->document_count, p->queries, f);
    for (int64_t b = 0; p->key_lengths && f->status == LONGSPAN_OK && b < p->batch; b++)
        if (p->key_lengths[b] < 0 || p->key_lengths[b] > p->keys)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "key_lengths[%lld] is %lld, not 0 to the %lld keys", (long long)b,
                        (long long)p->key_lengths[b], (long long)p->keys);
}

static void check_scores(const longspan_problem *p, failure *f)
{
    if (!isfinite(p->scale)) failure_set(f, LONGSPAN_ERROR_ARGUMENT, "scale is not finite");
    if (!(p->softcap >= 0) || !isfinite((float)p->softcap))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "softcap is %g, neither positive nor 0 for none", p->softcap);
    if (p->softcap > 0 && (float)p->softcap < 1e-30f)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "softcap is %g, too small for float32", p->softcap);
    if (p->rope_dim < 0 || p->rope_dim % 2 != 0 || p->rope_dim > p->dim)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "rope_dim is %d, not an even number from 0 to dim %d", p->rope_dim,
                    p->dim);
    if (p->rope_dim > 0 && (!isfinite(p->rope_base) || p->rope_base <= 0))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "rope_base is %g, not a positive number", p->rope_base);
    if (f->status != LONGSPAN_OK) return;
    for (int h = 0; p->alibi_slopes && h < p->heads; h++)
        if (!isfinite(p->alibi_slopes[h]))
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "alibi_slopes[%d] is %g, not finite", h,
                        (double)p->alibi_slopes[h]);
    for (int h = 0; p->sinks && h < p->heads; h++)
        if (isnan(p->sinks[h]) || p->sinks[h] == INFINITY)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "sinks[%d] is %g, neither finite nor -inf for none", h,
                        (double)p->sinks[h]);
}

/* Why entmax cannot honour a pattern; NULL if it can. */
static const char *entmax_pattern_fault(const char *text)
{
    pattern_choice choice;
    char why[PATTERN_WHY_SIZE];
    if (!text || !pattern_choice_parse(text, &choice, why)) return NULL;
    if (choice.kind->terms) return "it counts keys more than once, for which entmax has no meaning";
    return choice.kind->flags & BLOCKS_ARE_SELECTED ? "entmax does not fold keys that each query selects" : NULL;
}

static void check_entmax(const longspan_problem *p, failure *f)
{
    if (p->alpha == 0) {
        if (p->support != 0)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "support is %d, but softmax attention has none: it needs alpha",
                        p->support);
        return;
    }
    if (!(p->alpha >= entmax_least_alpha && p->alpha <= 2))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "alpha is %g, neither %g to 2 nor 0 for softmax", p->alpha,
                    entmax_least_alpha);
    if (p->support < 1 || p->support > ENTMAX_MOST_SUPPORT)
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "support is %d, not 1 to %d", p->support, ENTMAX_MOST_SUPPORT);
    if (p->sinks)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "sinks with alpha %g: they are terms of the denominator that softmax attention alone has", p->alpha);
    const char *fault = entmax_pattern_fault(p->pattern);
    if (fault)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern '%.100s' with alpha %g: %s", p->pattern, p->alpha, fault);
    if (p->relative_keys)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "relative keys with alpha %g: softmax attention alone has them", p->alpha);
}

longspan_status problem_complete(longspan_problem *p, failure *f)
{
    fill_defaults(p);
    check_sizes(p, f);
    check_mask(p, f);
    check_scores(p, f);
    problem_check_relative(p, f);
    check_entmax(p, f);
    return f->status;
}

int problem_pair_elements(const longspan_problem *p)
{
    if (p->alpha != 0) return p->dim;
    return p->dim + p->value_dim + (p->relative_keys ? p->dim : 0);
}

int64_t problem_hash_array(const void *values, size_t size, int64_t count, int64_t most)
{
    return values && count > 0 && count <= most ? agreement_hash_bytes(values, size * (size_t)count) : values != NULL;
}

longspan_status problem_check_equal(longspan_context *context, const longspan_problem *p, failure *f)
{
    const int64_t documents = p->document_count > 0 ? p->document_count + 1 : 0;
    const agreement_value equal[] = {
        {"batch", p->batch},
        {"queries", p->queries},
        {"keys", p->keys},
        {"heads", p->heads},
        {"kv_heads", p->kv_heads},
        {"dim", p->dim},
        {"value_dim", p->value_dim},
        {"type", p->type},
        {"out_type", p->out_type},
        {"causal", p->causal != 0},
        {"prefix", p->prefix},
        {"window_left", p->window_left},
        {"window_right", p->window_right},
        {"chunk", p->chunk},
        {"chunks_left", p->chunks_left},
        {"chunks_right", p->chunks_right},
        {"document_count", p->document_count},
        {"documents", problem_hash_array(p->documents, sizeof *p->documents, documents, most_tokens)},
        {"pattern", p->pattern ? agreement_hash_text(p->pattern) : 0},
        {"block_offset_count", p->block_offset_count},
        {"block_key_count", p->block_key_count},
        {"block_offsets", problem_hash_array(p->block_offsets, sizeof *p->block_offsets, p->block_offset_count, most_tokens)},
        {"block_keys", problem_hash_array(p->block_keys, sizeof *p->block_keys, p->block_key_count, most_tokens)},
        {"selection", p->selection != NULL},
        {"key_lengths", problem_hash_array(p->key_lengths, sizeof *p->key_lengths, p->batch, MOST_BATCH)},
        {"scale", agreement_bits(p->scale)},
        {"softcap", agreement_bits(p->softcap)},
        {"alibi_slopes", problem_hash_array(p->alibi_slopes, sizeof *p->alibi_slopes, p->heads, MOST_HEADS)},
        {"sinks", problem_hash_array(p->sinks, sizeof *p->sinks, p->heads, MOST_HEADS)},
        {"relative_keys or their biases", problem_hash_relative(p)},
        {"rope_dim", p->rope_dim},
        {"rope_base", agreement_bits(p->rope_base)},
        {"rope_interleaved", p->rope_interleaved != 0},
        {"alpha", agreement_bits(p->alpha)},
        {"support", p->support},
        {"strategy", agreement_hash_text(p->strategy)},
        {"layout", agreement_hash_text(p->layout)},
    };
    return context_agree_equal(context, equal, sizeof equal / sizeof *equal, f);
}
