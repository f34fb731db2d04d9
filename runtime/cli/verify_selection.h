/* What verify knows of selected blocks. */
#ifndef CLI_VERIFY_SELECTION_H
#define CLI_VERIFY_SELECTION_H

#include "runtime/cli/result_file.h"

/* Not collective. The keys that a sampled row sees become those of its lists, which are read from the file that holds
 * them. -1 with the reason in *f. */
int verify_selection_apply(const result_file *result, int64_t token, oracle_row *row, failure *f);

#endif
