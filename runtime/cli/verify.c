#include "runtime/cli/verify.h"

#include "kernels/number.h"
#include "runtime/patience.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int64_t verify_sample_row(uint64_t seed, int64_t index, int64_t rows, int64_t total)
{
    const int64_t begin = total / rows * index + total % rows * index / rows;
    const int64_t end = total / rows * (index + 1) + total % rows * (index + 1) / rows;
    /* splitmix64 (Steele, Lea & Flood, OOPSLA 2014) of the seed and the index */
    uint64_t x = seed * UINT64_C(0xD1342543DE82EF95) + (uint64_t)index * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return begin + (int64_t)((x ^ (x >> 31)) % (uint64_t)(end - begin));
}

void *verify_room(int64_t count, size_t size, failure *f)
{
    void *memory = calloc((size_t)(count > 0 ? count : 1), size);
    if (!memory)
        failure_set(f, LONGSPAN_ERROR_MEMORY, "out of memory: %.1f MiB for the recomputation",
                    (double)count * (double)size / 1048576);
    return memory;
}

void verify_read_rows(const verify_source *source, int64_t b, int64_t begin, int64_t end, void *raw, float *narrow,
                      double *target, failure *f)
{
    const tensor_shape *shape = source->shape;
    const int64_t count = (end - begin) * shape->heads * shape->dim;
    io_error error;
    if (f->status != LONGSPAN_OK) return;
    if (tensor_file_read(source->file, source->dataset, shape, b, begin, end, raw, &error)) {
        failure_set(f, LONGSPAN_ERROR_IO, "%s", error.text);
        return;
    }
    number_widen((kernel_type)shape->type, raw, narrow, count);
    for (int64_t i = 0; i < count; i++) target[i] = (double)narrow[i];
}

type_limits verify_limits_of(io_type type)
{
    if (type == IO_FLOAT16) return (type_limits){0x1p-11, 65504, 0x1p-24};
    if (type == IO_BFLOAT16) return (type_limits){0x1p-8, 0x1.FEp127, 0x1p-110};
    return (type_limits){0x1p-24, 0x1.FFFFFEp127, 0x1p-110};
}

verdict verify_nothing(void)
{
    return (verdict){.out.token = -1, .lse.token = -1};
}

void verify_compare(verdict *all, worst_case *worst, worst_case here, double value, double reference, double most)
{
    const bool overflowed = isinf(value) && fabs(reference) + here.bound >= most && (value > 0) == (reference > 0);
    bool same = value == reference || (isfinite(reference) && overflowed);
    if (isnan(reference) || (isinf(reference) && isfinite(most))) same = !isfinite(value);
    here.error = same ? 0 : fabs(value - reference);
    here.fraction = same ? 0 : here.error / here.bound;
    if (!(here.fraction <= 1)) all->over++;
    if (isnan(here.fraction)) here.error = here.fraction = INFINITY;
    if (worst->token < 0 || here.fraction > worst->fraction) *worst = here;
    all->values++;
}

void verify_compare_out(verdict *all, worst_case here, double value, double reference, const type_limits *limits)
{
    verify_compare(all, &all->out, here, value, reference, limits->most);
    if (!isfinite(reference) || !isfinite(value)) return;
    all->square_error += (value - reference) * (value - reference);
    all->square_reference += reference * reference;
}

static void add_worst(worst_case *all, const worst_case *other)
{
    if (other->token >= 0 && (all->token < 0 || other->fraction > all->fraction)) *all = *other;
}

bool verify_join(const session *s, verdict *all, failure *f)
{
    verdict *each = verify_room(s->ranks, sizeof *each, f);
    const bool enough = session_agree(s, f);
    if (enough) {
        wait_allgather(all, (int)sizeof *all, MPI_BYTE, each, (int)sizeof *each, MPI_BYTE, s->comm);
        *all = verify_nothing();
        for (int rank = 0; rank < s->ranks; rank++) {
            add_worst(&all->out, &each[rank].out);
            add_worst(&all->lse, &each[rank].lse);
            all->values += each[rank].values;
            all->over += each[rank].over;
            all->wrong_lists += each[rank].wrong_lists;
            all->square_error += each[rank].square_error;
            all->square_reference += each[rank].square_reference;
        }
    }
    free(each);
    return enough;
}

bool verify_failed(const verdict *all)
{
    return all->over || all->wrong_lists;
}

void verify_print_head(const options *o, const tensor_shape *q, int64_t rows, const verdict *all)
{
    printf("%s: %s\n", o->arguments[1], verify_failed(all) ? "FAILED" : "PASSED");
    printf("  %lld of %lld rows x %d heads recomputed in float64 from %s, seed %llu\n", (long long)rows,
           (long long)(q->batch * q->tokens), q->heads, o->arguments[0], (unsigned long long)o->seed);
    verify_print_worst("out", &all->out);
}

void verify_print_worst(const char *name, const worst_case *c)
{
    printf("  %-4s  largest error %.3g of its bound: |error| %.3g, bound %.3g, at batch %lld, token %lld, head %d\n",
           name, c->fraction, c->error, c->bound, (long long)c->batch, (long long)c->token, c->head);
}

void verify_print_sums(const verdict *all)
{
    const double square = all->square_reference > 0 ? all->square_error / all->square_reference : all->square_error;
    printf("  relative RMS error of out over these rows: %.3g\n", sqrt(square));
    if (all->over)
        printf("  %lld of %lld values are beyond their bound\n", (long long)all->over, (long long)all->values);
}
