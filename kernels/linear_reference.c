/* Each variant's recurrence, S_t from S_(t-1) and o_t from S_t, as its paper has it. */
#include "kernels/linear_reference.h"

#include <math.h>
#include <string.h>

typedef const linear_reference *reference_head;
typedef const linear_reference_token *reference_token;

typedef struct {
    const char *name;
    int (*features)(reference_head head); /* F */
    int normalised;
    int reads_first;
    void (*write)(reference_head head, reference_token token);
    void (*read)(reference_head head, reference_token token, double *out);
} recurrence;

static const recurrence *recurrence_find(const char *name);

static double *state_row(reference_head head, int f)
{
    return head->state + (size_t)f * (size_t)head->columns;
}

/* Sums of b, [F]. */
static double *state_keys(reference_head head)
{
    return state_row(head, recurrence_find(head->variant)->features(head));
}

/* S_f += b v, z_f += b if there is one. */
static void feature_write(reference_head head, reference_token token, int f, double b, double *keys)
{
    for (int c = 0; c < head->columns; c++) state_row(head, f)[c] += b * (double)token->v[c];
    if (keys) keys[f] += b;
}

/* out += a S_f; a z_f. */
static double feature_read(reference_head head, int f, double a, const double *keys, double *out)
{
    for (int c = 0; c < head->columns; c++) out[c] += a * state_row(head, f)[c];
    return keys ? a * keys[f] : 0;
}

static void outputs_divide(reference_head head, double denominator, double *out)
{
    for (int c = 0; c < head->columns; c++) out[c] = denominator == 0 ? 0 : out[c] / denominator;
}

static int dim_of(reference_head head)
{
    return head->dim;
}

static double norm_of(const float *x, int dim)
{
    double sum = 0;
    for (int d = 0; d < dim; d++) sum += (double)x[d] * (double)x[d];
    return sqrt(sum);
}

/* Katharopoulos et al. 2020, arXiv 2006.16236, equations 7 and 18 to 20: s_i = s_(i-1) + phi(k) v^T, z_i = z_(i-1) +
 * phi(k), y_i = phi(q)^T s_i / (phi(q)^T z_i + 1e-6), phi(x) = elu(x) + 1. */
static double elu_feature(double x)
{
    return x > 0 ? x + 1 : exp(x);
}

static void elu_write(reference_head head, reference_token token)
{
    double *keys = state_keys(head);
    for (int d = 0; d < head->dim; d++) feature_write(head, token, d, elu_feature((double)token->k[d]), keys);
}

static void elu_read(reference_head head, reference_token token, double *out)
{
    double denominator = 1e-6;
    for (int d = 0; d < head->dim; d++)
        denominator += feature_read(head, d, elu_feature(head->scale * (double)token->q[d]), state_keys(head), out);
    outputs_divide(head, denominator, out);
}

/* Li et al. 2020, arXiv 2007.14902, section 3.2: (sum v_j + q^T sum k_j v_j^T) / (N + q^T (sum k_j + 1e-6)), q and k
 * over their norms. Feature 0 has sum v_j and N. */
static int taylor_features(reference_head head)
{
    return 1 + head->dim;
}

static void taylor_write(reference_head head, reference_token token)
{
    const double norm = norm_of(token->k, head->dim);
    double *keys = state_keys(head);
    feature_write(head, token, 0, 1, keys);
    for (int d = 0; d < head->dim; d++)
        feature_write(head, token, 1 + d, norm == 0 ? 0 : (double)token->k[d] / norm, keys);
}

static void taylor_read(reference_head head, reference_token token, double *out)
{
    const double norm = norm_of(token->q, head->dim), *keys = state_keys(head);
    double denominator = feature_read(head, 0, 1, keys, out);
    for (int d = 0; d < head->dim; d++) {
        const double q = norm == 0 ? 0 : (double)token->q[d] / norm;
        denominator += feature_read(head, 1 + d, q, keys, out) + q * 1e-6;
    }
    outputs_divide(head, denominator, out);
}

/* Choromanski et al. 2020, arXiv 2009.14794, lemma 1 and equation 5: phi(x) = exp(w_i . x - |x|^2 / 2) / sqrt(m), x
 * times the square root of the scale. */
static int favor_features(reference_head head)
{
    return head->features;
}

static double favor_feature(reference_head head, const float *x, int i)
{
    const double root = sqrt(head->scale), length = root * norm_of(x, head->dim);
    double product = 0;
    for (int d = 0; d < head->dim; d++)
        product += (double)head->projections[(size_t)i * (size_t)head->dim + (size_t)d] * (root * (double)x[d]);
    return exp(product - length * length / 2) / sqrt(head->features);
}

