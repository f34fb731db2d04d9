/* sparsemax and alpha-entmax by name, as --attention and the attribute of a result have them. */
#ifndef CLI_ENTMAX_OPTION_H
#define CLI_ENTMAX_OPTION_H

#include <stdbool.h>

enum { ENTMAX_NAME_SIZE = 40 };

/* "sparsemax", "entmax" (alpha 1.5), "entmax:1.25". False, and *alpha_p as it was, for anything else, also an alpha
 * that is out of range. */
bool entmax_option_parse(const char *text, double *alpha_p);

/* The name that gives this alpha; "softmax" for 0. */
void entmax_option_name(double alpha, char name[ENTMAX_NAME_SIZE]);

#endif
