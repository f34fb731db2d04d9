/* Hybrid: heads are dealt to the C ranks of a group, keys go round a ring of R groups, P = R C.
 *
 * Sources: Fang and Zhao, "USP: A Unified Sequence Parallelism Approach for Long Context Generative AI", arXiv
 * 2405.07719; Gu et al., "LoongTrain", arXiv 2406.18485 (2D-Attention), whose "head first" placement this is: the ranks
 * that share heads are neighbours, where the links are fast. hybrid:1xP is the strategy heads, hybrid:Px1 sends what
 * ring sends.
 *
 * Between groups a rank carries 1 / C of the heads of C shards, that is one shard's worth of bytes a hop, in R - 1 hops
 * where a ring needs P - 1; the exchange within a group is that of the strategy heads among C ranks. columns.c has the
 * steps.
 *
 * With n tokens a rank, C | G and a full mask, a rank sends (R - 1) n rows of keys around the ring and, within its
 * group, n (C - 1) / C rows of queries, as many of keys and of states, each row counted with all its heads. Causal,
 * contiguous: group g sends (g + 1) n rows of keys on, if there is a next. Memory beside the shard: (C - 1) / C of a
 * shard each of queries, of keys, of states and of states that come home, and two shards of keys for the ring.
 *
 * C is what the user says, else the number of ranks of a node. */
#include "partition/columns.h"

static int hybrid_columns(const schedule_problem *problem)
{
    return problem->columns > 0 ? problem->columns : problem->node_ranks;
}

static int hybrid_plan(const schedule_problem *problem, int rank, schedule **schedule_p)
{
    return columns_plan(problem, hybrid_columns(problem), rank, schedule_p);
}

static const char *hybrid_refuse(const schedule_problem *problem)
{
    const char *fault = schedule_moving_problem_fault(problem);
    if (fault) return fault;
    const int ranks = problem->key_layout.ranks;
    if (problem->columns < 0) return "hybrid: a number of columns below zero";
    if (problem->columns > 0 && ranks % problem->columns != 0)
        return "hybrid:RxC needs R x C ranks: the ranks are no multiple of the columns";
    if (problem->columns == 0 && problem->node_ranks == 1 && ranks > 1)
        return "hybrid does not know how many ranks are to share the heads, nodes do not tell; say hybrid:RxC";
    return columns_fault(hybrid_columns(problem));
}

extern const strategy strategy_hybrid;
const strategy strategy_hybrid = {
    .name = "hybrid",
    .summary = "heads are dealt to the ranks of a group, keys go round a ring of groups; hybrid:RxC for R groups of C",
    .refuse = hybrid_refuse,
    .plan = hybrid_plan,
    .columns = hybrid_columns,
};
