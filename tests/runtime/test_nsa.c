/* Native sparse attention against its definition in float64: pooled keys, the selection by what they weigh, the window,
 * gates; odd lengths, blocks that straddle shards, queries without pooled keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/number.h"
#include "tests/runtime/oracle.h"
#include "tests/runtime/problem.h"

static int ranks, my_rank;

enum { MOST_TOKENS = 160, MOST_DIM = 32 };

typedef struct {
    int64_t length, stride, block, top, window;
} sizes;

/* All rows of q, k and v, and gates, as every rank can make them. */
typedef struct {
    longspan_problem problem;
    sizes n;
    float *q, *k, *v, *gates;
} model;

static longspan_context *default_context(void)
{
    test_problem t = make_problem(1, 1, 1, 1);
    longspan_status status;
    t.threads = 1;
    longspan_context *context = open_context(&t, &status);
    assert_non_null(context);
    return context;
}

/* Numbers that the type holds exactly. */
static float *make_rows(const longspan_problem *p, int which, int64_t tokens, int heads, int dim)
{
    float *rows = malloc((size_t)(tokens * heads * dim) * sizeof *rows);
    assert_non_null(rows);
    for (int64_t i = 0; i < tokens; i++)
        for (int h = 0; h < heads; h++)
            for (int d = 0; d < dim; d++) {
                const float made = (float)made_number(7, which, 0, i, h, d);
                char stored[4];
                number_narrow((kernel_type)p->type, &made, stored, 1);
                number_widen((kernel_type)p->type, stored, &rows[(i * heads + h) * dim + d], 1);
            }
    return rows;
}

static model model_make(const longspan_problem *given, sizes n)
{
    const longspan_problem p = oracle_defaults(given);
    model m = {.problem = p, .n = n};
    m.q = make_rows(&p, 0, p.queries, p.heads, p.dim);
    m.k = make_rows(&p, 1, p.keys, p.kv_heads, p.dim);
    m.v = make_rows(&p, 2, p.keys, p.kv_heads, p.value_dim);
    m.gates = malloc((size_t)(p.queries * p.heads * 3) * sizeof *m.gates);
    assert_non_null(m.gates);
    for (int64_t i = 0; i < p.queries * p.heads * 3; i++)
        m.gates[i] = (float)(1 / (1 + exp(-made_number(8, 3, 0, i, 0, 0))));
    return m;
}

static void model_free(model *m)
{
    free(m->q);
    free(m->k);
    free(m->v);
    free(m->gates);
}

/* Element d of key or value c of the pooled ones. */
static double pooled(const model *m, const float *rows, int dim, int64_t c, int head, int d)
{
    double sum = 0;
    for (int64_t j = c * m->n.stride; j < c * m->n.stride + m->n.length; j++)
        sum += (double)rows[(j * m->problem.kv_heads + head) * dim + d];
    return sum / (double)m->n.length;
}

/* weights[c] = exp of the scores, over their sum; 0 where `sees` says no. Nothing where no key is seen. */
static void softmax(const double *scores, const bool *sees, int64_t count, double *weights)
{
    double largest = -INFINITY, sum = 0;
    for (int64_t c = 0; c < count; c++)
        if (sees[c] && scores[c] > largest) largest = scores[c];
    for (int64_t c = 0; c < count; c++) sum += weights[c] = sees[c] ? exp(scores[c] - largest) : 0;
    for (int64_t c = 0; c < count; c++)
        if (sum > 0) weights[c] /= sum;
}

static double score(const model *m, int64_t i, int h, const double *key)
{
    double sum = 0;
    for (int d = 0; d < m->problem.dim; d++)
        sum += (double)m->q[(i * m->problem.heads + h) * m->problem.dim + d] * key[d];
    return sum * m->problem.scale;
}

