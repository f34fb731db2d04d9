#include "runtime/selection.h"

#include "partition/selected.h"
#include "runtime/moba.h"
#include "runtime/nsa.h"
#include "runtime/patience.h"
#include "runtime/problem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool selection_is_wanted(const longspan_problem *problem, pattern_choice *choice_p)
{
    char why[PATTERN_WHY_SIZE];
    return problem->pattern && pattern_choice_parse(problem->pattern, choice_p, why) &&
           (choice_p->kind->flags & BLOCKS_ARE_SELECTED);
}

longspan_status selection_check(const longspan_problem *p, const pattern_choice *choice, failure *f)
{
    const char *name = choice->kind->name;
    if (p->batch > 1)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern '%s' with batch %lld: a selection is of one batch item",
                    name, (long long)p->batch);
    if (p->key_lengths)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern '%s' with key_lengths: a selection is of all keys", name);
    if (p->block_offsets)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern '%s' with a list of blocks: it has its own", name);
    if (strcmp(p->strategy, "auto") != 0 && strcmp(p->strategy, "fetch") != 0)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED,
                    "strategy '%.40s' with pattern '%s': it knows masks alone; say fetch", p->strategy, name);
    if (strcmp(p->layout, "auto") != 0 && strcmp(p->layout, "contiguous") != 0)
        failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "layout '%.40s' with pattern '%s': it needs contiguous", p->layout,
                    name);
    if (strcmp(name, "moba") == 0) moba_check(p, f);
    if (strcmp(name, "nsa") == 0) nsa_check(p, f);
    return f->status;
}

longspan_status selection_fits(const longspan_context *context, const longspan_problem *p, failure *f)
{
    const longspan_selection *s = p->selection;
    pattern_choice choice;
    if (!s) return f->status;
    if (s->context != context || !p->pattern || strcmp(s->pattern, p->pattern) != 0 || s->queries != p->queries ||
        s->keys != p->keys || s->heads != p->heads || s->kv_heads != p->kv_heads)
        return failure_set(
            f, LONGSPAN_ERROR_ARGUMENT,
            "the selection was made for another problem: pattern '%.100s', %lld queries, %lld keys, heads %d, "
            "kv_heads %d",
            s->pattern, (long long)s->queries, (long long)s->keys, s->heads, s->kv_heads);
    return selection_is_wanted(p, &choice) ? selection_check(p, &choice, f) : f->status;
}

layout selection_layout(const longspan_context *context, int64_t tokens)
{
    return (layout){.kind = LAYOUT_CONTIGUOUS,
                    .tokens = tokens,
                    .grain = layout_default_grain(LAYOUT_CONTIGUOUS, tokens, context->ranks),
                    .ranks = context->ranks};
}

longspan_range longspan_selection_tokens(const longspan_context *context, const longspan_problem *problem,
                                         longspan_axis axis)
{
    const int64_t tokens = axis == LONGSPAN_KEYS && problem->keys > 0 ? problem->keys : problem->queries;
    const layout l = selection_layout(context, tokens);
    const range own = layout_chunk(&l, context->rank);
    return (longspan_range){own.begin, own.end};
}

longspan_status selection_begin(longspan_context *context, const longspan_problem *problem,
                                longspan_problem *complete_p, pattern_choice *choice_p, failure *f)
{
    longspan_problem p = *problem;
    p.selection = NULL;
    if (problem_check_equal(context, &p, f) != LONGSPAN_OK) return f->status;
    char why[PATTERN_WHY_SIZE];
    problem_complete(&p, f);
    if (p.pattern && !pattern_choice_parse(p.pattern, choice_p, why))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "pattern %s", why);
    else if (!p.pattern || !(choice_p->kind->flags & BLOCKS_ARE_SELECTED))
        failure_set(f, LONGSPAN_ERROR_ARGUMENT, "pattern '%.100s' is none whose blocks are selected",
                    p.pattern ? p.pattern : "");
    if (f->status == LONGSPAN_OK) selection_check(&p, choice_p, f);
    *complete_p = p;
    return context_agree(context, f);
}

longspan_selection *selection_make(longspan_context *context, const longspan_problem *p, int64_t size, int lists,
                                   int64_t most, failure *f)
{
    const layout l = selection_layout(context, p->queries);
    const int64_t count = layout_rank_tokens(&l, context->rank) * lists * most;
    longspan_selection *s = calloc(1, sizeof *s);
    if (s) s->chosen.blocks = calloc((size_t)count + 1, sizeof *s->chosen.blocks);
    if (!s || !s->chosen.blocks) {
        free(s);
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the selected blocks: %.1f MiB",
                    (double)count * sizeof(int32_t) / 1048576);
        return NULL;
    }
    s->context = context;
    strcpy(s->pattern, p->pattern);
    s->queries = p->queries;
    s->keys = p->keys;
    s->heads = p->heads;
    s->kv_heads = p->kv_heads;
    s->chosen.size = size;
    s->chosen.lists = lists;
    s->chosen.most = most;
    return s;
}

