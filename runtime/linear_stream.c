/* Where a stream begins and where it ends: states as the user has them, [B, H, F, W] with the keys' largest exponents,
 * against states of units.
 *
 * Keys of some variants are exponentials, which are counted from the largest exponent of all the keys so far, so that
 * none overflows: the reference. A state that was summed from an older, lower one is multiplied by exp(old - new). */
#include "kernels/float_environment.h"
#include "partition/message.h"
#include "runtime/linear_plan.h"
#include "runtime/patience.h"

#include <math.h>

static int64_t reference_count(const longspan_linear_plan *plan)
{
    const linear_shape *shape = &plan->call.shape;
    return shape->batch * shape->heads * linear_reference_dim(shape);
}

void linear_stream_find_reference(longspan_linear_plan *plan, const linear_call *call,
                                  const longspan_linear_state *initial)
{
    enum { PIECE = MESSAGE_MAX_BYTES / 8 };
    const int64_t count = reference_count(plan);
    if (count == 0) return;
    double *reference = plan->reference;
    for (int64_t i = 0; i < count; i++) reference[i] = -INFINITY;
    if (call->tokens > 0) plan->kernel->references(call, reference);
    if (initial && plan->schedule->initial_buffer >= 0)
        for (int64_t i = 0; i < count; i++) reference[i] = fmax(reference[i], initial->reference[i]);
    for (int64_t done = 0; done < count; done += PIECE)
        wait_allreduce(MPI_IN_PLACE, reference + done, (int)(count - done < PIECE ? count - done : PIECE), MPI_DOUBLE,
                       MPI_MAX, plan->context->comm);
}

/* What sums of feature f of a head, counted from `old`, are multiplied by. */
static double rescaling(const longspan_linear_plan *plan, const double *old, int64_t head, int f)
{
    const int dim = linear_reference_dim(&plan->call.shape);
    if (dim == 0) return 1;
    const int64_t at = head * dim + (dim > 1 ? f : 0);
    return old[at] == plan->reference[at] ? 1 : exp(old[at] - plan->reference[at]);
}

/* A unit's columns within a row of W of its head. */
typedef struct {
    int64_t head; /* b H + h */
    int first, columns;
} unit_columns;

static unit_columns columns_of(const linear_shape *shape, int64_t unit)
{
    const int blocks = linear_column_blocks(shape);
    unit_columns u = {.head = unit / blocks};
    u.columns = linear_block_columns(shape, (int)(unit % blocks), &u.first);
    return u;
}

void linear_stream_begin(const longspan_linear_plan *plan, const longspan_linear_state *initial)
{
    const linear_shape *shape = &plan->call.shape;
    const int64_t units = linear_units(shape);
    const int features = linear_feature_dim(shape), width = linear_width(shape);
    if (plan->schedule->initial_buffer < 0) return;
    double *states = linear_plan_buffer(plan, plan->schedule->initial_buffer);
    linear_state_clear(shape, 0, units, states);
    const float_environment environment = environment_enter();
    for (int64_t unit = 0; initial && unit < units; unit++) {
        const unit_columns u = columns_of(shape, unit);
        double *state = states + (size_t)unit * linear_state_size(shape);
        for (int f = 0; f < features; f++) {
            const double *row = initial->sums + (u.head * features + f) * width + u.first;
            const double factor = rescaling(plan, initial->reference, u.head, f);
            for (int c = 0; c < u.columns; c++) *state++ = factor * row[c];
        }
    }
    environment_leave(environment);
}

void linear_stream_end(const longspan_linear_plan *plan, longspan_linear_state *final)
{
    const linear_shape *shape = &plan->call.shape;
    const int features = linear_feature_dim(shape), width = linear_width(shape);
    if (!final || plan->schedule->final_buffer < 0) return;
    const double *states = linear_plan_buffer(plan, plan->schedule->final_buffer);
    for (int64_t unit = 0; unit < linear_units(shape); unit++) {
        const unit_columns u = columns_of(shape, unit);
        const double *state = states + (size_t)unit * linear_state_size(shape);
        for (int f = 0; f < features; f++) {
            double *row = final->sums + (u.head * features + f) * width + u.first;
            for (int c = 0; c < u.columns; c++) row[c] = *state++;
        }
    }
    for (int64_t i = 0; i < reference_count(plan); i++) final->reference[i] = plan->reference[i];
}
