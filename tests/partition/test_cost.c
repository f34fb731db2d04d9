#include "partition/cost.h"

#include "tests/partition/brute.h"
#include "tests/partition/problems.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEY_BYTES = 96, QUERY_BYTES = 40, STATE_BYTES = 72, OUTPUT_BYTES = 56, FLOPS_PER_PAIR = 1024 };

static const cost_sizes sizes = {
    .row_bytes = {[ROWS_KEYS] = KEY_BYTES, [ROWS_QUERIES] = QUERY_BYTES, [ROWS_STATES] = STATE_BYTES},
    .output_bytes = OUTPUT_BYTES,
    .flops_per_pair = FLOPS_PER_PAIR,
    .batch = 1,
    .tensor_bytes = {[ROWS_KEYS] = {40, 56}, [ROWS_QUERIES] = {40}, [ROWS_STATES] = {64, 4, 4}}};

static schedule *plan(const char *name, const schedule_problem *p, int rank)
{
    int rows, columns;
    schedule *s = NULL;
    assert_int_equal(strategy_find(name, &rows, &columns)->plan(p, rank, &s), 0);
    return s;
}

/* Pairs of a fold, token by token. */
static int64_t brute_fold_pairs(const schedule_problem *p, const schedule_fold *f)
{
    token_map queries, keys;
    token_map_make(&queries, &p->query_layout);
    token_map_make(&keys, &p->key_layout);
    int64_t *document_of = documents_of_tokens(&p->mask);
    int64_t pairs = 0;
    for (int64_t i = 0; i < p->mask.queries; i++) {
        if (queries.owner[i] != f->query_origin) continue;
        if (queries.row[i] < f->query_rows.begin || queries.row[i] >= f->query_rows.end) continue;
        for (int64_t j = 0; j < p->mask.keys; j++)
            pairs += keys.owner[j] == f->key_origin && keys.row[j] >= f->key_rows.begin &&
                     keys.row[j] < f->key_rows.end && brute_sees(&p->mask, document_of, i, j);
    }
    free(document_of);
    token_map_free(&queries);
    token_map_free(&keys);
    return pairs;
}

/* The counts of one step, against a walk over its items. */
static void check_step(const schedule_problem *p, const schedule *s, int64_t at, const cost_step *c)
{
    const schedule_step *step = &s->steps[at];
    int64_t pairs = 0, cleared = 0, merged = 0, messages_sent = 0, messages[2] = {0}, bytes[2][ROWS_KINDS] = {{0}};
    const int64_t of_row[] = {KEY_BYTES, QUERY_BYTES, STATE_BYTES};
    for (int64_t i = 0; i < step->fold_count; i++)
        pairs += brute_fold_pairs(p, &step->folds[i]) * (step->folds[i].heads.end - step->folds[i].heads.begin);
    for (int64_t i = 0; i < step->transfer_count; i++) {
        const schedule_transfer *t = &step->transfers[i];
        messages[t->direction]++;
        if (t->direction == TRANSFER_SEND) messages_sent += t->kind == ROWS_KEYS ? 2 : t->kind == ROWS_QUERIES ? 1 : 3;
        bytes[t->direction][t->kind] +=
            (t->rows.end - t->rows.begin) * (t->heads.end - t->heads.begin) * of_row[t->kind];
    }
    for (int64_t i = 0; i < step->clear_count; i++) {
        const head_range heads = s->slots[step->clears[i].slot].heads;
        cleared += (step->clears[i].slot_rows.end - step->clears[i].slot_rows.begin) * (heads.end - heads.begin);
    }
    for (int64_t i = 0; i < step->merge_count; i++)
        merged += step->merges[i].count * (step->merges[i].heads.end - step->merges[i].heads.begin);
    assert_int_equal(c->folds, step->fold_count);
    assert_int_equal(c->pairs, pairs);
    assert_int_equal(c->messages_sent, messages_sent);
    assert_int_equal(c->sends, messages[TRANSFER_SEND]);
    assert_int_equal(c->receives, messages[TRANSFER_RECEIVE]);
    assert_int_equal(c->rows_cleared, cleared);
    assert_int_equal(c->rows_merged, merged);
    for (int kind = 0; kind < ROWS_KINDS; kind++) {
        assert_int_equal(c->bytes_sent[kind], bytes[TRANSFER_SEND][kind]);
        assert_int_equal(c->bytes_received[kind], bytes[TRANSFER_RECEIVE][kind]);
    }
}

