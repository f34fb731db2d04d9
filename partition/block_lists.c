#include "partition/block_lists.h"

#include <string.h>

/* What is wrong with one of the lists, of `begin` columns before it. */
static const char *list_fault(const pattern_blocks *b, const int64_t *offsets, int64_t begin)
{
    if (offsets[0] != begin) return "its offsets do not go from 0 to the end";
    for (int64_t i = 0; i < b->query_blocks; i++) {
        if (offsets[i] > offsets[i + 1] || offsets[i + 1] > b->count) return "its offsets do not ascend";
        for (int64_t j = offsets[i]; j < offsets[i + 1]; j++) {
            if (b->columns[j] < 0 || b->columns[j] >= b->key_blocks)
                return "it names a block of keys that is not there";
            if (j > offsets[i] && b->columns[j] <= b->columns[j - 1]) return "the blocks of a row do not ascend";
        }
    }
    return NULL;
}

static const int64_t *list_offsets(const pattern_blocks *b, int list)
{
    return b->offsets + list * (b->query_blocks + 1);
}

static const char *blocks_fault(const pattern_blocks *b, int heads, int64_t query_blocks, int64_t key_blocks)
{
    if (b->query_blocks != query_blocks || b->key_blocks != key_blocks || (b->lists != 1 && b->lists != heads))
        return "the list has another number of blocks than the tokens have";
    const char *fault = NULL;
    for (int i = 0; i < b->lists && !fault; i++)
        fault = list_fault(b, list_offsets(b, i), i > 0 ? list_offsets(b, i)[-1] : 0);
    if (!fault && list_offsets(b, b->lists)[-1] != b->count) return "its offsets do not go from 0 to the end";
    return fault;
}

/* One of the lists as a pattern, and its columns counted from their begin; -1 if memory ran out. */
static int take_list(pattern *p, int64_t size, const pattern_blocks *b, const int64_t *offsets)
{
    const int64_t rows = b->query_blocks, count = offsets[rows] - offsets[0];
    if (pattern_make_blocks(p, size, count) != 0) return -1;
    for (int64_t i = 0; i <= rows; i++) p->blocks.offsets[i] = offsets[i] - offsets[0];
    if (count > 0) memcpy(p->blocks.columns, b->columns + offsets[0], (size_t)count * sizeof *b->columns);
    return 0;
}

static bool is_list(const block_list *known, const pattern_blocks *b, const int64_t *offsets)
{
    const int64_t rows = b->query_blocks, count = offsets[rows] - offsets[0];
    if (known->offsets[rows] != count) return false;
    for (int64_t i = 0; i < rows; i++)
        if (known->offsets[i] != offsets[i] - offsets[0]) return false;
    return count == 0 || memcmp(known->columns, b->columns + offsets[0], (size_t)count * sizeof *b->columns) == 0;
}

/* The term that is this list, which is added if there is none; -1 if memory ran out. */
static int term_of_list(pattern_sum *s, const mask *m, int64_t size, const pattern_blocks *b, const int64_t *offsets)
{
    for (int i = 0; i < s->count; i++)
        if (is_list(&s->terms[i].pattern->blocks, b, offsets)) return i;
    if (pattern_sum_begin_term(s, m->queries, m->keys) != 0 ||
        take_list(s->terms[s->count - 1].pattern, size, b, offsets) != 0)
        return -1;
    return s->count - 1;
}

int block_lists_take(pattern_sum *s, const mask *m, int64_t size, const pattern_blocks *b, const char **fault_p)
{
    const int64_t rows = m->queries / size + (m->queries % size != 0), columns = m->keys / size + (m->keys % size != 0);
    const char *fault = b && b->offsets ? blocks_fault(b, s->heads, rows, columns) : "no list of blocks is given";
    *fault_p = fault;
    if (fault) return 1;
    for (int i = 0; i < b->lists; i++) {
        const int term = term_of_list(s, m, size, b, list_offsets(b, i));
        if (term < 0) return -1;
        if (b->lists == 1 ? pattern_sum_give(s, term, 0, 1) != 0 : pattern_term_give(&s->terms[term], i) != 0)
            return -1;
    }
    return 0;
}
