/* The machine's numbers, measured: a few seconds on all ranks at once, so that what ranks of a node share is shared. */
#ifndef CLI_CALIBRATION_H
#define CLI_CALIBRATION_H

#include "kernels/attention.h"
#include "runtime/cli/session.h"

enum { CALIBRATION_POINTS = 10 };

/* An exchange: every rank sends so many bytes, and receives as many. Mean over the ranks. */
typedef struct {
    int64_t bytes;
    double seconds;
} calibration_point;

/* Folds of many rows, at the head sizes 64 and 128. */
typedef struct {
    attention_compute compute;
    double flops[2]; /* of all ranks a second */
} calibration_rate;

typedef struct {
    longspan_machine machine; /* 0 where there was nothing to measure: no second rank, no second node */
    const char *kernel;
    int ranks, nodes, threads;
    double cpu_share;                                                        /* of a CPU that each thread had */
    calibration_point node[CALIBRATION_POINTS], network[CALIBRATION_POINTS]; /* bytes 0: not measured */
    calibration_rate rates[COMPUTE_COUNT];
    int rate_count;
    double peak; /* float32 multiply-add flop/s of all ranks */
} calibration;

/* Collective. Equal on every rank. False, agreed on and printed, if memory ran out. */
bool calibration_measure(const session *s, const attention_kernel *kernel, int threads, calibration *c, failure *f);

#endif
