/* Where `longspan plan` lets a problem run: ranks, nodes, and a machine as the options and the machine file have it. */
#ifndef CLI_PLACEMENT_H
#define CLI_PLACEMENT_H

#include "runtime/cli/forecast.h"
#include "runtime/cli/job.h"

/* What the machine's rates depend on. */
typedef struct {
    longspan_type type;
    int64_t rows;    /* query rows of a key head, of softmax attention */
    double elements; /* D + E of softmax attention, where a score costs something beside them; 0 of what is products alone,
                        in float32 */
    bool fp32;       /* compute auto is fp32 */
} placement_work;

/* Not collective. False with the reason in *f. */
bool placement_make(const options *o, const placement_work *work, const machine_source *source, placement *place_p,
                    failure *f);
/* Threads of a rank. */
int placement_threads(const options *o, int node_ranks);
/* flop/s of a rank's work on many rows. */
double placement_rate(const prediction_machine *m, double elements);

/* The machine, for people and for the report (a new reference). */
void placement_print(const options *o, const placement *place, double elements, const char *source);
json_t *placement_json(const placement *place, double elements, const char *source);

#endif
