/* From the text of a sparse pattern to its slices and blocks. */
#include "partition/patterns.h"
#include "runtime/problem.h"
#include "runtime/selection.h"

static mask mask_of(const longspan_problem *p)
{
    mask m = mask_full(p->queries, p->keys);
    m.documents = p->documents;
    m.document_count = p->document_count;
    return m;
}

static int64_t block_count(int64_t tokens, int64_t size)
{
    return tokens / size + (tokens % size != 0);
}

/* The lists of blocks of a problem: one for each head where there are so many offsets. */
static pattern_blocks blocks_of(const longspan_problem *p, int64_t size)
{
    const int64_t rows = block_count(p->queries, size);
    const bool of_heads = p->heads > 1 && p->block_offset_count == p->heads * (rows + 1);
    return (pattern_blocks){.lists = of_heads ? p->heads : 1,
                            .query_blocks = of_heads ? rows : p->block_offset_count - 1,
                            .key_blocks = block_count(p->keys, size),
                            .count = p->block_key_count,
                            .offsets = p->block_offsets,
                            .columns = p->block_keys};
}

longspan_status problem_pattern(const longspan_problem *p, pattern_sum **pattern_p, failure *f)
{
    pattern_choice choice;
    char why[PATTERN_WHY_SIZE];
    *pattern_p = NULL;
    if (p->selection && !selection_is_wanted(p, &choice))
        return failure_set(f, LONGSPAN_ERROR_ARGUMENT, "a selection needs a pattern whose blocks are selected, not '%.100s'",
                           p->pattern ? p->pattern : "");
    if (!p->pattern) {
        if (p->block_offsets)
            failure_set(f, LONGSPAN_ERROR_ARGUMENT, "block_offsets need the pattern blocks:SIZE, but there is none");
        return f->status;
    }
    if (!pattern_choice_parse(p->pattern, &choice, why))
        return failure_set(f, LONGSPAN_ERROR_ARGUMENT, "pattern %s", why);
    if ((choice.kind->flags & BLOCKS_ARE_SELECTED) && !p->selection)
        return failure_set(f, LONGSPAN_ERROR_ARGUMENT,
                           "pattern '%.100s' needs a selection: what queries see is known where their lists are (attend "
                           "has them; longspan_selection_create, longspan_nsa_create)",
                           p->pattern);
    if (choice.kind->flags & BLOCKS_ARE_SELECTED) return f->status;
    const int64_t size = choice.items[0].begin > 0 ? choice.items[0].begin : 1;
    const pattern_blocks blocks = blocks_of(p, size);
    const mask m = mask_of(p);
    const int made = pattern_make(&choice, &m, p->heads, p->block_offsets ? &blocks : NULL, pattern_p, why);
    if (made < 0) failure_set(f, LONGSPAN_ERROR_MEMORY, "no memory for pattern '%.100s'", p->pattern);
    if (made > 0) failure_set(f, LONGSPAN_ERROR_UNSUPPORTED, "%s", why);
    return f->status;
}