static void favor_write(reference_head head, reference_token token)
{
    double *keys = state_keys(head);
    for (int i = 0; i < head->features; i++) feature_write(head, token, i, favor_feature(head, token->k, i), keys);
}

static void favor_read(reference_head head, reference_token token, double *out)
{
    double denominator = 0;
    for (int i = 0; i < head->features; i++)
        denominator += feature_read(head, i, favor_feature(head, token->q, i), state_keys(head), out);
    outputs_divide(head, denominator, out);
}

/* Arora et al. 2024, arXiv 2402.18668, section 4.1: phi(x) = [1, x, x (x) x / sqrt(2)], x over the fourth root of D. */
static int based_features(reference_head head)
{
    return 1 + head->dim + head->dim * head->dim;
}

static double based_feature(reference_head head, const float *x, int f)
{
    if (f == 0) return 1;
    if (f <= head->dim) return sqrt(head->scale) * (double)x[f - 1];
    const int pair = f - 1 - head->dim;
    return head->scale * (double)x[pair / head->dim] * (double)x[pair % head->dim] / sqrt(2);
}

static void based_write(reference_head head, reference_token token)
{
    double *keys = state_keys(head);
    for (int f = 0; f < based_features(head); f++)
        feature_write(head, token, f, based_feature(head, token->k, f), keys);
}

static void based_read(reference_head head, reference_token token, double *out)
{
    double denominator = 0;
    const double *keys = state_keys(head);
    for (int f = 0; f < based_features(head); f++)
        denominator += feature_read(head, f, based_feature(head, token->q, f), keys, out);
    outputs_divide(head, denominator, out);
}

/* Shen et al. 2018, arXiv 1812.01243, equation 5: softmax over features of q, times the mean of v that softmax over the
 * tokens of k weighs, a feature at a time. */
static void efficient_write(reference_head head, reference_token token)
{
    double *keys = state_keys(head);
    for (int d = 0; d < head->dim; d++) feature_write(head, token, d, exp((double)token->k[d]), keys);
}

static void efficient_read(reference_head head, reference_token token, double *out)
{
    const double *keys = state_keys(head);
    double largest = -INFINITY, sum = 0;
    for (int d = 0; d < head->dim; d++) largest = fmax(largest, head->scale * (double)token->q[d]);
    for (int d = 0; d < head->dim; d++) sum += exp(head->scale * (double)token->q[d] - largest);
    for (int d = 0; d < head->dim; d++) {
        const double weight = exp(head->scale * (double)token->q[d] - largest) / sum;
        if (keys[d] != 0) feature_read(head, d, weight / keys[d], NULL, out);
    }
}

/* S = decay S + weight k v^T, the decay one number. */
static void decayed_write(reference_head head, reference_token token, double decay, double weight)
{
    for (int d = 0; d < head->dim; d++) {
        for (int c = 0; c < head->columns; c++) state_row(head, d)[c] *= decay;
        feature_write(head, token, d, weight * (double)token->k[d], NULL);
    }
}

/* o = S^T (scale q), of every variant that is not normalised. */
static void plain_read(reference_head head, reference_token token, double *out)
{
    for (int d = 0; d < head->dim; d++) feature_read(head, d, head->scale * (double)token->q[d], NULL, out);
}

/* Sun et al. 2023, arXiv 2307.08621, equations 6 and 8: gamma = 1 - 2^(-5 - h). */
static void retention_write(reference_head head, reference_token token)
{
    decayed_write(head, token, 1 - pow(2, -5 - head->head), 1);
}

/* Qin et al. 2024, arXiv 2401.04658, section 3: kv_t = lambda kv_(t-1) + k_t v_t^T. */
static void lightning_write(reference_head head, reference_token token)
{
    decayed_write(head, token, exp((double)token->log_decay[0]), 1);
}

/* Dao & Gu 2024, arXiv 2405.21060, equation 1, discretised: h_t = exp(a_t) h_(t-1) + Delta_t B_t x_t and
 * y_t = C_t^T h_t. */
static void ssd_write(reference_head head, reference_token token)
{
    decayed_write(head, token, exp((double)token->log_decay[0]), token->beta);
}

/* Yang et al. 2023, arXiv 2312.06635, equation 3: S_t = Diag(alpha_t) S_(t-1) + k_t v_t^T. */
static void gla_write(reference_head head, reference_token token)
{
    for (int d = 0; d < head->dim; d++) {
        const double alpha = exp((double)token->log_decay[d]);
        for (int c = 0; c < head->columns; c++) state_row(head, d)[c] *= alpha;
        feature_write(head, token, d, (double)token->k[d], NULL);
    }
}

