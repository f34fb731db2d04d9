/* longspan embed text and longspan embed audio, and what the two share: rows of q, k and v on their way to the file. */
#ifndef CLI_EMBED_H
#define CLI_EMBED_H

#include "runtime/cli/files.h"
#include "runtime/cli/options.h"
#include "runtime/cli/session.h"

/* Datasets of the output. */
enum { EMBED_Q, EMBED_K, EMBED_V, EMBED_OFFSETS, EMBED_SETS };

/* Collective; as command.run, once the options are complete. */
exit_status embed_text(session *s, const options *o);
exit_status embed_audio(session *s, const options *o);

/* Room for the features of `capacity` tokens, some 16 MiB of them. */
typedef struct {
    int64_t capacity;
    float *set[EMBED_OFFSETS]; /* q, k, v */
    void *narrow;              /* the largest of them in the type of the file; NULL for float32 */
    int64_t *offsets;
} embed_rows;

/* Elements of a token in dataset q, k or v. */
int64_t embed_token_elements(const options *o, int set);
/* At least one token for each thread. */
void embed_rows_allocate(const options *o, int threads, embed_rows *rows, failure *f);
/* {0} allowed, and what an allocation that failed left. */
void embed_rows_free(embed_rows *rows);
/* Not collective. Writes q, k, v and the offsets of `count` tokens as tokens from `at` on. A failure is kept in *f. */
void embed_rows_write(const options *o, const output_file *output, int64_t at, int64_t count, embed_rows *rows,
                      failure *f);

/* How every output of embed describes its q, k, v and offsets. */
void embed_describe(const options *o, int64_t tokens, output_dataset datasets[EMBED_SETS]);

#endif