static int64_t brute_memory(const schedule_problem *p, const schedule *s)
{
    token_map queries, keys;
    token_map_make(&queries, &p->query_layout);
    token_map_make(&keys, &p->key_layout);
    int64_t bytes = queries.held[s->rank] * p->heads * (QUERY_BYTES + OUTPUT_BYTES + STATE_BYTES) +
                    keys.held[s->rank] * p->kv_heads * KEY_BYTES;
    const int64_t of_row[] = {KEY_BYTES, QUERY_BYTES, STATE_BYTES};
    for (int i = 0; i < s->slot_count; i++)
        bytes += s->slots[i].rows * (s->slots[i].heads.end - s->slots[i].heads.begin) * of_row[s->slots[i].kind];
    token_map_free(&queries);
    token_map_free(&keys);
    return bytes;
}

static int64_t brute_all_pairs(const schedule_problem *p)
{
    int64_t *document_of = documents_of_tokens(&p->mask);
    int64_t pairs = 0;
    for (int64_t i = 0; i < p->mask.queries; i++)
        for (int64_t j = 0; j < p->mask.keys; j++) pairs += brute_sees(&p->mask, document_of, i, j);
    free(document_of);
    return pairs * p->heads;
}

static void check_strategy(const schedule_problem *p, const strategy *how)
{
    int64_t pairs = 0, sent = 0, received = 0;
    for (int rank = 0; rank < p->key_layout.ranks; rank++) {
        schedule *s = NULL;
        assert_int_equal(how->plan(p, rank, &s), 0);
        cost c;
        cost_of_schedule(s, p, &sizes, &c);
        int64_t pairs_of_steps = 0, sends = 0;
        for (int64_t i = 0; i < s->step_count; i++) {
            cost_step step;
            cost_of_step(s, i, p, &sizes, &step);
            check_step(p, s, i, &step);
            pairs_of_steps += step.pairs;
            sends += step.sends;
            sent += cost_bytes(step.bytes_sent);
            received += cost_bytes(step.bytes_received);
        }
        assert_int_equal(c.steps, s->step_count);
        assert_int_equal(c.sum.pairs, pairs_of_steps);
        assert_int_equal(c.sum.sends, sends);
        assert_true(c.flops == FLOPS_PER_PAIR * (double)pairs_of_steps);
        assert_int_equal(c.memory_bytes, brute_memory(p, s));
        pairs += c.sum.pairs;
        sent -= cost_bytes(c.sum.bytes_sent);
        received -= cost_bytes(c.sum.bytes_received);
        schedule_destroy(s);
    }
    assert_int_equal(pairs, brute_all_pairs(p));
    assert_int_equal(sent, 0);
    assert_int_equal(received, 0);
}

/* Of problems that a strategy refuses, nothing is to be counted; ring and gather refuse none of these. */
static void check_problem(const schedule_problem *p)
{
    int64_t planned = 0;
    for (int i = 0; i < strategy_count; i++) {
        if (strategies[i]->refuse(p)) continue;
        check_strategy(p, strategies[i]);
        planned++;
    }
    assert_true(planned >= 2);
}

static void counts_equal_a_walk_over_the_pairs(void **state)
{
    (void)state;
    const int64_t documents[] = {0, 3, 3, 11, 16, 17};
    const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG, LAYOUT_STRIPED};
    for (int kind = 0; kind < 3; kind++) {
        for (int ranks = 1; ranks <= 5; ranks++) {
            for (int64_t index = 0; index < 120; index += 7) {
                schedule_problem p = problem_of(kinds[kind], 17, index % 2 ? 17 : 11, 2, ranks, false);
                p.key_layout.grain = 3;
                p.node_ranks = ranks == 4 ? 2 : ranks;
                p.may_share = true;
                p.columns = p.node_ranks;
                assert_true(mask_case_get(p.mask.queries, p.mask.keys, index, &p.mask));
                if (index % 4 == 1) {
                    p.mask.documents = documents;
                    p.mask.document_count = 5;
                }
                check_problem(&p);
            }
        }
    }
}

