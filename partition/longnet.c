/* Dilated attention: Ding et al., "LongNet: Scaling transformers to 1,000,000,000 tokens", arXiv 2307.02486, section 2.
 *
 * Branch k cuts the sequence into segments of w_k tokens. Of a segment, head h keeps the tokens at o, o + r_k, o + 2
 * r_k,
 * ... from its begin on, with o = h mod r_k (section 2.3), and these attend to each other. Branches are joined by the
 * denominators of their softmax (equation 10), which is what partial states merge into: a pair that is in two branches
 * counts twice. A token that no branch keeps sees nothing.
 *
 * A term is a branch and one of its offsets o, of the heads o, o + r_k, ...: at most H of a branch. Its slices are the
 * segments. */
#include "partition/longnet.h"

static int64_t segment_of(const pattern_choice *c, int branch)
{
    return pattern_number(c, branch);
}

static int64_t step_of(const pattern_choice *c, int branch)
{
    return pattern_number(c, c->second + branch);
}

/* Offsets of a branch that some head has. */
static int offsets_of(const pattern_choice *c, int branch, int heads)
{
    const int64_t step = step_of(c, branch);
    return step < heads ? (int)step : heads;
}

/* The branch of a term, and its offset. */
static int find_branch(const pattern_choice *c, int heads, int term, int *offset_p)
{
    int branch = 0;
    while (term >= offsets_of(c, branch, heads)) term -= offsets_of(c, branch++, heads);
    *offset_p = term;
    return branch;
}

static int count_terms(const pattern_choice *c, int heads)
{
    int count = 0;
    for (int branch = 0; branch < c->second; branch++) count += offsets_of(c, branch, heads);
    return count;
}

static void heads_of_term(const pattern_choice *c, int heads, int term, int *first_p, int *step_p)
{
    const int branch = find_branch(c, heads, term, first_p);
    *step_p = offsets_of(c, branch, heads);
}

static int make_term(pattern *p, const pattern_choice *c, int heads, int term, range queries, range keys, int64_t shift)
{
    int offset, result = 0;
    const int branch = find_branch(c, heads, term, &offset);
    const int64_t segment = segment_of(c, branch), step = step_of(c, branch);
    for (int64_t begin = keys.begin; begin < keys.end && result == 0; begin += segment) {
        const range kept = range_intersect(keys, (range){begin + offset, begin + segment});
        slice s = slice_full((range){kept.begin - shift, kept.end - shift}, kept);
        s.query_stride = s.key_stride = step < p->queries + p->keys ? step : p->queries + p->keys;
        if (range_is_empty(kept)) continue;
        s = slice_within(&s, queries, keys);
        result = pattern_add_disjoint(p, &s);
    }
    return result;
}

const pattern_terms longnet_terms = {count_terms, heads_of_term, make_term};

const char *longnet_fault(const pattern_choice *c)
{
    if (c->second != c->count - c->second) return "there are not as many steps as segments";
    for (int branch = 0; branch < c->second; branch++) {
        if (segment_of(c, branch) < 1) return "a segment has at least 1 token";
        if (step_of(c, branch) < 1) return "a step is at least 1";
    }
    return NULL;
}
