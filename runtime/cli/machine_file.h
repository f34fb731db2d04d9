/* Where the machine's numbers are kept between runs: a small JSON file that `longspan bench exchange` writes and every
 * prediction reads, if it is there. "memory_bytes", the memory that a rank may use, is not measured: it may be written into
 * the file by hand, where the system allows a process less than its share of the node's. */
#ifndef CLI_MACHINE_FILE_H
#define CLI_MACHINE_FILE_H

#include "runtime/cli/calibration.h"

/* The numbers in use, none of them 0, and where they come from. */
typedef struct {
    longspan_machine machine;
    char source[512]; /* "measured by longspan bench exchange (FILE)", "built in, ..." */
    bool measured;    /* from a file */
} machine_source;

/* Not collective. LONGSPAN_MACHINE; else $XDG_CACHE_HOME/longspan/machine.json, else ~/.cache/longspan/machine.json; ""
 * where none of the three variables is set. *named_p: it was LONGSPAN_MACHINE. */
void machine_file_path(char *path, size_t size, bool *named_p);

/* Collective. Rank 0 writes, making the folders of the default path; false, agreed on and printed, if that fails. */
bool machine_file_write(const session *s, const char *path, bool force, const calibration *c, failure *f);

/* Collective; equal on every rank. The file's numbers; where it is missing, built-in ones for the kernel's peak,
 * measured now on rank 0. A file in the default place that another CPU model wrote counts as missing; the folds of
 * another kernel than this one are built in. A file that LONGSPAN_MACHINE names must be there. False, agreed on and
 * printed, if a file is there but is none, or lacks or spoils a number. */
bool machine_load(const session *s, const attention_kernel *kernel, machine_source *source_p, failure *f);

#endif
