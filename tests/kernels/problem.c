#include "tests/kernels/problem.h"

#include "kernels/cpu.h"
#include "kernels/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

attention_compute compute_under_test = COMPUTE_FP32;

static void *allocate(size_t bytes)
{
    const size_t rounded = (bytes + 64) / 64 * 64;
    void *memory = aligned_alloc(64, rounded);
    if (!memory) abort();
    memset(memory, 0xff, rounded); /* NaN: whatever is read without having been written shows */
    return memory;
}

double random_uniform(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15; /* splitmix64 */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return (double)((x ^ x >> 31) >> 11) * 0x1p-53;
}

double random_normal(uint64_t *state)
{
    const double radius = sqrt(-2 * log(1 - random_uniform(state)));
    return radius * cos(6.283185307179586 * random_uniform(state));
}

static problem_array array_create(const problem *p, int64_t tokens, int heads, int elements, double size,
                                  uint64_t *state)
{
    problem_array array = {0};
    const int row = p->shape.layout == LAYOUT_GAPS ? elements + 3 : elements;
    array.token_stride = p->shape.layout == LAYOUT_HEAD_MAJOR ? row : (int64_t)row * heads + 5 * (row > elements);
    array.head_stride = p->shape.layout == LAYOUT_HEAD_MAJOR ? row * tokens : row;
    const int64_t count =
        p->shape.layout == LAYOUT_HEAD_MAJOR ? array.head_stride * heads : array.token_stride * tokens;
    array.data = allocate((size_t)count * number_size(p->shape.type));
    for (int64_t t = 0; t < tokens; t++)
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < elements; i++) problem_set(p, &array, t, h, i, (float)(size * random_normal(state)));
    return array;
}

static void mask_create(problem *p, uint64_t *state)
{
    const problem_shape *s = &p->shape;
    p->visible_begin = allocate((size_t)s->tokens * sizeof(int64_t));
    p->visible_end = allocate((size_t)s->tokens * sizeof(int64_t));
    for (int64_t t = 0; t < s->tokens; t++) {
        int64_t begin = 0, end = s->keys;
        switch (s->mask) {
        case MASK_CAUSAL:
            end = t + 1 + s->keys - s->tokens;
            if (s->window > 0 && end - 1 - s->window > 0) begin = end - 1 - s->window;
            break;
        case MASK_RANDOM:
            begin = (int64_t)(random_uniform(state) * (double)(s->keys + 1));
            end = (int64_t)(random_uniform(state) * (double)(s->keys + 1));
            break;
        case MASK_EMPTY:
            end = t % 2 ? s->keys : 0;
            break;
        case MASK_FIRST_HIDDEN:
            begin = s->keys / 2;
            break;
        default:
            break;
        }
        p->visible_begin[t] = s->first_key + begin;
        p->visible_end[t] = s->first_key + end;
    }
}

static int64_t place(const problem_shape *s, int64_t key)
{
    if (s->places == PLACES_NUMBERED) return s->first_key + key;
    const int64_t stripe = (key + 5000) / 5 - 1000; /* rounds down for the queries before the first key, too */
    return 2147483648 - 500 + stripe * 15 + (key - stripe * 5);
}

static void scores_create(problem *p)
{
    const problem_shape *s = &p->shape;
    p->query_positions = allocate((size_t)s->tokens * sizeof(int64_t));
    p->key_positions = allocate((size_t)s->keys * sizeof(int64_t));
    p->slopes = allocate((size_t)s->heads * sizeof(float));
    p->rope_frequencies = allocate((size_t)s->rope_dim * sizeof(double));
    for (int64_t t = 0; t < s->tokens; t++) p->query_positions[t] = place(s, t + s->keys - s->tokens);
    for (int64_t j = 0; j < s->keys; j++) p->key_positions[j] = place(s, j);
    for (int h = 0; h < s->heads; h++) p->slopes[h] = s->sloped ? (float)exp2(-8.0 * (h + 1) / s->heads) : 0;
    for (int c = 0; c < s->rope_dim / 2; c++) p->rope_frequencies[c] = pow(1e4, -2.0 * c / s->rope_dim);
}

