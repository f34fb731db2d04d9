/* The benchmarks of `longspan bench`: each is one file bench_*.c, which defines one of these, and one line in the table
 * in cmd_bench.c. Collective; the options are those of the benchmark's line. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "runtime/cli/options.h"
#include "runtime/cli/session.h"

exit_status bench_attention(session *s, const options *o);
exit_status bench_exchange(session *s, const options *o);
exit_status bench_kernels(session *s, const options *o);

/* The same of a linear --attention: where bench_attention and bench_kernels go on. */
exit_status bench_linear(session *s, const options *o);
exit_status bench_linear_kernels(session *s, const options *o);

#endif
