#include "partition/cost.h"

#include "tests/partition/brute.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const cost_sizes sizes = {
    .flops_per_pair = 1024, .key_value_bytes = 96, .query_bytes = 40, .output_bytes = 56, .state_bytes = 72};
static const cost_machine machine = {.flops = 1e6, .bandwidth = 1e5, .latency = 1e-3};

/* What the rank must do at least and, by the rules of a schedule, exactly. */
static int64_t brute_pairs(const schedule_problem *p, int rank)
{
    token_map queries;
    token_map_make(&queries, &p->query_layout);
    int64_t *document_of = documents_of_tokens(&p->mask);
    int64_t pairs = 0;
    for (int64_t i = 0; i < p->mask.queries; i++)
        for (int64_t j = 0; j < p->mask.keys; j++)
            pairs += queries.owner[i] == rank && brute_sees(&p->mask, document_of, i, j);
    free(document_of);
    token_map_free(&queries);
    return pairs;
}

static double brute_seconds(const schedule_problem *p, const schedule *s)
{
    int64_t *document_of = documents_of_tokens(&p->mask);
    double seconds = 0;
    for (int64_t i = 0; i < s->step_count; i++) {
        const schedule_step *step = &s->steps[i];
        int64_t pairs = 0, tokens[2] = {0}, messages[2] = {0};
        for (int64_t f = 0; f < step->fold_count; f++)
            for (int64_t x = step->folds[f].queries.begin; x < step->folds[f].queries.end; x++)
                for (int64_t y = step->folds[f].keys.begin; y < step->folds[f].keys.end; y++)
                    pairs += brute_sees(&p->mask, document_of, x, y);
        for (int64_t t = 0; t < step->transfer_count; t++) {
            messages[step->transfers[t].direction]++;
            tokens[step->transfers[t].direction] += step->transfers[t].keys.end - step->transfers[t].keys.begin;
        }
        const double compute = (double)pairs * 1024 / 1e6;
        const double link = fmax((double)messages[0], (double)messages[1]) * 1e-3 +
                            fmax((double)tokens[0], (double)tokens[1]) * 96 / 1e5;
        seconds += fmax(compute, link);
    }
    free(document_of);
    return seconds;
}

static void check_problem(const schedule_problem *p)
{
    for (int i = 0; i < strategy_count; i++) {
        int64_t sent = 0, received = 0;
        for (int rank = 0; rank < p->key_layout.ranks; rank++) {
            schedule *s = NULL;
            assert_int_equal(strategies[i]->plan(p, rank, &s), 0);
            cost c;
            cost_of_schedule(s, p, &sizes, &machine, &c);
            const int64_t pairs = brute_pairs(p, rank);
            assert_int_equal(c.pairs, pairs);
            assert_true(c.flops == 1024.0 * (double)pairs);
            assert_int_equal(c.steps, s->step_count);
            int64_t folds = 0, sends = 0, bytes[2] = {0};
            for (int64_t at = 0; at < s->step_count; at++) {
                folds += s->steps[at].fold_count;
                for (int64_t t = 0; t < s->steps[at].transfer_count; t++) {
                    const schedule_transfer *x = &s->steps[at].transfers[t];
                    sends += x->direction == TRANSFER_SEND;
                    bytes[x->direction] += 96 * (x->keys.end - x->keys.begin);
                }
            }
            assert_int_equal(c.folds, folds);
            assert_int_equal(c.messages, sends);
            assert_int_equal(c.bytes_sent, bytes[TRANSFER_SEND]);
            assert_int_equal(c.bytes_received, bytes[TRANSFER_RECEIVE]);
            assert_true(fabs(c.seconds - brute_seconds(p, s)) <= 1e-12 * (1 + c.seconds));
            token_map queries, keys;
            token_map_make(&queries, &p->query_layout);
            token_map_make(&keys, &p->key_layout);
            assert_int_equal(c.memory_bytes, queries.held[rank] * (40 + 56 + 72) +
                                                 (keys.held[rank] + s->slot_tokens[0] + s->slot_tokens[1]) * 96);
            token_map_free(&queries);
            token_map_free(&keys);
            sent += c.bytes_sent;
            received += c.bytes_received;
            schedule_destroy(s);
        }
        assert_int_equal(sent, received);
    }
}

static void counts_and_time_equal_a_walk_over_the_pairs(void **state)
{
    (void)state;
    const int64_t documents[] = {0, 3, 3, 19, 36, 37};
    const layout_kind kinds[] = {LAYOUT_CONTIGUOUS, LAYOUT_ZIGZAG};
    for (int kind = 0; kind < 2; kind++) {
        for (int ranks = 1; ranks <= 5; ranks++) {
            for (int form = 0; form < 6; form++) {
                const int64_t keys = form < 2 ? 23 : 37;
                schedule_problem p = {
                    .mask = {.queries = 37, .keys = keys, .causal = form % 2 == 1},
                    .query_layout = {.kind = kinds[kind], .tokens = 37, .grain = 2, .ranks = ranks},
                    .key_layout = {.kind = kinds[kind], .tokens = keys, .grain = 3, .ranks = ranks},
                };
                if (form >= 4) {
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
    const layout l = {.kind = LAYOUT_CONTIGUOUS, .tokens = 4096, .grain = 64, .ranks = 8};
    const schedule_problem p = {.mask = {.queries = l.tokens, .keys = l.tokens}, .query_layout = l, .key_layout = l};
    schedule *s = NULL;
    assert_int_equal(strategy_find("ring")->plan(&p, 3, &s), 0);
    cost c;
    cost_of_schedule(s, &p, &sizes, &machine, &c);
    assert_int_equal(c.steps, 8);
    assert_int_equal(c.messages, 7);
    assert_int_equal(c.pairs, 512 * 4096);
    assert_int_equal(c.bytes_sent, 7 * 512 * 96);
    assert_int_equal(c.bytes_received, 7 * 512 * 96);
    assert_int_equal(c.memory_bytes, 512 * (40 + 56 + 72) + 3 * 512 * 96);
    /* A step computes 512 * 512 * 1024 / 1e6 = 268 s and transfers for half a second. */
    assert_true(fabs(c.seconds - 8 * 512.0 * 512 * 1024 / 1e6) < 1e-9 * c.seconds);
    schedule_destroy(s);
}

static void a_slow_link_costs_its_latency_and_its_bytes(void **state)
{
    (void)state;
    const layout l = {.kind = LAYOUT_CONTIGUOUS, .tokens = 64, .grain = 1, .ranks = 2};
    const schedule_problem p = {
        .mask = {.queries = l.tokens, .keys = l.tokens, .causal = true}, .query_layout = l, .key_layout = l};
    const cost_machine slow = {.flops = 1e18, .bandwidth = 96, .latency = 0.25};
    cost c[2];
    for (int rank = 0; rank < 2; rank++) {
        schedule *s = NULL;
        assert_int_equal(strategy_find("ring")->plan(&p, rank, &s), 0);
        cost_of_schedule(s, &p, &sizes, &slow, &c[rank]);
        schedule_destroy(s);
    }
    /* Rank 0 sends its 32 keys to rank 1: 32 s and a latency for the one that sends and for the one that waits. */
    assert_true(fabs(c[0].seconds - 32.25) < 1e-9);
    assert_true(fabs(c[1].seconds - 32.25) < 1e-9);
    assert_int_equal(c[0].messages, 1);
    assert_int_equal(c[1].messages, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_time_equal_a_walk_over_the_pairs),
        cmocka_unit_test(a_ring_over_a_full_mask_costs_its_closed_form),
        cmocka_unit_test(a_slow_link_costs_its_latency_and_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