/* A list ascends from 0 on, ends with its last block, and -1 fills it up. */
static void check_list(const longspan_selection *s, const int32_t *list, int64_t token, int index, failure *f)
{
    const int64_t blocks = (s->keys - 1) / s->chosen.size + 1;
    for (int64_t i = 0; i < s->chosen.most && f->status == LONGSPAN_OK; i++) {
        const int32_t before = i > 0 ? list[i - 1] : 0;
        const char *wrong = NULL;
        if (list[i] < -1 || list[i] >= blocks) wrong = "there is no such block";
        else if (list[i] >= 0 && before < 0) wrong = "-1 stands before it, which is for behind the last";
        else if (i > 0 && list[i] >= 0 && list[i] <= before) wrong = "the blocks of a list ascend, each once";
        if (wrong)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT,
                        "selected block %d of query %lld, list %d, of the %lld blocks of %lld keys: %s", (int)list[i],
                        (long long)token, index, (long long)blocks, (long long)s->chosen.size, wrong);
    }
}

longspan_status longspan_selection_choose(longspan_context *context, const longspan_problem *problem, const void *q,
                                          const void *k, longspan_selection **selection_p)
{
    failure f = {0};
    longspan_problem p;
    pattern_choice choice;
    *selection_p = NULL;
    if (selection_begin(context, problem, &p, &choice, &f) != LONGSPAN_OK) return f.status;
    if (strcmp(choice.kind->name, "moba") != 0)
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "pattern '%s' is not moba: %s", choice.kind->name,
                    strcmp(choice.kind->name, "nsa") == 0 ? "longspan_nsa_create" : "longspan_selection_create");
    const longspan_range queries = longspan_selection_tokens(context, &p, LONGSPAN_QUERIES);
    const longspan_range keys = longspan_selection_tokens(context, &p, LONGSPAN_KEYS);
    if ((queries.begin < queries.end && !q) || (keys.begin < keys.end && !k))
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "q or k is NULL on a rank that has some");
    if (context_agree(context, &f) != LONGSPAN_OK) return f.status;
    *selection_p = moba_select(context, &p, &choice, q, k, &f);
    return f.status;
}

longspan_status longspan_selection_create(longspan_context *context, const longspan_problem *problem, int lists,
                                          int64_t most, const int32_t *blocks, longspan_selection **selection_p)
{
    failure f = {0};
    longspan_problem p;
    pattern_choice choice;
    *selection_p = NULL;
    const agreement_value equal[] = {{"lists", lists}, {"most", most}};
    if (selection_begin(context, problem, &p, &choice, &f) != LONGSPAN_OK ||
        context_agree_equal(context, equal, 2, &f) != LONGSPAN_OK)
        return f.status;
    if (strcmp(choice.kind->name, "selected") != 0)
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "pattern '%s' selects by itself: %s", choice.kind->name,
                    strcmp(choice.kind->name, "nsa") == 0 ? "longspan_nsa_create" : "longspan_selection_choose");
    if (lists != 1 && lists != p.kv_heads && lists != p.heads)
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "selected blocks have %d lists, not 1, kv_heads %d or heads %d", lists,
                    p.kv_heads, p.heads);
    if (most < 1 || most > most_tokens)
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "selected blocks have lists of %lld", (long long)most);
    longspan_selection *s = NULL;
    const longspan_range own = longspan_selection_tokens(context, &p, LONGSPAN_QUERIES);
    if (f.status == LONGSPAN_OK && own.begin < own.end && !blocks)
        failure_set(&f, LONGSPAN_ERROR_ARGUMENT, "blocks is NULL on a rank that has queries");
    if (f.status == LONGSPAN_OK) s = selection_make(context, &p, choice.items[0].begin, lists, most, &f);
    for (int64_t i = 0; s && i < (own.end - own.begin) * lists; i++) {
        memcpy(s->chosen.blocks + i * most, blocks + i * most, (size_t)most * sizeof *blocks);
        check_list(s, blocks + i * most, own.begin + i / lists, (int)(i % lists), &f);
    }
    if (context_agree(context, &f) != LONGSPAN_OK) longspan_selection_destroy(&s);
    *selection_p = s;
    return f.status;
}

void longspan_selection_destroy(longspan_selection **selection_p)
{
    if (!selection_p || !*selection_p) return;
    free((*selection_p)->chosen.blocks);
    free(*selection_p);
    *selection_p = NULL;
}

const int32_t *longspan_selection_blocks(const longspan_selection *selection, int *lists_p, int64_t *most_p)
{
    *lists_p = selection->chosen.lists;
    *most_p = selection->chosen.most;
    return selection->chosen.blocks;
}