static float *deviates_create(size_t count, uint64_t *state)
{
    float *values = allocate(count * sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = (float)random_normal(state);
    return values;
}

static void relative_create(problem *p, uint64_t *state)
{
    const problem_shape *s = &p->shape;
    const int offsets = s->relative_left + s->relative_right + 1;
    const size_t row = (size_t)s->heads * (size_t)s->dim;
    if (!s->relative) return;
    p->relative_keys = deviates_create((size_t)offsets * row, state);
    p->relative_u = deviates_create(row, state);
    p->relative_w = deviates_create(row, state);
    float *table = allocate((size_t)s->heads * attention_relative_table_floats(offsets, s->dim) * sizeof *table);
    attention_relative_prepare(p->relative_keys, offsets, s->heads, s->dim, table);
    p->relative = (attention_relative){
        .left = s->relative_left, .right = s->relative_right, .u = p->relative_u, .w = p->relative_w, .table = table};
}

problem problem_create(const problem_shape *shape)
{
    problem p = {.shape = *shape, .scale = (float)(1 / sqrt(shape->dim))};
    uint64_t state = shape->seed;
    p.q = array_create(&p, shape->tokens, shape->heads, shape->dim, shape->query_scale, &state);
    p.k = array_create(&p, shape->keys, shape->kv_heads, shape->dim, 1, &state);
    p.v = array_create(&p, shape->keys, shape->kv_heads, shape->value_dim, 1, &state);
    mask_create(&p, &state);
    scores_create(&p);
    relative_create(&p, &state);
    return p;
}

void problem_destroy(problem *p)
{
    free(p->q.data);
    free(p->k.data);
    free(p->v.data);
    free(p->visible_begin);
    free(p->visible_end);
    free(p->query_positions);
    free(p->key_positions);
    free(p->slopes);
    free(p->rope_frequencies);
    free(p->relative_keys);
    free(p->relative_u);
    free(p->relative_w);
    free((void *)p->relative.table);
    *p = (problem){0};
}

static size_t byte_offset(const problem *p, const problem_array *array, int64_t token, int head, int element)
{
    return (size_t)(token * array->token_stride + head * array->head_stride + element) * number_size(p->shape.type);
}

double problem_get(const problem *p, const problem_array *array, int64_t token, int head, int element)
{
    float value;
    number_widen(p->shape.type, (const char *)array->data + byte_offset(p, array, token, head, element), &value, 1);
    return value;
}

void problem_set(const problem *p, const problem_array *array, int64_t token, int head, int element, float value)
{
    number_narrow(p->shape.type, &value, (char *)array->data + byte_offset(p, array, token, head, element), 1);
}

bool problem_sees(const problem *p, int64_t token, int64_t key)
{
    const int64_t position = p->shape.first_key + key;
    return p->visible_begin[token] <= position && position < p->visible_end[token];
}

static void row_get(const problem *p, const problem_array *array, int64_t token, int head, int count, double *row)
{
    float floats[512];
    number_widen(p->shape.type, (const char *)array->data + byte_offset(p, array, token, head, 0), floats, count);
    for (int i = 0; i < count; i++) row[i] = (double)floats[i];
}

void problem_reference(const problem *p, int64_t token, int head, double *out, double *lse)
{
    const problem_shape *s = &p->shape;
    const int kv_head = head / (s->heads / s->kv_heads);
    double *q = allocate((size_t)s->dim * sizeof *q), *weights = allocate((size_t)s->keys * sizeof *weights);
    double *k = allocate((size_t)(s->keys * s->dim) * sizeof *k);
    double *v = allocate((size_t)(s->keys * s->value_dim) * sizeof *v);
    row_get(p, &p->q, token, head, s->dim, q);
    for (int64_t j = 0; j < s->keys; j++) {
        row_get(p, &p->k, j, kv_head, s->dim, k + j * s->dim);
        row_get(p, &p->v, j, kv_head, s->value_dim, v + j * s->value_dim);
    }
    reference_scores scores = {.softcap = (double)s->softcap,
                                     .slope = (double)p->slopes[head],
                                     .query_position = p->query_positions[token],
                                     .key_positions = p->key_positions,
                                     .rope_dim = s->rope_dim,
                                     .rope_interleaved = s->rope_interleaved,
                                     .rope_frequencies = p->rope_frequencies};
    double *relative = NULL;
    if (s->relative) {
        const int offsets = s->relative_left + s->relative_right + 1;
        relative = allocate((size_t)(offsets + 2) * (size_t)s->dim * sizeof *relative);
        for (int c = 0; c < offsets + 2; c++)
            for (int d = 0; d < s->dim; d++) {
                const float *from = c == 0 ? p->relative_u : c == 1 ? p->relative_w : p->relative_keys;
                const int64_t row = (c < 2 ? 0 : (int64_t)(c - 2) * s->heads) + head;
                relative[c * s->dim + d] = (double)from[row * s->dim + d];
            }
        scores.relative_u = relative;
        scores.relative_w = relative + s->dim;
        scores.relative = relative + 2 * s->dim;
        scores.relative_left = s->relative_left;
        scores.relative_right = s->relative_right;
    }
    attention_reference(q, k, s->dim, v, s->value_dim, s->keys, p->visible_begin[token] - s->first_key,
                        p->visible_end[token] - s->first_key, s->dim, s->value_dim, (double)p->scale, &scores, out, lse,
                        weights);
    free(q);
    free(k);
    free(v);
    free(weights);
    free(relative);
}

attention_state state_create(int64_t rows, int value_dim)
{
    attention_state state = {.o = allocate((size_t)(rows * value_dim) * sizeof(float)),
                             .m = allocate((size_t)rows * sizeof(float)),
                             .l = allocate((size_t)rows * sizeof(float))};
    attention_state_clear(state, rows, value_dim);
    return state;
}

void state_destroy(attention_state *state)
{
    free(state->o);
    free(state->m);
    free(state->l);
    *state = (attention_state){0};
}

bool states_equal(attention_state a, attention_state b, int64_t rows, int value_dim)
{
    const size_t row_bytes = (size_t)rows * sizeof(float);
    return memcmp(a.o, b.o, row_bytes * (size_t)value_dim) == 0 && memcmp(a.m, b.m, row_bytes) == 0 &&
           memcmp(a.l, b.l, row_bytes) == 0;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Deals the rows of each key head to lists, of which the first gets one in 40; a span for each, made from spans[0],
 * which is of all rows. Chained: such spans one after the other, of a segment each, and some of the rows. */
static int64_t list_spans(const problem_shape *s, int lists, bool chained, int64_t *listed, attention_span *spans)
{
    const attention_span whole = spans[0];
    const int64_t rows = s->tokens * (s->heads / s->kv_heads);
    int64_t count = 0;
    for (int g = 0; g < s->kv_heads; g++)
        for (int list = 0; list < lists; list++) {
            attention_span *span = &spans[count++];
            *span = whole;
            span->kv_head = g;
            span->listed = listed;
            for (int64_t r = 0; r < rows; r++) {
                const int64_t dealt = r * 7919 + g, to = lists == 1 || dealt % 40 == 0 ? 0 : 1 + dealt % (lists - 1);
                if (to == list) listed[span->listed_rows++] = r;
            }
            listed += span->listed_rows;
            if (!chained) continue;
            const attention_span all = *span;
            count--;
            for (int i = 0; i < whole.segment_count; i++) {
                attention_span *link = &spans[count++];
                *link = all;
                link->segments += i;
                link->segment_count = 1;
                link->follows = i > 0;
                link->listed = listed;
                link->listed_rows = 0;
                for (int64_t r = 0; r < all.listed_rows; r++)
                    if ((all.listed[r] * 31 + i * 17) % 3 > 0) listed[link->listed_rows++] = all.listed[r];
                listed += link->listed_rows;
            }
        }
    return count;
}

void problem_fold_keys(const problem *p, const attention_kernel *kernel, const fold_cut *cut, int64_t begin,
                       int64_t end, attention_state state)
{
    const problem_shape *s = &p->shape;
    const int64_t segment_keys = cut->segment_keys ? cut->segment_keys : s->keys + 1;
    const int64_t span_tokens = cut->span_tokens ? cut->span_tokens : s->tokens;
    const int64_t span_count = (s->tokens + span_tokens - 1) / span_tokens;
    const size_t size = number_size(s->type);
    attention_segment *segments = allocate((size_t)(s->keys + 1) * sizeof *segments);
    int segment_count = 0;

    for (int64_t j = begin; j < end; j = smaller(j + segment_keys, end))
        segments[segment_count++] = (attention_segment){
            .k = (char *)p->k.data + (size_t)(j * p->k.token_stride) * size,
            .v = (char *)p->v.data + (size_t)(j * p->v.token_stride) * size,
            .k_token_stride = p->k.token_stride,
            .k_head_stride = p->k.head_stride,
            .v_token_stride = p->v.token_stride,
            .v_head_stride = p->v.head_stride,
            .begin = s->first_key + j,
            .end = s->first_key + smaller(j + segment_keys, end),
            .look_inside = s->mask != MASK_FULL || cut->look_inside,
            .positions = s->places == PLACES_NUMBERED ? NULL : p->key_positions + j,
        };
    /* of lists: those of all rows, and as many for each segment */
    const int64_t list_count = cut->lists * s->kv_heads, lists_of_rows = cut->lists ? 1 + segment_count : 0;
    attention_span *spans = allocate((size_t)(span_count + list_count * lists_of_rows) * sizeof *spans);
    int64_t *listed = allocate((size_t)(s->tokens * s->heads * lists_of_rows) * sizeof *listed);
    for (int64_t i = 0; i < span_count; i++) {
        const int64_t t = i * span_tokens, row = t * (state.token_rows ? state.token_rows : s->heads);
        spans[i] = (attention_span){
            .q = (char *)p->q.data + (size_t)(t * p->q.token_stride) * size,
            .q_token_stride = p->q.token_stride,
            .q_head_stride = p->q.head_stride,
            .tokens = smaller(span_tokens, s->tokens - t),
            .state = {state.o + row * s->value_dim, state.m + row, state.l + row, state.token_rows},
            .visible_begin = p->visible_begin + t,
            .visible_end = p->visible_end + t,
            .positions = p->query_positions + t,
            .segments = segments,
            .segment_count = segment_count,
        };
    }
    attention_call call = {.type = s->type,
                           .heads = s->heads,
                           .kv_heads = s->kv_heads,
                           .dim = s->dim,
                           .value_dim = s->value_dim,
                           .scale = p->scale,
                           .compute = compute_under_test,
                           .scores = {.softcap = s->softcap,
                                      .slopes = s->sloped ? p->slopes : NULL,
                                      .rope_dim = s->rope_dim,
                                      .rope_interleaved = s->rope_interleaved,
                                      .rope_frequencies = s->rope_dim ? p->rope_frequencies : NULL},
                           .threads = cut->threads ? cut->threads : 1,
                           .poll = cut->poll,
                           .poll_data = cut->poll_data,
                           .mark = cut->mark,
                           .mark_data = cut->poll_data};
    call.workspace = allocate(attention_workspace_size(call.threads, s->dim, s->value_dim));
    attention_relative relative = p->relative;
    if (s->relative) {
        relative.workspace = allocate(attention_relative_workspace_size(
            call.threads, s->dim, s->value_dim, s->relative_left + s->relative_right + 1));
        call.scores.relative = &relative;
    }
    const int64_t count = cut->lists ? list_spans(s, cut->lists, cut->chained || cut->apart, listed, spans) : span_count;
    if (!cut->apart) kernel->fold(&call, spans, count);
    for (int64_t i = 0; cut->apart && i < count; i++) kernel->fold(&call, &spans[i], 1);
    free(relative.workspace);
    free(listed);
    free(call.workspace);
    free(segments);
    free(spans);
}

void problem_fold(const problem *p, const attention_kernel *kernel, const fold_cut *cut, attention_state state)
{
    problem_fold_keys(p, kernel, cut, 0, p->shape.keys, state);
}

attention_state problem_state(const problem *p, const attention_kernel *kernel, const fold_cut *cut)
{
    attention_state state = state_create(p->shape.tokens * p->shape.heads, p->shape.value_dim);
    problem_fold(p, kernel, cut, state);
    return state;
}

void problem_print(const problem *p)
{
    static const char *const types[] = {"float32", "float16", "bfloat16"};
    const problem_shape *s = &p->shape;
    print_error(
        "compute %s, problem_shape: type %s, heads %d, kv_heads %d, dim %d, value_dim %d, tokens %lld, keys %lld, "
        "first_key %lld, query_scale %g, mask %d, layout %d, softcap %g, sloped %d, rope_dim %d, "
        "rope_interleaved %d, relative %d (%d, %d), places %d, seed %llu\n",
        attention_compute_name(compute_under_test), types[s->type], s->heads, s->kv_heads, s->dim, s->value_dim,
        (long long)s->tokens, (long long)s->keys, (long long)s->first_key, (double)s->query_scale, (int)s->mask,
        (int)s->layout, (double)s->softcap, s->sloped, s->rope_dim, s->rope_interleaved, s->relative, s->relative_left, s->relative_right, (int)s->places,
        (unsigned long long)s->seed);
}

static void row_check_empty(const problem *p, int64_t row, const float *out, float lse)
{
    for (int e = 0; e < p->shape.value_dim; e++)
        if (out[e] != 0) {
            problem_print(p);
            fail_msg("row %lld sees nothing, out[%d] is %g", (long long)row, e, (double)out[e]);
        }
    if (lse != -INFINITY) {
        problem_print(p);
        fail_msg("row %lld sees nothing, lse is %g", (long long)row, (double)lse);
    }
}

double compute_bound(float score_scale, double bound)
{
    const double scale = 1 + fabs((double)score_scale);
    const double least = compute_under_test == COMPUTE_BF16     ? 1e-2 * scale
                         : compute_under_test == COMPUTE_BF16X3 ? 2e-5 * scale
                                                                : 0;
    return bound > least ? bound : least;
}

void problem_check(const problem *p, attention_state state, int64_t rows, double bound, double lse_bound)
{
    const problem_shape *s = &p->shape;
    const int64_t all = s->tokens * s->heads;
    bound = compute_bound(s->query_scale, bound);
    lse_bound = compute_bound(s->query_scale, lse_bound);
    float *out = allocate((size_t)(all * s->value_dim) * sizeof *out), *lse = allocate((size_t)all * sizeof *lse);
    double *expected = allocate((size_t)s->value_dim * sizeof *expected), expected_lse;
    double error = 0, norm = 0;
    uint64_t random = s->seed ^ 0x5eed;

    attention_state_finish(state, all, s->value_dim, KERNEL_FLOAT32, out, lse, 1);
    for (int64_t i = 0; i < smaller(rows, all); i++) {
        const int64_t row = rows >= all ? i : (int64_t)(random_uniform(&random) * (double)all);
        problem_reference(p, row / s->heads, (int)(row % s->heads), expected, &expected_lse);
        if (expected_lse == -INFINITY) {
            row_check_empty(p, row, out + row * s->value_dim, lse[row]);
            continue;
        }
        if (!(fabs(lse[row] - expected_lse) <= lse_bound * (1 + fabs(expected_lse)))) {
            problem_print(p);
            fail_msg("row %lld: lse is %.9g, should be %.9g", (long long)row, (double)lse[row], expected_lse);
        }
        for (int e = 0; e < s->value_dim; e++) {
            const double difference = (double)out[row * s->value_dim + e] - expected[e];
            error += difference * difference;
            norm += expected[e] * expected[e];
        }
    }
    if (!(sqrt(error) <= bound * sqrt(norm))) {
        problem_print(p);
        fail_msg("relative RMS error %.3g above %.3g", sqrt(error / norm), bound);
    }
    free(out);
    free(lse);
    free(expected);
}

static const attention_kernel *find_kernel(const char *name)
{
    static const attention_kernel *const emulations[] = {
#if defined(__x86_64__)
        &attention_amx_emulated_avx512,
        &attention_dots_emulated_avx512,
#endif
        &attention_amx_emulated,
        &attention_dots_emulated,
    };
    const size_t length = strlen(name);
    const attention_kernel *found = attention_kernel_find(name);
    for (size_t i = 0; i < sizeof emulations / sizeof emulations[0] && !found; i++) {
        const attention_kernel *kernel = emulations[i];
        if (strcmp(kernel->name, name) == 0) return kernel;
        if (strstr(name, "-emulated") && strncmp(kernel->name, name, length) == 0 && kernel->name[length] == '-' &&
            !cpu_features_missing(kernel->features))
            found = kernel;
    }
    return found;
}

const attention_kernel *kernel_under_test(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "portable";
    const attention_kernel *kernel = find_kernel(name);
    if (!kernel || (argc > 2 && !attention_compute_from_name(argv[2], &compute_under_test))) {
        print_error("no kernel is called %s, or no arithmetic %s\n", name, argc > 2 ? argv[2] : "fp32");
        exit(1);
    }
    if (cpu_features_missing(kernel->features) || !attention_kernel_offers(kernel, compute_under_test)) {
        print_message("this CPU cannot run %s %s\n", name, attention_compute_name(compute_under_test));
        exit(77);
    }
    return kernel;
}