/* The probabilities of a query's pooled keys, [count] of them. */
static int64_t pooled_weights(const model *m, int64_t i, int h, double *weights)
{
    static double scores[MOST_TOKENS];
    bool sees[MOST_TOKENS];
    const longspan_problem *p = &m->problem;
    const int64_t position = i + p->keys - p->queries;
    int64_t count = 0;
    for (; count * m->n.stride + m->n.length <= p->keys; count++) {
        double key[MOST_DIM];
        for (int d = 0; d < p->dim; d++) key[d] = pooled(m, m->k, p->dim, count, h / (p->heads / p->kv_heads), d);
        scores[count] = score(m, i, h, key);
        sees[count] = count * m->n.stride + m->n.length - 1 <= position;
    }
    softmax(scores, sees, count, weights);
    return count;
}

/* Equations (9) and (10), term by term, then the best. */
static void select_blocks(const model *m, int64_t i, int kv_head, bool *chosen)
{
    const longspan_problem *p = &m->problem;
    const int group = p->heads / p->kv_heads;
    const int64_t position = i + p->keys - p->queries, own = position / m->n.block;
    double importance[MOST_TOKENS] = {0}, weights[MOST_TOKENS];
    memset(chosen, 0, MOST_TOKENS * sizeof *chosen);
    if (position < 0) return;
    for (int h = kv_head * group; h < (kv_head + 1) * group; h++) {
        const int64_t count = pooled_weights(m, i, h, weights);
        for (int64_t j = 0; j <= own; j++)
            for (int64_t a = 0; a < m->n.block / m->n.stride; a++)
                for (int64_t b = 0; b < m->n.length / m->n.stride; b++) {
                    const int64_t c = m->n.block / m->n.stride * j + a - b;
                    if (c >= 0 && c < count) importance[j] += weights[c];
                }
    }
    chosen[0] = chosen[own] = chosen[own > 0 ? own - 1 : 0] = true;
    int64_t held = own == 0 ? 1 : own == 1 ? 2 : 3;
    for (; held < m->n.top && held <= own; held++) {
        int64_t best = -1;
        for (int64_t j = 0; j <= own; j++)
            if (!chosen[j] && (best < 0 || importance[j] > importance[best])) best = j;
        chosen[best] = true;
    }
}

/* gate * attention over the keys that are seen, added to out [E]. */
static void add_attention(const model *m, int64_t i, int h, const bool *sees, double gate, double *out)
{
    static double scores[MOST_TOKENS], weights[MOST_TOKENS];
    const longspan_problem *p = &m->problem;
    const int head = h / (p->heads / p->kv_heads);
    for (int64_t j = 0; j < p->keys; j++) {
        double key[MOST_DIM];
        for (int d = 0; d < p->dim; d++) key[d] = (double)m->k[(j * p->kv_heads + head) * p->dim + d];
        scores[j] = score(m, i, h, key);
    }
    softmax(scores, sees, p->keys, weights);
    for (int64_t j = 0; j < p->keys; j++)
        for (int e = 0; e < p->value_dim; e++)
            out[e] += gate * weights[j] * (double)m->v[(j * p->kv_heads + head) * p->value_dim + e];
}

static void reference(const model *m, int64_t i, int h, const bool *chosen, double *out)
{
    const longspan_problem *p = &m->problem;
    const float *gates = m->gates + (i * p->heads + h) * 3;
    const int64_t position = i + p->keys - p->queries;
    double weights[MOST_TOKENS];
    bool sees[MOST_TOKENS];
    for (int e = 0; e < p->value_dim; e++) out[e] = 0;
    const int64_t count = pooled_weights(m, i, h, weights);
    for (int64_t c = 0; c < count; c++)
        for (int e = 0; e < p->value_dim && weights[c] > 0; e++)
            out[e] += (double)gates[0] * weights[c] * pooled(m, m->v, p->value_dim, c, h / (p->heads / p->kv_heads), e);
    for (int64_t j = 0; j < p->keys; j++) sees[j] = j <= position && chosen[j / m->n.block];
    add_attention(m, i, h, sees, (double)gates[1], out);
    for (int64_t j = 0; j < p->keys; j++) sees[j] = j <= position && j > position - m->n.window;
    add_attention(m, i, h, sees, (double)gates[2], out);
}

