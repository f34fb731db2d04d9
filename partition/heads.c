/* Heads: an all-to-all gives every rank some of the heads and, for these, the whole sequence; another brings the
 * results home.
 *
 * Source: Jacobs et al., "DeepSpeed Ulysses: System Optimizations for Enabling Training of Extreme Long Sequence
 * Transformer Models", arXiv 2309.14509. Here any number of heads and ranks will do: runs of heads differ by one at
 * most, ranks beyond the number of heads help to send and receive and fold nothing, and key heads shared by query heads
 * of several ranks go to each.
 *
 * What travels falls with the number of ranks, where a ring's stays the same, and the work is balanced under any mask
 * and layout, because every rank has all queries and all keys. But nothing hides the exchange except the fold of a
 * rank's own shard, and there are no more ranks at work than heads. columns.c has the steps.
 *
 * With n tokens a rank, P | G and a full or causal mask, a rank sends n (P - 1) / P rows of queries, as many of keys
 * and as many of states, each row counted with all its heads. A window changes nothing but that keys nobody sees stay
 * at home. Memory beside the shard: of queries, keys and states the shards of all others for 1 / P of the heads, which
 * is (P - 1) / P of a shard of each, and as much again for states that come home. */
#include "partition/columns.h"

static int heads_columns(const schedule_problem *problem)
{
    return problem->key_layout.ranks;
}

static int heads_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    return columns_plan(problem, heads_columns(problem), rank, schedule_p);
}

static const char *heads_refuse(const schedule_problem *problem)
{
    const char *fault = schedule_moving_problem_fault(problem);
    return fault ? fault : columns_fault(problem->key_layout.ranks);
}

extern const strategy strategy_heads;
const strategy strategy_heads = {
    .name = "heads",
    .summary = "all-to-all over heads: a rank has the whole sequence for some heads; for many heads and few ranks",
    .refuse = heads_refuse,
    .plan = heads_plan,
    .columns = heads_columns,
};
