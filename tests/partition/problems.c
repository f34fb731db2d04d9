#include "tests/partition/problems.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { DOCUMENT_SEED = 3, EVERY_CUT_LIMIT = 6, RANDOM_SETS = 8 };

schedule_problem problem_of(layout_kind kind, int64_t queries, int64_t keys, int64_t grain, int ranks, bool causal)
{
    schedule_problem p = {
        .mask = mask_full(queries, keys),
        .query_layout = {.kind = kind, .tokens = queries, .grain = grain, .ranks = ranks},
        .key_layout = {.kind = kind, .tokens = keys, .grain = grain, .ranks = ranks},
        .heads = 4,
        .kv_heads = 2,
        .node_ranks = 1,
    };
    p.mask.causal = causal;
    return p;
}

bool mask_case_get(int64_t queries, int64_t keys, int64_t index, mask *mask_p)
{
    static const int64_t windows[][2] = {{-1, -1}, {0, 0}, {2, -1}, {-1, 1}, {3, 2}};
    static const int64_t chunks[][3] = {{0, -1, -1}, {1, 0, 0}, {3, -1, -1}, {3, 0, 0}, {3, 1, 0}, {4, 0, 1}};
    static const int64_t prefixes[] = {0, 1, 4}; /* without causal only the first: it would change nothing */
    enum { WINDOWS = sizeof windows / sizeof windows[0], CHUNKS = sizeof chunks / sizeof chunks[0], BORDERS = 4 };
    const int64_t border = index % BORDERS, window = index / BORDERS % WINDOWS, chunk = index / BORDERS / WINDOWS;
    if (chunk >= CHUNKS) return false;
    mask m = mask_full(queries, keys);
    m.causal = border > 0;
    m.prefix = border > 0 ? prefixes[border - 1] : 0;
    m.window_left = windows[window][0];
    m.window_right = windows[window][1];
    m.chunk = chunks[chunk][0];
    m.chunks_left = chunks[chunk][1];
    m.chunks_right = chunks[chunk][2];
    *mask_p = m;
    return true;
}

bool may_forward(const strategy *how)
{
    return strcmp(how->name, "gather") != 0;
}

void plan_all(const schedule_problem *p, const strategy *how, schedule **schedules)
{
    for (int rank = 0; rank < p->key_layout.ranks; rank++) assert_int_equal(how->plan(p, rank, &schedules[rank]), 0);
}

void destroy_all(const schedule_problem *p, schedule **schedules)
{
    for (int rank = 0; rank < p->key_layout.ranks; rank++) schedule_destroy(schedules[rank]);
}

uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t random_between(uint64_t *state, int64_t low, int64_t high)
{
    return low + (int64_t)(random_next(state) % (uint64_t)(high - low + 1));
}

static void add_offset(document_set *set, int64_t offset)
{
    set->offsets[++set->count] = offset;
}

/* Bit i of `cuts` ends a document after token i. */
static void every_cut(document_set *set, int64_t tokens, int64_t cuts)
{
    for (int64_t i = 0; i + 1 < tokens; i++)
        if (cuts >> i & 1) add_offset(set, i + 1);
    add_offset(set, tokens);
}

static void random_cuts(document_set *set, int64_t tokens, uint64_t seed)
{
    uint64_t state = DOCUMENT_SEED + seed;
    const int64_t longest = 1 + (int64_t)(random_next(&state) % (uint64_t)tokens);
    int64_t at = 0;
    while (at < tokens && set->count < DOCUMENT_SET_LIMIT - 2) {
        at += (int64_t)(random_next(&state) % (uint64_t)(longest + 1)); /* 0: an empty document */
        add_offset(set, at < tokens ? at : tokens);
    }
    if (at < tokens) add_offset(set, tokens);
    if (random_next(&state) % 2) add_offset(set, tokens);
}

bool document_set_get(int64_t tokens, int64_t index, document_set *set_p)
{
    document_set set = {0};
    const int64_t cuts = tokens > 0 ? (int64_t)1 << (tokens - 1) : 1;
    if (tokens <= EVERY_CUT_LIMIT && index < cuts) {
        every_cut(&set, tokens, index);
        *set_p = set;
        return true;
    }
    const int64_t named = index - (tokens <= EVERY_CUT_LIMIT ? cuts : 0);
    if (named == 0) { /* empty documents at both ends and a last document of one token */
        add_offset(&set, 0);
        add_offset(&set, 0);
        if (tokens > 0) add_offset(&set, tokens - 1);
        add_offset(&set, tokens);
        add_offset(&set, tokens);
    } else if (named == 1) { /* a first document of one token, and two empty documents in the middle */
        if (tokens > 0) add_offset(&set, 1);
        for (int i = 0; i < 3; i++) add_offset(&set, (tokens + 1) / 2);
        add_offset(&set, tokens);
    } else if (named == 2) { /* nothing but documents of one token */
        for (int64_t i = 1; i < tokens && i < DOCUMENT_SET_LIMIT - 1; i++) add_offset(&set, i);
        add_offset(&set, tokens);
    } else if (named < 3 + RANDOM_SETS && tokens > 0) {
        random_cuts(&set, tokens, (uint64_t)named);
    } else {
        return false;
    }
    *set_p = set;
    return true;
}

static size_t describe_axis(const char *letter, const layout *l, char *text, size_t size)
{
    return (size_t)snprintf(text, size, ", %s=%" PRId64 " %s grain %" PRId64, letter, l->tokens, layout_name(l->kind),
                            l->grain);
}

static size_t describe_mask(const mask *m, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s", m->causal ? ", causal" : "");
    if (m->prefix > 0) used += (size_t)snprintf(text + used, size - used, ", prefix %" PRId64, m->prefix);
    if (m->window_left >= 0 || m->window_right >= 0)
        used += (size_t)snprintf(text + used, size - used, ", window %" PRId64 ",%" PRId64, m->window_left,
                                 m->window_right);
    if (m->chunk > 0)
        used += (size_t)snprintf(text + used, size - used, ", chunk %" PRId64 ":%" PRId64 ",%" PRId64, m->chunk,
                                 m->chunks_left, m->chunks_right);
    return used;
}

void problem_describe(const schedule_problem *problem, const char *strategy_name, char *text, size_t size)
{
    const mask *m = &problem->mask;
    size_t used =
        (size_t)snprintf(text, size, "%s, P=%d, nodes of %d%s, columns %d, H=%d, G=%d", strategy_name,
                         problem->key_layout.ranks, problem->node_ranks, problem->may_share ? " that share" : "",
                         problem->columns, problem->heads, problem->kv_heads);
    used += describe_axis("N", &problem->query_layout, text + used, size - used);
    used += describe_axis("M", &problem->key_layout, text + used, size - used);
    used += describe_mask(m, text + used, size - used);
    if (!m->documents) return;
    const char *before = ", documents [";
    for (int64_t i = 0; i <= m->document_count && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, before, m->documents[i]);
        before = ",";
    }
    if (used < size) snprintf(text + used, size - used, "]");
}