/* Rows of this rank in the problem's type. */
static void *local_rows(const longspan_problem *p, const float *rows, longspan_range own, int64_t width)
{
    void *local = malloc((size_t)((own.end - own.begin) * width + 1) * sizeof(float));
    assert_non_null(local);
    number_narrow((kernel_type)p->type, rows + own.begin * width, local, (own.end - own.begin) * width);
    return local;
}

/* Squared error and norm of this rank's rows, and how many lists are not those of the definition. */
static void compare(const model *m, longspan_range own, const longspan_selection *selection, const char *out,
                    double sums[3])
{
    const longspan_problem *p = &m->problem;
    int lists;
    int64_t most;
    const int32_t *blocks = longspan_selection_blocks(selection, &lists, &most);
    const size_t size = number_size((kernel_type)p->out_type);
    for (int64_t i = own.begin; i < own.end; i++)
        for (int g = 0; g < p->kv_heads; g++) {
            bool chosen[MOST_TOKENS], listed[MOST_TOKENS] = {false};
            select_blocks(m, i, g, chosen);
            for (int64_t n = 0; n < most; n++) {
                const int32_t block = blocks[((i - own.begin) * lists + g) * most + n];
                if (block >= 0) listed[block] = true;
            }
            sums[2] += lists != p->kv_heads || memcmp(chosen, listed, sizeof listed) != 0;
            for (int h = g * (p->heads / p->kv_heads); h < (g + 1) * (p->heads / p->kv_heads); h++) {
                double exact[MOST_DIM];
                float row[MOST_DIM];
                reference(m, i, h, chosen, exact);
                number_widen((kernel_type)p->out_type,
                             out + (size_t)(((i - own.begin) * p->heads + h) * p->value_dim) * size, row, p->value_dim);
                for (int e = 0; e < p->value_dim; e++) {
                    sums[0] += ((double)row[e] - exact[e]) * ((double)row[e] - exact[e]);
                    sums[1] += exact[e] * exact[e];
                }
            }
        }
}

