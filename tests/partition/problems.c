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
    return (schedule_problem){
        .mask = {.queries = queries, .keys = keys, .causal = causal},
        .query_layout = {.kind = kind, .tokens = queries, .grain = grain, .ranks = ranks},
        .key_layout = {.kind = kind, .tokens = keys, .grain = grain, .ranks = ranks},
    };
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

/* splitmix64 */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
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

void problem_describe(const schedule_problem *problem, const char *strategy_name, char *text, size_t size)
{
    const mask *m = &problem->mask;
    const layout *q = &problem->query_layout, *k = &problem->key_layout;
    size_t used = (size_t)snprintf(
        text, size, "%s, %s, N=%" PRId64 " grain %" PRId64 ", %s, M=%" PRId64 " grain %" PRId64 ", P=%d%s",
        strategy_name, q->kind == LAYOUT_ZIGZAG ? "zigzag" : "contiguous", q->tokens, q->grain,
        k->kind == LAYOUT_ZIGZAG ? "zigzag" : "contiguous", k->tokens, k->grain, k->ranks, m->causal ? ", causal" : "");
    if (!m->documents) return;
    const char *before = ", documents [";
    for (int64_t i = 0; i <= m->document_count && used < size; i++) {
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, before, m->documents[i]);
        before = ",";
    }
    if (used < size) snprintf(text + used, size - used, "]");
}
