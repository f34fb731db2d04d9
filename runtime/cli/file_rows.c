#include "runtime/cli/file_rows.h"

#include "runtime/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Runs of at least so many bytes are as good as longer ones. */
enum { LONG_RUN_BYTES = 1 << 20 };

/* A relayout between the plan's rows and contiguous ones, with room for the latter. */
typedef struct {
    longspan_relayout *relayout;
    longspan_relayout_side file_side;
    longspan_range *ranges;
    int64_t range_count;
    void *staged; /* [B, T, row_bytes] */
} passage;

static const layout *layout_of(const job *j, longspan_axis axis)
{
    const schedule_problem *scheduled = &j->plan->scheduled;
    return axis == LONGSPAN_QUERIES ? &scheduled->query_layout : &scheduled->key_layout;
}

/* The same on every rank. */
static bool runs_are_short(const layout *l, size_t row_bytes)
{
    return l->kind == LAYOUT_STRIPED && l->ranks > 1 && (size_t)l->grain * row_bytes < LONG_RUN_BYTES;
}

static void passage_close(passage *p)
{
    longspan_relayout_destroy(&p->relayout);
    free(p->ranges);
    free(p->staged);
    *p = (passage){0};
}

/* Collective. Agrees on *f. */
static void passage_open(const session *s, const job *j, const layout *l, size_t row_bytes, longspan_relayout_side side,
                         passage *passage_p, failure *f)
{
    char striped[64];
    snprintf(striped, sizeof striped, "striped:%" PRId64, l->grain);
    const longspan_relayout_problem problem = {
        .batch = j->problem.batch,
        .tokens = l->tokens,
        .row_bytes = row_bytes,
        .from = side == LONGSPAN_FROM ? "contiguous" : striped,
        .to = side == LONGSPAN_TO ? "contiguous" : striped,
    };
    *passage_p = (passage){.file_side = side};
    passage *p = passage_p;
    const longspan_status created = longspan_relayout_create(j->context, &problem, &p->relayout);
    if (created != LONGSPAN_OK) {
        failure_set(f, created, "%s", longspan_context_error(j->context));
        return;
    }
    longspan_relayout_rows(p->relayout, side, NULL, 0, &p->range_count);
    const size_t rows = (size_t)problem.batch * (size_t)longspan_relayout_tokens(p->relayout, side);
    p->ranges = malloc(((size_t)p->range_count + 1) * sizeof *p->ranges);
    p->staged = malloc(rows * row_bytes + 1);
    if (!p->ranges || !p->staged)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: %.1f MiB for rows on their way between file and ranks",
                    (double)rows * (double)row_bytes / 1048576);
    else longspan_relayout_rows(p->relayout, side, p->ranges, p->range_count, &p->range_count);
    int rank;
    agreement_reach(s->comm, f, &rank);
}

bool file_rows_read(const session *s, const job *j, longspan_axis axis, const input_file *input, const char *dataset,
                    const tensor_shape *shape, void *target, failure *f)
{
    const bool queries = axis == LONGSPAN_QUERIES;
    const size_t row_bytes = io_type_size(shape->type) * (size_t)shape->heads * (size_t)shape->dim;
    const layout *l = layout_of(j, axis);
    passage p = {0};
    if (!runs_are_short(l, row_bytes)) {
        input_file_read(s->comm, input, dataset, shape, queries ? j->query_ranges : j->key_ranges,
                        queries ? j->query_range_count : j->key_range_count, target, f);
    } else {
        passage_open(s, j, l, row_bytes, LONGSPAN_FROM, &p, f);
        if (f->status == LONGSPAN_OK &&
            input_file_read(s->comm, input, dataset, shape, p.ranges, p.range_count, p.staged, f) == LONGSPAN_OK) {
            const longspan_status passed = longspan_relayout_execute(p.relayout, p.staged, target);
            if (passed != LONGSPAN_OK) failure_set(f, passed, "%s", longspan_context_error(j->context));
        }
        passage_close(&p);
    }
    if (f->status != LONGSPAN_OK) session_fail(s, f);
    return f->status == LONGSPAN_OK;
}

void file_rows_write(const session *s, const job *j, const output_file *output, int index, bool batched,
                     size_t row_bytes, const void *source, failure *f)
{
    const layout *l = layout_of(j, LONGSPAN_QUERIES);
    passage p = {0};
    if (!runs_are_short(l, row_bytes)) {
        output_file_write(output, index, batched, j->query_ranges, j->query_range_count, source, f);
        return;
    }
    failure passing = {0}; /* all ranks go through here, whatever *f is */
    passage_open(s, j, l, row_bytes, LONGSPAN_TO, &p, &passing);
    if (passing.status == LONGSPAN_OK) {
        const longspan_status passed = longspan_relayout_execute(p.relayout, source, p.staged);
        if (passed != LONGSPAN_OK) failure_set(&passing, passed, "%s", longspan_context_error(j->context));
    }
    if (passing.status != LONGSPAN_OK) failure_set(f, passing.status, "%s", passing.text);
    else output_file_write(output, index, batched, p.ranges, p.range_count, p.staged, f);
    passage_close(&p);
}