static void assert_right(longspan_context *context, const longspan_problem *given, sizes n)
{
    model m = model_make(given, n);
    longspan_problem p = *given;
    longspan_nsa *nsa = NULL;
    char text[96];
    snprintf(text, sizeof text, "nsa:%lld,%lld,%lld,%lld,%lld", (long long)n.length, (long long)n.stride,
             (long long)n.block, (long long)n.top, (long long)n.window);
    p.pattern = text;
    p.causal = 1;
    const longspan_range queries = longspan_selection_tokens(context, &p, LONGSPAN_QUERIES);
    const longspan_range keys = longspan_selection_tokens(context, &p, LONGSPAN_KEYS);
    const int64_t q_width = (int64_t)m.problem.heads * m.problem.dim;
    const int64_t k_width = (int64_t)m.problem.kv_heads * m.problem.dim,
                  v_width = (int64_t)m.problem.kv_heads * m.problem.value_dim;
    void *q = local_rows(&p, m.q, queries, q_width), *k = local_rows(&p, m.k, keys, k_width);
    void *v = local_rows(&p, m.v, keys, v_width);
    char *out =
        malloc((size_t)((queries.end - queries.begin) * m.problem.heads * m.problem.value_dim + 1) * sizeof(float));
    assert_non_null(out);
    double sums[3] = {0};
    if (longspan_nsa_create(context, &p, q, k, &nsa) != LONGSPAN_OK)
        fail_msg("%s: %s", text, longspan_context_error(context));
    for (int repeat = 0; repeat < 2; repeat++)
        assert_int_equal(longspan_nsa_execute(nsa, q, k, v, m.gates + queries.begin * m.problem.heads * 3, out),
                         LONGSPAN_OK);
    compare(&m, queries, longspan_nsa_selection(nsa), out, sums);
    MPI_Allreduce(MPI_IN_PLACE, sums, 3, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    const double bar[] = {1e-6, 0x1p-11 + 1e-6, 0x1p-8 + 1e-6}, error = sqrt(sums[0] / sums[1]);
    if (!(error <= bar[p.out_type]) || sums[2] > 0)
        fail_msg("%s, N=%lld M=%lld on %d ranks: relative RMS %.3g, %.0f lists are not those of the definition", text,
                 (long long)m.problem.queries, (long long)m.problem.keys, ranks, error, sums[2]);
    longspan_nsa_destroy(&nsa);
    free(q);
    free(k);
    free(v);
    free(out);
    model_free(&m);
}

static void nsa_is_right(void **state)
{
    (void)state;
    static const sizes shapes[] = {
        {8, 4, 8, 4, 10}, {4, 4, 12, 3, 1}, {12, 4, 16, 5, 200}, {1, 1, 5, 3, 7}, {32, 16, 64, 3, 40}};
    longspan_context *context = default_context();
    for (int n = 0; n < 5; n++) {
        longspan_problem p = make_problem((int64_t[]){131, 97, 64, 29, 150}[n], 4, n % 2 ? 4 : 2, 16).problem;
        if (n == 2) p.value_dim = 24;
        if (n == 3) p.type = p.out_type = LONGSPAN_FLOAT16;
        assert_right(context, &p, shapes[n]);
    }
    longspan_problem p = make_problem(50, 2, 1, 8).problem;
    p.keys = 90;
    assert_right(context, &p, shapes[0]);
    p.keys = 30;
    assert_right(context, &p, shapes[0]);
    p = make_problem(5, 2, 1, 8).problem; /* no pooled key at all */
    assert_right(context, &p, shapes[0]);
    longspan_context_destroy(&context);
}

static void assert_refused(longspan_context *context, const longspan_problem *p, longspan_status status,
                           const char *first, const char *second)
{
    static const float zeros[64 * 4 * 8];
    longspan_nsa *nsa = NULL;
    const longspan_status got = longspan_nsa_create(context, p, zeros, zeros, &nsa);
    const char *text = longspan_context_error(context);
    int wrong = got != status || nsa || !strstr(text, first) || !strstr(text, second);
    MPI_Allreduce(MPI_IN_PLACE, &wrong, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (wrong) fail_msg("expected %d with '%s' and '%s', got %d: %s", status, first, second, got, text);
}

static void what_nsa_does_not_know_is_refused(void **state)
{
    (void)state;
    static const int64_t documents[] = {0, 30, 64};
    static const float heads[4] = {0};
    longspan_context *context = default_context();
    longspan_problem good = make_problem(64, 4, 2, 8).problem, p;
    good.pattern = "nsa:8,4,16,3,9";
    good.causal = 1;
    p = good, p.causal = 0, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'nsa'", "causal");
    p = good, p.window_left = 5, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'nsa'", "window");
    p = good, p.rope_dim = 4, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'nsa'", "RoPE");
    p = good, p.sinks = heads, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'nsa'", "sinks");
    p = good, p.alibi_slopes = heads, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'nsa'", "ALiBi");
    p = good, p.softcap = 3, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'nsa'", "softcap");
    p = good, p.batch = 2, assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'nsa'", "batch 2");
    p = good, p.documents = documents, p.document_count = 2;
    assert_refused(context, &p, LONGSPAN_ERROR_UNSUPPORTED, "'nsa'", "documents");
    p = good, p.pattern = "nsa:8,3,16,3,9", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "nsa:8,3", "STRIDE");
    p = good, p.pattern = "nsa:8,4,4,3,9", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "nsa:8,4,4", "BLOCK");
    p = good, p.pattern = "nsa:8,4,16,2,9", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "nsa:8", "TOP");
    p = good, p.pattern = "moba:16,2", assert_refused(context, &p, LONGSPAN_ERROR_ARGUMENT, "'moba'", "nsa");
    longspan_context_destroy(&context);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nsa_is_right),
        cmocka_unit_test(what_nsa_does_not_know_is_refused),
    };
    mpi_group_begin(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &my_rank);
    return mpi_group_end(cmocka_run_group_tests(tests, NULL, NULL));
}