/* Peng et al. 2024, arXiv 2404.05892, section 4.2: wkv_t = Diag(u) k_t^T v_t + S_(t-1), then S_t = Diag(w_t) S_(t-1) +
 * k_t^T v_t. */
static void rwkv6_read(reference_head head, reference_token token, double *out)
{
    plain_read(head, token, out);
    for (int d = 0; d < head->dim; d++)
        for (int c = 0; c < head->columns; c++)
            out[c] +=
                head->scale * (double)token->q[d] * (double)token->bonus[d] * (double)token->k[d] * (double)token->v[c];
}

/* S = (I - beta k k^T) S + beta k v^T. */
static void erase_write(reference_head head, reference_token token)
{
    for (int c = 0; c < head->columns; c++) {
        double held = 0;
        for (int d = 0; d < head->dim; d++) held += (double)token->k[d] * state_row(head, d)[c];
        const double change = token->beta * ((double)token->v[c] - held);
        for (int d = 0; d < head->dim; d++) state_row(head, d)[c] += (double)token->k[d] * change;
    }
}

/* Yang et al. 2024, arXiv 2406.06484, section 2.2: S_t = S_(t-1) (I - beta_t k_t k_t^T) + beta_t v_t k_t^T, S there the
 * transpose. */
static void delta_write(reference_head head, reference_token token)
{
    erase_write(head, token);
}

/* Yang et al. 2024, arXiv 2412.06464, equation 10: S_t = S_(t-1) (alpha_t (I - beta_t k_t k_t^T)) +
 * beta_t v_t k_t^T. */
static void gated_delta_write(reference_head head, reference_token token)
{
    const double alpha = exp((double)token->log_decay[0]);
    for (int d = 0; d < head->dim; d++)
        for (int c = 0; c < head->columns; c++) state_row(head, d)[c] *= alpha;
    erase_write(head, token);
}

/* Kimi Team 2025, arXiv 2510.26692, equation 1: S_t = (I - beta_t k_t k_t^T) Diag(alpha_t) S_(t-1) +
 * beta_t k_t v_t^T. */
static void kda_write(reference_head head, reference_token token)
{
    for (int d = 0; d < head->dim; d++)
        for (int c = 0; c < head->columns; c++) state_row(head, d)[c] *= exp((double)token->log_decay[d]);
    erase_write(head, token);
}

static const recurrence recurrences[] = {
    {"elu", dim_of, 1, 0, elu_write, elu_read},
    {"taylor", taylor_features, 1, 0, taylor_write, taylor_read},
    {"favor", favor_features, 1, 0, favor_write, favor_read},
    {"based", based_features, 1, 0, based_write, based_read},
    {"efficient", dim_of, 1, 0, efficient_write, efficient_read},
    {"retention", dim_of, 0, 0, retention_write, plain_read},
    {"lightning", dim_of, 0, 0, lightning_write, plain_read},
    {"ssd", dim_of, 0, 0, ssd_write, plain_read},
    {"gla", dim_of, 0, 0, gla_write, plain_read},
    {"rwkv6", dim_of, 0, 1, gla_write, rwkv6_read},
    {"delta", dim_of, 0, 0, delta_write, plain_read},
    {"gated-delta", dim_of, 0, 0, gated_delta_write, plain_read},
    {"kda", dim_of, 0, 0, kda_write, plain_read},
};

static const recurrence *recurrence_find(const char *name)
{
    for (size_t i = 0; i < sizeof recurrences / sizeof recurrences[0]; i++)
        if (strcmp(recurrences[i].name, name) == 0) return &recurrences[i];
    return NULL;
}

size_t linear_reference_size(const linear_reference *head)
{
    const recurrence *r = recurrence_find(head->variant);
    return r ? (size_t)r->features(head) * (size_t)(head->columns + r->normalised) : 0;
}

void linear_reference_write(const linear_reference *head, const linear_reference_token *token)
{
    recurrence_find(head->variant)->write(head, token);
}

void linear_reference_read(const linear_reference *head, const linear_reference_token *token, double *out)
{
    memset(out, 0, (size_t)head->columns * sizeof *out);
    recurrence_find(head->variant)->read(head, token, out);
}

void linear_reference_step(const linear_reference *head, const linear_reference_token *token, double *out)
{
    const recurrence *r = recurrence_find(head->variant);
    if (r->reads_first) linear_reference_read(head, token, out);
    linear_reference_write(head, token);
    if (!r->reads_first) linear_reference_read(head, token, out);
}