/* Full attention on a ring: every rank receives and sends (P-1)/P of the keys, and computes N M / P pairs. */
static void a_ring_over_a_full_mask_costs_its_closed_form(void **state)
{
    (void)state;
    const schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, 4096, 4096, 64, 8, false);
    schedule *s = plan("ring", &p, 3);
    cost c;
    cost_of_schedule(s, &p, &sizes, &c);
    assert_int_equal(c.steps, 8);
    assert_int_equal(c.sum.sends, 7);
    assert_int_equal(c.sum.pairs, 4 * 512 * 4096);
    assert_int_equal(c.sum.bytes_sent[ROWS_KEYS], 7 * 512 * 2 * KEY_BYTES);
    assert_int_equal(cost_bytes(c.sum.bytes_received), 7 * 512 * 2 * KEY_BYTES);
    assert_int_equal(c.memory_bytes, 512 * 4 * (QUERY_BYTES + OUTPUT_BYTES + STATE_BYTES) + 3 * 512 * 2 * KEY_BYTES);
    schedule_destroy(s);
}

/* A window sends its width once, whatever the shard is. */
static void a_window_sends_as_many_keys_as_it_is_wide(void **state)
{
    (void)state;
    schedule_problem p = problem_of(LAYOUT_CONTIGUOUS, 4096, 4096, 64, 8, true);
    p.mask.window_left = 100;
    const char *const names[] = {"ring", "gather"};
    for (int rank = 0; rank < 8; rank++) {
        for (int i = 0; i < 2; i++) {
            schedule *s = plan(names[i], &p, rank);
            cost c;
            cost_of_schedule(s, &p, &sizes, &c);
            assert_int_equal(c.sum.bytes_sent[ROWS_KEYS], (rank < 7 ? 100 : 0) * 2 * KEY_BYTES);
            assert_int_equal(c.sum.bytes_received[ROWS_KEYS], (rank > 0 ? 100 : 0) * 2 * KEY_BYTES);
            schedule_destroy(s);
        }
    }
}

/* 64 MiB hold 2^20 rows of 64 bytes; rows that a message cannot hold travel one by one. */
static void messages_are_cut_at_whole_rows(void **state)
{
    (void)state;
    const int64_t most = (int64_t)1 << 20;
    const cost_sizes one = {.batch = 3, .tensor_bytes = {[ROWS_KEYS] = {64, 1}, [ROWS_QUERIES] = {(int64_t)1 << 27}}};
    const struct {
        rows_kind kind;
        int64_t rows, messages;
        head_range heads;
    } cases[] = {
        {ROWS_KEYS, 1, 2, {0, 1}},        {ROWS_KEYS, most, 2, {0, 1}}, {ROWS_KEYS, most + 1, 3, {0, 1}},
        {ROWS_KEYS, most, 3, {2, 4}},     {ROWS_KEYS, most, 5, {0, 4}}, {ROWS_KEYS, most / 3, 2, {4, 7}},
        {ROWS_KEYS, most / 3 + 1, 3, {4, 7}}, {ROWS_QUERIES, 5, 5, {0, 1}}, {ROWS_STATES, 5, 0, {0, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        schedule_transfer t = {.kind = cases[i].kind, .rows = {7, 7 + cases[i].rows}, .heads = cases[i].heads};
        const schedule_step step = {.transfers = &t, .transfer_count = 1};
        assert_int_equal(cost_messages(&one, &step, 0), 3 * cases[i].messages);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_equal_a_walk_over_the_pairs),
        cmocka_unit_test(a_ring_over_a_full_mask_costs_its_closed_form),
        cmocka_unit_test(a_window_sends_as_many_keys_as_it_is_wide),
        cmocka_unit_test(messages_are_cut_at_whole_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
