/* PATH.part, shared by the two halves of the output writer. Internal to io/. */
#ifndef IO_OUTPUT_PART_H
#define IO_OUTPUT_PART_H

#include "io/output_file.h"

enum { OUTPUT_MOST_PATH = sizeof((output_writer *)0)->path };

/* Writes PATH.part into part [OUTPUT_MOST_PATH]. */
int output_part_path(const char *path, char *part, io_error *error);

/* Creates `part` anew, in place of what a killed run may have left; refuses while another run is writing it. */
int output_claim_part(const char *part, int *descriptor_p, io_error *error);

/* "; what to do" about an errno, or "". */
const char *output_hint(int number);

#endif
