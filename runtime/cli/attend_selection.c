#include "runtime/cli/attend_selection.h"

#include "runtime/patience.h"
#include "runtime/selection.h"

#include <stdlib.h>
#include <string.h>

bool attend_selects(const char *path, const input_file *input, const longspan_problem *problem, failure *f)
{
    pattern_choice choice;
    const bool wanted = selection_is_wanted(problem, &choice),
               listed = wanted && strcmp(choice.kind->name, "selected") == 0;
    if (!listed && tensor_file_has(input->file, "/selected_blocks"))
        failure_set(f, LONGSPAN_ERROR_IO, "%s: /selected_blocks has no meaning without --pattern selected:SIZE", path);
    if ((!wanted || strcmp(choice.kind->name, "nsa") != 0) && tensor_file_has(input->file, "/gates"))
        failure_set(f, LONGSPAN_ERROR_IO, "%s: /gates has no meaning without --pattern nsa:...", path);
    return wanted;
}

/* The lists of this rank's queries, [T, lists, most]; NULL, with the reason in *f, where they cannot be read. */
static int32_t *read_lists(const input_file *input, longspan_range own, selection_shape *shape_p, failure *f)
{
    io_error error;
    if (tensor_file_selection(input->file, input->shapes.q.tokens, shape_p, &error) != 0) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return NULL;
    }
    const size_t count = (size_t)(own.end - own.begin) * (size_t)shape_p->lists * (size_t)shape_p->most;
    int32_t *lists = malloc((count + 1) * sizeof *lists);
    if (!lists)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: %.1f MiB for this rank's rows of /selected_blocks",
                    (double)count * sizeof *lists / 1048576);
    else if (tensor_file_read_selection(input->file, shape_p, own.begin, own.end, lists, &error) != 0)
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
    return lists;
}

static bool read_choosers(const session *s, const input_file *input, const longspan_problem *p, job *j, failure *f)
{
    const longspan_range queries = longspan_selection_tokens(j->context, p, LONGSPAN_QUERIES);
    const longspan_range keys = longspan_selection_tokens(j->context, p, LONGSPAN_KEYS);
    const attention_shapes *shapes = &input->shapes;
    const size_t size = io_type_size(shapes->q.type);
    j->q = job_allocate("q", queries.end - queries.begin, shapes->q.heads, shapes->q.dim, size, f);
    j->k = job_allocate("k", keys.end - keys.begin, shapes->k.heads, shapes->k.dim, size, f);
    if (!session_agree(s, f)) return false;
    if (input_file_read(s->comm, input, "/q", &shapes->q, &queries, queries.begin < queries.end, j->q, f) ==
            LONGSPAN_OK &&
        input_file_read(s->comm, input, "/k", &shapes->k, &keys, keys.begin < keys.end, j->k, f) == LONGSPAN_OK)
        return true;
    session_fail(s, f);
    return false;
}

static bool choose(const session *s, const input_file *input, longspan_problem *problem, job *j, failure *f)
{
    if (problem->batch == 1 && !read_choosers(s, input, problem, j, f)) return false; /* of more, the library refuses */
    const bool made = job_check(s, j, longspan_selection_choose(j->context, problem, j->q, j->k, &j->selection), f);
    problem->selection = j->selection;
    j->selection_is_chosen = made;
    return made;
}

output_dataset attend_selection_dataset(const longspan_selection *selection, int64_t tokens)
{
    int lists;
    int64_t most;
    longspan_selection_blocks(selection, &lists, &most);
    return (output_dataset){
        .name = "/selected_blocks", .type = OUTPUT_INT32, .rank = 3, .extent = {tokens, lists, most}};
}

bool attend_select(const session *s, const input_file *input, longspan_problem *problem, job *j, failure *f)
{
    pattern_choice choice;
    selection_is_wanted(problem, &choice);
    if (strcmp(choice.kind->name, "selected") != 0) return choose(s, input, problem, j, f);
    const longspan_range own = longspan_selection_tokens(j->context, problem, LONGSPAN_QUERIES);
    selection_shape shape = {0};
    int32_t *lists = read_lists(input, own, &shape, f);
    bool made = session_agree(s, f);
    if (made)
        made = job_check(
            s, j, longspan_selection_create(j->context, problem, shape.lists, shape.most, lists, &j->selection), f);
    free(lists);
    problem->selection = j->selection;
    return made;
}

double attend_selection_pairs(const session *s, const job *j)
{
    double pairs = selection_pairs(j->selection, &j->plan->scheduled.mask);
    wait_allreduce(MPI_IN_PLACE, &pairs, 1, MPI_DOUBLE, MPI_SUM, s->comm);
    return pairs / j->problem.heads;
}