double selection_pairs(const longspan_selection *s, const mask *m)
{
    const selection *c = &s->chosen;
    const layout l = selection_layout(s->context, s->queries);
    const int64_t tokens = layout_rank_tokens(&l, s->context->rank);
    double pairs = 0;
    for (int64_t row = 0; row < tokens; row++) {
        const range seen = mask_row(m, layout_token(&l, s->context->rank, row));
        const int32_t *blocks = c->blocks + row * c->lists * c->most;
        for (int64_t i = 0; i < c->lists * c->most; i++)
            if (blocks[i] >= 0)
                pairs += (double)range_length(
                    range_intersect((range){blocks[i] * c->size, (blocks[i] + 1) * c->size}, seen));
    }
    return pairs * (s->heads / c->lists);
}

static double rank_of(double score)
{
    return isnan(score) ? -INFINITY : score;
}

int64_t selection_best(const double *scores, range blocks, int64_t most, int32_t *best, int32_t *chosen)
{
    int64_t held = 0;
    for (int64_t b = blocks.begin; b < blocks.end && most > 0; b++) {
        int64_t at = held;
        while (at > 0 && rank_of(scores[b]) > rank_of(scores[best[at - 1]])) at--;
        if (at == most) continue;
        if (held < most) held++;
        memmove(best + at + 1, best + at, (size_t)(held - 1 - at) * sizeof *best);
        best[at] = (int32_t)b;
    }
    for (int64_t i = 0; i < held; i++) {
        int64_t at = i;
        for (; at > 0 && chosen[at - 1] > best[i]; at--) chosen[at] = chosen[at - 1];
        chosen[at] = best[i];
    }
    return held;
}

/* Tells the owners what this rank needs of them; *own_p is told what others need of it. */
static void exchange_needs(longspan_context *context, const selection_run *needs, const int *sent, selection *own_p,
                           failure *f)
{
    enum { WORDS = 3 };
    const int ranks = context->ranks;
    int *received = calloc((size_t)ranks * 3 + 1, sizeof *received), *sent_at = received + ranks;
    int *received_at = sent_at + ranks, total = 0, count = 0;
    int64_t *out = NULL, *in = NULL;
    if (!received) failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the needs of selected blocks");
    if (context_agree(context, f) != LONGSPAN_OK) goto done;
    wait_alltoall(sent, 1, MPI_INT, received, 1, MPI_INT, context->comm);
    for (int rank = 0; rank < ranks; rank++) {
        sent_at[rank] = count;
        received_at[rank] = total;
        count += sent[rank];
        if (__builtin_add_overflow(total, received[rank], &total)) {
            failure_set(f, LONGSPAN_ERROR_MEMORY, "more than 2^31 runs of keys are asked of a rank: larger blocks");
            total = 0;
        }
    }
    out = malloc(((size_t)count + 1) * WORDS * sizeof *out);
    in = malloc(((size_t)total + 1) * WORDS * sizeof *in);
    own_p->asked = malloc(((size_t)total + 1) * sizeof *own_p->asked);
    if (!out || !in || !own_p->asked)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the needs of selected blocks");
    if (context_agree(context, f) != LONGSPAN_OK) goto done;
    for (int i = 0; i < count; i++) {
        const int64_t words[WORDS] = {needs[i].class, needs[i].tokens.begin, needs[i].tokens.end};
        memcpy(out + (int64_t)i * WORDS, words, sizeof words);
    }
    MPI_Datatype run;
    MPI_Type_contiguous(WORDS, MPI_INT64_T, &run);
    MPI_Type_commit(&run);
    wait_alltoallv(out, sent, sent_at, run, in, received, received_at, run, context->comm);
    MPI_Type_free(&run);
    for (int rank = 0; rank < ranks; rank++)
        for (int i = received_at[rank]; i < received_at[rank] + received[rank]; i++) {
            const int64_t *words = in + (int64_t)i * WORDS;
            own_p->asked[own_p->asked_count++] = (selection_run){rank, (int)words[0], {words[1], words[2]}};
        }
done:
    free(received);
    free(out);
    free(in);
}

longspan_status selection_schedule(longspan_context *context, const longspan_problem *problem,
                                   const schedule_problem *plain, selection *own_p, failure *f)
{
    schedule_problem scheduled = *plain;
    selection_run *needs = NULL;
    int64_t count = 0;
    *own_p = problem->selection->chosen;
    scheduled.selection = own_p;
    const char *fault = strategy_selected.refuse(&scheduled);
    if (fault) failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "pattern '%.100s': %s", problem->pattern, fault);
    int *sent = calloc((size_t)context->ranks, sizeof *sent);
    if (f->status == LONGSPAN_OK && (!sent || selected_needs(&scheduled, context->rank, &needs, &count) != 0))
        failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for the needs of selected blocks");
    if (count > INT32_MAX)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "more than 2^31 runs of keys are needed by a rank: larger blocks");
    for (int64_t i = 0; i < count && f->status == LONGSPAN_OK; i++) sent[needs[i].peer]++;
    if (context_agree(context, f) == LONGSPAN_OK) exchange_needs(context, needs, sent, own_p, f);
    free(sent);
    free(needs);
    return f->status;
}
