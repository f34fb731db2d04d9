/* Masks as text: what --mask takes, and what the attribute `mask` of a result says. One grammar for both.
 *
 * Parts joined by `+`, which a key must all pass:
 *   full                        every key; stands alone
 *   causal                      keys up to the query's own position
 *   window:LEFT                 the LEFT keys before the query, and itself: causal
 *   window:LEFT,RIGHT           and the RIGHT keys after it: causal only where another part says so
 *   prefix:N                    causal, but every query also sees the first N keys of its document
 *   chunk:SIZE[,LEFT[,RIGHT]]   keys of the query's own chunk of SIZE tokens, of the LEFT chunks before it and the
 * RIGHT chunks after it; 0 each where left out documents, key_lengths      the input's /documents or /key_lengths
 * apply; only in attributes, since they always apply where the input has them LEFT and RIGHT may be `all`. Sizes take
 * the suffixes of options_size. */
#ifndef CLI_MASK_OPTION_H
#define CLI_MASK_OPTION_H

#include "runtime/longspan.h"

#include <stdbool.h>
#include <stddef.h>

enum { MASK_NAME_SIZE = 256 };

/* The fields of longspan_problem of the same names; -1 is `all`. */
typedef struct {
    bool causal, documents, key_lengths;
    int64_t prefix;
    int64_t window_left, window_right;
    int64_t chunk, chunks_left, chunks_right;
} mask_choice;

mask_choice mask_choice_full(void);

/* False, with the reason in `why` (size bytes), if the text is no mask. Says nothing of documents and key_lengths being
 * where they may not be. */
bool mask_choice_parse(const char *text, mask_choice *choice_p, char *why, size_t size);

/* The shortest text that mask_choice_parse turns into the same choice. */
void mask_choice_name(const mask_choice *choice, char name[MASK_NAME_SIZE]);

/* Of a problem, and into one: documents and key_lengths by whether the arrays are there, which are not touched. */
mask_choice mask_choice_of(const longspan_problem *problem);
void mask_choice_apply(const mask_choice *choice, longspan_problem *problem);

#endif
